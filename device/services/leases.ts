/**
 * The leases of a segment's DHCP server: at most one for each address of the pool and each
 * reservation, so the table is bounded.
 *
 *   free ──offer──► offered ──bind──► bound ──release, time──► free
 *                      └──── time ────► free       any ──decline──► declined ── time ──► free
 *
 * A client is the MAC of its interface. The switch drops frames with the address of another port's
 * NIC, so no NIC gets or releases the lease of another one. (A client identifier proves nothing. RFC
 * 2131, 2 would prefer it, and so a host that boots twice with different ones would need two leases.)
 */
import type { DhcpPlan } from "./options.ts";
import { type Neighbourhood, Unanswered } from "./request.ts";

/** Time (ms) for which an offered address waits for its client. */
const OFFER_MS = 30_000;
/** Time (ms) after which an address that a client found in use may be offered again. */
const DECLINE_MS = 600_000;
const SWEEP_MS = 1000;
/** A NIC with many addresses gets this part of the pool, so that others find addresses, too. */
const SHARE_OF_NIC = 4;

export type LeaseState = "offered" | "bound" | "declined";

export interface Lease {
  readonly address: number;
  /** The client, as a number; see `macKey`. */
  readonly mac: number;
  /** The NIC behind whose port the client is; undefined behind an uplink. */
  readonly port: string | undefined;
  state: LeaseState;
  /** Time (ms) at which the lease ends. */
  until: number;
}

export class Leases {
  readonly #plan: DhcpPlan;
  readonly #segment: Neighbourhood;
  readonly #now: () => number;
  /** Number of addresses for clients without a reservation, and of those for one NIC. */
  readonly #capacity: number;
  readonly #share: number;
  readonly #byAddress = new Map<number, Lease>();
  /** Number of leases in the pool, and behind each port; those that have ended until the sweep. */
  #inPool = 0;
  readonly #byPort = new Map<string, number>();
  #sweptAt = Number.NEGATIVE_INFINITY;
  readonly #byMac = new Map<number, Lease>();

  constructor(plan: DhcpPlan, segment: Neighbourhood, now: () => number) {
    this.#plan = plan;
    this.#segment = segment;
    this.#now = now;
    const { from, to, excluded } = plan;
    const size = to - from + 1;
    const inside = [...excluded].filter((address) => address >= from && address <= to);
    this.#capacity = size - inside.length;
    this.#share = Math.ceil(size / SHARE_OF_NIC);
  }

  /** Returns the lease of a client; undefined without one. */
  of(mac: number): Lease | undefined {
    return this.#living(this.#byMac.get(mac));
  }

  /** Returns the lease of an address; undefined without one. */
  at(address: number): Lease | undefined {
    return this.#living(this.#byAddress.get(address));
  }

  /** Yields all leases that have not ended, and forgets the others. */
  *all(): Generator<Lease> {
    for (const lease of this.#byAddress.values()) {
      if (this.#living(lease) !== undefined) yield lease;
    }
  }

  /** Returns the lease that an offer names, or the reason why there is none. */
  offer(mac: number, wanted: number): Lease | Unanswered {
    const address = this.#choose(mac, wanted);
    if (typeof address !== "number") return address;
    const held = this.of(mac);
    // A client that asks again keeps the lease that it has.
    if (held?.address === address) return held;
    return this.#put(mac, address, "offered", OFFER_MS);
  }

  /** Returns the lease of `address` for a client, or undefined if the client may not have it. */
  bind(mac: number, address: number): Lease | undefined {
    if (!this.#mayHave(mac, address)) return undefined;
    const isNew = this.of(mac)?.address !== address;
    if (isNew && address !== this.#reservationOf(mac)) {
      this.#sweep();
      if (this.#hasShare(mac)) return undefined;
    }
    return this.#put(mac, address, "bound", this.#plan.leaseSeconds * 1000);
  }

  /** Ends the lease of a client, if that is its address. Returns whether it was. */
  release(mac: number, address: number): boolean {
    const lease = this.of(mac);
    if (lease?.address !== address) return false;
    this.#remove(lease);
    return true;
  }

  /** Sets an address aside that its client found in use. Returns whether the client had it. */
  decline(mac: number, address: number): boolean {
    const lease = this.of(mac);
    if (lease?.address !== address) return false;
    lease.state = "declined";
    lease.until = this.#now() + DECLINE_MS;
    // The client may ask for another address.
    this.#byMac.delete(mac);
    return true;
  }

  #choose(mac: number, wanted: number): number | Unanswered {
    const reserved = this.#reservationOf(mac);
    if (reserved !== undefined) {
      return this.#mayHave(mac, reserved) ? reserved : Unanswered.POOL_EMPTY;
    }
    const held = this.of(mac)?.address;
    if (held !== undefined && this.#mayHave(mac, held)) return held;
    this.#sweep();
    if (this.#hasShare(mac)) return Unanswered.PORT_SHARE;
    if (this.#inPool >= this.#capacity) return Unanswered.POOL_EMPTY;
    if (this.#isFree(wanted)) return wanted;
    const { from, to } = this.#plan;
    const size = to - from + 1;
    // A client gets the same address after every restart of the device, if it is free.
    const first = mixed(mac) % size;
    for (let i = 0; i < size; i++) {
      const address = from + ((first + i) % size);
      // The sweep was a moment ago, so what is in the table has not ended.
      if (!this.#byAddress.has(address) && this.#isInPool(address)) return address;
    }
    return Unanswered.POOL_EMPTY;
  }

  /** Returns whether an address is the client's, or free for it. */
  #mayHave(mac: number, address: number): boolean {
    const reserved = this.#reservationOf(mac);
    if (reserved !== undefined) {
      if (address !== reserved) return false;
      const lease = this.at(address);
      // The NIC may have a new MAC since. Nobody else has its reservation.
      return lease === undefined || lease.state !== "declined";
    }
    const lease = this.at(address);
    if (lease?.mac === mac && lease.state !== "declined") return this.#isInPool(address);
    return this.#isFree(address);
  }

  #isInPool(address: number): boolean {
    const { from, to, excluded } = this.#plan;
    return address >= from && address <= to && !excluded.has(address);
  }

  #isFree(address: number): boolean {
    return this.#isInPool(address) && this.at(address) === undefined;
  }

  #reservationOf(mac: number): number | undefined {
    if (this.#plan.reserved.size === 0) return undefined;
    const name = this.#segment.nameOf(mac);
    return name === undefined ? undefined : this.#plan.reserved.get(name);
  }

  /** True if the NIC behind whose port the client is has its share of the pool. */
  #hasShare(mac: number): boolean {
    const port = this.#portOf(mac);
    return port !== undefined && (this.#byPort.get(port) ?? 0) >= this.#share;
  }

  /** Forgets the leases that have ended, at most once a second. */
  #sweep(): void {
    const now = this.#now();
    if (now - this.#sweptAt < SWEEP_MS) return;
    this.#sweptAt = now;
    for (const lease of this.#byAddress.values()) if (lease.until <= now) this.#remove(lease);
  }

  #portOf(mac: number): string | undefined {
    const port = this.#segment.portOf(mac);
    return port === undefined || port.isUplink ? undefined : port.name;
  }

  #put(mac: number, address: number, state: LeaseState, ms: number): Lease {
    for (const other of [this.#byMac.get(mac), this.#byAddress.get(address)]) {
      if (other !== undefined) this.#remove(other);
    }
    const until = this.#now() + ms;
    const lease: Lease = { address, mac, port: this.#portOf(mac), state, until };
    this.#byAddress.set(address, lease);
    this.#byMac.set(mac, lease);
    this.#add(lease, 1);
    return lease;
  }

  #add({ address, port }: Lease, count: 1 | -1): void {
    if (this.#isInPool(address)) this.#inPool += count;
    if (port === undefined) return;
    const total = (this.#byPort.get(port) ?? 0) + count;
    if (total > 0) this.#byPort.set(port, total);
    else this.#byPort.delete(port);
  }

  #remove(lease: Lease): void {
    if (!this.#byAddress.delete(lease.address)) return;
    this.#add(lease, -1);
    if (this.#byMac.get(lease.mac) === lease) this.#byMac.delete(lease.mac);
  }

  #living(lease: Lease | undefined): Lease | undefined {
    if (lease === undefined || lease.until > this.#now()) return lease;
    this.#remove(lease);
    return undefined;
  }
}

/** Spreads addresses that follow each other: Fibonacci hashing (Knuth, 6.4) of both halves. */
function mixed(mac: number): number {
  const low = mac % 0x1_0000_0000;
  const high = Math.floor(mac / 0x1_0000_0000);
  return Math.imul(low ^ (high << 16), 0x9e37_79b1) >>> 8;
}
