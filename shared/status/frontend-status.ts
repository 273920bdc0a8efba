/**
 * The status of a NIC as its frontend sees it: what `nic.status()` returns, and what the last words
 * of `ringwire frontend` are made of.
 */
import type { TapCounters } from "../tap/tap.ts";
import type { Personality } from "../wire/personality.ts";
import type { Counts } from "./device-status.ts";

/** Fields that the device decides hold since the first welcome. */
export interface FrontendStatus {
  /** The NIC's name on the device. */
  readonly name: string;
  readonly driver: Personality;
  readonly state: SessionState;
  readonly mac: string;
  /** Bytes of a packet without its Ethernet header. */
  readonly mtu: number;
  /** Queue pairs. */
  readonly queues: number;
  readonly segment: string;
  /** Number of the connection. */
  readonly epoch: number;
  /** True when the device has memory for low-latency queues. */
  readonly deviceMemory: boolean;
  readonly link: LinkState;
  /** Number of times that the link came back. */
  readonly reconnects: number;
  /** How often the device reported each fault, by code. */
  readonly faults: Counts;
  readonly counters: NicCounters;
}

/** `waiting`: the connection is gone, and another try follows. */
export type SessionState = "connecting" | "attached" | "waiting" | "closed";

export type LinkState = "unknown" | "down" | "up";

export interface NicCounters {
  readonly ifnet: IfCounters;
  readonly driver: CounterTree;
  /** Once the program sends or reads frames. */
  readonly frames?: FrameCounters;
  /** With a TAP. */
  readonly tap?: TapCounters & { readonly host: Partial<TapHostCounters> };
}

/** Numbers under the sysctl names of the FreeBSD driver, nested as its tree is. */
export type CounterTree = { readonly [name: string]: number | string | CounterTree };

/** Frames and bytes, as IFCOUNTER_*: counted where the thing happens. */
export interface IfCounters {
  ipackets: number;
  ibytes: number;
  /** Frames that the driver put into its ring. */
  opackets: number;
  obytes: number;
  /** Bad frames received; frames that can't be sent. */
  ierrors: number;
  oerrors: number;
  /** Good frames dropped for want of room. */
  iqdrops: number;
  /**
   * Good frames dropped on the way out: for want of room, or because a ring ended. The latter were
   * not sent yet, or their completion did not come; these are in `opackets` too, and may have arrived.
   */
  oqdrops: number;
}

/** Frames that neither the program nor the driver got, by reason. The driver counts its own drops. */
export interface FrameCounters {
  /** The program reads too slowly: its queue was full. */
  rxReaderFull: number;
  /** Offload facts that can't be honoured. */
  rxMalformed: number;
}

/** Frames that end here, by reason. What the driver drops, it counts itself. */
export interface TapHostCounters {
  /** Kernel to driver: refused with an errno other than ENOBUFS. */
  txRefused: number;
  /** Kernel to driver: waited too long for a link that is slower than its source. */
  txTooOld: number;
  /** Kernel to driver: offload facts that can't be honoured in software either. */
  txMalformed: number;
  /** Kernel to driver: no cluster for work done in software. */
  txNoCluster: number;
  /** Frames finished or cut here because the driver can't. */
  txSoftware: number;
  /** Driver to kernel: no free slot. */
  rxQueueFull: number;
  /** Driver to kernel: a chain of too many pieces. */
  rxTooManyPieces: number;
  /** Driver to kernel: the kernel's interface is down. */
  rxDown: number;
}
