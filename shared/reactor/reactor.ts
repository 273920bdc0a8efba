/**
 * One epoll set for the descriptors of the data path, and the turns in which their handlers run.
 *
 *   turn:  wait ──► handlers of the ready descriptors ──► handlers that asked to run again
 *
 * A `Waiter` decides when a turn runs, and where the thread waits: inside the turn (EmbeddedWaiter),
 * or in a helper thread (HelperWaiter).
 */
import * as sys from "./sys.ts";
import { TurnTimes } from "./turn-times.ts";

/** Most descriptors of one turn. Others that are ready have the next turn. */
const MAX_EVENTS = 256;
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
  /** Calls the handler again in the next turn, with 0 events, and without a wait before it. */
  again(): void;
  /** Ends the watch. The handler is not called any more. The descriptor stays open. */
  close(): void;
  readonly closed: boolean;
}

/** Called with the events of a turn. It works for a bounded time, and asks for the rest by `again`. */
export type OnReady = (events: number) => void;

export interface Waiter {
  /** Called when the first watch begins. From then on the waiter calls `turn`. */
  start(turn: () => void): void;
  /** Returns the time (ms) that a turn may wait; 0 for none, -1 for any. */
  timeout(): number;
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
  #serial = 0;
  #spare: WatchedFd[] = [];
  readonly #run = (): void => this.#runTurn();

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
    if (this.#watches.size === 0) this.#waiter.stop();
  }

  /** Waits, then calls the handlers. */
  #runTurn(): void {
    this.turn++;
    this.times.ended(performance.now());
    const ms = this.due.length > 0 ? 0 : this.#waiter.timeout();
    const n = sys.epollWait(this.#epoll, this.#address, MAX_EVENTS, ms);
    this.times.began(performance.now());
    try {
      this.#runDue();
      for (let i = 0; i < n; i++) {
        const at = i * EVENT_WORDS;
        const watch = this.#watches.get(this.#events[at + DATA_AT]!);
        // An earlier handler of this turn may have ended the watch.
        if (watch === undefined || watch.serial !== this.#events[at + DATA_AT + 1]) continue;
        watch.onReady(this.#events[at]!);
      }
    } finally {
      if (this.#watches.size > 0) this.#waiter.turned(this.due.length > 0);
      else this.times.rest();
    }
  }

  #runDue(): void {
    if (this.due.length === 0) return;
    const due = this.due;
    this.due = this.#spare;
    for (const watch of due) {
      watch.isDue = false;
      if (!watch.closed) watch.onReady(0);
    }
    due.length = 0;
    this.#spare = due;
  }
}

/** Opens an epoll set. Throws with the errno when the system refuses. */
export function openEpoll(): number {
  const epoll = sys.epollCreate(sys.O_CLOEXEC);
  if (epoll < 0) throw new Error(`epoll_create1: errno ${sys.errno()}`);
  return epoll;
}
