/**
 * Joins a driver's ifnet to a TAP, so that the kernel uses the NIC as an Ethernet interface.
 *
 *   kernel ──► Tap.receive ──► mbuf over the shared slot ──► ifnet.transmit
 *                    ▲                  │ freed at Tx completion
 *                    └──── release ◄────┘
 *   kernel ◄── Tap.send ◄── frame over the mbuf chain ◄── ifnet.input
 *
 * A frame from the kernel is not copied here: the mbuf points into its slot until the driver frees
 * it. Only what the driver can't do (checksum, TSO) is done here, into clusters of our own.
 */

import { Frame, Gso } from "../../shared/net/frame.ts";
import { Segmenter } from "../../shared/net/segment.ts";
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
 * Bytes that go to the driver as one batch: super-frames go one by one, so that the device works on
 * the first while the next is staged. So much may also wait here when the driver has no room.
 */
const BATCH_BYTES = 60 * 1024;
/**
 * How long a frame may wait for a link that is slower than its source. The kernel's own queue in
 * front of a TAP knows no bytes and no time: without this a sender fills it with seconds.
 */
const MAX_WAIT_MS = 100;
/** A segment or frame made here: an Ethernet header with tags, and the largest MTU. */
const CLUSTER_BYTES = 9216 + 64;
/** Enough for some super-frames in flight; beyond that the software path drops. */
const CLUSTERS = 1024;

export interface TapHostHooks extends FollowerHooks {
  /** The TAP was deleted from outside. */
  gone?(error: TapError): void;
}

export interface TapHost {
  readonly counters: Readonly<TapHostCounters>;
  /** Resolves when changes seen so far have been passed on; for tests and orderly ends. */
  settled(): Promise<void>;
  /** Lets go of both ends; closes neither. Slots still in the driver come back as it frees them. */
  leave(): void;
}

export function joinTap(tap: TapEnd, ifnet: Ifnet, hooks: TapHostHooks): TapHost {
  return new Join(tap, ifnet, hooks);
}

class Join implements TapHost, PumpUser {
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
  /** One mbuf for each slot of the TAP, for as long as the driver may hold it. */
  readonly #slotMbufs: Mbuf[];
  readonly #pump: TapPump;
  /** The batch at hand: received from the TAP, and not yet the driver's. */
  readonly #batch: Mbuf[] = [];
  #batchBytes = 0;
  /** The driver had no room, and what waited since then has not all been seen. */
  #congested = false;
  #left = false;
  readonly #giveBack = (m: Mbuf): void => this.#tap.release(m.cookie);
  readonly #sink = { segment: (frame: Frame): void => this.#keepCopy(frame) };

  constructor(tap: TapEnd, ifnet: Ifnet, hooks: TapHostHooks) {
    this.#tap = tap;
    this.#ifnet = ifnet;
    this.#slotMbufs = Array.from({ length: tap.slots }, () => new Mbuf());
    this.#follower = new LinkFollower(tap, ifnet, hooks);
    ifnet.input = (m) => this.#input(m);
    ifnet.inputDone = () => tap.flush();
    this.#pump = new TapPump(tap, this);
    ifnet.onTransmitReady = () => this.#pump.run();
    ifnet.onLinkState = (up) => tap.setCarrier(up);
    tap.onLinkChange = () => this.#follower.look();
    tap.onGone = (error) => hooks.gone?.(error);
    tap.setCarrier(ifnet.linkState === "up");
    this.#follower.look();
    this.#pump.run();
  }

  settled(): Promise<void> {
    return this.#follower.settled();
  }

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
    for (const m of this.#batch.splice(0)) m.free();
  }

  // As the pump's user: from the kernel to the driver.

  resume(): boolean {
    return this.#sendBatch();
  }

  take(frame: Frame, token: number): boolean {
    if (this.#congested && this.#isTooOld(token)) this.#tap.release(token);
    else this.#lineUp(frame, token);
    // While the driver is full again and again, no more than one frame is to wait here.
    return (!this.#congested && this.#batchBytes < BATCH_BYTES) || this.#sendBatch();
  }

  burstOver(drained: boolean): boolean {
    const room = this.#sendBatch();
    if (drained && room) this.#congested = false;
    return room;
  }

  /** False: the driver is full, keeps the rest of the batch waiting, and calls onTransmitReady. */
  #sendBatch(): boolean {
    const batch = this.#batch;
    while (batch.length > 0) {
      const sent = this.#ifnet.transmit(batch, batch.length);
      if (sent === batch.length) break;
      batch.splice(0, sent);
      if (this.#ifnet.transmitErrno === Errno.ENOBUFS) {
        this.#congested = true;
        return false;
      }
      this.counters.txRefused++;
      this.#ifnet.counters.oqdrops++;
      batch.shift()!.free();
    }
    batch.length = 0;
    this.#batchBytes = 0;
    return true;
  }

  #isTooOld(token: number): boolean {
    if (this.#tap.age(token) <= MAX_WAIT_MS) return false;
    this.counters.txTooOld++;
    this.#ifnet.counters.oqdrops++;
    return true;
  }

  /** Adds the frame in slot `token` to the batch, as something that the driver can send. */
  #lineUp(frame: Frame, token: number): void {
    const asked = askedOf(frame);
    if (asked === 0 || (asked > 0 && this.#driverCan(frame, asked))) {
      const m = this.#slotMbufs[token]!;
      m.attach(frame.buffers[0]!, frame.offsets[0]!, frame.lengths[0]!, this.#giveBack);
      m.cookie = token;
      frameToMbuf(frame, asked, m);
      this.#add(m);
      return;
    }
    // What the driver can't do is done here. The copies that result go in the slot's place.
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

  #add(m: Mbuf): void {
    this.#batch.push(m);
    this.#batchBytes += m.pktLength;
  }

  #keepCopy(frame: Frame): void {
    const m = frame.length <= CLUSTER_BYTES ? this.#pool.get() : undefined;
    if (m === undefined) {
      this.counters.txNoCluster++;
      this.#ifnet.counters.oqdrops++;
      return;
    }
    frame.copyTo(m.buffer, 0, 0, frame.length);
    m.length = frame.length;
    m.cookie = NO_TOKEN;
    frameToMbuf(frame, 0, m);
    this.#add(m);
  }

  /** A packet from the driver, ours to free. */
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
