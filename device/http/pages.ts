/**
 * The device's pages.
 *
 *   /addresses  the address table, in pages     /livez    the process answers
 *   /capture    frames and rings as pcapng      /metrics  Prometheus
 *   /migrate    moves a NIC to another device   /readyz   the device accepts frontends
 *   /nic        frontends (WebSocket)           /status   everything else as JSON
 *   /ticket     lets a browser ask once
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Logger } from "../../shared/log.ts";
import { NIC_PATH, SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { type PagePath, POSTED } from "../access/roles.ts";
import { capturePage } from "../capture/page.ts";
import { metricsText } from "../metrics.ts";
import { migratePage } from "../migrate-page.ts";
import type { DeviceServer } from "../server.ts";
import { ticketPage } from "../ticket-page.ts";
import { addressPage } from "./address-page.ts";
import { JSON_TYPE, refuse, reply, TEXT_TYPE } from "./answers.ts";
import type { Asked } from "./front.ts";
import { jsonInSlices } from "./json-slices.ts";
import { SharedValue } from "./shared-value.ts";
import type { Target } from "./target.ts";

const ALLOW = { allow: "GET, HEAD" };
/** Most characters of an unknown path that an answer repeats. */
const MAX_PATH_CHARS = 100;

/** Answers a request. Some pages finish later. */
type Page = (response: ServerResponse, asked: Asked, request: IncomingMessage) => Promise<void>;

export class Pages {
  readonly #log: Logger;
  readonly #pages: Readonly<Record<PagePath, Page>>;
  /** The paths of all pages, for error messages. */
  readonly #paths: string;

  constructor(device: DeviceServer) {
    this.#log = device.log;
    const status = new SharedValue(async () =>
      Buffer.from(`${await jsonInSlices(await device.snapshotInSlices())}\n`),
    );
    const metrics = new SharedValue(async () => {
      const { type, text } = await metricsText(await device.snapshotInSlices(), device.roundTrips);
      return { type, body: Buffer.from(text) };
    });
    const addresses = new SharedValue(() => device.segment.addresses());
    this.#pages = {
      "/status": async (response) => reply(response, 200, JSON_TYPE, await status.get()),
      "/addresses": async (response, { query }) => {
        const page = addressPage(await addresses.get(), query);
        if (typeof page === "string") refuse(response, 400, page);
        else reply(response, 200, JSON_TYPE, `${JSON.stringify(page)}\n`);
      },
      "/metrics": async (response) => {
        const { type, body } = await metrics.get();
        reply(response, 200, type, body);
      },
      "/livez": async (response) => reply(response, 200, JSON_TYPE, '{"ok":true}\n'),
      "/readyz": async (response) => {
        const ok = !device.draining;
        reply(response, ok ? 200 : 503, JSON_TYPE, `${JSON.stringify({ ok })}\n`);
      },
      "/capture": (response, asked, request) =>
        capturePage(device.captures, asked, request, response),
      "/migrate": (response, asked, request) => migratePage(device, asked, request, response),
      "/ticket": (response, asked, request) => ticketPage(device, asked, request, response),
    };
    this.#paths = Object.keys(this.#pages).join(" ");
  }

  /** Answers a request that can't reach a page. Returns false when `answer` must serve it. */
  misses({ path }: Target, { method }: IncomingMessage, response: ServerResponse): boolean {
    if (path === NIC_PATH) {
      const text = `a frontend connects here by WebSocket (${SUBPROTOCOL})\n`;
      reply(response, 426, TEXT_TYPE, text, { upgrade: "websocket" });
    } else if (path === "*") {
      const text = `this device has pages, and no options: ${this.#paths}\n`;
      reply(response, 405, TEXT_TYPE, text, ALLOW);
    } else if (!POSTED.has(path) && method !== "GET" && method !== "HEAD") {
      reply(response, 405, TEXT_TYPE, "only GET\n", ALLOW);
    } else {
      return false;
    }
    return true;
  }

  /** Begins the answer of a request. An error of a page is a bug of the device: HTTP 500. */
  answer(asked: Asked, request: IncomingMessage, response: ServerResponse): void {
    const { path } = asked;
    const page = Object.hasOwn(this.#pages, path) ? this.#pages[path as PagePath] : undefined;
    if (page === undefined) {
      const name = JSON.stringify(path.slice(0, MAX_PATH_CHARS));
      const text = `a ringwire device has no page ${name}; it has ${this.#paths}\n`;
      reply(response, 404, TEXT_TYPE, text);
      return;
    }
    page(response, asked, request).catch((error: unknown) => {
      this.#log.error({ err: error }, `the page ${path} failed`);
      if (response.headersSent) response.destroy();
      else refuse(response, 500, `${path} failed by a fault of the device; its log says more`);
    });
  }
}
