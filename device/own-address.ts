/** Finds out whether a URL names this device, as far as the device can decide. */
import { BlockList, isIP } from "node:net";

/** Addresses of the device's listening socket and of one connection, without brackets. */
export interface OwnPlace {
  /** Address of the listening socket; may be "0.0.0.0" or "::". */
  readonly listening: string;
  readonly port: number;
  /** Address of the device's end of the frontend's connection. The frontend will dial the URL. */
  readonly reachedAt: string;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/**
 * Returns true if `url` would evidently lead the frontend to this device again. `url` is in the
 * form of nicUrl. Loopback means this machine only for a frontend that came over loopback. Returns
 * false for names that need a resolver, and for wss, because a proxy stands before the device then.
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

/** Removes brackets, and turns an IPv4-mapped IPv6 address into an IPv4 address. */
function bare(host: string): string {
  const [, mapped] = /^::ffff:([\d.]+)$/i.exec(host) ?? [];
  return mapped ?? host.replace(/^\[|\]$/g, "");
}
