/**
 * The data path's side of the kernel's TAP device. It moves frames in and out of shared slots, while
 * a worker makes the system calls. README.md has a drawing.
 */
import { closeSync, writeSync } from "node:fs";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { Logger } from "../log.ts";
import { type Frame, MAX_FRAME_BYTES } from "../net/frame.ts";
import { checkPlatform, checkTapName, errnoText, TapError } from "./errors.ts";
import {
  type Opened,
  type TapLink,
  type TapReport,
  type TapRequest,
  type TapWorkerData,
  Wake,
} from "./messages.ts";
import {
  ahead,
  Count,
  DEFAULT_SLOTS,
  FRAME_AT,
  HEADER_AT,
  sharedNow,
  TapRings,
  Word,
} from "./rings.ts";
import { readVnetHeader, VNET_HEADER_BYTES, writeVnetHeader } from "./vnet-header.ts";

const WORKER = new URL(`./tap-worker${extname(import.meta.url)}`, import.meta.url);
/** Size of the groups in which frames are published, so that the worker starts before a burst ends. */
const PUBLISH_EVERY = 16;
/** Slots returned between two wake-ups of a starved worker; see `release`. */
const REFEED = 32;
const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

export interface TapOptions {
  /** Name of at most 15 bytes. Attaches to the persistent TAP of that name, or creates a TAP. */
  readonly name: string;
  /** MAC address of six bytes. Without it the kernel's choice stands. */
  readonly mac?: Uint8Array | undefined;
  /** Bytes behind the Ethernet header. Without it the kernel's value stands. */
  readonly mtu?: number | undefined;
  /** True when the kernel may deliver unfinished checksums and TCP super-frames. */
  readonly offloads: boolean;
  /** False leaves a created interface down until `start`. Default true. */
  readonly bringUp?: boolean | undefined;
  /** Number of frame slots in each direction, a power of two. */
  readonly slots?: number | undefined;
  readonly log: Logger;
}

/** Frames and bytes since the TAP was opened; bytes without the vnet header. */
export interface TapCounters {
  readonly rxFrames: number;
  readonly rxBytes: number;
  /** Frames read that contradict their own vnet header. */
  readonly rxMalformed: number;
  /** Frames read that are longer than a slot. Not in rxFrames. */
  readonly rxTruncated: number;
  /** Number of times that all receive slots were in use and frames waited in the kernel's queue. */
  readonly rxStalls: number;
  readonly txFrames: number;
  readonly txBytes: number;
  /** Missed wake-ups: work that waited for the fallback timeout. Each is a bug of this program. */
  readonly lateWakes: number;
  /** Frames accepted by `send` that the kernel then refused, by errno name. */
  readonly txErrors: { readonly [errno: string]: number };
}

/** The interface of a TAP for its users. test/support has an implementation in memory. */
export interface TapEnd {
  readonly name: string;
  readonly mtu: number;
  readonly up: boolean;
  readonly slots: number;
  readonly rxMalformed: number;
  onFrames: (() => void) | undefined;
  onDrain: (() => void) | undefined;
  onLinkChange: ((link: TapLink) => void) | undefined;
  onGone: ((error: TapError) => void) | undefined;
  receive(frame: Frame): number;
  /** Milliseconds since the frame in this slot was read from the kernel. */
  age(token: number): number;
  release(token: number): void;
  askForSlots(): number;
  send(frame: Frame): boolean;
  flush(): void;
  setCarrier(up: boolean): void;
  setMtu(mtu: number): Promise<void>;
  close(): Promise<void>;
}

export class Tap implements TapEnd {
  readonly name: string;
  /** True for a persistent TAP. It stays, with its addresses, when this process ends. */
  readonly existing: boolean;
  /** MAC address of six bytes. */
  mac: Uint8Array;
  /** The kernel's present value. */
  mtu: number;
  up: boolean;
  /** Frame slots in each direction; tokens are below this. */
  readonly slots: number;
  /**
   * Called when frames wait, once after each -1 of `receive`. An owner that sets it calls `receive`
   * until that returns -1, at once and again at each call.
   */
  onFrames: (() => void) | undefined;
  /** Called when there is room again after `send` returned false or `askForSlots` returned 0. */
  onDrain: (() => void) | undefined;
  /** Called when `ip link` changed the MTU or brought the interface up or down. */
  onLinkChange: ((link: TapLink) => void) | undefined;
  /** Called when the interface was deleted or the worker failed. Only `close` may follow. */
  onGone: ((error: TapError) => void) | undefined;
  /** Frames dropped in `receive` because they contradict their vnet header. */
  rxMalformed = 0;

  readonly #log: Logger;
  readonly #rings: TapRings;
  readonly #worker: Worker;
  readonly #wakeFd: number;
  readonly #exited: Promise<void>;
  readonly #onExit: () => void;
  readonly #replies = new Map<number, (error: TapError | undefined) => void>();
  #open = true;
  #nextReply = 1;
  #usedCons = 0;
  #usedProd = 0;
  #freeProd: number;
  #txProd = 0;
  #txShown = 0;
  /** Send index up to which the worker was woken, or was awake. */
  #txTold = 0;
  #txCons = 0;
  #tooLong = 0;

  /** Opens a TAP: starts the worker and waits for its first message. Rejects with TapError. */
  static async open(options: TapOptions): Promise<Tap> {
    const { name, log } = options;
    checkPlatform();
    checkTapName(name);
    const rings = TapRings.allocate(options.slots ?? DEFAULT_SLOTS);
    const data: TapWorkerData = {
      memory: rings.memory,
      slots: rings.slots,
      name,
      mac: options.mac,
      mtu: options.mtu,
      offloads: options.offloads,
      bringUp: options.bringUp ?? true,
    };
    const worker = new Worker(WORKER, { name: `tap ${name}`, workerData: data });
    return new Promise((resolve, reject) => {
      let tap: Tap | undefined;
      worker.on("error", (error: Error) => {
        const failure = new TapError("TAP_FAILED", `the worker of ${name} failed: ${error}`);
        if (tap === undefined) reject(failure);
        else tap.onGone?.(failure);
      });
      worker.on("message", (report: TapReport) => {
        if (tap !== undefined) tap.#heard(report);
        else if (typeof report === "number") return;
        else if (report.kind === "warn") log.warn(report.fields, report.message);
        else if (report.kind === "refused") reject(new TapError(report.code, report.message));
        else if (report.kind === "opened") {
          tap = new Tap(name, log, rings, worker, report);
          resolve(tap);
        }
      });
    });
  }

  private constructor(name: string, log: Logger, rings: TapRings, worker: Worker, opened: Opened) {
    this.name = name;
    this.existing = opened.existing;
    this.mac = opened.mac;
    this.mtu = opened.mtu;
    this.up = opened.up;
    this.slots = rings.slots;
    this.#log = log;
    this.#rings = rings;
    this.#worker = worker;
    this.#wakeFd = opened.wakeFd;
    this.#freeProd = rings.slots;
    this.#exited = new Promise((resolve) => worker.once("exit", resolve)).then(() => this.#ended());
    // No other thread can end a thread inside poll(2), and process.exit waits for that thread.
    this.#onExit = () => this.#stop();
    process.on("exit", this.#onExit);
  }

  /**
   * Receives the next frame. Overwrites `frame` with one span in the shared slot that the returned
   * token names. The bytes stay until `release(token)`. Returns -1 when no frame waits; `onFrames`
   * is then called for the next frame.
   */
  receive(frame: Frame): number {
    const rings = this.#rings;
    for (;;) {
      if (this.#usedCons === this.#usedProd && !this.#framesWait() && !this.#arm()) return -1;
      const slot = rings.used[this.#usedCons & rings.mask]!;
      this.#usedCons = (this.#usedCons + 1) | 0;
      const header = rings.rxHeader(slot);
      frame.reset();
      frame.push(
        rings.bytes,
        header + VNET_HEADER_BYTES,
        rings.rxLength[slot]! - VNET_HEADER_BYTES,
      );
      if (readVnetHeader(rings.view, header, frame)) return slot;
      this.rxMalformed++;
      this.release(slot);
    }
  }

  age(token: number): number {
    return sharedNow() - this.#rings.rxStamp[token]!;
  }

  /** Returns a slot to the worker. Slots may come back in any order. */
  release(token: number): void {
    const rings = this.#rings;
    const { words } = rings;
    rings.free[this.#freeProd & rings.mask] = token;
    this.#freeProd = (this.#freeProd + 1) | 0;
    Atomics.store(words, Word.RX_FREE_PROD, this.#freeProd);
    if (Atomics.load(words, Word.RX_STARVED) === 0) return;
    // Wake the worker once per burst. With no slot left in use, wake it at once: no other call
    // would follow.
    const out = ahead(this.#usedCons, this.#usedProd);
    if (out === 0 || this.#freeProd % REFEED === 0) this.#wake();
  }

  /** Returns the free slots for `send`. After 0, `onDrain` is called when there is room again. */
  askForSlots(): number {
    const free = this.slots - ahead(this.#txCons, this.#txProd);
    return free > 0 ? free : this.#room();
  }

  /**
   * Copies the frame into a slot. Returns false when no slot is free. The caller then counts the
   * drop, or keeps the frame and waits for `onDrain`. The worker gets frames at `flush` or when a
   * group is full.
   */
  send(frame: Frame): boolean {
    if (frame.length > MAX_FRAME_BYTES) {
      this.#tooLong++;
      return true;
    }
    if (this.askForSlots() === 0) return false;
    const rings = this.#rings;
    const header = rings.txHeader(this.#txProd);
    writeVnetHeader(rings.view, header, frame);
    frame.copyTo(rings.bytes, header + (FRAME_AT - HEADER_AT), 0, frame.length);
    rings.txLength[this.#txProd & rings.mask] = VNET_HEADER_BYTES + frame.length;
    this.#txProd = (this.#txProd + 1) | 0;
    if (ahead(this.#txShown, this.#txProd) >= PUBLISH_EVERY) this.#show();
    return true;
  }

  /** Ends a burst: publishes the sent frames and wakes the worker if it sleeps. */
  flush(): void {
    // Compare with #txTold, not with #txShown: full groups are published without a wake-up.
    if (this.#txTold === this.#txProd) return;
    this.#txTold = this.#txProd;
    this.#show();
    this.#wake();
  }

  /** Sets the carrier (`ip link`: NO-CARRIER when false). It is off after `open`. */
  setCarrier(up: boolean): void {
    this.#ask({ kind: "carrier", up });
  }

  /** Sets the kernel's MTU. Rejects with TapError without permission, or if the kernel refuses. */
  setMtu(mtu: number): Promise<void> {
    return this.#askAndWait((id) => ({ kind: "mtu", id, mtu }));
  }

  /**
   * Sets the MAC of the interface and brings it up if this TAP created it. Meant for an owner that
   * learns the MAC only after `open` with bringUp false. Rejects with TapError.
   */
  async start(mac: Uint8Array): Promise<void> {
    await this.#askAndWait((id) => ({ kind: "start", id, mac }));
    this.mac = mac;
  }

  get counters(): TapCounters {
    const { counts, errors } = this.#rings;
    const txErrors: Record<string, number> = {};
    if (this.#tooLong > 0) txErrors["EMSGSIZE"] = this.#tooLong;
    for (const [errno, n] of errors.entries()) if (n > 0) txErrors[errnoText(errno)] = n;
    return {
      rxFrames: counts[Count.RX_FRAMES]!,
      rxBytes: counts[Count.RX_BYTES]!,
      rxMalformed: this.rxMalformed,
      rxTruncated: counts[Count.RX_TRUNCATED]!,
      rxStalls: counts[Count.RX_STALLS]!,
      txFrames: counts[Count.TX_FRAMES]!,
      txBytes: counts[Count.TX_BYTES]!,
      lateWakes: counts[Count.LATE_WAKES]!,
      txErrors,
    };
  }

  /** Closes the TAP. Unwritten frames are lost. The interface vanishes, unless persistent. */
  close(): Promise<void> {
    this.#stop();
    return this.#exited;
  }

  #framesWait(): boolean {
    this.#usedProd = Atomics.load(this.#rings.words, Word.RX_USED_PROD);
    return this.#usedProd !== this.#usedCons;
  }

  /**
   * Asks the worker for a message about the next frames. Returns true when frames wait already;
   * they may have been published before the worker saw the word.
   */
  #arm(): boolean {
    const { words } = this.#rings;
    Atomics.store(words, Word.RX_ARMED, 1);
    if (!this.#framesWait()) return false;
    Atomics.store(words, Word.RX_ARMED, 0);
    return true;
  }

  /** Reads the worker's index. Without a free slot it requests `onDrain` and reads again. */
  #room(): number {
    const { words, slots } = this.#rings;
    this.#txCons = Atomics.load(words, Word.TX_CONS);
    let free = slots - ahead(this.#txCons, this.#txProd);
    if (free > 0) return free;
    // The worker can only empty slots that are published.
    this.flush();
    Atomics.store(words, Word.TX_WAITING, 1);
    this.#txCons = Atomics.load(words, Word.TX_CONS);
    free = slots - ahead(this.#txCons, this.#txProd);
    if (free > 0) Atomics.store(words, Word.TX_WAITING, 0);
    return free;
  }

  #show(): void {
    this.#txShown = this.#txProd;
    Atomics.store(this.#rings.words, Word.TX_PROD, this.#txProd);
  }

  #wake(): void {
    if (Atomics.exchange(this.#rings.words, Word.WORKER_ARMED, 0) === 1) this.#ring();
  }

  #ring(): void {
    if (this.#open) writeSync(this.#wakeFd, ONE);
  }

  #ask(request: TapRequest): void {
    if (!this.#open) return;
    this.#worker.postMessage(request);
    Atomics.store(this.#rings.words, Word.CONTROL, 1);
    this.#wake();
  }

  async #askAndWait(request: (id: number) => TapRequest): Promise<void> {
    if (!this.#open) throw closedError(this.name);
    const id = this.#nextReply++;
    const { promise, resolve } = Promise.withResolvers<TapError | undefined>();
    this.#replies.set(id, resolve);
    this.#ask(request(id));
    const error = await promise;
    if (error !== undefined) throw error;
  }

  #stop(): void {
    Atomics.store(this.#rings.words, Word.STOP, 1);
    this.#ring();
  }

  #heard(report: TapReport): void {
    if (report === Wake.FRAMES) {
      this.onFrames?.();
    } else if (report === Wake.ROOM) {
      this.onDrain?.();
    } else if (report.kind === "link") {
      this.mtu = report.mtu;
      this.up = report.up;
      this.onLinkChange?.({ mtu: report.mtu, up: report.up });
    } else if (report.kind === "reply") {
      const settle = this.#replies.get(report.id);
      this.#replies.delete(report.id);
      settle?.(report.error && new TapError(report.error.code, report.error.message));
    } else if (report.kind === "warn") {
      this.#log.warn(report.fields, report.message);
    } else if (report.kind === "gone" || report.kind === "refused") {
      this.onGone?.(new TapError(report.code, report.message));
    }
  }

  /** Cleans up after the end of the worker. No other thread uses the descriptor any more. */
  #ended(): void {
    this.#open = false;
    process.off("exit", this.#onExit);
    closeSync(this.#wakeFd);
    for (const settle of this.#replies.values()) settle(closedError(this.name));
    this.#replies.clear();
  }
}

const closedError = (name: string): TapError =>
  new TapError("TAP_GONE", `the TAP ${name} is closed`);
