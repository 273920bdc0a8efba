/** What the session needs of any driver; the rooms `ena` and `xen` implement it. */

import type { Clock } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import type { CounterTree } from "../shared/status/frontend-status.ts";
import type { LinkState } from "../shared/wire/link-state.ts";
import type { Hypervisor } from "./bus/hypervisor.ts";
import type { PciFunction } from "./bus/pci.ts";
import type { DmaSpace } from "./bus/space.ts";
import type { Ifnet } from "./net/ifnet.ts";

/** Everything a driver is given. It never sees a socket. */
export interface DriverContext {
  /** Where coherent memory and maps come from. */
  readonly space: DmaSpace;
  readonly pci: PciFunction;
  /** For drivers of paravirtual devices. */
  readonly hypervisor: Hypervisor;
  /** Unit name, as `ena0`. */
  readonly name: string;
  /** Queue pairs wanted; the driver takes no more than the device offers. */
  readonly queues: number;
  readonly mtu: number;
  readonly log: Logger;
  readonly clock: Clock;
}

export interface Driver {
  /** Finds the device, registers the interface. Rejects with a sentence when it can't. */
  attach(): Promise<void>;
  readonly ifnet: Ifnet;
  /** ifconfig up / down. */
  up(): Promise<void>;
  down(): Promise<void>;
  /**
   * The link is gone, and with it the device's memory of us: carrier down, nothing is sent,
   * every wait is abandoned. Buffers owned by the application stay its own.
   */
  linkLost(): void;
  /** A link is back, perhaps to another device: the driver's own reset and restore. */
  linkBack(): Promise<void>;
  /**
   * The NIC is about to move to another device: nothing more is sent, what was sent is finished.
   * `linkLost` and `linkBack` follow. Resolves when the device may be left.
   */
  suspend(): Promise<void>;
  /** Resolves once the device has all that was posted before, receive buffers for one. */
  settled(): Promise<void>;
  /** Called once a batch has been applied in full. */
  batchApplied(): void;
  /** Once a second: the watchdog. */
  tick(): void;
  /** Room on the link again. */
  writableAgain(): void;
  detach(): Promise<void>;
  counters(): CounterTree;
  /** Posts what the driver keeps back, then tells queues and grants as what was posted makes them. */
  tellState(state: LinkState): void;
}
