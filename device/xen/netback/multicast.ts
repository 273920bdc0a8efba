/**
 * The groups that a frontend wants to hear, as its extra info adds and removes them.
 *
 * Source: xen: xen/include/public/io/netif.h (XEN_NETIF_EXTRA_TYPE_MCAST_*); linux:
 * drivers/net/xen-netback/netback.c, xenvif_mcast_add.
 */

/** XEN_NETBK_MCAST_MAX: a frontend that needs more has to ask for everything. */
export const MAX_GROUPS = 64;

/** Addresses in two integers, as the switch has them: high 16 bits, low 32 signed. */
export class MulticastList {
  readonly #high = new Int32Array(MAX_GROUPS);
  readonly #low = new Int32Array(MAX_GROUPS);
  length = 0;

  has(high: number, low: number): boolean {
    return this.#find(high, low) >= 0;
  }

  /** False when the list is full. An address that is there already is not there twice. */
  add(high: number, low: number): boolean {
    if (this.#find(high, low) >= 0) return true;
    if (this.length === MAX_GROUPS) return false;
    this.#high[this.length] = high;
    this.#low[this.length] = low;
    this.length++;
    return true;
  }

  /** Removes an address; an unknown one is nothing to remove. */
  remove(high: number, low: number): void {
    const i = this.#find(high, low);
    if (i < 0) return;
    const last = --this.length;
    this.#high[i] = this.#high[last]!;
    this.#low[i] = this.#low[last]!;
  }

  clear(): void {
    this.length = 0;
  }

  #find(high: number, low: number): number {
    for (let i = 0; i < this.length; i++) {
      if (this.#high[i] === high && this.#low[i] === low) return i;
    }
    return -1;
  }
}
