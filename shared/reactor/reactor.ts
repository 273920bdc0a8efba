/**
 * One epoll set for the descriptors of the data path, and the turns in which their handlers run.
 *
 *   turn:  wait ──► handlers of ready descriptors ──► `soon` ──► handlers with more to do ──► `soon`
 *
 * The handlers of ready descriptors all run. Of those that have more to do, a turn runs one, and others
 * until TURN_MS have passed. So a descriptor with little work does not wait for those that always have
 * more, however many they are.
 *
 * A `Waiter` decides when a turn runs, and where the thread waits: inside the turn (EmbeddedWaiter),
 * or in a helper thread (HelperWaiter).
 */
import * as sys from "./sys.ts";
import { TurnTimes } from "./turn-times.ts";

// The function of this moment: a test may replace the global one by a clock of its own.
const { setImmediate } = globalThis;

/** Most descriptors of one turn. Others that are ready have the next turn. */
const MAX_EVENTS = 256;
/** Time (ms) after which a turn runs no further handler that has more to do. */
const TURN_MS = 1;
/**
 * Words of struct epoll_event: events u32, data u64. On x86-64 it is packed (linux: eventpoll.h).
 * The data are the descriptor and the serial number of its watch.
 */
const DATA_AT = process.arch === "x64" ? 1 : 2;
const EVENT_WORDS = DATA_AT + 2;

/** Returns a struct epoll_event without data: no watch has its serial number. */
export function newEvent(events: number): Uint32Array {
  const event = new Uint32Array(EVENT_WORDS);
  event[0] = events;
  return event;
}

/** A watched descriptor. */
export interface Watch {
  /** Changes the events that are waited for (sys.EPOLLIN, sys.EPOLLOUT). */
  want(events: number): void;
  /** Calls the handler again in a later turn, in order, with 0 events, and without a wait before it. */
  again(): void;
  /** Ends the watch. The handler is not called any more. The descriptor stays open. */
  close(): void;
  readonly closed: boolean;
}

/** Called with the events of a turn. It works for a bounded time, and asks for the rest by `again`. */
export type OnReady = (events: number) => void;

/** A turn that waits for at most `ms`. Returns true when an event belonged to no watch. */
export type RunTurn = (ms: number) => boolean;

export interface Waiter {
  /** Called when the first watch begins. From then on the waiter calls `turn`. */
  start(turn: RunTurn): void;
  /** Called at the end of a turn. `isDue` is true when handlers asked to run again. */
  turned(isDue: boolean): void;
  /** Called when the last watch has ended. */
  stop(): void;
}

class WatchedFd implements Watch {
  readonly #reactor: Reactor;
  readonly fd: number;
  /** Tells this watch from an earlier one of the same descriptor. */
  readonly serial: number;
  readonly onReady: OnReady;
  #events: number;
  isDue = false;
  closed = false;

  constructor(reactor: Reactor, fd: number, serial: number, events: number, onReady: OnReady) {
    this.#reactor = reactor;
    this.fd = fd;
    this.serial = serial;
    this.#events = events;
    this.onReady = onReady;
  }

  want(events: number): void {
    if (events === this.#events || this.closed) return;
    this.#events = events;
    this.#reactor.control(sys.EPOLL_CTL_MOD, this, events);
  }

  again(): void {
    if (this.isDue || this.closed) return;
    this.isDue = true;
    this.#reactor.due.push(this);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#reactor.forget(this);
  }
}

export class Reactor {
  /** Watches whose handlers have more to do, in order. For WatchedFd. */
  readonly due: WatchedFd[] = [];
  readonly times = new TurnTimes();
  /** Number of the present turn. */
  turn = 0;
  readonly #epoll: number;
  readonly #waiter: Waiter;
  readonly #watches = new Map<number, WatchedFd>();
  readonly #events = new Uint32Array(MAX_EVENTS * EVENT_WORDS);
  readonly #address = sys.addressOf(this.#events);
  #serial = 0;
  #soon: (() => void)[] = [];
  #spareSoon: (() => void)[] = [];
  readonly #run: RunTurn = (ms) => this.#runTurn(ms);

  /** `epoll` is a descriptor of epoll_create1. Events of descriptors without a watch are ignored. */
  constructor(epoll: number, waiter: Waiter) {
    this.#epoll = epoll;
    this.#waiter = waiter;
  }

  /** Watches `fd`, level-triggered. Errors and hang-ups are always reported. */
  watch(fd: number, events: number, onReady: OnReady): Watch {
    const watch = new WatchedFd(this, fd, ++this.#serial, events, onReady);
    this.control(sys.EPOLL_CTL_ADD, watch, events);
    this.#watches.set(fd, watch);
    if (this.#watches.size === 1) this.#waiter.start(this.#run);
    return watch;
  }

  control(op: number, { fd, serial }: { fd: number; serial: number }, events: number): void {
    const event = newEvent(events);
    event[DATA_AT] = fd;
    event[DATA_AT + 1] = serial;
    if (sys.epollCtl(this.#epoll, op, fd, event) !== 0) {
      throw new Error(`epoll_ctl(${op}) of descriptor ${fd}: errno ${sys.errno()}`);
    }
  }

  forget(watch: WatchedFd): void {
    this.control(sys.EPOLL_CTL_DEL, watch, 0);
    this.#watches.delete(watch.fd);
    if (this.#watches.size > 0) return;
    this.#waiter.stop();
    for (const run of this.#soon.splice(0)) setImmediate(run);
  }

  /** True while a handler or a callback waits for the next turn. */
  get isDue(): boolean {
    return this.due.length > 0 || this.#soon.length > 0;
  }

  /** True while something is watched. */
  get isActive(): boolean {
    return this.#watches.size > 0;
  }

  /**
   * Calls `run` behind the handlers of this turn. A callback of `soon` that calls `soon` has its
   * callback later, mostly in the next turn. For a reactor that is active.
   */
  soon(run: () => void): void {
    this.#soon.push(run);
  }

  #runTurn(ms: number): boolean {
    let isForeign = false;
    this.turn++;
    this.times.ended(performance.now());
    const n = sys.epollWait(this.#epoll, this.#address, MAX_EVENTS, this.isDue ? 0 : ms);
    const began = performance.now();
    this.times.began(began);
    try {
      // Those that ask for more in this turn stand behind those of earlier turns.
      const due = this.due.length;
      for (let i = 0; i < n; i++) {
        const at = i * EVENT_WORDS;
        const watch = this.#watches.get(this.#events[at + DATA_AT]!);
        if (watch !== undefined && watch.serial === this.#events[at + DATA_AT + 1]) {
          watch.onReady(this.#events[at]!);
        } else {
          // An earlier handler of this turn may have ended the watch.
          isForeign = true;
        }
      }
      if (this.#soon.length > 0) this.#runSoon();
      if (due > 0) {
        this.#runDue(due, began);
        if (this.#soon.length > 0) this.#runSoon();
      }
    } finally {
      if (this.#watches.size > 0) this.#waiter.turned(this.isDue);
      else this.times.rest();
    }
    return isForeign;
  }

  /** Runs the first of `most` handlers that have more to do, and others while the turn has time. */
  #runDue(most: number, began: number): void {
    let called = 0;
    try {
      do {
        const watch = this.due[called++]!;
        watch.isDue = false;
        if (!watch.closed) watch.onReady(0);
      } while (called < most && performance.now() - began < TURN_MS);
    } finally {
      this.due.splice(0, called);
    }
  }

  #runSoon(): void {
    const soon = this.#soon;
    this.#soon = this.#spareSoon;
    for (let i = 0; i < soon.length; i++) soon[i]!();
    soon.length = 0;
    this.#spareSoon = soon;
  }
}

/** Opens an epoll set. Throws with the errno when the system refuses. */
export function openEpoll(): number {
  const epoll = sys.epollCreate(sys.O_CLOEXEC);
  if (epoll < 0) throw new Error(`epoll_create1: errno ${sys.errno()}`);
  return epoll;
}
