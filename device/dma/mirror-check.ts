/**
 * Finds faults by comparing the two copies of coherent memory.
 *
 *   device's copy ── kept ──┐                       ┌── as it is then
 *                           ▼                       ▼
 *   `read` ──────────► frontend's copy ──► `read_reply`: bytes that the device did not change
 *                                          in between must be equal
 *
 * Both directions of a link keep their order. So the reply contains all bytes that the device wrote
 * before the `read`, and arrives behind all bytes that the frontend posted before the reply. If a
 * byte differs all the same, its memory was corrupted, or its writer never posted it. A writer may
 * post late (a descriptor before its doorbell). So a byte is reported only when it differs in
 * several ticks in a row.
 */

import { Limits } from "../../shared/wire/protocol.ts";
import { type BusAddress, beyond, type Space } from "../../shared/wire/records.ts";
import { DmaError } from "./host-memory.ts";

/** A piece of memory of which both sides hold a copy. */
export interface Mirror {
  /** Space and address for a `read` of the frontend's copy. */
  readonly space: Space;
  readonly address: BusAddress;
  /** The device's copy. */
  readonly bytes: Uint8Array;
}

export interface Divergence {
  readonly space: Space;
  readonly address: number;
  readonly ours: number;
  readonly theirs: number;
}

/** Number of bytes compared in a tick. */
const TICK_BYTES = 1 << 20;
/** Number of ticks in a row in which a byte must differ before it is reported. */
const LOOKS = 3;

export class MirrorCheck {
  readonly #ask: (space: Space, address: BusAddress, length: number) => Promise<Uint8Array>;
  readonly #mirrors: () => readonly Mirror[];
  readonly #diverged: (where: Divergence) => void;
  #busy = false;
  #over = false;
  /** Index of the mirror to compare next, and in `#offset` the next byte in it. */
  #next = 0;
  #offset = 0;
  /** The last difference, the number of ticks in a row that found it, and the last such tick. */
  #suspect: (Divergence & { readonly looks: number; readonly tick: number }) | undefined;
  #tick = 0;
  /** Number of bytes compared so far. */
  compared = 0;

  /** `diverged` is called at most once. No bytes are compared after that. */
  constructor(
    ask: (space: Space, address: BusAddress, length: number) => Promise<Uint8Array>,
    mirrors: () => readonly Mirror[],
    diverged: (where: Divergence) => void,
  ) {
    this.#ask = ask;
    this.#mirrors = mirrors;
    this.#diverged = diverged;
  }

  /**
   * Compares the suspect again, then continues where the last tick stopped. Called once a second.
   * Only one read is outstanding at a time.
   */
  async tick(): Promise<void> {
    if (this.#busy || this.#over) return;
    this.#busy = true;
    this.#tick++;
    try {
      await this.#lookAgain();
      await this.#lookOn();
    } catch (error) {
      // The frontend refused because the memory is gone by now, or a reset abandoned the read.
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
    const theirs = await this.#ask(space, beyond(address, at), length);
    // Another window may have taken this address during the read.
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
    // This tick has confirmed a suspect already. A difference elsewhere waits for a later tick.
    // Otherwise the two would replace each other for ever.
    if (before?.tick === this.#tick) return;
    const looks = again ? before.looks + 1 : 1;
    this.#suspect = { ...found, looks, tick: this.#tick };
    if (looks < LOOKS) return;
    this.#over = true;
    this.#diverged(found);
  }
}
