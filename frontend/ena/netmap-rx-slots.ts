/**
 * Native netmap, receive: moves one buffer between a slot and the device. Set-up, refill and
 * teardown of rings use this file, and so does rxsync. netmap-rx.ts has a drawing of the ring.
 *
 * After ena_netmap.c (amzn-drivers: kernel/fbsd/ena).
 */
import { Errno } from "../bus/errno.ts";
import { SyncOp } from "../bus/map.ts";
import { Ns, Txrx } from "../netmap/flags.ts";
import type { Kring } from "../netmap/kring.ts";
import { type NetmapRing, nmNext, nmPrev, slotsBetween } from "../netmap/ring.ts";
import type { Adapter } from "./adapter.ts";
import type { EnaNetmap } from "./netmap.ts";
import { MAX_RX_BUFFER_BYTES, type RxRing } from "./rings.ts";

/** Returns the kring of a driver ring. Its shared half exists only while a port has it open. */
export function kringOf(adapter: Adapter, ring: RxRing): Kring {
  const kring = adapter.netmap?.na.rxRings[ring.qid];
  if (kring === undefined) throw new Error(`ena: rx queue ${ring.qid} has no kring`);
  return kring;
}

/** ena_netmap_reset_rx_ring: starts with every buffer in a slot. Unread frames stay. */
export function resetRxRing({ na }: EnaNetmap, ring: RxRing): void {
  na.reset(Txrx.RX, ring.qid);
  const kring = na.rxRings[ring.qid]!;
  ring.nicCur = kring.nrHwtail;
  ring.nicSlots = 0;
  ring.slotTaken = new Uint8Array(kring.nkrNumSlots);
}

/**
 * Returns the number of slots that can go to the device now: all released ones except one, and no
 * more than fit its queue. The rule holds in every state: drained ring, full ring, none released.
 */
export function rxRoom(adapter: Adapter, ring: RxRing): number {
  const released = releasedSlots(kringOf(adapter, ring), ring);
  return Math.max(0, Math.min(released - 1, ring.sq.freeEntries()));
}

/** Returns N - unread - with the device: positive unless the application moved head wrongly. */
function releasedSlots(kring: Kring, ring: RxRing): number {
  const n = kring.nkrNumSlots;
  return n - slotsBetween(kring.rhead, kring.nrHwtail, n) - ring.nicSlots;
}

/**
 * ena_netmap_alloc_rx_slot: maps the buffer of the next released slot and assigns it to the id.
 * Returns 0; ENOMEM when no slot is available; EFAULT when the ring is not open, or the slot names
 * no buffer, or the buffer can't be mapped. An error changes nothing.
 */
export function allocRxSlot(adapter: Adapter, ring: RxRing, id: number): number {
  // The id has a buffer already, which was never posted to the device.
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
  const bytes = Math.min(memory.bufSize, MAX_RX_BUFFER_BYTES);
  if (ring.maps.load(id, memory.bytes, memory.bufferAt(bufIdx), bytes) !== 0) {
    ring.stats.dma_mapping_err++;
    return Errno.EFAULT;
  }
  ring.maps.sync(id, SyncOp.PREREAD);
  ring.netmapBufIdx[id] = bufIdx;
  ring.address[id] = ring.maps.address(id);
  ring.length[id] = bytes;
  slots.setBufIdx(ring.nicCur, 0);
  ring.slotTaken[ring.nicCur] = 1;
  ring.nicCur = nmNext(ring.nicCur, slots.lim);
  ring.nicSlots++;
  return 0;
}

/**
 * ena_netmap_free_rx_slot: returns the buffer of the id to the slot before nicCur. Returning more
 * buffers than were taken, or into an occupied slot, is a bug of the driver and throws.
 */
export function freeRxSlot(adapter: Adapter, ring: RxRing, id: number): void {
  const slots = kringOf(adapter, ring).openRing;
  const slot = nmPrev(ring.nicCur, slots.lim);
  if (ring.nicSlots === 0) throw new Error(`ena: rx queue ${ring.qid} gives back an untaken slot`);
  if (slots.bufIdx(slot) !== 0) {
    throw occupied(ring, slots, slot);
  }
  ring.maps.busy[id] = 0;
  ring.maps.sync(id, SyncOp.POSTREAD);
  ring.maps.unload(id);
  slots.setBufIdx(slot, ring.netmapBufIdx[id]!);
  slots.setSlotFlags(slot, Ns.BUF_CHANGED);
  ring.slotTaken[slot] = 0;
  ring.netmapBufIdx[id] = 0;
  ring.nicCur = slot;
  ring.nicSlots--;
}

const occupied = (ring: RxRing, slots: NetmapRing, slot: number): Error =>
  new Error(`ena: rx queue ${ring.qid} slot ${slot} already has buffer ${slots.bufIdx(slot)}`);

/** As freeRxSlot, at teardown: an application that wrote into the driver's slots does no harm. */
export function returnRxSlot(adapter: Adapter, ring: RxRing, id: number): void {
  const slots = kringOf(adapter, ring).openRing;
  takeBackSlot(ring, slots, nmPrev(ring.nicCur, slots.lim));
  freeRxSlot(adapter, ring, id);
}

/**
 * Empties a slot before a buffer returns to it. A slot with a buffer that the driver never emptied
 * is a bug of the driver and throws, because its buffer would be lost. A slot that the driver did
 * empty has a buffer only if the application wrote there without owning the slot. The write is
 * counted and overwritten: its index may be a copy, so its buffer may not be free.
 */
export function takeBackSlot(ring: RxRing, slots: NetmapRing, slot: number): void {
  if (slots.bufIdx(slot) === 0) return;
  if (ring.slotTaken[slot] !== 1) throw occupied(ring, slots, slot);
  ring.stats.bad_slot++;
  slots.setBufIdx(slot, 0);
}
