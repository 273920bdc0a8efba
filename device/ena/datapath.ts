/**
 * Packets between the queues and the switch. Transmit queues work in turns (device/turn.ts). A
 * burst ends with one write for each completion queue, one interrupt for each vector, and one
 * flush. Completions that no driver waits for are kept for the next batch (notify.ts).
 *
 *   batch applied -> turn -> flush -> publish, or keep
 *   a frame for us -> deliver ... flush -> publish
 *   a batch is about to be sent -> publish
 *
 * The order on the wire is: bytes, completions, interrupts.
 */

import { L3Proto, L4Proto, rxCdesc } from "../../shared/ena/io.ts";
import { verifyL3 } from "../../shared/net/checksum.ts";
import { L2_BYTES } from "../../shared/net/ethernet.ts";
import type { Frame } from "../../shared/net/frame.ts";
import { type Headers, L3, L4 } from "../../shared/net/headers.ts";
import type { Cut } from "../../shared/net/segment.ts";
import { DropReason, type Port, type PortOffloads, type SwitchPort } from "../switch/port.ts";
import { Turn, type TurnOwner } from "../turn.ts";
import type { CompletionQueue } from "./completion-queue.ts";
import type { EnaContext } from "./context.ts";
import type { Vectors } from "./notify.ts";
import type { Rss } from "./rss.ts";
import type { RxQueue } from "./rx.ts";
import type { TxQueue } from "./tx.ts";

export class Datapath implements Port, TurnOwner {
  readonly name: string;
  readonly kind = "ena";
  /** Receive buffers get full checksums and no super-frames. The switch does that work. */
  readonly offloads: PortOffloads = { csum: false, tso4: false, tso6: false };
  readonly switchPort: SwitchPort;
  readonly turn: Turn;
  /** Queues by index, undefined where none was created. */
  readonly tx: (TxQueue | undefined)[] = [];
  readonly rx: (RxQueue | undefined)[] = [];
  readonly cqs: (CompletionQueue | undefined)[] = [];
  readonly #context: EnaContext;
  readonly #vectors: Vectors;
  readonly #rss: Rss;
  #rxCount = 0;
  /** The only or the lowest receive queue. It receives all frames until a table is set. */
  #firstRx: RxQueue | undefined;

  constructor(context: EnaContext, vectors: Vectors, rss: Rss) {
    this.#context = context;
    this.#vectors = vectors;
    this.#rss = rss;
    this.name = context.host.config.name;
    this.switchPort = context.host.plug(this);
    this.turn = new Turn(this, this.switchPort, context.host);
  }

  get maxFrameBytes(): number {
    return this.#context.mtu + L2_BYTES;
  }

  /** Called after `rx` changed. */
  rxChanged(): void {
    const all = this.rx.filter((queue) => queue !== undefined);
    this.#rxCount = all.length;
    this.#firstRx = all[0];
    this.turn.roomAgain();
  }

  // Methods of a port of the switch.

  deliver(frame: Frame): DropReason | undefined {
    const { host, counters } = this.#context;
    const first = this.#firstRx;
    let reason: DropReason | undefined;
    if (first === undefined) reason = DropReason.PORT_DOWN;
    else if (!host.askForRoom()) reason = DropReason.LINK_BACKLOG;
    else if (frame.needsCsum || frame.gsoSize !== 0) reason = DropReason.MALFORMED_OFFLOAD;
    else if (frame.length > this.maxFrameBytes) reason = DropReason.TOO_BIG;
    else reason = this.#receive(frame, first);
    if (reason === undefined) {
      counters.rxPackets++;
      counters.rxBytes += frame.length;
    } else if (reason === DropReason.RX_OVERRUN) counters.rxOverruns++;
    else if (reason !== DropReason.PORT_DOWN && reason !== DropReason.LINK_BACKLOG) {
      counters.rxDrops++;
    }
    return reason;
  }

  deliverSegments(cut: Cut): void {
    const first = this.#firstRx;
    if (first === undefined) return;
    const { counters } = this.#context;
    const { headers } = cut;
    const hash = this.#hashes() ? this.#rss.toeplitz.hash(headers) : 0;
    const queue = this.#hashes() ? this.rx[this.#rss.queueOf(hash)] : first;
    // Their checksums are complete.
    const verdict = verdictOf(headers, true, true);
    while (cut.nextBytes > 0 && cut.nextBytes <= this.maxFrameBytes) {
      const bytes = cut.nextBytes;
      if (queue?.build(cut, verdict, hash) !== true) return;
      counters.rxPackets++;
      counters.rxBytes += bytes;
    }
  }

  ready(length: number, frames: number): boolean {
    // A port that is down drops the frame. A hold would stop the sender for good.
    if (this.#firstRx === undefined) return true;
    let room = this.#context.host.askForRoom();
    // The frame's queue is not known yet, so every queue must have room. A frame that was held must
    // not be dropped.
    for (let i = 0; room && i < this.rx.length; i++)
      room = this.rx[i]?.ready(length, frames) ?? true;
    if (!room) this.turn.hold();
    return room;
  }

  #receive(frame: Frame, first: RxQueue): DropReason | undefined {
    const headers = frame.headers();
    const verdict = verdictOf(headers, frame.csumValid, false);
    if (!this.#hashes()) return first.deliver(frame, verdict, 0);
    const hash = this.#rss.toeplitz.hash(headers);
    const queue = this.rx[this.#rss.queueOf(hash)];
    // The table may still name a queue that was destroyed.
    if (queue === undefined) return DropReason.PORT_DOWN;
    return queue.deliver(frame, verdict, hash);
  }

  #hashes(): boolean {
    return this.#rxCount > 1 && this.#rss.table.length > 0;
  }

  // Turns.

  endTurn(): void {
    this.flush();
  }

  /** Ends a burst: sends its completions, or keeps them for the next message to the driver. */
  flush(now = false): void {
    let waitMs = Number.POSITIVE_INFINITY;
    this.#settle();
    for (let i = 0; i < this.cqs.length; i++) {
      const cq = this.cqs[i];
      if (cq === undefined || cq.ring.staged === 0) continue;
      waitMs = Math.min(waitMs, this.#mayWaitMs(cq));
    }
    if (waitMs === Number.POSITIVE_INFINITY) return;
    const { host } = this.#context;
    if (waitMs > 0) host.scheduleLazy(waitMs);
    else if (now) host.flush();
    else {
      this.publish();
      host.scheduleFlush();
    }
  }

  /** Returns the time (ms) for which completions of the queue may wait: 0 if a driver may wait too. */
  #mayWaitMs(cq: CompletionQueue): number {
    const { staged, depth } = cq.ring;
    const tx = this.tx[cq.index];
    const mayWait =
      tx === undefined
        ? this.#context.kept.mayWait(staged, depth)
        : this.#context.kept.mayWait(tx.occupied, tx.ring.depth);
    return mayWait ? this.#vectors.delayMs(cq) : 0;
  }

  /** Posts all staged completions, then one interrupt for each vector. */
  publish(): void {
    const vectors = this.#vectors;
    let any = false;
    this.#settle();
    for (let i = 0; i < this.cqs.length; i++) {
      const cq = this.cqs[i];
      if (cq === undefined || cq.ring.publish() === 0) continue;
      any = true;
      if (cq.interrupts) vectors.due[cq.vector] = 1;
    }
    if (!any) return;
    vectors.postDue();
    for (let i = 0; i < this.tx.length; i++) this.tx[i]?.completionsSent();
    this.#context.kept.clear();
  }

  #settle(): void {
    for (let i = 0; i < this.tx.length; i++) this.tx[i]?.settle();
  }

  /** Resets: removes every queue and abandons packets under way. */
  dropQueues(): void {
    for (const queue of this.tx) queue?.close();
    for (const queue of this.rx) queue?.close();
    this.tx.length = 0;
    this.rx.length = 0;
    this.cqs.length = 0;
    this.#context.kept.clear();
    this.rxChanged();
  }

  close(): void {
    this.dropQueues();
    this.turn.close();
  }
}

/**
 * Returns the status bits of a receive completion. A protocol is named only if its header is valid,
 * because drivers treat IPv4 without an error bit as a verified header checksum. The layer-4 bit is
 * set only for a checksum that was computed or verified in this process. With `l3Valid`, the
 * checksum of the IPv4 header is known to be right.
 */
function verdictOf(h: Headers, csumValid: boolean, l3Valid: boolean): number {
  if (h.l3 === L3.NONE) return 0;
  const v4 = h.l3 === L3.IPV4;
  let l4: number = L4Proto.UNKNOWN;
  if (!h.fragment && h.l4HeaderLength > 0) {
    if (h.l4 === L4.TCP) l4 = L4Proto.TCP;
    else if (h.l4 === L4.UDP) l4 = L4Proto.UDP;
  }
  return rxCdesc.packVerdict(
    v4 ? L3Proto.IPV4 : L3Proto.IPV6,
    l4,
    v4 && !l3Valid && !verifyL3(h) ? 1 : 0,
    0,
    csumValid && l4 !== L4Proto.UNKNOWN ? 1 : 0,
    v4 && h.fragment ? 1 : 0,
  );
}
