/**
 * One port of a domain: its bits, its other end, and its upcall or handler.
 *
 *            send                    upcall or handler
 *   clear ─────────► pending ──────────────────────────► clear, busy ── eoi ──► clear
 *                     │  ▲ masked, or busy: it waits                └ delayed if spurious
 *                     └──┘
 *
 * The port of a guest has no turns: its upcall takes the bit. The port of a backend keeps the bit
 * until it has a handler.
 */
import { EvtchnStatus } from "../../shared/xen/event-channel.ts";

/** Spurious turns in a row without a delay, because one may be a race. Linux's default. */
const SPURIOUS_FREE = 1;
/** Longest delay of a turn, in ms. */
const MAX_DELAY = 1000;
/** Highest count of spurious turns: more would not delay any longer. */
const MAX_SPURIOUS = SPURIOUS_FREE + 1 + Math.ceil(Math.log2(MAX_DELAY));

export class EventPort {
  readonly domid: number;
  readonly number: number;
  status: EvtchnStatus = EvtchnStatus.UNBOUND;
  /** The domain that may bind an unbound port, or the domain of the other end. */
  remoteDomid: number;
  remote: EventPort | undefined;
  pending = false;
  masked = false;
  handler: (() => void) | undefined;
  /** True from the start of a handler's turn until its end of interrupt has taken effect. */
  busy = false;
  /** True while the handler is on the stack. An event meanwhile causes a turn after it. */
  running = false;
  /** Time (ms) at which a delayed end of interrupt takes effect. */
  due = 0;
  #spurious = 0;

  constructor(domid: number, number: number, remoteDomid: number) {
    this.domid = domid;
    this.number = number;
    this.remoteDomid = remoteDomid;
  }

  join(other: EventPort): void {
    this.status = EvtchnStatus.INTERDOMAIN;
    this.remote = other;
    this.remoteDomid = other.domid;
  }

  /** Called when the other end closes. The same domain may bind the port again. */
  part(): void {
    this.status = EvtchnStatus.UNBOUND;
    this.remote = undefined;
  }

  close(): void {
    this.remote?.part();
    this.status = EvtchnStatus.CLOSED;
    this.remote = undefined;
    this.handler = undefined;
    this.pending = false;
  }

  get open(): boolean {
    return this.status !== EvtchnStatus.CLOSED;
  }

  /**
   * Delay (ms) of a turn's end: 1, 2, 4 and so on, from the second spurious turn in a row on. A turn
   * with work has no delay, however many turns there are.
   */
  delay(spurious: boolean): number {
    if (!spurious) {
      this.#spurious = 0;
      return 0;
    }
    if (this.#spurious < MAX_SPURIOUS) this.#spurious++;
    const over = this.#spurious - SPURIOUS_FREE;
    return over <= 0 ? 0 : Math.min(2 ** (over - 1), MAX_DELAY);
  }
}
