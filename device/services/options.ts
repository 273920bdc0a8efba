/**
 * Options of the services of a segment, and the plan that they amount to. The keys are those of the
 * configuration file:
 *
 *   [segment.services]
 *   address = "10.0.0.1/24"
 *   address6 = "fd00::1/64"
 *   icmp = true
 *   dhcp = { from = "10.0.0.100", to = "10.0.0.199", reserve = { web = "10.0.0.5" } }
 *   dns = { domain = "lab" }
 *   ra = true
 *   gateway = { tap = "rwgw0" }
 *
 * Every service is off unless its key is there. `true` switches it on with its defaults.
 */
import * as z from "zod";
import { isTapName } from "../../shared/tap/errors.ts";
import { isReservedName } from "../../shared/wire/hello.ts";
import {
  ipv4Text,
  isHostOf,
  type Network4,
  type Network6,
  networkText,
  parseIpv4,
  parseIpv6,
  parseNetwork4,
  parseNetwork6,
} from "./addresses.ts";

/** Name and kind of the port of a service host. */
export const SERVICES_PORT = "services";
/** Most addresses in a pool: four for each NIC that a device may have. */
export const MAX_POOL = 4096;
const MAX_RESERVATIONS = 1024;
const MIN_LEASE_SECONDS = 10;
const DEFAULT_LEASE_SECONDS = 3600;
const DEFAULT_DOMAIN = "lab";
/** RFC 4861, 6.2.1: bounds of MaxRtrAdvInterval. */
const MIN_INTERVAL_SECONDS = 4;
const MAX_INTERVAL_SECONDS = 1800;
const DEFAULT_INTERVAL_SECONDS = 200;
const DEFAULT_LIFETIME_SECONDS = 86_400;
const MAX_SECONDS = 0x7fff_ffff;
/** SLAAC on Ethernet needs a prefix of this length: RFC 4862, 5.5.3 and RFC 2464, 4. */
const SLAAC_BITS = 64;
const MAX_DOMAIN_CHARS = 128;
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

const ipv4 = z.ipv4({ error: "takes an IPv4 address" });
const ipv6 = z.ipv6({ error: "takes an IPv6 address" });
const cidr4 = z.cidrv4({ error: "takes an IPv4 address with its prefix length, as 10.0.0.1/24" });
const cidr6 = z.cidrv6({ error: "takes an IPv6 address with its prefix length, as fd00::1/64" });
const seconds = (least: number, most: number) => z.number().int().min(least).max(most);

const domain = z.string().refine((text) => isDomain(text), {
  error: `takes a domain of lower-case letters, digits and hyphens, at most ${MAX_DOMAIN_CHARS}`,
});

const isDomain = (text: string): boolean =>
  text.length <= MAX_DOMAIN_CHARS && text.split(".").every((label) => LABEL.test(label));

const dhcp = z.strictObject({
  from: ipv4
    .optional()
    .meta({ description: "first address of the pool (the upper half of the network)" }),
  to: ipv4.optional().meta({ description: "last address of the pool" }),
  lease: seconds(MIN_LEASE_SECONDS, MAX_SECONDS)
    .optional()
    .meta({ description: "seconds of a lease (3600)" }),
  reserve: z
    .record(z.string(), ipv4)
    .refine((all) => Object.keys(all).length <= MAX_RESERVATIONS, {
      error: `has more than ${MAX_RESERVATIONS} reservations`,
    })
    .optional()
    .meta({ description: 'addresses of NICs by their names, as web = "10.0.0.5"' }),
  router: ipv4.optional().meta({ description: "default router for clients (the gateway)" }),
  dns: z
    .array(ipv4)
    .max(8)
    .optional()
    .meta({ description: "name servers for clients (this host)" }),
});

const ra = z.strictObject({
  interval: seconds(MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS)
    .optional()
    .meta({ description: "seconds between two advertisements (200)" }),
  lifetime: seconds(2 * MIN_INTERVAL_SECONDS, MAX_SECONDS)
    .optional()
    .meta({ description: "seconds for which the prefix is valid (86400)" }),
  dns: z.array(ipv6).max(8).optional().meta({ description: "name servers for hosts (this host)" }),
});

const shape = z.strictObject({
  address: cidr4
    .optional()
    .meta({ description: "IPv4 address of the services, with prefix length" }),
  address6: cidr6
    .optional()
    .meta({ description: "IPv6 address of the services, with prefix length" }),
  icmp: z.boolean().optional().meta({ description: "true: answers pings" }),
  dhcp: z
    .union([z.boolean(), dhcp])
    .optional()
    .meta({ description: "true, or a table: gives IPv4 addresses" }),
  dns: z
    .union([
      z.boolean(),
      z.strictObject({
        domain: domain.optional().meta({ description: "domain of the names (lab)" }),
      }),
    ])
    .optional()
    .meta({ description: "true, or a table: names of NICs" }),
  ra: z
    .union([z.boolean(), ra])
    .optional()
    .meta({ description: "true, or a table: router advertisements, for IPv6" }),
  gateway: z
    .strictObject({
      tap: z
        .string()
        .refine(isTapName, { error: "takes the name of an interface" })
        // Both would be ports of the switch.
        .refine((name) => name !== SERVICES_PORT && !isReservedName(name), {
          error: "takes a name that is no word of captures and not that of the services",
        })
        .meta({ description: "interface of the host" }),
      address: ipv4
        .optional()
        .meta({ description: "its address on the segment (the last of the network)" }),
    })
    .optional()
    .meta({ description: "a way out to the host's network" }),
});

/**
 * Services of a segment. Each of them is off unless its key is there.
 * @interface
 */
export type ServiceOptions = z.infer<typeof shape>;

type Report = (path: readonly string[], message: string) => void;

export const serviceOptions = shape.superRefine((options, context) => {
  const report: Report = (path, message) => {
    context.addIssue({ code: "custom", path: [...path], message });
  };
  if (options.address === undefined && options.address6 === undefined) {
    report([], "needs address or address6");
    return;
  }
  for (const key of ["dhcp", "gateway"] as const) {
    if (isOn(options[key]) && options.address === undefined) report([key], "needs address");
  }
  checkIpv6(options, report);
  if (options.address === undefined) return;
  const network = parseNetwork4(options.address);
  if (network.bits < 8 || network.bits > 30) {
    report(["address"], "takes a prefix length of 8 to 30");
  } else if (!isHostOf(network, network.address)) {
    report(["address"], `takes an address of a host in ${networkText(network)}`);
  } else {
    checkIpv4(options, network, report);
  }
});

const isOn = (value: unknown): boolean => value !== undefined && value !== false;

function checkIpv6({ address6, ra }: ServiceOptions, report: Report): void {
  if (!isOn(ra)) return;
  if (address6 === undefined) report(["ra"], "needs address6");
  else if (parseNetwork6(address6).bits !== SLAAC_BITS) {
    report(["address6"], `takes a prefix length of ${SLAAC_BITS} with ra`);
  }
}

/** Checks that all addresses are different hosts of the network. */
function checkIpv4(options: ServiceOptions, network: Network4, report: Report): void {
  const inside = (path: readonly string[], text: string | undefined): void => {
    if (text === undefined || isHostOf(network, parseIpv4(text))) return;
    report(path, `takes an address of a host in ${networkText(network)}, not ${text}`);
  };
  const { dhcp, gateway } = options;
  inside(["gateway", "address"], gateway?.address);
  if (gateway !== undefined && gatewayAddress(gateway, network) === network.address) {
    report(["gateway", "address"], "takes another address than that of the services");
  }
  if (!isOn(dhcp)) return;
  const { from, to, router, reserve = {} } = typeof dhcp === "object" ? dhcp : {};
  inside(["dhcp", "from"], from);
  inside(["dhcp", "to"], to);
  inside(["dhcp", "router"], router);
  const pool = poolOf(options, network);
  if (pool.from > pool.to) report(["dhcp", "from"], "is behind dhcp.to");
  else if (pool.to - pool.from >= MAX_POOL) {
    report(["dhcp", "to"], `gives a pool of more than ${MAX_POOL} addresses`);
  }
  for (const [own, address] of ownAddresses(options, network)) {
    const isInside = address >= pool.from && address <= pool.to;
    // A default address is left out of the pool, and a default pool leaves out every address.
    const isExplicit = own !== GATEWAY || gateway?.address !== undefined;
    if (isInside && isExplicit && (from !== undefined || to !== undefined)) {
      report(["dhcp"], `has ${ipv4Text(address)} in its pool, which is ${own}`);
    }
  }
  const owners = new Map(ownAddresses(options, network).map(([own, address]) => [address, own]));
  for (const [name, text] of Object.entries(reserve)) {
    const path = ["dhcp", "reserve", name];
    inside(path, text);
    const owner = owners.get(parseIpv4(text));
    if (owner !== undefined) report(path, `${text} is ${owner} already`);
    owners.set(parseIpv4(text), `the address of ${name}`);
  }
}

type Gateway = NonNullable<ServiceOptions["gateway"]>;
const GATEWAY = "the address of the gateway";

/**
 * The gateway has an address of its own, because the kernel answers for it. If the kernel had the
 * address of the services, both would answer ARP, and a packet would reach one of them by chance.
 * The last address is the default, because people give the first ones to hosts by hand.
 */
const gatewayAddress = ({ address }: Gateway, { last }: Network4): number =>
  address === undefined ? last - 1 : parseIpv4(address);

function ownAddresses({ gateway }: ServiceOptions, network: Network4): [string, number][] {
  return [
    ["the address of the services", network.address],
    ...(gateway === undefined
      ? []
      : [[GATEWAY, gatewayAddress(gateway, network)] as [string, number]]),
  ];
}

/** Returns the first and last address of the pool. */
function poolOf({ dhcp }: ServiceOptions, network: Network4): { from: number; to: number } {
  const { from, to } = typeof dhcp === "object" ? dhcp : {};
  const first = network.first + 2 ** (31 - network.bits);
  const start = from === undefined ? Math.max(first, network.first + 1) : parseIpv4(from);
  const end = to === undefined ? network.last - 1 : parseIpv4(to);
  const most = from === undefined || to === undefined ? start + MAX_POOL - 1 : end;
  return { from: start, to: Math.min(end, most) };
}

/** What the DHCP server of a segment does. */
export interface DhcpPlan {
  readonly from: number;
  readonly to: number;
  /** Addresses in the pool that no client gets: those of the host, the gateway, the reservations. */
  readonly excluded: ReadonlySet<number>;
  readonly reserved: ReadonlyMap<string, number>;
  readonly leaseSeconds: number;
  readonly routers: readonly number[];
  readonly nameServers: readonly number[];
}

export interface RaPlan {
  readonly intervalSeconds: number;
  readonly lifetimeSeconds: number;
  readonly nameServers: readonly Uint8Array[];
}

export interface GatewayPlan {
  readonly tap: string;
  readonly address: number;
}

/** Options with all defaults in place. A service that is off is undefined. */
export interface ServicePlan {
  readonly ipv4: Network4 | undefined;
  readonly ipv6: Network6 | undefined;
  readonly icmp: boolean;
  readonly dhcp: DhcpPlan | undefined;
  /** The domain of names. */
  readonly domain: string | undefined;
  readonly ra: RaPlan | undefined;
  readonly gateway: GatewayPlan | undefined;
}

/** Returns the plan of options that `serviceOptions` accepts. */
export function servicePlan(options: ServiceOptions): ServicePlan {
  const { address, address6, icmp = false, dns, gateway } = options;
  const ipv4 = address === undefined ? undefined : parseNetwork4(address);
  const ipv6 = address6 === undefined ? undefined : parseNetwork6(address6);
  const domain = typeof dns === "object" ? (dns.domain ?? DEFAULT_DOMAIN) : DEFAULT_DOMAIN;
  return {
    ipv4,
    ipv6,
    icmp,
    dhcp: ipv4 === undefined ? undefined : dhcpPlan(options, ipv4),
    domain: isOn(dns) ? domain : undefined,
    ra: ipv6 === undefined ? undefined : raPlan(options, ipv6),
    gateway:
      gateway === undefined || ipv4 === undefined
        ? undefined
        : { tap: gateway.tap, address: gatewayAddress(gateway, ipv4) },
  };
}

function dhcpPlan(options: ServiceOptions, network: Network4): DhcpPlan | undefined {
  if (!isOn(options.dhcp)) return undefined;
  const { reserve = {}, router, lease, dns } = typeof options.dhcp === "object" ? options.dhcp : {};
  const { gateway } = options;
  const reserved = new Map(Object.entries(reserve).map(([name, text]) => [name, parseIpv4(text)]));
  const own = ownAddresses(options, network).map(([, address]) => address);
  const routers: number[] = [];
  if (router !== undefined) routers.push(parseIpv4(router));
  else if (gateway !== undefined) routers.push(gatewayAddress(gateway, network));
  return {
    ...poolOf(options, network),
    excluded: new Set([...own, ...reserved.values()]),
    reserved,
    leaseSeconds: lease ?? DEFAULT_LEASE_SECONDS,
    routers,
    nameServers: dns?.map(parseIpv4) ?? (isOn(options.dns) ? [network.address] : []),
  };
}

function raPlan(options: ServiceOptions, network: Network6): RaPlan | undefined {
  if (!isOn(options.ra)) return undefined;
  const { interval, lifetime, dns } = typeof options.ra === "object" ? options.ra : {};
  return {
    intervalSeconds: interval ?? DEFAULT_INTERVAL_SECONDS,
    lifetimeSeconds: lifetime ?? DEFAULT_LIFETIME_SECONDS,
    nameServers: dns?.map(parseIpv6) ?? (isOn(options.dns) ? [network.address] : []),
  };
}

/** Returns the options of the short form `--dhcp ADDRESS/BITS`. */
export const commonServices = (address: string): ServiceOptions => ({
  address,
  icmp: true,
  dhcp: true,
  dns: true,
});
