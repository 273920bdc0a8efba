/**
 * The names of a segment: those of its NICs, of reservations, of the services and of the gateway.
 *
 *   name of a NIC ──► its MAC ──┬─► its lease, or else its reservation ........ IPv4
 *                               └─► the addresses of the prefix that it used .. IPv6
 *
 * Names come from the owner of the device alone. Names that clients claim (option 12 of DHCP) are
 * not used, because every client may claim every name.
 */
import { sameBytes } from "./addresses.ts";
import type { Leases } from "./leases.ts";
import type { Neighbours } from "./neighbour.ts";
import type { ServicePlan } from "./options.ts";
import type { Neighbourhood } from "./request.ts";

/** Names of the host itself and of its gateway. */
const SERVICES = "services";
const GATEWAY = "gateway";

/** Addresses of one name. */
export interface NameAddresses {
  readonly ipv4: readonly number[];
  readonly ipv6: readonly Uint8Array[];
}

export interface NamesOptions {
  readonly plan: ServicePlan;
  readonly segment: Neighbourhood;
  readonly leases: Leases | undefined;
  readonly neighbours: Neighbours;
}

export class Names {
  readonly #o: NamesOptions;

  constructor(options: NamesOptions) {
    this.#o = options;
  }

  /** Returns the addresses of a name without its domain, in any case; undefined if it is none. */
  addressesOf(name: string): NameAddresses | undefined {
    const { plan, segment } = this.#o;
    const wanted = name.toLowerCase();
    if (wanted === SERVICES) {
      return { ipv4: listOf(plan.ipv4?.address), ipv6: listOf(plan.ipv6?.address) };
    }
    if (wanted === GATEWAY && plan.gateway !== undefined) {
      return { ipv4: [plan.gateway.address], ipv6: [] };
    }
    const ipv4 = new Set<number>();
    const ipv6: Uint8Array[] = [];
    let isKnown = false;
    for (const nic of segment.nics()) {
      if (nic.name.toLowerCase() !== wanted) continue;
      isKnown = true;
      const lease = this.#o.leases?.of(nic.mac);
      if (lease?.state === "bound") ipv4.add(lease.address);
      ipv6.push(...this.#o.neighbours.of(nic.mac));
    }
    if (ipv4.size === 0) {
      for (const [reserved, address] of plan.dhcp?.reserved ?? []) {
        if (reserved.toLowerCase() !== wanted) continue;
        isKnown = true;
        ipv4.add(address);
      }
    }
    return isKnown ? { ipv4: [...ipv4], ipv6 } : undefined;
  }

  nameOfIpv4(address: number): string | undefined {
    const { plan, segment, leases } = this.#o;
    if (address === plan.ipv4?.address) return SERVICES;
    if (address === plan.gateway?.address) return GATEWAY;
    const lease = leases?.at(address);
    const name = lease?.state === "bound" ? segment.nameOf(lease.mac) : undefined;
    if (name !== undefined) return name;
    for (const [reserved, its] of plan.dhcp?.reserved ?? []) if (its === address) return reserved;
    return undefined;
  }

  nameOfIpv6(address: Uint8Array): string | undefined {
    const { plan, segment, neighbours } = this.#o;
    if (plan.ipv6 !== undefined && sameBytes(address, plan.ipv6.address)) return SERVICES;
    const owner = neighbours.ownerOf(address);
    return owner === undefined ? undefined : segment.nameOf(owner);
  }
}

const listOf = <T>(value: T | undefined): T[] => (value === undefined ? [] : [value]);
