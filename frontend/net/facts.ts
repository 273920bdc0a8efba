/**
 * Facts of a packet, which are found once and travel with it, as a Frame and as an mbuf. A Frame
 * speaks virtio_net_hdr, an mbuf speaks csum_flags. They mean the same, so each direction is a few
 * assignments.
 */
import { Frame, Gso } from "../../shared/net/frame.ts";
import { type Headers, L3, L4, TCP_CHECKSUM, UDP_CHECKSUM } from "../../shared/net/headers.ts";
import { Ifcap } from "./ifnet.ts";
import { Csum, HashType, type Mbuf } from "./mbuf.ts";

const TCP_BITS = Csum.IP_TCP | Csum.IP6_TCP | Csum.IP_TSO | Csum.IP6_TSO;
const UNFINISHED = TCP_BITS | Csum.IP_UDP | Csum.IP6_UDP;
const TSO = Csum.IP_TSO | Csum.IP6_TSO;
const CHECKED = Csum.L4_CALC | Csum.L4_VALID;

/**
 * The Csum bits that ask a driver for what this frame leaves undone. 0: nothing is left. -1: no
 * driver can be asked, because the place of the checksum is not that of the frame's own TCP or
 * UDP (a tunnel's inner one, say).
 */
export function askedOf(frame: Frame): number {
  if (!frame.needsCsum) return frame.gso === Gso.NONE ? 0 : -1;
  const h = frame.headers();
  if (frame.csumStart !== h.l4Offset) return -1;
  const v6 = h.l3 === L3.IPV6;
  if (h.l4 === L4.TCP && frame.csumOffset === TCP_CHECKSUM) {
    if (frame.gso === Gso.NONE) return v6 ? Csum.IP6_TCP : Csum.IP_TCP;
    return v6 ? Csum.IP6_TSO | Csum.IP6_TCP : Csum.IP_TSO | Csum.IP_TCP;
  }
  if (frame.gso !== Gso.NONE) return -1;
  if (h.l4 === L4.UDP && frame.csumOffset === UDP_CHECKSUM) return v6 ? Csum.IP6_UDP : Csum.IP_UDP;
  return -1;
}

/** Whether an interface with these capabilities on does all that the Csum bits ask. */
export function canDo(asked: number, capEnable: number): boolean {
  if ((asked & Csum.IP_TSO) !== 0) return (capEnable & Ifcap.TSO4) !== 0;
  if ((asked & Csum.IP6_TSO) !== 0) return (capEnable & Ifcap.TSO6) !== 0;
  if ((asked & (Csum.IP6_TCP | Csum.IP6_UDP)) !== 0) return (capEnable & Ifcap.TXCSUM_IPV6) !== 0;
  return (capEnable & Ifcap.TXCSUM) !== 0;
}

/** Writes the packet header of `m`, whose data is the whole frame. `asked` is not -1. */
export function frameToMbuf(frame: Frame, asked: number, m: Mbuf): void {
  m.pktLength = frame.length;
  m.csumFlags = asked;
  m.csumStart = frame.csumStart;
  m.csumOffset = frame.csumOffset;
  m.tsoSegsz = frame.gsoSize;
  m.headerLength = frame.headerLength;
  m.gsoEcn = frame.gsoEcn;
  m.frameId = frame.id;
  noteHeaders(frame.headers(), m);
}

/** The same for a packet that was never a frame, unless its headers are known. */
export function findFacts(m: Mbuf): void {
  if (m.l3Offset >= 0) return;
  frameOver(m, scratch);
  noteHeaders(scratch.headers(), m);
}

function noteHeaders(h: Headers, m: Mbuf): void {
  m.l3Offset = Math.max(0, h.l3Offset);
  m.isIp6 = h.l3 === L3.IPV6;
  if (m.csumStart === 0 && h.l3Offset > 0) m.csumStart = h.l3Offset + h.l3HeaderLength;
  if (m.hashType !== HashType.NONE) return;
  const flow = flowHash(h);
  if (flow === 0) return;
  m.flowId = flow;
  m.hashType = HashType.OPAQUE_HASH;
}

const scratch = new Frame();

/** Makes `frame` describe a chain. False when it has more pieces than a frame can have. */
export function frameOver(m: Mbuf, frame: Frame): boolean {
  frame.reset();
  for (let piece: Mbuf | undefined = m; piece !== undefined; piece = piece.next) {
    if (!frame.push(piece.buffer, piece.at, piece.length)) return false;
  }
  return true;
}

/** `frameOver` for a received chain, with its facts. */
export function mbufToFrame(m: Mbuf, frame: Frame): boolean {
  if (!frameOver(m, frame)) return false;
  frame.id = m.frameId;
  const flags = m.csumFlags;
  frame.csumValid = (flags & CHECKED) === CHECKED;
  // A driver that merges segments (LRO) says what it made with the same bits that ask for TSO.
  if ((flags & UNFINISHED) === 0) return true;
  frame.needsCsum = true;
  frame.csumValid = true;
  frame.csumStart = m.csumStart;
  frame.csumOffset = m.csumOffset;
  if ((flags & TSO) === 0 || m.tsoSegsz === 0) return true;
  frame.gso = m.isIp6 ? Gso.TCPV6 : Gso.TCPV4;
  frame.gsoEcn = m.gsoEcn;
  frame.gsoSize = m.tsoSegsz;
  frame.headerLength = m.headerLength;
  return true;
}

/**
 * One number per flow, so that the frames of one stay in order on one queue and many flows
 * spread. 0 when the frame is no IP packet. A local matter: nobody else has to compute the same.
 */
export function flowHash(h: Headers): number {
  if (h.l3 === L3.NONE) return 0;
  const at = h.l3Offset;
  let hash = h.l3 === L3.IPV6 ? ipv6Addresses(h, at) : h.u32(at + 12) ^ h.u32(at + 16);
  // Later fragments have no ports, so the first one's must not count either.
  const ports = (h.l4 === L4.TCP || h.l4 === L4.UDP) && !h.fragment;
  if (ports) hash ^= h.u32(h.l4Offset);
  // The finaliser of MurmurHash3: neighbouring ports land on distant numbers.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function ipv6Addresses(h: Headers, at: number): number {
  let hash = 0;
  for (let word = 8; word < 40; word += 4) hash = Math.imul(hash, 31) ^ h.u32(at + word);
  return hash;
}
