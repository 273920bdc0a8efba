/** Tells the first refusal of a reason and an address in a minute from those that follow. */
import { addressKey } from "./places.ts";

const WINDOW_MS = 60_000;
/** Pairs of reason and address that are remembered. The oldest is forgotten. */
const MAX_PAIRS = 1024;

export class FirstRefusals {
  readonly #now: () => number;
  /** Time (ms) of the first refusal of the window, oldest first. */
  readonly #since = new Map<string, number>();

  /** `now` returns milliseconds of a monotonic clock. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** `peer` is HOST:PORT, with an IPv6 address without brackets. */
  isFirst(reason: string, peer: string): boolean {
    const now = this.#now();
    const pair = `${reason} ${addressKey(peer.slice(0, peer.lastIndexOf(":")))}`;
    const since = this.#since.get(pair);
    if (since !== undefined && now - since < WINDOW_MS) return false;
    this.#since.delete(pair);
    this.#since.set(pair, now);
    if (this.#since.size > MAX_PAIRS) {
      const [oldest] = this.#since.keys();
      this.#since.delete(oldest!);
    }
    return true;
  }
}
