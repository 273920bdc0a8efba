/**
 * The pages of a frontend, for people and monitors of its host.
 *
 *   /status   the NIC and the counters of its driver, as JSON     /livez    the process answers
 *   /metrics  Prometheus                                          /readyz   the NIC works
 *
 * Any program of the host can connect. All that it can hold is bounded: connections, the head of its
 * request, and time. The oldest connection makes way for a new one, so nobody keeps a monitor out.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { JSON_TYPE, rawAnswer, refuse, reply } from "../../shared/http/answers.ts";
import { HostRule, isForeign } from "../../shared/http/host-rule.ts";
import { SharedValue } from "../../shared/http/shared-value.ts";
import { readTarget, type Target, TargetError } from "../../shared/http/target.ts";
import type { Logger } from "../../shared/log.ts";
import { LogLimit } from "../../shared/log-limit.ts";
import type { FrontendPage } from "../../shared/status/frontend-page.ts";
import type { Nic } from "../nic.ts";
import { metricsText } from "./metrics.ts";

const MAX_CONNECTIONS = 64;
/** Time (ms) from the first byte of a connection to its end. */
const CONNECTION_MS = 20_000;
/** Time (ms) for a request to be whole. */
const REQUEST_MS = 10_000;
/** Most bytes of a request's head. */
const MAX_HEAD_BYTES = 16 * 1024;
/** Time (ms) for peers to read their answers when the frontend stops. */
const CLOSE_MS = 200;

export interface FrontendPagesOptions {
  readonly nic: Pick<Nic, "isOpen" | "status">;
  readonly host: string;
  /** TCP port; 0 lets the system choose. */
  readonly port: number;
  /** Program and version. */
  readonly agent: string;
  readonly log: Logger;
}

type Refused = "evicted" | "host" | "origin" | "malformed";

export class FrontendPages {
  readonly #options: FrontendPagesOptions;
  readonly #server: Server;
  readonly #rule = new HostRule();
  readonly #log: LogLimit;
  /** Open connections, oldest first. */
  readonly #sockets = new Set<Socket>();
  readonly #refused = new Map<Refused, number>();
  readonly #pages: Readonly<Record<string, (response: ServerResponse) => Promise<void>>>;
  #isStopping = false;

  constructor(options: FrontendPagesOptions) {
    this.#options = options;
    this.#log = new LogLimit(options.log);
    const status = new SharedValue(() => Buffer.from(`${JSON.stringify(this.status())}\n`));
    const metrics = new SharedValue(async () => {
      const { type, text } = await metricsText(this.status());
      return { type, body: Buffer.from(text) };
    });
    this.#pages = {
      "/status": async (response) => reply(response, 200, JSON_TYPE, await status.get()),
      "/metrics": async (response) => {
        const { type, body } = await metrics.get();
        reply(response, 200, type, body);
      },
      "/livez": async (response) => reply(response, 200, JSON_TYPE, '{"ok":true}\n'),
      "/readyz": async (response) => {
        const reasons = this.unready();
        const ok = reasons.length === 0;
        reply(response, ok ? 200 : 503, JSON_TYPE, `${JSON.stringify({ ok, reasons })}\n`);
      },
    };
    this.#server = createServer(
      {
        maxHeaderSize: MAX_HEAD_BYTES,
        headersTimeout: REQUEST_MS,
        requestTimeout: REQUEST_MS,
        requireHostHeader: false,
      },
      (request, response) => this.#answer(request, response),
    );
    this.#server.maxRequestsPerSocket = 1;
    this.#server.on("connection", (socket) => this.#begin(socket));
    this.#server.on("clientError", (_error, socket) => {
      this.#count("malformed");
      if (socket.writable) socket.write(rawAnswer("400 Bad Request", "this is no HTTP request"));
      socket.destroy();
    });
  }

  /** Binds the port and returns it. Rejects with the system's error. */
  async listen(): Promise<number> {
    const { port, host } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, host, resolve);
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** From now on /readyz says that the frontend stops. */
  stopping(): void {
    this.#isStopping = true;
  }

  /** Stops listening, and ends all connections within CLOSE_MS. */
  async close(): Promise<void> {
    this.#isStopping = true;
    const closed = new Promise<void>((resolve) => void this.#server.close(() => resolve()));
    const late = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, CLOSE_MS);
    this.#server.closeIdleConnections();
    await closed;
    clearTimeout(late);
    this.#log.flush();
  }

  status(): FrontendPage {
    const { nic, agent } = this.#options;
    return {
      agent,
      pid: process.pid,
      node: process.version,
      seconds: Math.round(process.uptime()),
      memoryBytes: process.memoryUsage.rss(),
      ...(nic.isOpen ? { nic: nic.status() } : {}),
      http: { connections: this.#sockets.size, refused: Object.fromEntries(this.#refused) },
    };
  }

  /** Returns the reasons why the NIC can't be counted on now. */
  unready(): string[] {
    const { nic } = this.#options;
    const reasons = this.#isStopping ? ["stopping"] : [];
    if (!nic.isOpen) return [...reasons, "not_connected"];
    const { state, link } = nic.status();
    if (state !== "attached") return [...reasons, "link_lost"];
    return link === "down" ? [...reasons, "link_down"] : reasons;
  }

  #begin(socket: Socket): void {
    const [oldest] = this.#sockets;
    if (this.#sockets.size >= MAX_CONNECTIONS && oldest !== undefined) {
      this.#count("evicted");
      this.#sockets.delete(oldest);
      oldest.destroy();
    }
    this.#sockets.add(socket);
    const late = setTimeout(() => socket.destroy(), CONNECTION_MS).unref();
    socket.on("error", () => {
      // "close" follows.
    });
    socket.on("close", () => {
      clearTimeout(late);
      this.#sockets.delete(socket);
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    response.on("error", () => {
      // The client left before the end of the answer.
    });
    const no = (reason: Refused, status: number, sentence: string): void => {
      this.#count(reason);
      refuse(response, status, sentence);
    };
    let target: Target;
    try {
      target = readTarget(request);
    } catch (error) {
      if (!(error instanceof TargetError)) throw error;
      no("malformed", 400, error.message);
      return;
    }
    const { path, hostname } = target;
    if (!this.#rule.allows(hostname)) {
      no("host", 421, "this frontend does not answer to this host name: use an address");
      return;
    }
    if (isForeign(request.headers, target)) {
      no("origin", 403, "pages of another origin may not ask this frontend");
      return;
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      refuse(response, 405, "only GET");
      return;
    }
    if (!Object.hasOwn(this.#pages, path)) {
      refuse(response, 404, `a ringwire frontend has ${Object.keys(this.#pages).join(" ")}`);
      return;
    }
    this.#pages[path]!(response).catch((error: unknown) => {
      this.#options.log.error({ err: error }, `the page ${path} failed`);
      if (response.headersSent) response.destroy();
      else refuse(response, 500, `${path} failed by a fault of the frontend; its log says more`);
    });
  }

  #count(reason: Refused): void {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
    this.#log.of(reason).debug({ reason }, "refused a request to the pages");
  }
}
