/**
 * Names of hosts to addresses, for everything that dials or listens.
 *
 * Node asks getaddrinfo with AI_ADDRCONFIG, which leaves out the addresses of a family that is
 * configured on loopback only. On a machine whose network is IPv6 alone, a name that stands for
 * 127.0.0.1 is then not known at all.
 */
import { ADDRCONFIG, type LookupAddress, type LookupOptions, lookup } from "node:dns";
import type { LookupFunction } from "node:net";

/** localhost and everything below it is this machine, whatever a resolver says: RFC 6761, 6.3. */
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
 * For `net.connect` and all that passes its options on. A host of several addresses is tried at one
 * after the other; Node's own quarter of a second for each is too short for a busy machine.
 */
export const DIALLING = { lookup: lookupHost, autoSelectFamilyAttemptTimeout: 1000 } as const;

/** The address to bind for the name or address `host`. Rejects with the system's error. */
export function addressOf(host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    find(host, {}, (error, [first] = []) => {
      if (first === undefined) reject(error ?? new Error("no address"));
      else resolve(first.address);
    });
  });
}
