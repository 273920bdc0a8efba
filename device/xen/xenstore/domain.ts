/** The state that the store holds for one domain, besides its nodes. It ends with the domain. */
import type { WireError } from "../../../shared/wire/protocol.ts";
import { Debt } from "./debt.ts";
import type { Edit } from "./edit.ts";
import { PRIVILEGED } from "./permissions.ts";
import { Account } from "./quota.ts";
import type { PendingEvent, Watch } from "./watches.ts";

/** How the store reaches a guest. */
export interface Outlet {
  /** Sends a reply or an event: one whole message. The receiver owns its bytes. */
  deliver(message: Uint8Array): void;
  /**
   * Whether the link accepts more now. While it does not, requests and events wait in the store, up
   * to their quotas. Without this function the link always accepts.
   */
  room?(): boolean;
  /** Most work (units of debt.ts) between two flushes. Default: no limit but the debt. */
  readonly turnWork?: number;
  /** Called when the guest has not read for too long. It receives nothing more: release it. */
  cut?(reason: WireError): void;
}

export interface Transaction {
  readonly id: number;
  readonly edit: Edit;
  readonly startedAt: number;
  /** Total of bytes that the store had replaced when this transaction began. */
  readonly replacedBytes: number;
  /** Bytes that this transaction adds to its domain's memory. */
  chargedBytes: number;
}

export class Domain {
  readonly domid: number;
  readonly outlet: Outlet;
  readonly account = new Account();
  readonly debt = new Debt();
  readonly now: () => number;
  readonly watches = new Set<Watch>();
  readonly transactions = new Map<number, Transaction>();
  /** Ids of transactions that the store ended. The next request of such a transaction gets EAGAIN. */
  readonly lost = new Set<number>();
  /** Pending events, oldest first. Each is also listed at its watch, by path. */
  readonly pending = new Set<PendingEvent>();
  /** Requests that wait, oldest first. */
  readonly held: Uint8Array[] = [];
  nextTransaction = 1;
  /** Set once, when the domain is cut. From then on it receives nothing. */
  cut: WireError | undefined;

  /** `now`: milliseconds of the store's clock. */
  constructor(domid: number, outlet: Outlet, now: () => number) {
    this.domid = domid;
    this.now = now;
    this.outlet = outlet;
  }

  /**
   * Adds the work of one request to the debt. The privileged domain owes nothing. It makes and
   * removes what guests leave behind, and while its watches waited no backend would answer any guest.
   */
  worked(work: number): void {
    if (this.domid !== PRIVILEGED) this.debt.add(work, this.now());
  }

  /** Adds work of which nothing is free. */
  charge(work: number): void {
    if (this.domid !== PRIVILEGED) this.debt.charge(work, this.now());
  }

  /**
   * Whether a message may go out now: the link accepts it, the debt is not too high, and the domain
   * has not had its share of this turn.
   */
  hasRoom(): boolean {
    return (this.outlet.room?.() ?? true) && !this.turnOver && this.debt.freeAt <= this.now();
  }

  get turnOver(): boolean {
    return this.debt.turn >= (this.outlet.turnWork ?? Number.POSITIVE_INFINITY);
  }
}
