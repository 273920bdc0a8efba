/**
 * One port of a domain: its bits, its other end, and who is called.
 *
 *            send                    upcall or handler
 *   clear ─────────► pending ──────────────────────────► clear, busy ── eoi ──► clear
 *                     │  ▲ masked, or busy: it waits                └ delayed if spurious
 *                     └──┘
 *
 * A guest's port has no turns: its upcall takes the bit. A backend's keeps it until it has a handler.
 */
import { EvtchnStatus } from "../../shared/xen/event-channel.ts";

/** Spurious turns in a row that cost nothing: one may be a race. Linux's default. */
const SPURIOUS_FREE = 1;
/** Longest delay, in ms. */
const MAX_DELAY = 1000;
/** Counting ends where the delay does. */
const MAX_SPURIOUS = SPURIOUS_FREE + 1 + Math.ceil(Math.log2(MAX_DELAY));

export class EventPort {
  readonly domid: number;
  readonly number: number;
  status: EvtchnStatus = EvtchnStatus.UNBOUND;
  /** Who may bind an unbound port; the other end's domain when there is one. */
  remoteDomid: number;
  remote: EventPort | undefined;
  pending = false;
  masked = false;
  handler: (() => void) | undefined;
  /** From the start of a handler's turn until its end of interrupt has taken effect. */
  busy = false;
  /** The handler is on the stack: what makes its port pending meanwhile runs after it. */
  running = false;
  /** When a delayed end of interrupt takes effect. */
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

  /** Its other end closed; the same domain may bind it again. */
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
   * How long the end of a turn has to wait, in ms: 1, 2, 4 ... for the second and further spurious
   * turns in a row. An honest turn waits for nothing, however many there are.
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
