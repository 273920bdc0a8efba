/**
 * The store itself: one tree, its domains' accounts, and the transactions on it.
 *
 * Every change of the tree is an Edit. After a check of the quotas the Edit becomes the tree as a
 * whole, or not at all. notices.ts holds the watches and their events.
 */
import { domainPath, XenstoreError } from "../../../shared/xen/xenstore.ts";
import { CONFLICT_WORK } from "./debt.ts";
import type { Domain, Transaction } from "./domain.ts";
import { Edit, type EditLimits } from "./edit.ts";
import { emptyTree, Finder, type Node, type NodeRecord, nearest, nodeBytes } from "./node.ts";
import type { Notices } from "./notices.ts";
import type { Author } from "./operations.ts";
import { ownerOf, type Permissions, PRIVILEGED } from "./permissions.ts";
import type { Owned, Quotas } from "./quota.ts";

/** Longest time that a transaction may stay open, in ms. After it the transaction is lost. */
export const TRANSACTION_MS = 20_000;
/**
 * An open transaction keeps alive all records that were replaced since it began. Above this many
 * bytes the oldest transaction is lost.
 */
export const REPLACED_BYTES_MAX = 4 * 1024 * 1024;
/** Bytes that a new transaction adds to its domain's memory. */
const TRANSACTION_BYTES = 128;
/** Number of lost transactions that the store remembers for each domain. */
const LOST_MAX = 20;
const TX_ID_MAX = 0xffff_ffff;

const UNLIMITED: EditLimits = { nodeBytes: Infinity, nodes: Infinity, admit: () => {} };

export class Store {
  readonly quotas: Quotas;
  readonly #domains: ReadonlyMap<number, Domain>;
  readonly #now: () => number;
  readonly #notices: Notices;
  readonly #open = new Map<Transaction, Domain>();
  readonly #oneRequest: EditLimits;
  #root: Node = emptyTree();
  /** For each guest, the nodes outside its home whose permissions name it, as the owner or otherwise. */
  readonly #naming = new Map<number, Set<string>>();
  /** Changes for which their domains have been charged, because a transaction failed by them. */
  readonly #blamed = new WeakSet<NodeRecord>();
  /** Number of nodes in the tree, without the root, for all owners. */
  #nodes = 0;
  #generation = 0;
  #replacedBytes = 0;

  constructor(
    quotas: Quotas,
    now: () => number,
    domains: ReadonlyMap<number, Domain>,
    notices: Notices,
  ) {
    this.quotas = quotas;
    this.#domains = domains;
    this.#now = now;
    this.#notices = notices;
    this.#oneRequest = { ...UNLIMITED, nodeBytes: quotas.nodeBytes };
  }

  get root(): Node {
    return this.#root;
  }

  get nodes(): number {
    return this.#nodes;
  }

  /** The nodes outside a guest's home whose permissions name it; a node comes before those below it. */
  naming(domid: number): string[] {
    return [...(this.#naming.get(domid) ?? [])].sort();
  }

  /** Runs `work` in the transaction `txId`. With 0 it is a transaction of its own. */
  run<T>(domain: Domain, txId: number, work: (edit: Edit, author: Author) => T): T {
    const author: Author = { domid: domain.domid, generation: ++this.#generation };
    if (txId === 0) {
      const edit = new Edit(this.#root, domain.domid === PRIVILEGED ? UNLIMITED : this.#oneRequest);
      try {
        const result = work(edit, author);
        this.#commit(edit, domain.domid);
        return result;
      } finally {
        domain.worked(edit.work);
      }
    }
    const transaction = this.#transaction(domain, txId);
    const { edit } = transaction;
    const before = edit.work;
    try {
      return work(edit, author);
    } finally {
      domain.worked(edit.work - before);
      this.#account(domain, transaction, TRANSACTION_BYTES + edit.bytes);
    }
  }

  /** Begins a transaction and returns its id. Throws ENOSPC, ENOMEM. */
  begin(domain: Domain): number {
    if (domain.transactions.size >= this.quotas.transactions) {
      throw new XenstoreError("ENOSPC", `more than ${this.quotas.transactions} transactions`);
    }
    domain.account.admitBytes(TRANSACTION_BYTES, this.quotas);
    const transaction: Transaction = {
      id: this.#freeId(domain),
      edit: new Edit(
        this.#root,
        this.#limits(domain, () => transaction),
        true,
      ),
      startedAt: this.#now(),
      replacedBytes: this.#replacedBytes,
      chargedBytes: 0,
    };
    domain.transactions.set(transaction.id, transaction);
    this.#open.set(transaction, domain);
    this.#account(domain, transaction, TRANSACTION_BYTES);
    return transaction.id;
  }

  /**
   * Ends a transaction. Throws ENOENT for an unknown id, EAGAIN for a conflict with another change,
   * ENOSPC or ENOMEM when the quotas refuse it. After an error the transaction has ended and the
   * tree is unchanged.
   */
  end(domain: Domain, txId: number, commit: boolean): void {
    const transaction = this.#transaction(domain, txId);
    const { edit } = transaction;
    this.#close(domain, transaction);
    const conflicts = commit ? edit.conflicts(this.#root) : [];
    // Each node that was read is compared, and each change is made again, so the work counts twice.
    if (commit) domain.worked(edit.work);
    if (conflicts.length > 0) {
      this.#blame(domain.domid, conflicts);
      throw new XenstoreError("EAGAIN", `${conflicts[0]} was changed meanwhile`);
    }
    if (!commit) return;

    // Nothing that was read has changed, so the changes apply to the current tree. Parents first.
    const merged = new Edit(this.#root, UNLIMITED);
    const changes = [...edit.changed].map(([path, record]) => ({ path, record }));
    merged.apply(changes.sort((a, b) => (a.path < b.path ? -1 : 1)));
    for (const { path, gone, exact } of edit.happened) merged.tell(path, gone, exact);
    this.#commit(merged, domain.domid);
  }

  /** Discards all transactions of a domain. */
  endAll(domain: Domain): void {
    for (const transaction of domain.transactions.values()) this.#close(domain, transaction);
    domain.lost.clear();
  }

  /** Ends transactions that have been open for too long. */
  expire(): void {
    if (this.#open.size === 0) return;
    const now = this.#now();
    for (const [transaction, domain] of this.#open) {
      if (now - transaction.startedAt < TRANSACTION_MS) break;
      this.#lose(domain, transaction);
    }
  }

  /** Ends the transactions of other domains that would give `domid` a node or a permission. */
  loseGrantsTo(domid: number): void {
    for (const [transaction, domain] of this.#open) {
      for (const record of transaction.edit.changed.values()) {
        if (!record?.permissions.some((permission) => permission.domid === domid)) continue;
        this.#lose(domain, transaction);
        break;
      }
    }
  }

  /** Time (ms) at which `expire` has work; Infinity when nothing is open. */
  get nextTick(): number {
    if (this.#open.size === 0) return Infinity;
    const oldest: Transaction | undefined = this.#open.keys().next().value;
    return oldest === undefined ? Infinity : oldest.startedAt + TRANSACTION_MS;
  }

  #limits(domain: Domain, transaction: () => Transaction): EditLimits {
    return {
      nodeBytes: this.quotas.nodeBytes,
      nodes: this.quotas.transactionNodes,
      admit: (bytes) => {
        const more = TRANSACTION_BYTES + bytes - transaction().chargedBytes;
        domain.account.admitBytes(more, this.quotas);
      },
    };
  }

  #commit(edit: Edit, by: number): void {
    const owned = new Map<number, Owned>();
    let replaced = 0;
    let more = 0;
    const old = new Finder(edit.base);
    for (const [path, record] of edit.changed) {
      const before = old.find(path)?.record;
      more += (record === undefined ? 0 : 1) - (before === undefined ? 0 : 1);
      count(owned, path, before, -1);
      count(owned, path, record, 1);
      if (before !== undefined) replaced += nodeBytes(path, before);
    }
    if (by !== PRIVILEGED) {
      for (const [domid, change] of owned) {
        this.#domains.get(domid)?.account.admit(change, this.quotas);
      }
    }
    for (const [domid, change] of owned) {
      const account = this.#domains.get(domid)?.account;
      if (account === undefined) continue;
      account.nodes += change.nodes;
      account.bytes += change.bytes;
    }
    for (const [path, record] of edit.changed) {
      this.#index(path, old.find(path)?.record.permissions, record?.permissions);
    }
    this.#root = edit.root;
    this.#nodes += more;
    this.#replacedBytes += replaced;
    this.#unpin(by);
    for (const event of edit.happened) this.#notices.happened(event);
  }

  #index(path: string, before: Permissions | undefined, after: Permissions | undefined): void {
    if (before === after) return;
    for (const { domid } of before ?? []) {
      const paths = this.#naming.get(domid);
      if (paths?.delete(path) && paths.size === 0) this.#naming.delete(domid);
    }
    for (const { domid } of after ?? []) {
      if (domid === PRIVILEGED || `${path}/`.startsWith(`${domainPath(domid)}/`)) continue;
      const paths = this.#naming.get(domid);
      if (paths !== undefined) paths.add(path);
      else this.#naming.set(domid, new Set([path]));
    }
  }

  /**
   * Ends the oldest transactions while they keep too many replaced bytes alive. The domain that
   * replaced the last of them pays for it, as for any transaction that fails by its change.
   */
  #unpin(by: number): void {
    const culprits = new Set<number>();
    for (const [transaction, domain] of this.#open) {
      if (this.#replacedBytes - transaction.replacedBytes <= REPLACED_BYTES_MAX) break;
      this.#lose(domain, transaction);
      if (domain.domid !== by) culprits.add(by);
    }
    this.#charge(culprits);
  }

  /** Charges the domains by whose changes of `paths` a transaction of `domid` failed. */
  #blame(domid: number, paths: readonly string[]): void {
    const culprits = new Set<number>();
    for (const path of paths) {
      const { record } = nearest(this.#root, path).node;
      if (record.by === domid || this.#blamed.has(record)) continue;
      this.#blamed.add(record);
      culprits.add(record.by);
    }
    this.#charge(culprits);
  }

  #charge(culprits: Iterable<number>): void {
    for (const domid of culprits) this.#domains.get(domid)?.charge(CONFLICT_WORK);
  }

  #transaction(domain: Domain, txId: number): Transaction {
    const transaction = domain.transactions.get(txId);
    if (transaction !== undefined) return transaction;
    if (domain.lost.has(txId))
      throw new XenstoreError("EAGAIN", `transaction ${txId} took too long`);
    throw new XenstoreError("ENOENT", `no transaction ${txId}`);
  }

  #lose(domain: Domain, transaction: Transaction): void {
    this.#close(domain, transaction);
    domain.lost.add(transaction.id);
    if (domain.lost.size > LOST_MAX) domain.lost.delete(domain.lost.values().next().value!);
  }

  #close(domain: Domain, transaction: Transaction): void {
    domain.transactions.delete(transaction.id);
    this.#open.delete(transaction);
    this.#account(domain, transaction, 0);
  }

  #account(domain: Domain, transaction: Transaction, bytes: number): void {
    domain.account.otherBytes += bytes - transaction.chargedBytes;
    transaction.chargedBytes = bytes;
  }

  #freeId(domain: Domain): number {
    do {
      domain.nextTransaction = domain.nextTransaction >= TX_ID_MAX ? 1 : domain.nextTransaction + 1;
    } while (
      domain.transactions.has(domain.nextTransaction) ||
      domain.lost.has(domain.nextTransaction)
    );
    return domain.nextTransaction;
  }
}

function count(
  owned: Map<number, Owned>,
  path: string,
  record: NodeRecord | undefined,
  sign: 1 | -1,
): void {
  if (record === undefined) return;
  const domid = ownerOf(record.permissions);
  if (domid === PRIVILEGED) return;
  let change = owned.get(domid);
  if (change === undefined) {
    change = { nodes: 0, bytes: 0 };
    owned.set(domid, change);
  }
  change.nodes += sign;
  change.bytes += sign * nodeBytes(path, record);
}
