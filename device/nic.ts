/** The interface between the server and a NIC model. The rooms `ena` and `xen` implement it. */
import type { Clock } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import type { NicStatus } from "../shared/status/device-status.ts";
import type { DeviceSink, Sent } from "../shared/wire/catalogue.ts";
import type { LinkState } from "../shared/wire/link-state.ts";
import type { FaultSeverity } from "../shared/wire/protocol.ts";
import type { HostMemory } from "./dma/host-memory.ts";
import type { Mirror } from "./dma/mirror-check.ts";
import type { Port, SwitchPort } from "./switch/port.ts";

/** Event of a NIC that joined or left. */
export interface NicEvent {
  readonly name: string;
  /** Name of the segment. */
  readonly segment: string;
  readonly mac: string;
  readonly peer: string;
  /** Reason why the NIC left. */
  readonly reason?: string;
}

/** Event of a NIC whose driver broke a rule. */
export interface NicFault {
  readonly name: string;
  /** Name of the segment. */
  readonly segment: string;
  readonly severity: FaultSeverity;
  readonly code: string;
  readonly text: string;
}

/** Properties of a NIC, as agreed in hello and welcome. */
export interface NicConfig {
  readonly name: string;
  /** Name of the segment. */
  readonly segment: string;
  /** MAC address: six bytes in network order. */
  readonly mac: Uint8Array;
  /** Largest number of queue pairs offered. */
  readonly queues: number;
  /** Largest MTU offered, in bytes without the Ethernet header. */
  readonly maxMtu: number;
}

/** Services of the device for a NIC model. */
export interface NicHost {
  readonly memory: HostMemory;
  readonly config: NicConfig;
  readonly log: Logger;
  /** Posts an MSI-X vector after everything posted so far. */
  interrupt(vector: number): void;
  /** Reports a broken rule in the log and to the frontend, at a limited rate. Counts each one. */
  fault(severity: FaultSeverity, code: string, text: string): void;
  /** Plugs a port into the NIC's segment. */
  plug(port: Port): SwitchPort;
  /** Sends posted records at the end of this turn of the event loop. */
  scheduleFlush(): void;
  /** Calls the NIC's `beforeFlush` and sends everything at once. */
  flush(): void;
  /** Sends posted records within `ms`, unless another batch takes them along before. */
  scheduleLazy(ms: number): void;
  /** Bytes of pushes that the driver may keep here, from the welcome. */
  readonly pushBytes: number;
  /**
   * Returns false while more bytes are unacknowledged than the link's limit, which is about 20 ms
   * of its rate. The NIC's `writableAgain` is called when there is room.
   */
  askForRoom(): boolean;
  /** Returns false while more than 1 MiB is unsent. `writableAgain` follows when there is room. */
  askToWork(): boolean;
  /** Round trip (ms) as the heartbeat measures it; 0 before the first heartbeat. */
  readonly roundTripMs: number;
  readonly clock: Clock;
}

/** Further services for a model of a paravirtual device. */
export interface GuestHost extends NicHost {
  readonly memory: HostMemory;
  /** Notifies an event channel of the guest. */
  event(port: number): void;
  /** Posts bytes to the guest. The bytes are copied at once. */
  post<N extends GuestPosts>(name: N, fields: Sent<N>): void;
}
export type GuestPosts = "grant_use" | "hypercall_reply" | "xenstore";

/**
 * Calls of a paravirtual guest to its hypervisor. Without this interface they are refused.
 * The model answers `hypercall` with `hypercall_reply`, at once or later.
 */
export type GuestCalls = Pick<
  DeviceSink,
  "grant" | "endGrant" | "hypercall" | "event" | "xenstore"
>;

/** Accesses of a driver to a PCI function. Without this interface they are refused. */
export interface PciCalls {
  /** PCI revision id, which welcome carries. */
  readonly revision: number;
  /** True if the function has a BAR 2. Welcome carries this flag. */
  readonly deviceMemory: boolean;
  /** Performs a posted write: register, doorbell or memory. Bytes are src[at .. at + length). */
  mmioWrite(bar: number, offset: number, src: Uint8Array, at: number, length: number): void;
  /** Reads a register. Returns its bytes. */
  mmioRead(bar: number, offset: number, length: number): Uint8Array;
}

/** Actions on a NIC that test its driver. */
export interface NicLevers {
  /** Breaks the NIC until its driver resets it. The reported fault carries code and text. */
  fail(code: string, text: string): void;
  /** Asks the driver for a reset. Returns false if the driver did not enable that event. */
  requestReset(): boolean;
}

export interface Nic {
  readonly levers?: NicLevers;
  readonly pci?: PciCalls;
  readonly guest?: GuestCalls;
  /** Yields the memory that driver and model share now. Default: every window. */
  sharedRings?(): readonly Mirror[];
  /** Called before a window goes away. */
  windowRemoved(address: number, length: number): void;
  /**
   * Lets the driver suspend before a move to another device. Calls `done` when it has suspended.
   * Without this method the driver moves without notice.
   */
  suspend?(done: () => void): void;
  /** Called when a batch has been applied in full. */
  batchEnd(): void;
  /** Called before a batch is sent. Posts what has waited for one. */
  beforeFlush(): void;
  /** Called when the link has room again. */
  writableAgain(): void;
  /** Called once a second, for keep-alive and ageing. The model has no other clock. */
  tick(): void;
  /** Releases everything. The port leaves the switch. */
  destroy(): void;
  snapshot(): NicStatus["nic"];
  /** Number of frames accepted from the switch that are not on their way to the driver yet. */
  readonly rxQueued: number;
  /** Writes the state of queues and grants, as the wire has made them, into `state`. */
  tellState(state: LinkState): void;
}
