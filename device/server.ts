/**
 * The device's port: frontends come in by WebSocket, people and monitors by HTTP.
 *
 *   /capture  frames and ring transactions as pcapng, live
 *   /migrate  moves a NIC to another device (POST)
 *   /nic      a frontend (WebSocket, subprotocol ringwire.v1)
 *   /status   everything as JSON        /metrics  Prometheus
 *   /livez    the process answers       /readyz   it takes frontends
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Logger } from "../shared/log.ts";
import { formatMac, macFromName, macKey, parseUnicastMac } from "../shared/net/ethernet.ts";
import { WebSocketAcceptor } from "../shared/transport/websocket.ts";
import type { Hello } from "../shared/wire/hello.ts";
import type { LinkTap } from "../shared/wire/link.ts";
import { CloseCode, NIC_PATH, SUBPROTOCOL } from "../shared/wire/transactions.ts";
import { CaptureHub } from "./capture/hub.ts";
import { capturePage } from "./capture/page.ts";
import { Connection, type ConnectionOwner, type NicEvent, Refusal } from "./connection.ts";
import { isForeign, JSON_TYPE, refuse, reply } from "./http.ts";
import { metricsText } from "./metrics.ts";
import { type MoveRefusal, migratePage } from "./migrate-page.ts";
import type { GuestHost, Nic, NicConfig, Snapshot } from "./nic.ts";
import type { Port, SwitchPort } from "./switch/port.ts";
import type { Switch } from "./switch/switch.ts";

/** A kind of NIC that a device has. */
export interface Personality {
  create(host: GuestHost): Nic;
  /** What all its NICs share, for status; nothing without it. */
  snapshot?(): Snapshot;
}

export interface ServerOptions {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly agent: string;
  readonly segment: Switch;
  readonly segmentName: string;
  /** Makes a NIC model of each personality this device has. */
  readonly personalities: Readonly<Record<string, Personality>>;
  /** Bytes of pushes held for a NIC. */
  readonly pushBytes: number;
  readonly maxMtu: number;
  readonly maxQueues: number;
  readonly log: Logger;
  /** Sees the batches of every NIC. */
  readonly tap?: (name: string) => LinkTap;
  /** Told when a NIC came and went. */
  readonly onNic?: (event: "joined" | "left", nic: NicEvent) => void;
}

/** Connections at once, NICs and strangers together. */
const MAX_CONNECTIONS = 1024;
/** Sockets that have not asked for anything whole by then are cut. */
const REQUEST_MS = 10_000;
/** Time for a NIC to suspend and leave. */
const MOVE_MS = 15_000;

export class DeviceServer implements ConnectionOwner {
  readonly log: Logger;
  readonly agent: string;
  readonly segment: string;
  readonly pushBytes: number;
  readonly captures: CaptureHub;
  readonly #options: ServerOptions;
  readonly #http: Server;
  readonly #acceptor = new WebSocketAcceptor();
  readonly #connections = new Set<Connection>();
  readonly #byName = new Map<string, Connection>();
  readonly #instances = new Map<string, string>();
  readonly #started = performance.now();
  #ticker: NodeJS.Timeout | undefined;
  #epoch = 0;
  #draining = false;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.log = options.log;
    this.agent = options.agent;
    this.segment = options.segmentName;
    this.pushBytes = options.pushBytes;
    const { segment, segmentName, agent, log } = options;
    this.captures = new CaptureHub({ segment, segmentName, agent, log });
    this.#http = createServer(
      { headersTimeout: REQUEST_MS, requestTimeout: REQUEST_MS, connectionsCheckingInterval: 1000 },
      (request, response) => this.#page(request, response),
    );
    this.#http.maxConnections = MAX_CONNECTIONS;
    this.#http.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    this.#http.on("clientError", (_error, socket) => {
      if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
      else socket.destroy();
    });
  }

  /** Binds the port. Rejects with the system's error. */
  async listen(): Promise<AddressInfo> {
    await new Promise<void>((resolve, reject) => {
      this.#http.once("error", reject);
      this.#http.listen(this.#options.port, this.#options.host, resolve);
    });
    this.#http.on("error", (error) =>
      this.log.error({ err: error }, "the listening socket failed"),
    );
    this.#ticker = setInterval(() => this.#tick(), 1000);
    return this.#http.address() as AddressInfo;
  }

  /** Tells every frontend, then closes the port. */
  async close(): Promise<void> {
    this.#draining = true;
    clearInterval(this.#ticker);
    for (const connection of [...this.#connections]) {
      connection.close(CloseCode.GOING_AWAY, "the device stops");
    }
    // Those whose reader stands still end when its socket is cut, below.
    const captured = this.captures.close("the device stops");
    await new Promise<void>((resolve) => {
      this.#http.close(() => resolve());
      this.#http.closeIdleConnections();
      setTimeout(() => this.#http.closeAllConnections(), 500).unref();
    });
    await captured;
  }

  snapshot(): Snapshot {
    return {
      agent: this.agent,
      pid: process.pid,
      node: process.version,
      seconds: Math.round((performance.now() - this.#started) / 1000),
      memoryBytes: process.memoryUsage.rss(),
      connections: this.#connections.size,
      segment: this.#options.segment.snapshot(),
      nics: [...this.#byName.values()].map((connection) => connection.snapshot()),
      captures: this.captures.snapshot(),
      ...this.#shared(),
    };
  }

  /** By personality: what its NICs share. */
  #shared(): Snapshot {
    const shared: Record<string, Snapshot> = {};
    for (const [name, { snapshot }] of Object.entries(this.#options.personalities)) {
      if (snapshot !== undefined) shared[name] = snapshot();
    }
    return shared;
  }

  /** Moves a NIC to the device at `url`. Resolves to why not, or undefined when it has left. */
  async migrate(name: string, url: string): Promise<MoveRefusal | undefined> {
    const connection = this.#byName.get(name);
    if (connection === undefined) {
      return { status: 404, error: `this device has no NIC "${name}"` };
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, MOVE_MS, undefined);
    });
    const moved = await Promise.race([connection.migrate(url), late]);
    clearTimeout(timer);
    if (moved === true) return undefined;
    if (moved === undefined) connection.giveUpMove();
    return {
      status: 409,
      error:
        moved === undefined
          ? `${name} did not leave within ${MOVE_MS / 1000} s: its frontend may be busy with a reset; try again`
          : `${name} did not move: it is moving already, or its connection ended`,
    };
  }

  // What a connection asks.

  admit(connection: Connection, hello: Hello): { config: NicConfig; epoch: number } {
    const { personalities, maxMtu, maxQueues } = this.#options;
    if (this.#draining) throw new Refusal("STOPPING", "the device is stopping");
    if (!Object.hasOwn(personalities, hello.personality)) {
      throw new Refusal(
        "PERSONALITY",
        `this device has no "${hello.personality}" NIC; it has ${Object.keys(personalities).join(", ")}`,
      );
    }
    const mac =
      hello.mac === undefined ? macFromName(hello.name, this.segment) : parseUnicastMac(hello.mac);
    const before = this.#byName.get(hello.name);
    for (const other of this.#byName.values()) {
      if (other !== before && other.mac !== undefined && macKey(other.mac, 0) === macKey(mac, 0)) {
        throw new Refusal(
          "MAC_IN_USE",
          `${formatMac(mac)} is the address of ${other.name}; choose another with --mac`,
        );
      }
    }
    if (before === undefined && this.#options.segment.hasPort(hello.name)) {
      throw new Refusal(
        "NAME_IN_USE",
        `"${hello.name}" is the name of an uplink of this device; choose another with --name`,
      );
    }
    if (before !== undefined) {
      const same = this.#instances.get(hello.name) === hello.instance;
      before.close(
        CloseCode.REPLACED,
        same
          ? "replaced by a newer connection of the same process"
          : `another frontend took the name ${hello.name}; choose another with --name`,
      );
    }
    this.#byName.set(hello.name, connection);
    this.#instances.set(hello.name, hello.instance);
    return {
      config: {
        name: hello.name,
        mac,
        queues: Math.min(hello.queues ?? maxQueues, maxQueues),
        maxMtu,
      },
      epoch: ++this.#epoch,
    };
  }

  create(personality: string, host: GuestHost): Nic {
    return this.#options.personalities[personality]!.create(host);
  }

  plug(port: Port): SwitchPort {
    return this.#options.segment.attach(port);
  }

  named(connection: Connection): void {
    const tap = this.#options.tap?.(connection.name);
    if (tap !== undefined) connection.addTap(tap);
    this.captures.linkJoined(connection);
  }

  joined(nic: NicEvent): void {
    this.#options.onNic?.("joined", nic);
  }

  left(nic: NicEvent): void {
    this.#options.onNic?.("left", nic);
  }

  gone(connection: Connection): void {
    this.captures.linkLeft(connection);
    this.#connections.delete(connection);
    if (this.#byName.get(connection.name) === connection) {
      this.#byName.delete(connection.name);
      this.#instances.delete(connection.name);
    }
  }

  #tick(): void {
    this.#options.segment.tick();
    for (const connection of this.#connections) connection.tick();
    this.captures.tick();
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const refusal = this.#refusal(request);
    if (refusal !== undefined) {
      const [status, text] = refusal;
      socket.on("error", () => socket.destroy());
      socket.end(
        `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: text/plain\r\n` +
          `Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
      );
      return;
    }
    const { remoteAddress, remotePort } = socket as Socket;
    this.#acceptor.accept(request, socket, head, (transport) => {
      this.#connections.add(new Connection(transport, `${remoteAddress}:${remotePort}`, this));
    });
  }

  #refusal(request: IncomingMessage): [string, string] | undefined {
    // Headers behind a request line without a version: HTTP 0.9, which has neither.
    if (request.httpVersion !== "1.1") return ["400 Bad Request", "HTTP/1.1 is needed here\n"];
    const path = (request.url ?? "").split("?")[0];
    if (path !== NIC_PATH) return ["404 Not Found", `frontends connect to ${NIC_PATH}\n`];
    const offered = String(request.headers["sec-websocket-protocol"] ?? "").split(/\s*,\s*/, 16);
    if (!offered.includes(SUBPROTOCOL)) {
      return ["400 Bad Request", `this port speaks the WebSocket subprotocol ${SUBPROTOCOL}\n`];
    }
    if (isForeign(request)) {
      return ["403 Forbidden", "pages of another origin may not connect\n"];
    }
    if (this.#draining || this.#connections.size >= MAX_CONNECTIONS) {
      return ["503 Service Unavailable", "the device takes no more connections\n"];
    }
    return undefined;
  }

  #page(request: IncomingMessage, response: ServerResponse): void {
    const path = (request.url ?? "").split("?")[0];
    if (path === "/migrate") {
      migratePage(this, request, response).catch((error: unknown) => {
        this.log.error({ err: error }, "a migration failed");
        refuse(response, 500, "the migration failed");
      });
    } else if (path === "/capture") {
      capturePage(this.captures, request, response).catch((error: unknown) => {
        this.log.error({ err: error }, "a capture failed");
        response.destroy();
      });
    } else if (request.method !== "GET" && request.method !== "HEAD") {
      reply(response, 405, "text/plain", "only GET\n");
    } else if (path === "/status") {
      reply(response, 200, JSON_TYPE, `${JSON.stringify(this.snapshot())}\n`);
    } else if (path === "/metrics") {
      metricsText(this.snapshot()).then(
        ({ type, text }) => reply(response, 200, type, text),
        (error) => {
          this.log.error({ err: error }, "metrics failed");
          reply(response, 500, "text/plain", "metrics failed\n");
        },
      );
    } else if (path === "/livez") {
      reply(response, 200, JSON_TYPE, '{"ok":true}\n');
    } else if (path === "/readyz") {
      const ok = !this.#draining;
      reply(response, ok ? 200 : 503, JSON_TYPE, `${JSON.stringify({ ok })}\n`);
    } else if (path === NIC_PATH) {
      reply(
        response,
        426,
        "text/plain",
        `a frontend connects here by WebSocket (${SUBPROTOCOL})\n`,
      );
    } else {
      reply(
        response,
        404,
        "text/plain",
        "ringwire device: /status /metrics /livez /readyz /capture /migrate\n",
      );
    }
  }
}
