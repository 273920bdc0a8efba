/**
 * The double of a TAP, in memory; the test is the kernel. FakeTap keeps the contract of TapEnd
 * strictly and throws when its user breaks it (a slot released twice, a send into a closed TAP).
 */
import type { Frame } from "../../shared/net/frame.ts";
import type { TapError } from "../../shared/tap/errors.ts";
import type { TapLink } from "../../shared/tap/open.ts";
import type { TapEnd } from "../../shared/tap/tap.ts";
import { bytesOf, type FrameFacts, factsOf, NO_FACTS } from "./packets.ts";

export type Facts = Partial<FrameFacts>;

/** A frame as plain values. */
export interface Told {
  readonly bytes: Uint8Array;
  readonly facts: FrameFacts;
}

const SLOT_BYTES = 65600;

export class FakeTap implements TapEnd {
  readonly name: string;
  readonly slots: number;
  mtu = 1500;
  up = true;
  rxMalformed = 0;
  onFrames: (() => void) | undefined;
  onDrain: (() => void) | undefined;
  onLinkChange: ((link: TapLink) => void) | undefined;
  onGone: ((error: TapError) => void) | undefined;

  /** Frames that the other side sent to the kernel. */
  readonly sent: Told[] = [];
  /** Frames that the kernel still accepts; set by the test. */
  room = Number.POSITIVE_INFINITY;
  carrier: boolean | undefined;
  /** The error of `setMtu`; undefined accepts the MTU. */
  mtuRefusal: TapError | undefined;
  readonly mtuWishes: number[] = [];
  closed = false;
  /** Slots received and not yet released. */
  readonly out = new Set<number>();

  readonly #memory: Uint8Array;
  readonly #free: number[];
  readonly #waiting: Told[] = [];
  #armed = false;
  #drainAsked = false;

  constructor(name = "fake0", slots = 8) {
    this.name = name;
    this.slots = slots;
    this.#memory = new Uint8Array(slots * SLOT_BYTES);
    this.#free = Array.from({ length: slots }, (_, slot) => slot);
  }

  /** The kernel sends a frame. */
  inject(bytes: Uint8Array, facts: Facts = {}): void {
    this.#waiting.push({ bytes, facts: { ...NO_FACTS, ...facts } });
    this.#wake();
  }

  /** Frames injected and not yet received. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** The kernel accepts frames again. */
  drain(room: number): void {
    this.room = room;
    if (!this.#drainAsked) return;
    this.#drainAsked = false;
    this.onDrain?.();
  }

  /** The kernel's `ip link set`. */
  change(link: Partial<TapLink>): void {
    this.mtu = link.mtu ?? this.mtu;
    this.up = link.up ?? this.up;
    this.onLinkChange?.({ mtu: this.mtu, up: this.up });
  }

  receive(frame: Frame): number {
    const told = this.#free.length > 0 ? this.#waiting.shift() : undefined;
    if (told === undefined) {
      this.#armed = true;
      return -1;
    }
    const slot = this.#free.shift()!;
    this.out.add(slot);
    this.#memory.set(told.bytes, slot * SLOT_BYTES);
    frame.reset();
    frame.push(this.#memory, slot * SLOT_BYTES, told.bytes.length);
    Object.assign(frame, told.facts);
    return slot;
  }

  /** The result of `age`: how long every frame has waited. */
  waitedMs = 0;

  age(_token: number): number {
    return this.waitedMs;
  }

  release(token: number): void {
    if (!this.out.delete(token)) throw new Error(`slot ${token} released, but not out`);
    // Code that reads a slot after its release gets these bytes.
    this.#memory.fill(0xa5, token * SLOT_BYTES, token * SLOT_BYTES + 2048);
    this.#free.push(token);
    this.#wake();
  }

  hasRoom(): boolean {
    if (this.room === 0) this.#drainAsked = true;
    return this.room > 0;
  }

  send(frame: Frame): boolean {
    if (this.closed) throw new Error("send into a closed TAP");
    if (!this.hasRoom()) return false;
    this.room--;
    this.sent.push(tell(frame));
    return true;
  }

  setCarrier(up: boolean): void {
    this.carrier = up;
  }

  async setMtu(mtu: number): Promise<void> {
    this.mtuWishes.push(mtu);
    if (this.mtuRefusal !== undefined) throw this.mtuRefusal;
    this.change({ mtu });
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  #wake(): void {
    if (!this.#armed || this.#waiting.length === 0 || this.#free.length === 0) return;
    this.#armed = false;
    this.onFrames?.();
  }
}

/** A copy of a frame and its facts. */
export const tell = (frame: Frame): Told => ({ bytes: bytesOf(frame), facts: factsOf(frame) });
