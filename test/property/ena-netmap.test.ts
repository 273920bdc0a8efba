/**
 * Random traffic, faults, resets, lost links, opened and closed ports against the driver with
 * netmap. The multiset of buffers stays the same, no buffer is in two places, the ring's indexes
 * describe every slot, and every packet arrives whole and once, or not at all.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { adapterOf, type NmPort } from "../../frontend/netmap/descriptor.ts";
import { Ns, Poll } from "../../frontend/netmap/flags.ts";
import type { NetmapRing } from "../../frontend/netmap/ring.ts";
import { RX_CDESC_SIZE, TX_CDESC_SIZE } from "../../shared/ena/io.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { SOAK } from "../support/counts.ts";
import { putFrame, takeFrame } from "../support/netmap-frames.ts";
import { AWAY, MAC, NetmapPair, numbered, numberOf } from "../support/netmap-pair.ts";
import { buildPacket } from "../support/packets.ts";
import { sameBytes } from "../support/same.ts";
import type { Act } from "../support/wire-acts.ts";

const NO_BYTES = new Uint8Array(0);

const STEPS = SOAK ? 100_000 : 5000;
const RUNS_AT_ONCE = 10;
const PORTS = [
  "netmap:ena0",
  "netmap:ena0-0",
  "netmap:ena0-1",
  "netmap:ena0*",
  "netmap:ena0-1/R",
  "netmap:ena0-0/T",
] as const;
const UDP_HEADERS = 42;

/** Every other frame is a flow of its own, so that all queues get frames. */
function frameIn(n: number, length: number): Uint8Array {
  if (n % 2 === 0) return numbered(n, length, MAC);
  const payload = new Uint8Array(4 + (length % 100)).fill(n);
  new DataView(payload.buffer).setUint32(0, n);
  return buildPacket({ protocol: 17, sourcePort: n % 13, payload }).bytes;
}
const numberIn = (bytes: Uint8Array): number =>
  bytes[12] === 0x88 ? numberOf(bytes) : numberOf(bytes.subarray(UDP_HEADERS - 14));

const burst = fc.integer({ min: 1, max: 60 });
const length = fc.oneof(fc.integer({ min: 60, max: 1514 }), fc.integer({ min: 60, max: 9014 }));
const which = fc.nat(7);
const kind = <K extends string, T extends object>(
  weight: number,
  name: K,
  rest?: fc.Arbitrary<T>,
) => ({
  weight,
  arbitrary: (rest ?? fc.constant({} as T)).map((fields) => ({ do: name, ...fields })),
});
const step = fc.oneof(
  kind(10, "arrive", fc.record({ n: burst, length })),
  kind(
    10,
    "put",
    fc.record({ n: burst, length, piece: fc.integer({ min: 400, max: 2048 }), which }),
  ),
  kind(4, "part", fc.record({ which })),
  kind(12, "sync", fc.record({ which })),
  kind(10, "take", fc.record({ n: burst, which })),
  kind(4, "swap", fc.record({ which })),
  kind(10, "settle"),
  kind(4, "second"),
  kind(2, "reset"),
  kind(2, "updown"),
  kind(1, "link", fc.record({ steps: fc.nat(40) })),
  kind(3, "open", fc.record({ name: fc.constantFrom(...PORTS) })),
  kind(2, "close", fc.record({ which })),
  kind(3, "spoil", fc.record({ rx: fc.boolean(), repeat: fc.boolean() })),
  kind(3, "writable", fc.record({ writable: fc.boolean() })),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Changes one completion: to an invalid request id, or to the id of the completion before it. */
function spoiler(rx: boolean, repeat: boolean): (act: Act) => readonly Act[] {
  const [type, bytes, at] = rx
    ? [RecordType.ENA_RX_CDESC, RX_CDESC_SIZE, 6]
    : [RecordType.ENA_TX_CDESC, TX_CDESC_SIZE, 0];
  let done = false;
  return (act) => {
    if (done || act.kind !== "write" || act.type !== type) return [act];
    if (repeat && act.bytes.length < 2 * bytes) return [act];
    done = true;
    const view = new DataView(act.bytes.buffer, act.bytes.byteOffset, act.bytes.length);
    const id = repeat ? view.getUint16(at, true) : 0xfffe;
    view.setUint16((repeat ? bytes : 0) + at, id, true);
    return [act];
  };
}

class World {
  readonly pair: NetmapPair;
  readonly ports: NmPort[] = [];
  readonly sent = new Map<number, Uint8Array>();
  readonly injected = new Map<number, Uint8Array>();
  /** Rings with a partly released packet, and the slot at which the packet ends. */
  readonly parts = new Map<NmPort, { ring: NetmapRing; end: number }>();
  next = 0;
  buffers: Uint32Array = new Uint32Array(0);

  constructor(options: { llq: boolean; seed: number }) {
    const { llq, seed } = options;
    this.pair = new NetmapPair({
      device: { llq, completionOrder: "shuffle", seed },
      queues: 2,
      mtu: 9000,
    });
  }

  async do(s: Step): Promise<void> {
    const { pair } = this;
    const port = "which" in s ? this.ports[s.which % Math.max(1, this.ports.length)] : undefined;
    switch (s.do) {
      case "arrive":
        if (pair.plugged) this.#arrive(s.n, s.length);
        break;
      case "put":
        if (port !== undefined) this.#put(port, s.n, s.length, s.piece);
        break;
      case "part":
        if (port !== undefined) this.#part(port);
        break;
      case "sync":
        if (port !== undefined) expect(port.look(Poll.IN | Poll.OUT) & Poll.ERR).toBe(0);
        break;
      case "take":
        if (port !== undefined) this.#take(port, s.n);
        break;
      case "swap":
        // The next free slot may belong to the rest of a packet.
        this.#finishParts();
        if (port !== undefined) swap(port);
        break;
      case "settle":
        await pair.settle();
        break;
      case "second":
        await pair.second();
        break;
      case "reset":
        if (pair.plugged) pair.nic.levers.requestReset();
        break;
      case "updown":
        await pair.run(pair.driver.down());
        this.check();
        await pair.run(pair.driver.up());
        break;
      case "link":
        for (let i = 0; i < s.steps; i++) pair.deliverOne();
        pair.cut();
        this.check();
        await pair.reconnect();
        break;
      case "open":
        if (this.ports.length < 3) this.ports.push(await pair.open(s.name));
        this.buffers = new Uint32Array(0);
        break;
      case "close":
        if (port !== undefined) await this.#close(port);
        break;
      case "spoil":
        pair.tamper = spoiler(s.rx, s.repeat);
        break;
      case "writable":
        pair.writable = s.writable;
        if (s.writable) pair.driver.writableAgain();
        break;
    }
    this.check();
  }

  async #close(port: NmPort): Promise<void> {
    this.ports.splice(this.ports.indexOf(port), 1);
    // Other ports may have the same rings open.
    this.#finishParts();
    await this.pair.close(port);
    this.buffers = new Uint32Array(0);
  }

  #arrive(n: number, bytes: number): void {
    for (let i = 0; i < n; i++) {
      const number = this.next++;
      const frame = frameIn(number, bytes);
      this.injected.set(number, frame);
      this.pair.inject(frame);
    }
    this.pair.flushPort();
  }

  #put(port: NmPort, n: number, bytes: number, piece: number): void {
    this.#finishParts();
    for (const ring of port.txRings().slice(0, port.nicTxRings)) {
      for (let i = 0; i < n; i++) {
        const frame = numbered(this.next, bytes, AWAY);
        if (ring.ringId >= port.nicTxRings || Math.ceil(bytes / piece) > 19) break;
        if (!putFrame(port, ring, frame, piece)) break;
        this.sent.set(this.next++, frame);
      }
    }
  }

  /** Releases two of a packet's three slots. */
  #part(port: NmPort): void {
    this.#finishParts();
    const ring = port.txRings()[0];
    if (ring === undefined || ring.ringId >= port.nicTxRings || ring.space < 3) return;
    const from = ring.head;
    const frame = numbered(this.next, 1200, AWAY);
    expect(putFrame(port, ring, frame, 400)).toBe(true);
    this.sent.set(this.next++, frame);
    const end = ring.head;
    const part = ring.next(ring.next(from));
    ring.head = part;
    ring.cur = part;
    this.parts.set(port, { ring, end });
  }

  #finishParts(): void {
    for (const { ring, end } of this.parts.values()) ring.advance(end);
    this.parts.clear();
  }

  #take(port: NmPort, n: number): void {
    for (const ring of port.rxRings()) {
      for (let i = 0; i < n; i++) {
        const frame = takeFrame(port, ring);
        if (frame === undefined) break;
        this.#arrived(frame);
      }
    }
  }

  #arrived(frame: Uint8Array): void {
    const number = numberIn(frame);
    sameBytes(frame, this.injected.get(number) ?? NO_BYTES, `frame ${number}`);
    this.injected.delete(number);
  }

  check(): void {
    const { pair } = this;
    for (const { bytes } of pair.inputs.splice(0)) this.#arrived(bytes);
    for (const { bytes } of pair.segment.splice(0)) {
      const number = numberOf(bytes);
      sameBytes(bytes, this.sent.get(number) ?? NO_BYTES, `packet ${number}`);
      this.sent.delete(number);
    }
    pair.check();
    const now = pair.census();
    if (this.buffers.length > 0 && !now.every((b, i) => b === this.buffers[i])) {
      expect(now).toEqual(this.buffers);
    }
    this.buffers = now;
    expect(this.ports.every((p) => adapterOf(p) === pair.na)).toBe(true);
  }

  /** After the faults end, everything recovers without an operator, and all traffic flows. */
  async end(): Promise<void> {
    const { pair } = this;
    pair.tamper = undefined;
    pair.writable = true;
    pair.driver.writableAgain();
    this.#finishParts();
    await pair.settle();
    for (let i = 0; i < 16; i++) {
      for (const port of this.ports) {
        // Uses txsync, because poll skips a full ring when another ring has room.
        port.txsync();
        port.rxsync();
        this.#take(port, 1000);
        port.rxsync();
      }
      await pair.second();
      this.check();
    }
    for (const port of this.ports) await this.#roundTrip(port);
    while (this.ports.length > 0) await this.#close(this.ports[0]!);
    expect(pair.netmap.memory.badFrees).toBe(0);
    expect(pair.netmap.memory.buffers.objFree).toBe(8192 - 2);
    await pair.run(pair.driver.detach());
    expect(pair.driverFaults).toEqual([]);
    expect(pair.counter("rx_mbufs_in_use")).toBe(0);
    expect(pair.counter("pushed_bytes")).toBe(0);
  }

  async #roundTrip(port: NmPort): Promise<void> {
    const { pair } = this;
    for (const ring of port.txRings()) {
      if (ring.ringId >= port.nicTxRings) continue;
      const n = this.next++;
      const frame = numbered(n, 5000, AWAY);
      expect(putFrame(port, ring, frame)).toBe(true);
      this.sent.set(n, frame);
      port.txsync();
      await pair.settle();
      this.check();
      expect(this.sent.has(n)).toBe(false);
    }
  }
}

/** The application swaps a received buffer with one of its own, as a bridge does. */
function swap(port: NmPort): void {
  const rx = port.rxRings().find((ring) => !ring.isEmpty);
  const tx = port.txRings().find((ring) => !ring.isEmpty);
  if (rx === undefined || tx === undefined) return;
  const [a, b] = [rx.bufIdx(rx.head), tx.bufIdx(tx.head)];
  // The frame leaves with its buffer, so only a frame that the application has read completely is
  // swapped.
  const more = (rx.slotFlags(rx.head) & Ns.MOREFRAG) !== 0;
  if (more) return;
  port.buffer(b).set(port.buffer(a));
  rx.setBufIdx(rx.head, b);
  tx.setBufIdx(tx.head, a);
}

test("buffers are conserved, packets arrive whole and once", async () => {
  const world = fc.record({ llq: fc.boolean(), seed: fc.nat() });
  let steps = 0;
  const property = fc.asyncProperty(
    world,
    fc.array(step, { minLength: 1, maxLength: 300 }),
    async (options, list) => {
      const w = new World(options);
      await w.pair.start();
      w.ports.push(await w.pair.open());
      for (const s of list) {
        await w.do(s);
        steps++;
      }
      await w.end();
    },
  );
  while (steps < STEPS) await fc.assert(property, { numRuns: RUNS_AT_ONCE });
  expect(steps).toBeGreaterThanOrEqual(STEPS);
});
