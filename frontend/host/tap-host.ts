/**
 * Joins a driver's ifnet to a TAP, so that the kernel uses the NIC as an Ethernet interface.
 *
 *   kernel ──► Tap.receive ──► mbuf over the shared slot ──► ifnet.transmit
 *                    ▲                  │ freed at Tx completion
 *                    └──── release ◄────┘
 *   kernel ◄── Tap.send ◄── frame over the mbuf chain ◄── ifnet.input
 *
 * Frames from the kernel are not copied here: the mbuf points into the slot of the TAP until the
 * driver frees the mbuf. Only work that the driver can't do (checksum, TSO) is done here, into
 * clusters of this file.
 */

import { systemClock } from "../../shared/clock.ts";
import { Frame, Gso } from "../../shared/net/frame.ts";
import { Segmenter } from "../../shared/net/segment.ts";
import { stallsOf } from "../../shared/stall.ts";
import type { TapHostCounters } from "../../shared/status/frontend-status.ts";
import type { TapError } from "../../shared/tap/errors.ts";
import { NO_TOKEN, type PumpUser, TapPump } from "../../shared/tap/pump.ts";
import type { TapEnd } from "../../shared/tap/tap.ts";
import { Errno } from "../bus/errno.ts";
import { askedOf, canDo, frameToMbuf, mbufToFrame } from "../net/facts.ts";
import type { Ifnet } from "../net/ifnet.ts";
import { Mbuf, MbufPool } from "../net/mbuf.ts";
import { type FollowerHooks, LinkFollower } from "./link-follower.ts";

/**
 * Bytes of one batch to the driver. Super-frames go one by one, so that the device processes the
 * first while the next is staged. As many bytes may wait here while the driver has no room.
 */
const BATCH_BYTES = 60 * 1024;
/**
 * Time (ms) that a frame may wait for a link that is slower than its source. The kernel's queue in
 * front of a TAP limits neither bytes nor time. Without this limit, a sender fills that queue with
 * seconds of data.
 */
const MAX_WAIT_MS = 100;
/** Bytes of a segment or frame made here: an Ethernet header with tags, and the largest MTU. */
const CLUSTER_BYTES = 9216 + 64;
/** Number of clusters, enough for some super-frames in flight. The software path drops the rest. */
const CLUSTERS = 1024;

export interface TapHostHooks extends FollowerHooks {
  /** Called when another program has deleted the TAP. */
  gone?(error: TapError): void;
}

export class TapHost implements PumpUser {
  readonly counters: TapHostCounters = {
    txRefused: 0,
    txTooOld: 0,
    txMalformed: 0,
    txNoCluster: 0,
    txSoftware: 0,
    rxQueueFull: 0,
    rxTooManyPieces: 0,
    rxDown: 0,
  };
  readonly #tap: TapEnd;
  readonly #ifnet: Ifnet;
  readonly #follower: LinkFollower;
  readonly #rxFrame = new Frame();
  readonly #segmenter = new Segmenter();
  readonly #pool = new MbufPool(CLUSTER_BYTES, CLUSTERS);
  /** One mbuf for each slot of the TAP. The driver may hold it until it frees the mbuf. */
  readonly #slotMbufs: Mbuf[];
  readonly #pump: TapPump;
  /** The current batch: the first `#waiting` were received, and not yet accepted by the driver. */
  readonly #batch: Mbuf[] = [];
  #waiting = 0;
  #batchBytes = 0;
  /** True from the driver's lack of room until the frames that waited since then are processed. */
  #congested = false;
  /** True while the frames in the TAP are those that waited for this process. */
  #stale = false;
  readonly #stalls = stallsOf(systemClock);
  #seenStalls = this.#stalls.count;
  #left = false;
  readonly #giveBack = (m: Mbuf): void => this.#tap.release(m.cookie);
  readonly #sink = { segment: (frame: Frame): void => this.#keepCopy(frame) };

  constructor(tap: TapEnd, ifnet: Ifnet, hooks: TapHostHooks) {
    this.#tap = tap;
    this.#ifnet = ifnet;
    this.#slotMbufs = Array.from({ length: tap.slots }, () => new Mbuf());
    this.#follower = new LinkFollower(tap, ifnet, hooks);
    ifnet.input = (m) => this.#input(m);
    this.#pump = new TapPump(tap, this);
    ifnet.onTransmitReady = () => this.#pump.run();
    ifnet.onLinkState = (up) => tap.setCarrier(up);
    tap.onLinkChange = () => this.#follower.look();
    tap.onGone = (error) => hooks.gone?.(error);
    tap.setCarrier(ifnet.linkState === "up");
    this.#follower.look();
    this.#pump.run();
  }

  /** Resolves when the driver has applied the changes seen so far. For tests and orderly ends. */
  settled(): Promise<void> {
    return this.#follower.settled();
  }

  /** Detaches from both ends and closes neither. Slots in the driver return as it frees them. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#follower.stop();
    const { counters } = this.#ifnet;
    this.#ifnet.input = (m) => {
      counters.iqdrops++;
      m.free();
    };
    this.#ifnet.inputDone = () => {};
    this.#ifnet.onTransmitReady = () => {};
    this.#ifnet.onLinkState = () => {};
    this.#pump.stop();
    this.#tap.onLinkChange = undefined;
    this.#tap.onGone = undefined;
    for (let i = 0; i < this.#waiting; i++) this.#batch[i]!.free();
    this.#waiting = 0;
  }

  // Methods of PumpUser: from the kernel to the driver.

  /** Sends the batch. When the driver is full, the rest waits for onTransmitReady. */
  resume(): boolean {
    const batch = this.#batch;
    while (this.#waiting > 0) {
      this.#gone(this.#ifnet.transmit(batch, this.#waiting));
      if (this.#waiting === 0) break;
      if (this.#ifnet.transmitErrno === Errno.ENOBUFS) {
        this.#congested = true;
        return false;
      }
      this.counters.txRefused++;
      this.#ifnet.counters.oqdrops++;
      batch[0]!.free();
      this.#gone(1);
    }
    this.#batchBytes = 0;
    return true;
  }

  /** Removes the first `n` of the batch. */
  #gone(n: number): void {
    if (n < this.#waiting) this.#batch.copyWithin(0, n, this.#waiting);
    this.#waiting -= n;
  }

  take(frame: Frame, token: number): boolean {
    if (this.#waiting === 0) this.#lookForStall();
    if (this.#isTooOld(token)) this.#tap.release(token);
    else {
      this.#lineUp(frame, token);
      this.#batchBytes += frame.length;
    }
    // While the driver is full again and again, at most one frame waits here.
    return (!this.#congested && this.#batchBytes < BATCH_BYTES) || this.resume();
  }

  burstOver(drained: boolean): boolean {
    const room = this.resume();
    if (drained && room) this.#congested = false;
    if (drained) this.#stale = false;
    return room;
  }

  #lookForStall(): void {
    const stalls = this.#stalls.look(systemClock.now());
    if (stalls !== this.#seenStalls) this.#stale = true;
    this.#seenStalls = stalls;
  }

  #isTooOld(token: number): boolean {
    const isLate = this.#congested && this.#tap.age(token) > MAX_WAIT_MS;
    if (!isLate && !this.#stale) return false;
    this.counters.txTooOld++;
    this.#ifnet.counters.oqdrops++;
    return true;
  }

  /** Adds the frame in slot `token` to the batch, in a form that the driver can send. */
  #lineUp(frame: Frame, token: number): void {
    const asked = askedOf(frame);
    if (asked === 0 || (asked > 0 && this.#driverCan(frame, asked))) {
      const m = this.#slotMbufs[token]!;
      m.attach(frame.buffers[0]!, frame.offsets[0]!, frame.lengths[0]!, this.#giveBack);
      m.cookie = token;
      frameToMbuf(frame, asked, m);
      this.#batch[this.#waiting++] = m;
      return;
    }
    // Do in software what the driver can't do. The resulting copies are sent in place of the slot.
    this.counters.txSoftware++;
    if (this.#segmenter.complete(frame, this.#sink) !== undefined) {
      this.counters.txMalformed++;
      this.#ifnet.counters.oqdrops++;
    }
    this.#tap.release(token);
  }

  #driverCan(frame: Frame, asked: number): boolean {
    const { capEnable, hwTsomax } = this.#ifnet;
    return canDo(asked, capEnable) && (frame.gso === Gso.NONE || frame.length <= hwTsomax);
  }

  #keepCopy(frame: Frame): void {
    const m = frame.length <= CLUSTER_BYTES ? this.#pool.get() : undefined;
    if (m === undefined) {
      this.counters.txNoCluster++;
      this.#ifnet.counters.oqdrops++;
      return;
    }
    frame.copyTo(m.buffer, m.at, 0, frame.length);
    m.length = frame.length;
    m.cookie = NO_TOKEN;
    frameToMbuf(frame, 0, m);
    this.#batch[this.#waiting++] = m;
  }

  /** Sends a packet from the driver to the kernel, and frees the packet. */
  #input(m: Mbuf): void {
    const counters = this.counters;
    if (!mbufToFrame(m, this.#rxFrame)) counters.rxTooManyPieces++;
    else if (!this.#tap.up) counters.rxDown++;
    else if (!this.#tap.send(this.#rxFrame)) counters.rxQueueFull++;
    else {
      m.free();
      return;
    }
    this.#ifnet.counters.iqdrops++;
    m.free();
  }
}
