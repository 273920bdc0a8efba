/**
 * What the driver keeps for netmap while the interface can be opened by it, and which rings are in
 * netmap mode. Each ring chooses for itself between mbufs and netmap slots, so partly opened ports
 * work.
 *
 *   netmap.ts          attach, and register when a port is opened or closed
 *   netmap-rx.ts       rxsync     netmap-rx-slots.ts   one buffer between a slot and the device
 *   netmap-tx.ts       txsync     netmap-tx-slots.ts
 *
 * After ena_netmap.h and the netmap parts of ena.c (amzn-drivers: kernel/fbsd/ena).
 */
import { Ifcap } from "../net/ifnet.ts";
import type { NativeAdapter } from "../netmap/adapter.ts";
import { RingMode, Txrx } from "../netmap/flags.ts";

export class EnaNetmap {
  /** What the core of netmap knows the interface by. */
  readonly na: NativeAdapter;
  /** By queue: a packet that can't be sent goes on beyond what was released of it so far. */
  readonly txDropping: boolean[] = [];
  /** Released slots wait for the link, the push budget or the device. */
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

  /** There is room: applications whose slots wait may sync again. */
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
