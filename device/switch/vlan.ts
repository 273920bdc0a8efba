/**
 * VLANs of a segment: which port is in which VLAN, and the tags of its frames.
 *
 *   sender's form ──► VLAN and frame without its tag ──► switch ──► receiver's form
 *
 *   port            from the port                        to the port
 *   access 10       no tag: VLAN 10; a tag: dropped      no tag
 *   trunk, native 1 tag 20: VLAN 20; no tag: VLAN 1      VLAN 20: tag; VLAN 1: no tag
 *
 * A tag with the number 0 carries a priority only, and its frame counts as one without a tag. A frame
 * with a second tag of the same type is dropped: behind a removed tag it would name another VLAN
 * (known as double tagging). Tags of a service provider (0x88a8) are data here.
 *
 * Source: IEEE 802.1Q-2018, 6.9 (ingress and egress rules), 9.6 (tag control information).
 */
import {
  ETHER_HEADER_BYTES,
  ETHER_TYPE,
  EtherType,
  VLAN_TAG_BYTES,
} from "../../shared/net/ethernet.ts";
import { Frame, Gso } from "../../shared/net/frame.ts";
import type { PortOptions } from "./port-options.ts";

/** VLAN of a port without a rule, as on most switches. */
const DEFAULT_VLAN = 1;
/** No VLAN: numbers begin at 1. */
export const NO_VLAN = 0;
/** Bits of the tag control information. */
const VLAN_MASK = 0x0fff;
const PRIORITY_SHIFT = 12;

/** The VLANs of one port. */
export class PortVlans {
  /** VLAN of frames without a tag, in both directions; NO_VLAN if they are dropped. */
  readonly untagged: number;
  readonly isTrunk: boolean;
  readonly #trunk: ReadonlySet<number> | "all";

  constructor({ access, trunk, native }: PortOptions) {
    this.isTrunk = trunk !== undefined;
    this.untagged = this.isTrunk ? (native ?? NO_VLAN) : (access ?? DEFAULT_VLAN);
    this.#trunk = trunk === "all" ? "all" : new Set(trunk);
  }

  has(vlan: number): boolean {
    if (vlan === this.untagged) return true;
    return this.isTrunk && (this.#trunk === "all" || this.#trunk.has(vlan));
  }
}

/** Removes and adds tags. Its frames are scratch: each is valid until the next call. */
export class VlanTags {
  readonly #bare = new Frame();
  readonly #tagged = new Frame();
  readonly #bareHeader = new Uint8Array(ETHER_HEADER_BYTES);
  readonly #taggedHeader = new Uint8Array(ETHER_HEADER_BYTES + VLAN_TAG_BYTES);
  /** VLAN and priority of the frame that `enter` accepted last. */
  vlan = NO_VLAN;
  #priority = 0;

  /**
   * Returns the frame as the switch handles it, without a tag, and sets `vlan`. Returns undefined if
   * the port may not send it.
   */
  enter(frame: Frame, from: PortVlans): Frame | undefined {
    const type = typeAt(frame, ETHER_TYPE);
    this.#priority = 0;
    this.vlan = from.untagged;
    if (type !== EtherType.VLAN) return this.vlan === NO_VLAN ? undefined : frame;
    const control = typeAt(frame, ETHER_HEADER_BYTES);
    const inner = typeAt(frame, ETHER_TYPE + VLAN_TAG_BYTES);
    if (inner < 0 || inner === EtherType.VLAN) return undefined;
    const number = control & VLAN_MASK;
    if (number !== 0) {
      if (!from.isTrunk || !from.has(number)) return undefined;
      this.vlan = number;
    }
    if (this.vlan === NO_VLAN) return undefined;
    this.#priority = control >>> PRIORITY_SHIFT;
    return this.#strip(frame);
  }

  /** Returns the frame of `enter`, or a segment of it, with the tag of its VLAN. */
  tag(frame: Frame): Frame | undefined {
    const header = this.#taggedHeader;
    frame.copyTo(header, 0, 0, ETHER_TYPE);
    header[ETHER_TYPE] = EtherType.VLAN >>> 8;
    header[ETHER_TYPE + 1] = EtherType.VLAN & 0xff;
    header[ETHER_HEADER_BYTES] = (this.#priority << 4) | (this.vlan >>> 8);
    header[ETHER_HEADER_BYTES + 1] = this.vlan & 0xff;
    frame.copyTo(header, ETHER_HEADER_BYTES + 2, ETHER_TYPE, 2);
    const out = this.#tagged;
    out.reset();
    out.push(header, 0, header.length);
    if (!pushRest(out, frame, ETHER_HEADER_BYTES)) return undefined;
    // Nothing is left to do for a frame with a tag, see `Switch`.
    out.csumValid = frame.csumValid;
    out.id = frame.id;
    out.queue = frame.queue;
    return out;
  }

  #strip(frame: Frame): Frame | undefined {
    const header = this.#bareHeader;
    frame.copyTo(header, 0, 0, ETHER_TYPE);
    frame.copyTo(header, ETHER_TYPE, ETHER_TYPE + VLAN_TAG_BYTES, 2);
    const out = this.#bare;
    out.reset();
    out.push(header, 0, header.length);
    if (!pushRest(out, frame, ETHER_HEADER_BYTES + VLAN_TAG_BYTES)) return undefined;
    out.needsCsum = frame.needsCsum;
    out.csumStart = frame.needsCsum ? frame.csumStart - VLAN_TAG_BYTES : 0;
    out.csumOffset = frame.csumOffset;
    out.csumValid = frame.csumValid;
    out.gso = frame.gso;
    out.gsoEcn = frame.gsoEcn;
    out.gsoSize = frame.gsoSize;
    out.headerLength = frame.gso === Gso.NONE ? 0 : frame.headerLength - VLAN_TAG_BYTES;
    out.queue = frame.queue;
    return out;
  }
}

/** Appends the bytes of `frame` from `skip` on. Returns false if `out` has no span left. */
function pushRest(out: Frame, frame: Frame, skip: number): boolean {
  let left = skip;
  for (let i = 0; i < frame.count; i++) {
    const have = frame.lengths[i]!;
    if (left < have && !out.push(frame.buffers[i]!, frame.offsets[i]! + left, have - left)) {
      return false;
    }
    left = Math.max(0, left - have);
  }
  return true;
}

/** Returns the two bytes at `at` as a number, or a negative number beyond the end. */
function typeAt(frame: Frame, at: number): number {
  if (at + 2 > frame.length) return -1;
  return (frame.byteAt(at) << 8) | frame.byteAt(at + 1);
}
