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
import { Headers } from "../../shared/net/headers.ts";
import { Segmenter } from "../../shared/net/segment.ts";
import type { TapError } from "../../shared/tap/errors.ts";
import type { TapEnd } from "../../shared/tap/tap.ts";
import { Errno } from "../bus/errno.ts";
import { askedOf, canDo, frameToMbuf, mbufToFrame } from "../net/facts.ts";
import type { Ifnet } from "../net/ifnet.ts";
import { Mbuf, MbufPool } from "../net/mbuf.ts";
import { type FollowerHooks, LinkFollower } from "./link-follower.ts";

/** Frames handed to the driver before others get a turn. */
const BURST = 64;
const NO_TOKEN = -1;
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

/** Frames that end here, by reason. What the driver drops, it counts itself. */
export interface TapHostCounters {
  /** Kernel to driver: refused with an errno other than ENOBUFS. */
  txRefused: number;
  /** Kernel to driver: waited too long for a link that is slower than its source. */
  txTooOld: number;
  /** Kernel to driver: offload facts that can't be honoured in software either. */
  txMalformed: number;
  /** Kernel to driver: no cluster for work done in software. */
  txNoCluster: number;
  /** Frames finished or cut here because the driver can't. */
  txSoftware: number;
  /** Driver to kernel: no free slot. */
  rxQueueFull: number;
  /** Driver to kernel: a chain of too many pieces. */
  rxTooManyPieces: number;
  /** Driver to kernel: the kernel's interface is down. */
  rxDown: number;
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

class Join implements TapHost {
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
  readonly #txFrame = new Frame();
  readonly #headers = new Headers();
  readonly #segmenter = new Segmenter();
  readonly #pool = new MbufPool(CLUSTER_BYTES, CLUSTERS);
  /** One mbuf for each slot of the TAP, for as long as the driver may hold it. */
  readonly #slotMbufs: Mbuf[];
  /** Taken from the TAP and not yet by the driver, from At to End: one frame, or its segments. */
  readonly #waiting: Mbuf[] = [];
  #waitingAt = 0;
  #waitingEnd = 0;
  #pumping = false;
  /** The driver had no room, and what waited since then has not all been seen. */
  #congested = false;
  #turnAsked = false;
  #left = false;
  readonly #giveBack = (m: Mbuf): void => this.#tap.release(m.cookie);
  readonly #sink = { segment: (frame: Frame): void => this.#keepCopy(frame) };
  readonly #nextTurn = (): void => {
    this.#turnAsked = false;
    this.#pump();
  };

  constructor(tap: TapEnd, ifnet: Ifnet, hooks: TapHostHooks) {
    this.#tap = tap;
    this.#ifnet = ifnet;
    this.#slotMbufs = Array.from({ length: tap.slots }, () => new Mbuf());
    this.#follower = new LinkFollower(tap, ifnet, hooks);
    ifnet.input = (m) => this.#input(m);
    ifnet.inputDone = () => tap.flush();
    ifnet.onTransmitReady = () => this.#pump();
    ifnet.onLinkState = (up) => tap.setCarrier(up);
    tap.onFrames = () => this.#pump();
    tap.onLinkChange = () => this.#follower.look();
    tap.onGone = (error) => hooks.gone?.(error);
    tap.setCarrier(ifnet.linkState === "up");
    this.#follower.look();
    this.#pump();
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
    this.#tap.onFrames = undefined;
    this.#tap.onLinkChange = undefined;
    this.#tap.onGone = undefined;
    while (this.#waitingAt < this.#waitingEnd) this.#waiting[this.#waitingAt++]!.free();
  }

  /** One burst from the kernel to the driver. */
  #pump(): void {
    // A driver that cleans up inside transmit says "ready" in the middle of a burst; it goes on anyway.
    if (this.#turnAsked || this.#pumping) return;
    this.#pumping = true;
    let moved = 0;
    let room = this.#sendWaiting();
    while (room && moved < BURST && !this.#left) {
      const token = this.#tap.receive(this.#txFrame);
      if (token === NO_TOKEN) {
        this.#congested = false;
        break;
      }
      moved++;
      if (this.#congested && this.#tap.age(token) > MAX_WAIT_MS) {
        this.#tap.release(token);
        this.counters.txTooOld++;
        this.#ifnet.counters.oqdrops++;
        continue;
      }
      this.#take(token);
      room = this.#sendWaiting();
    }
    this.#pumping = false;
    if (!room) this.#congested = true;
    // Without room the driver's onTransmitReady goes on; with more to come, others first.
    if (!room || moved < BURST || this.#left) return;
    this.#turnAsked = true;
    setImmediate(this.#nextTurn);
  }

  /** True when nothing waits any more; false: the driver is full and calls onTransmitReady. */
  #sendWaiting(): boolean {
    while (this.#waitingAt < this.#waitingEnd) {
      const m = this.#waiting[this.#waitingAt]!;
      const errno = this.#ifnet.transmit(m);
      if (errno === Errno.ENOBUFS) return false;
      this.#waitingAt++;
      if (errno === 0) continue;
      this.counters.txRefused++;
      this.#ifnet.counters.oqdrops++;
      m.free();
    }
    this.#waitingAt = 0;
    this.#waitingEnd = 0;
    return true;
  }

  /** Turns the frame in slot `token` into what the driver takes, and lines it up. */
  #take(token: number): void {
    const frame = this.#txFrame;
    const h = this.#headers;
    h.parse(frame);
    const asked = askedOf(frame, h);
    if (asked === 0 || (asked > 0 && this.#driverCan(frame, asked))) {
      const m = this.#slotMbufs[token]!;
      m.attach(frame.buffers[0]!, frame.offsets[0]!, frame.lengths[0]!, this.#giveBack);
      m.cookie = token;
      frameToMbuf(frame, h, asked, m);
      this.#wait(m);
      return;
    }
    this.#inSoftware(frame, h);
    this.#tap.release(token);
  }

  #driverCan(frame: Frame, asked: number): boolean {
    const { capEnable, hwTsomax } = this.#ifnet;
    return canDo(asked, capEnable) && (frame.gso === Gso.NONE || frame.length <= hwTsomax);
  }

  /** Does what the driver can't. The copies that result wait in the slot's place. */
  #inSoftware(frame: Frame, h: Headers): void {
    this.counters.txSoftware++;
    if (frame.gso !== Gso.NONE) {
      if (this.#segmenter.segment(frame, h, this.#sink) !== undefined) this.#malformed();
      return;
    }
    const finished = this.#segmenter.finish(frame, h);
    if (typeof finished === "string") this.#malformed();
    else this.#keepCopy(finished);
  }

  #wait(m: Mbuf): void {
    this.#waiting[this.#waitingEnd++] = m;
  }

  #malformed(): void {
    this.counters.txMalformed++;
    this.#ifnet.counters.oqdrops++;
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
    // The flow is that of the frame it was cut from, whose headers are still parsed.
    frameToMbuf(frame, this.#headers, 0, m);
    this.#wait(m);
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
