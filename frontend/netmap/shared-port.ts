/**
 * Ports whose application lives in another thread.
 *
 *   application's thread                    data-path thread
 *   head, cur (Atomics)      ────────►      service(): looks at every such ring after each batch
 *   doorbell, if it is armed ────────►      arms the doorbell, looks again, sleeps (waitAsync)
 *   arms, looks again, sleeps on WAKE  ◄──  tail, then WAKE if armed
 *
 * Each side arms the other's wake-up before it sleeps, then looks again. That look sees every change
 * made before the arming, and every later change finds the word armed and wakes the sleeper.
 *
 * Words of a port's control block. (a) written by the application, (d) by the data path.
 *   WAKE    (d) counts wake-ups; the application sleeps on it
 *   ARMED   (a) sets it to the events it sleeps for; (d) takes it back and owes a wake-up
 *   ASKED   (a) adds events whose rings are to be synced even if nothing moved; (d) takes them
 *   ERRORS  (d) sets Poll.ERR; (a) takes it
 *   CLOSED  (d)
 */
import { setImmediate } from "node:timers/promises";
import { Poll, RegFlag, SyncFlag, Txrx } from "./flags.ts";
import type { Kring } from "./kring.ts";
import { type PortPlace, PortRings } from "./port.ts";
import type { Priv } from "./register.ts";
import { put, syncRing, Try, tryGet } from "./sync.ts";

const Word = { WAKE: 0, ARMED: 1, ASKED: 2, ERRORS: 3, CLOSED: 4 } as const;
const WORDS = 16;
// The doorbell, one for all ports.
const SEQ = 0;
const BELL_ARMED = 1;

/** The handle that `share` makes and `nmAttach` accepts. It may cross to another thread once. */
export interface PortHandle {
  readonly place: PortPlace;
  readonly control: SharedArrayBuffer;
  readonly doorbell: SharedArrayBuffer;
}

/** An answer of `#arm` beside Poll bits. */
const SLEEP = -1;
/** When a wait of `timeoutMs` is over; -1 ms has no end. */
export const endOf = (timeoutMs: number): number =>
  timeoutMs < 0 ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;

/** A port as its application sees it, in any thread but the data path's. */
export class WorkerPort extends PortRings {
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #bell: Int32Array<SharedArrayBuffer>;

  constructor(handle: PortHandle) {
    super(handle.place);
    this.#control = new Int32Array(handle.control);
    this.#bell = new Int32Array(handle.doorbell);
  }

  /** True once the port was closed by the thread that opened it. */
  get isClosed(): boolean {
    return Atomics.load(this.#control, Word.CLOSED) !== 0;
  }

  /** Asks for a sync of the transmit rings. Returns at once: the data path does it soon. */
  txsync(): void {
    this.#ask(Poll.OUT);
  }
  /** Likewise for the receive rings. */
  rxsync(): void {
    this.#ask(Poll.IN);
  }

  #ask(events: number): void {
    Atomics.or(this.#control, Word.ASKED, events);
    // Only a sleeper needs the bell; one that is awake looks by itself.
    if (Atomics.compareExchange(this.#bell, BELL_ARMED, 1, 0) !== 1) return;
    Atomics.add(this.#bell, SEQ, 1);
    Atomics.notify(this.#bell, SEQ);
  }

  /**
   * Blocks this thread until one of `events` (Poll bits) holds, `timeoutMs` are over (-1: never),
   * or the port is in error. Returns the events that hold; 0 at the end of the time.
   */
  pollSync(events: number, timeoutMs: number): number {
    const end = endOf(timeoutMs);
    for (;;) {
      const seq = Atomics.load(this.#control, Word.WAKE);
      const found = this.#arm(events, end);
      if (found !== SLEEP) return found;
      Atomics.wait(this.#control, Word.WAKE, seq, end - performance.now());
    }
  }

  /** The same without blocking. */
  async poll(events: number, timeoutMs: number): Promise<number> {
    const end = endOf(timeoutMs);
    for (;;) {
      const seq = Atomics.load(this.#control, Word.WAKE);
      const found = this.#arm(events, end);
      if (found !== SLEEP) return found;
      const sleep = Atomics.waitAsync(this.#control, Word.WAKE, seq, end - performance.now());
      if (sleep.async) await sleep.value;
    }
  }

  /** The events that hold, 0 at the end of the time, or SLEEP: the wake-up is asked for. */
  #arm(events: number, end: number): number {
    const now = this.#look(events);
    if (now !== 0) {
      // Filled slots go out and read ones go back even when nobody has to wait.
      this.#ask(0);
      return now;
    }
    Atomics.store(this.#control, Word.ARMED, events | Poll.ERR);
    this.#ask(events);
    const again = this.#look(events);
    if (again === 0 && performance.now() < end) return SLEEP;
    Atomics.store(this.#control, Word.ARMED, 0);
    return again;
  }

  #look(events: number): number {
    const errors = Atomics.exchange(this.#control, Word.ERRORS, 0);
    if (errors !== 0 || this.isClosed) return Poll.ERR;
    return this.ready(events);
  }
}

/** A shared port as the data path sees it. */
export class SharedPort {
  readonly handle: PortHandle;
  readonly #priv: Priv;
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #hub: SharedPorts;
  readonly #krings: readonly [Kring[], Kring[]];
  #isNotified = true;
  /** Watches every ring. */
  readonly #notified = (): void => {
    this.#isNotified = true;
    this.#hub.schedule();
  };

  constructor(priv: Priv, place: PortPlace, hub: SharedPorts) {
    const control = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT);
    this.handle = { place, control, doorbell: hub.doorbell };
    this.#priv = priv;
    this.#control = new Int32Array(control);
    this.#hub = hub;
    this.#krings = [priv.selected(Txrx.RX), priv.selected(Txrx.TX)];
    for (const krings of this.#krings)
      for (const kring of krings) kring.si.watchers.add(this.#notified);
  }

  close(): void {
    for (const krings of this.#krings)
      for (const kring of krings) kring.si.watchers.delete(this.#notified);
    Atomics.store(this.#control, Word.CLOSED, 1);
    this.#wake();
  }

  /** Syncs what moved, was asked for, or has news; wakes the application. True when it did any. */
  service(): boolean {
    const { na } = this.#priv;
    if (na === undefined) return false;
    const asked = Atomics.exchange(this.#control, Word.ASKED, 0);
    const isNotified = this.#isNotified;
    this.#isNotified = false;
    let errors = na.isOn ? 0 : Poll.ERR;
    let some = false;
    const noTx = (this.#priv.flags & RegFlag.NO_TX_POLL) !== 0;
    for (const t of [Txrx.TX, Txrx.RX]) {
      const krings = this.#krings[t];
      const wanted = t === Txrx.TX ? Poll.OUT : Poll.IN;
      const flags =
        this.#priv.ranges.syncFlags |
        (t === Txrx.TX ? SyncFlag.FORCE_RECLAIM : SyncFlag.FORCE_READ);
      for (let i = 0; i < krings.length; i++) {
        const kring = krings[i]!;
        const ring = kring.ring;
        if (ring === undefined) continue;
        const isAsked = (asked & wanted) !== 0;
        const isMoved = ring.head !== kring.rhead || ring.cur !== kring.rcur;
        if (!isAsked && !isNotified && (!isMoved || (t === Txrx.TX && noTx))) continue;
        const got = tryGet(kring);
        if (got !== Try.GOT) {
          if (got === Try.STOPPED) errors |= Poll.ERR;
          else this.#isNotified = true;
          continue;
        }
        errors |= syncRing(kring, flags);
        // As in poll: slots that this sync gave back may have been filled by now.
        if (isMoved && kring.rcur === kring.rtail) errors |= syncRing(kring, flags);
        put(kring);
        some = true;
      }
    }
    if (errors !== 0) Atomics.or(this.#control, Word.ERRORS, errors);
    const armed = Atomics.load(this.#control, Word.ARMED);
    if (armed !== 0 && (errors !== 0 || this.#isReady(armed))) this.#wake();
    return some;
  }

  /** True when an event for which the application sleeps has come: slots are ready beyond cur. */
  #isReady(events: number): boolean {
    for (const t of [Txrx.TX, Txrx.RX]) {
      if ((events & (t === Txrx.TX ? Poll.OUT : Poll.IN)) === 0) continue;
      const krings = this.#krings[t];
      for (let i = 0; i < krings.length; i++) if (krings[i]!.rcur !== krings[i]!.rtail) return true;
    }
    return false;
  }

  #wake(): void {
    Atomics.store(this.#control, Word.ARMED, 0);
    Atomics.add(this.#control, Word.WAKE, 1);
    Atomics.notify(this.#control, Word.WAKE);
  }
}

/** All shared ports of a process, their doorbell, and the loop that answers it. */
export class SharedPorts {
  readonly doorbell = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT);
  readonly #bell = new Int32Array(this.doorbell);
  readonly #ports: SharedPort[] = [];
  #isScheduled = false;
  #isRunning = false;

  share(priv: Priv, place: PortPlace): SharedPort {
    const port = new SharedPort(priv, place, this);
    this.#ports.push(port);
    if (!this.#isRunning) void this.#run();
    return port;
  }

  unshare(port: SharedPort): void {
    const i = this.#ports.indexOf(port);
    if (i < 0) return;
    this.#ports.splice(i, 1);
    port.close();
    Atomics.add(this.#bell, SEQ, 1);
    Atomics.notify(this.#bell, SEQ);
  }

  /** A ring of some port was notified: look once the work at hand is done, after the batch. */
  schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.service();
    });
  }

  /** Looks at every ring of every shared port. True when something was synced. */
  service(): boolean {
    let some = false;
    for (let i = 0; i < this.#ports.length; i++) if (this.#ports[i]!.service()) some = true;
    return some;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#ports.length > 0) {
      const seq = Atomics.load(this.#bell, SEQ);
      this.service();
      Atomics.store(this.#bell, BELL_ARMED, 1);
      // Whoever moved a ring before it could see the bell armed is found here.
      if (this.service()) {
        Atomics.store(this.#bell, BELL_ARMED, 0);
        // The link has its turn before the next look.
        await setImmediate();
        continue;
      }
      const sleep = Atomics.waitAsync(this.#bell, SEQ, seq);
      if (sleep.async) await sleep.value;
      else await setImmediate();
    }
    this.#isRunning = false;
  }
}
