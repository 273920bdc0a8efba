/** What the store keeps of one domain beside its nodes. All of it goes with the domain. */
import type { WireError } from "../../../shared/wire/transactions.ts";
import { Debt } from "./debt.ts";
import type { Edit } from "./edit.ts";
import type { Permissions } from "./permissions.ts";
import { Account } from "./quota.ts";
import type { Watch } from "./watches.ts";

/** How the store reaches a guest. */
export interface Outlet {
  /** A reply or an event: one whole message, its bytes the receiver's. */
  readonly deliver: (message: Uint8Array) => void;
  /**
   * Whether more can be sent now. While not, requests and events wait here, up to their quotas.
   * Always, when not given.
   */
  readonly room?: (() => boolean) | undefined;
  /** The guest has not read for too long; it gets nothing more and should be released. */
  readonly cut?: ((reason: WireError) => void) | undefined;
}

export interface Transaction {
  readonly id: number;
  readonly edit: Edit;
  readonly startedAt: number;
  /** Bytes that the store had replaced when this transaction began. */
  readonly replacedBytes: number;
  /** Transactions that had failed when this one began. */
  readonly failuresBefore: number;
  /** What it adds to its domain's memory. */
  chargedBytes: number;
}

export interface PendingEvent {
  readonly watch: Watch;
  readonly path: string;
  /** Of a removed node: who might read it. As it happened last. */
  gone: Permissions | undefined;
  /** The event that tells a new watch that it is set: never withheld. */
  readonly first: boolean;
}

export class Domain {
  readonly domid: number;
  readonly outlet: Outlet;
  readonly account = new Account();
  readonly debt = new Debt();
  readonly now: () => number;
  readonly watches = new Set<Watch>();
  readonly transactions = new Map<number, Transaction>();
  /** Ids of transactions that the store ended: their next request says so. */
  readonly lost = new Set<number>();
  /** Oldest first; each also stands with its watch, by path. */
  readonly pending = new Set<PendingEvent>();
  /** Requests that wait, oldest first. */
  readonly held: Uint8Array[] = [];
  nextTransaction = 1;
  /** Set once; from then on the domain gets nothing. */
  cut: WireError | undefined;

  /** `now`: milliseconds of the store's clock. */
  constructor(domid: number, outlet: Outlet, now: () => number) {
    this.domid = domid;
    this.now = now;
    this.outlet = outlet;
  }

  /** Whether more may go out now: its link takes it, and it does not owe too much. */
  hasRoom(): boolean {
    return (this.outlet.room?.() ?? true) && this.debt.freeAt <= this.now();
  }
}
