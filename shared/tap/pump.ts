/**
 * Moves frames from a TAP to whatever uses it, a burst at a time, so that others get their turn.
 *
 *   onFrames, room again ─► run: resume ─► receive, take, receive, take ... ─► burstOver
 *                                              BURST frames, and more wait ─► run at the next turn
 *
 * Frames stay in their slots until the user releases them.
 */
import { Frame } from "../net/frame.ts";
import type { TapEnd } from "./tap.ts";

/** Frames moved before others get a turn. */
const BURST = 64;
export const NO_TOKEN = -1;

/** Where a pump moves frames to. Each answer says whether there is room for more. */
export interface PumpUser {
  /** Passes on what was kept when there was no room. */
  resume(): boolean;
  /** Takes over the frame in slot `token`, even where the answer is false. */
  take(frame: Frame, token: number): boolean;
  /** The burst is over. `drained`: because nothing more waits in the TAP. */
  burstOver(drained: boolean): boolean;
}

export class TapPump {
  readonly #tap: TapEnd;
  readonly #user: PumpUser;
  readonly #frame = new Frame();
  #running = false;
  #turnAsked = false;
  #stopped = false;
  readonly #nextTurn = (): void => {
    this.#turnAsked = false;
    this.run();
  };

  constructor(tap: TapEnd, user: PumpUser) {
    this.#tap = tap;
    this.#user = user;
    tap.onFrames = () => this.run();
  }

  /** Moves one burst. Call it also when the user has room again. */
  run(): void {
    // Room may be announced in the middle of a burst, which goes on anyway.
    if (this.#turnAsked || this.#running || this.#stopped) return;
    this.#running = true;
    const frame = this.#frame;
    let moved = 0;
    let drained = false;
    let room = this.#user.resume();
    while (room && moved < BURST && !this.#stopped) {
      const token = this.#tap.receive(frame);
      drained = token === NO_TOKEN;
      if (drained) break;
      moved++;
      room = this.#user.take(frame, token);
    }
    if (!this.#stopped) room = this.#user.burstOver(drained) && room;
    this.#running = false;
    // Without room the user calls again; with more to come, others go first.
    if (!room || drained || this.#stopped) return;
    this.#turnAsked = true;
    setImmediate(this.#nextTurn);
  }

  stop(): void {
    this.#stopped = true;
    this.#tap.onFrames = undefined;
  }
}
