/**
 * Software large receive offload of one Rx ring: in-order TCP segments of a burst become one
 * super-frame, so the TAP or the stack behind it has one frame to handle in place of many.
 *
 *   offer: A1 A2 B1 A3 ...   ──►   held flows: A1+A2+A3, B1   ──► flush: two frames
 *
 * It stands where FreeBSD's drivers call tcp_lro_rx. The rule for joining is the stricter one of
 * Linux's GRO: all headers alike except sequence, lengths, ids and checksums, and every segment as
 * long as the first except the last. So cutting the result gives the same frames back (except for
 * ids without a meaning), a bridge loses nothing, and an acknowledgement or timestamp that changes
 * ends a merge.
 *
 * Ownership: a packet that was offered is this module's until `input` gets it. Bytes of its headers
 * stay in place until then: the merged header is written over those of the first packet.
 *
 * Source: freebsd-src: sys/netinet/tcp_lro.c (place, limits, flush at the end of a burst);
 * linux: net/ipv4/tcp_offload.c (tcp_gro_receive).
 */
import { viewOf } from "../../shared/bytes/words.ts";
import { finishChecksum, foldSum, sumShort, verifyL3 } from "../../shared/net/checksum.ts";
import { Frame, MAX_SPANS, type QueueId } from "../../shared/net/frame.ts";
import {
  type Headers,
  IPV4_CHECKSUM,
  IPV4_DF,
  IPV4_FRAGMENT,
  IPV4_ID,
  IPV4_LENGTH,
  IPV6_HEADER_BYTES,
  IPV6_LENGTH,
  L3,
  L4,
  TCP_CHECKSUM,
  TCP_FLAGS,
  TCP_SEQUENCE,
  TcpFlag,
} from "../../shared/net/headers.ts";
import { MIN_GSO_SIZE } from "../../shared/net/segment.ts";
import { frameOver } from "./facts.ts";
import type { Ifnet } from "./ifnet.ts";
import { Csum, type Mbuf } from "./mbuf.ts";

/** Flows held at a time, as many as FreeBSD's tcp_lro starts with. */
const FLOWS = 8;
const MOST_IP_BYTES = 65535;
/** Most header bytes of a packet that can be merged: Ethernet, tags, IPv6, TCP with its options. */
const MASK_BYTES = 128;

/** The ring's counters: segments put behind another, super-frames passed on. */
export class LroStats {
  lro_queued = 0;
  lro_flushed = 0;
}

export class LroQueue {
  /** The first `#count` are in use, oldest first. */
  readonly #flows = Array.from({ length: FLOWS }, () => new Flow());
  #count = 0;
  readonly #frame = new Frame();
  readonly #stats: LroStats;
  readonly #ifnet: Ifnet;
  readonly #queue: QueueId;
  /** Pieces of a merged chain. */
  readonly #maxPieces: number;

  /** `queue` is the number of the ring, for captures. */
  constructor(stats: LroStats, ifnet: Ifnet, queue: QueueId, maxPieces = MAX_SPANS) {
    this.#stats = stats;
    this.#ifnet = ifnet;
    this.#queue = queue;
    this.#maxPieces = maxPieces;
  }

  /**
   * Takes a packet. It reaches `input` at once, merged with others, or at `flush`. `csumValid`: its
   * TCP checksum is known to be right.
   */
  offer(m: Mbuf, csumValid: boolean): void {
    // Most packets continue the flow of the packet before them. Their headers need no parser.
    if (csumValid && this.#count > 0 && this.#continue(this.#count - 1, m)) return;
    // The headers are in front: pieces beyond what a frame can have don't matter here.
    frameOver(m, this.#frame);
    this.offerParsed(this.#frame.headers(), m, csumValid);
  }

  /** As `offer`, for a caller that has parsed the headers in place. */
  offerParsed(h: Headers, m: Mbuf, csumValid: boolean): void {
    const length = m.pktLength;
    if (h.l4 !== L4.TCP || h.l4HeaderLength === 0) {
      // A fragment without a TCP header may belong to any flow: none may be overtaken.
      if (h.fragment && h.l4 === L4.NONE) this.flush();
      this.#input(m);
      return;
    }
    const i = this.#find(h);
    if (!mergeable(h, length, csumValid)) {
      if (i >= 0) this.#end(i);
      this.#input(m);
      return;
    }
    const payload = length - h.payloadOffset;
    const pushed = (h.u8(h.l4Offset + TCP_FLAGS) & TcpFlag.PSH) !== 0;
    if (i >= 0) {
      if (this.#flows[i]!.continuedBy(h, payload) && this.#append(i, m, payload, pushed)) return;
      this.#end(i);
    }
    // Too small a first segment makes a size that nobody would cut by again.
    if (pushed || payload < MIN_GSO_SIZE) {
      this.#input(m);
      return;
    }
    if (this.#count === this.#flows.length) this.#end(0);
    this.#flows[this.#count++]!.start(h, payload, m);
  }

  /** The burst is over: passes on all that is held, oldest flow first. */
  flush(): void {
    while (this.#count > 0) this.#end(0);
  }

  #find(h: Headers): number {
    for (let i = 0; i < this.#count; i++) if (this.#flows[i]!.isFlowOf(h)) return i;
    return -1;
  }

  /** Appends `m` if its headers are those of the next segment of flow `i`. False: look closer. */
  #continue(i: number, m: Mbuf): boolean {
    const flow = this.#flows[i]!;
    if (!flow.isNext(m)) return false;
    return this.#append(i, m, m.pktLength - flow.headerLength, flow.isPushed(m));
  }

  /**
   * Puts the payload of `m` behind flow `i`. False, with nothing done, when the chain would have
   * more pieces than a frame has spans.
   */
  #append(i: number, m: Mbuf, payload: number, pushed: boolean): boolean {
    const flow = this.#flows[i]!;
    let pieces = flow.pieces;
    for (let piece: Mbuf | undefined = m; piece !== undefined; piece = piece.next) pieces++;
    if (pieces > this.#maxPieces) return false;
    flow.append(m, payload, pushed);
    this.#stats.lro_queued++;
    // Nothing may follow a short or pushed segment: cutting would not find the border again.
    if (pushed || payload < flow.mss) this.#end(i);
    return true;
  }

  /** Takes flow `i` out of the list, then passes its packet on: `input` may call back. */
  #end(i: number): void {
    const flow = this.#flows[i]!;
    this.#count--;
    for (let k = i; k < this.#count; k++) this.#flows[k] = this.#flows[k + 1]!;
    this.#flows[this.#count] = flow;
    const m = flow.head!;
    flow.head = undefined;
    flow.last = undefined;
    if (flow.segments > 1) {
      flow.finish(m);
      this.#stats.lro_flushed++;
    }
    this.#input(m);
  }

  #input(m: Mbuf): void {
    const ifnet = this.#ifnet;
    if (ifnet.bpf !== undefined) ifnet.bpf.input(m, this.#queue);
    ifnet.input(m);
  }
}

/** One held flow. */
class Flow {
  /** The packet of the first segment, with the others behind it. */
  head: Mbuf | undefined;
  /** The last piece of that chain, and the number of its pieces. */
  last: Mbuf | undefined;
  pieces = 0;
  segments = 0;
  /** Bytes of the merged frame. */
  length = 0;
  mss = 0;
  headerLength = 0;
  csumStart = 0;
  isIp6 = false;
  /** The headers of `head`: frame byte n is #bytes[#at + n]. */
  #bytes: Uint8Array = EMPTY;
  #at = 0;
  #view = viewOf(EMPTY);
  #l3Offset = 0;
  /** Signed, because V8 boxes larger numbers. */
  #nextSequence = 0;
  #nextId = 0;
  /** True when the id of an IPv4 segment means nothing. */
  #isAtomic = false;
  /** The header's changing words, added: length, id and checksum of IPv4. */
  #ipWords = 0;
  /** Bits of the header that are the same in all segments of a flow, by word of four bytes. */
  readonly #alikeBits = new Int32Array(MASK_BYTES / 4);
  #alikeWords = 0;

  start(h: Headers, payload: number, m: Mbuf): void {
    this.head = m;
    this.pieces = 0;
    this.#endsWith(m);
    this.segments = 1;
    this.length = h.payloadOffset + payload;
    this.mss = payload;
    this.#at = h.at;
    if (this.#bytes !== h.bytes) {
      this.#bytes = h.bytes;
      this.#view = viewOf(h.bytes);
    }
    this.#shape(h);
    this.#ipWords = this.isIp6 ? 0 : this.#sumOfIpWords(h.at + h.l3Offset);
    this.#nextSequence = (h.u32(h.l4Offset + TCP_SEQUENCE) + payload) | 0;
    this.#nextId = (h.u16(h.l3Offset + IPV4_ID) + 1) & 0xffff;
  }

  /** Same addresses and ports. */
  isFlowOf(h: Headers): boolean {
    if ((h.l3 === L3.IPV6) !== this.isIp6) return false;
    const ours = this.#at + this.csumStart;
    const theirs = h.at + h.l4Offset;
    if (!same(this.#bytes, ours, h.bytes, theirs, 4)) return false;
    const addresses = h.l3 === L3.IPV4 ? 12 : 8;
    const size = h.l3 === L3.IPV4 ? 8 : 32;
    const mine = this.#at + this.#l3Offset + addresses;
    return same(this.#bytes, mine, h.bytes, h.at + h.l3Offset + addresses, size);
  }

  /** True when this mergeable segment of the flow is the next one and differs in nothing else. */
  continuedBy(h: Headers, payload: number): boolean {
    if (h.payloadOffset !== this.headerLength || h.l4Offset !== this.csumStart) return false;
    if (payload > this.mss) return false;
    if (this.length + payload - this.#l3Offset > MOST_IP_BYTES) return false;
    if ((h.u32(h.l4Offset + TCP_SEQUENCE) | 0) !== this.#nextSequence) return false;
    const l3 = this.#l3Offset;
    const l4 = this.csumStart;
    if (h.l3 === L3.IPV4) {
      // An atomic datagram's id means nothing (RFC 6864); any other's must count up.
      const atomic = (h.u8(l3 + IPV4_FRAGMENT) & IPV4_DF) !== 0;
      if (!atomic && h.u16(l3 + IPV4_ID) !== this.#nextId) return false;
      if (!this.#alike(h, 0, l3 + IPV4_LENGTH)) return false;
      if (!this.#alike(h, l3 + IPV4_FRAGMENT, l3 + IPV4_CHECKSUM)) return false;
    } else {
      if (!this.#alike(h, 0, l3 + IPV6_LENGTH)) return false;
      if (!this.#alike(h, l3 + IPV6_LENGTH + 2, l4)) return false;
    }
    // Acknowledgement and data offset, window, urgent pointer and options; the flags are known.
    if (!this.#alike(h, l4 + TCP_SEQUENCE + 4, l4 + TCP_FLAGS)) return false;
    if (!this.#alike(h, l4 + TCP_FLAGS + 1, l4 + TCP_CHECKSUM)) return false;
    return this.#alike(h, l4 + TCP_CHECKSUM + 2, this.headerLength);
  }

  /**
   * True when `m` is the next segment, with headers of the same shape. Then its headers need no
   * parser, because all bits that a parser looks at are those of `head`, which was parsed. False
   * says nothing about `m`.
   */
  isNext(m: Mbuf): boolean {
    const { headerLength } = this;
    const view = this.#view;
    const words = this.#alikeWords;
    const ours = this.#at;
    const theirs = m.at;
    if (m.buffer !== this.#bytes || m.length <= headerLength) return false;
    if (words === 0 || Math.max(ours, theirs) + 4 * words > view.byteLength) return false;
    const payload = m.pktLength - headerLength;
    const ipBytes = m.pktLength - this.#l3Offset;
    if (payload > this.mss) return false;
    if (this.length + payload - this.#l3Offset > MOST_IP_BYTES) return false;
    const bits = this.#alikeBits;
    for (let i = 0; i < words; i++) {
      const differs = view.getInt32(ours + 4 * i) ^ view.getInt32(theirs + 4 * i);
      if ((differs & bits[i]!) !== 0) return false;
    }
    const tcp = theirs + this.csumStart;
    if (view.getInt32(tcp + TCP_SEQUENCE) !== this.#nextSequence) return false;
    if ((view.getUint8(tcp + TCP_FLAGS) & ~TcpFlag.PSH) !== TcpFlag.ACK) return false;
    const ip = theirs + this.#l3Offset;
    if (this.isIp6) return view.getUint16(ip + IPV6_LENGTH) === ipBytes - IPV6_HEADER_BYTES;
    if (view.getUint16(ip + IPV4_LENGTH) !== ipBytes) return false;
    if (!this.#isAtomic && view.getUint16(ip + IPV4_ID) !== this.#nextId) return false;
    // Its checksum is right if what differs adds up to the same, because that of `head` is right.
    return (this.#sumOfIpWords(ip) - this.#ipWords) % 0xffff === 0;
  }

  isPushed(m: Mbuf): boolean {
    return (m.buffer[m.at + this.csumStart + TCP_FLAGS]! & TcpFlag.PSH) !== 0;
  }

  /** Puts the payload of `m` behind the chain. */
  append(m: Mbuf, payload: number, pushed: boolean): void {
    const rest = trimFront(m, this.headerLength);
    this.last!.next = rest;
    this.head!.pktLength += payload;
    if (rest !== undefined) this.#endsWith(rest);
    this.#grow(payload, pushed);
  }

  /** Counts the pieces of `m`, which are the new end of the chain. */
  #endsWith(m: Mbuf): void {
    let last = m;
    this.pieces++;
    while (last.next !== undefined) {
      last = last.next;
      this.pieces++;
    }
    this.last = last;
  }

  /** Adds the words of an IPv4 header that differ between the segments of a flow. */
  #sumOfIpWords(ip: number): number {
    const view = this.#view;
    return (
      view.getUint16(ip + IPV4_LENGTH) +
      view.getUint16(ip + IPV4_ID) +
      view.getUint16(ip + IPV4_CHECKSUM)
    );
  }

  /** Notes where the headers are, and which of their bits are the same in all segments. */
  #shape(h: Headers): void {
    const isIp6 = h.l3 === L3.IPV6;
    this.#isAtomic = !isIp6 && (h.u8(h.l3Offset + IPV4_FRAGMENT) & IPV4_DF) !== 0;
    const isKnown =
      this.headerLength === h.payloadOffset &&
      this.csumStart === h.l4Offset &&
      this.#l3Offset === h.l3Offset &&
      this.isIp6 === isIp6;
    if (isKnown) return;
    this.headerLength = h.payloadOffset;
    this.csumStart = h.l4Offset;
    this.#l3Offset = h.l3Offset;
    this.isIp6 = isIp6;
    const alike = new Uint8Array(MASK_BYTES);
    const changing = (at: number, bytes: number): unknown => alike.fill(0, at, at + bytes);
    alike.fill(0xff, 0, h.payloadOffset);
    if (isIp6) changing(h.l3Offset + IPV6_LENGTH, 2);
    else {
      changing(h.l3Offset + IPV4_LENGTH, 2);
      changing(h.l3Offset + IPV4_ID, 2);
      changing(h.l3Offset + IPV4_CHECKSUM, 2);
    }
    changing(h.l4Offset + TCP_SEQUENCE, 4);
    changing(h.l4Offset + TCP_FLAGS, 1);
    changing(h.l4Offset + TCP_CHECKSUM, 2);
    const view = viewOf(alike);
    for (let i = 0; i < this.#alikeBits.length; i++) this.#alikeBits[i] = view.getInt32(4 * i);
    this.#alikeWords = h.payloadOffset > MASK_BYTES ? 0 : Math.ceil(h.payloadOffset / 4);
  }

  #grow(payload: number, pushed: boolean): void {
    this.segments++;
    this.length += payload;
    this.#nextSequence = (this.#nextSequence + payload) | 0;
    this.#nextId = (this.#nextId + 1) & 0xffff;
    if (pushed) this.#bytes[this.#at + this.csumStart + TCP_FLAGS]! |= TcpFlag.PSH;
  }

  /**
   * Writes the merged header (lengths, the IPv4 checksum, the pseudo-header sum for TCP) and the
   * facts of the packet. The same bits that ask for TSO say that its checksum is unfinished.
   */
  finish(m: Mbuf): void {
    const ip = this.#at + this.#l3Offset;
    const l4Length = this.length - this.csumStart;
    let addresses: number;
    if (!this.isIp6) {
      this.#setU16(ip + IPV4_LENGTH, this.length - this.#l3Offset);
      this.#setU16(ip + IPV4_CHECKSUM, 0);
      const header = sumShort(this.#bytes, ip, this.csumStart - this.#l3Offset);
      this.#setU16(ip + IPV4_CHECKSUM, finishChecksum(header));
      addresses = sumShort(this.#bytes, ip + 12, 8);
    } else {
      this.#setU16(ip + IPV6_LENGTH, this.length - this.#l3Offset - IPV6_HEADER_BYTES);
      addresses = sumShort(this.#bytes, ip + 8, 32);
    }
    const sum = foldSum(addresses + L4.TCP + l4Length);
    this.#setU16(this.#at + this.csumStart + TCP_CHECKSUM, sum);
    m.csumFlags = this.isIp6 ? Csum.IP6_TSO | Csum.IP6_TCP : Csum.IP_TSO | Csum.IP_TCP;
    m.csumStart = this.csumStart;
    m.csumOffset = TCP_CHECKSUM;
    m.tsoSegsz = this.mss;
    m.headerLength = this.headerLength;
    m.isIp6 = this.isIp6;
  }

  #alike(h: Headers, from: number, to: number): boolean {
    return same(this.#bytes, this.#at + from, h.bytes, h.at + from, to - from);
  }

  #setU16(at: number, value: number): void {
    this.#bytes[at] = value >>> 8;
    this.#bytes[at + 1] = value;
  }
}

const EMPTY = new Uint8Array(0);

/** A plain data segment: ACK, perhaps PSH, payload, no options of IP, no padding, nothing wrong. */
function mergeable(h: Headers, length: number, csumValid: boolean): boolean {
  if (!csumValid || h.problems !== 0 || h.fragment || h.l3Options || !h.inPlace) return false;
  if (h.l3End !== length || h.payloadOffset >= length) return false;
  if ((h.u8(h.l4Offset + TCP_FLAGS) & ~TcpFlag.PSH) !== TcpFlag.ACK) return false;
  // A merged header gets a new checksum: a wrong one must not be made good by that.
  return verifyL3(h);
}

function same(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[aAt + i] !== b[bAt + i]) return false;
  return true;
}

/** m_adj(9): drops the first `bytes` bytes, which are not all there is. Returns what is left. */
function trimFront(m: Mbuf, bytes: number): Mbuf | undefined {
  let piece: Mbuf | undefined = m;
  let left = bytes;
  while (piece !== undefined && left >= piece.length) {
    left -= piece.length;
    piece = piece.freeOne();
  }
  if (piece !== undefined) {
    piece.at += left;
    piece.length -= left;
  }
  return piece;
}
