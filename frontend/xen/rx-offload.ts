/**
 * Translates flags and extra info of a received packet for the stack: checksums, super-frames,
 * hashes.
 *
 *   csum_blank       the field contains the pseudo-header sum; the mbuf names the field's place, so
 *                    that a later component completes it
 *   data_validated   the sender has checked the checksum
 *   GSO extra        a super-frame, which a later component may segment. Segmentation starts from
 *                    the pseudo-header sum; without csum_blank this file writes that sum
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

/** Facts of the current packet, from the flags of its first response and its extra info. */
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

  /** Reads one extra info slot of a known type. Returns false when its contents are invalid. */
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
    // Multicast lists are for backends. The driver ignores one that a backend sends.
    return true;
  }

  /** Stores the facts in the packet header, from which `offerToStack` reads them. */
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

/** Passes a packet to the stack, at once or merged with its neighbours; or drops and counts it. */
export function offerToStack(info: NetfrontInfo, rxq: Rxq, m: Mbuf): void {
  const { stats } = rxq;
  const { ifnet } = info;
  const flags = m.cookie;
  const lro = (ifnet.capEnable & Ifcap.LRO) !== 0;
  const said = (flags & RxFlag.CSUM_BLANK) !== 0;
  const blank = said || m.tsoSegsz > 0;
  const validated = (flags & RxFlag.DATA_VALIDATED) !== 0;
  // Only the headers matter here, and they are in the first pieces: a frame may omit later ones.
  if (blank || lro) frameOver(m, frame);
  if (m.tsoSegsz > 0) stats.gso++;
  if (blank) {
    if (!blankChecksum(m, frame.headers())) {
      stats.bad_csum++;
      ifnet.counters.ierrors++;
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
  ifnet.counters.ipackets++;
  ifnet.counters.ibytes += m.pktLength;
  if (lro && m.tsoSegsz === 0) {
    rxq.lro.offerParsed(frame.headers(), m, blank || validated);
    return;
  }
  // A super-frame must not overtake packets of its flow that are being merged.
  if (lro) rxq.lro.flush();
  if (ifnet.bpf !== undefined) ifnet.bpf.input(m, rxq.id);
  ifnet.input(m);
}

/** Sets the place of the blank checksum. Returns false when the packet has no checksum field. */
function blankChecksum(m: Mbuf, h: Headers): boolean {
  const v6 = h.l3 === L3.IPV6;
  // The parser sets no length for an incomplete header.
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

/** Writes the pseudo-header sum into the checksum field, whose place `blankChecksum` has set. */
function makeBlank(m: Mbuf, h: Headers): void {
  const sum = foldSum(sumPseudoHeader(h, h.l3End - h.l4Offset));
  setByte(m, m.csumStart + m.csumOffset, sum >>> 8);
  setByte(m, m.csumStart + m.csumOffset + 1, sum & 0xff);
}

/** Changes the byte at offset `at` of the packet, in whichever piece it lies. */
function setByte(m: Mbuf, at: number, value: number): void {
  let left = at;
  let piece = m;
  while (left >= piece.length) {
    left -= piece.length;
    piece = piece.next!;
  }
  piece.buffer[piece.at + left] = value;
}
