/**
 * Waiting for a device that is a network away: look at a condition after each applied batch,
 * give up after a time, or be abandoned when the device goes.
 *
 * One `Waits` belongs to one incarnation of the device (one `Com`). Whatever resumes after it was
 * abandoned resumes with `Abandoned`, so a stale step cannot reach the next incarnation.
 */

import type { Clock, Timer } from "../../shared/clock.ts";
import { Abandoned } from "../driver-error.ts";

interface Wait {
  readonly ready: () => boolean;
  readonly settle: (ready: boolean) => void;
  readonly fail: (error: Abandoned) => void;
  timer: Timer | undefined;
}

export class Waits {
  readonly #clock: Clock;
  readonly #waits = new Set<Wait>();
  #gone: string | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Set once the device is gone; the reason. */
  get gone(): string | undefined {
    return this.#gone;
  }

  /** True once `ready` holds, false after `timeoutMs`; rejects with Abandoned. */
  until(ready: () => boolean, timeoutMs: number): Promise<boolean> {
    if (this.#gone !== undefined) return Promise.reject(new Abandoned(this.#gone));
    if (ready()) return Promise.resolve(true);
    return new Promise<boolean>((settle, fail) => {
      const wait: Wait = { ready, settle, fail, timer: undefined };
      this.#waits.add(wait);
      wait.timer = this.#clock.setTimeout(() => this.#expired(wait), timeoutMs);
    });
  }

  /** Rejects with Abandoned like everything else here. */
  async sleep(ms: number): Promise<void> {
    await this.until(() => false, ms);
  }

  /** Called after each applied batch, and by interrupt handlers. */
  poll(): void {
    for (const wait of this.#waits) if (wait.ready()) this.#finish(wait, true);
  }

  /** Ends every wait, now and later. */
  abandon(why: string): void {
    if (this.#gone !== undefined) return;
    this.#gone = why;
    for (const wait of this.#waits) {
      this.#clock.clear(wait.timer);
      wait.fail(new Abandoned(why));
    }
    this.#waits.clear();
  }

  /**
   * The answer may lie unread in the socket when this process was the one that stalled, so a
   * timeout is judged one turn later, after the event loop has read what is there.
   */
  #expired(wait: Wait): void {
    this.#clock.setImmediate(() => {
      if (this.#waits.has(wait)) this.#finish(wait, wait.ready());
    });
  }

  #finish(wait: Wait, ready: boolean): void {
    this.#clock.clear(wait.timer);
    this.#waits.delete(wait);
    wait.settle(ready);
  }
}
