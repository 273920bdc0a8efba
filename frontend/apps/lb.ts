/**
 * lb: shares the frames of a port out to pipes, all frames of a flow to the same one, both ways of
 * a connection too. After netmap's program of that name.
 *
 *   input.rx ── hash of addresses and ports ──► pipe k: buffers change places ── txsync ──► its reader
 *
 * A pipe whose reader is slow fills up and loses its own frames, counted; nobody waits for it.
 */
import { Frame } from "../../shared/net/frame.ts";
import { Headers } from "../../shared/net/headers.ts";
import { RSS_KEY_BYTES, ToeplitzHash } from "../../shared/net/toeplitz.ts";
import { Poll } from "../netmap/flags.ts";
import type { NetmapRing } from "../netmap/ring.ts";
import { type AppPort, type Control, type Counts, drain, waitFor } from "./app.ts";
import { copySlot, packetSlots, shareMemory, swapSlot } from "./slots.ts";

export interface LbConfig {
  /** Packets taken from a ring between two syncs. */
  readonly burst: number;
}

/** A key whose bytes repeat in pairs: source and destination may change places. */
const SYMMETRIC_KEY = Uint8Array.from({ length: RSS_KEY_BYTES }, (_, i) => (i % 2 ? 0x5a : 0x6d));

/** `counts[0]` is the input's, `counts[1 + k]` that of pipe k. */
export async function lb(
  input: AppPort,
  pipes: readonly AppPort[],
  config: LbConfig,
  counts: readonly Counts[],
  control: Control,
): Promise<void> {
  const total = counts[0]!;
  const outputs = pipes.map((pipe, k) => new Output(input, pipe, counts[k + 1]!));
  const splitter = new Splitter(input, outputs);
  total.begin();
  while (!control.isStopped) {
    if ((await waitFor(input, Poll.IN, total, control)) === 0) continue;
    for (const ring of input.rxRings()) splitter.split(ring, config.burst, total);
    for (const output of outputs) output.flush();
  }
  await drain(pipes, control);
  total.end();
}

class Splitter {
  readonly #input: AppPort;
  readonly #outputs: readonly Output[];
  readonly #hash = new ToeplitzHash(SYMMETRIC_KEY);
  readonly #frame = new Frame();
  readonly #headers = new Headers();

  constructor(input: AppPort, outputs: readonly Output[]) {
    this.#input = input;
    this.#outputs = outputs;
  }

  split(ring: NetmapRing, burst: number, total: Counts): void {
    let slot = ring.head;
    let left = ring.space;
    let packets = 0;
    let bytes = 0;
    while (left > 0 && packets < burst) {
      // A packet without its end is one of a sender who broke off.
      const slots = packetSlots(ring, slot, left) || left;
      bytes += this.#parse(ring, slot, slots);
      const k = this.#hash.hash(this.#headers) % this.#outputs.length;
      slot = this.#outputs[k]!.put(ring, slot, slots);
      left -= slots;
      packets++;
    }
    if (packets === 0) return;
    ring.advance(slot);
    total.add(packets, bytes);
  }

  /** Finds the headers of a packet; returns its bytes. */
  #parse(ring: NetmapRing, first: number, slots: number): number {
    const frame = this.#frame;
    frame.reset();
    let slot = first;
    for (let n = 0; n < slots; n++) {
      frame.push(this.#input.bytes, this.#input.bufferAt(ring.bufIdx(slot)), ring.len(slot));
      slot = ring.next(slot);
    }
    this.#headers.parse(frame);
    return frame.length;
  }
}

/** One pipe's transmit ring. */
class Output {
  readonly #input: AppPort;
  readonly #pipe: AppPort;
  readonly #counts: Counts;
  readonly #ring: NetmapRing;
  readonly #swap: boolean;
  #packets = 0;
  #bytes = 0;

  constructor(input: AppPort, pipe: AppPort, counts: Counts) {
    this.#input = input;
    this.#pipe = pipe;
    this.#counts = counts;
    this.#ring = pipe.txRing(pipe.firstTx);
    this.#swap = shareMemory(input, pipe);
    counts.begin();
  }

  /** Takes a packet, or drops it when there is no room. Returns the slot behind it. */
  put(rx: NetmapRing, first: number, slots: number): number {
    const tx = this.#ring;
    const hasRoom = tx.space >= slots;
    let from = first;
    let to = tx.head;
    for (let n = 0; n < slots; n++) {
      if (hasRoom) {
        this.#bytes += rx.len(from);
        if (this.#swap) swapSlot(rx, from, tx, to);
        else copySlot(this.#input, rx, from, this.#pipe, tx, to);
        to = tx.next(to);
      }
      from = rx.next(from);
    }
    if (hasRoom) {
      tx.advance(to);
      this.#packets++;
    } else {
      this.#counts.addDrops(1);
    }
    return from;
  }

  flush(): void {
    // Also with nothing new: slots that the reader gave back come to us by a sync.
    this.#pipe.txsync();
    if (this.#packets > 0) this.#counts.add(this.#packets, this.#bytes);
    this.#packets = 0;
    this.#bytes = 0;
  }
}
