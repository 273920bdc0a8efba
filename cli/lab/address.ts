/** IP addresses with their prefix length, and routes, as `ip` reads them. */
import { BlockList, isIP } from "node:net";

export interface Cidr {
  /** The text without the prefix length. */
  readonly ip: string;
  readonly prefix: number;
  readonly family: "ipv4" | "ipv6";
}

export interface Route {
  /** `default`, or an address with prefix length. */
  readonly to: string;
  readonly via: string;
}

/** Returns the parts of "10.0.0.1/24", or the end of a sentence that names the mistake. */
export function parseCidr(text: string): Cidr | string {
  const [, ip = "", digits = ""] = /^([^/]*)\/(\d{1,3})$/.exec(text) ?? [];
  const version = ip.includes("%") ? 0 : isIP(ip);
  const prefix = Number(digits);
  if (version === 0 || prefix > (version === 4 ? 32 : 128)) {
    return `takes an IP address with its prefix length, as 10.0.0.1/24, not ${JSON.stringify(text)}`;
  }
  return { ip, prefix, family: version === 4 ? "ipv4" : "ipv6" };
}

/** Returns the parts of "default via 10.0.0.254", or the end of a sentence. */
export function parseRoute(text: string): Route | string {
  const [, to = "", via = ""] = /^(\S+) via (\S+)$/.exec(text) ?? [];
  const isPlace = to === "default" || typeof parseCidr(to) === "object";
  if (isPlace && isIP(via) !== 0 && !via.includes("%")) return { to, via };
  return `takes NETWORK via ADDRESS, as "default via 10.0.0.254", not ${JSON.stringify(text)}`;
}

/** True when the network of `own` has the address of `other`. */
export function isNeighbour(own: Cidr, other: Cidr): boolean {
  if (own.family !== other.family) return false;
  const network = new BlockList();
  network.addSubnet(own.ip, own.prefix, own.family);
  return network.check(other.ip, other.family);
}

/** The same text for two spellings of one address. */
export const plainIp = ({ ip, family }: Cidr): string =>
  family === "ipv4" ? ip : new URL(`http://[${ip}]`).hostname.slice(1, -1);
