/**
 * The floods: what a hostile peer can send without end. Each is declared here once, for the bench
 * (group `neighbours`) and for tests. flood-worker.ts runs one in a process of its own.
 *
 *   pour     the same bytes again and again, as fast as the socket takes them
 *   again    a connection that the device ends is opened again, as an attacker would
 */
import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { MbufPool } from "../../frontend/net/mbuf.ts";
import { openNic } from "../../frontend/nic.ts";
import { devCtlReg, Register } from "../../shared/ena/registers.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { Space } from "../../shared/wire/records.ts";
import { GRANT_PAGE_BYTES, GrantType } from "../../shared/xen/grant.ts";
import { Hypercall } from "../../shared/xen/hypercall.ts";
import { XsType, xsBytes, xsMessage, xsPathAndValue } from "../../shared/xen/xenstore.ts";
import { endRecords, grantRecords } from "./guest-grants.ts";
import type { DriverName } from "./lab.ts";
import { broadcast, RawEna } from "./raw-ena.ts";
import { column, mmio, packBatch, RawFrontend } from "./raw-frontend.ts";
import { upgradeRequest, WsOpcode, wsFrame } from "./raw-socket.ts";
import { FREE_REFERENCE, RawXen } from "./raw-xen.ts";

export type FloodKind = "http" | "socket" | "wire" | "xen" | "frames";

export interface Flood {
  readonly kind: FloodKind;
  /** Sends until the process ends. */
  run(attacker: Attacker): unknown;
}

const CHUNK_BYTES = 64 << 10;
const AGAIN_MS = 10;
/** Bytes of the end of what a socket received: the close frame, whose reason is text. */
const KEEP_BYTES = 256;

/** What the device knows of an attacker. All absent: a stranger on this machine. */
export interface Standing {
  readonly token?: string;
  /** Segment that its NICs ask for. Default: the first one that the token allows. */
  readonly segment?: string;
  /** Address from which its raw sockets come. Default: the one of the device. */
  readonly from?: string;
}

/** One attacking process: its sockets, and how the device ended them. */
export class Attacker {
  readonly port: number;
  readonly standing: Standing;
  /** How often the device ended a connection, by its words. */
  readonly cuts: Record<string, number> = {};
  #names = 0;

  constructor(port: number, standing: Standing = {}) {
    this.port = port;
    this.standing = standing;
  }

  name(): string {
    return `flood${++this.#names}`;
  }

  cut(words: string): void {
    this.cuts[words] = (this.cuts[words] ?? 0) + 1;
  }

  /** A request of HTTP with the attacker's token. `more` are header lines and the body. */
  request(line: string, more = "\r\n"): Buffer {
    const { token } = this.standing;
    const shown = token === undefined ? "" : `Authorization: Bearer ${token}\r\n`;
    return Buffer.from(`${line} HTTP/1.1\r\nHost: 127.0.0.1\r\n${shown}${more}`);
  }

  upgrade(): string {
    const { token } = this.standing;
    return upgradeRequest(
      this.port,
      token === undefined ? {} : { Authorization: `Bearer ${token}` },
    );
  }

  /** Fields of hello that name the segment. */
  get place(): { readonly segment?: string } {
    const { segment } = this.standing;
    return segment === undefined ? {} : { segment };
  }

  /** Keeps `count` sockets open. `use` gets each when it is connected, also after a cut. */
  sockets(count: number, use: (socket: Socket) => void, { read = true } = {}): void {
    for (let i = 0; i < count; i++) this.#socket(use, read);
  }

  #socket(use: (socket: Socket) => void, read: boolean): void {
    const { from } = this.standing;
    const socket = connect({
      ...{ host: "127.0.0.1", port: this.port, noDelay: true },
      ...(from === undefined ? {} : { localAddress: from }),
    });
    let last = Buffer.alloc(0);
    if (read) {
      socket.on("data", (bytes) => {
        last = Buffer.from(Buffer.concat([last, bytes]).subarray(-KEEP_BYTES));
      });
    } else socket.pause();
    socket.on("error", () => {
      // The close event follows.
    });
    socket.on("close", () => {
      this.cut(words(last));
      setTimeout(() => this.#socket(use, read), AGAIN_MS);
    });
    socket.on("connect", () => use(socket));
  }

  /** Keeps `count` NICs connected. `use` gets each when it has said hello. */
  greet(
    count: number,
    personality: DriverName,
    use: (socket: Socket) => void,
    { read = true } = {},
  ): void {
    const greeted = (socket: Socket) => {
      socket.write(this.upgrade());
      const name = this.name();
      const hello = { version: 1, personality, name, instance: name, ...this.place };
      socket.write(message([Op.HELLO, hello]));
      use(socket);
    };
    this.sockets(count, greeted, { read });
  }

  /** Keeps `count` NICs connected that send chunks without end. */
  nics(count: number, personality: DriverName, chunks: Chunks, { read = true } = {}): void {
    this.greet(count, personality, (socket) => pour(socket, chunks()), { read });
  }

  /** Runs `act` again and again, `count` times side by side. */
  loops(count: number, act: () => Promise<unknown>): void {
    for (let i = 0; i < count; i++) void this.#loop(act);
  }

  async #loop(act: () => Promise<unknown>): Promise<never> {
    for (;;) {
      try {
        await act();
      } catch (error) {
        this.cut(error instanceof Error ? error.message.slice(0, 120) : String(error));
        await sleep(AGAIN_MS);
      }
    }
  }
}

/** The text in the end of what the device sent: the reason of a close frame, a status line. */
function words(last: Buffer): string {
  const text = last.toString("latin1");
  const status = /HTTP\/1\.1 (\d+ [^\r\n]*)/.exec(text)?.[1];
  return status ?? /[\x20-\x7e]{8,}$/.exec(text)?.[0] ?? "ended without words";
}

/** For each connection a function that returns its next chunk. */
type Chunks = () => () => Uint8Array;

const same = (chunk: Uint8Array): Chunks => {
  const next = () => chunk;
  return () => next;
};

/** Writes without end. Other sockets have their turn between two writes. */
function pour(socket: Socket, next: () => Uint8Array): void {
  const again = () => {
    if (socket.writable) socket.write(next(), () => setImmediate(again));
  };
  again();
}

/** A masked message with one batch. */
const message = (...transactions: unknown[]): Buffer => wsFrame(packBatch(transactions));

/** `one` as often as it fits into a chunk, at least once. */
function chunkOf(one: Uint8Array): Buffer {
  return Buffer.concat(new Array(Math.ceil(CHUNK_BYTES / one.length)).fill(one) as Uint8Array[]);
}

/** Chunks of messages, each with `count` times the transactions. */
const batches = (transactions: readonly unknown[], count = 1): Chunks =>
  same(chunkOf(message(...Array.from({ length: count }, () => transactions).flat())));

/** Least tag of five bytes in msgpack, so that all tags have the same length. */
const FIRST_TAG = 1 << 16;

/** Messages of one request each, whose tags go on counting: a tag is used once in a connection. */
function tagged(request: (tag: number) => unknown[]): Chunks {
  const bytesEach = message(request(FIRST_TAG)).length;
  const count = Math.ceil(CHUNK_BYTES / bytesEach);
  const tagAt = message(request(FIRST_TAG)).indexOf(Buffer.of(0xce, 0, 1, 0, 0)) + 1;
  return () => {
    const chunk = Buffer.concat(
      Array.from({ length: count }, (_, n) => message(request(FIRST_TAG + n))),
    );
    let tag = FIRST_TAG;
    return () => {
      for (let at = tagAt; at < chunk.length; at += bytesEach) chunk.writeUInt32BE(tag++, at);
      return chunk;
    };
  };
}

const wsChunk = (opcode: number, bytes: number): Buffer =>
  chunkOf(wsFrame(Buffer.alloc(bytes), { opcode }));

/** Bytes that depend on the attacker's token. */
type Request = (attacker: Attacker) => Uint8Array;

const get =
  (path: string): Request =>
  (attacker) =>
    attacker.request(`GET ${path}`);

const post =
  (path: string, body: string): Request =>
  (attacker) => {
    const lines = `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
    return attacker.request(`POST ${path}`, `${lines}${body}`);
  };

/** `request` as often as it fits into one write. */
const pipelined =
  (request: Request): Request =>
  (attacker) =>
    chunkOf(request(attacker));

/** A request, or many in one write, on `count` connections, each opened again after its answer. */
const http = (count: number, request: Request, read = true): Flood => ({
  kind: "http",
  run: (attacker) => {
    const bytes = request(attacker);
    attacker.sockets(count, (socket) => socket.write(bytes), { read });
  },
});

/** `count` connections that send `first` and then nothing. */
const idle = (first: Request, count = 1024): Flood => http(count, first);

const socketFlood = (chunk: Uint8Array, read = true): Flood => ({
  kind: "socket",
  run: (attacker) => attacker.nics(4, "ena", same(chunk), { read }),
});

/** The chunks are made when the flood begins, because some are large. */
const wire = (chunks: () => Chunks, read = true): Flood => ({
  kind: "wire",
  run: (attacker) => attacker.nics(4, "ena", chunks(), { read }),
});

const xen = (chunks: () => Chunks): Flood => ({
  kind: "xen",
  run: (attacker) => attacker.nics(4, "xen", chunks()),
});

/** Requests that a guest of xenstore may have waiting is 20. */
const STORE_REQUESTS = 16;

const store = (watches: number): Flood => ({
  kind: "xen",
  run: (attacker) =>
    attacker.loops(4, async () => {
      const { port, place, standing } = attacker;
      const guest = await RawXen.start(port, attacker.name(), place, standing.token);
      for (let n = 0; n < watches; n++) await guest.watch("data", `t${n}`);
      const write = async (n: number) => {
        for (;;) await guest.write(`data/n${n}`, "value");
      };
      await Promise.all(Array.from({ length: STORE_REQUESTS }, (_, n) => write(n)));
    }),
});

const joins = (personality: DriverName): Flood => ({
  kind: personality === "ena" ? "wire" : "xen",
  run: (attacker) =>
    attacker.loops(8, async () => {
      const { port, place, standing } = attacker;
      const hello = { personality, ...place };
      const guest = await RawFrontend.join(port, attacker.name(), hello, standing.token);
      await guest.end();
    }),
});

/** Our own driver sends frames to `to` as fast as it can. */
const frames = (to: readonly number[]): Flood => ({
  kind: "frames",
  run: (attacker) =>
    attacker.loops(1, async () => {
      const { port, place, standing } = attacker;
      const { ifnet } = await openNic({
        ...{ connect: `http://127.0.0.1:${port}`, name: attacker.name(), ...place },
        credentials: { token: standing.token },
      });
      const pool = new MbufPool(2048, 4096);
      const frame = broadcast(60, [...ifnet.mac]);
      frame.set(to, 0);
      for (;;) {
        for (let i = 0; i < 64; i++) {
          const m = pool.get();
          if (m === undefined) break;
          m.buffer.set(frame, m.at);
          m.length = frame.length;
          m.pktLength = frame.length;
          if (ifnet.send(m) !== 0) m.free();
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    }),
});

const { GRANT_TABLE_OP } = Hypercall;
/** GNTTABOP_copy. */
const COPY = 5;
const { HYPERCALL_BYTES } = Limits;

const capture = (count: number, read: boolean): Flood =>
  http(count, get("/capture?source=any&ring=1"), read);

/** Grants of 8192 references, and their end. */
function grantChurn(): Buffer {
  const references = Array.from({ length: Limits.COLUMN_RECORDS }, (_, n) => FREE_REFERENCE + n);
  const entry = { flags: GrantType.PERMIT_ACCESS, domid: 0 };
  const granted = grantRecords(references.map((frame) => [frame, { ...entry, frame }]));
  return message([Op.GRANT, 1, granted], [Op.END_GRANT, endRecords(references)]);
}

const WINDOW_AT = 1 << 30;
const WINDOW = [Op.WINDOW, WINDOW_AT, Limits.WINDOW_BYTES];

/** A message that creates all windows that a NIC may have. */
function allWindows(): Buffer {
  const count = Limits.WINDOWS_BYTES / Limits.WINDOW_BYTES;
  const at = (n: number) => WINDOW_AT + n * Limits.WINDOW_BYTES;
  return message(...Array.from({ length: count }, (_, n) => [Op.WINDOW, at(n), WINDOW[2]]));
}

const push = (bytes: number, address = 0x1000, space: number = Space.BUS) =>
  column(Op.PUSH, [{ address, bytes: Buffer.alloc(bytes), space }]);

/** DEV_CTL of ena_com_dev_reset: reset, then not. */
const RESET = [mmio(Register.DEV_CTL, devCtlReg.packReset(0, true)), mmio(Register.DEV_CTL, 0)];

export const FLOODS = {
  "pipelined-status": http(16, pipelined(get("/status"))),
  "pipelined-metrics": http(16, pipelined(get("/metrics"))),
  "status-unread": http(200, pipelined(get("/status")), false),
  "migrate-posts": http(
    16,
    pipelined(post("/migrate", '{"nic":"nobody","to":"ws://127.0.0.1:1"}')),
  ),
  "big-headers": http(16, (attacker) =>
    attacker.request("GET /status", `X: ${"a".repeat(200_000)}\r\n\r\n`),
  ),
  "silent-sockets": idle(() => Buffer.alloc(0)),
  "half-requests": idle(() => Buffer.from("GET /status HTTP/1.1\r\n")),
  "keep-alive": idle(get("/livez")),
  "events-unread": http(600, get("/events?after=0"), false),
  "captures-unread": capture(16, false),
  "captures-read": capture(16, true),
  "tcp-churn": {
    kind: "http",
    run: (attacker) => attacker.sockets(64, (socket) => socket.resetAndDestroy()),
  },
  "upgrade-churn": {
    kind: "http",
    run: (attacker) =>
      attacker.sockets(32, (socket) => {
        socket.write(attacker.upgrade());
        socket.once("data", () => socket.resetAndDestroy());
      }),
  },

  "pings-read": socketFlood(wsChunk(WsOpcode.PING, 4)),
  "pings-unread": socketFlood(wsChunk(WsOpcode.PING, 4), false),
  pongs: socketFlood(wsChunk(WsOpcode.PONG, 4)),
  "empty-fragments": socketFlood(
    Buffer.concat([
      wsFrame(Buffer.alloc(0), { fin: false }),
      chunkOf(wsFrame(Buffer.alloc(0), { fin: false, opcode: WsOpcode.CONTINUATION })),
    ]),
  ),
  "empty-batches": socketFlood(chunkOf(message())),
  "random-bytes": socketFlood(wsFrame(randomBytes(CHUNK_BYTES))),
  "depth-bombs": socketFlood(wsFrame(Buffer.alloc(Limits.MESSAGE_BYTES, 0x91))),
  "unfinished-messages": {
    kind: "socket",
    run: (attacker) =>
      attacker.sockets(142, (socket) => {
        socket.write(attacker.upgrade());
        socket.write(wsFrame(Buffer.alloc(Limits.MESSAGE_BYTES - 1), { fin: false }));
      }),
  },

  "mmio-reads": wire(() => tagged((tag) => [Op.MMIO_READ, tag, 0, 0, Limits.MMIO_BYTES]), false),
  "doorbells-foreign": wire(() => batches([mmio(0x1000, 1)], 64)),
  resets: wire(() => batches(RESET)),
  "admin-commands": {
    kind: "wire",
    run: (attacker) =>
      attacker.loops(4, async () => {
        const { port, place, standing } = attacker;
        const ena = await RawEna.start(port, attacker.name(), true, place, standing.token);
        for (;;) await ena.getFeature(1);
      }),
  },
  "doorbells-own": {
    kind: "wire",
    run: (attacker) =>
      attacker.loops(4, async () => {
        const { port, place, standing } = attacker;
        const name = attacker.name();
        const { ena, tx } = await RawEna.startWithQueues(port, name, true, place, standing.token);
        const batch = packBatch(Array.from({ length: 1000 }, () => mmio(tx.doorbell, 0)));
        for (;;) {
          ena.raw.send(batch);
          if (!(await ena.raw.survived())) throw new Error(ena.raw.closing?.reason);
        }
      }),
  },
  "window-churn": wire(() => batches([WINDOW, [Op.END_WINDOW, WINDOW_AT]])),
  "windows-held": {
    kind: "wire",
    run: (attacker) => {
      const all = allWindows();
      attacker.greet(11, "ena", (socket) => socket.write(all));
    },
  },
  "pushes-over-budget": wire(() => batches([push(Limits.RECORD_BYTES)])),
  "pushes-tiny": wire(() => batches([push(1)], 64)),
  "fault-reports": wire(() => batches([[Op.FAULT, 0, "FLOOD", "flood", 0, 0]], 16)),
  heartbeats: wire(() => batches([[Op.HEARTBEAT, 1, 0]], 16)),
  "joins-ena": joins("ena"),

  "xen-events": xen(() =>
    batches(Array.from({ length: Limits.PORTS }, (_, port) => [Op.EVENT, port])),
  ),
  "xen-grants": xen(() => same(grantChurn())),
  "xen-hypercalls": xen(() =>
    tagged((tag) => [Op.HYPERCALL, tag, GRANT_TABLE_OP, COPY, Buffer.alloc(HYPERCALL_BYTES)]),
  ),
  "xen-pushes": xen(() => batches([push(GRANT_PAGE_BYTES, 1 << 20, Space.GRANT)])),
  "store-writes": store(0),
  "store-writes-unanswered": xen(() =>
    batches([[Op.XENSTORE, xsMessage(XsType.WRITE, 1, 0, xsPathAndValue("data/n", xsBytes("v")))]]),
  ),
  "store-writes-watched": store(127),
  "joins-xen": joins("xen"),

  broadcasts: frames([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
  multicasts: frames([0x33, 0x33, 0, 0, 0, 1]),
  "unknown-unicasts": frames([2, 0, 0, 0xee, 0xee, 0xee]),
} satisfies Record<string, Flood>;

export type FloodName = keyof typeof FLOODS;
export const FLOOD_NAMES = Object.keys(FLOODS) as readonly FloodName[];
