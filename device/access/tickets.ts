/**
 * Tickets for browsers, which can't send a token with an upgrade, and should not keep one. A ticket is
 * good for one request, for a minute, for one path, and for pages of one origin.
 *
 *   POST /ticket with a token ──► ticket ──► cookie of one page, or ?ticket= of one upgrade
 */
import { randomBytes } from "node:crypto";

/** Time (ms) in which a ticket must be used. */
export const TICKET_MS = 60_000;
const TICKET_BYTES = 24;
/** Tickets of one client that are not used yet. A further one takes the place of the oldest. */
const MAX_OPEN = 32;

export interface Ticket<T> {
  readonly holder: T;
  readonly path: string;
  /** The Origin of the page that asked for the ticket; undefined for a program. */
  readonly origin: string | undefined;
  /** Time of day in ms since the epoch. */
  readonly until: number;
}

export class Tickets<T> {
  readonly #open = new Map<string, Ticket<T>>();

  /** Makes a ticket. */
  make(ticket: Ticket<T>): string {
    const own = [...this.#open].filter(([, { holder }]) => holder === ticket.holder);
    if (own.length >= MAX_OPEN) this.#open.delete(own[0]![0]);
    const text = randomBytes(TICKET_BYTES).toString("base64url");
    this.#open.set(text, ticket);
    return text;
  }

  /**
   * Returns the holder of a ticket for this path and origin, and ends the ticket. Returns undefined
   * for any other, which ends, too: a ticket at the wrong place was stolen or lost.
   */
  use(text: string, path: string, origin: string | undefined, now: number): T | undefined {
    const ticket = this.#open.get(text);
    if (ticket === undefined) return undefined;
    this.#open.delete(text);
    if (now >= ticket.until || ticket.path !== path) return undefined;
    // A browser sends Origin with every upgrade, and not when it opens a page.
    if (origin !== undefined && origin !== ticket.origin) return undefined;
    return ticket.holder;
  }

  hasOf(holder: T): boolean {
    for (const ticket of this.#open.values()) if (ticket.holder === holder) return true;
    return false;
  }

  /** Ends the tickets that are too old. */
  tick(now: number): void {
    for (const [text, { until }] of this.#open) if (now >= until) this.#open.delete(text);
  }

  /** Ends the tickets of a client. */
  revoke(holder: T): void {
    for (const [text, ticket] of this.#open) if (ticket.holder === holder) this.#open.delete(text);
  }
}
