/**
 * Waits in the main thread, in place of libuv. libuv offers all parts for programs that embed its
 * loop in another one (libuv: docs/src/loop.rst, uv_backend_fd): the descriptor that is readable
 * when libuv has work, and the time until its next timer.
 *
 *   libuv's turn:  timers ─► poll, without a wait ─► immediates ─► our turns ─┐
 *        ▲                                     Reactor.turn ─► promises ─┐    │
 *        │                                          ▲                    │    │
 *        │                                          └─ libuv has no work ┤    │
 *        └──────────────────────────────────────────── libuv has work ───┴────┘
 *
 * An idle handle of ours keeps libuv from waiting in its own poll. It rests during our turns, so that
 * uv_backend_timeout tells whether anything else is due: an immediate, a watcher that libuv has not
 * put into its set yet, a closing handle, a timer.
 *
 * Between two turns of ours, promises and next ticks run by the function that Node itself calls
 * between two immediates (node: lib/internal/process/task_queues.js, runNextTicks). Where Node does
 * not offer it, libuv has its turn after each of ours.
 */
import koffi from "koffi";
import { newEvent, type RunTurn, type Waiter } from "./reactor.ts";
import * as sys from "./sys.ts";

type Pointer = unknown;
const library = koffi.load(null);

/** Returns a function of libuv. Throws when this Node does not export it. */
const uv = <A extends unknown[], R>(prototype: string): ((...args: A) => R) =>
  library.func(prototype) as unknown as (...args: A) => R;

/** libuv: include/uv.h, uv_handle_type. */
const UV_IDLE = 6;
/** Longest interval of a timer. It keeps the process alive while something is watched. */
const FOR_EVER_MS = 0x7fff_ffff;
/** A wait ends after this time (ms) at the latest. */
const LONGEST_WAIT_MS = 1000;

// The functions of this moment: a test may replace the global ones by a clock of its own.
const { setImmediate, setInterval, clearInterval, queueMicrotask } = globalThis;

/** Runs promises and next ticks. Undefined where Node does not offer it. */
const nodesTick = (process as { _tickCallback?: () => void })._tickCallback;

/** Returns whether `tick` runs a promise and a next tick before it returns. */
function drains(tick: () => void): boolean {
  let ran = 0;
  const count = (): void => void ran++;
  queueMicrotask(count);
  process.nextTick(count);
  tick();
  return ran === 2;
}

export class EmbeddedWaiter implements Waiter {
  readonly #timeout: (loop: Pointer) => number;
  readonly #updateTime: (loop: Pointer) => void;
  readonly #start: (handle: Pointer, callback: Pointer) => number;
  readonly #stop: (handle: Pointer) => number;
  readonly #loop: Pointer;
  readonly #idle: Pointer;
  /** A function of libuv that does nothing with a handle: the callback of the idle handle. */
  readonly #nothing: Pointer;
  #turn: RunTurn = () => true;
  /** Set while something is watched. */
  #keepAlive: NodeJS.Timeout | undefined;
  #isScheduled = false;
  #isRunning = false;
  #tick: (() => void) | undefined = nodesTick;
  #isTickTried = false;
  readonly #run = (): void => {
    this.#isScheduled = false;
    if (this.#keepAlive === undefined) return;
    this.#stop(this.#idle);
    this.#isRunning = true;
    try {
      this.#turns();
    } finally {
      this.#isRunning = false;
      if (this.#keepAlive !== undefined) this.turned();
    }
  };

  /** Adds libuv's descriptor to `epoll`. Throws when this process's libuv is not as expected. */
  constructor(epoll: number) {
    this.#timeout = uv("int uv_backend_timeout(void *loop)");
    this.#updateTime = uv("void uv_update_time(void *loop)");
    this.#start = uv("int uv_idle_start(void *handle, void *callback)");
    this.#stop = uv("int uv_idle_stop(void *handle)");
    this.#loop = uv<[], Pointer>("void *uv_default_loop()")();
    const size = uv<[type: number], number>("size_t uv_handle_size(int type)")(UV_IDLE);
    const init = uv<[loop: Pointer, handle: Pointer], number>(
      "int uv_idle_init(void *loop, void *handle)",
    );
    const symbol = uv<[library: null, name: string], Pointer>(
      "void *dlsym(void *library, const char *name)",
    );
    const idle = koffi.alloc("uint8_t", size) as Pointer;
    const nothing = symbol(null, "uv_handle_get_loop");
    const backend = uv<[loop: Pointer], number>("int uv_backend_fd(void *loop)")(this.#loop);
    if (nothing === null || backend < 0 || init(this.#loop, idle) !== 0) {
      throw new Error("libuv's loop can't be embedded");
    }
    this.#nothing = nothing;
    this.#idle = idle;
    this.#start(this.#idle, this.#nothing);
    const isBusy = this.#timeout(this.#loop) === 0;
    this.#stop(this.#idle);
    if (!isBusy) throw new Error("libuv's loop does not know its idle handle");
    // The event itself is ignored. It only ends the wait.
    if (sys.epollCtl(epoll, sys.EPOLL_CTL_ADD, backend, newEvent(sys.EPOLLIN)) !== 0) {
      throw new Error(`libuv's descriptor can't be watched: errno ${sys.errno()}`);
    }
  }

  start(turn: RunTurn): void {
    this.#turn = turn;
    this.#keepAlive = setInterval(() => {}, FOR_EVER_MS);
    this.turned();
  }

  /** Runs turns of the reactor until libuv has work. */
  #turns(): void {
    let ms = this.#timeUntilLibuv();
    do {
      const isLibuvReady = this.#turn(ms);
      if (isLibuvReady || !this.#drain()) return;
      // A timer counts from libuv's time, which stands still between its turns.
      this.#updateTime(this.#loop);
      ms = this.#timeUntilLibuv();
    } while (ms > 0);
  }

  /** Returns the time (ms) until libuv has work, 0 when it has. */
  #timeUntilLibuv(): number {
    const ms = this.#timeout(this.#loop);
    return ms < 0 ? LONGEST_WAIT_MS : Math.min(ms, LONGEST_WAIT_MS);
  }

  /** Runs promises and next ticks. Returns false where libuv's turn must do it. */
  #drain(): boolean {
    if (this.#tick === undefined || this.#keepAlive === undefined) return false;
    if (this.#isTickTried) this.#tick();
    else {
      this.#isTickTried = true;
      if (!drains(this.#tick)) this.#tick = undefined;
    }
    return this.#tick !== undefined && this.#keepAlive !== undefined;
  }

  turned(): void {
    if (this.#isRunning || this.#isScheduled) return;
    this.#start(this.#idle, this.#nothing);
    this.#isScheduled = true;
    // Unreferenced, so that libuv's idle handle for immediates counts those of others only.
    setImmediate(this.#run).unref();
  }

  stop(): void {
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
    this.#stop(this.#idle);
  }
}
