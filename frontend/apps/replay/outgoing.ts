/**
 * What of a captured packet can be sent, and as what: an mbuf with a copy of its bytes, or the reason
 * why not. A copy, because the driver keeps mbufs while the file is read on into the same buffer.
 *
 *   captured    | Ethernet frame ............ | FCS |
 *   sent        | Ethernet frame ............ | zeros up to 60 bytes, for a runt
 *
 * A frame's length never tells a jumbo frame from a super-frame that some NIC was still to cut. It
 * counts as a super-frame when the file says so (epb_flags), when no NIC has such an MTU, or when
 * its IP header states no length. What has no stated length and needs no cut gets its length.
 *
 * Source: draft-ietf-opsawg-pcapng, section 4.3.1 (epb_flags).
 */
import { copyBytes } from "../../../shared/bytes/copy.ts";
import { frameBytes, heldBytes } from "../../../shared/capture/frame-bytes.ts";
import {
  ETHER_HEADER_BYTES,
  ETHER_TYPE,
  isVlanType,
  VLAN_TAG_BYTES,
} from "../../../shared/net/ethernet.ts";
import { Frame, Gso } from "../../../shared/net/frame.ts";
import { L3, L4, TCP_CHECKSUM, UDP_CHECKSUM } from "../../../shared/net/headers.ts";
import { checkGso } from "../../../shared/net/segment.ts";
import {
  FLAG_CHECKSUM_NOT_READY,
  FLAG_SEGMENTATION_OFFLOADED,
} from "../../../shared/pcapng/layout.ts";
import type { CapturedPacket } from "../../../shared/pcapng/packet.ts";
import { askedOf, canDo, frameToMbuf } from "../../net/facts.ts";
import type { Ifnet } from "../../net/ifnet.ts";
import { Mbuf } from "../../net/mbuf.ts";
import { canFill, dropJumboOption, fillIn, isUnstated } from "./unstated.ts";

export const LINK_ETHERNET = 1;
/** Largest MTU that a NIC here can have. */
const MAX_MTU = 9216;
/** Without its FCS. */
const LEAST_FRAME_BYTES = 60;

/** Why a packet is not sent. */
export const Skip = {
  /** Another sighting of a frame that was sent. */
  COPY: "copy",
  /** Of an interface that was not chosen. */
  NOT_CHOSEN: "notChosen",
  /** The packet of another link layer. */
  NOT_ETHERNET: "notEthernet",
  /** The file has only its beginning. */
  TRUNCATED: "truncated",
  /** Shorter than an Ethernet header. */
  NO_HEADER: "noHeader",
  /** Longer than the MTU allows. */
  TOO_LONG: "tooLong",
  /** To be cut in segments, and longer than the driver can have cut. */
  TOO_LONG_TO_CUT: "tooLongToCut",
  /** To be cut in segments, and the driver can't have it done, or it is no whole TCP packet. */
  SUPER_FRAME: "superFrame",
  /** Its checksum was still to be finished, and the driver can't have it done. */
  UNFINISHED: "unfinished",
  /** The driver did not take it. */
  REFUSED: "refused",
} as const;
export type Skip = (typeof Skip)[keyof typeof Skip];
/** Those that are the packet's own fault. */
export type FileSkip = Exclude<Skip, typeof Skip.REFUSED>;

/** Storage of an mbuf that is used again: for frames of the largest MTU, from the usual size on. */
const USUAL_BYTES = 2048;
const LARGEST_BYTES = 10 * 1024;
const NO_BYTES = new Uint8Array(0);

/** Makes mbufs of packets. They come back as the driver frees them. */
export class Outgoing {
  /** Mbufs that the driver has, or the loop. */
  inUse = 0;
  readonly #ifnet: Ifnet;
  readonly #sendTruncated: boolean;
  readonly #free: Mbuf[] = [];
  readonly #frame = new Frame();
  readonly #release = (m: Mbuf): void => {
    this.inUse--;
    // A super-frame's would add up to much memory.
    if (m.buffer.length > LARGEST_BYTES) m.buffer = NO_BYTES;
    this.#free.push(m);
  };

  /** `sendTruncated`: what there is of a truncated packet is a frame. */
  constructor(ifnet: Ifnet, sendTruncated: boolean) {
    this.#ifnet = ifnet;
    this.#sendTruncated = sendTruncated;
  }

  /**
   * The packet as an mbuf, which the caller owns, or why it can't be sent. The mbuf's cookie is the
   * number of bytes that were added.
   */
  take(packet: CapturedPacket): Mbuf | FileSkip {
    if (packet.linkType !== LINK_ETHERNET) return Skip.NOT_ETHERNET;
    const whole = frameBytes(packet);
    const length = heldBytes(packet);
    if (length < whole && !this.#sendTruncated) return Skip.TRUNCATED;
    if (length < ETHER_HEADER_BYTES) return Skip.NO_HEADER;
    const { bytes, flags } = packet;
    const limit = limitOf(bytes, this.#ifnet.mtu);
    // Where padding begins can't be seen in a frame of the least length.
    if (length === whole && length > LEAST_FRAME_BYTES && isUnstated(bytes, length)) {
      return this.#unstated(bytes, length, limit);
    }
    const isSuper =
      length > limit &&
      ((flags & FLAG_SEGMENTATION_OFFLOADED) !== 0 || length > limitOf(bytes, MAX_MTU));
    if (isSuper) return this.#toFinish(bytes, length, true);
    if (length > limit) return Skip.TOO_LONG;
    if ((flags & FLAG_CHECKSUM_NOT_READY) !== 0) return this.#toFinish(bytes, length, false);
    return this.#mbuf(bytes, length);
  }

  /** A frame whose IP header states no length: to be cut, or as it would have been sent. */
  #unstated(bytes: Uint8Array, length: number, limit: number): Mbuf | FileSkip {
    const frame = this.#frame;
    frame.reset();
    frame.push(bytes, 0, length);
    const h = frame.headers();
    if (length > limit) {
      // Of anything else than TCP nobody knows where it was to be cut.
      const isTcp = h.l4 === L4.TCP && !h.fragment;
      if (isTcp || length > limitOf(bytes, MAX_MTU)) return this.#toFinish(bytes, length, true);
      return Skip.TOO_LONG;
    }
    const m = this.#mbuf(bytes, length);
    if (canFill(h)) fillIn(m.buffer, length, h);
    return m;
  }

  #mbuf(bytes: Uint8Array, length: number): Mbuf {
    const m = this.#free.pop() ?? new Mbuf();
    this.inUse++;
    const sent = Math.max(length, LEAST_FRAME_BYTES);
    const buffer = m.buffer.length >= sent ? m.buffer : new Uint8Array(Math.max(sent, USUAL_BYTES));
    copyBytes(bytes, 0, buffer, 0, length);
    buffer.fill(0, length, sent);
    m.attach(buffer, 0, sent, this.#release);
    m.cookie = sent - length;
    return m;
  }

  /** A frame that leaves work to the NIC: segments for this MTU, or just the checksum. */
  #toFinish(bytes: Uint8Array, length: number, isSuper: boolean): Mbuf | FileSkip {
    const frame = this.#frame;
    const skip = isSuper ? Skip.SUPER_FRAME : Skip.UNFINISHED;
    if (isSuper && length > this.#ifnet.hwTsomax) return Skip.TOO_LONG_TO_CUT;
    frame.reset();
    frame.push(bytes, 0, length);
    const h = frame.headers();
    // A fragment's checksum is that of the whole packet.
    if (h.fragment || (h.l4 !== L4.TCP && h.l4 !== L4.UDP)) return skip;
    frame.needsCsum = true;
    frame.csumStart = h.l4Offset;
    frame.csumOffset = h.l4 === L4.TCP ? TCP_CHECKSUM : UDP_CHECKSUM;
    if (isSuper) {
      frame.gso = h.l3 === L3.IPV6 ? Gso.TCPV6 : Gso.TCPV4;
      // The file does not say how large the segments were: as large as fit.
      frame.gsoSize = this.#ifnet.mtu - (h.payloadOffset - h.l3Offset);
      frame.headerLength = h.payloadOffset;
      if (checkGso(frame) !== undefined) return skip;
    }
    const asked = askedOf(frame);
    if (asked < 0 || !canDo(asked, this.#ifnet.capEnable)) return skip;
    const m = this.#mbuf(bytes, length);
    frameToMbuf(frame, asked, m);
    if (isSuper) dropJumboOption(m.buffer, h);
    m.pktLength = m.length;
    return m;
  }
}

/** A VLAN tag does not count against the MTU. */
function limitOf(bytes: Uint8Array, mtu: number): number {
  const isTagged = isVlanType((bytes[ETHER_TYPE]! << 8) | bytes[ETHER_TYPE + 1]!);
  return mtu + ETHER_HEADER_BYTES + (isTagged ? VLAN_TAG_BYTES : 0);
}

/** Why `packet` was skipped, in words that say what can be done about it. */
export function explain(skip: FileSkip, packet: CapturedPacket, { mtu, hwTsomax }: Ifnet): string {
  const { linkType, capturedLength, originalLength, bytes } = packet;
  const length = heldBytes(packet);
  switch (skip) {
    case Skip.COPY:
      return "is another sighting of a frame before it";
    case Skip.NOT_CHOSEN:
      return "is of an interface that was not chosen";
    case Skip.NOT_ETHERNET:
      return `is of link type ${linkType}, not Ethernet`;
    case Skip.TRUNCATED:
      return `has ${capturedLength} of ${originalLength} bytes; --send-truncated sends those`;
    case Skip.NO_HEADER:
      return `has ${Math.max(0, length)} bytes, less than an Ethernet header`;
    case Skip.TOO_LONG: {
      const needed = length - limitOf(bytes, 0);
      const hint = needed > MAX_MTU ? "no NIC here has a larger" : `--mtu ${needed} would take it`;
      return `has ${length} bytes, too long for an MTU of ${mtu}: ${hint}`;
    }
    case Skip.TOO_LONG_TO_CUT:
      return `has ${length} bytes that a NIC was to cut in segments, and this one cuts ${hwTsomax} at most`;
    case Skip.SUPER_FRAME:
      return `has ${length} bytes that a NIC was to cut in segments: not TCP, not whole, or the driver has no TSO`;
    case Skip.UNFINISHED:
      return "has a checksum that a NIC was to finish: not TCP or UDP, or the driver can't";
  }
}
