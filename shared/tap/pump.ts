/**
 * Moves frames from a TAP to its user, a burst at a time, so that other work gets its turn.
 *
 *   onFrames, room again ─► run: resume ─► receive, take, receive, take ... ─► burstOver
 *                                              BURST frames, and more wait ─► run at the next turn
 *
 * Frames stay in their slots until the user releases them.
 */
import { Frame } from "../net/frame.ts";
import { soon } from "../reactor/index.ts";
import type { TapEnd } from "./tap.ts";

/** Number of frames moved before other work gets a turn. */
const BURST = 64;
export const NO_TOKEN = -1;

/** The receiver of a pump's frames. Each method returns true while there is room for more. */
export interface PumpUser {
  /** Passes on the frames that were kept for want of room. */
  resume(): boolean;
  /** Accepts the frame in slot `token`, even when it returns false. */
  take(frame: Frame, token: number): boolean;
  /** Called at the end of a burst. `drained` is true when no more frames wait in the TAP. */
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

  /** Moves one burst. The user also calls it when it has room again. */
  run(): void {
    // The user may call in the middle of a burst, which goes on anyway.
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
    // Without room, the user calls again later. If more frames wait, other work goes first.
    if (!room || drained || this.#stopped) return;
    this.#turnAsked = true;
    soon(this.#nextTurn);
  }

  stop(): void {
    this.#stopped = true;
    this.#tap.onFrames = undefined;
  }
}
