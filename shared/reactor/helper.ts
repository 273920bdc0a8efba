/**
 * Waits in a helper thread, where libuv's loop can't be embedded: in worker threads, and when the
 * user wants the portable path. A turn costs a message of the helper. TAPs wait so, because libuv
 * can't poll their descriptors.
 *
 *   main: turn, without a wait ─► arm ─┐             ┌─► message ─► turn
 *   helper:                            └► epoll_wait ┘
 */
import { readSync, writeSync } from "node:fs";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { newEvent, type RunTurn, type Waiter } from "./reactor.ts";
import * as sys from "./sys.ts";

const WORKER = new URL(`./wait-worker${extname(import.meta.url)}`, import.meta.url);

/** Values of the word that both threads share. */
export const Phase = {
  /** The helper sleeps until the word changes. */
  RESTING: 0,
  /** The helper waits for the epoll set, and sends one message when something is ready. */
  WAITING: 1,
  /** The helper ends. */
  OVER: 2,
} as const;

export interface WaitWorkerData {
  readonly epoll: number;
  readonly word: Int32Array<SharedArrayBuffer>;
}

const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

export class HelperWaiter implements Waiter {
  readonly #epoll: number;
  /** An eventfd in the epoll set that ends a wait of the helper. */
  readonly #wake = sys.eventfd(0, sys.O_CLOEXEC);
  /** True when `stop` has written to the eventfd. */
  #isAwake = false;
  /** Of the current helper. An earlier one may not have ended yet. */
  #word = new Int32Array(new SharedArrayBuffer(4));
  #worker: Worker | undefined;
  #turn: () => void = () => {};
  // No other thread can end a thread inside epoll_wait, and process.exit waits for that thread.
  readonly #onExit = (): void => this.stop();

  constructor(epoll: number) {
    this.#epoll = epoll;
    sys.epollCtl(epoll, sys.EPOLL_CTL_ADD, this.#wake, newEvent(sys.EPOLLIN));
  }

  start(turn: RunTurn): void {
    this.#turn = () => void turn(0);
    if (this.#isAwake) readSync(this.#wake, new Uint8Array(8));
    this.#isAwake = false;
    this.#word = new Int32Array(new SharedArrayBuffer(4));
    this.#set(Phase.WAITING);
    const workerData: WaitWorkerData = { epoll: this.#epoll, word: this.#word };
    this.#worker = new Worker(WORKER, { name: "reactor", workerData });
    this.#worker.on("message", this.#turn);
    process.on("exit", this.#onExit);
  }

  turned(isDue: boolean): void {
    if (this.#worker === undefined) return;
    if (isDue) setImmediate(this.#turn);
    else this.#set(Phase.WAITING);
  }

  stop(): void {
    if (this.#worker === undefined) return;
    process.off("exit", this.#onExit);
    this.#worker.removeAllListeners("message");
    this.#worker = undefined;
    this.#set(Phase.OVER);
    writeSync(this.#wake, ONE);
    this.#isAwake = true;
  }

  #set(phase: number): void {
    Atomics.store(this.#word, 0, phase);
    Atomics.notify(this.#word, 0);
  }
}
