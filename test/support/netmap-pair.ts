/**
 * The ENA pair with netmap on top: opens ports, reaches krings and slots, and counts every buffer.
 *
 *   census = slots of all open rings + rx records + packets in flight     always the same multiset
 */
import { expect } from "vitest";
import type { Adapter } from "../../frontend/ena/adapter.ts";
import { PKT_MAX_BUFS, type RxRing, type TxRing } from "../../frontend/ena/rings.ts";
import type { NativeAdapter } from "../../frontend/netmap/adapter.ts";
import { type NmPort, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { RingMode, Txrx } from "../../frontend/netmap/flags.ts";
import type { Kring } from "../../frontend/netmap/kring.ts";
import { DEFAULT_SIZES } from "../../frontend/netmap/memory.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import type { NetmapRing } from "../../frontend/netmap/ring.ts";
import { slotsBetween } from "../../frontend/netmap/ring.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { buildPacket } from "./packets.ts";
import { EnaPair, type EnaPairOptions } from "./pair.ts";

/** Slots of each ring: the smallest that the driver makes. */
export const SLOTS = 256;
export const MAC = [2, 0, 0, 0, 0, 1];
export const AWAY = [2, 0, 0, 0, 0, 7];
const HEADER = 18;

export interface NetmapPairOptions extends EnaPairOptions {
  readonly bufBytes?: number;
}

export class NetmapPair extends EnaPair {
  readonly netmap: Netmap;

  constructor({ bufBytes = 2048, ...options }: NetmapPairOptions = {}) {
    const buffers = { count: 8192, bytes: bufBytes };
    const netmap = new Netmap({ memory: { ...DEFAULT_SIZES, buffers } });
    const driver = { rxRingSize: SLOTS, txRingSize: SLOTS, ...options.driver };
    super({ ...options, driver, netmap });
    this.netmap = netmap;
  }

  get adapter(): Adapter {
    return this.driver.adapter;
  }
  get na(): NativeAdapter {
    const { netmap } = this.adapter;
    if (netmap === undefined) throw new Error("the driver is not attached");
    return netmap.na;
  }

  /** Attach, up, link up, and a port on it. */
  async startOpen(name = "netmap:ena0"): Promise<NmPort> {
    await this.start();
    return this.open(name);
  }

  async open(name = "netmap:ena0"): Promise<NmPort> {
    const port = await this.run(nmOpen(name, { netmap: this.netmap }));
    await this.settle();
    return port;
  }

  async close(port: NmPort): Promise<void> {
    await this.run(port.close());
    await this.settle();
  }

  rx = (q = 0): RxRing => this.adapter.queues[q]!.rx;
  tx = (q = 0): TxRing => this.adapter.queues[q]!.tx;
  rxKring = (q = 0): Kring => this.na.rxRings[q]!;
  txKring = (q = 0): Kring => this.na.txRings[q]!;
  /** Calls the driver's rxsync as the netmap core does after its checks. */
  rxsync = (q = 0): number => this.na.rxsync(this.rxKring(q), 0);
  txsync = (q = 0): number => this.na.txsync(this.txKring(q), 0);

  /** Sends frames from the segment and waits until their completions have arrived. */
  async arrive(...frames: Uint8Array[]): Promise<void> {
    // Posted buffers must reach the device before the frames.
    this.pump();
    for (const frame of frames) expect(this.inject(frame)).toBeUndefined();
    this.flushPort();
    await this.settle();
  }

  /** The open rings of a port, in both directions. */
  #openRings(): NetmapRing[] {
    const krings = [...this.na.krings(Txrx.RX), ...this.na.krings(Txrx.TX)];
    return krings.filter((k) => k.ring !== undefined && !k.isFake).map((k) => k.openRing);
  }

  /** All buffer indexes in open rings and in the driver, sorted. */
  census(): Uint32Array {
    const all: number[] = [];
    for (const ring of this.#openRings()) {
      for (let i = 0; i < ring.numSlots; i++) all.push(ring.bufIdx(i));
    }
    for (const { rx, tx } of this.adapter.queues) {
      all.push(...rx.netmapBufIdx);
      const out = tx.slots;
      for (let id = 0; out !== undefined && id < tx.size; id++) {
        for (let i = 0; i < out.used[id]!; i++) all.push(out.bufIdx[id * PKT_MAX_BUFS + i]!);
      }
    }
    return Uint32Array.from(all.filter((bufIdx) => bufIdx !== 0)).sort();
  }

  /**
   * Checks what holds between any two calls: no buffer is in two places, there are as many buffers
   * as open rings have slots, and the empty slots are where the ring's indexes say.
   */
  check(): void {
    const all = this.census();
    const twice = all.find((bufIdx, i) => bufIdx === all[i - 1]);
    if (twice !== undefined) throw new Error(`buffer ${twice} is in two places`);
    expect(all.length).toBe(this.#openRings().reduce((sum, ring) => sum + ring.numSlots, 0));
    for (const { rx, tx } of this.adapter.queues) {
      const [rxKring, txKring] = [this.rxKring(rx.qid), this.txKring(tx.qid)];
      if (isOn(rxKring)) this.#checkRx(rxKring, rx);
      if (isOn(txKring)) this.#checkTx(txKring, tx);
    }
  }

  /** unread + with the device + released = N, and the empty slots are exactly [hwtail, nicCur). */
  #checkRx(kring: Kring, rx: RxRing): void {
    const n = kring.nkrNumSlots;
    const held = rx.netmapBufIdx.filter((bufIdx) => bufIdx !== 0).length;
    expect(rx.nicSlots).toBe(held);
    expect((kring.nrHwtail + held) % n).toBe(rx.nicCur);
    expect(slotsBetween(kring.rhead, kring.nrHwtail, n) + held).toBeLessThan(n);
    checkEmpty(kring, kring.nrHwtail, held);
  }

  #checkTx(kring: Kring, tx: TxRing): void {
    const n = kring.nkrNumSlots;
    const out = tx.slots?.slotsOut ?? 0;
    expect((kring.nrHwtail + 1 + out) % n).toBe(kring.nrHwcur);
    checkEmpty(kring, (kring.nrHwtail + 1) % n, out);
  }

  /** `perQueue` packets for each receive queue, each of its own flow: [queue][packet]. */
  async flows(perQueue: number): Promise<Uint8Array[][]> {
    const queues = this.adapter.queues.length;
    const found: Uint8Array[][] = Array.from({ length: queues }, () => []);
    const { tamper } = this;
    for (let sourcePort = 1000; found.some((f) => f.length < perQueue); sourcePort++) {
      const { bytes } = buildPacket({ protocol: 17, sourcePort, payload: new Uint8Array(40) });
      let queue = -1;
      // The completion names the receive queue that the device chose for this flow.
      this.tamper = (act) => {
        if (act.kind === "write" && act.type === RecordType.ENA_RX_CDESC) {
          queue = this.adapter.queues.findIndex(({ rx }) => {
            const { address, bytes } = rx.cq.memory;
            return act.address >= address && act.address < address + bytes.length;
          });
        }
        return [act];
      };
      await this.arrive(bytes);
      if (found[queue]!.length < perQueue) found[queue]!.push(bytes);
    }
    this.tamper = tamper;
    return found;
  }
}

const isOn = (kring: Kring | undefined): kring is Kring =>
  kring?.ring !== undefined && kring.nrMode === RingMode.ON;

/** Checks that the slots [from, from + count) are empty, and no others. */
function checkEmpty(kring: Kring, from: number, count: number): void {
  const ring = kring.openRing;
  for (let i = 0; i < ring.numSlots; i++) {
    const isEmpty = slotsBetween(from, i, ring.numSlots) < count;
    if ((ring.bufIdx(i) === 0) !== isEmpty) {
      throw new Error(
        `${kring.name}: slot ${i} has buffer ${ring.bufIdx(i)}, ${count} empty from ${from}`,
      );
    }
  }
}

/** Any two positions less than 256 apart hold different bytes. */
const PATTERN = Uint8Array.from({ length: 1 << 17 }, (_, i) => (i * 31 + (i >> 8)) & 0xff);

/** A frame that carries its number, and whose bytes all depend on it. */
export function numbered(n: number, length: number, destination: readonly number[]): Uint8Array {
  if (length < HEADER) throw new RangeError(`a numbered frame of ${length} bytes`);
  const from = (n * 73) & 0xff;
  const bytes = PATTERN.slice(from, from + length);
  bytes.set([...destination, 2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
  new DataView(bytes.buffer).setUint32(14, n);
  return bytes;
}

export const numberOf = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(14);
