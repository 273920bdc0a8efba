/**
 * The multicast groups that a frontend receives. Its extra info adds and removes them.
 *
 * Source: xen: xen/include/public/io/netif.h (XEN_NETIF_EXTRA_TYPE_MCAST_*); linux:
 * drivers/net/xen-netback/netback.c, xenvif_mcast_add.
 */

/** XEN_NETBK_MCAST_MAX. A frontend that needs more groups must ask for all multicast frames. */
export const MAX_GROUPS = 64;

/** Addresses as two integers, as in the switch: the high 16 bits, and the low 32 bits signed. */
export class MulticastList {
  readonly #high = new Int32Array(MAX_GROUPS);
  readonly #low = new Int32Array(MAX_GROUPS);
  length = 0;

  has(high: number, low: number): boolean {
    return this.#find(high, low) >= 0;
  }

  /** Adds an address once. Returns false when the list is full. */
  add(high: number, low: number): boolean {
    if (this.#find(high, low) >= 0) return true;
    if (this.length === MAX_GROUPS) return false;
    this.#high[this.length] = high;
    this.#low[this.length] = low;
    this.length++;
    return true;
  }

  /** Removes an address. An unknown address is ignored. */
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
