/**
 * Native netmap, receive: one buffer between a slot and the device. Set-up, refill and teardown of
 * rings use it, and rxsync, whose file netmap-rx.ts draws the ring.
 *
 * After ena_netmap.c (amzn-drivers: kernel/fbsd/ena).
 */
import { Errno } from "../bus/errno.ts";
import { SyncOp } from "../bus/map.ts";
import { Ns, Txrx } from "../netmap/flags.ts";
import type { Kring } from "../netmap/kring.ts";
import { type NetmapRing, nmNext, nmPrev, slotsBetween } from "../netmap/ring.ts";
import type { Adapter } from "./adapter.ts";
import type { EnaNetmap } from "./netmap-mode.ts";
import { MAX_RX_BUFFER_BYTES, type RxRing } from "./rings.ts";

/** The kring behind a ring of ours. Its shared half is absent while nobody has it open. */
export function kringOf(adapter: Adapter, ring: RxRing): Kring {
  const kring = adapter.netmap?.na.rxRings[ring.qid];
  if (kring === undefined) throw new Error(`ena: rx queue ${ring.qid} has no kring`);
  return kring;
}

/** ena_netmap_reset_rx_ring: every buffer is back in its slot; unread frames stay. */
export function resetRxRing({ na }: EnaNetmap, ring: RxRing): void {
  na.reset(Txrx.RX, ring.qid);
  const kring = na.rxRings[ring.qid]!;
  ring.nicCur = kring.nrHwtail;
  ring.nicSlots = 0;
  ring.slotTaken = new Uint8Array(kring.nkrNumSlots);
}

/**
 * Slots that can be given to the device now: those released, but one, and no more than its queue
 * takes. The rule holds in every state: drained ring, full ring, nothing released.
 */
export function rxRoom(adapter: Adapter, ring: RxRing): number {
  const released = releasedSlots(kringOf(adapter, ring), ring);
  return Math.max(0, Math.min(released - 1, ring.sq.freeEntries()));
}

/** N - unread - with the device. Not positive only if the application moved head where it must not. */
function releasedSlots(kring: Kring, ring: RxRing): number {
  const n = kring.nkrNumSlots;
  return n - slotsBetween(kring.rhead, kring.nrHwtail, n) - ring.nicSlots;
}

/**
 * ena_netmap_alloc_rx_slot: the next released slot's buffer goes behind the id, mapped. 0; ENOMEM
 * when no slot is to be had; EFAULT when the ring is not open, the slot names no buffer or it can't
 * be mapped. On an error nothing has changed.
 */
export function allocRxSlot(adapter: Adapter, ring: RxRing, id: number): number {
  // Taken before, and never given to the device.
  if (ring.netmapBufIdx[id] !== 0) return 0;
  const kring = kringOf(adapter, ring);
  const { memory } = kring.na;
  const slots = kring.ring;
  if (slots === undefined) return Errno.EFAULT;
  if (releasedSlots(kring, ring) <= 1) return Errno.ENOMEM;
  const bufIdx = slots.bufIdx(ring.nicCur);
  if (!memory.isBuffer(bufIdx)) {
    ring.stats.bad_slot++;
    kring.na.badSlot(kring, ring.nicCur, bufIdx);
    return Errno.EFAULT;
  }
  const map = ring.maps[id]!;
  const bytes = Math.min(memory.bufSize, MAX_RX_BUFFER_BYTES);
  if (map.load(memory.bytes, memory.bufferAt(bufIdx), bytes) !== 0) {
    ring.stats.dma_mapping_err++;
    return Errno.EFAULT;
  }
  map.sync(SyncOp.PREREAD);
  ring.netmapBufIdx[id] = bufIdx;
  ring.address[id] = map.segmentAddress(0);
  ring.length[id] = bytes;
  slots.setBufIdx(ring.nicCur, 0);
  ring.slotTaken[ring.nicCur] = 1;
  ring.nicCur = nmNext(ring.nicCur, slots.lim);
  ring.nicSlots++;
  return 0;
}

/**
 * ena_netmap_free_rx_slot: the buffer behind the id goes to the slot before nicCur. Not more can
 * come back than was taken, and no occupied slot is overwritten: either is a bug of ours and throws.
 */
export function freeRxSlot(adapter: Adapter, ring: RxRing, id: number): void {
  const slots = kringOf(adapter, ring).openRing;
  const slot = nmPrev(ring.nicCur, slots.lim);
  if (ring.nicSlots === 0) throw new Error(`ena: rx queue ${ring.qid} gives back an untaken slot`);
  if (slots.bufIdx(slot) !== 0) {
    throw occupied(ring, slots, slot);
  }
  const map = ring.maps[id]!;
  map.busy = false;
  map.sync(SyncOp.POSTREAD);
  map.unload();
  slots.setBufIdx(slot, ring.netmapBufIdx[id]!);
  slots.setSlotFlags(slot, Ns.BUF_CHANGED);
  ring.slotTaken[slot] = 0;
  ring.netmapBufIdx[id] = 0;
  ring.nicCur = slot;
  ring.nicSlots--;
}

const occupied = (ring: RxRing, slots: NetmapRing, slot: number): Error =>
  new Error(`ena: rx queue ${ring.qid} slot ${slot} already has buffer ${slots.bufIdx(slot)}`);

/** As freeRxSlot, for a ring that goes: an application that wrote into our slots ends nothing. */
export function returnRxSlot(adapter: Adapter, ring: RxRing, id: number): void {
  const slots = kringOf(adapter, ring).openRing;
  takeBackSlot(ring, slots, nmPrev(ring.nicCur, slots.lim));
  freeRxSlot(adapter, ring, id);
}

/**
 * Empties a slot that a buffer is about to return to. A slot that we never took and that has a buffer
 * is a bug of ours, and throws: its buffer would be lost. In a slot that we did take the application
 * has written, though it was not its own. That is counted and overwritten: the index may be copied
 * from anywhere, so nobody can say whether its buffer is free.
 */
export function takeBackSlot(ring: RxRing, slots: NetmapRing, slot: number): void {
  if (slots.bufIdx(slot) === 0) return;
  if (ring.slotTaken[slot] !== 1) throw occupied(ring, slots, slot);
  ring.stats.bad_slot++;
  slots.setBufIdx(slot, 0);
}
