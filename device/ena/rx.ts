/**
 * Receive: a frame of the segment goes into the buffers that the driver posted.
 *
 *   ring (driver writes)      stack (device's)                      CQ (device writes)
 *   | desc | desc | desc | -> | announced first ... used next | ... -> | cdesc | cdesc |
 *
 * Descriptors are read when they are announced, each once, checked, and moved to the stack. The
 * buffers that were announced last are used first, because their memory is still in the driver's
 * cache. Buffers of one doorbell are used in the order of the ring. Any order is legal, because the
 * completion names a buffer by request id. The bytes are written before the completion, and
 * completions are sent when the burst ends.
 */
import { rxCdesc, rxDesc } from "../../shared/ena/io.ts";
import type { Frame } from "../../shared/net/frame.ts";
import type { Cut } from "../../shared/net/segment.ts";
import { advance } from "../../shared/ring/index16.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import type { EnaRequest } from "../../shared/wire/link-state.ts";
import { type BusAddresses, busAddresses, RecordType, Space } from "../../shared/wire/records.ts";
import { DropReason } from "../switch/port.ts";
import type { CompletionQueue } from "./completion-queue.ts";
import { ADDRESS_END, type EnaContext, MAX_PACKET_DESCS } from "./context.ts";
import type { DescriptorRing } from "./memory.ts";
import { IdSet } from "./request-ids.ts";
import { SubmissionQueue } from "./submission-queue.ts";

/** Number of buffers among which one is picked when buffers are used in random order. */
const SHUFFLE_DEPTH = 16;
/** Most bytes used of a buffer that is longer than a wire record. */
const MAX_BUFFER_BYTES = 0xffff;

export class RxQueue extends SubmissionQueue {
  overruns = 0;
  /** The stack. It has room for a whole ring, and for the buffers of one more packet. */
  readonly #addresses: BusAddresses;
  readonly #lengths: Uint16Array;
  readonly #reqIds: Uint16Array;
  #free = 0;
  /** Request ids of the buffers in the stack. */
  readonly #held = new IdSet();

  constructor(context: EnaContext, ring: DescriptorRing, cq: CompletionQueue) {
    super("rx", context, ring, cq);
    const room = ring.depth + MAX_PACKET_DESCS;
    this.#addresses = busAddresses(room);
    this.#lengths = new Uint16Array(room);
    this.#reqIds = new Uint16Array(room);
  }

  /** Number of empty buffers that the device holds or can read. */
  get buffers(): number {
    return this.#free + this.ring.readable;
  }

  /** Returns the buffers that the device holds or can read, in the order of their use. */
  outstanding(): EnaRequest[] {
    const { ring } = this;
    const requests: EnaRequest[] = [];
    for (let i = this.#free - 1; i >= 0; i--) {
      requests.push({ reqId: this.#reqIds[i]!, address: this.#addresses[i]! });
    }
    for (let i = 0; i < ring.readable; i++) {
      const at = ring.at(i);
      requests.push({ reqId: rxDesc.reqId(ring.view, at), address: rxDesc.address(ring.view, at) });
    }
    return requests;
  }

  override doorbell(value: number): void {
    super.doorbell(value);
    this.fetch();
  }

  /** Moves the announced descriptors that can be read from the ring to the stack. */
  fetch(): void {
    const { ring } = this;
    const { view } = ring;
    // A driver that posts no more buffers than a ring has never waits for room here.
    const count = Math.min(ring.readable, this.#reqIds.length - this.#free);
    if (count === 0 || this.stopped !== "") return;
    for (let i = 0; i < count; i++) {
      const at = ring.at(i);
      const phase = rxDesc.phase(view, at);
      const reqId = rxDesc.reqId(view, at);
      const length = rxDesc.length(view, at);
      const address = rxDesc.address(view, at);
      if (phase !== ring.phase(i)) {
        const index = advance(ring.cursor.head, i);
        this.stop("RX_WRONG_PHASE", `descriptor ${index} was announced but carries the old phase`);
        return;
      }
      if (address + length > ADDRESS_END) {
        const where = `0x${address.toString(16)}`;
        this.stop("RX_ADDRESS_RANGE", `buffer at ${where} leaves the address space`);
        return;
      }
      if (this.#held.has(reqId)) {
        // Hardware does not track receive ids. It uses the buffer, and the driver detects the error.
        this.context.note(
          "RX_REQ_ID_IN_FLIGHT",
          `rx queue ${this.index}: request id ${reqId} was posted again before it completed`,
        );
      }
      this.#held.add(reqId);
      const to = this.#free + count - 1 - i;
      this.#addresses[to] = address;
      this.#lengths[to] = Math.min(length, MAX_BUFFER_BYTES);
      this.#reqIds[to] = reqId;
    }
    ring.cursor.skip(count);
    this.#free += count;
  }

  /**
   * Returns true if there are buffers, used in order, for `frames` frames of `length` bytes. It is
   * also true for a frame that would be dropped in any case. Half a ring of buffers is always
   * enough, because drivers refill late.
   */
  ready(length: number, frames: number): boolean {
    if (this.stopped !== "") return true;
    const enough = this.ring.depth >>> 1;
    const have = this.#free;
    let used = 0;
    for (let frame = 0; frame < frames; frame++) {
      let need = length;
      const most = used + MAX_PACKET_DESCS;
      while (need > 0 && used < most) {
        if (used === enough) return true;
        if (used === have) return false;
        need -= this.#lengths[have - ++used]!;
      }
    }
    return true;
  }

  /** Delivers the frame, or returns the reason for a drop. A drop uses no buffer. */
  deliver(frame: Frame, verdict: number, hash: number): DropReason | undefined {
    frame.queue = this.index;
    if (this.stopped !== "") return DropReason.RX_OVERRUN;
    if (this.context.pick !== undefined) this.#shuffle(this.context.pick);
    const count = this.#buffersFor(frame.length);
    if (count === 0) {
      this.overruns++;
      return DropReason.RX_OVERRUN;
    }
    if (count < 0) return DropReason.TOO_BIG;
    const { writer } = this.context.host.memory;
    let from = 0;
    for (let i = 0; i < count; i++) {
      const buffer = --this.#free;
      const length = Math.min(this.#lengths[buffer]!, frame.length - from);
      const to = this.#addresses[buffer]!;
      const at = writer.reserve(Op.WRITE, Space.BUS, to, RecordType.FRAME, length);
      frame.copyTo(writer.outgoing, at, from, length);
      from += length;
      this.#complete(this.#reqIds[buffer]!, i, count, length, verdict, hash);
    }
    this.packets++;
    this.bytes += frame.length;
    if (this.ring.readable > 0) this.fetch();
    return undefined;
  }

  /**
   * Builds the next segment in one buffer. Returns false, with nothing done, when `deliver` has to
   * look closer.
   */
  build(cut: Cut, verdict: number, hash: number): boolean {
    const { context } = this;
    const { host } = context;
    const length = cut.nextBytes;
    if (this.#free === 0 || this.stopped !== "" || context.pick !== undefined) return false;
    const buffer = this.#free - 1;
    if (this.#lengths[buffer]! < length || !host.askForRoom()) return false;
    this.#free = buffer;
    const { writer } = host.memory;
    const to = this.#addresses[buffer]!;
    const at = writer.reserve(Op.WRITE, Space.BUS, to, RecordType.FRAME, length);
    cut.build(writer.outgoing, at);
    this.#complete(this.#reqIds[buffer]!, 0, 1, length, verdict, hash);
    this.packets++;
    this.bytes += length;
    if (this.ring.readable > 0) this.fetch();
    return true;
  }

  override close(): void {
    super.close();
    this.#free = 0;
  }

  /** Returns the number of buffers for `length` bytes, 0 if there are too few, or -1 if no number is enough. */
  #buffersFor(length: number): number {
    let need = length;
    let count = 0;
    while (need > 0) {
      if (count === MAX_PACKET_DESCS) {
        this.context.note(
          "RX_BUFFERS_TOO_SMALL",
          `rx queue ${this.index}: ${length} bytes need more than ${count} buffers`,
        );
        return -1;
      }
      if (count === this.#free) return 0;
      count++;
      need -= this.#lengths[this.#free - count]!;
    }
    return count;
  }

  #complete(
    reqId: number,
    i: number,
    count: number,
    length: number,
    verdict: number,
    hash: number,
  ): void {
    const { ring } = this.cq;
    const last = i === count - 1;
    this.#held.delete(reqId);
    rxCdesc.write(
      ring.view,
      ring.at,
      last ? verdict : 0,
      ring.cursor.phase,
      i === 0 ? 1 : 0,
      last ? 1 : 0,
      length,
      reqId,
      hash,
      this.index,
      0,
    );
    ring.next();
  }

  /** Puts the next buffers in a random order. */
  #shuffle(pick: (n: number) => number): void {
    const window = Math.min(SHUFFLE_DEPTH, this.#free);
    const most = Math.min(MAX_PACKET_DESCS, window);
    for (let i = 1; i <= most; i++)
      this.#swap(this.#free - i, this.#free - i - pick(window + 1 - i));
  }

  #swap(a: number, b: number): void {
    const address = this.#addresses[a]!;
    const length = this.#lengths[a]!;
    const reqId = this.#reqIds[a]!;
    this.#addresses[a] = this.#addresses[b]!;
    this.#lengths[a] = this.#lengths[b]!;
    this.#reqIds[a] = this.#reqIds[b]!;
    this.#addresses[b] = address;
    this.#lengths[b] = length;
    this.#reqIds[b] = reqId;
  }
}
