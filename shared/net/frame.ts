/**
 * A frame on its way through a process: a list of byte spans plus facts about it, never a copy.
 *
 * The offload facts are those of virtio_net_hdr (virtio 1.2, section 5.1.6), because the kernel's
 * TAP speaks them and Xen's extra-info slots map onto them one to one. The facts of its headers are
 * found once, by the first caller of `headers`, and travel with the frame.
 *
 * Ownership: the caller that passes a frame on owns the frame and its bytes. The receiver may read
 * both only during the call, and copies what it keeps. So one scratch frame serves a whole burst.
 */
import { copyBytes } from "../bytes/copy.ts";
import { Headers } from "./headers.ts";

/** virtio 1.2, 5.1.6: gso_type without the ECN bit. */
export const Gso = { NONE: 0, TCPV4: 1, UDP: 3, TCPV6: 4, UDP_L4: 5 } as const;
export type Gso = (typeof Gso)[keyof typeof Gso];

/** Most spans a frame can have: 19 ENA buffers, or 65 pages of 1 KiB, with room to spare. */
export const MAX_SPANS = 96;

/** Longest frame: a 64 KiB IP datagram behind an Ethernet header with two VLAN tags. */
export const MAX_FRAME_BYTES = 65535 + 22;

/**
 * Number of a queue of a NIC. Only the compiler knows the difference to other numbers, so a call
 * that swaps it with a vector, a port or an index does not compile.
 */
export type QueueId = number & { readonly __queueId: unique symbol };
/** Call this only where a queue is created, or its number is decoded from bytes. */
export const queueId = (n: number): QueueId => n as QueueId;
/** Stands for no queue of the NIC. */
export const NO_QUEUE = queueId(-1);

export class Frame {
  /** Spans in order: buffers[i] from offsets[i], lengths[i] bytes. Only the first `count` hold. */
  readonly buffers: Uint8Array[] = new Array<Uint8Array>(MAX_SPANS).fill(EMPTY);
  readonly offsets = new Int32Array(MAX_SPANS);
  readonly lengths = new Int32Array(MAX_SPANS);
  count = 0;
  /** Bytes in all spans. */
  length = 0;

  /** The checksum at csumStart + csumOffset holds only the pseudo-header sum and must be finished. */
  needsCsum = false;
  /** Byte offsets as in virtio_net_hdr: the sum runs from csumStart to the end of the frame. */
  csumStart = 0;
  csumOffset = 0;
  /** True when this program computed or verified the layer-4 checksum, or will by needsCsum. */
  csumValid = false;
  gso: Gso = Gso.NONE;
  /** The TCP stack behind this frame understands ECN (virtio's VIRTIO_NET_HDR_GSO_ECN). */
  gsoEcn = false;
  /** Payload bytes in each segment; 0 when gso is NONE. */
  gsoSize = 0;
  /** Ethernet + IP + TCP header bytes in front of the payload of a GSO frame. */
  headerLength = 0;
  /** Identifies one frame in all captures; 0 when no capture needs it. */
  id = 0;
  /** Queue of the port where the frame was captured last. */
  queue = NO_QUEUE;
  readonly #headers = new Headers();
  #isParsed = false;

  /** Resets all spans and facts for the next frame. */
  reset(): void {
    this.#isParsed = false;
    this.count = 0;
    this.length = 0;
    this.needsCsum = false;
    this.csumStart = 0;
    this.csumOffset = 0;
    this.csumValid = false;
    this.gso = Gso.NONE;
    this.gsoEcn = false;
    this.gsoSize = 0;
    this.headerLength = 0;
    this.id = 0;
    this.queue = NO_QUEUE;
  }

  /** Appends a span. Returns false, changing nothing, when the frame is full. */
  push(buffer: Uint8Array, offset: number, length: number): boolean {
    const i = this.count;
    if (i === MAX_SPANS) return false;
    // Most frames lie in the buffer of the frame before them. A store of an object has a barrier.
    if (this.buffers[i] !== buffer) this.buffers[i] = buffer;
    this.offsets[i] = offset;
    this.lengths[i] = length;
    this.count = i + 1;
    this.length += length;
    return true;
  }

  /** As `push`, but bytes that follow those of the last span in memory join that span. */
  append(buffer: Uint8Array, offset: number, length: number): boolean {
    const last = this.count - 1;
    if (last < 0 || this.buffers[last] !== buffer) return this.push(buffer, offset, length);
    if (this.offsets[last]! + this.lengths[last]! !== offset) {
      return this.push(buffer, offset, length);
    }
    this.lengths[last]! += length;
    this.length += length;
    return true;
  }

  /** Returns the parsed headers. The first call parses, so the spans must be complete by then. */
  headers(): Headers {
    if (!this.#isParsed) this.#headers.parse(this);
    this.#isParsed = true;
    return this.#headers;
  }

  /** The same headers now stand in another first span. */
  headersMoved(): void {
    if (this.#isParsed) this.#headers.movedTo(this);
  }

  /** Adopts the headers `of` of another frame, which this frame has in its own first span. */
  adoptHeaders(of: Headers): Headers {
    this.#headers.adopt(of, this);
    this.#isParsed = true;
    return this.#headers;
  }

  /** Copies `length` bytes from byte `from` of the frame to `dst`; the range must exist. */
  copyTo(dst: Uint8Array, dstAt: number, from: number, length: number): void {
    let skip = from;
    let at = dstAt;
    let left = length;
    for (let i = 0; left > 0; i++) {
      const have = this.lengths[i]!;
      if (skip >= have) {
        skip -= have;
        continue;
      }
      const n = Math.min(left, have - skip);
      copyBytes(this.buffers[i]!, this.offsets[i]! + skip, dst, at, n);
      skip = 0;
      at += n;
      left -= n;
    }
  }

  /** Copies the bytes to memory of the frame's own: for a frame that has to wait. */
  keep(): void {
    const { length } = this;
    const bytes = new Uint8Array(length);
    this.copyTo(bytes, 0, 0, length);
    this.count = 0;
    this.length = 0;
    this.push(bytes, 0, length);
    this.headersMoved();
  }

  /** Returns the byte at `at`, or -1 beyond the end. For headers only: too slow for a payload. */
  byteAt(at: number): number {
    let skip = at;
    for (let i = 0; i < this.count; i++) {
      const have = this.lengths[i]!;
      if (skip < have) return this.buffers[i]![this.offsets[i]! + skip]!;
      skip -= have;
    }
    return -1;
  }
}

const EMPTY = new Uint8Array(0);
