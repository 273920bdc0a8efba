/**
 * Keeps a loop to a rate, in bursts: so many packets are due by now, the rest is slept for.
 * As in netmap's pkt-gen the burst shrinks so that something leaves 300 times a second.
 */
import { type Control, clockMs } from "../app.ts";

const BURSTS_PER_SECOND = 300;
/** A stall longer than this is not made up for: what follows would be a flood. */
export const LATEST_MS = 200;

export class Pacer {
  readonly burst: number;
  readonly #perMs: number;
  readonly #control: Control;
  readonly #now: () => number;
  #since = 0;
  #given = 0;

  /** `rate`: packets a second, 0 for no limit. `now`: milliseconds of a monotonic clock. */
  constructor(rate: number, burst: number, control: Control, now: () => number = clockMs) {
    this.#perMs = rate / 1000;
    this.burst =
      rate === 0 ? burst : Math.max(1, Math.min(burst, Math.floor(rate / BURSTS_PER_SECOND)));
    this.#control = control;
    this.#now = now;
  }

  /** Resolves to how many packets may leave now; 0 when stopped meanwhile. */
  async due(): Promise<number> {
    if (this.#perMs === 0) return this.burst;
    const now = this.#now();
    if (this.#since === 0) this.#since = now;
    const late = now - this.#since - this.#given / this.#perMs;
    if (late > LATEST_MS) this.#since += late - LATEST_MS;
    if (late < 0) {
      await this.#control.sleep(-late);
      if (this.#control.isStopped) return 0;
    }
    // Timers are coarse: what became due while we slept leaves together.
    const due = Math.floor((this.#now() - this.#since) * this.#perMs) + 1 - this.#given;
    return Math.max(0, Math.min(this.burst, due));
  }

  gave(packets: number): void {
    this.#given += packets;
  }
}
