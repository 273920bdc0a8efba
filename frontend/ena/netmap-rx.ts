/**
 * Native netmap, receive: posts buffers of slots to the device, and returns frames to slots.
 *
 *   rxsync -> rxFrames -> rxFrame -> rxLoadDesc        completions in, slots out
 *          -> rxCleanup -> refillRxBufs -> allocRxSlot released slots in, descriptors out
 *
 *            rhead           nrHwtail           nicCur             rhead
 *   slots  ----|-- unread -------|-- empty --------|-- released ------|----
 *   buffers      the application's  with the device    not in use
 *
 * A slot whose buffer is with the device has buffer index 0. Frames go to slots in the order of
 * arrival, with whichever buffer the device used. So buffers change their slots, but frames keep
 * their order. The following always holds:
 *
 *   unread + with the device + released = N,   released >= 1
 *
 * With N unread frames nrHwtail would equal rhead, which means no frames. nrHwcur keeps netmap's
 * meaning and equals rhead after a sync. The driver's own nicCur is the slot of the next buffer to
 * post. (The original keeps that slot in nrHwcur. Then netmap's own checks refuse valid actions of
 * applications.)
 *
 * After ena_netmap.c (amzn-drivers: kernel/fbsd/ena).
 */
import { Errno } from "../bus/errno.ts";
import { SyncOp } from "../bus/map.ts";
import { Nkr, Ns } from "../netmap/flags.ts";
import type { Kring } from "../netmap/kring.ts";
import { type NetmapRing, nmNext, nmPrev } from "../netmap/ring.ts";
import { ringReinit } from "../netmap/sync.ts";
import type { Adapter } from "./adapter.ts";
import { refillRxBufs, returnRxId, rxPkt, rxPktFailed } from "./datapath-rx.ts";
import { kringOf, rxRoom, takeBackSlot } from "./netmap-rx-slots.ts";
import type { RxRing } from "./rings.ts";

/** ENA_MAX_FRAMES: maximum frames of one sync, so that a device can't keep the sync running. */
export const MAX_FRAMES_PER_SYNC = 16384;

/**
 * ena_netmap_rxsync. Returns 0, also for an error that the driver repairs by a reset, which is
 * under way then. Returns EFAULT when the application released a slot that names no buffer, and the
 * result of netmap_ring_reinit when its ring is invalid.
 */
export function rxsync(adapter: Adapter, kring: Kring): number {
  if (kring.rhead >= kring.nkrNumSlots) return ringReinit(kring);
  const ring = adapter.queues[kring.ringId]?.rx;
  if (ring === undefined || !adapter.running || !adapter.linkUp) return 0;
  const slots = kring.openRing;
  const badSlots = ring.stats.bad_slot;
  const sound = rxFrames(adapter, kring, ring, slots);
  kring.nrHwcur = kring.rhead;
  if (!sound) return 0;
  rxCleanup(adapter, ring);
  return ring.stats.bad_slot === badSlots ? 0 : Errno.EFAULT;
}

/**
 * ena_netmap_rx_frames: receives every available frame, then sets the new tail. Returns false when
 * the ring waits for a reset; the frames before the invalid one are good.
 */
function rxFrames(adapter: Adapter, kring: Kring, ring: RxRing, slots: NetmapRing): boolean {
  ring.nmSlot = kring.nrHwtail;
  let frames = 0;
  while (frames < MAX_FRAMES_PER_SYNC && rxFrame(adapter, ring, slots)) frames++;
  if (frames === MAX_FRAMES_PER_SYNC) {
    adapter.log.warn({ queue: ring.qid, frames }, "netmap: more frames than one sync takes");
  }
  kring.nrHwtail = ring.nmSlot;
  kring.nrKflags &= ~Nkr.PENDINTR;
  return !ring.nmStopped;
}

/** ena_netmap_rx_frame: moves a whole frame to the slots from nmSlot on. Returns false for none. */
export function rxFrame(adapter: Adapter, ring: RxRing, slots: NetmapRing): boolean {
  // The invalid packet is still in the queue. It is reported only once.
  if (ring.nmStopped) return false;
  const descs = rxPkt(adapter, ring);
  if (descs === 0) return false;
  if (descs < 0) {
    rxPktFailed(adapter, ring, descs);
    ring.nmStopped = true;
    return false;
  }
  let bytes = 0;
  for (let i = 0; i < descs; i++) bytes += rxLoadDesc(adapter, ring, slots, i);
  const last = nmPrev(ring.nmSlot, slots.lim);
  slots.setSlotFlags(last, Ns.BUF_CHANGED);
  const { stats } = ring;
  const { hwStats, ifnet } = adapter;
  stats.count++;
  stats.bytes += bytes;
  hwStats.rx_packets++;
  hwStats.rx_bytes += bytes;
  ifnet.counters.ipackets++;
  ifnet.counters.ibytes += bytes;
  return true;
}

/** ena_netmap_rx_load_desc: moves buffer `i` of the packet to the next slot. Returns its bytes. */
export function rxLoadDesc(adapter: Adapter, ring: RxRing, slots: NetmapRing, i: number): number {
  const id = ring.pktReqIds[i]!;
  const bufIdx = ring.netmapBufIdx[id]!;
  if (bufIdx === 0 || ring.nicSlots === 0) throw new Error(`ena: rx id ${id} has no netmap buffer`);
  ring.maps.sync(id, SyncOp.POSTREAD);
  ring.maps.busy[id] = 0;
  ring.maps.unload(id);
  const length = ring.pktLengths[i]!;
  if (i === 0 && ring.pktOffset !== 0) {
    // A slot has no field for the offset of the data.
    const { memory } = kringOf(adapter, ring).na;
    const at = memory.bufferAt(bufIdx);
    memory.bytes.copyWithin(at, at + ring.pktOffset, at + ring.pktOffset + length);
  }
  takeBackSlot(ring, slots, ring.nmSlot);
  ring.slotTaken[ring.nmSlot] = 0;
  // This writes all 16 bytes, because flags that an application left there are invalid now.
  slots.setSlot(ring.nmSlot, bufIdx, length, Ns.MOREFRAG | Ns.BUF_CHANGED);
  ring.netmapBufIdx[id] = 0;
  ring.nicSlots--;
  ring.nmSlot = nmNext(ring.nmSlot, slots.lim);
  returnRxId(ring, id);
  return length;
}

/** ena_netmap_rx_cleanup: posts the slots that the application released. */
function rxCleanup(adapter: Adapter, ring: RxRing): void {
  const room = rxRoom(adapter, ring);
  if (room > 0) refillRxBufs(adapter, ring, room);
}
