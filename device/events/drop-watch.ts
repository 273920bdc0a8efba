/**
 * Tells of the frames that ports dropped: a summary for each port, at most once a second. A storm of
 * drops on many ports must not push all other events out of the feed, so a second has few summaries.
 * The rest waits, and is a part of a later summary.
 */
import type { Counts } from "../../shared/status/device-status.ts";
import { type DropCounts, noDrops, type PortCounters } from "../switch/counters.ts";
import { DropReason } from "../switch/port.ts";
import type { EventFeed } from "./feed.ts";

const REASONS = Object.values(DropReason);
/** Most summaries in a second, of all ports together. */
const MAX_TOLD = 16;
/** Most ports whose counters are read in a second. A thousand ports would take milliseconds. */
const MAX_READ = 256;

/** The part of a Switch that is watched. */
export interface Watched {
  readonly name: string;
  /** Yields the name and the counters of each port. */
  portCounters(): Iterable<readonly [name: string, counters: PortCounters]>;
  /** Called when a port has left, with its last counters. */
  onLeft: ((name: string, counters: PortCounters) => void) | undefined;
}

/** Counts that were told already. */
interface Told {
  readonly in: DropCounts;
  readonly out: DropCounts;
}

export class DropWatch {
  readonly #segment: Watched;
  readonly #feed: Pick<EventFeed, "publish">;
  /** By the counters, which a port keeps from attaching to detaching. */
  readonly #told = new WeakMap<PortCounters, Told>();
  /** Index of the port at which the next second begins. */
  #from = 0;

  constructor(segment: Watched, feed: Pick<EventFeed, "publish">) {
    this.#segment = segment;
    this.#feed = feed;
    // A port may come and go between two ticks.
    segment.onLeft = (port, counters) => void this.#tell(port, counters);
  }

  /** Called once a second. */
  tick(): void {
    const ports = [...this.#segment.portCounters()];
    const from = this.#from < ports.length ? this.#from : 0;
    let left = MAX_TOLD;
    const most = Math.min(ports.length, MAX_READ);
    for (let i = 0; i < most && left > 0; i++) {
      const at = (from + i) % ports.length;
      this.#from = at + 1;
      const [port, counters] = ports[at]!;
      if (this.#tell(port, counters)) left--;
    }
  }

  /** Publishes what a port has dropped since the last time. Returns false if that is nothing. */
  #tell(port: string, counters: PortCounters): boolean {
    const told = this.#told.get(counters) ?? this.#first(counters);
    const input = rise(told.in, counters.in.dropped, counters.lost.in);
    const out = rise(told.out, counters.out.dropped, counters.lost.out);
    if (input === undefined && out === undefined) return false;
    const { name: segment } = this.#segment;
    this.#feed.publish({ event: "drops", segment, port, in: input ?? {}, out: out ?? {} });
    return true;
  }

  #first(counters: PortCounters): Told {
    const told = { in: noDrops(), out: noDrops() };
    this.#told.set(counters, told);
    return told;
  }
}

/**
 * Returns what the sum of two counts has risen above `told`, and raises `told`. Undefined without a
 * rise, which is the common case and allocates nothing.
 */
function rise(told: DropCounts, one: DropCounts, other: DropCounts): Counts | undefined {
  let risen: Record<string, number> | undefined;
  for (const reason of REASONS) {
    const now = one[reason] + other[reason];
    if (now === told[reason]) continue;
    risen ??= {};
    risen[reason] = now - told[reason];
    told[reason] = now;
  }
  return risen;
}
