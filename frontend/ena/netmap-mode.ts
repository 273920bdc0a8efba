/**
 * The places where netmap joins the driver: which rings are in netmap mode, and what the driver asks
 * of its netmap part for those. Each ring chooses for itself between mbufs and netmap slots, so
 * partly opened ports work; without netmap the hooks are absent and nothing here costs anything.
 *
 *   refill, free, interrupt, ring set-up ──► NetmapHooks ──► netmap-rx.ts, netmap-tx.ts
 *
 * After ena_netmap.h and the netmap parts of ena.c (amzn-drivers: kernel/fbsd/ena).
 */
import { Ifcap } from "../net/ifnet.ts";
import type { NativeAdapter } from "../netmap/adapter.ts";
import { RingMode, Txrx } from "../netmap/flags.ts";
import type { Adapter } from "./adapter.ts";
import type { RxRing, TxRing } from "./rings.ts";

export interface NetmapHooks {
  /** What the core of netmap knows the interface by. */
  readonly na: NativeAdapter;
  /** By queue: a packet that can't be sent goes on beyond what was released of it so far. */
  readonly txDropping: boolean[];
  /** A ring was set up anew (netmap_reset). */
  resetRxRing(adapter: Adapter, ring: RxRing): void;
  resetTxRing(adapter: Adapter, ring: TxRing): void;
  /** Slots whose buffers the device may have now. */
  rxRoom(adapter: Adapter, ring: RxRing): number;
  /** Puts a slot's buffer behind the id, as `allocRxMbuf` does with an mbuf: 0 or an errno. */
  allocRxSlot(adapter: Adapter, ring: RxRing, id: number): number;
  /** The reverse, for a ring that goes: the buffer returns to a slot. */
  returnRxSlot(adapter: Adapter, ring: RxRing, id: number): void;
  /** Gives the slots of every packet in flight back. Returns how many packets that are. */
  freeTxSlots(adapter: Adapter, ring: TxRing): number;
}

/** ena_rx_ring_in_netmap: IFCAP_NETMAP is on, the adapter native, and the kring in netmap mode. */
export function rxRingInNetmap(adapter: Adapter, qid: number): boolean {
  return inNetmap(adapter, qid, Txrx.RX);
}

/** ena_tx_ring_in_netmap */
export function txRingInNetmap(adapter: Adapter, qid: number): boolean {
  return inNetmap(adapter, qid, Txrx.TX);
}

function inNetmap(adapter: Adapter, qid: number, t: Txrx): boolean {
  const { netmap, ifnet } = adapter;
  if (netmap === undefined || (ifnet.capEnable & Ifcap.NETMAP) === 0) return false;
  return netmap.na.kringOn(qid, t) !== undefined;
}

/** Slots were released that the link, the push budget or the state of the device keeps back. */
export function netmapTxReady(adapter: Adapter): void {
  const { netmap } = adapter;
  if (!adapter.netmapTxWaits || netmap === undefined) return;
  if (!adapter.running || !adapter.linkUp) return;
  if (!adapter.gate.hasRoom) return;
  adapter.netmapTxWaits = false;
  for (const kring of netmap.na.txRings) {
    if (kring.nrMode === RingMode.ON && kring.nrHwcur !== kring.rhead) {
      netmap.na.txIrq(kring.ringId);
    }
  }
}

/** Frames may have come while the carrier was down, when nobody was allowed to take them. */
export function netmapLinkUp(adapter: Adapter): void {
  for (const { rx } of adapter.queues) {
    if (rxRingInNetmap(adapter, rx.qid)) adapter.netmap?.na.rxIrq(rx.qid);
  }
}
