/**
 * The gate between the stack and a driver's transmit queues. Both drivers use it, so a source above
 * meets the same rules whatever the device is.
 *
 *   transmit(mbufs, n) ─► interface up, device there?
 *     each packet ─► queueOf: the queue of the packet's flow
 *                 ─► admit:   room in the queue, on the link, in the push budget
 *                 ─► stage:   the driver's own descriptors
 *     the batch is through, or 60 KiB of it ─► kick: the device is notified
 *   completions, link, reset ─► ready: a source that was refused may go on
 *
 * A refused packet stays with its source. `Ifnet.transmitErrno` says why:
 *
 *   ENETDOWN   the interface is down
 *   ENOBUFS    no room now: wait for onTransmitReady
 *   EMSGSIZE   the frame is longer than the device accepts, and never goes: the source drops it
 *
 * The push budget is the number of bytes that the device holds for this NIC (`pushBytes` of the
 * welcome). It is at least one whole frame, so every frame that may go fits an empty budget. No
 * packet may exceed what is left of it: the device closes a link that does. The number of pushes is
 * bounded likewise.
 *
 * A frame costs no allocation here. The link is asked once a batch and after each notification.
 */

import { Limits } from "../../shared/wire/protocol.ts";
import { Errno } from "../bus/errno.ts";
import type { DmaSpace } from "../bus/space.ts";
import { findFacts } from "./facts.ts";
import { Iff, type Ifnet } from "./ifnet.ts";
import { Csum, HashType, type Mbuf } from "./mbuf.ts";

/** Packets of a batch after which the device is notified: ENA_DB_THRESHOLD of the ENA driver. */
const BURST_PACKETS = 64;
/** Bytes after which it is notified too: pushed bytes and their doorbell should share a message. */
const BURST_BYTES = 60 * 1024;

/** Pieces of the largest packet of either driver: ENA_PKT_MAX_BUFS. */
const MOST_PIECES = 19;
/** With more pushes alive, the largest packet could exceed what a device holds. */
const MOST_PUSHES = Limits.PUSHES - MOST_PIECES;

const CSUM_TSO = Csum.IP_TSO | Csum.IP6_TSO;

/** A queue's counters of the gate. Refusals count times, not packets: a source tries again. */
export class GateStats {
  /** Packets and bytes that the queue accepted. */
  count = 0;
  bytes = 0;
  /** Refusals for lack of room: in the ring, on the link, in the push budget. */
  refused_ring = 0;
  refused_link = 0;
  refused_budget = 0;
  /** Frames that can never go. */
  too_long = 0;
}

/** A transmit queue, as the gate needs it. */
export interface GateQueue {
  readonly stats: GateStats;
  /** False while the queue is too full for the largest packet. */
  readonly hasRoom: boolean;
}

/** The driver's part. */
export interface GateDriver<Q extends GateQueue> {
  readonly ifnet: Ifnet;
  readonly space: DmaSpace;
  /** The device is there and accepts packets. */
  isOpen(): boolean;
  /** The queue of the packet's flow; undefined while the stack has none. */
  queueOf(m: Mbuf): Q | undefined;
  /** Stages an admitted packet. 0: the driver owns it. Else an errno, and nothing has changed. */
  stage(queue: Q, m: Mbuf): number;
  /** Notifies the device of what each queue has staged. */
  kick(): void;
}

export class TransmitGate<Q extends GateQueue> {
  /** Bytes pushed and not completed, over all queues. */
  pushedBytes = 0;
  /** Pushes of those bytes: one for each piece. */
  pushes = 0;
  /** Bytes of the longest frame that is not to be cut; `ifnet.hwTsomax` limits the others. */
  maxFrameBytes = Number.POSITIVE_INFINITY;
  readonly #driver: GateDriver<Q>;
  readonly #ifnet: Ifnet;
  readonly #space: DmaSpace;
  /** A source was refused and waits for onTransmitReady. */
  #refused = false;
  /** The queue that had no room, when that was the reason. */
  #fullQueue: Q | undefined;
  // The burst at hand.
  #linkHasRoom = false;
  #limit = 0;
  #packets = 0;
  #bytes = 0;

  constructor(driver: GateDriver<Q>) {
    this.#driver = driver;
    this.#ifnet = driver.ifnet;
    this.#space = driver.space;
  }

  /** Ifnet.transmit. */
  transmit(mbufs: readonly Mbuf[], n: number): number {
    const up = (this.#ifnet.flags & Iff.UP) !== 0;
    if (up && this.#driver.isOpen()) return this.sendOwn(mbufs, n);
    // A source that keeps its packets learns when the interface is up again.
    this.#ifnet.transmitErrno = up ? this.refuse(undefined) : Errno.ENETDOWN;
    this.#refused = true;
    return 0;
  }

  /** As `transmit`, whatever the state of the interface: for packets of the driver's own. */
  sendOwn(mbufs: readonly Mbuf[], n: number): number {
    const driver = this.#driver;
    let errno = 0;
    let sent = 0;
    this.beginBurst();
    for (; sent < n; sent++) {
      const m = mbufs[sent]!;
      const queue = driver.queueOf(m);
      // Once staged, the packet may be gone.
      const bytes = m.pktLength;
      errno = queue === undefined ? this.refuse(undefined) : this.#admit(queue, m);
      if (errno === 0) errno = driver.stage(queue!, m);
      if (errno !== 0) break;
      if (this.burstDue(bytes)) driver.kick();
    }
    if (sent > 0) driver.kick();
    this.#ifnet.transmitErrno = errno;
    return sent;
  }

  /** A burst begins: asks link and budget, for all of its packets. */
  beginBurst(): void {
    this.#linkHasRoom = this.#space.link?.askForRoom() === true;
    this.#limit = this.#space.pushBytes;
    this.#packets = 0;
    this.#bytes = 0;
  }

  /** A packet of `bytes` was staged. True when it is time to notify; a new burst begins then. */
  burstDue(bytes: number): boolean {
    this.#packets++;
    this.#bytes += bytes;
    if (this.#packets < BURST_PACKETS && this.#bytes < BURST_BYTES) return false;
    this.beginBurst();
    return true;
  }

  /** The queue, of `count`, of the packet's flow, so that a flow stays in order. */
  pick(m: Mbuf, count: number): number {
    if (count === 1) return 0;
    if (m.hashType === HashType.NONE) findFacts(m);
    return (m.flowId >>> 0) % count;
  }

  /** Whether this packet may go into `queue` now: 0, ENOBUFS or EMSGSIZE. */
  #admit(queue: Q, m: Mbuf): number {
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
    if (bytes > this.#limit) {
      stats.too_long++;
      return Errno.EMSGSIZE;
    }
    if (!this.#linkHasRoom) {
      stats.refused_link++;
      return Errno.ENOBUFS;
    }
    if (this.pushedBytes + bytes > this.#limit || this.pushes > MOST_PUSHES) {
      stats.refused_budget++;
      return Errno.ENOBUFS;
    }
    return 0;
  }

  /** Counts a staged packet of `bytes`, `pushed` of them in `pieces` pushes. */
  staged(stats: GateStats, bytes: number, pushed: number, pieces: number): void {
    const { counters } = this.#ifnet;
    this.pushedBytes += pushed;
    this.pushes += pieces;
    stats.count++;
    stats.bytes += bytes;
    counters.opackets++;
    counters.obytes += bytes;
  }

  /** Drops a packet whose offload facts or mapping are no good. Returns 0: it is nobody's now. */
  drop(m: Mbuf): number {
    this.#ifnet.counters.oerrors++;
    m.free();
    return 0;
  }

  /** Returns ENOBUFS; `ready` tells the source later. `queue` is the one without room, if that is why. */
  refuse(queue: Q | undefined): number {
    this.#refused = true;
    this.#fullQueue = queue;
    this.#ifnet.flags |= Iff.DRV_OACTIVE;
    return Errno.ENOBUFS;
  }

  /** Link and budget have room for something. */
  get hasRoom(): boolean {
    const { link, pushBytes } = this.#space;
    const hasBudget = this.pushedBytes < pushBytes && this.pushes <= MOST_PUSHES;
    return link?.askForRoom() === true && hasBudget;
  }

  /** The reason of a refusal may be gone: calls onTransmitReady once. */
  ready(): void {
    if (!this.#refused || !this.#driver.isOpen()) return;
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
}
