/** Places to listen: who may reach them, and why a place can't be had. */
import { BlockList, isIP } from "node:net";
import type { Logger } from "../../shared/log.ts";
import { bracketed } from "../../shared/transport/address.ts";
import { addressOf } from "../../shared/transport/lookup.ts";
import { ExitCode, Failure, messageOf, systemCode } from "./failure.ts";

export interface Place {
  readonly host: string;
  readonly port: number;
}

/** How a port is protected, and the sentences about it. */
export interface Protection {
  readonly insecure: boolean;
  /** True when clients must show something. */
  readonly isLocked: boolean;
  readonly isTls: boolean;
  /** What everybody may do at an open port, and what would close it. */
  readonly open: string;
  /** What --insecure means here. */
  readonly warning: string;
}

/** Formats a place as on the command line. */
const placeOf = ({ host, port }: Place): string => `${bracketed(host)}:${port}`;

/**
 * Returns the address to bind. Resolves names first, so that the check sees the bound address. Throws
 * Failure for an address that others can reach, unless the port is locked or `insecure`.
 */
export async function bindAddress(
  listen: Place,
  { insecure, isLocked, isTls, open, warning }: Protection,
  log: Logger,
): Promise<string> {
  let address: string;
  try {
    address = await addressOf(listen.host);
  } catch (error) {
    throw new Failure(
      `the host in --listen is not known: ${listen.host} (${systemCode(error) ?? messageOf(error)})`,
    );
  }
  if (isLoopback(address)) return address;
  if (isLocked) {
    if (!isTls) {
      log.warn(
        { address },
        "without --cert and --key, tokens and frames cross the network in clear",
      );
    }
    return address;
  }
  if (!insecure) {
    throw new Failure(
      `--listen ${placeOf(listen)} can be reached from other hosts, and ${open}`,
      ExitCode.USAGE,
    );
  }
  log.warn({ address }, `--insecure: ${warning}`);
  return address;
}

export function isLoopback(address: string): boolean {
  const loopback = new BlockList();
  loopback.addSubnet("127.0.0.0", 8, "ipv4");
  loopback.addAddress("::1", "ipv6");
  return loopback.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");
}

/** Returns a failure that says why nothing can listen at `place`. */
export function listenFailure(error: unknown, place: Place): Failure {
  const where = placeOf(place);
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: `${where} is in use, perhaps by another process: choose another port with --listen`,
    EACCES: `this user may not listen on ${where}: choose a port from 1024 up with --listen`,
    EADDRNOTAVAIL: `${place.host} is no address of this machine: choose another with --listen`,
  };
  const known = reasons[systemCode(error) ?? ""];
  return Failure.from(error, known ?? `can't listen on ${where}: ${messageOf(error)}`);
}
