/**
 * Waits for a remote device: each wait polls a condition after each applied batch, ends after a
 * timeout, or is abandoned when the device is lost.
 *
 * One `Waits` belongs to one incarnation of the device (one `Com`). After `abandon`, every waiting
 * step resumes with the error `Abandoned`, so a stale step cannot reach the next incarnation.
 */

import type { Clock, Timer } from "../../shared/clock.ts";
import { Abandoned } from "../driver-error.ts";

interface Wait extends PromiseWithResolvers<boolean> {
  readonly ready: () => boolean;
  timer: Timer | undefined;
}

export class Waits {
  readonly #clock: Clock;
  readonly #waits = new Set<Wait>();
  /** Reason why the device is gone; undefined while it is there. */
  gone: string | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Throws Abandoned when the device is gone. */
  check(): void {
    if (this.gone !== undefined) throw new Abandoned(this.gone);
  }

  /** Resolves with true once `ready` holds, or false after `timeoutMs`. Rejects with Abandoned. */
  until(ready: () => boolean, timeoutMs: number): Promise<boolean> {
    if (this.gone !== undefined) return Promise.reject(new Abandoned(this.gone));
    if (ready()) return Promise.resolve(true);
    const wait: Wait = { ...Promise.withResolvers<boolean>(), ready, timer: undefined };
    this.#waits.add(wait);
    wait.timer = this.#clock.setTimeout(() => this.#expired(wait), timeoutMs);
    return wait.promise;
  }

  /** Resolves after `ms`. Rejects with Abandoned. */
  async sleep(ms: number): Promise<void> {
    await this.until(() => false, ms);
  }

  /** Called after each applied batch, and by interrupt handlers. */
  poll(): void {
    for (const wait of this.#waits) if (wait.ready()) this.#finish(wait, true);
  }

  /** Rejects every wait, the present ones and any later one, with Abandoned. */
  abandon(why: string): void {
    if (this.gone !== undefined) return;
    this.gone = why;
    for (const wait of this.#waits) {
      this.#clock.clear(wait.timer);
      wait.reject(new Abandoned(why));
    }
    this.#waits.clear();
  }

  /**
   * Checks the condition once more, one turn of the event loop after the timeout. After a stall of
   * this process the answer may still be unread in the socket, and that turn reads it.
   */
  #expired(wait: Wait): void {
    this.#clock.setImmediate(() => {
      if (this.#waits.has(wait)) this.#finish(wait, wait.ready());
    });
  }

  #finish(wait: Wait, ready: boolean): void {
    this.#clock.clear(wait.timer);
    this.#waits.delete(wait);
    wait.resolve(ready);
  }
}
