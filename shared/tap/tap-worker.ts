/**
 * The worker that owns a TAP. It waits in poll(2), reads frames into shared slots and writes frames
 * from shared slots, in bursts. Its event loop never runs. After a wake-up through an eventfd it
 * reads its messages from the port.
 *
 *   forever:  write a burst, read a burst, look at messages
 *             nothing moved?  arm, look again, poll [eventfd, rtnetlink, TAP]
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { errnoText, TapError } from "./errors.ts";
import { NATIVE_LE } from "./ifreq.ts";
import { LinkWatch } from "./link-watch.ts";
import { type TapReport, type TapRequest, type TapWorkerData, Wake } from "./messages.ts";
import {
  bringUp,
  type OpenedTap,
  openControlSocket,
  openTap,
  setCarrier,
  setMtu,
  settleMac,
} from "./open.ts";
import { ahead, Count, ERRNO_LIMIT, SLOT_ROOM, sharedNow, TapRings, Word } from "./rings.ts";
import * as sys from "./sys.ts";
import { VNET_HEADER_BYTES } from "./vnet-header.ts";

const BURST = 64;
/** Frames between two updates of an index, so that the data path starts before a burst ends. */
const PUBLISH_EVERY = 16;
/** Share of the slots (1/n) that must be free before a waiting sender is woken. */
const ROOM_FRACTION = 4;
/**
 * Fallback timeout (ms) of poll(2). Every event also wakes it; what the timeout finds alone is
 * counted as a missed wake-up.
 */
const POLL_MS = 1000;

// Indexes of the poll set.
const WAKE = 0;
const NETLINK = 1;
const TAP = 2;
const POLL_COUNT = 3;

if (parentPort === null) throw new Error("tap-worker runs as a worker thread only");
const port = parentPort;
const report = (message: TapReport): void => port.postMessage(message);

class TapLoop {
  readonly #rings: TapRings;
  readonly #words: Int32Array;
  readonly #base: number;
  readonly #fd: number;
  readonly #wakeFd: number;
  readonly #existing: boolean;
  readonly #watch: LinkWatch;
  readonly #set = new DataView(new ArrayBuffer(POLL_COUNT * sys.POLLFD_BYTES));
  readonly #setAddress = sys.addressOf(new Uint8Array(this.#set.buffer));
  readonly #wakeScratch = sys.addressOf(new Uint8Array(8));
  #usedProd = 0;
  #freeCons = 0;
  #txCons = 0;
  /** True after write(2) returned EAGAIN; the next poll then waits for POLLOUT, too. */
  #txBlocked = false;
  #starved = false;
  #gone = false;

  constructor(rings: TapRings, tap: OpenedTap, wakeFd: number, watch: LinkWatch) {
    this.#rings = rings;
    this.#words = rings.words;
    this.#base = sys.addressOf(rings.bytes);
    this.#fd = tap.fd;
    this.#existing = tap.existing;
    this.#wakeFd = wakeFd;
    this.#watch = watch;
  }

  run(): void {
    const words = this.#words;
    while (Atomics.load(words, Word.STOP) === 0 && !this.#gone) {
      const moved = this.#writeBurst() + this.#readBurst();
      if (Atomics.load(words, Word.CONTROL) !== 0) this.#takeMessages();
      if (moved === 0) this.#sleep();
    }
  }

  /** Reads a burst from the TAP into the ring. Returns the number of frames read. */
  #readBurst(): number {
    const rings = this.#rings;
    const { words, free, used, rxLength, mask, counts } = rings;
    const given = Atomics.load(words, Word.RX_FREE_PROD);
    const now = sharedNow();
    let moved = 0;
    while (moved < BURST) {
      if (this.#freeCons === given) {
        this.#starve();
        break;
      }
      const slot = free[this.#freeCons & mask]!;
      const n = sys.read(this.#fd, this.#base + rings.rxHeader(slot), SLOT_ROOM);
      if (n < 0) {
        const why = sys.errno();
        if (why !== sys.EAGAIN && why !== sys.EINTR) this.#lose(why);
        break;
      }
      moved++;
      if (n === SLOT_ROOM || n < VNET_HEADER_BYTES) {
        // The frame is longer than a slot (a host with "big TCP") and was cut off: drop it.
        counts[Count.RX_TRUNCATED]!++;
        continue;
      }
      this.#freeCons = (this.#freeCons + 1) | 0;
      counts[Count.RX_FRAMES]!++;
      counts[Count.RX_BYTES]! += n - VNET_HEADER_BYTES;
      rxLength[slot] = n;
      rings.rxStamp[slot] = now;
      used[this.#usedProd & mask] = slot;
      this.#usedProd = (this.#usedProd + 1) | 0;
      if (moved % PUBLISH_EVERY === 0) this.#publishUsed();
    }
    if (moved > 0) this.#publishUsed();
    return moved;
  }

  #publishUsed(): void {
    Atomics.store(this.#words, Word.RX_USED_PROD, this.#usedProd);
    if (Atomics.exchange(this.#words, Word.RX_ARMED, 0) === 1) report(Wake.FRAMES);
  }

  /** Stops reading the TAP for want of slots. The kernel's queue holds further frames. */
  #starve(): void {
    if (this.#starved) return;
    this.#starved = true;
    this.#rings.counts[Count.RX_STALLS]!++;
    Atomics.store(this.#words, Word.RX_STARVED, 1);
  }

  /** Writes a burst from the ring to the TAP. Returns the number of slots emptied. */
  #writeBurst(): number {
    const rings = this.#rings;
    const { words, txLength, mask, counts, errors } = rings;
    const prod = Atomics.load(words, Word.TX_PROD);
    let moved = 0;
    while (moved < BURST && this.#txCons !== prod && !this.#txBlocked) {
      const bytes = txLength[this.#txCons & mask]!;
      const n = sys.write(this.#fd, this.#base + rings.txHeader(this.#txCons), bytes);
      if (n < 0) {
        const why = sys.errno();
        if (why === sys.EINTR) continue;
        if (why === sys.EAGAIN) {
          this.#txBlocked = true;
          break;
        }
        // EIO while the interface is down, EINVAL for offload facts that the kernel refuses.
        errors[why < ERRNO_LIMIT ? why : 0]!++;
      } else {
        counts[Count.TX_FRAMES]!++;
        counts[Count.TX_BYTES]! += bytes - VNET_HEADER_BYTES;
      }
      moved++;
      this.#txCons = (this.#txCons + 1) | 0;
      if (moved % PUBLISH_EVERY === 0) this.#publishCons(prod);
    }
    if (moved > 0) this.#publishCons(prod);
    return moved;
  }

  #publishCons(prod: number): void {
    const { words, slots } = this.#rings;
    Atomics.store(words, Word.TX_CONS, this.#txCons);
    const room = slots - ahead(this.#txCons, prod);
    if (room < slots / ROOM_FRACTION) return;
    if (Atomics.exchange(words, Word.TX_WAITING, 0) === 1) report(Wake.ROOM);
  }

  #sleep(): void {
    const words = this.#words;
    Atomics.store(words, Word.WORKER_ARMED, 1);
    // Check again after setting the word: a publisher that saw it unset has sent no wake-up.
    if (!this.#somethingWaits()) this.#poll();
    Atomics.store(words, Word.WORKER_ARMED, 0);
    this.#refed();
  }

  #somethingWaits(): boolean {
    const words = this.#words;
    return (
      Atomics.load(words, Word.STOP) !== 0 ||
      Atomics.load(words, Word.CONTROL) !== 0 ||
      (!this.#txBlocked && Atomics.load(words, Word.TX_PROD) !== this.#txCons) ||
      (this.#starved && Atomics.load(words, Word.RX_FREE_PROD) !== this.#freeCons)
    );
  }

  /** Resumes reading the TAP when slots have come back. */
  #refed(): void {
    if (!this.#starved || Atomics.load(this.#words, Word.RX_FREE_PROD) === this.#freeCons) return;
    this.#starved = false;
    Atomics.store(this.#words, Word.RX_STARVED, 0);
  }

  #poll(): void {
    const tapEvents = (this.#starved ? 0 : sys.POLLIN) | (this.#txBlocked ? sys.POLLOUT : 0);
    this.#watchFor(WAKE, this.#wakeFd, sys.POLLIN);
    this.#watchFor(NETLINK, this.#watch.fd, sys.POLLIN);
    this.#watchFor(TAP, this.#fd, tapEvents);
    let count = sys.poll(this.#setAddress, POLL_COUNT, POLL_MS);
    if (count === 0 && this.#somethingWaits()) {
      // The publisher may be stalled just before its wake-up. Wait once more before counting.
      count = sys.poll(this.#setAddress, POLL_COUNT, POLL_MS);
      // A missed wake-up: there is work, but its publisher has not cleared the word.
      if (count === 0 && Atomics.load(this.#words, Word.WORKER_ARMED) !== 0) {
        this.#rings.counts[Count.LATE_WAKES]!++;
      }
    }
    // Try to write again after every sleep. A wrong guess costs one EAGAIN.
    this.#txBlocked = false;
    if (count <= 0) return;
    if (this.#came(WAKE) !== 0) sys.read(this.#wakeFd, this.#wakeScratch, 8);
    if (this.#came(NETLINK) !== 0) this.#look();
    if ((this.#came(TAP) & sys.POLLERR) !== 0) this.#lose(sys.ENODEV);
  }

  #watchFor(place: number, fd: number, events: number): void {
    const at = place * sys.POLLFD_BYTES;
    this.#set.setInt32(at, fd, NATIVE_LE);
    this.#set.setInt16(at + 4, events, NATIVE_LE);
    this.#set.setInt16(at + 6, 0, NATIVE_LE);
  }

  #came(place: number): number {
    return this.#set.getInt16(place * sys.POLLFD_BYTES + 6, NATIVE_LE);
  }

  #look(): void {
    const state = this.#watch.look();
    if (state === "gone") this.#lose(sys.ENODEV);
    else if (state !== undefined) report({ kind: "link", mtu: state.mtu, up: state.up });
  }

  #lose(why: number): void {
    if (this.#gone) return;
    this.#gone = true;
    report({
      kind: "gone",
      code: "TAP_GONE",
      message: `the TAP ${this.#watch.name} was deleted under us (${errnoText(why)}): start again to make a new one`,
    });
  }

  #takeMessages(): void {
    Atomics.store(this.#words, Word.CONTROL, 0);
    for (;;) {
      const got = receiveMessageOnPort(port) as { message: TapRequest } | undefined;
      if (got === undefined) return;
      this.#answer(got.message);
    }
  }

  #answer(request: TapRequest): void {
    if (request.kind !== "carrier") {
      const error =
        request.kind === "mtu"
          ? setMtu(this.#watch.control, this.#watch.name, request.mtu)
          : this.#start(request.mac);
      const refusal =
        error === undefined ? undefined : { code: error.code, message: error.message };
      report({ kind: "reply", id: request.id, error: refusal });
      return;
    }
    if (setCarrier(this.#fd, request.up)) return;
    const why = errnoText(sys.errno());
    report({
      kind: "warn",
      fields: { tap: this.#watch.name, up: request.up, errno: why },
      message: "the kernel does not let the carrier be set",
    });
  }

  /** Sets the MAC before the interface comes up and derives its link-local address from it. */
  #start(mac: Uint8Array): TapError | undefined {
    const { control, name } = this.#watch;
    try {
      settleMac(this.#fd, name, mac);
      if (!this.#existing) bringUp(control, name);
    } catch (error) {
      if (error instanceof TapError) return error;
      throw error;
    }
    // Report the state before the reply, so that the data path has the state when the reply comes.
    this.#look();
    return undefined;
  }
}

function main(data: TapWorkerData): void {
  let tap: OpenedTap | undefined;
  let watch: LinkWatch | undefined;
  try {
    const control = openControlSocket();
    tap = openTap(data, control, (fields, message) => report({ kind: "warn", fields, message }));
    watch = new LinkWatch(tap.fd, control, data.name);
    // The data path writes to the eventfd, so it closes the eventfd after this thread has ended.
    const wakeFd = sys.eventfd(0, sys.O_NONBLOCK | sys.O_CLOEXEC);
    const { mtu, up } = watch.state;
    const { existing, mac } = tap;
    const loop = new TapLoop(new TapRings(data.memory, data.slots), tap, wakeFd, watch);
    report({ kind: "opened", wakeFd, existing, mac, mtu, up });
    loop.run();
  } catch (error) {
    if (!(error instanceof TapError)) throw error;
    report({ kind: "refused", code: error.code, message: error.message });
  } finally {
    watch?.close();
    if (tap !== undefined) sys.close(tap.fd);
  }
}

main(workerData as TapWorkerData);
