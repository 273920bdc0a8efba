/**
 * Native netmap, transmit: sends released slots to the device, and returns their buffers.
 *
 *   txsync -> txFrames -> txFrame -> txMapSlots   slots in, descriptors out
 *          -> txCleanup                           completions in, buffers back to slots
 *
 *            nrHwtail         nrHwcur        rhead            nrHwtail
 *   slots  ------|-- empty -------|-- to send ---|-- the application's --|--
 *   buffers        with the device
 *
 * A packet is read once, slot by slot into scratch arrays, and checked as a whole. Only a packet
 * that can be sent changes any state, so nothing has to be undone. Writes of an application after
 * it released a slot have no effect on lengths and buffers. A packet that can never be sent (too
 * many slots, no such buffer, a length beyond the buffer) is dropped and counted. Its slots return,
 * and the slots behind it are sent. A packet whose last slot is not released yet waits.
 *
 * After ena_netmap.c (amzn-drivers: kernel/fbsd/ena).
 */
import { copyBytes } from "../../shared/bytes/copy.ts";
import { Errno } from "../bus/errno.ts";
import { Ns } from "../netmap/flags.ts";
import type { Kring } from "../netmap/kring.ts";
import type { NetmapMemory } from "../netmap/memory.ts";
import { nmNext, slotsBetween } from "../netmap/ring.ts";
import { ringReinit } from "../netmap/sync.ts";
import type { Adapter } from "./adapter.ts";
import {
  badReqId,
  buffers,
  lengths,
  noOffload,
  offsets,
  postPacket,
  pushPieces,
  RESUME_THRESHOLD,
  txCompReqId,
  txUnload,
} from "./datapath-tx.ts";
import type { EnaNetmap } from "./netmap.ts";
import { returnTxSlot, returnTxSlots } from "./netmap-tx-slots.ts";
import { txDoorbell } from "./notify.ts";
import { PKT_MAX_BUFS, type TxRing, type TxSlots } from "./rings.ts";

/**
 * Results of txFrame. WAIT: the queue is full, or the packet is not complete. HELD: the link or the
 * push budget has no room. In both cases the slots are unchanged.
 */
const Sent = { WAIT: 0, HELD: 1, SENT: 2, DROPPED: 3 } as const;
type Sent = (typeof Sent)[keyof typeof Sent];

/** The current packet, slot by slot. It is shared, because nothing here awaits. */
const pkt = {
  slots: 0,
  bytes: 0,
  bufIdx: new Uint32Array(PKT_MAX_BUFS),
  lengths: new Int32Array(PKT_MAX_BUFS),
};

/**
 * ena_netmap_txsync. Returns 0 when the application's ring is valid. A full queue is not an error,
 * nor is a fault that the driver repairs by a reset; a bad packet is dropped and counted. For an
 * invalid ring returns EINVAL, or the result of netmap_ring_reinit.
 */
export function txsync(adapter: Adapter, netmap: EnaNetmap, kring: Kring): number {
  if (kring.rhead >= kring.nkrNumSlots) return ringReinit(kring);
  const ring = adapter.queues[kring.ringId]?.tx;
  if (ring?.slots === undefined || !adapter.running || !adapter.linkUp) {
    if (kring.nrHwcur !== kring.rhead) netmap.txWaits = true;
    return 0;
  }
  const slots = kring.openRing;
  // More slots than are not in flight: the application moved head back over the driver's slots.
  if (slotsBetween(kring.nrHwcur, kring.rhead, slots.numSlots) > slots.lim - ring.slots.slotsOut) {
    ring.stats.bad_slot++;
    return Errno.EINVAL;
  }
  if (!txFrames(adapter, ring, ring.slots)) netmap.txWaits = true;
  txCleanup(adapter, ring, ring.slots);
  return 0;
}

/**
 * ena_netmap_tx_frames: sends packets until none is complete or there is no room, then rings the
 * doorbell. Returns false when the link or the push budget has no room.
 */
function txFrames(adapter: Adapter, ring: TxRing, out: TxSlots): boolean {
  const { kring } = out;
  out.nmSlot = kring.nrHwcur;
  adapter.txStamp = adapter.clock();
  adapter.gate.beginBurst();
  let sent: Sent = Sent.WAIT;
  while (out.nmSlot !== kring.rhead) {
    sent = txFrame(adapter, ring, out);
    if (sent === Sent.WAIT || sent === Sent.HELD) break;
  }
  kring.nrHwcur = out.nmSlot;
  if (ring.sq.isDoorbellDue) txDoorbell(ring);
  if (ring.running && !hasRoom(adapter, ring, out)) {
    ring.running = false;
    ring.stats.queue_stops++;
  }
  return sent !== Sent.HELD;
}

/** True with room for the largest packet. Without, the watchdog checks the ring more strictly. */
const hasRoom = (adapter: Adapter, ring: TxRing, out: TxSlots): boolean =>
  ring.sq.hasSpace(adapter.maxTxSgl + 2) && out.slotsOut + RESUME_THRESHOLD < out.kring.nkrNumSlots;

/** ena_netmap_tx_frame: sends or drops the packet that begins at nmSlot. */
function txFrame(adapter: Adapter, ring: TxRing, out: TxSlots): Sent {
  const { sq, stats } = ring;
  const { memory } = out.kring.na;
  if (out.dropping || !readPacket(adapter, out)) return dropPacket(adapter, ring, out);
  if (pkt.slots === 0) return Sent.WAIT;
  const { bytes } = pkt;
  const refused = adapter.gate.mayPush(stats, bytes);
  if (refused === Errno.EMSGSIZE) return dropPacket(adapter, ring, out);
  if (refused !== 0) {
    // The slots stay. transmitReady wakes the application for another sync.
    return Sent.HELD;
  }
  // Some devices need a meta descriptor before every packet.
  const descs = pkt.slots + (sq.llq?.disableMetaCaching === true ? 1 : 0);
  if (!sq.hasSpace(descs)) {
    // A full queue is not an error for the application: it sees that its slots are not sent yet.
    stats.prepare_ctx_err++;
    return Sent.WAIT;
  }
  const id = ring.freeIds[ring.nextToUse]!;
  if (out.used[id] !== 0 || ring.mbufs[id] !== undefined) {
    throw new Error(`ena: tx id ${id} is in flight and free`);
  }
  const headerLength = sq.llq === undefined ? 0 : Math.min(bytes, sq.llq.headerRoom);
  const pieces = txMapSlots(memory, headerLength);
  if (!pushPieces(ring, id, pieces, descs)) return dropPacket(adapter, ring, out);
  if (headerLength > 0) pushHeader(memory, ring, headerLength);
  noOffload(ring);
  postPacket(adapter, ring, id, bytes, headerLength);
  takeSlots(out, id);
  if (adapter.gate.burstDue(bytes)) txDoorbell(ring);
  return Sent.SENT;
}

/**
 * ena_netmap_count_slots, ena_netmap_packet_len: reads the packet at nmSlot into `pkt`, up to rhead
 * and no further. `pkt.slots` is 0 when its end is not released yet. Returns false for a packet
 * that can never be sent.
 */
function readPacket(adapter: Adapter, out: TxSlots): boolean {
  const { kring } = out;
  const slots = kring.openRing;
  const { memory } = kring.na;
  const most = Math.min(adapter.maxTxSgl, PKT_MAX_BUFS);
  let count = 0;
  let bytes = 0;
  let slot = out.nmSlot;
  let more = true;
  pkt.slots = 0;
  while (more) {
    if (slot === kring.rhead) return true;
    if (count === most) return false;
    const bufIdx = slots.bufIdx(slot);
    const length = slots.len(slot);
    if (!memory.isBuffer(bufIdx)) {
      kring.na.badSlot(kring, slot, bufIdx);
      return false;
    }
    if (length > memory.bufSize) return false;
    more = (slots.slotFlags(slot) & Ns.MOREFRAG) !== 0;
    pkt.bufIdx[count] = bufIdx;
    pkt.lengths[count] = length;
    bytes += length;
    count++;
    slot = nmNext(slot, slots.lim);
  }
  pkt.slots = count;
  pkt.bytes = bytes;
  return bytes > 0 && bytes <= adapter.gate.maxFrameBytes;
}

/**
 * ena_netmap_tx_map_slots: lists the packet's bytes after the first `skip`, which are in the pushed
 * header, for the map. Returns the number of pieces. A slot that is all header has no piece.
 */
function txMapSlots(memory: NetmapMemory, skip: number): number {
  let left = skip;
  let pieces = 0;
  for (let i = 0; i < pkt.slots; i++) {
    const length = pkt.lengths[i]!;
    const inHeader = Math.min(left, length);
    left -= inHeader;
    if (inHeader === length) continue;
    buffers[pieces] = memory.bytes;
    offsets[pieces] = memory.bufferAt(pkt.bufIdx[i]!) + inHeader;
    lengths[pieces] = length - inHeader;
    pieces++;
  }
  return pieces;
}

/** ena_netmap_copy_data: copies the packet's first bytes, from one slot after another. */
function pushHeader(memory: NetmapMemory, ring: TxRing, headerLength: number): void {
  const { sq } = ring;
  if (headerLength > pkt.lengths[0]!) ring.stats.llq_buffer_copy++;
  let done = 0;
  for (let i = 0; done < headerLength; i++) {
    const part = Math.min(pkt.lengths[i]!, headerLength - done);
    const from = memory.bufferAt(pkt.bufIdx[i]!);
    copyBytes(memory.bytes, from, sq.headerSpace(), sq.headerAt + done, part);
    done += part;
  }
}

/** Moves the packet's buffers to the id, until its completion. The slots become empty. */
function takeSlots(out: TxSlots, id: number): void {
  const slots = out.kring.openRing;
  const base = id * PKT_MAX_BUFS;
  for (let i = 0; i < pkt.slots; i++) {
    out.bufIdx[base + i] = pkt.bufIdx[i]!;
    slots.setBufIdx(out.nmSlot, 0);
    out.slotTaken[out.nmSlot] = 1;
    out.nmSlot = nmNext(out.nmSlot, slots.lim);
  }
  out.used[id] = pkt.slots;
  out.slotsOut += pkt.slots;
}

/**
 * Empties the slots of a packet that can't be sent, up to its end or to rhead. Slots of it that are
 * released later follow. txCleanup of the same sync returns the buffers, as those of sent packets.
 */
function dropPacket(adapter: Adapter, ring: TxRing, out: TxSlots): Sent {
  const { kring } = out;
  const slots = kring.openRing;
  if (!out.dropping) {
    ring.stats.bad_packet++;
    adapter.ifnet.counters.oerrors++;
  }
  out.dropping = true;
  while (out.dropping && out.nmSlot !== kring.rhead) {
    const slot = out.nmSlot;
    out.dropping = (slots.slotFlags(slot) & Ns.MOREFRAG) !== 0;
    out.dropped[out.droppedCount++] = slots.bufIdx(slot);
    slots.setBufIdx(slot, 0);
    out.slotTaken[slot] = 1;
    out.slotsOut++;
    out.nmSlot = nmNext(slot, slots.lim);
  }
  return Sent.DROPPED;
}

/** ena_netmap_tx_cleanup: returns buffers of completed packets, moves nrHwtail over their slots. */
function txCleanup(adapter: Adapter, ring: TxRing, out: TxSlots): void {
  const { kring } = out;
  out.nmSlot = kring.nrHwtail;
  for (let i = 0; i < out.droppedCount; i++) returnTxSlot(ring, out, out.dropped[i]!);
  out.droppedCount = 0;
  let entries = 0;
  let any = false;
  while (!out.stopped) {
    const id = txCompReqId(adapter, ring);
    if (id === -1) break;
    if (id < 0 || out.used[id] === 0) {
      // The id was never sent, or was completed before. The completion stays and is reported once.
      if (id >= 0) badReqId(adapter, ring, id, "completion for a tx id that is not in flight");
      out.stopped = true;
      break;
    }
    ring.cq.cursor.next();
    entries += ring.entries[id]!;
    // ena_netmap_tx_clean_one
    txUnload(adapter, ring, id);
    returnTxSlots(ring, out, id);
    ring.giveId(id);
    any = true;
  }
  kring.nrHwtail = out.nmSlot;
  if (!any) return;
  ring.sq.ack(entries);
  // For the watchdog only completions count. A sync alone does not prove that the device works.
  ring.lastCleanup = adapter.clock();
  if (!ring.running && hasRoom(adapter, ring, out)) {
    ring.running = true;
    ring.stats.queue_wakeups++;
  }
}
