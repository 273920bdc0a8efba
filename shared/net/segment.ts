/**
 * Segmentation in software (GSO), and the finishing of a partial checksum.
 *
 *   super-frame   | headers | payload ........................ |
 *   segment       | rewritten headers | gsoSize bytes of it     |   every checksum complete
 *                   scratch memory      spans into the original
 *
 * Nothing is allocated and no payload byte is copied for keeps: a segment is a scratch frame that
 * holds until the sink returns, and the super-frame is not changed. The facts come from a peer, so
 * what does not fit together is refused with a reason, never thrown.
 *
 * Source: virtio 1.2, 5.1.6.2 (the facts); RFC 9293 and RFC 3168 6.1.2 (CWR is said once); the
 * per-segment rules are those of Linux: net/ipv4/tcp_offload.c (tcp_gso_segment).
 */

import { ArenaOffset } from "../bytes/arena.ts";
import { copyBytes } from "../bytes/copy.ts";
import { put16 } from "./big-endian.ts";
import {
  finishChecksum,
  finishUdpChecksum,
  gather,
  sumArena,
  sumBytes,
  sumFrame,
  sumGathered,
  sumPseudoHeader,
  sumShort,
} from "./checksum.ts";
import { Frame, Gso, MAX_SPANS } from "./frame.ts";
import {
  HEADER_WINDOW_BYTES,
  type Headers,
  IPV4_CHECKSUM,
  IPV4_ID,
  IPV4_LENGTH,
  IPV6_HEADER_BYTES,
  IPV6_LENGTH,
  L3,
  L4,
  Problem,
  TCP_CHECKSUM,
  TCP_FLAGS,
  TCP_OFFSET,
  TCP_SEQUENCE,
  TcpFlag,
} from "./headers.ts";

/** Reasons for which the facts of a frame can't be honoured. */
export const Refusal = {
  /** A GSO type that is not TCP, or a checksum that is not the internet checksum (SCTP's). */
  UNSUPPORTED: "unsupported",
  /** The GSO type names another protocol than the headers do, or the headers are broken. */
  HEADERS: "headers",
  /** The segment size is zero, or so small that only an attack would ask for it. */
  GSO_SIZE: "gso_size",
  /** SYN or RST in a frame that would become several segments. */
  TCP_FLAGS: "tcp_flags",
  /** The checksum lies outside the frame, or at another place than the headers require. */
  CSUM_RANGE: "csum_range",
  /** The result would have one span more than a frame can have. */
  SPANS: "spans",
} as const;
export type Refusal = (typeof Refusal)[keyof typeof Refusal];

/** Linux's floor (TCP_MIN_GSO_SIZE): the least MSS, 48, less all of the TCP options. */
export const MIN_GSO_SIZE = 8;
const MAX_SEGMENTS = Math.ceil(65535 / MIN_GSO_SIZE);

const SCTP_CHECKSUM = 8;

export interface SegmentSink {
  /** Accepts one segment. The segmenter reuses the frame after this call. */
  segment(frame: Frame): void;
}

/** The segments of a super-frame for a receiver that copies them anyway: it has them built there. */
export interface Cut {
  /** Headers of the super-frame. Those of the segments differ in lengths and checksums only. */
  readonly headers: Headers;
  /** Bytes of the next segment, 0 behind the last one. */
  readonly nextBytes: number;
  /** Builds the next segment, complete with checksums, at `to[at]`. The bytes must fit. */
  build(to: Uint8Array, at: number): void;
}

/** Returns the bytes of payload to be cut. `h` holds the super-frame's headers. */
const payloadBytes = (h: Headers): number => h.l3End - h.payloadOffset;

/** Returns the bytes of the longest segment of a super-frame that `checkGso` accepts. */
export function longestSegment(frame: Frame): number {
  const h = frame.headers();
  return h.payloadOffset + Math.min(frame.gsoSize, payloadBytes(h));
}

/** Returns the number of segments of a super-frame that `checkGso` accepts. */
export const segmentCount = (frame: Frame): number =>
  Math.max(1, Math.ceil(payloadBytes(frame.headers()) / frame.gsoSize));

/** Returns the reason why this super-frame can't be cut, or undefined when it can. */
export function checkGso(frame: Frame): Refusal | undefined {
  const h = frame.headers();
  if (frame.gso !== Gso.TCPV4 && frame.gso !== Gso.TCPV6) return Refusal.UNSUPPORTED;
  // A sender may leave the total length to the segmenter. The packet then ends with the frame.
  const unstated = h.problems === Problem.L3_LENGTH && h.l3StatedLength === 0;
  if ((h.problems !== 0 && !unstated) || h.fragment || h.l4 !== L4.TCP) return Refusal.HEADERS;
  if (h.l3 !== (frame.gso === Gso.TCPV4 ? L3.IPV4 : L3.IPV6)) return Refusal.HEADERS;
  if (frame.headerLength > frame.length) return Refusal.HEADERS;
  if (frame.gsoSize < MIN_GSO_SIZE || frame.gsoSize > 65535) return Refusal.GSO_SIZE;
  const payload = payloadBytes(h);
  if (payload > 65535) return Refusal.HEADERS;
  if (frame.needsCsum && (frame.csumStart !== h.l4Offset || frame.csumOffset !== TCP_CHECKSUM)) {
    return Refusal.CSUM_RANGE;
  }
  const several = payload > frame.gsoSize;
  const flags = h.u8(h.l4Offset + TCP_FLAGS);
  if (several && (flags & (TcpFlag.SYN | TcpFlag.RST)) !== 0) return Refusal.TCP_FLAGS;
  return undefined;
}

export class Segmenter implements Cut {
  readonly #out = new Frame();
  readonly #header = new Uint8Array(HEADER_WINDOW_BYTES);
  /** Grows with the first super-frame that needs it: most NICs send none. */
  #payloadSums = new Uint16Array(0);

  // The super-frame being cut.
  #frame = this.#out;
  headers: Headers = this.#out.headers();
  #headerLength = 0;
  #payload = 0;
  #mss = 0;
  #flags = 0;
  /** Sums of the headers without the fields that differ from segment to segment. */
  #l3Sum = 0;
  #l4Sum = 0;
  // Its next segment.
  /** Signed, because V8 boxes larger numbers. */
  #sequence = 0;
  #id = 0;
  /** Payload bytes that are not cut yet. They begin `#skip` bytes into span `#span`. */
  #left = 0;
  #span = 0;
  #skip = 0;
  /** Number of segments built in place, and their bytes. */
  built = 0;
  builtBytes = 0;
  nextBytes = 0;

  /** Finds the memory of the segments that are built in place. */
  readonly #built = new ArenaOffset();

  /**
   * Completes `frame` in software and passes the frame, or its segments in order, to `sink`. Returns
   * the reason when facts or headers are bad. `sink` is not called then.
   */
  complete(frame: Frame, sink: SegmentSink): Refusal | undefined {
    if (frame.gso !== Gso.NONE) return this.segment(frame, sink);
    const finished = this.finish(frame);
    if (typeof finished === "string") return finished;
    sink.segment(finished);
    return undefined;
  }

  /** Cuts a TCP super-frame and passes the segments to `sink` in order. Returns as `complete`. */
  segment(frame: Frame, sink: SegmentSink): Refusal | undefined {
    const refusal = this.begin(frame);
    if (refusal === undefined) this.rest(sink);
    return refusal;
  }

  /** Begins to cut a TCP super-frame, whose segments `build` and `rest` give. Returns as `complete`. */
  begin(frame: Frame): Refusal | undefined {
    const refusal = checkGso(frame);
    if (refusal !== undefined) return refusal;
    const h = frame.headers();
    if (frame.count === MAX_SPANS && h.payloadOffset < frame.lengths[0]!) return Refusal.SPANS;

    const header = this.#header;
    const l3 = h.l3Offset;
    const l4 = h.l4Offset;
    const v4 = h.l3 === L3.IPV4;
    const pseudoSum = sumPseudoHeader(h, 0);
    this.#frame = frame;
    this.headers = h;
    this.#headerLength = h.payloadOffset;
    this.#payload = payloadBytes(h);
    this.#mss = frame.gsoSize;
    frame.copyTo(header, 0, 0, h.payloadOffset);
    this.#flags = get16(header, l4 + TCP_OFFSET);
    this.#sequence =
      (get16(header, l4 + TCP_SEQUENCE) << 16) | get16(header, l4 + TCP_SEQUENCE + 2);
    this.#id = get16(header, l3 + IPV4_ID);
    // What stays the same in all segments is summed once, the changing fields being zero.
    if (v4) {
      put16(header, l3 + IPV4_LENGTH, 0);
      put16(header, l3 + IPV4_ID, 0);
      put16(header, l3 + IPV4_CHECKSUM, 0);
    }
    put16(header, l4 + TCP_OFFSET, 0);
    put16(header, l4 + TCP_SEQUENCE, 0);
    put16(header, l4 + TCP_SEQUENCE + 2, 0);
    put16(header, l4 + TCP_CHECKSUM, 0);
    this.#l3Sum = v4 ? sumShort(header, l3, h.l3HeaderLength) : 0;
    this.#l4Sum = sumShort(header, l4, h.l4HeaderLength) + pseudoSum;

    this.#left = this.#payload;
    this.#span = 0;
    this.#skip = h.payloadOffset;
    this.built = 0;
    this.builtBytes = 0;
    this.nextBytes = this.#headerLength + Math.min(this.#mss, this.#left);
    return undefined;
  }

  build(to: Uint8Array, at: number): void {
    const frame = this.#frame;
    const bytes = Math.min(this.#mss, this.#left);
    const from = at + this.#headerLength;
    copyBytes(this.#header, 0, to, at, this.#headerLength);
    let put = from;
    for (let left = bytes; left > 0; ) {
      const n = this.#piece(left);
      copyBytes(frame.buffers[this.#span]!, frame.offsets[this.#span]! + this.#skip, to, put, n);
      this.#skip += n;
      put += n;
      left -= n;
    }
    const offset = this.#built.of(to);
    const sum = offset < 0 ? sumBytes(to, from, bytes) : sumArena(offset + from, bytes);
    this.built++;
    this.builtBytes += this.#headerLength + bytes;
    this.#setFields(to, at, bytes, sum);
  }

  /** Passes the segments that are not built yet to `sink`, in order. */
  rest(sink: SegmentSink): void {
    if (this.nextBytes === 0) return;
    const frame = this.#frame;
    const h = this.headers;
    // The receiver of the first segment may overwrite the gathered bytes.
    this.#sumPayload(frame, this.#payload - this.#left);
    for (let i = 0; this.nextBytes > 0; i++) {
      const bytes = Math.min(this.#mss, this.#left);
      this.#setFields(this.#header, 0, bytes, this.#payloadSums[i]!);
      const out = this.#begin(frame, this.#headerLength);
      for (let left = bytes; left > 0; ) {
        const n = this.#piece(left);
        out.push(frame.buffers[this.#span]!, frame.offsets[this.#span]! + this.#skip, n);
        this.#skip += n;
        left -= n;
      }
      out.adoptHeaders(h).endAt(out.length);
      sink.segment(out);
    }
  }

  /** Moves on to the span with the next payload byte. Returns its bytes there, at most `most`. */
  #piece(most: number): number {
    const { lengths } = this.#frame;
    while (this.#skip >= lengths[this.#span]!) this.#skip -= lengths[this.#span++]!;
    return Math.min(most, lengths[this.#span]! - this.#skip);
  }

  /** Sets the fields of the next segment's header at `bytes[at]`, and goes on to the one behind it. */
  #setFields(bytes: Uint8Array, at: number, payload: number, payloadSum: number): void {
    const h = this.headers;
    const l4Length = h.l4HeaderLength + payload;
    const l3 = at + h.l3Offset;
    const l4 = at + h.l4Offset;
    const sequence = this.#sequence;
    let flags = this.#flags;
    if (this.#left !== this.#payload) flags &= ~TcpFlag.CWR;
    if (this.#left > payload) flags &= ~(TcpFlag.PSH | TcpFlag.FIN);
    if (h.l3 === L3.IPV4) {
      const id = this.#id;
      const total = h.l3HeaderLength + l4Length;
      put16(bytes, l3 + IPV4_LENGTH, total);
      put16(bytes, l3 + IPV4_ID, id);
      put16(bytes, l3 + IPV4_CHECKSUM, finishChecksum(this.#l3Sum + total + id));
      this.#id = (id + 1) & 0xffff;
    } else {
      put16(bytes, l3 + IPV6_LENGTH, h.l3HeaderLength - IPV6_HEADER_BYTES + l4Length);
    }
    put16(bytes, l4 + TCP_OFFSET, flags);
    put16(bytes, l4 + TCP_SEQUENCE, sequence >>> 16);
    put16(bytes, l4 + TCP_SEQUENCE + 2, sequence & 0xffff);
    const sum =
      this.#l4Sum + flags + (sequence >>> 16) + (sequence & 0xffff) + l4Length + payloadSum;
    put16(bytes, l4 + TCP_CHECKSUM, finishChecksum(sum));
    this.#sequence = (sequence + payload) | 0;
    this.#left -= payload;
    this.nextBytes = this.#left === 0 ? 0 : this.#headerLength + Math.min(this.#mss, this.#left);
  }

  /**
   * Finishes the partial checksum of a frame that is not GSO. Returns a scratch frame with complete
   * checksum and cleared facts, valid until the next call, or the reason for a refusal. Any protocol
   * works: the sum runs from csumStart to the frame's end and includes the pseudo-header's sum.
   */
  finish(frame: Frame): Frame | Refusal {
    const h = frame.headers();
    const at = frame.csumStart + frame.csumOffset;
    const end = at + 2;
    if (frame.csumStart < 0 || frame.csumOffset < 0 || end > frame.length) {
      return Refusal.CSUM_RANGE;
    }
    if (end > HEADER_WINDOW_BYTES) return Refusal.CSUM_RANGE;
    // SCTP has a CRC. The internet checksum in its place would be wrong.
    if (h.l4 === L4.SCTP && frame.csumOffset === SCTP_CHECKSUM) return Refusal.UNSUPPORTED;
    if (frame.count === MAX_SPANS && end < frame.lengths[0]!) return Refusal.SPANS;

    const sum = sumFrame(frame, frame.csumStart, frame.length - frame.csumStart);
    frame.copyTo(this.#header, 0, 0, end);
    // Zero means "none" in UDP and is the same number as 0xffff in every other protocol.
    put16(this.#header, at, finishUdpChecksum(sum));

    const out = this.#begin(frame, end);
    let skip = end;
    for (let i = 0; i < frame.count; i++) {
      const have = frame.lengths[i]!;
      if (skip < have) out.push(frame.buffers[i]!, frame.offsets[i]! + skip, have - skip);
      skip = Math.max(0, skip - have);
    }
    out.adoptHeaders(h);
    return out;
  }

  #begin(frame: Frame, headerLength: number): Frame {
    const out = this.#out;
    out.reset();
    out.csumValid = true;
    out.id = frame.id;
    out.push(this.#header, 0, headerLength);
    return out;
  }

  /** Sums the payload of each segment from byte `from` of the payload on. */
  #sumPayload(frame: Frame, from: number): void {
    const payload = this.#payload - from;
    const mss = this.#mss;
    gather(frame, this.#headerLength + from, payload);
    if (payload >= mss * this.#payloadSums.length)
      this.#payloadSums = new Uint16Array(MAX_SEGMENTS);
    for (let i = 0, at = 0; i === 0 || at < payload; i++, at += mss) {
      this.#payloadSums[i] = sumGathered(at, Math.min(mss, payload - at));
    }
  }
}

function get16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}
