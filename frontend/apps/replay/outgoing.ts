/**
 * Turns a captured packet into an mbuf with a copy of its bytes, or returns the reason why it can't
 * be sent. The bytes are copied, because the driver keeps mbufs while the next part of the file is
 * read into the same buffer.
 *
 *   captured    | Ethernet frame ............ | FCS |
 *   sent        | Ethernet frame ............ | zeros up to 60 bytes, for a runt
 *
 * The length of a frame does not tell a jumbo frame from a super-frame that a NIC was still to cut.
 * A frame counts as a super-frame when the file says so (epb_flags), when no NIC has such an MTU,
 * or when its IP header states no length. A frame without a stated length that needs no cut gets
 * its length.
 *
 * Source: draft-ietf-opsawg-pcapng, section 4.3.1 (epb_flags).
 */
import { copyBytes } from "../../../shared/bytes/copy.ts";
import { frameBytes, heldBytes } from "../../../shared/capture/frame-bytes.ts";
import { ETHER_HEADER_BYTES, headerBytes } from "../../../shared/net/ethernet.ts";
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
/** Least bytes of a frame, without its FCS. */
const LEAST_FRAME_BYTES = 60;

/** Reasons why a packet is not sent. */
export const Skip = {
  /** Another sighting of a frame that was sent. */
  COPY: "copy",
  /** The packet of an interface that was not chosen. */
  NOT_CHOSEN: "notChosen",
  /** The packet of another link layer. */
  NOT_ETHERNET: "notEthernet",
  /** A packet of which the file contains the beginning only. */
  TRUNCATED: "truncated",
  /** Shorter than an Ethernet header. */
  NO_HEADER: "noHeader",
  /** Longer than the MTU allows. */
  TOO_LONG: "tooLong",
  /** A super-frame that is longer than the driver can have cut. */
  TOO_LONG_TO_CUT: "tooLongToCut",
  /** A super-frame that the driver can't have cut, or that is not a whole TCP packet. */
  SUPER_FRAME: "superFrame",
  /** A packet with an unfinished checksum that the driver can't have finished. */
  UNFINISHED: "unfinished",
  /** A packet that the driver did not accept. */
  REFUSED: "refused",
} as const;
export type Skip = (typeof Skip)[keyof typeof Skip];
/** Reasons that lie in the packet, not in the driver. */
export type FileSkip = Exclude<Skip, typeof Skip.REFUSED>;

/** Bytes of storage of a reused mbuf: the usual size, and a limit for frames of the largest MTU. */
const USUAL_BYTES = 2048;
const LARGEST_BYTES = 10 * 1024;
const NO_BYTES = new Uint8Array(0);

/** Makes mbufs of packets. Mbufs are reused after the driver frees them. */
export class Outgoing {
  /** Number of mbufs that the driver or the loop holds. */
  inUse = 0;
  readonly #ifnet: Ifnet;
  readonly #sendTruncated: boolean;
  readonly #free: Mbuf[] = [];
  readonly #frame = new Frame();
  readonly #release = (m: Mbuf): void => {
    this.inUse--;
    // Kept storage of super-frames would add up to much memory.
    if (m.buffer.length > LARGEST_BYTES) m.buffer = NO_BYTES;
    this.#free.push(m);
  };

  /** With `sendTruncated`, the captured part of a truncated packet counts as a frame. */
  constructor(ifnet: Ifnet, sendTruncated: boolean) {
    this.#ifnet = ifnet;
    this.#sendTruncated = sendTruncated;
  }

  /**
   * Returns the packet as an mbuf, which the caller owns, or the reason why it can't be sent. The
   * cookie of the mbuf is the number of bytes of padding.
   */
  take(packet: CapturedPacket): Mbuf | FileSkip {
    if (packet.linkType !== LINK_ETHERNET) return Skip.NOT_ETHERNET;
    const whole = frameBytes(packet);
    const length = heldBytes(packet);
    if (length < whole && !this.#sendTruncated) return Skip.TRUNCATED;
    if (length < ETHER_HEADER_BYTES) return Skip.NO_HEADER;
    const { bytes, flags } = packet;
    const limit = limitOf(bytes, this.#ifnet.mtu);
    // In a frame of the least length, the start of the padding is unknown.
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

  /**
   * Handles a frame whose IP header states no length: leaves it to be cut, or fills in the length.
   */
  #unstated(bytes: Uint8Array, length: number, limit: number): Mbuf | FileSkip {
    const frame = this.#frame;
    frame.reset();
    frame.push(bytes, 0, length);
    const h = frame.headers();
    if (length > limit) {
      // For other protocols than TCP, the place of the cuts is unknown.
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

  /** Makes an mbuf that leaves work to the NIC: segments for this MTU, or only the checksum. */
  #toFinish(bytes: Uint8Array, length: number, isSuper: boolean): Mbuf | FileSkip {
    const frame = this.#frame;
    const skip = isSuper ? Skip.SUPER_FRAME : Skip.UNFINISHED;
    if (isSuper && length > this.#ifnet.hwTsomax) return Skip.TOO_LONG_TO_CUT;
    frame.reset();
    frame.push(bytes, 0, length);
    const h = frame.headers();
    // The checksum in a fragment covers the whole packet.
    if (h.fragment || (h.l4 !== L4.TCP && h.l4 !== L4.UDP)) return skip;
    frame.needsCsum = true;
    frame.csumStart = h.l4Offset;
    frame.csumOffset = h.l4 === L4.TCP ? TCP_CHECKSUM : UDP_CHECKSUM;
    if (isSuper) {
      frame.gso = h.l3 === L3.IPV6 ? Gso.TCPV6 : Gso.TCPV4;
      // The file does not contain the size of the segments: use the largest that fit.
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

/** Returns the longest frame (bytes) for `mtu`. A VLAN tag does not count against the MTU. */
const limitOf = (bytes: Uint8Array, mtu: number): number => mtu + headerBytes(bytes);

/**
 * Returns the reason why `packet` was skipped, with a remedy where there is one; undefined for a
 * reason that is no fault.
 */
export function explain(
  skip: FileSkip,
  packet: CapturedPacket,
  { mtu, hwTsomax }: Ifnet,
): string | undefined {
  const { linkType, capturedLength, originalLength, bytes } = packet;
  const length = heldBytes(packet);
  switch (skip) {
    case Skip.COPY:
    case Skip.NOT_CHOSEN:
      return undefined;
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
