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
  /** Number of occupants that were sent away. */
  evicted = 0;

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
    if (same !== undefined && same.size >= this.#limits.perAddress) this.#evict(first(same));
    else if (this.#all.size >= this.#limits.total) this.#evict(first(this.#all));
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
    if (this.#all.size === 0) return false;
    this.#evict(first(this.#all));
    return true;
  }

  #put(occupant: Occupant): void {
    this.#all.add(occupant);
    const same = this.#byAddress.get(occupant.address);
    if (same === undefined) this.#byAddress.set(occupant.address, new Set([occupant]));
    else same.add(occupant);
  }

  #evict(occupant: Occupant): void {
    this.delete(occupant);
    this.evicted++;
    occupant.evict();
  }
}

function first(occupants: ReadonlySet<Occupant>): Occupant {
  for (const occupant of occupants) return occupant;
  throw new Error("the oldest of no occupants was asked for");
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
