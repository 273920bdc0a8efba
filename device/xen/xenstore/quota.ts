/**
 * Quotas of a guest, and the account of what it uses. The privileged domain has no quota.
 *
 * An account is the sum over the guest's nodes, watches, open transactions, held requests and
 * pending events. Each change of these changes the account, and is compared with the quota before it
 * is made. So a change that was refused or undone leaves nothing in the account.
 */

import { XenstoreError } from "../../../shared/xen/xenstore.ts";

export interface Quotas {
  readonly nodes: number;
  readonly watches: number;
  readonly transactions: number;
  /** Nodes read or changed in one transaction. */
  readonly transactionNodes: number;
  /** Requests that wait to be served. */
  readonly outstanding: number;
  readonly permissions: number;
  readonly nodeBytes: number;
  /** Watch events that wait while their watcher does not read. */
  readonly events: number;
  /** Over the soft quota a domain is reported; over the hard quota its requests are refused. */
  readonly memorySoftBytes: number;
  readonly memoryHardBytes: number;
}

/** Source: xen: tools/xenstored/core.c, the quota variables; the events of XSA-349. */
export const DEFAULT_QUOTAS: Quotas = {
  nodes: 1000,
  watches: 128,
  transactions: 10,
  transactionNodes: 1024,
  outstanding: 20,
  permissions: 5,
  nodeBytes: 2048,
  events: 1000,
  memorySoftBytes: 2 * 1024 * 1024,
  memoryHardBytes: 2.5 * 1024 * 1024,
};

/** Nodes and bytes of the tree that a domain owns, or the difference that a change makes. */
export interface Owned {
  nodes: number;
  bytes: number;
}

export class Account implements Owned {
  nodes = 0;
  /** Bytes of the nodes in the tree. */
  bytes = 0;
  /** Bytes of watches, transactions, held requests and pending events. */
  otherBytes = 0;

  get memory(): number {
    return this.bytes + this.otherBytes;
  }

  /** Throws ENOSPC or ENOMEM when a change of the tree is more than the quota allows. */
  admit(change: Owned, quotas: Quotas): void {
    if (change.nodes > 0 && this.nodes + change.nodes > quotas.nodes) {
      throw new XenstoreError("ENOSPC", `more than ${quotas.nodes} nodes`);
    }
    this.admitBytes(change.bytes, quotas);
  }

  admitBytes(more: number, quotas: Quotas): void {
    if (more > 0 && this.memory + more > quotas.memoryHardBytes) {
      throw new XenstoreError("ENOMEM", `more than ${quotas.memoryHardBytes} bytes`);
    }
  }
}
