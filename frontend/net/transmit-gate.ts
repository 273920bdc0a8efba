/**
 * The gate between the stack and a driver's transmit queues. Both drivers use it, so that a source
 * above meets the same rules whatever the device is.
 *
 *   transmit ─► closed: interface down, device away, frame that can never go
 *            ─► pick:   the queue of the frame's flow
 *            ─► admit:  room in the queue, on the link, in the push budget
 *            ─► the driver's own descriptors ... ─► burstDue, armKick: when the device is notified
 *   completions, link, reset ─► ready: the source that was refused may go on
 *
 * Answers to the source, which keeps the packet on each of them:
 *
 *   ENETDOWN   the interface is down
 *   ENOBUFS    not now: wait for onTransmitReady
 *   EMSGSIZE   never: the frame is longer than the device accepts. The source drops it
 *
 * The push budget is the number of bytes that the device holds for this NIC (`pushBytes` of the
 * welcome). It is at least one whole frame, so every frame that may go fits an empty budget. No
 * packet may exceed what is left of it: the device closes a link that does. The number of pushes is
 * bounded likewise.
 *
 * A frame costs no allocation here.
 */

import { Limits } from "../../shared/wire/transactions.ts";
import { Errno } from "../bus/errno.ts";
import type { DmaSpace } from "../bus/space.ts";
import { flowHash } from "./flow.ts";
import { Iff, type Ifnet } from "./ifnet.ts";
import { Csum, HashType, type Mbuf } from "./mbuf.ts";

/** Packets after which the device is notified within a burst: ENA_DB_THRESHOLD of the ENA driver. */
const BURST_PACKETS = 64;
/** Bytes after which it is notified too: pushed bytes and their doorbell should share a message. */
const BURST_BYTES = 60 * 1024;

/** Pieces of the largest packet of either driver: ENA_PKT_MAX_BUFS. */
const MOST_PIECES = 19;
/** With more pushes alive, the largest packet could exceed what a device holds. */
const MOST_PUSHES = Limits.PUSHES - MOST_PIECES;

const CSUM_TSO = Csum.IP_TSO | Csum.IP6_TSO;

/** Counts times, not packets: a source tries a refused packet again. */
export interface GateStats {
  refused_ring: number;
  refused_link: number;
  refused_budget: number;
  /** Frames that can never go. */
  too_long: number;
}

/** A transmit queue, as the gate needs it. */
export interface GateQueue {
  readonly stats: GateStats;
  /** False while the queue is too full for the largest packet. */
  readonly hasRoom: boolean;
  /** Packets and bytes since the device was notified. */
  burstPackets: number;
  burstBytes: number;
}

export interface GateOptions {
  readonly ifnet: Ifnet;
  readonly space: DmaSpace;
  /** The driver's own limit of pushed bytes, beside the device's. */
  readonly pushBytes?: number | undefined;
  /** The device is there and accepts packets. */
  isOpen(): boolean;
  /** Notifies the device of what each queue has staged. */
  kick(): void;
}

export class TransmitGate<Q extends GateQueue> {
  /** Bytes pushed and not completed, over all queues. The driver counts them. */
  pushedBytes = 0;
  /** Pushes of those bytes: one for each piece. The driver counts them. */
  pushes = 0;
  /** Bytes of the longest frame that is not to be cut; `ifnet.hwTsomax` limits the others. */
  maxFrameBytes = Number.POSITIVE_INFINITY;
  kickArmed = false;
  readonly #ifnet: Ifnet;
  readonly #space: DmaSpace;
  readonly #ownLimit: number;
  readonly #isOpen: () => boolean;
  /** A source was refused and waits for onTransmitReady. */
  #refused = false;
  /** The queue that had no room, when that was the reason. */
  #fullQueue: Q | undefined;
  readonly #kick: () => void;

  constructor(options: GateOptions) {
    this.#ifnet = options.ifnet;
    this.#space = options.space;
    this.#ownLimit = options.pushBytes ?? Number.POSITIVE_INFINITY;
    this.#isOpen = () => options.isOpen();
    this.#kick = () => {
      this.kickArmed = false;
      options.kick();
    };
  }

  /** Bytes that may be pushed and not completed. */
  get pushBytes(): number {
    return Math.min(this.#ownLimit, this.#space.pushBytes);
  }

  /** Whether any packet may go now: 0, ENETDOWN or ENOBUFS. */
  closed(): number {
    if ((this.#ifnet.flags & Iff.UP) === 0) {
      // A source that keeps the packet all the same learns when the interface is up again.
      this.#refused = true;
      return Errno.ENETDOWN;
    }
    return this.#isOpen() ? 0 : this.refuse(undefined);
  }

  /** The queue, of `count`, of the packet's flow, so that a flow stays in order. */
  pick(m: Mbuf, count: number): number {
    if (count === 1) return 0;
    const flow = m.hashType !== HashType.NONE ? m.flowId : flowHash(m);
    return (flow >>> 0) % count;
  }

  /** Whether this packet may go into `queue` now: 0, ENOBUFS or EMSGSIZE. */
  admit(queue: Q, m: Mbuf): number {
    const { stats } = queue;
    const most = (m.csumFlags & CSUM_TSO) !== 0 ? this.#ifnet.hwTsomax : this.maxFrameBytes;
    if (m.pktLength > most) {
      stats.too_long++;
      return Errno.EMSGSIZE;
    }
    if (!queue.hasRoom) {
      stats.refused_ring++;
      return this.refuse(queue);
    }
    const errno = this.mayPush(stats, m.pktLength);
    return errno === Errno.ENOBUFS ? this.refuse(undefined) : errno;
  }

  /** Whether link and budget have room for `bytes`: 0, ENOBUFS, or EMSGSIZE when they never have. */
  mayPush(stats: GateStats, bytes: number): number {
    const limit = this.pushBytes;
    if (bytes > limit) {
      stats.too_long++;
      return Errno.EMSGSIZE;
    }
    if (this.#space.link?.writable !== true) {
      stats.refused_link++;
      return Errno.ENOBUFS;
    }
    if (this.pushedBytes + bytes > limit || this.pushes > MOST_PUSHES) {
      stats.refused_budget++;
      return Errno.ENOBUFS;
    }
    return 0;
  }

  /** ENOBUFS, and the source hears of the end of it. `queue`: the one that had no room, if one had. */
  refuse(queue: Q | undefined): number {
    this.#refused = true;
    this.#fullQueue = queue;
    this.#ifnet.flags |= Iff.DRV_OACTIVE;
    return Errno.ENOBUFS;
  }

  /** Link and budget have room for something. */
  get hasRoom(): boolean {
    const { link } = this.#space;
    return (
      link?.writable === true && this.pushedBytes < this.pushBytes && this.pushes <= MOST_PUSHES
    );
  }

  /** The reason of a refusal may be over: tells the source, once. */
  ready(): void {
    if (!this.#refused || !this.#isOpen()) return;
    if (this.#fullQueue?.hasRoom === false || !this.hasRoom) return;
    this.#refused = false;
    this.#fullQueue = undefined;
    this.#ifnet.flags &= ~Iff.DRV_OACTIVE;
    this.#ifnet.onTransmitReady();
  }

  /** The queues are gone: a source that waits for one of them waits for their successors. */
  forgetQueues(): void {
    this.#fullQueue = undefined;
  }

  /** A packet of `bytes` was staged in `queue`. True when the burst has gone on for long enough. */
  burstDue(queue: Q, bytes: number): boolean {
    queue.burstPackets++;
    queue.burstBytes += bytes;
    return queue.burstPackets >= BURST_PACKETS || queue.burstBytes >= BURST_BYTES;
  }

  /** Makes sure that the device is notified once this burst is over. */
  armKick(): void {
    if (this.kickArmed) return;
    this.kickArmed = true;
    queueMicrotask(this.#kick);
  }

  /** The burst is over now. */
  kick(): void {
    this.#kick();
  }
}
