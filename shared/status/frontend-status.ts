/**
 * The status of a NIC as its frontend sees it. `nic.status()` returns it, and `ringwire frontend`
 * prints its last lines from it.
 */
import type { TapCounters } from "../tap/tap.ts";
import type { Personality } from "../wire/personality.ts";
import type { Counts } from "./device-status.ts";

/** The fields that the device decides are valid from the first welcome on. */
export interface FrontendStatus {
  /** Name of the NIC on the device. */
  readonly name: string;
  readonly driver: Personality;
  readonly state: SessionState;
  readonly mac: string;
  /** Bytes of a packet without its Ethernet header. */
  readonly mtu: number;
  /** The wait for the link and the TAP. */
  readonly waits: "reactor" | "libuv";
  /** Number of queue pairs. */
  readonly queues: number;
  readonly segment: string;
  /** Number of the connection. */
  readonly epoch: number;
  /** True when the device has memory for low-latency queues. */
  readonly deviceMemory: boolean;
  readonly link: LinkState;
  /** Number of times that the link came back. */
  readonly reconnects: number;
  /** Number of times that the device reported each fault, by code. */
  readonly faults: Counts;
  readonly counters: NicCounters;
}

/** `waiting`: the connection has ended, and the session will connect again. */
export type SessionState = "connecting" | "attached" | "waiting" | "closed";

export type LinkState = "unknown" | "down" | "up";

export interface NicCounters {
  readonly ifnet: IfCounters;
  readonly driver: CounterTree;
  /** Present when the program has sent or read frames. */
  readonly frames?: FrameCounters;
  /** Present with a TAP. */
  readonly tap?: TapCounters & { readonly host: Partial<TapHostCounters> };
}

/** Numbers under the sysctl names of the FreeBSD driver, in the same tree. */
export type CounterTree = { readonly [name: string]: number | string | CounterTree };

/** The IFCOUNTER_* counts of frames and bytes. The code that sees an event counts it. */
export interface IfCounters {
  ipackets: number;
  ibytes: number;
  /** Frames that the driver put into its ring. */
  opackets: number;
  obytes: number;
  /** `ierrors`: bad frames received. `oerrors`: frames that can't be sent. */
  ierrors: number;
  oerrors: number;
  /** Good received frames dropped because there was no room. */
  iqdrops: number;
  /**
   * Good frames dropped on transmit, because there was no room or because a ring ended. When a ring
   * ends, its frames are unsent, or sent without a completion. Frames without a completion are
   * also in `opackets`, and may have arrived.
   */
  oqdrops: number;
}

/** Frames that reached neither the program nor the driver. The driver counts its own drops. */
export interface FrameCounters {
  /** The program read too slowly, and its queue was full. */
  rxReaderFull: number;
  /** Offload facts that can't be honoured. */
  rxMalformed: number;
}

/** Frames that end between TAP and driver, by reason. The driver counts its own drops. */
export interface TapHostCounters {
  /** Kernel to driver: the driver refused the frame with an errno other than ENOBUFS. */
  txRefused: number;
  /** Kernel to driver: the frame waited too long for a link that is slower than its source. */
  txTooOld: number;
  /** Kernel to driver: offload facts that can't be honoured in software either. */
  txMalformed: number;
  /** Kernel to driver: no free cluster for work in software. */
  txNoCluster: number;
  /** Frames whose checksum or segmentation was done in software, because the driver can't. */
  txSoftware: number;
  /** Driver to kernel: no free slot in the TAP. */
  rxQueueFull: number;
  /** Driver to kernel: the mbuf chain has too many pieces. */
  rxTooManyPieces: number;
  /** Driver to kernel: the kernel's interface is down. */
  rxDown: number;
}
