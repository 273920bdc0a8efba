/**
 * For finding faults: are the two copies of coherent memory the same?
 *
 *   device's copy ── kept ──┐                       ┌── as it is then
 *                           ▼                       ▼
 *   `read` ──────────► frontend's copy ──► `read_reply`: bytes that the device did not change
 *                                          in between must be equal
 *
 * Both directions of a link keep their order, so the reply shows all that the device had written
 * before it asked, and comes behind all that the frontend had posted before it answered. A byte that
 * differs all the same was changed in memory by nobody's right, or never posted by its writer. A
 * writer may post late (a descriptor before its doorbell), so a byte is believed when it differs in
 * several looks in a row.
 */

import type { Space } from "../../shared/wire/records.ts";
import { Limits } from "../../shared/wire/transactions.ts";
import { DmaError } from "./host-memory.ts";

/** A piece of memory that both sides hold. */
export interface Mirror {
  /** Where a `read` finds it. */
  readonly space: Space;
  readonly address: number;
  /** Our copy. */
  readonly bytes: Uint8Array;
}

export interface Divergence {
  readonly space: Space;
  readonly address: number;
  readonly ours: number;
  readonly theirs: number;
}

/** Bytes looked at in a tick. */
const TICK_BYTES = 1 << 20;
/** Ticks in a row in which the same byte is found different. */
const LOOKS = 3;

export class MirrorCheck {
  readonly #ask: (space: Space, address: number, length: number) => Promise<Uint8Array>;
  readonly #mirrors: () => readonly Mirror[];
  readonly #diverged: (where: Divergence) => void;
  #busy = false;
  #over = false;
  /** Number of the mirror, and the byte in it, that is looked at next. */
  #next = 0;
  #offset = 0;
  /** What differed last, in how many ticks in a row, and the last of them. */
  #suspect: (Divergence & { readonly looks: number; readonly tick: number }) | undefined;
  #tick = 0;
  /** Bytes that were compared so far. */
  compared = 0;

  /** `diverged` is called once; nothing is looked at after that. */
  constructor(
    ask: (space: Space, address: number, length: number) => Promise<Uint8Array>,
    mirrors: () => readonly Mirror[],
    diverged: (where: Divergence) => void,
  ) {
    this.#ask = ask;
    this.#mirrors = mirrors;
    this.#diverged = diverged;
  }

  /** Once a second: looks at the suspect, then on from where it stopped. One read at a time. */
  async tick(): Promise<void> {
    if (this.#busy || this.#over) return;
    this.#busy = true;
    this.#tick++;
    try {
      await this.#lookAgain();
      await this.#lookOn();
    } catch (error) {
      // The frontend refused: the memory is gone by now. Or a reset abandoned the read.
      if (!(error instanceof DmaError)) throw error;
    } finally {
      this.#busy = false;
    }
  }

  async #lookAgain(): Promise<void> {
    const suspect = this.#suspect;
    if (suspect === undefined) return;
    const mirror = this.#mirrors().find(
      ({ space, address, bytes }) =>
        space === suspect.space &&
        suspect.address >= address &&
        suspect.address < address + bytes.length,
    );
    if (mirror === undefined) this.#suspect = undefined;
    else await this.#look(mirror, suspect.address - mirror.address, 1);
  }

  async #lookOn(): Promise<void> {
    for (let left = TICK_BYTES; left > 0 && !this.#over; ) {
      const mirror = this.#mirrors()[this.#next];
      if (mirror === undefined) {
        this.#next = 0;
        this.#offset = 0;
        return;
      }
      const at = this.#offset;
      const length = Math.min(Limits.READ_BYTES, mirror.bytes.length - at);
      this.#offset = at + length;
      if (this.#offset >= mirror.bytes.length) {
        this.#next++;
        this.#offset = 0;
      }
      if (length <= 0) continue;
      left -= length;
      await this.#look(mirror, at, length);
    }
  }

  async #look(mirror: Mirror, at: number, length: number): Promise<void> {
    const { space, address, bytes } = mirror;
    const before = bytes.slice(at, at + length);
    const theirs = await this.#ask(space, address + at, length);
    // Another window may lie there by now.
    const same = this.#mirrors().some(
      (each) => each.address === address && each.bytes.buffer === bytes.buffer,
    );
    if (!same) return;
    this.compared += length;
    const suspect = this.#suspect;
    const inside =
      suspect?.space === space &&
      suspect.address >= address + at &&
      suspect.address < address + at + length;
    for (let i = 0; i < length; i++) {
      const ours = bytes[at + i]!;
      if (ours === theirs[i] || ours !== before[i]) continue;
      this.#suspected({ space, address: address + at + i, ours, theirs: theirs[i]! });
      return;
    }
    if (inside) this.#suspect = undefined;
  }

  #suspected(found: Divergence): void {
    const before = this.#suspect;
    const again =
      before?.address === found.address &&
      before.space === found.space &&
      before.ours === found.ours &&
      before.theirs === found.theirs;
    // Confirmed in this tick already: what differs elsewhere waits, or the two would replace each
    // other for ever.
    if (before?.tick === this.#tick) return;
    const looks = again ? before.looks + 1 : 1;
    this.#suspect = { ...found, looks, tick: this.#tick };
    if (looks < LOOKS) return;
    this.#over = true;
    this.#diverged(found);
  }
}
