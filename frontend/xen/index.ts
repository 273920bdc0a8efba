/**
 * netfront, after FreeBSD's. README.md in this folder has a drawing.
 *
 * XenDriver connects the driver interface of the session to the parts in this folder. One lock
 * serializes the lifecycle steps. The rings are polled after each batch.
 */

import type { CounterTree } from "../../shared/status/frontend-status.ts";
import { type LinkState, XenRingKind } from "../../shared/wire/link-state.ts";
import type { Driver, DriverContext } from "../driver.ts";
import type { Ifnet } from "../net/ifnet.ts";
import { counterTree } from "./counter-tree.ts";
import { poll } from "./datapath.ts";
import { allocRxBuffers } from "./datapath-rx.ts";
import { NetfrontInfo, type XenOptions } from "./info.ts";
import {
  announce,
  attach,
  backendChanged,
  changeMtu,
  detach,
  down,
  linkLost,
  passing,
  resume,
  suspend,
  tryResume,
  up,
} from "./lifecycle.ts";
import { flush, postWaiting } from "./notify.ts";

export class XenDriver implements Driver {
  /** State of the driver, for tests and inspection. */
  readonly info: NetfrontInfo;
  readonly ifnet: Ifnet;

  constructor(ctx: DriverContext, options: XenOptions = {}) {
    const info = new NetfrontInfo(ctx, options);
    this.info = info;
    this.ifnet = info.ifnet;
    this.ifnet.transmit = (mbufs, n) => info.gate.transmit(mbufs, n);
    this.ifnet.setMtu = async (mtu) => changeMtu(info, mtu);
    const changed = info.lock.coalesced(() => backendChanged(info), passing);
    info.xenbus.onOtherend = () => {
      if (info.attached) changed();
    };
  }

  attach(): Promise<void> {
    const { info } = this;
    return info.lock.run(() => attach(info));
  }

  async up(): Promise<void> {
    up(this.info);
  }

  async down(): Promise<void> {
    down(this.info);
  }

  /** Stops transmission and waits, for a limited time, until every request has a response. */
  suspend(): Promise<void> {
    const { info } = this;
    return info.lock.run(() => suspend(info));
  }

  /** Resolves when the device has applied everything posted so far: it then answers a request. */
  async settled(): Promise<void> {
    flush(this.info);
    await this.info.store.readOptional("domid");
  }

  linkLost(): void {
    linkLost(this.info);
  }

  async linkBack(): Promise<void> {
    const { info } = this;
    await info.lock.run(async () => {
      if (info.attached) await resume(info);
    });
  }

  batchApplied(): void {
    const { info } = this;
    poll(info);
    info.events.poll();
    this.#refill();
  }

  beforeFlush(): void {
    postWaiting(this.info);
  }

  tick(): void {
    const { info } = this;
    info.events.poll();
    if (!info.attached) return;
    info.offersTaken = 0;
    this.#refill();
    announce(info);
    if (info.retryTicks === 0 || --info.retryTicks > 0) return;
    const { generation } = info;
    const again = async (): Promise<void> => {
      // The NIC may have been connected meanwhile, and may even be broken again. Another attempt
      // does not repair a broken NIC.
      const due = info.attached && info.generation === generation && info.rxqs.length === 0;
      if (due) await tryResume(info);
    };
    info.lock.run(again).catch(passing);
  }

  writableAgain(): void {
    this.info.gate.ready();
  }

  detach(): Promise<void> {
    const { info } = this;
    return info.lock.run(() => detach(info));
  }

  counters(): CounterTree {
    return counterTree(this.info);
  }

  tellState(state: LinkState): void {
    const { info } = this;
    postWaiting(info);
    info.grants.post();
    info.grants.tellState(state);
    // The rings have no meaning until the backend has connected to them.
    if (!info.carrier) return;
    for (const { id, ring, port } of info.txqs) {
      state.xenRing(ring!.state(XenRingKind.TX, id, port));
      state.xenRing(info.rxqs[id]!.ring!.state(XenRingKind.RX, id, port));
    }
  }

  /** Fills the rings for which buffers were short at the last attempt. */
  #refill(): void {
    const { info } = this;
    for (const rxq of info.rxqs) {
      if (!rxq.short) continue;
      allocRxBuffers(info, rxq);
      flush(info);
    }
  }
}
