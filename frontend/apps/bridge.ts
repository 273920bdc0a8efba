/**
 * bridge: each port sends the packets that the other receives. After netmap's program of that name.
 *
 *   a.rx [head, tail) ── buffers change places ──► b.tx [head, ...) ── txsync
 *   a.tx ◄────────────── the same the other way ── b.rx
 *
 * Ports of one memory region swap buffers and copy nothing: two NICs, or a NIC and its own host
 * rings. A full transmit ring stops only the direction that leads to it. Each direction has a loop.
 */
import { Poll } from "../netmap/flags.ts";
import type { NetmapRing } from "../netmap/ring.ts";
import { type AppPort, type Control, type Counts, drain, waitFor } from "./app.ts";
import { packetSlots, type SlotMover, slotBehind, slotMover, swapSlot } from "./slots.ts";

export interface BridgeConfig {
  /** Packets moved before the other direction has its turn. */
  readonly burst: number;
  /** Copies even where buffers could be swapped. */
  readonly copy: boolean;
}

export async function bridge(
  a: AppPort,
  b: AppPort,
  config: BridgeConfig,
  counts: readonly [Counts, Counts],
  control: Control,
): Promise<void> {
  const ways = [forward(new Way(a, b, config, counts[0]), counts[0], control)];
  // A port bridged to itself is a mirror with a single direction.
  if (a !== b) ways.push(forward(new Way(b, a, config, counts[1]), counts[1], control));
  await Promise.all(ways);
  await drain([a, b], control);
}

async function forward(way: Way, counts: Counts, control: Control): Promise<void> {
  counts.begin();
  while (!control.isStopped) {
    if ((await waitFor(way.from, Poll.IN, counts, control)) === 0) continue;
    if (way.move() > 0) way.to.txsync();
    // Frames are left although the burst is not used up: the other port has no room.
    if (way.isBlocked) await waitFor(way.to, Poll.OUT, counts, control);
  }
  counts.end();
}

/** From one port's receive rings to the other's transmit rings. */
class Way {
  readonly from: AppPort;
  readonly to: AppPort;
  isBlocked = false;
  readonly #burst: number;
  readonly #move: SlotMover;
  readonly #counts: Counts;
  readonly #rx: readonly NetmapRing[];
  readonly #tx: readonly NetmapRing[];

  constructor(from: AppPort, to: AppPort, config: BridgeConfig, counts: Counts) {
    this.from = from;
    this.to = to;
    this.#burst = config.burst;
    this.#move = slotMover(from, to, config.copy);
    this.#counts = counts;
    this.#rx = from.rxRings();
    this.#tx = to.txRings();
  }

  /** Walks through both lists of rings together, until one ends. Returns the packets moved. */
  move(): number {
    let moved = 0;
    let out = 0;
    this.isBlocked = false;
    for (const rx of this.#rx) {
      while (moved < this.#burst && !rx.isEmpty) {
        const tx = this.#tx[out];
        if (tx === undefined) {
          this.isBlocked = true;
          return moved;
        }
        const packets = this.#moveRing(rx, tx, this.#burst - moved);
        moved += packets;
        // The ring is full, or too full for the next packet.
        if (packets === 0 && !this.#skipUnfit(rx, tx)) out++;
      }
    }
    return moved;
  }

  #moveRing(rx: NetmapRing, tx: NetmapRing, limit: number): number {
    let from = rx.head;
    let to = tx.head;
    let frames = rx.space;
    let room = tx.space;
    let packets = 0;
    let bytes = 0;
    while (packets < limit) {
      const slots = packetSlots(rx, from, frames);
      if (slots === 0 || slots > room || !this.#fits(rx, from, slots, tx)) break;
      for (let n = 0; n < slots; n++) {
        bytes += rx.len(from);
        this.#move(rx, from, tx, to);
        from = rx.next(from);
        to = tx.next(to);
      }
      frames -= slots;
      room -= slots;
      packets++;
    }
    if (packets === 0) {
      // Room for part of a packet does not help: wait for room for all of it.
      if (frames > 0) tx.cur = tx.tail;
      return 0;
    }
    tx.advance(to);
    rx.advance(from);
    this.#counts.add(packets, bytes);
    return packets;
  }

  /** A host ring takes one slot a frame; a copy must fit the other's buffer. */
  #fits(rx: NetmapRing, first: number, slots: number, tx: NetmapRing): boolean {
    if (slots > 1 && tx.ringId >= this.to.nicTxRings) return false;
    return this.#move === swapSlot || rx.len(first) <= tx.bufSize;
  }

  /** Drops the packet at the ring's head if it can't be sent there at all. */
  #skipUnfit(rx: NetmapRing, tx: NetmapRing): boolean {
    const slots = packetSlots(rx, rx.head, rx.space);
    const isPart = slots === 0;
    const count = isPart ? rx.space : slots;
    if (!isPart && slots <= tx.numSlots - 1 && this.#fits(rx, rx.head, slots, tx)) return false;
    rx.advance(slotBehind(rx, rx.head, count));
    this.#counts.addDrops(1);
    return true;
  }
}
