/**
 * VALE: a learning switch inside this process, made of netmap ports.
 *
 *   valeS:P, valeS:Q, ...   up to 254 ports on each of up to 8 switches
 *   tx ring of a port ── txsync ──► copied to the rx ring of one port, or of all others
 *
 * A port transmits at once and completely. A packet for which a receiver has no room is dropped
 * there and counted, and so are later packets of the same sync, so that the order holds. Ports have
 * memory of their own. An ephemeral port exists while it is open. A persistent port (`valeNewif`)
 * stays, attached to a switch or not.
 *
 * Source: netmap: sys/dev/netmap/netmap_vale.c, netmap_bdg.c.
 */

import { copyBytes } from "../../shared/bytes/copy.ts";
import { ETHER_HEADER_BYTES, macHigh, macLow } from "../../shared/net/ethernet.ts";
import { NetmapAdapter, type RingCounts } from "./adapter.ts";
import { MAX_FRAGS, Ns, RFRAGS_SHIFT, RingMode } from "./flags.ts";
import type { Kring } from "./kring.ts";
import type { NetmapMemory } from "./memory.ts";
import { type NetmapRing, nmNext, nmPrev, slotsBetween } from "./ring.ts";
import { ringReinit, takeReleased } from "./sync.ts";
import { BROADCAST, NO_PORT, ValeTable } from "./vale-table.ts";

export const MAX_SWITCHES = 8;
export const MAX_PORTS = 254;

export class ValeSwitch {
  /** The name up to the colon: "vale0". */
  readonly name: string;
  readonly ports: (ValePort | undefined)[] = new Array<ValePort | undefined>(MAX_PORTS).fill(
    undefined,
  );
  /** The attached ports, so that a broadcast need not visit all numbers. */
  readonly plugged: ValePort[] = [];
  readonly table = new ValeTable();

  constructor(name: string) {
    this.name = name;
  }

  get active(): number {
    return this.plugged.length;
  }

  find(portName: string): ValePort | undefined {
    return this.plugged.find((port) => port.name === portName);
  }

  /** Whether the switch has room. netmap keeps room for two ports. */
  plug(port: ValePort): boolean {
    if (this.active + 2 >= MAX_PORTS) return false;
    const number = this.ports.indexOf(undefined);
    this.ports[number] = port;
    this.plugged.push(port);
    port.plugged(this, number);
    return true;
  }

  unplug(port: ValePort): void {
    if (this.ports[port.number] !== port) return;
    this.ports[port.number] = undefined;
    this.plugged.splice(this.plugged.indexOf(port), 1);
    port.plugged(undefined, NO_PORT);
  }
}

export class ValePort extends NetmapAdapter {
  number: number = NO_PORT;
  bridge: ValeSwitch | undefined = undefined;
  /** Packets of this port that reached no receiver, by reason. */
  readonly drops = {
    /** Shorter than an Ethernet header, or without its header in the expected place. */
    runt: 0,
    tooManyFrags: 0,
    /** The only receiver is the sender, or has left. */
    noPort: 0,
    /** The receiver's ring is not open, or the header lengths differ. */
    notListening: 0,
    headerMismatch: 0,
    /** The receiver had no room. */
    full: 0,
  };
  /** An invalid length, or a part longer than the receiver's buffers: sent as 0 bytes. */
  badLengths = 0;
  // The current packet: offsets and lengths of its parts in this port's region.
  readonly #at = new Float64Array(MAX_FRAGS);
  readonly #len = new Int32Array(MAX_FRAGS);
  // The receivers of this sync: those written to, and those without room.
  readonly #touched: Kring[] = [];
  readonly #isFull = new Uint8Array(MAX_PORTS);
  #lastLow = -1;
  #lastHigh = -1;

  constructor(name: string, counts: RingCounts, memory: NetmapMemory) {
    super(name, undefined, counts, memory, 0);
  }

  plugged(bridge: ValeSwitch | undefined, number: number): void {
    this.bridge = bridge;
    this.number = number;
    this.#lastLow = -1;
    this.#lastHigh = -1;
  }

  /** netmap_vp_reg */
  override register(on: boolean): number {
    this.modeCommit(on);
    this.setOn(on);
    return 0;
  }

  /** netmap_vp_rxsync: the sender has already put the frames into the ring. */
  override rxsync(kring: Kring): number {
    if (kring.rhead >= kring.nkrNumSlots) return ringReinit(kring);
    takeReleased(kring, kring.openRing);
    return 0;
  }

  override txsync(kring: Kring): number {
    const lim = kring.nkrNumSlots - 1;
    if (this.bridge !== undefined) this.#forwardAll(kring, this.bridge);
    kring.nrHwcur = kring.rhead;
    kring.nrHwtail = nmPrev(kring.rhead, lim);
    return 0;
  }

  /** nm_vale_preflush */
  #forwardAll(kring: Kring, bridge: ValeSwitch): void {
    const ring = kring.openRing;
    const lim = kring.nkrNumSlots - 1;
    const head = kring.rhead;
    let frags = 0;
    for (let i = kring.nrHwcur; i !== head; i = nmNext(i, lim)) {
      const flags = ring.slotFlags(i);
      if ((flags & Ns.BUF_CHANGED) !== 0) ring.setSlotFlags(i, flags & ~Ns.BUF_CHANGED);
      if (frags < MAX_FRAGS) this.#gather(frags, kring, ring, i, flags);
      frags++;
      // MOREFRAG on the last slot of the sync: the packet goes out incomplete.
      if ((flags & Ns.MOREFRAG) !== 0 && nmNext(i, lim) !== head) continue;
      if (frags > MAX_FRAGS) this.drops.tooManyFrags++;
      else this.#forward(bridge, frags, kring.ringId);
      frags = 0;
    }
    for (let i = 0; i < this.#touched.length; i++) this.#touched[i]!.notify();
    this.#touched.length = 0;
    this.#isFull.fill(0);
  }

  /** Adds one part: its offset and length. An invalid part counts as empty. */
  #gather(frag: number, kring: Kring, ring: NetmapRing, slot: number, flags: number): void {
    const { memory } = this;
    const length = ring.len(slot);
    const isIndirect = (flags & Ns.INDIRECT) !== 0;
    const at = isIndirect ? ring.ptr(slot) : this.bufferOf(kring, slot);
    let ok = length <= memory.bufSize;
    if (isIndirect) {
      ok &&= at !== 0 && at + length <= memory.bytesTotal;
    }
    if (!ok) this.badLengths++;
    this.#at[frag] = ok ? at : memory.buffersAt;
    this.#len[frag] = ok ? length : 0;
  }

  /** Looks the receivers up and copies the packet to each (nm_vale_flush). */
  #forward(bridge: ValeSwitch, frags: number, ringNr: number): void {
    const dst = this.#lookup(bridge, frags);
    if (dst === NO_PORT) {
      this.drops.runt++;
      return;
    }
    if (dst !== BROADCAST) {
      const port = bridge.ports[dst];
      if (dst === this.number || port === undefined) this.drops.noPort++;
      else this.#deliver(port, frags, ringNr);
      return;
    }
    const { plugged } = bridge;
    for (let i = 0; i < plugged.length; i++) {
      // A broadcast goes to the first ring of each port.
      if (plugged[i] !== this) this.#deliver(plugged[i]!, frags, 0);
    }
  }

  /** netmap_vale_learning: returns the receiver's port, BROADCAST, or NO_PORT for an invalid frame. */
  #lookup(bridge: ValeSwitch, frags: number): number {
    const { bytes } = this.memory;
    let frag = 0;
    let skip = this.virtHdrLen;
    // The virtio-net header is the first part, or at the start of it.
    if (skip === this.#len[0] && frags > 1) {
      frag = 1;
      skip = 0;
    }
    if (this.#len[frag]! - skip < ETHER_HEADER_BYTES) return NO_PORT;
    const at = this.#at[frag]! + skip;
    const src = at + 6;
    if ((bytes[src]! & 1) === 0) this.#learn(bridge, bytes, src);
    if ((bytes[at]! & 1) !== 0) return BROADCAST;
    return bridge.table.lookup(bytes, at);
  }

  /** Learns the sender. The same sender as last time is not hashed again. */
  #learn(bridge: ValeSwitch, bytes: Uint8Array, at: number): void {
    const low = macLow(bytes, at);
    const high = macHigh(bytes, at);
    if (low === this.#lastLow && high === this.#lastHigh) return;
    this.#lastLow = low;
    this.#lastHigh = high;
    bridge.table.learn(bytes, at, this.number);
  }

  #deliver(port: ValePort, frags: number, ringNr: number): void {
    const kring = port.rxRings[ringNr % port.numRxRings];
    const ring = kring?.ring;
    if (kring === undefined || ring === undefined || kring.nrMode !== RingMode.ON || !port.isOn) {
      this.drops.notListening++;
      return;
    }
    if (port.virtHdrLen !== this.virtHdrLen) {
      this.drops.headerMismatch++;
      return;
    }
    const lim = kring.nkrNumSlots - 1;
    const busy = slotsBetween(kring.nrHwcur, kring.nrHwtail, kring.nkrNumSlots);
    if (this.#isFull[port.number] !== 0 || frags > lim - busy) {
      this.#isFull[port.number] = 1;
      this.drops.full++;
      return;
    }
    const count = frags << RFRAGS_SHIFT;
    let i = kring.nrHwtail;
    for (let f = 0; f < frags; f++) {
      let length = this.#len[f]!;
      if (length > port.memory.bufSize) {
        this.badLengths++;
        length = 0;
      }
      const to = port.bufferOf(kring, i);
      copyBytes(this.memory.bytes, this.#at[f]!, port.memory.bytes, to, length);
      ring.setLen(i, length);
      ring.setSlotFlags(i, f + 1 < frags ? count | Ns.MOREFRAG : count);
      i = nmNext(i, lim);
    }
    kring.nrHwtail = i;
    if (!this.#touched.includes(kring)) this.#touched.push(kring);
  }
}
