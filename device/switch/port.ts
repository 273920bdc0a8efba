/** What the switch needs of anything that is plugged into it. */
import type { Frame } from "../../shared/net/frame.ts";

/** Why a frame was not delivered. Names end up in counters, status and captures. */
export const DropReason = {
  RUNT: "runt",
  TOO_BIG: "too_big",
  BAD_SOURCE: "bad_source",
  RESERVED_ADDRESS: "reserved_address",
  HAIRPIN: "hairpin",
  NO_PORT: "no_port",
  PORT_DOWN: "port_down",
  MAC_LIMIT: "mac_limit",
  /** The source is the address of a NIC that has another port. */
  MAC_SPOOF: "mac_spoof",
  MALFORMED_OFFLOAD: "malformed_offload",
  RX_OVERRUN: "rx_overrun",
  LINK_BACKLOG: "link_backlog",
  QUEUE_FULL: "queue_full",
  TX_MALFORMED: "tx_malformed",
  TX_FAULT: "tx_fault",
  HOST_REFUSED: "host_refused",
  /** A group that the port did not ask for. */
  MULTICAST_FILTER: "multicast_filter",
  /** The frontend's link ended before it had them. */
  LINK_LOST: "link_lost",
  /** Waited too long for room. */
  EXPIRED: "expired",
  /** The guest has taken nothing for so long that its carrier is off. */
  STALLED: "stalled",
} as const;
export type DropReason = (typeof DropReason)[keyof typeof DropReason];

/** What a port takes as it is; for the rest the switch does the work before `deliver`. */
export interface PortOffloads {
  /** Takes frames with needsCsum set (checksum still to be finished). */
  readonly csum: boolean;
  /** Takes TCP super-frames over IPv4 and IPv6. */
  readonly tso4: boolean;
  readonly tso6: boolean;
}

export interface Port {
  readonly name: string;
  /** "ena", "xen", "tap", ... for status. */
  readonly kind: string;
  readonly offloads: PortOffloads;
  /** Longest frame after segmentation, Ethernet header included, FCS not. */
  readonly maxFrameBytes: number;
  /**
   * Takes one frame or says why not. The frame is the caller's again when this returns.
   * The port copies what it keeps and posts it at `flush`. It never calls `SwitchPort.input` from
   * within: the switch is in the middle of a frame, and throws.
   */
  deliver(frame: Frame): DropReason | undefined;
  /**
   * Room right now for `frames` more frames (one if not said) of at most `length` bytes each? More
   * than one are the segments of one super-frame. Asked only when the switch is set to hold
   * instead of drop, before `deliver`.
   */
  ready(length: number, frames?: number): boolean;
  /** The burst is over: publish completions, ring, send. */
  flush(): void;
}

/** What became of a frame handed to the switch. */
export const Verdict = {
  /** Delivered to at least one port, or dropped and counted: the sender may let go. */
  DONE: 0,
  /** A port set to hold has no room: keep the frame, `onReady` is called when to try again. */
  HELD: 1,
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** The switch as a plugged-in port sees it. */
export interface SwitchPort {
  /** Hands a frame to the segment. */
  input(frame: Frame): Verdict;
  /** The sender's burst is over: every port that got something flushes. */
  flush(): void;
  /** A port that held has room again; wakes those that were told HELD. */
  roomAgain(): void;
  /** Counts a frame that died in the port before it reached the switch, or on its way out. */
  drop(reason: DropReason, direction: "in" | "out", frames?: number): void;
  /** Frames that the port took and has not counted as lost since. */
  readonly taken: number;
  /** Called when a frame refused with HELD may be tried again. */
  onReady: (() => void) | undefined;
  /** Unplugs: its addresses are forgotten, frames for it flood or drop. */
  detach(): void;
}
