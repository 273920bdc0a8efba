/**
 * Limits a loop to a rate, in bursts: computes the number of packets that are due, and sleeps while
 * none is due. As in netmap's pkt-gen, the burst shrinks so that bursts leave 300 times a second.
 */
import { type Control, clockMs } from "../app.ts";

const BURSTS_PER_SECOND = 300;
/** Longest stall (ms) that is made up for. After a longer stall, the packets would be a flood. */
export const LATEST_MS = 200;

export class Pacer {
  readonly burst: number;
  readonly #perMs: number;
  readonly #control: Control;
  readonly #now: () => number;
  #since = 0;
  #given = 0;

  /** `rate` is in packets a second, 0 for no limit. `now` returns ms of a monotonic clock. */
  constructor(rate: number, burst: number, control: Control, now: () => number = clockMs) {
    this.#perMs = rate / 1000;
    this.burst =
      rate === 0 ? burst : Math.max(1, Math.min(burst, Math.floor(rate / BURSTS_PER_SECOND)));
    this.#control = control;
    this.#now = now;
  }

  /** Waits until packets are due. Resolves to their number, or to 0 when stopped meanwhile. */
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
    // Timers are coarse: packets that became due during the sleep leave together.
    const due = Math.floor((this.#now() - this.#since) * this.#perMs) + 1 - this.#given;
    return Math.max(0, Math.min(this.burst, due));
  }

  gave(packets: number): void {
    this.#given += packets;
  }
}
