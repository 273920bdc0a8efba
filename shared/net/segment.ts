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
import {
  finishChecksum,
  finishUdpChecksum,
  gather,
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

export class Segmenter {
  readonly #out = new Frame();
  readonly #header = new Uint8Array(HEADER_WINDOW_BYTES);
  readonly #view = new DataView(this.#header.buffer);
  /** Grows with the first super-frame: most NICs send none. */
  #payloadSums = new Uint16Array(0);

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
    const refusal = checkGso(frame);
    if (refusal !== undefined) return refusal;
    const h = frame.headers();
    if (frame.count === MAX_SPANS && h.payloadOffset < frame.lengths[0]!) return Refusal.SPANS;

    const view = this.#view;
    const header = this.#header;
    const headerLength = h.payloadOffset;
    const payload = payloadBytes(h);
    const mss = frame.gsoSize;
    const count = segmentCount(frame);
    const l3 = h.l3Offset;
    const l4 = h.l4Offset;
    const v4 = h.l3 === L3.IPV4;
    const l3HeaderLength = h.l3HeaderLength;
    const l4HeaderLength = h.l4HeaderLength;

    // The receiver of the first segment may overwrite the arena and the parsed headers, so this
    // method reads all that it needs of them before.
    this.#sumPayload(frame, headerLength, payload, mss, count);
    const pseudoSum = sumPseudoHeader(h, 0);
    frame.copyTo(header, 0, 0, headerLength);

    const flags = view.getUint16(l4 + TCP_OFFSET);
    let sequence = view.getUint32(l4 + TCP_SEQUENCE);
    let id = view.getUint16(l3 + IPV4_ID);
    // What stays the same in all segments is summed once, the changing fields being zero.
    if (v4) {
      view.setUint16(l3 + IPV4_LENGTH, 0);
      view.setUint16(l3 + IPV4_ID, 0);
      view.setUint16(l3 + IPV4_CHECKSUM, 0);
    }
    view.setUint16(l4 + TCP_OFFSET, 0);
    view.setUint32(l4 + TCP_SEQUENCE, 0);
    view.setUint16(l4 + TCP_CHECKSUM, 0);
    const l3Sum = v4 ? sumShort(header, l3, l3HeaderLength) : 0;
    const l4Sum = sumShort(header, l4, l4HeaderLength) + pseudoSum;

    let span = 0;
    let skip = headerLength;
    let left = payload;
    for (let i = 0; i < count; i++) {
      const bytes = Math.min(mss, left);
      const l4Length = l4HeaderLength + bytes;
      let own = flags;
      if (i > 0) own &= ~TcpFlag.CWR;
      if (i < count - 1) own &= ~(TcpFlag.PSH | TcpFlag.FIN);

      if (v4) {
        const total = l3HeaderLength + l4Length;
        view.setUint16(l3 + IPV4_LENGTH, total);
        view.setUint16(l3 + IPV4_ID, id);
        view.setUint16(l3 + IPV4_CHECKSUM, finishChecksum(l3Sum + total + id));
        id = (id + 1) & 0xffff;
      } else {
        view.setUint16(l3 + IPV6_LENGTH, l3HeaderLength - IPV6_HEADER_BYTES + l4Length);
      }
      view.setUint16(l4 + TCP_OFFSET, own);
      view.setUint32(l4 + TCP_SEQUENCE, sequence);
      const sum =
        l4Sum + own + (sequence >>> 16) + (sequence & 0xffff) + l4Length + this.#payloadSums[i]!;
      view.setUint16(l4 + TCP_CHECKSUM, finishChecksum(sum));
      sequence = (sequence + bytes) >>> 0;
      left -= bytes;

      const out = this.#begin(frame, headerLength);
      let take = bytes;
      while (take > 0) {
        const have = frame.lengths[span]! - skip;
        if (have <= 0) {
          skip -= frame.lengths[span++]!;
          continue;
        }
        const n = Math.min(take, have);
        out.push(frame.buffers[span]!, frame.offsets[span]! + skip, n);
        skip += n;
        take -= n;
      }
      out.adoptHeaders(h).endAt(out.length);
      sink.segment(out);
    }
    return undefined;
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
    this.#view.setUint16(at, finishUdpChecksum(sum));

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

  #sumPayload(frame: Frame, at: number, payload: number, mss: number, count: number): void {
    gather(frame, at, payload);
    if (count > this.#payloadSums.length) this.#payloadSums = new Uint16Array(MAX_SEGMENTS);
    let from = 0;
    for (let i = 0; i < count; i++) {
      const bytes = Math.min(mss, payload - from);
      this.#payloadSums[i] = sumGathered(from, bytes);
      from += bytes;
    }
  }
}
