/**
 * Resolves names of hosts to addresses, for all code that dials or listens.
 *
 * Node calls getaddrinfo with AI_ADDRCONFIG, which omits the addresses of a family that is
 * configured on loopback only. On a machine with an IPv6-only network, a name for 127.0.0.1 would
 * not resolve at all.
 */
import { ADDRCONFIG, type LookupAddress, type LookupOptions, lookup } from "node:dns";
import type { LookupFunction } from "node:net";

/** localhost and its subdomains are this machine, whatever a resolver returns: RFC 6761, 6.3. */
const LOCALHOST = /(^|\.)localhost\.?$/i;
const LOOPBACK: readonly LookupAddress[] = [
  { address: "127.0.0.1", family: 4 },
  { address: "::1", family: 6 },
];

type Found = (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void;

function find(host: string, options: LookupOptions, found: Found): void {
  const { hints = 0, family } = options;
  if (LOCALHOST.test(host)) {
    const wanted = family === 4 || family === 6 ? family : undefined;
    const addresses = LOOPBACK.filter((a) => wanted === undefined || a.family === wanted);
    process.nextTick(found, null, addresses);
    return;
  }
  lookup(host, { ...options, all: true }, (error, addresses) => {
    if (error === null || (hints & ADDRCONFIG) === 0) found(error, addresses);
    else lookup(host, { ...options, hints: hints & ~ADDRCONFIG, all: true }, found);
  });
}

const lookupHost: LookupFunction = (host, options, callback) => {
  find(host, options, (error, addresses) => {
    const [first] = addresses ?? [];
    if (error !== null || first === undefined) callback(error, "");
    else if (options.all === true) callback(null, [...addresses]);
    else callback(null, first.address, first.family);
  });
};

/**
 * Options for `net.connect` and for callers that pass its options on. Node tries the addresses of a
 * host one after the other. Its default of 250 ms for each is too short on a busy machine.
 */
export const DIALLING = { lookup: lookupHost, autoSelectFamilyAttemptTimeout: 1000 } as const;

/** Returns the address to bind for the name or address `host`. Rejects with the system's error. */
export function addressOf(host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    find(host, {}, (error, [first] = []) => {
      if (first === undefined) reject(error ?? new Error("no address"));
      else resolve(first.address);
    });
  });
}
