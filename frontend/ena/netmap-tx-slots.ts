/**
 * Native netmap, transmit: returns buffers to slots. Set-up and teardown of rings use this file,
 * and so does txsync. netmap-tx.ts has a drawing of the ring.
 *
 * After ena_netmap.c (amzn-drivers: kernel/fbsd/ena).
 */
import { Ns, Txrx } from "../netmap/flags.ts";
import { nmNext, nmPrev } from "../netmap/ring.ts";
import type { EnaNetmap } from "./netmap.ts";
import { PKT_MAX_BUFS, type TxRing, TxSlots } from "./rings.ts";

/**
 * ena_netmap_reset_tx_ring: the application owns every slot, and unsent packets count as sent. The
 * rest of a partly released packet is not sent either, because its first part is gone.
 */
export function resetTxRing(netmap: EnaNetmap, ring: TxRing): void {
  const { na, txDropping } = netmap;
  const kring = na.txRings[ring.qid]!;
  const { ring: slots } = kring;
  let isDropping = txDropping[ring.qid] === true;
  if (slots !== undefined) {
    for (let i = kring.nrHwcur; i !== kring.rhead; i = nmNext(i, slots.lim)) {
      const more = (slots.slotFlags(i) & Ns.MOREFRAG) !== 0;
      if (!more && !isDropping) {
        ring.stats.dropped_unsent++;
        if (na.ifnet !== undefined) na.ifnet.counters.oqdrops++;
      }
      isDropping = more;
    }
  }
  txDropping[ring.qid] = isDropping;
  na.reset(Txrx.TX, ring.qid);
  ring.slots = new TxSlots(ring.size, kring, isDropping);
}

/** Returns a buffer to the next empty slot. */
export function returnTxSlot(ring: TxRing, out: TxSlots, bufIdx: number): void {
  const slots = out.kring.openRing;
  if (out.slotsOut === 0) throw new Error(`ena: tx queue ${ring.qid} gives back an untaken slot`);
  const slot = nmNext(out.nmSlot, slots.lim);
  if (slots.bufIdx(slot) !== 0) {
    // A slot that the driver never emptied would lose its buffer. Otherwise an application has
    // written there, see takeBackSlot.
    if (out.slotTaken[slot] !== 1) {
      throw new Error(
        `ena: tx queue ${ring.qid} slot ${slot} already has buffer ${slots.bufIdx(slot)}`,
      );
    }
    ring.stats.bad_slot++;
  }
  out.slotTaken[slot] = 0;
  slots.setBufIdx(slot, bufIdx);
  slots.setSlotFlags(slot, Ns.BUF_CHANGED);
  out.slotsOut--;
  out.nmSlot = slot;
}

/** Returns all buffers of a packet to slots. */
export function returnTxSlots(ring: TxRing, out: TxSlots, id: number): void {
  const base = id * PKT_MAX_BUFS;
  const used = out.used[id]!;
  out.used[id] = 0;
  for (let i = 0; i < used; i++) returnTxSlot(ring, out, out.bufIdx[base + i]!);
}

/**
 * At the teardown of a ring, returns the buffers of packets in flight, which are unmapped already,
 * to slots. The original loses them.
 */
export function freeTxSlots({ txDropping }: EnaNetmap, ring: TxRing): void {
  const out = ring.slots;
  if (out === undefined) return;
  txDropping[ring.qid] = out.dropping;
  if (out.slotsOut === 0) return;
  const { kring } = out;
  const { lim } = kring.openRing;
  out.nmSlot = kring.nrHwtail;
  for (let id = 0; id < ring.size; id++) returnTxSlots(ring, out, id);
  if (out.slotsOut !== 0) throw new Error(`ena: tx queue ${ring.qid} lost ${out.slotsOut} slots`);
  if (nmNext(out.nmSlot, lim) !== kring.nrHwcur) {
    throw new Error(`ena: tx queue ${ring.qid} has slots that nobody has`);
  }
  kring.nrHwtail = nmPrev(kring.nrHwcur, lim);
}
