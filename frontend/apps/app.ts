/**
 * The base of every netmap application here, in any thread: its ports, its counters, which other
 * threads read while it works, and the word that stops it.
 *
 *   thread of the command                     thread of the application (the same, or a worker)
 *   Counts  ◄──────────── shared memory ───────────  adds
 *   Control.stop() ────── shared memory ──────────►  isStopped, sleep
 */
import { Poll } from "../netmap/flags.ts";
import type { PortRings } from "../netmap/port.ts";

/** An open port: NmPort where it was opened, WorkerPort in a worker. */
export interface AppPort extends PortRings {
  /** Resolves to the Poll bits of `events` that hold, 0 after `timeoutMs`. */
  poll(events: number, timeoutMs: number): Promise<number>;
  txsync(): unknown;
  rxsync(): unknown;
}

const PACKETS = 0;
const BYTES = 1;
const EVENTS = 2;
const MIN_SPACE = 3;
const DROPS = 4;
const ERRORS = 5;
const BEGAN = 6;
const ENDED = 7;
const COUNTS = 8;

/** The value that pkt-gen prints while nothing is measured. */
export const NO_SPACE_SEEN = 99_999;

/**
 * Counters of one loop, in shared memory. The loop adds, and any thread may read. Only minSpace is
 * reset by its reader, once for each report. Numbers are integers below 2^53.
 */
export class Counts {
  readonly buffer: SharedArrayBuffer;
  readonly #n: Float64Array<SharedArrayBuffer>;

  constructor(buffer = new SharedArrayBuffer(COUNTS * Float64Array.BYTES_PER_ELEMENT)) {
    this.buffer = buffer;
    this.#n = new Float64Array(buffer);
    this.#n[MIN_SPACE] = NO_SPACE_SEEN;
  }

  get packets(): number {
    return this.#n[PACKETS]!;
  }
  get bytes(): number {
    return this.#n[BYTES]!;
  }
  /** Turns of the loop that moved packets. */
  get events(): number {
    return this.#n[EVENTS]!;
  }
  /** Packets dropped for want of room. */
  get drops(): number {
    return this.#n[DROPS]!;
  }
  /** Polls that returned Poll.ERR: the device was away or in a reset. */
  get errors(): number {
    return this.#n[ERRORS]!;
  }
  /** Milliseconds from begin to end, or to now. */
  get ms(): number {
    const began = this.#n[BEGAN]!;
    if (began === 0) return 0;
    return (this.#n[ENDED]! || clockMs()) - began;
  }
  get hasBegun(): boolean {
    return this.#n[BEGAN] !== 0;
  }

  add(packets: number, bytes: number): void {
    this.#n[PACKETS]! += packets;
    this.#n[BYTES]! += bytes;
    this.#n[EVENTS]! += 1;
  }
  addDrops(packets: number): void {
    this.#n[DROPS]! += packets;
  }
  addError(): void {
    this.#n[ERRORS]! += 1;
  }
  /** Smallest number of free slots of a ring. */
  sawSpace(slots: number): void {
    if (slots < this.#n[MIN_SPACE]!) this.#n[MIN_SPACE] = slots;
  }
  /** Returns the smallest number since the last call, and resets it. */
  takeMinSpace(): number {
    const least = this.#n[MIN_SPACE]!;
    this.#n[MIN_SPACE] = NO_SPACE_SEEN;
    return least;
  }
  begin(): void {
    this.#n[BEGAN] = clockMs();
  }
  /** `idleMs`: time without any packet before the end was noticed. */
  end(idleMs = 0): void {
    this.#n[ENDED] = clockMs() - idleMs;
  }
}

/** Milliseconds; comparable between the threads of a process. */
export const clockMs = (): number => performance.timeOrigin + performance.now();

/** Ends a loop from any thread. */
export class Control {
  readonly buffer: SharedArrayBuffer;
  readonly #stop: Int32Array<SharedArrayBuffer>;
  readonly #mayBlock: boolean;
  readonly #sleepers = new Set<() => void>();

  /** `mayBlock`: the thread may block while it sleeps, as in a worker. */
  constructor(buffer = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT), mayBlock = false) {
    this.buffer = buffer;
    this.#stop = new Int32Array(buffer);
    this.#mayBlock = mayBlock;
  }

  get isStopped(): boolean {
    return Atomics.load(this.#stop, 0) !== 0;
  }

  stop(): void {
    Atomics.store(this.#stop, 0, 1);
    Atomics.notify(this.#stop, 0);
    for (const wake of this.#sleepers) wake();
  }

  /** Resolves after `ms`, or when stopped. */
  async sleep(ms: number): Promise<void> {
    if (this.isStopped || ms <= 0) return;
    if (this.#mayBlock) {
      Atomics.wait(this.#stop, 0, 0, ms);
      return;
    }
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#sleepers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#sleepers.add(wake);
    });
  }
}

/** Time (ms) that a loop waits for a port before it checks whether it was stopped. */
export const LOOK_MS = 250;
/** Pause (ms) while a port is in error: its device is away or in a reset, and the rings stay open. */
const AWAY_MS = 20;

/** Waits for `events` and survives resets of the device. Returns 0 when the caller must check `control`. */
export async function waitFor(
  port: AppPort,
  events: number,
  counts: Counts,
  control: Control,
  timeoutMs = LOOK_MS,
): Promise<number> {
  const found = await port.poll(events, timeoutMs);
  if ((found & Poll.ERR) === 0) return found;
  counts.addError();
  await control.sleep(AWAY_MS);
  return found & ~Poll.ERR;
}

/** Resolves when all filled slots are sent, or the application is stopped. */
export async function drain(ports: readonly AppPort[], control: Control): Promise<void> {
  for (const port of ports) {
    const rings = port.txRings();
    for (;;) {
      port.txsync();
      if (control.isStopped || !rings.some((ring) => ring.isTxPending)) break;
      await control.sleep(1);
    }
  }
}
