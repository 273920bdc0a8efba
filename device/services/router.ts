/**
 * Router advertisements, with which hosts give themselves addresses of the segment's prefix.
 *
 *   0      1      2          4     5       6          8           12
 *   | type | code | checksum | hop | flags | lifetime | reachable | retransmit | options
 *                                             16 bytes until here
 *   source address  | 1 | 1 | MAC                                                   8 bytes
 *   prefix          | 3 | 4 | bits | L A | valid | preferred | reserved | prefix    32 bytes
 *   name servers    | 25 | n | reserved | lifetime | addresses                      8 + 16 each
 *   search domain   | 31 | n | reserved | lifetime | labels, padded with zeros
 *
 * The router lifetime is 0: this host forwards nothing, so it is no default router (RFC 4861, 4.2).
 *
 * Source: RFC 4861, 4.2, 4.6 and 6.2; RFC 8106, 5.1 and 5.2; RFC 4862, 5.5.3.
 */
import { ALL_NODES, groupMac, isUnspecified6, type Network6 } from "./addresses.ts";
import { HOP_LIMIT, Icmp6, isDiscovery } from "./neighbour.ts";
import type { RaPlan } from "./options.ts";
import { icmp6Frame, write32 } from "./packet.ts";
import type { HostPlace, Request } from "./request.ts";

const HEADER_BYTES = 16;
const UNIT_BYTES = 8;
const SOLICITATION_OPTIONS = 8;
const HOPS = 64;
const ON_LINK_AND_AUTONOMOUS = 0xc0;
const Option = { SOURCE: 1, PREFIX: 3, NAME_SERVERS: 25, SEARCH: 31 } as const;

export interface Advertisement {
  readonly plan: RaPlan;
  readonly prefix: Network6;
  readonly domain: string | undefined;
}

/** Returns an advertisement for all hosts, or for the one host at `to` with the address `host`. */
export function advertisement(
  { plan, prefix, domain }: Advertisement,
  place: HostPlace,
  to?: { readonly mac: Uint8Array; readonly address: Uint8Array },
): Uint8Array {
  const { lifetimeSeconds, nameServers } = plan;
  const options = [
    sourceOption(place.mac),
    prefixOption(prefix, lifetimeSeconds),
    ...(nameServers.length === 0 ? [] : [serverOption(nameServers, lifetimeSeconds)]),
    ...(domain === undefined ? [] : [searchOption(domain, lifetimeSeconds)]),
  ];
  const header = new Uint8Array(HEADER_BYTES);
  header[0] = Icmp6.ROUTER_ADVERTISEMENT;
  header[4] = HOPS;
  const message = Buffer.concat([header, ...options]);
  const route = {
    to: to?.mac ?? groupMac(ALL_NODES),
    from: place.mac,
    source: place.linkLocal,
    destination: to?.address ?? ALL_NODES,
  };
  return icmp6Frame(route, message, HOP_LIMIT);
}

function option(type: number, bytes: number): Uint8Array {
  const units = Math.ceil(bytes / UNIT_BYTES);
  const made = new Uint8Array(units * UNIT_BYTES);
  made[0] = type;
  made[1] = units;
  return made;
}

function sourceOption(mac: Uint8Array): Uint8Array {
  const made = option(Option.SOURCE, 8);
  made.set(mac, 2);
  return made;
}

function prefixOption({ address, bits }: Network6, lifetime: number): Uint8Array {
  const made = option(Option.PREFIX, 32);
  made[2] = bits;
  made[3] = ON_LINK_AND_AUTONOMOUS;
  write32(made, 4, lifetime);
  // An address that is not preferred any more starts no new connections.
  write32(made, 8, Math.ceil(lifetime / 2));
  made.set(address.subarray(0, bits / 8), 16);
  return made;
}

function serverOption(servers: readonly Uint8Array[], lifetime: number): Uint8Array {
  const made = option(Option.NAME_SERVERS, 8 + 16 * servers.length);
  write32(made, 4, lifetime);
  for (const [i, server] of servers.entries()) made.set(server, 8 + 16 * i);
  return made;
}

function searchOption(domain: string, lifetime: number): Uint8Array {
  const labels = Buffer.concat([
    ...domain.split(".").flatMap((label) => [Buffer.of(label.length), Buffer.from(label)]),
    Buffer.of(0),
  ]);
  const made = option(Option.SEARCH, 8 + labels.length);
  write32(made, 4, lifetime);
  made.set(labels, 8);
  return made;
}

export type Solicitor = "all" | { readonly mac: Uint8Array; readonly address: Uint8Array };

/**
 * Returns whom to answer for a solicitation; undefined for a malformed one. A host without an
 * address needs the advertisement for all.
 */
export function solicitorOf(request: Request, source: Uint8Array): Solicitor | undefined {
  if (!isDiscovery(request, SOLICITATION_OPTIONS)) return undefined;
  if (isUnspecified6(source)) return "all";
  return { mac: request.sender, address: source };
}
