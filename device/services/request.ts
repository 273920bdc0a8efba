/**
 * A frame that reached the host, and what a service says to it. A service reads the bytes of a
 * request during its call only.
 */
import type { Frame } from "../../shared/net/frame.ts";
import type { Headers } from "../../shared/net/headers.ts";

/** Reasons for which a service does not answer. Their names appear in the status. */
export const Unanswered = {
  /** Lengths, types or fields of the message contradict each other or the RFC. */
  MALFORMED: "malformed",
  CHECKSUM: "checksum",
  /** The packet is a fragment. Every message for a service fits one frame. */
  FRAGMENT: "fragment",
  /** A kind of message or query that this host does not serve. */
  UNSUPPORTED: "unsupported",
  /** A limit a second: that of the sender's port, or that of the service. */
  PORT_RATE: "port_rate",
  RATE: "rate",
  /** The receiver of the answer has no room, on a segment that holds frames. */
  HELD: "held",
  /** The client address of a DHCP message is not the sender of its frame. */
  NOT_SENDER: "not_sender",
  /** A relay sent the DHCP message. */
  RELAYED: "relayed",
  /** The client chose another DHCP server. */
  OTHER_SERVER: "other_server",
  /** No address is free, or the port has its share of the pool. */
  POOL_EMPTY: "pool_empty",
  PORT_SHARE: "port_share",
  /** Another host of the segment uses the address of the services. */
  CONFLICT: "conflict",
} as const;
export type Unanswered = (typeof Unanswered)[keyof typeof Unanswered];

/** The frame of an answer, the reason why there is none, or undefined if none is due. */
export type Answer = Uint8Array | Unanswered | undefined;

/** A frame in memory of its own, in one span. */
export interface Request {
  readonly frame: Frame;
  readonly bytes: Uint8Array;
  readonly headers: Headers;
  /** Ethernet address of its sender. */
  readonly sender: Uint8Array;
}

/** Addresses of a host. */
export interface HostPlace {
  readonly mac: Uint8Array;
  readonly linkLocal: Uint8Array;
}

/** A NIC of the segment, as the owner of the host knows it. */
export interface NamedNic {
  readonly name: string;
  /** Address as a number; see `macKey`. */
  readonly mac: number;
}

/** What the host asks about its segment. */
export interface Neighbourhood {
  nics(): Iterable<NamedNic>;
  /** Returns the name of the NIC with this address, undefined for all other addresses. */
  nameOf(mac: number): string | undefined;
  /** Returns the port behind which the address was seen last. */
  portOf(mac: number): { readonly name: string; readonly isUplink: boolean } | undefined;
}
