/**
 * What a received packet's flags and extra info mean to the stack: checksums, super-frames, hashes.
 *
 *   csum_blank       the field holds the pseudo-header sum: the stack is told where, or finishes it
 *   data_validated   checked by whoever sent it
 *   GSO extra        a super-frame, cut later by whoever needs to. Without csum_blank its field is
 *                    not the pseudo-header sum that a cutter starts from: it is made so here
 *
 * Source: xen: xen/include/public/io/netif.h; linux: drivers/net/xen-netfront.c (checksum_setup,
 * rx_gso_checksum_fixup), net/core/skbuff.c (skb_checksum_setup).
 */
import { foldSum, sumPseudoHeader } from "../../shared/net/checksum.ts";
import { Frame } from "../../shared/net/frame.ts";
import { type Headers, L3, L4, TCP_CHECKSUM, UDP_CHECKSUM } from "../../shared/net/headers.ts";
import { HashType as WireHash } from "../../shared/xen/control.ts";
import { ExtraType, extra, GsoType } from "../../shared/xen/extra.ts";
import { RxFlag } from "../../shared/xen/netif.ts";
import { frameOver } from "../net/facts.ts";
import { Ifcap } from "../net/ifnet.ts";
import { Csum, HashType, type Mbuf } from "../net/mbuf.ts";
import type { NetfrontInfo } from "./info.ts";
import type { Rxq } from "./rings.ts";

const CHECKED = Csum.L4_CALC | Csum.L4_VALID;

/** Facts of the packet at hand, from the flags of its first response and its extra info. */
export class RxExtras {
  #flags = 0;
  #gsoSize = 0;
  #gsoType = 0;
  #hashType: number = HashType.NONE;
  #hash = 0;

  reset(flags: number): void {
    this.#flags = flags;
    this.#gsoSize = 0;
    this.#gsoType = 0;
    this.#hashType = HashType.NONE;
    this.#hash = 0;
  }

  /** One extra info slot, of a type that exists. False when what it says can't be. */
  take(view: DataView, at: number, type: number): boolean {
    if (type === ExtraType.GSO) {
      this.#gsoSize = extra.gsoSize(view, at);
      this.#gsoType = extra.gsoType(view, at);
      const known = this.#gsoType === GsoType.TCPV4 || this.#gsoType === GsoType.TCPV6;
      return known && this.#gsoSize > 0;
    }
    if (type === ExtraType.HASH) {
      this.#hash = extra.hashValue(view, at);
      this.#hashType = hashTypeOf(extra.hashType(view, at));
    }
    // Multicast lists are for backends; one that sends them gets no answer.
    return true;
  }

  /** Into the packet header, until `offerToStack` reads it out again. */
  apply(m: Mbuf): void {
    m.flowId = this.#hash;
    m.hashType = this.#hashType;
    m.tsoSegsz = this.#gsoSize;
    m.isIp6 = this.#gsoType === GsoType.TCPV6;
    m.cookie = this.#flags;
  }
}

function hashTypeOf(type: number): number {
  if (type === WireHash.IPV4) return HashType.RSS_IPV4;
  if (type === WireHash.IPV4_TCP) return HashType.RSS_TCP_IPV4;
  if (type === WireHash.IPV6) return HashType.RSS_IPV6;
  return type === WireHash.IPV6_TCP ? HashType.RSS_TCP_IPV6 : HashType.NONE;
}

const frame = new Frame();

/** Hands a packet to the stack, at once or merged with its neighbours; or drops it, counted. */
export function offerToStack(info: NetfrontInfo, rxq: Rxq, m: Mbuf): void {
  const { stats } = rxq;
  const flags = m.cookie;
  const lro = (info.ifnet.capEnable & Ifcap.LRO) !== 0;
  const said = (flags & RxFlag.CSUM_BLANK) !== 0;
  const blank = said || m.tsoSegsz > 0;
  const validated = (flags & RxFlag.DATA_VALIDATED) !== 0;
  // The headers are in front: pieces beyond what a frame can have don't matter here.
  if (blank || lro) frameOver(m, frame);
  if (m.tsoSegsz > 0) stats.gso++;
  if (blank) {
    if (!blankChecksum(m, frame.headers())) {
      stats.bad_csum++;
      info.ifnet.counters.ierrors++;
      m.free();
      return;
    }
    if (said) stats.csum_blank++;
    else {
      makeBlank(m, frame.headers());
      stats.gso_checksum_fixup++;
    }
  } else if (validated) {
    stats.csum_good++;
    m.csumFlags |= CHECKED;
  }
  info.ifnet.counters.ipackets++;
  info.ifnet.counters.ibytes += m.pktLength;
  if (lro && m.tsoSegsz === 0) {
    rxq.lro.offerParsed(frame.headers(), m, blank || validated);
    return;
  }
  // A super-frame must not overtake what is being merged for its flow.
  if (lro) rxq.lro.flush();
  info.ifnet.received(m, rxq.id);
}

/** Says where the checksum is to be finished. False when the packet has no such place. */
function blankChecksum(m: Mbuf, h: Headers): boolean {
  const v6 = h.l3 === L3.IPV6;
  // A header that is not all there has no length.
  if (h.l3 === L3.NONE || h.fragment || h.l4HeaderLength === 0) return false;
  m.csumStart = h.l4Offset;
  if (h.l4 === L4.TCP) {
    m.csumOffset = TCP_CHECKSUM;
    m.csumFlags |= v6 ? Csum.IP6_TCP : Csum.IP_TCP;
    if (m.tsoSegsz === 0) return true;
    if (m.isIp6 !== v6 || h.payloadOffset >= m.pktLength) return false;
    m.headerLength = h.payloadOffset;
    m.csumFlags |= v6 ? Csum.IP6_TSO : Csum.IP_TSO;
    return true;
  }
  if (h.l4 !== L4.UDP || m.tsoSegsz > 0) return false;
  m.csumOffset = UDP_CHECKSUM;
  m.csumFlags |= v6 ? Csum.IP6_UDP : Csum.IP_UDP;
  return true;
}

/** Puts the pseudo-header sum where the checksum stands. The place is known: see `blankChecksum`. */
function makeBlank(m: Mbuf, h: Headers): void {
  const sum = foldSum(sumPseudoHeader(h, h.l3End - h.l4Offset));
  setByte(m, m.csumStart + m.csumOffset, sum >>> 8);
  setByte(m, m.csumStart + m.csumOffset + 1, sum & 0xff);
}

/** Changes the byte at `at` of the packet, wherever the backend has cut it. */
function setByte(m: Mbuf, at: number, value: number): void {
  let left = at;
  let piece = m;
  while (left >= piece.length) {
    left -= piece.length;
    piece = piece.next!;
  }
  piece.buffer[piece.at + left] = value;
}
