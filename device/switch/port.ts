/** The interface between the switch and its ports. */
import type { Frame } from "../../shared/net/frame.ts";
import type { Cut } from "../../shared/net/segment.ts";

/** Reasons for a drop. Their names appear in counters, status and captures. */
export const DropReason = {
  RUNT: "runt",
  TOO_BIG: "too_big",
  BAD_SOURCE: "bad_source",
  RESERVED_ADDRESS: "reserved_address",
  HAIRPIN: "hairpin",
  NO_PORT: "no_port",
  PORT_DOWN: "port_down",
  MAC_LIMIT: "mac_limit",
  /** The source is the address of a NIC behind another port. */
  MAC_SPOOF: "mac_spoof",
  /** The port floods more than its limit (storm.ts). */
  STORM_BROADCAST: "storm_broadcast",
  STORM_MULTICAST: "storm_multicast",
  STORM_UNKNOWN: "storm_unknown",
  /** The port may not send this frame in any VLAN. */
  VLAN_DENIED: "vlan_denied",
  /** The source is an address that the port's rules do not allow. */
  ADDRESS_DENIED: "address_denied",
  /** Sender and receiver are isolated from each other. */
  ISOLATED: "isolated",
  /** The port sends more than its rate. */
  RATE: "rate",
  /** Forged ARP or neighbour discovery. */
  GUARD_ARP: "guard_arp",
  GUARD_ND: "guard_nd",
  MALFORMED_OFFLOAD: "malformed_offload",
  /** A super-frame of too many segments for its number of receivers. */
  TOO_MANY_SEGMENTS: "too_many_segments",
  RX_OVERRUN: "rx_overrun",
  LINK_BACKLOG: "link_backlog",
  QUEUE_FULL: "queue_full",
  TX_MALFORMED: "tx_malformed",
  TX_FAULT: "tx_fault",
  HOST_REFUSED: "host_refused",
  /** The destination is a group that the port did not request. */
  MULTICAST_FILTER: "multicast_filter",
  /** The frontend's link ended before the frames arrived. */
  LINK_LOST: "link_lost",
  /** The frame waited too long for room. */
  EXPIRED: "expired",
  /** The frame waited while this process stood still. */
  STALE: "stale",
  /** The guest has accepted nothing for so long that its carrier is off. */
  STALLED: "stalled",
} as const;
export type DropReason = (typeof DropReason)[keyof typeof DropReason];

/** Offloads that a port accepts. The switch does the other ones in software before `deliver`. */
export interface PortOffloads {
  /** True if the port accepts frames with needsCsum set (the checksum is not complete). */
  readonly csum: boolean;
  /** True if the port accepts TCP super-frames over IPv4 (`tso4`) and IPv6 (`tso6`). */
  readonly tso4: boolean;
  readonly tso6: boolean;
}

export interface Port {
  readonly name: string;
  /** Kind of the port for status: "ena", "xen", "tap", ... */
  readonly kind: string;
  /** True for a port of the device itself, whose frames this program makes. */
  readonly isOwn?: boolean;
  /**
   * True for a port of one client that is no NIC of this device. It has the limits of a NIC, and may use
   * few addresses, none of which is known behind another port.
   */
  readonly isClient?: boolean;
  readonly offloads: PortOffloads;
  /** Bytes of the longest frame after segmentation, with the Ethernet header, without the FCS. */
  readonly maxFrameBytes: number;
  /**
   * Accepts one frame, or returns the reason for a drop. The caller owns the frame again after the
   * return. The port copies the bytes that it keeps and posts them at `flush`. The port must not
   * call `SwitchPort.input` from `deliver`: the switch would throw, because it is handling a frame.
   */
  deliver(frame: Frame): DropReason | undefined;
  /**
   * Accepts the first segments of a super-frame, as many as it can at once, and builds them where it
   * keeps their bytes. The switch delivers the other ones as frames. For a port that copies.
   */
  deliverSegments?(cut: Cut): void;
  /**
   * Returns whether there is room now for `frames` (default 1) more frames of at most `length`
   * bytes each. More than one frame are the segments of one super-frame. The switch calls this
   * before `deliver`, and only if it is set to hold instead of drop.
   */
  ready(length: number, frames?: number): boolean;
  /**
   * Called at the end of a burst: publishes completions, rings and sends. With `now` the message
   * leaves in this call, else at the end of the turn. `now` means that the switch is in the middle
   * of a flood, so the port must not call `SwitchPort.input` then.
   */
  flush(now?: boolean): void;
}

/** Result of `SwitchPort.input`. */
export const Verdict = {
  /** Delivered to at least one port, or dropped and counted. The sender may release the frame. */
  DONE: 0,
  /** The destination has no room. Keep the frame and try again when `onReady` is called. */
  HELD: 1,
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** The switch's interface for one attached port. */
export interface SwitchPort {
  /** Sends a frame to the segment. */
  input(frame: Frame): Verdict;
  /** Ends the sender's burst: flushes each port that received a frame. */
  flush(): void;
  /** Reports that this port has room again. Wakes the senders that got HELD for this port. */
  roomAgain(): void;
  /** Counts frames lost in the port: before they reached the switch, or on their way out. */
  drop(reason: DropReason, direction: "in" | "out", frames?: number): void;
  /** Number of frames that the port accepted and has not counted as lost later. */
  readonly taken: number;
  /** Work of the last `input`, in frames. A frame with many copies counts more than one. */
  readonly work: number;
  /** True while the sender's frames are those that waited for this process. They are dropped. */
  stale: boolean;
  /** Called when a frame refused with HELD may be tried again. */
  onReady: (() => void) | undefined;
  /** Detaches the port and forgets its addresses. Frames for them are flooded or dropped. */
  detach(): void;
}
