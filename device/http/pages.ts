/**
 * The device's pages.
 *
 *   /addresses  the address table, in pages     /livez    the process answers
 *   /capture    frames and rings as pcapng      /metrics  Prometheus
 *   /migrate    moves a NIC to another device   /readyz   the device accepts frontends
 *   /nic        frontends (WebSocket)           /status   everything else as JSON
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { DeviceStatus } from "../../shared/status/device-status.ts";
import { NIC_PATH, SUBPROTOCOL } from "../../shared/wire/transactions.ts";
import { capturePage } from "../capture/page.ts";
import { metricsText, type RoundTrips } from "../metrics.ts";
import { migratePage } from "../migrate-page.ts";
import type { DeviceServer } from "../server.ts";
import type { AddressTable } from "../switch/switch.ts";
import { addressPage } from "./address-page.ts";
import { JSON_TYPE, refuse, reply, TEXT_TYPE } from "./answers.ts";
import type { Asked } from "./front.ts";
import { SharedValue } from "./shared-value.ts";
import type { Target } from "./target.ts";

const PATHS = ["status", "addresses", "metrics", "livez", "readyz", "capture", "migrate"] as const;
const PAGES = PATHS.map((path) => `/${path}`).join(" ");
const ALLOW = { allow: "GET, HEAD" };
/** Most characters of an unknown path that an answer repeats. */
const MAX_PATH_CHARS = 100;

/** One snapshot and its texts. Each text is made at the first request for it. */
class SharedStatus {
  readonly #snapshot: DeviceStatus;
  readonly #roundTrips: RoundTrips;
  #json: Buffer | undefined;
  #metrics: Promise<{ type: string; text: Buffer }> | undefined;

  constructor(snapshot: DeviceStatus, roundTrips: RoundTrips) {
    this.#snapshot = snapshot;
    this.#roundTrips = roundTrips;
  }

  get json(): Buffer {
    this.#json ??= Buffer.from(`${JSON.stringify(this.#snapshot)}\n`);
    return this.#json;
  }

  get metrics(): Promise<{ type: string; text: Buffer }> {
    this.#metrics ??= metricsText(this.#snapshot, this.#roundTrips).then(({ type, text }) => ({
      type,
      text: Buffer.from(text),
    }));
    return this.#metrics;
  }
}

export class Pages {
  readonly #device: DeviceServer;
  readonly #status: SharedValue<SharedStatus>;
  readonly #addresses: SharedValue<AddressTable>;

  constructor(device: DeviceServer) {
    this.#device = device;
    this.#status = new SharedValue(() => new SharedStatus(device.snapshot(), device.roundTrips));
    this.#addresses = new SharedValue(() => device.segment.addresses());
  }

  /** Answers a request that can't reach a page. Returns false when `answer` must serve it. */
  misses({ path }: Target, { method }: IncomingMessage, response: ServerResponse): boolean {
    if (path === NIC_PATH) {
      const text = `a frontend connects here by WebSocket (${SUBPROTOCOL})\n`;
      reply(response, 426, TEXT_TYPE, text, { upgrade: "websocket" });
    } else if (path === "*") {
      reply(response, 405, TEXT_TYPE, `this device has pages, and no options: ${PAGES}\n`, ALLOW);
    } else if (path !== "/migrate" && method !== "GET" && method !== "HEAD") {
      reply(response, 405, TEXT_TYPE, "only GET\n", ALLOW);
    } else {
      return false;
    }
    return true;
  }

  /** Begins the answer of a request. Some pages finish it later. */
  answer(asked: Asked, request: IncomingMessage, response: ServerResponse): void {
    const { path } = asked;
    if (path === "/migrate") {
      this.#late(path, response, migratePage(this.#device, asked, request, response));
    } else if (path === "/capture") {
      this.#late(path, response, capturePage(this.#device.captures, asked, request, response));
    } else if (PATHS.some((known) => path === `/${known}`)) {
      this.#late(path, response, this.#read(asked, response));
    } else {
      const name = JSON.stringify(path.slice(0, MAX_PATH_CHARS));
      reply(response, 404, TEXT_TYPE, `a ringwire device has no page ${name}; it has ${PAGES}\n`);
    }
  }

  async #read({ path, query }: Asked, response: ServerResponse): Promise<void> {
    if (path === "/livez") {
      reply(response, 200, JSON_TYPE, '{"ok":true}\n');
    } else if (path === "/readyz") {
      const ok = !this.#device.draining;
      reply(response, ok ? 200 : 503, JSON_TYPE, `${JSON.stringify({ ok })}\n`);
    } else if (path === "/addresses") {
      const page = addressPage(await this.#addresses.get(), query);
      if (typeof page === "string") refuse(response, 400, page);
      else reply(response, 200, JSON_TYPE, `${JSON.stringify(page)}\n`);
    } else {
      const status = await this.#status.get();
      if (path === "/status") {
        reply(response, 200, JSON_TYPE, status.json);
      } else {
        const { type, text } = await status.metrics;
        reply(response, 200, type, text);
      }
    }
  }

  /** Waits for a page. An error of a page is a bug of the device, logged and answered with 500. */
  #late(path: string, response: ServerResponse, answered: Promise<void>): void {
    answered.catch((error: unknown) => {
      this.#device.log.error({ err: error }, `the page ${path} failed`);
      if (response.headersSent) response.destroy();
      else refuse(response, 500, `${path} failed by a fault of the device; its log says more`);
    });
  }
}
