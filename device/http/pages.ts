/**
 * The device's pages.
 *
 *   /addresses  the address table, in pages     /livez    the process answers
 *   /capture    frames and rings as pcapng      /metrics  Prometheus
 *   /migrate    moves a NIC to another device   /readyz   the device accepts frontends
 *   /nic        frontends (WebSocket)           /status   everything else as JSON
 *   /ticket     lets a browser ask once         /events   what happens, as a stream
 *   /ethernet   bare frames (WebSocket)
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { JSON_TYPE, refuse, reply, TEXT_TYPE } from "../../shared/http/answers.ts";
import { ScopedValue, SharedValue } from "../../shared/http/shared-value.ts";
import type { Target } from "../../shared/http/target.ts";
import type { Logger } from "../../shared/log.ts";
import { NIC_PATH, SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { ETHERNET_PATH, type PagePath, POSTED } from "../access/roles.ts";
import { capturePage } from "../capture/page.ts";
import { eventsPage } from "../events/page.ts";
import { metricsText } from "../metrics.ts";
import { migratePage } from "../migrate-page.ts";
import type { DeviceServer } from "../server.ts";
import { ticketPage } from "../ticket-page.ts";
import { addressPage } from "./address-page.ts";
import type { Asked } from "./front.ts";
import { jsonInSlices } from "./json-slices.ts";

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
    const status = new ScopedValue(async (scope) =>
      Buffer.from(`${await jsonInSlices(await device.snapshotInSlices(scope))}\n`),
    );
    const metrics = new ScopedValue(async (scope) => {
      const snapshot = await device.snapshotInSlices(scope);
      const { type, text } = await metricsText(snapshot, device.roundTrips);
      return { type, body: Buffer.from(text) };
    });
    const tables = new Map(
      device.segments.all.map((segment) => [
        segment.name,
        new SharedValue(() => segment.switch.addresses()),
      ]),
    );
    this.#pages = {
      "/status": async (response, { identity }) =>
        reply(response, 200, JSON_TYPE, await status.of(identity).get()),
      "/addresses": async (response, { query, identity }) => {
        const asked = new URLSearchParams(query);
        const names = device.segments.seenBy(identity).map(({ name }) => name);
        const name = asked.get("segment") ?? names[0] ?? "";
        if (!names.includes(name)) {
          return refuse(
            response,
            404,
            `there is no segment ${JSON.stringify(name.slice(0, MAX_PATH_CHARS))}; there is ${names.join(", ")}`,
          );
        }
        const page = addressPage(await tables.get(name)!.get(), asked);
        if (typeof page === "string") refuse(response, 400, page);
        else reply(response, 200, JSON_TYPE, `${JSON.stringify(page)}\n`);
      },
      "/metrics": async (response, { identity }) => {
        const { type, body } = await metrics.of(identity).get();
        reply(response, 200, type, body);
      },
      "/livez": async (response) => reply(response, 200, JSON_TYPE, '{"ok":true}\n'),
      "/readyz": async (response) => {
        const reasons = device.unready();
        const ok = reasons.length === 0;
        reply(response, ok ? 200 : 503, JSON_TYPE, `${JSON.stringify({ ok, reasons })}\n`);
      },
      "/capture": (response, asked, request) =>
        capturePage(device.captures, asked, request, response),
      "/events": (response, asked, request) => eventsPage(device.feed, asked, request, response),
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
    } else if (path === ETHERNET_PATH) {
      const text =
        "a client connects here by WebSocket; one binary message is one Ethernet frame\n";
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
