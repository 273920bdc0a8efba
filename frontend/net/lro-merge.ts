/**
 * Software large receive offload: in-order TCP segments of one flow become one super-frame, so that
 * what is behind (a TAP, a stack) pays per super-frame and not per segment.
 *
 *   input: A1 A2 B1 A3 ...   ──►   held flows: A1+A2+A3, B1   ──► flush: two frames
 *
 * It stands where FreeBSD's drivers call tcp_lro_rx, and works on any item a driver has (an mbuf
 * chain): the sink joins items, this decides which. The rule what may be joined is the stricter
 * one of Linux's GRO: all headers alike but for sequence, lengths, ids and checksums, every segment
 * as long as the first but the last. So cutting the result gives the very frames back (but for ids
 * that mean nothing), a bridge loses nothing, and an acknowledgement or timestamp that changes ends
 * a merge.
 *
 * Ownership: an item given to `input` is this module's until `deliver` or `append` has it back. The
 * bytes that the parsed headers point at must stay in place until then: the merged header is
 * written into the first item's own.
 *
 * Source: freebsd-src: sys/netinet/tcp_lro.c (place, limits, flush at the end of a burst);
 * linux: net/ipv4/tcp_offload.c (tcp_gro_receive).
 */
import { finishChecksum, foldSum, sumShort, verifyL3 } from "../../shared/net/checksum.ts";
import { Gso } from "../../shared/net/frame.ts";
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

/** Flows held at a time, as many as FreeBSD's tcp_lro starts with. */
const FLOWS = 8;
const MOST_IP_BYTES = 65535;

/** Facts of a merged frame, in the words of Frame. Read during `deliver` only. */
export interface LroMerge {
  /** TCP segments that became one. */
  readonly segments: number;
  /** Bytes of the merged frame; its header says so too. */
  readonly length: number;
  readonly gso: Gso;
  readonly gsoSize: number;
  readonly headerLength: number;
  /** The TCP checksum field holds the pseudo-header sum: needsCsum is to be set. */
  readonly csumStart: number;
  readonly csumOffset: number;
}

export interface LroSink<T> {
  /**
   * Puts what follows the first `headerBytes` bytes of `item` behind `head`, and disposes of `item`.
   * False, with nothing done, when `head` has no room for more pieces.
   */
  append(head: T, item: T, headerBytes: number): boolean;
  /** Passes an item on: as it came, or merged. */
  deliver(item: T, merged: LroMerge | undefined): void;
}

export class Lro<T> {
  readonly #sink: LroSink<T>;
  /** The first `#count` are in use, oldest first. */
  readonly #flows: Flow<T>[] = [];
  #count = 0;
  /** Segments that were put behind another, and super-frames that came of it. */
  merged = 0;
  superFrames = 0;

  constructor(sink: LroSink<T>, flows = FLOWS) {
    this.#sink = sink;
    for (let i = 0; i < flows; i++) this.#flows.push(new Flow<T>());
  }

  /**
   * Takes a received frame: `h` its headers, `length` all its bytes, `csumValid` whether its TCP
   * checksum is known to be right.
   */
  input(h: Headers, length: number, csumValid: boolean, item: T): void {
    if (h.l4 !== L4.TCP || h.l4HeaderLength === 0) {
      // A fragment without a TCP header may belong to any flow: none may be overtaken.
      if (h.fragment && h.l4 === L4.NONE) this.flush();
      this.#sink.deliver(item, undefined);
      return;
    }
    const i = this.#find(h);
    if (!mergeable(h, length, csumValid)) {
      if (i >= 0) this.#end(i);
      this.#sink.deliver(item, undefined);
      return;
    }
    const payload = length - h.payloadOffset;
    const pushed = (h.u8(h.l4Offset + TCP_FLAGS) & TcpFlag.PSH) !== 0;
    if (i >= 0) {
      const flow = this.#flows[i]!;
      if (flow.continuedBy(h, payload) && this.#sink.append(flow.item!, item, h.payloadOffset)) {
        this.merged++;
        flow.grow(payload, pushed);
        // Nothing may follow a short or pushed segment: cutting would not find the border again.
        if (pushed || payload < flow.mss) this.#end(i);
        return;
      }
      this.#end(i);
    }
    // Too small a first segment makes a size that nobody would cut by again.
    if (pushed || payload < MIN_GSO_SIZE) {
      this.#sink.deliver(item, undefined);
      return;
    }
    if (this.#count === this.#flows.length) this.#end(0);
    this.#flows[this.#count++]!.start(h, payload, item);
  }

  /** The burst is over: passes on all that is held, oldest flow first. */
  flush(): void {
    while (this.#count > 0) this.#end(0);
  }

  #find(h: Headers): number {
    for (let i = 0; i < this.#count; i++) if (this.#flows[i]!.isFlowOf(h)) return i;
    return -1;
  }

  /** Takes flow `i` out of the list, then passes its item on: the sink may call back. */
  #end(i: number): void {
    const flow = this.#flows[i]!;
    this.#count--;
    for (let k = i; k < this.#count; k++) this.#flows[k] = this.#flows[k + 1]!;
    this.#flows[this.#count] = flow;
    const item = flow.item!;
    flow.item = undefined;
    if (flow.segments === 1) {
      this.#sink.deliver(item, undefined);
      return;
    }
    this.superFrames++;
    flow.finish();
    this.#sink.deliver(item, flow);
  }
}

/** One held flow; as LroMerge it tells what became of it. */
class Flow<T> implements LroMerge {
  item: T | undefined;
  segments = 0;
  length = 0;
  mss = 0;
  headerLength = 0;
  csumStart = 0;
  gso: Gso = Gso.TCPV4;
  readonly csumOffset = TCP_CHECKSUM;
  /** The first item's headers: frame byte n is #bytes[#at + n]. */
  #bytes: Uint8Array = EMPTY;
  #at = 0;
  #l3Offset = 0;
  #nextSequence = 0;
  #nextId = 0;

  get gsoSize(): number {
    return this.mss;
  }

  start(h: Headers, payload: number, item: T): void {
    this.item = item;
    this.segments = 1;
    this.length = h.payloadOffset + payload;
    this.mss = payload;
    this.headerLength = h.payloadOffset;
    this.csumStart = h.l4Offset;
    this.gso = h.l3 === L3.IPV4 ? Gso.TCPV4 : Gso.TCPV6;
    this.#bytes = h.bytes;
    this.#at = h.at;
    this.#l3Offset = h.l3Offset;
    this.#nextSequence = (h.u32(h.l4Offset + TCP_SEQUENCE) + payload) >>> 0;
    this.#nextId = (h.u16(h.l3Offset + IPV4_ID) + 1) & 0xffff;
  }

  /** Same addresses and ports. */
  isFlowOf(h: Headers): boolean {
    if ((this.gso === Gso.TCPV4 ? L3.IPV4 : L3.IPV6) !== h.l3) return false;
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
    if (h.u32(h.l4Offset + TCP_SEQUENCE) !== this.#nextSequence) return false;
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

  grow(payload: number, pushed: boolean): void {
    this.segments++;
    this.length += payload;
    this.#nextSequence = (this.#nextSequence + payload) >>> 0;
    this.#nextId = (this.#nextId + 1) & 0xffff;
    if (pushed) this.#bytes[this.#at + this.csumStart + TCP_FLAGS]! |= TcpFlag.PSH;
  }

  /** Writes the merged header: lengths, the IPv4 checksum, the pseudo-header sum for TCP. */
  finish(): void {
    const ip = this.#at + this.#l3Offset;
    const l4Length = this.length - this.csumStart;
    let addresses: number;
    if (this.gso === Gso.TCPV4) {
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
