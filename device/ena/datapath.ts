/**
 * The turn of the wheel: transmit queues in slices, received frames to their queues, and at the
 * end of a burst one write a completion queue, one interrupt a vector, one flush.
 *
 *   batch applied -> run: each tx queue SLICE packets, round and round, at most TURN in all
 *                    -> switch flush -> publish
 *   more to do    -> the rest at the next turn of the event loop, so that other NICs get theirs
 *   a frame for us -> deliver ... flush -> publish
 *
 * The order on the wire is: bytes, completions, interrupts.
 */

import { L3Proto, L4Proto, rxCdesc } from "../../shared/ena/io.ts";
import { verifyL3 } from "../../shared/net/checksum.ts";
import type { Frame } from "../../shared/net/frame.ts";
import { Headers, L3, L4 } from "../../shared/net/headers.ts";
import { DropReason, type Port, type PortOffloads, type SwitchPort } from "../switch/port.ts";
import type { CompletionQueue } from "./completion-queue.ts";
import { type EnaContext, L2_BYTES } from "./context.ts";
import type { Vectors } from "./notify.ts";
import type { Rss } from "./rss.ts";
import type { RxQueue } from "./rx.ts";
import type { TxQueue } from "./tx.ts";

/** Packets of one queue before the next has its turn. */
const SLICE = 64;
/** Packets of one NIC before other NICs have theirs. */
const TURN = 256;

export class Datapath implements Port {
  readonly name: string;
  readonly kind = "ena";
  /** Receive buffers get whole checksums and no super-frames: the switch does that work. */
  readonly offloads: PortOffloads = { csum: false, tso4: false, tso6: false };
  readonly switchPort: SwitchPort;
  /** By index, holes where none was created. */
  readonly tx: (TxQueue | undefined)[] = [];
  readonly rx: (RxQueue | undefined)[] = [];
  readonly cqs: (CompletionQueue | undefined)[] = [];
  readonly #context: EnaContext;
  readonly #vectors: Vectors;
  readonly #rss: Rss;
  readonly #headers = new Headers();
  #rxCount = 0;
  /** The one receive queue, or the lowest, which takes everything until a table is set. */
  #firstRx: RxQueue | undefined;
  #running = false;
  #scheduled: NodeJS.Immediate | undefined;
  /** Somebody was told that we have no room. */
  #held = false;
  #closed = false;

  constructor(context: EnaContext, vectors: Vectors, rss: Rss) {
    this.#context = context;
    this.#vectors = vectors;
    this.#rss = rss;
    this.name = context.host.config.name;
    this.switchPort = context.host.plug(this);
    this.switchPort.onReady = () => {
      for (const queue of this.tx) queue?.resume();
      this.schedule();
    };
  }

  get maxFrameBytes(): number {
    return this.#context.mtu + L2_BYTES;
  }

  /** Call after `rx` changed. */
  rxChanged(): void {
    const all = this.rx.filter((queue) => queue !== undefined);
    this.#rxCount = all.length;
    this.#firstRx = all[0];
    this.roomAgain();
  }

  // As a port of the switch.

  deliver(frame: Frame): DropReason | undefined {
    const { host, counters } = this.#context;
    const first = this.#firstRx;
    let reason: DropReason | undefined;
    if (first === undefined) reason = DropReason.PORT_DOWN;
    else if (!host.writable) reason = DropReason.LINK_BACKLOG;
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

  ready(length: number, frames: number): boolean {
    // A port that is down would drop the frame; holding it would stop its sender for good.
    if (this.#firstRx === undefined) return true;
    let room = this.#context.host.writable;
    // The frame's queue is not known yet, so each must have room: holding must never end in a drop.
    for (let i = 0; room && i < this.rx.length; i++)
      room = this.rx[i]?.ready(length, frames) ?? true;
    if (!room) this.#held = true;
    return room;
  }

  flush(): void {
    this.publish();
  }

  #receive(frame: Frame, first: RxQueue): DropReason | undefined {
    const headers = this.#headers;
    headers.parse(frame);
    const verdict = verdictOf(headers, frame.csumValid);
    if (this.#rxCount === 1 || this.#rss.table.length === 0)
      return first.deliver(frame, verdict, 0);
    const hash = this.#rss.hash(headers);
    const queue = this.rx[this.#rss.queueOf(hash)];
    // The table may still name a queue that was destroyed since.
    if (queue === undefined) return DropReason.PORT_DOWN;
    return queue.deliver(frame, verdict, hash);
  }

  // Work.

  /** New receive buffers, or room on the link: those who were held may try again. */
  roomAgain(): void {
    if (!this.#held) return;
    this.#held = false;
    this.switchPort.roomAgain();
  }

  /** Works off transmit queues, then publishes. */
  run(): void {
    if (this.#running || this.#closed) return;
    this.#running = true;
    let budget = TURN;
    let progress = true;
    while (progress && budget > 0 && !this.#context.host.backlogged) {
      progress = false;
      for (let i = 0; i < this.tx.length && budget > 0; i++) {
        const queue = this.tx[i];
        if (queue === undefined || !queue.runnable) continue;
        const done = queue.run(Math.min(SLICE, budget));
        budget -= done;
        if (done > 0) progress = true;
      }
    }
    this.#running = false;
    if (budget < TURN) this.switchPort.flush();
    this.publish();
    // A backlogged link says when it is writable; everything else goes on by itself.
    if (budget === 0 && !this.#context.host.backlogged) this.schedule();
  }

  /** A last turn for a queue that is about to go. */
  finish(queue: TxQueue): void {
    if (queue.runnable && queue.run(queue.ring.depth) > 0) this.switchPort.flush();
  }

  /** Runs at the next turn of the event loop. */
  schedule(): void {
    if (this.#scheduled !== undefined || this.#closed) return;
    this.#scheduled = setImmediate(() => {
      this.#scheduled = undefined;
      this.run();
    });
  }

  /** Sends staged completions, then interrupts. */
  publish(): void {
    let any = false;
    for (let i = 0; i < this.tx.length; i++) this.tx[i]?.settle();
    for (let i = 0; i < this.cqs.length; i++) {
      const cq = this.cqs[i];
      if (cq === undefined) continue;
      cq.fresh = cq.publish();
      if (cq.fresh) any = true;
    }
    if (!any) return;
    for (let i = 0; i < this.cqs.length; i++) {
      const cq = this.cqs[i];
      if (cq?.fresh) cq.notify(this.#vectors);
    }
    this.#context.host.scheduleFlush();
  }

  /** Reset: every queue is gone, what was under way is abandoned. */
  dropQueues(): void {
    for (const queue of this.tx) queue?.close();
    for (const queue of this.rx) queue?.close();
    this.tx.length = 0;
    this.rx.length = 0;
    this.cqs.length = 0;
    this.rxChanged();
  }

  close(): void {
    this.#closed = true;
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    this.dropQueues();
    this.switchPort.onReady = undefined;
    this.switchPort.detach();
  }
}

/**
 * Status bits of a receive completion. A protocol is named only when its header is sound, because
 * drivers take an IPv4 without an error bit for one whose header checksum was verified; and the
 * layer-4 bit only stands over what was computed or verified in this process.
 */
function verdictOf(h: Headers, csumValid: boolean): number {
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
    v4 && !verifyL3(h) ? 1 : 0,
    0,
    csumValid && l4 !== L4Proto.UNKNOWN ? 1 : 0,
    v4 && h.fragment ? 1 : 0,
  );
}
