/**
 * One epoll set for the descriptors of the data path, and the turns in which their handlers run.
 *
 *   turn:  wait ──► handlers that asked to run again ──► handlers of the ready descriptors ──► `soon`
 *
 * A turn ends after TURN_MS, and the rest has the next one. After such a turn the handlers run in the
 * order of the time that they have used: a descriptor with little work does not wait for those that
 * always have more, however many they are.
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
/** Time (ms) after which a turn begins no further handler. */
const TURN_MS = 1;
/** Time (ms) in which the time that a handler has used counts for 1/e. */
const MEMORY_MS = 100;
/**
 * Words of struct epoll_event: events u32, data u64. On x86-64 it is packed (linux: eventpoll.h).
 * The data are the descriptor.
 */
const DATA_AT = process.arch === "x64" ? 1 : 2;
const EVENT_WORDS = DATA_AT + 2;

/** The data of an event that belongs to no watch. */
const FOREIGN = 0xffff_ffff;

/** Returns a struct epoll_event that belongs to no watch. */
export function newEvent(events: number): Uint32Array {
  const event = new Uint32Array(EVENT_WORDS);
  event[0] = events;
  event[DATA_AT] = FOREIGN;
  return event;
}

/** A watched descriptor. */
export interface Watch {
  /** Changes the events that are waited for (sys.EPOLLIN, sys.EPOLLOUT). */
  want(events: number): void;
  /** Calls the handler again in the next turn, with 0 events, and without a wait before it. */
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
  readonly onReady: OnReady;
  #events: number;
  /** True while the watch is in the list `due` of its reactor. */
  isDue = false;
  /** True while the watch is in the list of those whose handler is to run. */
  isReady = false;
  /** The calls that this handler is to have: without events, and with these. */
  callsAgain = false;
  calledFor = 0;
  /** Time (ms) that the handler has used, at the time `#usedAt`. It fades with MEMORY_MS. */
  #used: number;
  #usedAt: number;
  closed = false;

  constructor(reactor: Reactor, fd: number, events: number, onReady: OnReady, used: number) {
    this.#reactor = reactor;
    this.fd = fd;
    this.#events = events;
    this.onReady = onReady;
    this.#used = used;
    this.#usedAt = performance.now();
  }

  usedMs(now: number): number {
    return this.#used * Math.exp((this.#usedAt - now) / MEMORY_MS);
  }

  /** Counts `ms` that the handler has used up to `now`. */
  charge(ms: number, now: number): void {
    this.#used = this.usedMs(now) + ms;
    this.#usedAt = now;
  }

  /** Calls the handler for all that has happened. */
  call(): void {
    const events = this.calledFor;
    this.isReady = false;
    this.calledFor = 0;
    if (this.callsAgain) {
      this.callsAgain = false;
      if (!this.closed) this.onReady(0);
    }
    if (events !== 0 && !this.closed) this.onReady(events);
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
  /** Watches whose handlers run in the next turn. For WatchedFd. */
  due: WatchedFd[] = [];
  readonly times = new TurnTimes();
  /** Number of the present turn. */
  turn = 0;
  readonly #epoll: number;
  readonly #waiter: Waiter;
  readonly #watches = new Map<number, WatchedFd>();
  readonly #events = new Uint32Array(MAX_EVENTS * EVENT_WORDS);
  readonly #address = sys.addressOf(this.#events);
  /** Watches whose handlers are to run. Those that the last turn did not reach come first. */
  readonly #ready: WatchedFd[] = [];
  /** True when the last turn has used its time. */
  #isCrowded = false;
  /** Most time (ms) that a handler had used when the last crowded turn began. */
  #most = 0;
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
    // A new watch begins behind the others. Otherwise a peer could have all turns with new connections.
    const used = this.#isCrowded ? this.#most : 0;
    const watch = new WatchedFd(this, fd, events, onReady, used);
    this.control(sys.EPOLL_CTL_ADD, watch, events);
    this.#watches.set(fd, watch);
    if (this.#watches.size === 1) this.#waiter.start(this.#run);
    return watch;
  }

  control(op: number, { fd }: { fd: number }, events: number): void {
    const event = newEvent(events);
    event[DATA_AT] = fd;
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
    return this.due.length > 0 || this.#ready.length > 0 || this.#soon.length > 0;
  }

  /** True while something is watched. */
  get isActive(): boolean {
    return this.#watches.size > 0;
  }

  /**
   * Calls `run` behind the handlers of this turn. A callback of `soon` that calls `soon` has its
   * callback in the next turn. For a reactor that is active.
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
      if (n < 2 && this.due.length === 0 && this.#ready.length === 0) {
        // Most turns have one event. They need no order, and no clock.
        const watch = n === 1 ? this.#watchOf(0) : undefined;
        isForeign = n === 1 && watch === undefined;
        watch?.onReady(this.#events[0]!);
        // A handler that has more work has used its time.
        this.#isCrowded = this.due.length > 0;
        if (this.#isCrowded) watch?.charge(TURN_MS, began);
      } else isForeign = this.#runMany(n, began);
      if (this.#soon.length > 0) this.#runSoon();
    } finally {
      if (this.#watches.size > 0) this.#waiter.turned(this.isDue);
      else this.times.rest();
    }
    return isForeign;
  }

  #watchOf(i: number): WatchedFd | undefined {
    return this.#watches.get(this.#events[i * EVENT_WORDS + DATA_AT]!);
  }

  /** Runs a turn with several handlers. Returns true when an event belonged to no watch. */
  #runMany(n: number, began: number): boolean {
    let isForeign = false;
    for (const watch of this.due) {
      watch.isDue = false;
      watch.callsAgain = true;
      this.#add(watch);
    }
    this.due.length = 0;
    for (let i = 0; i < n; i++) {
      const watch = this.#watchOf(i);
      if (watch === undefined) isForeign = true;
      else {
        watch.calledFor |= this.#events[i * EVENT_WORDS]!;
        this.#add(watch);
      }
    }
    this.#runReady(began);
    return isForeign;
  }

  #add(watch: WatchedFd): void {
    if (watch.isReady) return;
    watch.isReady = true;
    this.#ready.push(watch);
  }

  /** Calls handlers until the turn's time is used. */
  #runReady(began: number): void {
    const ready = this.#ready;
    // The index of the first handler that has used about as much as the others, or more.
    let heavy = -1;
    if (this.#isCrowded && ready.length > 1) {
      ready.sort((a, b) => a.usedMs(began) - b.usedMs(began));
      const used = ready.map((watch) => watch.usedMs(began));
      const mean = used.reduce((sum, ms) => sum + ms) / used.length;
      this.#most = used.at(-1)!;
      heavy = used.findIndex((ms) => ms > mean / 2);
    }
    let now = began;
    let called = 0;
    try {
      while (called < ready.length && now - began < TURN_MS) {
        // What the light ones have to send does not wait for the heavy ones.
        if (called === heavy && this.#soon.length > 0) this.#runSoon();
        const watch = ready[called++]!;
        watch.call();
        const ended = performance.now();
        watch.charge(ended - now, ended);
        now = ended;
      }
    } finally {
      if (called === ready.length) ready.length = 0;
      else ready.splice(0, called);
    }
    this.#isCrowded = now - began >= TURN_MS;
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
