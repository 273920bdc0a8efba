/**
 * A NIC's turn: its transmit queues in slices, at most so many packets in all, then what the turn
 * has to tell. Other NICs get theirs before the next.
 *
 *   batch applied ──► run: beginTurn
 *                          each queue SLICE packets, round and round, at most TURN in all
 *                          ──► switch flush ──► endTurn
 *   budget used   ──► schedule: the rest at the next turn of the event loop
 *   switch has room again ──► queues whose frame was held resume ──► schedule
 */
import type { NicHost } from "./nic.ts";
import type { SwitchPort } from "./switch/port.ts";

/** Packets of one queue before the next queue has its slice. */
const SLICE = 64;
/** Packets of one NIC before other NICs have their turn. */
const TURN = 256;

/** A transmit queue. It works in order, and stops while it waits for bytes or for room. */
export interface TurnQueue {
  /** Takes packets worth up to `budget`. Returns what it used of it; a little more is allowed. */
  run(budget: number): number;
  /** The switch has room for the frame that it held. */
  resume(): void;
}

/** A NIC model that takes turns. */
export interface TurnOwner {
  /** By index, holes where no queue is. May become shorter while a queue runs. */
  readonly tx: readonly (TurnQueue | undefined)[];
  /** What comes before the transmit queues. */
  beginTurn?(): void;
  /** The frames of the turn are delivered. Publishes what the turn completed. */
  endTurn(): void;
}

export class Turn {
  readonly #owner: TurnOwner;
  readonly #port: SwitchPort;
  readonly #link: Pick<NicHost, "askToWork">;
  /** Another port holds a frame for this NIC. */
  #holding = false;
  #running = false;
  #scheduled: NodeJS.Immediate | undefined;
  #closed = false;

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
    let budget = TURN;
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
    if (budget < TURN) this.#port.flush();
    owner.endTurn();
    // A link whose send queue is full reports when it has drained. Everything else needs a new turn.
    if (budget <= 0 && this.#link.askToWork()) this.schedule();
  }

  /** Runs at the next turn of the event loop. */
  schedule(): void {
    if (this.#scheduled !== undefined || this.#closed) return;
    this.#scheduled = setImmediate(() => {
      this.#scheduled = undefined;
      this.run();
    });
  }

  /** True while another port holds a frame for this NIC. */
  get holding(): boolean {
    return this.#holding;
  }

  /** The NIC refused a frame for want of room, so its sender holds it until `roomAgain`. */
  hold(): void {
    this.#holding = true;
  }

  /** Receive buffers, or room on the link, have come: senders that hold a frame may try again. */
  roomAgain(): void {
    if (!this.#holding) return;
    this.#holding = false;
    this.#port.roomAgain();
  }

  /** No further turn; the port leaves the switch. */
  close(): void {
    this.#closed = true;
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    this.#port.onReady = undefined;
    this.#port.detach();
  }
}
