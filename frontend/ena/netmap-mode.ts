/**
 * The driver's netmap state while netmap can open the interface, and the test for rings in netmap
 * mode. Each ring uses either mbufs or netmap slots, so partly opened ports work.
 *
 *   netmap.ts          attach, and register when a port is opened or closed
 *   netmap-rx.ts       rxsync     netmap-rx-slots.ts   moves a buffer between slot and device
 *   netmap-tx.ts       txsync     netmap-tx-slots.ts
 *
 * After ena_netmap.h and the netmap parts of ena.c (amzn-drivers: kernel/fbsd/ena).
 */
import { Ifcap } from "../net/ifnet.ts";
import type { NativeAdapter } from "../netmap/adapter.ts";
import { RingMode, Txrx } from "../netmap/flags.ts";

export class EnaNetmap {
  /** The interface's adapter in the core of netmap. */
  readonly na: NativeAdapter;
  /** By queue: true while the end of a packet that can't be sent is not released yet. */
  readonly txDropping: boolean[] = [];
  /** True while released slots wait for the link, the push budget or the device. */
  txWaits = false;

  constructor(na: NativeAdapter) {
    this.na = na;
  }

  /** ena_rx_ring_in_netmap: IFCAP_NETMAP is on, the adapter native, and the kring in netmap mode. */
  hasRxRing(qid: number): boolean {
    return this.#has(qid, Txrx.RX);
  }

  /** ena_tx_ring_in_netmap */
  hasTxRing(qid: number): boolean {
    return this.#has(qid, Txrx.TX);
  }

  #has(qid: number, t: Txrx): boolean {
    const { na } = this;
    if (na.ifnet === undefined || (na.ifnet.capEnable & Ifcap.NETMAP) === 0) return false;
    return na.kringOn(qid, t) !== undefined;
  }

  /** Wakes the applications with waiting slots, because there is room: they may sync again. */
  txReady(): void {
    if (!this.txWaits) return;
    this.txWaits = false;
    for (const kring of this.na.txRings) {
      if (kring.nrMode === RingMode.ON && kring.nrHwcur !== kring.rhead) {
        this.na.txIrq(kring.ringId);
      }
    }
  }
}
