/** Whether a URL names this device itself, as far as can be seen from the device. */
import { BlockList, isIP } from "node:net";

/** Where the device listens, and where a frontend reached it: addresses without brackets. */
export interface OwnPlace {
  /** The listening socket's address, "0.0.0.0" and "::" included. */
  readonly listening: string;
  readonly port: number;
  /** The device's end of the frontend's connection. The frontend dials the URL, from where it is. */
  readonly reachedAt: string;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/**
 * True when the frontend would evidently arrive here again by `url`, which is as nicUrl makes it.
 * Loopback means this machine only for a frontend that came over loopback. False for names that a
 * resolver would have to be asked for, and for wss, behind which a proxy stands.
 */
export function isOwnAddress(url: string, { listening, port, reachedAt }: OwnPlace): boolean {
  const to = new URL(url);
  if (to.protocol !== "ws:" || Number(to.port || 80) !== port) return false;
  const host = bare(to.hostname);
  const [listens, reached] = [bare(listening), bare(reachedAt)];
  if (host === "localhost" || host.endsWith(".localhost")) return isLoopback(reached);
  if (host === reached) return true;
  const isAny = listens === "::" || (listens === "0.0.0.0" && isIP(host) === 4);
  return isAny && isLoopback(host) && isLoopback(reached);
}

const isLoopback = (address: string): boolean => {
  const version = isIP(address);
  return version !== 0 && LOOPBACK.check(address, version === 4 ? "ipv4" : "ipv6");
};

/** Without brackets; an IPv4 address that IPv6 maps is an IPv4 address. */
function bare(host: string): string {
  const [, mapped] = /^::ffff:([\d.]+)$/i.exec(host) ?? [];
  return mapped ?? host.replace(/^\[|\]$/g, "");
}
