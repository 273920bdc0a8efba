/**
 * A NIC's turn. The transmit queues run in slices, up to TURN packets in all. Then the turn
 * publishes its results. Other NICs have their turn before the next turn of this NIC.
 *
 *   batch applied ──► run: beginTurn
 *                          each queue SLICE packets, round and round, at most TURN in all
 *                          ──► switch flush ──► endTurn
 *   budget used   ──► schedule: the rest at the next turn of the event loop
 *   switch has room again ──► queues whose frame was held resume ──► schedule
 */
import { soon } from "../shared/reactor/index.ts";
import type { NicHost } from "./nic.ts";
import type { SwitchPort } from "./switch/port.ts";

/** Number of packets of one queue before the next queue has its slice. */
const SLICE = 64;
/** Number of packets of one NIC before other NICs have their turn. */
const TURN = 256;

/** A transmit queue. It works in order, and stops while it waits for bytes or for room. */
export interface TurnQueue {
  /**
   * Sends packets worth up to `budget`. Returns the used budget, which is more by at most the work
   * of the last packet.
   */
  run(budget: number): number;
  /** Called when the switch has room for the frame that this queue holds. */
  resume(): void;
}

/** A NIC model that takes turns. */
export interface TurnOwner {
  /** Queues by index, undefined where none exists. May become shorter while a queue runs. */
  readonly tx: readonly (TurnQueue | undefined)[];
  /** Called before the transmit queues run. */
  beginTurn?(): void;
  /** Called when the frames of the turn are delivered. Publishes what the turn completed. */
  endTurn(): void;
}

export class Turn {
  readonly #owner: TurnOwner;
  readonly #port: SwitchPort;
  readonly #link: Pick<NicHost, "askToWork">;
  /** True while another port holds a frame for this NIC. */
  holding = false;
  #running = false;
  #isScheduled = false;
  #closed = false;
  readonly #scheduled = (): void => {
    this.#isScheduled = false;
    this.run();
  };

  constructor(owner: TurnOwner, port: SwitchPort, link: Pick<NicHost, "askToWork">) {
    this.#owner = owner;
    this.#port = port;
    this.#link = link;
    port.onReady = () => {
      for (const queue of owner.tx) queue?.resume();
      this.schedule();
    };
  }

  run(): void {
    if (this.#running || this.#closed) return;
    const owner = this.#owner;
    this.#running = true;
    owner.beginTurn?.();
    // What waited while the process stood still is dropped, which costs little. All of it goes in one
    // turn, so that none is left when the present begins.
    const most = this.#port.stale ? Number.POSITIVE_INFINITY : TURN;
    let budget = most;
    let progress = true;
    while (progress && budget > 0 && this.#link.askToWork()) {
      progress = false;
      for (let i = 0; i < owner.tx.length && budget > 0; i++) {
        const used = owner.tx[i]?.run(Math.min(SLICE, budget)) ?? 0;
        budget -= used;
        if (used > 0) progress = true;
      }
    }
    this.#running = false;
    if (budget < most) this.#port.flush();
    owner.endTurn();
    // A link whose send queue is full reports when it has drained. Otherwise a new turn is needed.
    if (budget <= 0 && this.#link.askToWork()) this.schedule();
  }

  /** Schedules a run at the next turn of the event loop. */
  schedule(): void {
    if (this.#isScheduled || this.#closed) return;
    this.#isScheduled = true;
    soon(this.#scheduled);
  }

  /** Records that the NIC had no room for a frame. The sender holds the frame until `roomAgain`. */
  hold(): void {
    this.holding = true;
  }

  /** Called when receive buffers or the link have room. Senders that hold a frame may try again. */
  roomAgain(): void {
    if (!this.holding) return;
    this.holding = false;
    this.#port.roomAgain();
  }

  /** Ends all turns. The port leaves the switch. */
  close(): void {
    this.#closed = true;
    this.#port.onReady = undefined;
    this.#port.detach();
  }
}
