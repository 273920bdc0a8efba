/**
 * Receive: copies frames into the pages that the guest posted, by grant copy.
 *
 *   deliver ── slots enough, and room on the link ──► copied, responses staged ── flush ──► published
 *      '── else ──► fifo, req_event set ── requests posted, link drained ──► copied ...
 *                     | 1 s old: not delivered      | full: dropped
 *                     | 10 s old: dropped
 *                     '-- 60 s without a packet: stalled, until there is room for one
 *
 * A packet needs a slot for each 4096 bytes and one for each extra info. Slots are used in order,
 * so a response lies in the slot of its request. No slot is used unless the whole packet fits. If
 * a page can't be copied to, its fragment is lost and the status of its response gives the reason.
 *
 * Only a delivered packet counts as progress, never a free slot. Otherwise a guest that posts one
 * slot at a time and needs two would seem alive forever (XSA-392).
 *
 * Source: linux: drivers/net/xen-netback/rx.c.
 */
import { Frame, Gso, type QueueId } from "../../../shared/net/frame.ts";
import type { XenQueueStatus } from "../../../shared/status/device-status.ts";
import { Op } from "../../../shared/wire/catalogue.ts";
import { RecordType, Space } from "../../../shared/wire/records.ts";
import { HashAlgorithm } from "../../../shared/xen/control.ts";
import { extra, GsoType } from "../../../shared/xen/extra.ts";
import { Gntst, GRANT_PAGE_BYTES, grantAddress } from "../../../shared/xen/grant.ts";
import { RX_SLOT_SIZE, RxFlag, rxRequest, rxResponse } from "../../../shared/xen/netif.ts";
import { BACKEND_DOMID } from "../../../shared/xen/xenbus.ts";
import { DropReason } from "../../switch/port.ts";
import { type BackRing, OVERRUN } from "./back-ring.ts";
import type { NetbackContext } from "./config.ts";
import { FrameFifo } from "./frame-fifo.ts";
import type { Netback } from "./netback.ts";

/** Maximum wait (ms) of a frame. After it, the peer of the frame's sender has given up. */
export const DRAIN_MS = 10_000;
/**
 * Maximum age (ms) of a frame that is delivered. A guest that was paused for seconds needs no frames
 * of that time: their senders have sent them again.
 */
const AGE_MS = 1000;
/**
 * While the link has no room and the oldest frame has waited for longer than this (ms), a queue
 * accepts small frames only. On a slow link its bytes take half a second, and each new frame waits
 * behind them.
 */
export const LINK_WAIT_MS = 100;
const GRANT_PAGE_SHIFT = Math.log2(GRANT_PAGE_BYTES);
/** Maximum bytes of a small frame, which delays no other frame. */
const SMALL_BYTES = 256;
/** Time (ms) without a packet, while frames wait, after which the guest counts as stalled. */
export const STALL_MS = 60_000;
/** Hash type of a frame without a hash, or without one that the guest requested. */
export const NO_HASH = -1;

export class RxQueue {
  readonly index: QueueId;
  readonly ring: BackRing;
  readonly #counts = { packets: 0, bytes: 0, drops: 0, expired: 0, copyErrors: 0, stalls: 0 };
  stalled = false;
  readonly #vif: Netback;
  readonly #grants: NetbackContext["grants"];
  readonly #host: NetbackContext["host"];
  readonly #writer: NetbackContext["host"]["memory"]["writer"];
  /** Value of feature-rx-notify. Without this feature a silent guest is not seen as stalled. */
  readonly #notifies: boolean;
  readonly #fifo = new FrameFifo();
  readonly #waiting = new Frame();
  /** Number of slots that waiting frames or senders need; 0 if none waits. */
  #needed = 0;
  /** Time (ms) at which the guest stopped accepting packets while some wait. */
  #waitsSince = 0;
  #closed = false;

  constructor(vif: Netback, index: QueueId, ring: BackRing, notifies: boolean) {
    this.#vif = vif;
    this.index = index;
    this.ring = ring;
    this.#notifies = notifies;
    const { grants, host } = vif.context;
    this.#grants = grants;
    this.#host = host;
    this.#writer = host.memory.writer;
  }

  get queued(): number {
    return this.#fifo.length;
  }

  /** Delivers or queues the frame, or returns the reason for a drop. */
  deliver(frame: Frame, hash: number, hashType: number): DropReason | undefined {
    if (this.#closed) return DropReason.PORT_DOWN;
    const fifo = this.#fifo;
    const host = this.#host;
    const needed = slotsFor(frame.length, frame.gso !== Gso.NONE, hashType);
    if (fifo.length === 0 && host.askForRoom() && this.#enough(needed)) {
      this.#place(frame, needed, hash, hashType);
      if (!this.#vif.held) this.#needed = 0;
      return undefined;
    }
    // The look at the ring may have found it broken, which closes this queue.
    if (this.#closed) return DropReason.PORT_DOWN;
    const now = host.clock.now();
    const writable = host.askForRoom();
    const late = !writable && fifo.length > 0 && now - fifo.first.since > LINK_WAIT_MS;
    if ((late && frame.length > SMALL_BYTES) || !fifo.fits(frame.length, now)) {
      this.#counts.drops++;
      return writable ? DropReason.QUEUE_FULL : DropReason.LINK_BACKLOG;
    }
    fifo.push(frame, hash, hashType, now);
    if (fifo.length === 1) this.#wait(needed, now);
    return undefined;
  }

  /**
   * Returns whether there are slots for `frames` frames of `length` bytes with `extras` slots of
   * extra info each. Asks for at most half a ring, because guests refill late. Returns true after
   * DRAIN_MS without a packet: the queue of a guest that accepts nothing fills, then drops.
   */
  ready(length: number, frames: number, extras: number): boolean {
    if (this.#closed || this.stalled) return true;
    const most = this.ring.size >>> 1;
    const needed = Math.min(frames * (pagesFor(length) + extras), most);
    const have = this.ring.look();
    if (have === OVERRUN) return true;
    if (this.#fifo.length === 0 && have >= needed) return true;
    const now = this.#vif.context.host.clock.now();
    if (this.#needed === 0) this.#wait(needed, now);
    return now - this.#waitsSince > DRAIN_MS;
  }

  /** Serves waiting frames from new requests. Returns true if there is room again. */
  poll(): boolean {
    if (this.#needed === 0 || this.#closed) return false;
    if (!this.#enough(this.#needed)) {
      // Too few requests are posted, so the next one must cause an event too.
      if (!this.#closed) this.ring.arm(this.ring.look() + 1);
      return false;
    }
    this.stalled = false;
    const fifo = this.#fifo;
    const { host } = this.#vif.context;
    const now = host.clock.now();
    while (fifo.length > 0) {
      if (now - fifo.first.since > AGE_MS) {
        this.#expire();
        continue;
      }
      if (!host.askForRoom()) return false;
      const { length, gso, hash, hashType } = fifo.first;
      const needed = slotsFor(length, gso !== Gso.NONE, hashType);
      if (!this.#enough(needed)) {
        if (!this.#closed) this.#wait(needed, now);
        return false;
      }
      fifo.peek(this.#waiting);
      this.#place(this.#waiting, needed, hash, hashType);
      fifo.shift();
    }
    this.#needed = 0;
    return true;
  }

  /** Drops frames that are too old. Marks the queue stalled if the guest accepts nothing. */
  tick(now: number): void {
    if (this.#closed) return;
    const fifo = this.#fifo;
    while (fifo.length > 0 && now - fifo.first.since > DRAIN_MS) this.#expire();
    if (this.#needed === 0 || this.stalled || !this.#notifies) return;
    if (now - this.#waitsSince <= STALL_MS || this.#enough(this.#needed) || this.#closed) return;
    this.stalled = true;
    this.#counts.stalls++;
    this.#vif.note("RX_STALLED", `rx queue ${this.index}: no packet taken for ${STALL_MS} ms`);
  }

  /** Drops the oldest frame. */
  #expire(): void {
    this.#fifo.shift();
    this.#counts.expired++;
    this.#vif.port.drop(DropReason.EXPIRED, "out");
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#fifo.length > 0) this.#vif.port.drop(DropReason.PORT_DOWN, "out", this.#fifo.length);
    this.#fifo.clear();
    this.ring.close();
  }

  /** Returns whether `needed` slots are posted. A false index of the guest is fatal: false. */
  #enough(needed: number): boolean {
    const have = this.ring.look();
    if (have >= needed) return true;
    if (have === OVERRUN) {
      this.#vif.fatal("RX_REQ_PROD", `rx queue ${this.index}: more requests than slots`);
    }
    return false;
  }

  /** Records that frames or senders wait for `needed` slots. Asks for an event at the next slot. */
  #wait(needed: number, now: number): void {
    if (this.#needed === 0) this.#waitsSince = now;
    this.#needed = needed;
    this.ring.arm(this.ring.look() + 1);
  }

  /** Copies the frame into the next slots' pages and stages their responses. */
  #place(frame: Frame, needed: number, hash: number, hashType: number): void {
    const { length } = frame;
    let flags = 0;
    if (frame.needsCsum) flags = RxFlag.CSUM_BLANK | RxFlag.DATA_VALIDATED;
    else if (frame.csumValid) flags = RxFlag.DATA_VALIDATED;
    if (needed === 1) this.#fragment(frame, 0, length, flags);
    else this.#placeSeveral(frame, flags, hash, hashType);
    this.#counts.packets++;
    this.#counts.bytes += length;
    if (this.#needed !== 0) this.#waitsSince = this.#vif.context.host.clock.now();
  }

  /** Places a frame of several slots: pages of data, with extra info behind the first. */
  #placeSeveral(frame: Frame, firstFlags: number, hash: number, hashType: number): void {
    const isGso = frame.gso !== Gso.NONE;
    const hasHash = hashType !== NO_HASH;
    const { length } = frame;
    let flags = isGso || hasHash ? firstFlags | RxFlag.EXTRA_INFO : firstFlags;
    for (let from = 0; from < length; from += GRANT_PAGE_BYTES) {
      const part = Math.min(GRANT_PAGE_BYTES, length - from);
      if (from + part < length) flags |= RxFlag.MORE_DATA;
      this.#fragment(frame, from, part, flags);
      if (from === 0) {
        if (isGso) this.#gso(frame, hasHash);
        if (hasHash) this.#hash(hash, hashType);
      }
      flags = 0;
    }
  }

  #fragment(frame: Frame, from: number, length: number, flags: number): void {
    const ring = this.ring;
    const grants = this.#grants;
    const writer = this.#writer;
    const { view } = ring;
    const at = ring.at(0);
    const id = rxRequest.id(view, at);
    const gref = rxRequest.gref(view, at);
    ring.consume(1);
    let status = grants.checkCopy(gref, 0, length, true, BACKEND_DOMID);
    if (status === Gntst.OKAY) {
      const address = grantAddress(gref, 0);
      const to = writer.reserve(Op.WRITE, Space.GRANT, address, RecordType.FRAME, length);
      frame.copyTo(writer.outgoing, to, from, length);
      status = length;
    } else this.#counts.copyErrors++;
    rxResponse.write(view, ring.respond(), id, 0, flags, status);
  }

  #gso(frame: Frame, more: boolean): void {
    const { ring } = this;
    ring.consume(1);
    const type = frame.gso === Gso.TCPV4 ? GsoType.TCPV4 : GsoType.TCPV6;
    extra.writeGso(ring.view, ring.respond(), RX_SLOT_SIZE, more ? 1 : 0, frame.gsoSize, type);
  }

  #hash(hash: number, type: number): void {
    const { ring } = this;
    ring.consume(1);
    const { TOEPLITZ } = HashAlgorithm;
    extra.writeHash(ring.view, ring.respond(), RX_SLOT_SIZE, 0, type, TOEPLITZ, hash);
  }

  snapshot(): XenQueueStatus["rx"] {
    return {
      ...this.#counts,
      stalled: this.stalled,
      queued: this.queued,
      queuedBytes: this.#fifo.bytes,
      ring: this.ring.snapshot(),
    };
  }
}

const pagesFor = (length: number): number => (length + GRANT_PAGE_BYTES - 1) >>> GRANT_PAGE_SHIFT;

/** Returns the number of slots of a frame: its pages and its extra info. */
function slotsFor(length: number, isGso: boolean, hashType: number): number {
  return pagesFor(length) + (isGso ? 1 : 0) + (hashType === NO_HASH ? 0 : 1);
}
