/**
 * A NIC with native netmap support, in memory: the double of a driver's netmap part.
 *
 *   inject(q, bytes)  ──► wire ──► rxsync ──► slots, NS_MOREFRAG where a buffer is short
 *   slots ──► txsync ──► sent[q]; slots come back at once, or at `complete(q)` with `lazyTx`
 *
 * The NIC changes no buffer indexes. A slot with a bad buffer or length adds no bytes to its
 * packet.
 */

import { Ifnet } from "../../frontend/net/ifnet.ts";
import { Mbuf, mCopyData, mLength } from "../../frontend/net/mbuf.ts";
import type { NativeAdapter, NmConfig } from "../../frontend/netmap/adapter.ts";
import { Naf, Ns } from "../../frontend/netmap/flags.ts";
import type { Kring } from "../../frontend/netmap/kring.ts";
import type { Netmap } from "../../frontend/netmap/netmap.ts";
import { nmNext, nmPrev } from "../../frontend/netmap/ring.ts";
import { copyBytes } from "../../shared/bytes/copy.ts";
import { transmitEach } from "./transmit.ts";

const DEFAULTS = {
  name: "fake0",
  txRings: 1,
  rxRings: 1,
  txSlots: 8,
  rxSlots: 8,
  mtu: 1500,
  rxBufMaxsize: 2048,
  /** Naf bits. */
  flags: Naf.MOREFRAG as number,
  /** Sent slots wait for `complete`. */
  lazyTx: false,
};
export type FakeNicOptions = Readonly<Partial<typeof DEFAULTS>>;

export class FakeNic {
  readonly ifnet: Ifnet;
  readonly na: NativeAdapter;
  readonly netmap: Netmap;
  /** Packets sent, by ring. */
  readonly sent: Uint8Array[][];
  /**
   * Packets that the stack sent through the driver's transmit, and packets that reached the stack.
   */
  readonly plainSent: Uint8Array[] = [];
  readonly up: Uint8Array[] = [];
  readonly registerCalls: boolean[] = [];
  /** The result of nm_register. */
  registerError = 0;
  /** The result of nm_sync. */
  syncError = 0;
  readonly syncs = { tx: 0, rx: 0 };
  /** SyncFlag bits of the last sync in each direction. */
  readonly lastFlags = { tx: 0, rx: 0 };
  configNow: NmConfig | undefined = undefined;
  readonly #lazyTx: boolean;
  readonly #wire: Uint8Array[][];

  constructor(netmap: Netmap, options: FakeNicOptions = {}) {
    const o = { ...DEFAULTS, ...options };
    this.netmap = netmap;
    this.#lazyTx = o.lazyTx;
    this.sent = Array.from({ length: o.txRings }, () => []);
    this.#wire = Array.from({ length: o.rxRings }, () => []);
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
    this.ifnet = new Ifnet(o.name, mac, o.mtu);
    transmitEach(this.ifnet, (m) => {
      this.plainSent.push(bytesOf(m));
      m.free();
      return 0;
    });
    this.ifnet.input = (m) => {
      this.up.push(bytesOf(m));
      m.free();
    };
    this.na = netmap.attach({
      ifnet: this.ifnet,
      flags: o.flags,
      numTxRings: o.txRings,
      numRxRings: o.rxRings,
      numTxDesc: o.txSlots,
      numRxDesc: o.rxSlots,
      rxBufMaxsize: o.rxBufMaxsize,
      register: (na, on) => this.#register(na, on),
      txsync: (kring, flags) => this.#sync("tx", kring, flags),
      rxsync: (kring, flags) => this.#sync("rx", kring, flags),
      config: () => this.configNow,
    });
  }

  /** Follows the drivers' order: flags are set last and cleared first. */
  async #register(na: NativeAdapter, on: boolean): Promise<number> {
    this.registerCalls.push(on);
    // A driver goes down and up here, which takes several turns.
    await Promise.resolve();
    if (this.registerError !== 0 && on) return this.registerError;
    if (on) {
      na.modeCommit(true);
      na.setNativeFlags();
    } else {
      na.clearNativeFlags();
      na.modeCommit(false);
    }
    return 0;
  }

  #sync(way: "tx" | "rx", kring: Kring, flags: number): number {
    this.syncs[way]++;
    this.lastFlags[way] = flags;
    if (this.syncError !== 0) return this.syncError;
    if (way === "tx") this.#txsync(kring);
    else this.#rxsync(kring);
    return 0;
  }

  #txsync(kring: Kring): void {
    const ring = kring.openRing;
    const { memory } = this.na;
    const lim = kring.nkrNumSlots - 1;
    let pieces: Uint8Array[] = [];
    let i = kring.nrHwcur;
    while (i !== kring.rhead) {
      const length = ring.len(i);
      const index = ring.bufIdx(i);
      if (memory.isBuffer(index) && length <= memory.bufSize) {
        const at = memory.bufferAt(index);
        pieces.push(memory.bytes.slice(at, at + length));
      }
      if ((ring.slotFlags(i) & Ns.MOREFRAG) === 0) {
        this.sent[kring.ringId]!.push(Buffer.concat(pieces));
        pieces = [];
      }
      i = nmNext(i, lim);
    }
    kring.nrHwcur = i;
    if (!this.#lazyTx) this.#reclaim(kring);
  }

  /** Completes all packets sent on ring `q`. */
  complete(q: number): void {
    this.#reclaim(this.na.txRings[q]!);
    this.na.txIrq(q);
  }

  #reclaim(kring: Kring): void {
    kring.nrHwtail = nmPrev(kring.nrHwcur, kring.nkrNumSlots - 1);
  }

  /** A frame arrives at ring `q`. */
  inject(q: number, frame: Uint8Array): void {
    this.#wire[q]!.push(frame);
    this.na.rxIrq(q);
  }

  #rxsync(kring: Kring): void {
    const ring = kring.openRing;
    const { memory } = this.na;
    const lim = kring.nkrNumSlots - 1;
    const wire = this.#wire[kring.ringId]!;
    let i = kring.nrHwtail;
    for (let frame = wire[0]; frame !== undefined; frame = wire[0]) {
      const slots = Math.max(1, Math.ceil(frame.length / memory.bufSize));
      const room = (kring.nrHwcur - i - 1 + kring.nkrNumSlots) % kring.nkrNumSlots;
      if (slots > room) break;
      wire.shift();
      for (let from = 0; from < frame.length; from += memory.bufSize) {
        const length = Math.min(memory.bufSize, frame.length - from);
        if (memory.isBuffer(ring.bufIdx(i))) {
          copyBytes(frame, from, memory.bytes, memory.bufferAt(ring.bufIdx(i)), length);
        }
        ring.setLen(i, length);
        ring.setSlotFlags(i, from + length < frame.length ? Ns.MOREFRAG : 0);
        i = nmNext(i, lim);
      }
    }
    kring.nrHwtail = i;
    // The released slots can hold waiting frames now, so the NIC interrupts again after this sync.
    if (wire.length > 0 && kring.nrHwcur !== kring.rhead) {
      queueMicrotask(() => this.na.rxIrq(kring.ringId));
    }
    kring.nrHwcur = kring.rhead;
  }
}

/** An mbuf as the stack sends it, with these bytes. */
export function mbufOf(bytes: Uint8Array, flowId = 0): Mbuf {
  const m = new Mbuf();
  m.attach(bytes, 0, bytes.length, undefined);
  m.flowId = flowId;
  return m;
}

export function bytesOf(m: Mbuf): Uint8Array {
  const bytes = Buffer.alloc(mLength(m));
  mCopyData(m, 0, bytes.length, bytes, 0);
  return bytes;
}
