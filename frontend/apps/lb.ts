/**
 * lb: distributes the frames of a port to pipes. All frames of a flow go to the same pipe, and so do
 * both directions of a connection. After netmap's program of that name.
 *
 *   input.rx ── hash of addresses and ports ──► pipe k: buffers change places ── txsync ──► its reader
 *
 * A pipe with a slow reader fills up. Its frames are dropped and counted, and no other pipe waits.
 */
import { copyBytes } from "../../shared/bytes/copy.ts";
import { Frame } from "../../shared/net/frame.ts";
import { Ns, Poll } from "../netmap/flags.ts";
import type { NetmapRing } from "../netmap/ring.ts";
import { type AppPort, type Control, type Counts, clockMs, drain, waitFor } from "./app.ts";
import { FlowHash } from "./lb/flow-hash.ts";
import { Fragments } from "./lb/fragments.ts";
import { packetSlots, type SlotMover, slotBehind, slotMover } from "./slots.ts";

/**
 * `counts[0]` is the input's, `counts[1 + k]` that of pipe k. `burst` is the most packets taken from
 * a ring between two syncs.
 */
export async function lb(
  input: AppPort,
  pipes: readonly AppPort[],
  burst: number,
  counts: readonly Counts[],
  control: Control,
): Promise<void> {
  const total = counts[0]!;
  const outputs = pipes.map((pipe, k) => new Output(input, pipe, counts[k + 1]!));
  const splitter = new Splitter(input, outputs);
  total.begin();
  while (!control.isStopped) {
    if ((await waitFor(input, Poll.IN, total, control)) !== 0) {
      for (const ring of input.rxRings()) splitter.split(ring, burst, total);
    } else if (!splitter.isWaiting) continue;
    splitter.expire(clockMs());
    for (const output of outputs) output.flush();
  }
  splitter.expire(Number.POSITIVE_INFINITY);
  for (const output of outputs) output.flush();
  await drain(pipes, control);
  total.end();
}

class Splitter {
  readonly #input: AppPort;
  readonly #outputs: readonly Output[];
  readonly #flow = new FlowHash();
  readonly #fragments: Fragments;
  readonly #frame = new Frame();

  constructor(input: AppPort, outputs: readonly Output[]) {
    this.#input = input;
    this.#outputs = outputs;
    this.#fragments = new Fragments((hash, bytes) => this.#of(hash).putBytes(bytes));
  }

  #of(hash: number): Output {
    return this.#outputs[hash % this.#outputs.length]!;
  }

  /** Fragments that wait for the first fragment of their datagram. */
  get isWaiting(): boolean {
    return this.#fragments.heldCount > 0;
  }

  expire(now: number): void {
    this.#fragments.expire(now);
  }

  split(ring: NetmapRing, burst: number, total: Counts): void {
    let slot = ring.head;
    let left = ring.space;
    let packets = 0;
    let bytes = 0;
    while (left > 0 && packets < burst) {
      // The sender stopped in the middle of this packet.
      const slots = packetSlots(ring, slot, left) || left;
      bytes += this.#gather(ring, slot, slots);
      this.#flow.look(this.#frame);
      slot =
        this.#flow.depth === 0
          ? this.#of(this.#flow.hash).put(ring, slot, slots)
          : this.#fragment(ring, slot, slots);
      left -= slots;
      packets++;
    }
    if (packets === 0) return;
    ring.advance(slot);
    total.add(packets, bytes);
  }

  /** A packet that is a fragment, or carries one. Returns the slot behind it. */
  #fragment(ring: NetmapRing, first: number, slots: number): number {
    const now = clockMs();
    const { ids, depth, isLater } = this.#flow;
    let { hash } = this.#flow;
    if (isLater) {
      const last = 2 * (depth - 1);
      const known = this.#fragments.find(ids[last]!, ids[last + 1]!, now);
      if (known < 0) {
        const copy = new Uint8Array(this.#frame.length);
        this.#frame.copyTo(copy, 0, 0, copy.length);
        const outer = ids.slice(0, last);
        this.#fragments.hold(ids[last]!, ids[last + 1]!, hash, copy, now, outer);
        return slotBehind(ring, first, slots);
      }
      hash = known;
    }
    const next = this.#of(hash).put(ring, first, slots);
    // A tunnel's fragment may carry the first or a later fragment of what is inside.
    const firsts = isLater ? depth - 1 : depth;
    for (let n = 0; n < firsts; n++) {
      this.#fragments.remember(ids[2 * n]!, ids[2 * n + 1]!, hash, now);
    }
    return next;
  }

  /** Joins the slots of a packet. Returns the bytes of the frame. */
  #gather(ring: NetmapRing, first: number, slots: number): number {
    const frame = this.#frame;
    frame.reset();
    let slot = first;
    for (let n = 0; n < slots; n++) {
      frame.push(this.#input.bytes, this.#input.bufferAt(ring.bufIdx(slot)), ring.len(slot));
      slot = ring.next(slot);
    }
    return frame.length;
  }
}

/** One pipe's transmit ring. */
class Output {
  readonly #pipe: AppPort;
  readonly #counts: Counts;
  readonly #ring: NetmapRing;
  readonly #move: SlotMover;
  #packets = 0;
  #bytes = 0;

  constructor(input: AppPort, pipe: AppPort, counts: Counts) {
    this.#pipe = pipe;
    this.#counts = counts;
    this.#ring = pipe.txRing(pipe.firstTx);
    this.#move = slotMover(input, pipe);
    counts.begin();
  }

  /** Takes a packet, or drops it when there is no room. Returns the slot behind it. */
  put(rx: NetmapRing, first: number, slots: number): number {
    const tx = this.#ring;
    if (tx.space < slots) {
      this.#counts.addDrops(1);
      return slotBehind(rx, first, slots);
    }
    let from = first;
    let to = tx.head;
    for (let n = 0; n < slots; n++) {
      this.#bytes += rx.len(from);
      this.#move(rx, from, tx, to);
      from = rx.next(from);
      to = tx.next(to);
    }
    tx.advance(to);
    this.#packets++;
    return from;
  }

  /** As `put`, for a packet that was copied out of its slots. */
  putBytes(bytes: Uint8Array): void {
    const tx = this.#ring;
    const { bufSize } = this.#pipe;
    const slots = Math.ceil(bytes.length / bufSize);
    if (tx.space < slots) {
      this.#counts.addDrops(1);
      return;
    }
    let to = tx.head;
    for (let at = 0; at < bytes.length; at += bufSize) {
      const length = Math.min(bufSize, bytes.length - at);
      const into = this.#pipe.bufferAt(tx.bufIdx(to));
      copyBytes(bytes, at, this.#pipe.bytes, into, length);
      tx.setLen(to, length);
      tx.setSlotFlags(to, at + length < bytes.length ? Ns.MOREFRAG : 0);
      to = tx.next(to);
    }
    tx.advance(to);
    this.#packets++;
    this.#bytes += bytes.length;
  }

  flush(): void {
    // Sync even without new packets: only a sync returns the slots that the reader released.
    this.#pipe.txsync();
    if (this.#packets > 0) this.#counts.add(this.#packets, this.#bytes);
    this.#packets = 0;
    this.#bytes = 0;
  }
}
