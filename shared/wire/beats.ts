/**
 * The seconds of all links of a process. Links whose seconds begin within GROUP_MS of each other
 * share one timer: a wake-up serves all of them, with warm code and tables. A device with 1,000 idle
 * NICs wakes up 10 times a second in place of 1,000 times.
 */
import type { Clock, Timer } from "../clock.ts";

export const HEARTBEAT_MS = 1000;
/** Links that begin within this time of a group join it. Their first second is shorter by as much. */
const GROUP_MS = 100;

export interface Beating {
  /** Called each HEARTBEAT_MS. */
  beat(): void;
  /** Called after `beat`, when the input that has arrived meanwhile was read. */
  judge(): void;
}

/** Links with one timer. */
class Group {
  readonly members = new Set<Beating>();
  timer: Timer | undefined;
  /** Time (ms) at which the present second began. */
  began: number;

  constructor(began: number) {
    this.began = began;
  }

  readonly judge = (): void => {
    for (const member of this.members) member.judge();
  };
}

export class Beats {
  readonly #clock: Clock;
  /** At most one for each GROUP_MS of a second, and those that a stall has moved together. */
  #groups: Group[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Returns the function by which `member` leaves. */
  join(member: Beating): () => void {
    const now = this.#clock.now();
    const group = this.#groups.find(({ began }) => now >= began && now < began + GROUP_MS);
    const joined = group ?? this.#begin(now);
    joined.members.add(member);
    return () => this.#leave(joined, member);
  }

  #leave(group: Group, member: Beating): void {
    group.members.delete(member);
    if (group.members.size > 0) return;
    this.#clock.clear(group.timer);
    this.#groups = this.#groups.filter((each) => each !== group);
  }

  #begin(now: number): Group {
    const group = new Group(now);
    group.timer = this.#clock.setInterval(() => {
      group.began = this.#clock.now();
      for (const member of group.members) member.beat();
      // Timers run before the sockets are read. Bytes that have already arrived must count, or a
      // stall of this process would look like a dead peer.
      this.#clock.setImmediate(group.judge);
    }, HEARTBEAT_MS);
    this.#groups.push(group);
    return group;
  }
}

const byClock = new WeakMap<Clock, Beats>();

/** Returns the beats of the process by this clock. */
export function beatsOf(clock: Clock): Beats {
  const known = byClock.get(clock);
  if (known !== undefined) return known;
  const beats = new Beats(clock);
  byClock.set(clock, beats);
  return beats;
}
