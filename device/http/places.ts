/**
 * Places for connections without a NIC. The number of places for one address is bounded. A newcomer
 * always gets a place if the oldest occupant can be sent away.
 */

/** A connection that holds a place. */
export interface Occupant {
  /** Key of the address, as addressKey returns it. */
  readonly address: string;
  /** Ends the connection. A newer connection already has its place. */
  evict(): void;
}

export interface PlaceLimits {
  readonly total: number;
  readonly perAddress: number;
}

/** Places of one kind, oldest first. */
export class Places {
  readonly #limits: PlaceLimits;
  readonly #all = new Set<Occupant>();
  readonly #byAddress = new Map<string, Set<Occupant>>();

  constructor(limits: PlaceLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#all.size;
  }

  /**
   * Gives a place. At the limit of the address the oldest occupant of that address is sent away, at
   * the total limit the oldest of all.
   */
  add(occupant: Occupant): void {
    const same = this.#byAddress.get(occupant.address);
    if (same !== undefined && same.size >= this.#limits.perAddress) this.#evict(same);
    else if (this.#all.size >= this.#limits.total) this.#evict(this.#all);
    this.#put(occupant);
  }

  /** Gives a free place. Returns false if there is none. Sends no occupant away. */
  tryAdd(occupant: Occupant): boolean {
    const same = this.#byAddress.get(occupant.address)?.size ?? 0;
    if (same >= this.#limits.perAddress || this.#all.size >= this.#limits.total) return false;
    this.#put(occupant);
    return true;
  }

  /** Frees the place of an occupant. Does nothing for an occupant without a place. */
  delete(occupant: Occupant): void {
    if (!this.#all.delete(occupant)) return;
    const same = this.#byAddress.get(occupant.address)!;
    same.delete(occupant);
    if (same.size === 0) this.#byAddress.delete(occupant.address);
  }

  /** Sends the oldest occupant away. Returns false if there is none. */
  shed(): boolean {
    return this.#evict(this.#all);
  }

  #put(occupant: Occupant): void {
    this.#all.add(occupant);
    const same = this.#byAddress.get(occupant.address);
    if (same === undefined) this.#byAddress.set(occupant.address, new Set([occupant]));
    else same.add(occupant);
  }

  /** Sends the oldest of `occupants` away. Returns false if there is none. */
  #evict(occupants: ReadonlySet<Occupant>): boolean {
    for (const occupant of occupants) {
      this.delete(occupant);
      occupant.evict();
      return true;
    }
    return false;
  }
}

/**
 * Returns the key of an address. Addresses with the same key count as one. The key is an IPv4
 * address, also when mapped into IPv6, or an IPv6 /64, which one host commonly has (RFC 6177).
 */
export function addressKey(address: string): string {
  const plain = address.replace(/%.*$/, "").toLowerCase();
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(plain);
  if (mapped !== null) return mapped[1]!;
  if (!plain.includes(":")) return plain;
  // The first groups stand before "::". The groups that "::" leaves out are zero.
  const [head = "", tail] = plain.split("::");
  const groups = head === "" ? [] : head.split(":");
  const behind = tail === undefined || tail === "" ? 0 : tail.split(":").length;
  while (groups.length + behind < 8) groups.push("0");
  if (tail !== undefined && tail !== "") groups.push(...tail.split(":"));
  const prefix = groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${prefix.join(":")}::/64`;
}
