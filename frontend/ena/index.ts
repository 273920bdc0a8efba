/**
 * The ENA driver, after FreeBSD's. README.md in this folder has a drawing.
 *
 * EnaDriver connects the driver interface of the session to the parts in this folder. One lock
 * serializes the lifecycle steps. Watchdogs run on the tick. Waits are polled after each batch.
 */

import { Register } from "../../shared/ena/registers.ts";
import type { CounterTree } from "../../shared/status/frontend-status.ts";
import type { LinkState } from "../../shared/wire/link-state.ts";
import type { Driver, DriverContext } from "../driver.ts";
import { unlessLost } from "../driver-error.ts";
import { Iff, type Ifnet } from "../net/ifnet.ts";
import { Adapter, type EnaOptions } from "./adapter.ts";
import { counterTree } from "./counter-tree.ts";
import { pollQueues, unmaskDue } from "./datapath.ts";
import { transmitReady } from "./datapath-tx.ts";
import {
  attach,
  changeMtu,
  detach,
  down,
  linkLost,
  need,
  resetTask,
  restoreDevice,
  up,
} from "./lifecycle.ts";
import { netmapAttach, netmapDetach } from "./netmap.ts";
import { tellQueues } from "./queue-state.ts";
import { checkAll } from "./watchdog.ts";

export class EnaDriver implements Driver {
  /** State of the driver, for tests and inspection. */
  readonly adapter: Adapter;
  readonly ifnet: Ifnet;

  constructor(ctx: DriverContext, options: EnaOptions = {}) {
    const adapter = new Adapter(ctx, options);
    this.adapter = adapter;
    this.ifnet = adapter.ifnet;
    this.ifnet.transmit = (mbufs, n) => {
      adapter.txStamp = adapter.clock();
      return adapter.gate.transmit(mbufs, n);
    };
    this.ifnet.setMtu = (mtu) =>
      adapter.lock.run(async () => (await unlessLost(changeMtu(adapter, mtu))) ?? 0);
  }

  attach(): Promise<void> {
    const adapter = this.adapter;
    return adapter.lock.run(async () => {
      await attach(adapter);
      netmapAttach(adapter);
    });
  }

  /** Brings the interface up. Without a device it resolves too: the next device brings it up. */
  async up(): Promise<void> {
    const { adapter } = this;
    await adapter.lock.run(async () => {
      adapter.ifnet.flags |= Iff.UP;
      if (!adapter.deviceRunning) return;
      // A device that waits for its reset accepts no commands. The restore calls `up`.
      if (adapter.triggerReset) await resetTask(adapter);
      else await unlessLost(need(up(adapter), "UP", "the interface can't come up"));
    });
  }

  async down(): Promise<void> {
    const { adapter } = this;
    await adapter.lock.run(async () => {
      adapter.ifnet.flags &= ~Iff.UP;
      await unlessLost(down(adapter));
    });
  }

  /** Notes that the link ends on purpose. ENA has no suspend: the next link starts with a reset. */
  async suspend(): Promise<void> {
    this.adapter.suspending = true;
  }

  /** Resolves when the device has applied everything posted so far: it then answers a read. */
  async settled(): Promise<void> {
    await this.adapter.ctx.pci.read32(0, Register.VERSION);
  }

  linkLost(): void {
    linkLost(this.adapter);
  }

  async linkBack(): Promise<void> {
    const { adapter } = this;
    await adapter.lock.run(() => restoreDevice(adapter));
  }

  batchApplied(): void {
    this.adapter.com?.waits.poll();
    pollQueues(this.adapter);
  }

  beforeFlush(): void {
    unmaskDue(this.adapter);
  }

  tick(): void {
    const adapter = this.adapter;
    adapter.advanceClock();
    if (!adapter.attached) return;
    if (!adapter.deviceRunning) {
      this.#retryRestore();
      return;
    }
    checkAll(adapter);
    for (const pair of adapter.queues) pair.polled = false;
    if (adapter.triggerReset && !adapter.resetPending) {
      adapter.resetPending = true;
      this.#background(() => resetTask(adapter).finally(() => (adapter.resetPending = false)));
    }
  }

  writableAgain(): void {
    transmitReady(this.adapter);
  }

  detach(): Promise<void> {
    const adapter = this.adapter;
    return adapter.lock.run(async () => {
      await detach(adapter);
      netmapDetach(adapter);
    });
  }

  counters(): CounterTree {
    return counterTree(this.adapter);
  }

  tellState(state: LinkState): void {
    tellQueues(state, this.adapter);
  }

  #retryRestore(): void {
    const adapter = this.adapter;
    if (adapter.retryTicks === 0 || --adapter.retryTicks > 0) return;
    this.#background(() => restoreDevice(adapter));
  }

  /** Runs `step` under the lock in the background. Ignores Abandoned; throws any other error. */
  #background(step: () => Promise<void>): void {
    unlessLost(this.adapter.lock.run(step)).catch((error: unknown) => {
      setImmediate(() => {
        throw error;
      });
    });
  }
}
