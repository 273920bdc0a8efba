/**
 * Receive: a frame of the segment goes into the buffers that the driver posted.
 *
 *   ring (driver writes)      pool (device's)               CQ (device writes)
 *   | desc | desc | desc | -> | address length reqId | ... -> | cdesc | cdesc |
 *
 * A descriptor is read once, checked, and moved to the pool. Buffers of the pool may be used in any
 * order, because the completion names a buffer by request id. The bytes are written before the
 * completion, and completions are sent when the burst ends.
 */
import { rxCdesc, rxDesc } from "../../shared/ena/io.ts";
import type { Frame } from "../../shared/net/frame.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import type { EnaRequest } from "../../shared/wire/link-state.ts";
import { busAddresses, RecordType, Space } from "../../shared/wire/records.ts";
import { DropReason } from "../switch/port.ts";
import type { CompletionQueue } from "./completion-queue.ts";
import { ADDRESS_END, type EnaContext, MAX_PACKET_DESCS } from "./context.ts";
import type { DescriptorRing } from "./memory.ts";
import { RxIds } from "./request-ids.ts";
import { SubmissionQueue } from "./submission-queue.ts";

/** Number of descriptors held in the pool when buffers are used out of order. */
const SHUFFLE_DEPTH = 16;
const POOL = MAX_PACKET_DESCS + SHUFFLE_DEPTH;
/** Most bytes used of a buffer that is longer than a wire record. */
const MAX_BUFFER_BYTES = 0xffff;

export class RxQueue extends SubmissionQueue {
  overruns = 0;
  readonly #addresses = busAddresses(POOL);
  readonly #lengths = new Int32Array(POOL);
  readonly #reqIds = new Int32Array(POOL);
  #pooled = 0;
  readonly #inFlight: RxIds;

  constructor(context: EnaContext, ring: DescriptorRing, cq: CompletionQueue) {
    super("rx", context, ring, cq);
    this.#inFlight = new RxIds(ring.depth + POOL);
  }

  /** Number of empty buffers that the device holds or can read. */
  get buffers(): number {
    return this.#pooled + this.ring.readable;
  }

  /** Returns the buffers that the device holds or can read, oldest first. */
  outstanding(): EnaRequest[] {
    const { ring } = this;
    const requests: EnaRequest[] = [];
    for (let i = 0; i < this.#pooled; i++) {
      requests.push({ reqId: this.#reqIds[i]!, address: this.#addresses[i]! });
    }
    for (let i = 0; i < ring.readable; i++) {
      const at = ring.at(i);
      requests.push({ reqId: rxDesc.reqId(ring.view, at), address: rxDesc.address(ring.view, at) });
    }
    return requests;
  }

  /**
   * Returns true if there are buffers, used in order, for `frames` frames of `length` bytes. It is
   * also true for a frame that would be dropped in any case. Half a ring of buffers is always
   * enough, because drivers refill late.
   */
  ready(length: number, frames: number): boolean {
    if (this.stopped !== "") return true;
    const { ring } = this;
    const enough = ring.depth >>> 1;
    const have = this.buffers;
    let used = 0;
    for (let frame = 0; frame < frames; frame++) {
      let need = length;
      const most = used + MAX_PACKET_DESCS;
      while (need > 0 && used < most) {
        if (used === enough) return true;
        if (used === have) return false;
        need -= this.#lengthAt(used++);
      }
    }
    return true;
  }

  /** Delivers the frame, or returns the reason for a drop. A drop uses no buffer. */
  deliver(frame: Frame, verdict: number, hash: number): DropReason | undefined {
    frame.queue = this.index;
    if (this.stopped !== "") return DropReason.RX_OVERRUN;
    const count = this.#collect(frame.length);
    if (count === 0) {
      this.overruns++;
      return DropReason.RX_OVERRUN;
    }
    if (count < 0) return this.stopped !== "" ? DropReason.RX_OVERRUN : DropReason.TOO_BIG;
    const { writer } = this.context.host.memory;
    let from = 0;
    for (let i = 0; i < count; i++) {
      const length = Math.min(this.#lengths[i]!, frame.length - from);
      const to = this.#addresses[i]!;
      const at = writer.reserve(Op.WRITE, Space.BUS, to, RecordType.FRAME, length);
      frame.copyTo(writer.outgoing, at, from, length);
      from += length;
      this.#complete(i, count, length, verdict, hash);
    }
    this.#use(count);
    this.packets++;
    this.bytes += frame.length;
    return undefined;
  }

  override close(): void {
    super.close();
    this.#pooled = 0;
  }

  /**
   * Brings enough descriptors for `length` bytes to the front of the pool. Returns their number, 0
   * if there are too few, or -1 if no number would be enough.
   */
  #collect(length: number): number {
    const pick = this.context.pick;
    if (pick !== undefined) while (this.#pooled < SHUFFLE_DEPTH && this.#fetch());
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
      if (count === this.#pooled && !this.#fetch()) return this.stopped === "" ? 0 : -1;
      if (pick !== undefined) this.#swap(count, count + pick(this.#pooled - count));
      need -= this.#lengths[count]!;
      count++;
    }
    return count;
  }

  /** Returns the length of the buffer `ahead` places on: in the pool, or unchecked in the ring. */
  #lengthAt(ahead: number): number {
    if (ahead < this.#pooled) return this.#lengths[ahead]!;
    const { ring } = this;
    return Math.min(rxDesc.length(ring.view, ring.at(ahead - this.#pooled)), MAX_BUFFER_BYTES);
  }

  /** Moves a descriptor from ring to pool. Returns false if there is none, or the queue stopped. */
  #fetch(): boolean {
    const { ring } = this;
    if (ring.readable === 0) return false;
    const { view } = ring;
    const at = ring.at(0);
    const phase = rxDesc.phase(view, at);
    const reqId = rxDesc.reqId(view, at);
    const length = rxDesc.length(view, at);
    const address = rxDesc.address(view, at);
    if (phase !== ring.cursor.phase) {
      this.stop(
        "RX_WRONG_PHASE",
        `descriptor ${ring.cursor.head} was announced but carries the old phase`,
      );
      return false;
    }
    if (address + length > ADDRESS_END) {
      this.stop("RX_ADDRESS_RANGE", `buffer at 0x${address.toString(16)} leaves the address space`);
      return false;
    }
    if (!this.#inFlight.take(reqId)) {
      // Hardware does not track receive ids. It uses the buffer, and the driver detects the error.
      this.context.note(
        "RX_REQ_ID_IN_FLIGHT",
        `rx queue ${this.index}: request id ${reqId} was posted again before it completed`,
      );
    }
    ring.cursor.next();
    const n = this.#pooled++;
    this.#addresses[n] = address;
    this.#lengths[n] = Math.min(length, MAX_BUFFER_BYTES);
    this.#reqIds[n] = reqId;
    return true;
  }

  #complete(i: number, count: number, length: number, verdict: number, hash: number): void {
    const { ring } = this.cq;
    const last = i === count - 1;
    const reqId = this.#reqIds[i]!;
    this.#inFlight.complete(reqId, this.ring.announced);
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

  #use(count: number): void {
    const left = this.#pooled - count;
    for (let i = 0; i < left; i++) {
      this.#addresses[i] = this.#addresses[i + count]!;
      this.#lengths[i] = this.#lengths[i + count]!;
      this.#reqIds[i] = this.#reqIds[i + count]!;
    }
    this.#pooled = left;
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
