/**
 * Storm control: limits the frames that one port may flood, for each kind apart.
 *
 *   kind        destination                         reason of the drop
 *   broadcast   ff:ff:ff:ff:ff:ff                   storm_broadcast
 *   multicast   any other group                     storm_multicast
 *   unknown     an address that is in no table      storm_unknown
 *
 * A port may flood the frames of one second at once. After that, each frame needs its share of a
 * second (`TokenBucket`).
 *
 * The default limit is twice the default of FortiSwitch (500 frames a second), so that a scan of a
 * /22 by ARP passes. Other vendors leave the control off (Cisco, Hyper-V, NSX-T) or limit a port to
 * 80 % of its line (Juniper). Neither would help here: a NIC has no line rate, and the copies of one
 * port's broadcasts can occupy the thread of all ports. An uplink stands for many hosts, so its
 * limits are ten times as high.
 */
import { isGroup } from "../../shared/net/ethernet.ts";
import { TokenBucket } from "../../shared/token-bucket.ts";
import { DropReason } from "./port.ts";

export const STORM_KINDS = ["broadcast", "multicast", "unknown"] as const;
/** A kind of frames that storm control limits. */
export type StormKind = (typeof STORM_KINDS)[number];

/** Frames a second that a NIC may flood, for each kind; "off" for no limit. */
export type StormLimits = Readonly<Record<StormKind, number | "off">>;
/** Limits of some kinds. */
export type SomeStormLimits = { readonly [K in StormKind]?: StormLimits[K] | undefined };

/** Default limit of each kind, in frames a second. */
export const DEFAULT_STORM_LIMIT = 1000;
/** Largest limit that can be set, in frames a second. */
export const MAX_STORM_LIMIT = 10_000_000;
const UPLINK_FACTOR = 10;
const BURST_MS = 1000;

const REASONS = [
  DropReason.STORM_BROADCAST,
  DropReason.STORM_MULTICAST,
  DropReason.STORM_UNKNOWN,
] as const;

/** Returns the default limits, changed by `changes`. Throws a TypeError for an impossible limit. */
export function stormLimits(changes: SomeStormLimits = {}): StormLimits {
  const limitOf = (kind: StormKind) => changes[kind] ?? DEFAULT_STORM_LIMIT;
  const limits: StormLimits = {
    broadcast: limitOf("broadcast"),
    multicast: limitOf("multicast"),
    unknown: limitOf("unknown"),
  };
  for (const kind of STORM_KINDS) {
    const limit = limits[kind];
    if (limit === "off" || (limit >= 1 && limit <= MAX_STORM_LIMIT)) continue;
    throw new TypeError(`storm: ${kind} is ${limit}; it can be 1 to ${MAX_STORM_LIMIT} or "off"`);
  }
  return limits;
}

/** Frames above the limit since the last report. */
export interface StormReport {
  readonly kind: StormKind;
  readonly frames: number;
  /** Frames a second. */
  readonly limit: number;
}

/** The storm control of one port. */
export class StormControl {
  /** By kind; undefined without a limit. */
  readonly #buckets: readonly (TokenBucket | undefined)[];
  /** Frames refused since the last report, by kind. */
  readonly #refused = new Float64Array(STORM_KINDS.length);

  /** `own` are limits of this port alone, instead of those of the segment. */
  constructor(limits: StormLimits, isUplink: boolean, own: SomeStormLimits = {}) {
    const factor = isUplink ? UPLINK_FACTOR : 1;
    this.#buckets = STORM_KINDS.map((kind) => {
      const limit = own[kind] ?? limits[kind];
      if (limit === "off") return undefined;
      return new TokenBucket(1000 / (own[kind] === undefined ? limit * factor : limit), BURST_MS);
    });
  }

  /**
   * Counts a frame that would be flooded. Returns the reason for its drop if the port is above its
   * limit. `high` and `low` are the destination; `now` is in ms.
   */
  refuse(high: number, low: number, now: number): DropReason | undefined {
    const kind = !isGroup(high) ? 2 : high === 0xffff && low === -1 ? 0 : 1;
    if (this.#buckets[kind]?.take(1, now) !== false) return undefined;
    this.#refused[kind]!++;
    return REASONS[kind];
  }

  /** Returns the kinds with frames above the limit since the last call. */
  reports(): StormReport[] {
    const reports: StormReport[] = [];
    for (const [i, kind] of STORM_KINDS.entries()) {
      const frames = this.#refused[i]!;
      const limit = Math.round(1000 / (this.#buckets[i]?.msPerUnit ?? 0));
      if (frames > 0) reports.push({ kind, frames, limit });
      this.#refused[i] = 0;
    }
    return reports;
  }
}
