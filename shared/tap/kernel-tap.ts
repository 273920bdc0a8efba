/**
 * The kernel's TAP device on the reactor. A frame is read into a slot, and written straight out of
 * the buffers that it consists of.
 */
import { endianness } from "node:os";
// The global name is an accessor, which costs as much as the clock.
import { performance } from "node:perf_hooks";
import type { Logger } from "../log.ts";
import { type Frame, MAX_FRAME_BYTES, MAX_SPANS } from "../net/frame.ts";
import { pollingReactor } from "../reactor/index.ts";
import type { Reactor, Watch } from "../reactor/reactor.ts";
import * as sys from "../reactor/sys.ts";
import { errnoText, TapError } from "./errors.ts";
import { LinkWatch } from "./link-watch.ts";
import { inNamespace } from "./namespace.ts";
import {
  attachTap,
  bringUp,
  type OpenedTap,
  openControlSocket,
  setCarrier,
  setMtu,
  settleMac,
  type TapLink,
} from "./open.ts";
import { SLOT_ROOM, Slots } from "./slots.ts";
import type { TapCounters, TapEnd, TapOptions } from "./tap.ts";
import { readVnetHeader, VNET_HEADER_BYTES, writeVnetHeader } from "./vnet-header.ts";

/** Frames read in one turn, before other descriptors have theirs. */
const BURST = 64;
/** Bytes up to which a frame is copied behind its header. A copy costs less than many spans. */
const COPY_BYTES = 2048;
/** Words of struct iovec: base u64, length u64. */
const IOVEC_WORDS = 4;
/** Place of the low word in a u64 of this machine. */
const LOW = endianness() === "LE" ? 0 : 1;
/** V8 may move the bytes of smaller buffers, so their address can't be given to the kernel. */
const LEAST_BUFFER = 65;

export class KernelTap implements TapEnd {
  readonly name: string;
  /** True for a persistent TAP. It stays, with its addresses, when this process ends. */
  readonly existing: boolean;
  /** MAC address of six bytes. */
  mac: Uint8Array;
  mtu: number;
  up: boolean;
  readonly slots: number;
  onFrames: (() => void) | undefined;
  onDrain: (() => void) | undefined;
  onLinkChange: ((link: TapLink) => void) | undefined;
  onGone: ((error: TapError) => void) | undefined;
  rxMalformed = 0;

  readonly #log: Logger;
  readonly #reactor: Reactor;
  readonly #fd: number;
  readonly #link: LinkWatch;
  readonly #watch: Watch;
  #linkWatch: Watch;
  readonly #rx: Slots;
  /** The vnet header of a frame to send, and a short frame behind it. */
  readonly #tx = new Uint8Array(VNET_HEADER_BYTES + COPY_BYTES);
  readonly #txView = new DataView(this.#tx.buffer);
  readonly #txAddress = sys.addressOf(this.#tx);
  readonly #iovec = new Uint32Array((MAX_SPANS + 1) * IOVEC_WORDS);
  readonly #iovecAddress = sys.addressOf(this.#iovec);
  readonly #errors = new Map<number, number>();
  /** True after -1 of `receive`, until `onFrames` is called. */
  #isArmed = false;
  #isStarved = false;
  /** True after the kernel accepted no frame, until it does again. */
  #isBlocked = false;
  #isOpen = true;
  /** Number of frames of the last burst, and the turn in which they were read. */
  #lastBurst = 0;
  #lastTurn = 0;
  #rxFrames = 0;
  #rxBytes = 0;
  #rxTruncated = 0;
  #rxStalls = 0;
  #txFrames = 0;
  #txBytes = 0;
  #tooLong = 0;

  /** Implements `openTap`. */
  static async open(options: TapOptions): Promise<KernelTap> {
    const reactor = await pollingReactor();
    const rx = new Slots(options.slots);
    const { tap, link } = inNamespace(options.netns, () => opened(options));
    return new KernelTap(reactor, options.log, tap, link, rx);
  }

  private constructor(
    reactor: Reactor,
    log: Logger,
    { fd, existing, mac }: OpenedTap,
    link: LinkWatch,
    rx: Slots,
  ) {
    this.#reactor = reactor;
    this.#log = log;
    this.#fd = fd;
    this.#link = link;
    this.#rx = rx;
    this.name = link.name;
    this.existing = existing;
    this.mac = mac;
    this.mtu = link.state.mtu;
    this.up = link.state.up;
    this.slots = rx.count;
    this.#span(0, this.#txAddress, VNET_HEADER_BYTES);
    this.#watch = reactor.watch(fd, sys.EPOLLIN, (events) => this.#ready(events));
    this.#linkWatch = this.#watchLink();
  }

  receive(frame: Frame): number {
    const rx = this.#rx;
    for (;;) {
      const slot = rx.take();
      if (slot < 0) {
        this.#isArmed = true;
        return -1;
      }
      const header = rx.headerOf(slot);
      frame.reset();
      frame.push(rx.bytes, header + VNET_HEADER_BYTES, rx.lengths[slot]! - VNET_HEADER_BYTES);
      if (readVnetHeader(rx.view, header, frame)) return slot;
      this.rxMalformed++;
      this.release(slot);
    }
  }

  age(token: number): number {
    return performance.now() - this.#rx.stamps[token]!;
  }

  release(token: number): void {
    this.#rx.release(token);
    if (!this.#isStarved || !this.#isOpen) return;
    this.#isStarved = false;
    this.#interest();
  }

  hasRoom(): boolean {
    return !this.#isBlocked;
  }

  send(frame: Frame): boolean {
    const { length } = frame;
    if (length > MAX_FRAME_BYTES) {
      this.#tooLong++;
      return true;
    }
    if (this.#isBlocked || !this.#isOpen) return false;
    writeVnetHeader(this.#txView, 0, frame);
    const n = this.#write(frame, length);
    if (n >= 0) {
      this.#txFrames++;
      this.#txBytes += length;
      return true;
    }
    const why = sys.errno();
    if (why === sys.EAGAIN) {
      this.#isBlocked = true;
      this.#interest();
      return false;
    }
    // EIO while the interface is down, EINVAL for offload facts that the kernel refuses.
    this.#errors.set(why, (this.#errors.get(why) ?? 0) + 1);
    return true;
  }

  setCarrier(up: boolean): void {
    if (!this.#isOpen || setCarrier(this.#fd, up)) return;
    this.#log.warn(
      { tap: this.#link.name, up, errno: errnoText(sys.errno()) },
      "the kernel does not let the carrier be set",
    );
  }

  async setMtu(mtu: number): Promise<void> {
    this.#mustBeOpen();
    const error = setMtu(this.#link.control, this.#link.name, mtu);
    if (error !== undefined) throw error;
  }

  /**
   * Sets the MAC of the interface and brings it up if this TAP created it. Meant for an owner that
   * learns the MAC only after `openTap` with bringUp false. Rejects with TapError.
   */
  async start(mac: Uint8Array): Promise<void> {
    this.#mustBeOpen();
    // The MAC first: the kernel derives the link-local address from it.
    settleMac(this.#fd, this.#link.name, mac);
    if (!this.existing) bringUp(this.#link.control, this.#link.name);
    this.mac = mac;
    this.#look();
  }

  get counters(): TapCounters {
    const txErrors: Record<string, number> = {};
    if (this.#tooLong > 0) txErrors["EMSGSIZE"] = this.#tooLong;
    for (const [errno, n] of this.#errors) txErrors[errnoText(errno)] = n;
    return {
      rxFrames: this.#rxFrames,
      rxBytes: this.#rxBytes,
      rxMalformed: this.rxMalformed,
      rxTruncated: this.#rxTruncated,
      rxStalls: this.#rxStalls,
      txFrames: this.#txFrames,
      txBytes: this.#txBytes,
      txErrors,
    };
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#watch.close();
    this.#linkWatch.close();
    this.#link.close();
    sys.close(this.#fd);
  }

  #write(frame: Frame, length: number): number {
    const { count, buffers, offsets, lengths } = frame;
    if (length <= COPY_BYTES) {
      frame.copyTo(this.#tx, VNET_HEADER_BYTES, 0, length);
      return sys.write(this.#fd, this.#txAddress, VNET_HEADER_BYTES + length);
    }
    // The spans of a frame often lie in one buffer, whose address is looked up once.
    let last: Uint8Array | undefined;
    let address = 0;
    for (let i = 0; i < count; i++) {
      const bytes = buffers[i]!;
      if (bytes !== last) {
        if (bytes.buffer.byteLength < LEAST_BUFFER) return this.#writeCopy(frame, length);
        address = sys.addressOfBuffer(bytes.buffer) + bytes.byteOffset;
        last = bytes;
      }
      this.#span(i + 1, address + offsets[i]!, lengths[i]!);
    }
    return sys.writev(this.#fd, this.#iovecAddress, count + 1);
  }

  #span(i: number, address: number, length: number): void {
    const at = i * IOVEC_WORDS;
    this.#iovec[at + LOW] = address;
    this.#iovec[at + 1 - LOW] = address / 2 ** 32;
    this.#iovec[at + 2 + LOW] = length;
  }

  /** Writes a long frame that has a span in V8's own heap. */
  #writeCopy(frame: Frame, length: number): number {
    const bytes = new Uint8Array(VNET_HEADER_BYTES + length);
    bytes.set(this.#tx.subarray(0, VNET_HEADER_BYTES));
    frame.copyTo(bytes, VNET_HEADER_BYTES, 0, length);
    return sys.write(this.#fd, sys.addressOf(bytes), bytes.length);
  }

  #ready(events: number): void {
    if ((events & sys.EPOLLERR) !== 0) {
      this.#lose(sys.ENODEV);
      return;
    }
    if ((events & sys.EPOLLOUT) !== 0 && this.#isBlocked) {
      this.#isBlocked = false;
      this.#interest();
      this.onDrain?.();
    }
    if ((events & sys.EPOLLIN) !== 0 && this.#isOpen) this.#readBurst();
  }

  #readBurst(): void {
    const rx = this.#rx;
    const now = performance.now();
    const { turn } = this.#reactor;
    // A frame that comes alone costs no second read, which would find nothing. If another frame
    // waits after all, the next turn begins at once.
    const isAlone = this.#lastBurst === 1 && turn !== this.#lastTurn + 1;
    const most = isAlone ? 1 : BURST;
    const before = this.#rxFrames;
    for (let i = 0; i < most; i++) {
      const slot = rx.free;
      if (slot < 0) {
        this.#isStarved = true;
        this.#rxStalls++;
        this.#interest();
        break;
      }
      const n = sys.read(this.#fd, rx.address + rx.headerOf(slot), SLOT_ROOM);
      if (n < 0) {
        const why = sys.errno();
        if (why !== sys.EAGAIN && why !== sys.EINTR) this.#lose(why);
        break;
      }
      if (n === SLOT_ROOM || n < VNET_HEADER_BYTES) {
        // The frame is longer than a slot (a host with "big TCP") and was cut off: drop it.
        this.#rxTruncated++;
        continue;
      }
      this.#rxFrames++;
      this.#rxBytes += n - VNET_HEADER_BYTES;
      rx.fill(n, now);
    }
    this.#lastBurst = this.#rxFrames - before;
    this.#lastTurn = turn;
    if (!this.#isArmed || rx.waiting === 0) return;
    this.#isArmed = false;
    this.onFrames?.();
  }

  #interest(): void {
    this.#watch.want((this.#isStarved ? 0 : sys.EPOLLIN) | (this.#isBlocked ? sys.EPOLLOUT : 0));
  }

  #watchLink(): Watch {
    return this.#reactor.watch(this.#link.fd, sys.EPOLLIN, () => this.#look());
  }

  #look(): void {
    const { fd } = this.#link;
    // After a move to another namespace, `look` closes the socket and opens another one there.
    const state = this.#link.look(() => this.#linkWatch.close());
    if (this.#link.fd !== fd || this.#linkWatch.closed) this.#linkWatch = this.#watchLink();
    if (state === "gone") this.#lose(sys.ENODEV);
    else if (state !== undefined) {
      this.mtu = state.mtu;
      this.up = state.up;
      this.onLinkChange?.(state);
    }
  }

  #lose(why: number): void {
    if (!this.#isOpen) return;
    const { name } = this.#link;
    void this.close();
    this.onGone?.(
      new TapError(
        "TAP_GONE",
        `the TAP ${name} was deleted under us (${errnoText(why)}): start again to make a new one`,
      ),
    );
  }

  #mustBeOpen(): void {
    if (!this.#isOpen) throw new TapError("TAP_GONE", `the TAP ${this.name} is closed`);
  }
}

/** Opens the TAP, and the sockets that follow it, in the namespace of this thread. */
function opened(options: TapOptions): { readonly tap: OpenedTap; readonly link: LinkWatch } {
  const { name, log } = options;
  const control = openControlSocket();
  let tap: OpenedTap | undefined;
  try {
    const warn = (fields: object, message: string): void => log.warn(fields, message);
    tap = attachTap({ ...options, bringUp: options.bringUp ?? true }, control, warn);
    return { tap, link: new LinkWatch(tap.fd, control, name) };
  } catch (error) {
    sys.close(control);
    if (tap !== undefined) sys.close(tap.fd);
    throw error;
  }
}
