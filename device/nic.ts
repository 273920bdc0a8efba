/** What the server needs of any NIC model; the rooms `ena` and `xen` implement it. */
import type { Clock } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import type { NicStatus } from "../shared/status/device-status.ts";
import type { DeviceSink, Sent } from "../shared/wire/catalogue.ts";
import type { LinkState } from "../shared/wire/link-state.ts";
import type { FaultSeverity } from "../shared/wire/transactions.ts";
import type { HostMemory } from "./dma/host-memory.ts";
import type { Mirror } from "./dma/mirror-check.ts";
import type { Port, SwitchPort } from "./switch/port.ts";

/** Told when a NIC came or went. */
export interface NicEvent {
  readonly name: string;
  readonly mac: string;
  readonly peer: string;
  /** Why it left. */
  readonly reason?: string;
}

/** Told when a NIC's driver broke a rule. */
export interface NicFault {
  readonly name: string;
  readonly severity: FaultSeverity;
  readonly code: string;
  readonly text: string;
}

/** What was agreed in hello and welcome. */
export interface NicConfig {
  readonly name: string;
  /** Six bytes, network order. */
  readonly mac: Uint8Array;
  /** Largest number of queue pairs offered. */
  readonly queues: number;
  /** Largest MTU offered, without the Ethernet header. */
  readonly maxMtu: number;
}

/** What a NIC model may do to the world outside it. */
export interface NicHost {
  readonly memory: HostMemory;
  readonly config: NicConfig;
  readonly log: Logger;
  /** Posts an MSI-X vector behind everything posted so far. */
  interrupt(vector: number): void;
  /** Names a broken rule, in the log and to the frontend. Rate limited; counted always. */
  fault(severity: FaultSeverity, code: string, text: string): void;
  /** Plugs a port into the NIC's segment. */
  plug(port: Port): SwitchPort;
  /** Sends what was posted at the end of this turn of the event loop. */
  scheduleFlush(): void;
  /**
   * False while more is sent and not yet acknowledged than the link's limit (about 20 ms of its
   * rate). `writableAgain` of the NIC follows.
   */
  askForRoom(): boolean;
  /** False while more than 1 MiB is unsent. `writableAgain` follows. */
  askToWork(): boolean;
  /** Round trip in ms as the heartbeat measures it; 0 before the first. */
  readonly roundTripMs: number;
  readonly clock: Clock;
}

/** What a model of a paravirtual device may do beside that. */
export interface GuestHost extends NicHost {
  readonly memory: HostMemory;
  /** Posts to the guest; the bytes are copied at once. */
  post<N extends GuestPosts>(name: N, fields: Sent<N>): void;
}
export type GuestPosts = "event" | "grant_use" | "hypercall_reply" | "xenstore";

/**
 * What a paravirtual guest asks of its hypervisor. A NIC model without it refuses these.
 * `hypercall` is answered with `hypercall_reply`, at once or later.
 */
export type GuestCalls = Pick<
  DeviceSink,
  "grant" | "endGrant" | "hypercall" | "event" | "xenstore"
>;

/** What a driver asks of a PCI function. A NIC model without it refuses these. */
export interface PciCalls {
  /** PCI revision id; told in welcome. */
  readonly revision: number;
  /** True when there is a BAR 2; told in welcome. */
  readonly deviceMemory: boolean;
  /** A posted register, doorbell or device-memory write; bytes are src[at .. at + length). */
  mmioWrite(bar: number, offset: number, src: Uint8Array, at: number, length: number): void;
  /** A plain register read. Returns the bytes. */
  mmioRead(bar: number, offset: number, length: number): Uint8Array;
}

/** What a test of a driver can do to a NIC. */
export interface NicLevers {
  /** Breaks the NIC until its driver resets it. The fault carries code and text. */
  fail(code: string, text: string): void;
  /** Asks the driver for a reset. False when the driver did not ask to hear of that. */
  requestReset(): boolean;
}

export interface Nic {
  readonly levers?: NicLevers;
  readonly pci?: PciCalls;
  readonly guest?: GuestCalls;
  /** Memory that driver and model share now, as a read finds it. Without it: every window. */
  sharedRings?(): readonly Mirror[];
  /** A window is about to go away. */
  windowRemoved(address: number, length: number): void;
  /**
   * The NIC is about to move to another device: has the driver suspend, calls `done` when it has.
   * A model without it lets the driver find out.
   */
  suspend?(done: () => void): void;
  /** The batch has been applied in full. */
  batchEnd(): void;
  /** The link can take more again. */
  writableAgain(): void;
  /** Once a second, and only here, time passes: keep-alive, ageing. */
  tick(): void;
  /** Everything is released; the port leaves the switch. */
  destroy(): void;
  snapshot(): NicStatus["nic"];
  /** Frames taken from the switch that are not on their way to the driver yet. */
  readonly rxQueued: number;
  /** Tells queues and grants as the wire has made them. */
  tellState(state: LinkState): void;
}
