/**
 * The policy of a port: what its rules make of the frames that it sends.
 *
 *   rules by name ──► PortOptions ──► PortPolicy of one port
 *
 * A port without a rule has no policy, so it costs nothing.
 */
import { L2_BYTES, macKey, parseUnicastMac } from "../../shared/net/ethernet.ts";
import type { Frame } from "../../shared/net/frame.ts";
import type { TokenBucket } from "../../shared/token-bucket.ts";
import { fits } from "../name-pattern.ts";
import { Guard } from "./guard.ts";
import { DropReason } from "./port.ts";
import type { PortOptions, PortRule } from "./port-options.ts";
import { rateLimit } from "./rate.ts";

/** Options that say where a port is, not what it may do. */
const PLACE: ReadonlySet<string> = new Set<keyof PortOptions>(["access", "trunk", "native"]);

/**
 * Returns the options of a port: those of all rules that fit, of which the last one counts. A port
 * of the device itself is restricted by rules with its whole name only: a rule for all ports is
 * meant for those of guests, and would keep the services from them.
 */
export function optionsOf(rules: readonly PortRule[], name: string, isOwn = false): PortOptions {
  const found: Record<string, unknown> = {};
  for (const { name: pattern, ...options } of rules) {
    if (!fits(pattern, name)) continue;
    for (const [key, value] of Object.entries(options)) {
      if (isOwn && pattern !== name && !PLACE.has(key)) continue;
      if (value !== undefined) found[key] = value;
    }
  }
  return found as PortOptions;
}

/** What a port may send. */
export class PortPolicy {
  /** Addresses that the port may use as sources. Undefined: any. */
  readonly #addresses: Set<number> | undefined;
  /** Number of addresses that may still be added. */
  #free: number;
  readonly #rate: TokenBucket | undefined;
  readonly #guard: Guard | undefined;
  readonly #mostBytes: number;

  /** `own` is the address of the NIC behind the port; an uplink has none. */
  constructor({ addresses, sticky, rate, burst, guard, ips, mtu }: PortOptions, own?: Uint8Array) {
    const isStrict = addresses !== undefined || sticky !== undefined;
    this.#addresses = isStrict ? new Set(addresses?.map(keyOf)) : undefined;
    if (own !== undefined && addresses === undefined) this.#addresses?.add(macKey(own, 0));
    this.#free = Math.max(0, (sticky ?? 0) - (this.#addresses?.size ?? 0));
    this.#rate = rate === undefined ? undefined : rateLimit(rate, burst);
    this.#guard = guard === true ? new Guard(ips) : undefined;
    this.#mostBytes = mtu === undefined ? Number.POSITIVE_INFINITY : mtu + L2_BYTES;
  }

  /** Returns the reason for a drop of a frame with this source, `longest` bytes when cut. */
  refuse(frame: Frame, source: number, longest: number, now: number): DropReason | undefined {
    if (longest > this.#mostBytes) return DropReason.TOO_BIG;
    if (this.#addresses?.has(source) === false && !this.#adds(source)) {
      return DropReason.ADDRESS_DENIED;
    }
    const forged = this.#guard?.refuse(frame);
    if (forged !== undefined) return forged;
    return this.#rate?.take(frame.length, now) === false ? DropReason.RATE : undefined;
  }

  #adds(source: number): boolean {
    if (this.#free === 0) return false;
    this.#free--;
    this.#addresses?.add(source);
    return true;
  }
}

const keyOf = (mac: string): number => macKey(parseUnicastMac(mac), 0);
