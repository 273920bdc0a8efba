/** Interface between the session and any driver. The modules `ena` and `xen` implement it. */

import type { Clock } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import type { CounterTree } from "../shared/status/frontend-status.ts";
import type { LinkState } from "../shared/wire/link-state.ts";
import type { Hypervisor } from "./bus/hypervisor.ts";
import type { PciFunction } from "./bus/pci.ts";
import type { DmaSpace } from "./bus/space.ts";
import type { Ifnet } from "./net/ifnet.ts";

/** Everything that a driver works with. A driver has no access to a socket. */
export interface DriverContext {
  /** Source of coherent memory and of DMA maps. */
  readonly space: DmaSpace;
  readonly pci: PciFunction;
  /** The hypervisor, for drivers of paravirtual devices. */
  readonly hypervisor: Hypervisor;
  /** Unit name, for example `ena0`. */
  readonly name: string;
  /** Number of queue pairs wanted. The driver uses no more than the device offers. */
  readonly queues: number;
  readonly mtu: number;
  readonly log: Logger;
  readonly clock: Clock;
}

export interface Driver {
  /** Finds the device and registers the interface. Rejects with a sentence for the user. */
  attach(): Promise<void>;
  readonly ifnet: Ifnet;
  /** Brings the interface up or down, as ifconfig does. */
  up(): Promise<void>;
  down(): Promise<void>;
  /**
   * Called when the link is lost. The device then forgets this NIC. The driver sets the carrier
   * down, sends nothing, and abandons every wait. The application keeps the buffers that it owns.
   */
  linkLost(): void;
  /** Called when a link is back, perhaps to another device. Runs the driver's reset and restore. */
  linkBack(): Promise<void>;
  /**
   * Called before the NIC moves to another device. The driver sends nothing more and waits for what
   * was sent. Resolves when the NIC may leave the device. `linkLost` and `linkBack` follow.
   */
  suspend(): Promise<void>;
  /** Resolves once the device has received all that was posted before, for example Rx buffers. */
  settled(): Promise<void>;
  /** Called when a batch has been applied in full. The driver looks at its queues. */
  batchApplied(): void;
  /** Called before a batch is sent. The driver posts what has waited for one. */
  beforeFlush(): void;
  /** Called once a second. Runs the watchdog. */
  tick(): void;
  /** Called when the link has room again. */
  writableAgain(): void;
  detach(): Promise<void>;
  counters(): CounterTree;
  /** Posts what the driver holds back, then reports the resulting queues and grants to `state`. */
  tellState(state: LinkState): void;
}
