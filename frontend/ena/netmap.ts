/**
 * The places where netmap joins the driver. Each ring chooses for itself between mbufs and netmap
 * slots, so partly opened ports work; the functions behind the interface come with native netmap
 * support. After the ENA driver's netmap part (amzn-drivers: kernel/fbsd/ena/ena_netmap.c).
 */
import { Ifcap } from "../net/ifnet.ts";
import type { Adapter } from "./adapter.ts";
import type { RxRing, TxRing } from "./rings.ts";

export interface NetmapAdapter {
  /** The kring of this queue is in native netmap mode. */
  rxRingOn(qid: number): boolean;
  txRingOn(qid: number): boolean;
  /** A ring was set up anew (netmap_reset). */
  resetRxRing(ring: RxRing): void;
  resetTxRing(ring: TxRing): void;
  /**
   * Puts a slot's buffer behind the id: loads its map, fills address, length and netmapBufIdx.
   * 0 or an errno, as `allocRxMbuf`.
   */
  allocRxSlot(ring: RxRing, id: number): number;
  /** The reverse: the buffer goes back to a slot. */
  freeRxSlot(ring: RxRing, id: number): void;
  /** Gives the slots of every packet in flight back. */
  freeTxSlots(ring: TxRing): void;
  /** netmap_rx_irq, netmap_tx_irq: wakes the application. */
  rxIrq(ring: RxRing): void;
  txIrq(ring: TxRing): void;
}

/** ena_rx_ring_in_netmap */
export function rxRingInNetmap(adapter: Adapter, qid: number): boolean {
  const { netmap } = adapter;
  if (netmap === undefined || (adapter.ifnet.capEnable & Ifcap.NETMAP) === 0) return false;
  return netmap.rxRingOn(qid);
}

/** ena_tx_ring_in_netmap */
export function txRingInNetmap(adapter: Adapter, qid: number): boolean {
  const { netmap } = adapter;
  if (netmap === undefined || (adapter.ifnet.capEnable & Ifcap.NETMAP) === 0) return false;
  return netmap.txRingOn(qid);
}
