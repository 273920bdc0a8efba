/** The windows of one NIC, sorted by address. Look-ups happen per queue set-up, not per frame. */
import { CloseCode, Limits, WireError } from "../../shared/wire/protocol.ts";
import type { BusAddress } from "../../shared/wire/records.ts";
import type { Window } from "./host-memory.ts";

export class WindowTable {
  readonly #sorted: Window[] = [];
  readonly #now: () => number;
  /** The window of the last hit. Successive accesses often use the same window. */
  #last: Window | undefined;
  bytes = 0;
  /** Bytes of windows made in the last second, oldest first. At most one entry per millisecond. */
  readonly #made: { readonly at: number; bytes: number }[] = [];
  /** Sum of the bytes in `#made`. */
  #lately = 0;

  /**
   * `now` returns milliseconds. Its clock must stand still while a batch is applied. Otherwise the
   * time that a busy host needs to make windows would raise the limit for more windows.
   */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** All windows, sorted by address. */
  get all(): readonly Window[] {
    return this.#sorted;
  }

  /**
   * Adds a zeroed window. Throws WireError when it is empty, leaves the address range, overlaps
   * another window, or exceeds a limit.
   */
  add(address: BusAddress, length: number): Window {
    if (length === 0) throw new WireError("WINDOW_EMPTY", "window: length 0");
    if (address + length - 1 > Limits.ADDRESS) {
      throw new WireError("WINDOW_RANGE", `window: ${hex(address)}+${length} ends beyond 48 bits`);
    }
    if (this.#sorted.length === Limits.WINDOWS || this.bytes + length > Limits.WINDOWS_BYTES) {
      throw new WireError(
        "WINDOW_LIMIT",
        `window: more than ${Limits.WINDOWS} windows or ${Limits.WINDOWS_BYTES} bytes`,
      );
    }
    const i = this.#above(address);
    const below = this.#sorted[i - 1];
    const above = this.#sorted[i];
    if (
      (below !== undefined && below.address + below.bytes.byteLength > address) ||
      (above !== undefined && address + length > above.address)
    ) {
      throw new WireError("WINDOW_OVERLAP", `window: ${hex(address)}+${length} overlaps another`);
    }
    this.#count(length);
    const bytes = new Uint8Array(length);
    const window = { address, bytes, view: new DataView(bytes.buffer) };
    this.#sorted.splice(i, 0, window);
    this.bytes += length;
    return window;
  }

  /**
   * Limits the bytes of windows made in a second. Throws WireError. A peer needs twenty bytes to
   * request and remove a window, which takes the device a millisecond to make. Rounding makes the
   * second longer, never shorter. A clock that goes back counts as standing still.
   */
  #count(length: number): void {
    const made = this.#made;
    const now = this.#now();
    while (made[0] !== undefined && Math.floor(now) - made[0].at >= 1000) {
      this.#lately -= made.shift()!.bytes;
    }
    if (this.#lately + length > Limits.WINDOWS_BYTES_A_SECOND) {
      throw new WireError(
        "WINDOW_CHURN",
        `window: more than ${Limits.WINDOWS_BYTES_A_SECOND} bytes of windows in a second`,
        CloseCode.LIMIT,
      );
    }
    this.#lately += length;
    const last = made.at(-1);
    const at = Math.ceil(now);
    if (last !== undefined && last.at >= at) last.bytes += length;
    else made.push({ at, bytes: length });
  }

  /** Removes and returns the window that begins at `address`. Throws WireError if there is none. */
  remove(address: BusAddress): Window {
    const i = this.#above(address) - 1;
    const window = this.#sorted[i];
    if (window === undefined || window.address !== address) {
      throw new WireError("WINDOW_UNKNOWN", `end_window: no window begins at ${hex(address)}`);
    }
    this.#sorted.splice(i, 1);
    this.bytes -= window.bytes.byteLength;
    this.#last = undefined;
    return window;
  }

  /** Returns the window that holds all of [address, address + length), or undefined. */
  find(address: BusAddress, length: number): Window | undefined {
    const last = this.#last;
    if (last !== undefined && holds(last, address, length)) return last;
    const window = this.#sorted[this.#above(address) - 1];
    if (window === undefined || !holds(window, address, length)) return undefined;
    this.#last = window;
    return window;
  }

  /** Returns the index of the first window that begins above `address`. */
  #above(address: BusAddress): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#sorted[middle]!.address <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function holds(w: Window, address: BusAddress, length: number): boolean {
  return address >= w.address && address + length <= w.address + w.bytes.byteLength;
}

function hex(address: number): string {
  return `0x${address.toString(16)}`;
}
