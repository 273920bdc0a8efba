/**
 * Sends and receives frames for a program on top of an interface. Frames are whole Ethernet frames,
 * in order. Each is a separate copy.
 *
 *   program ── send ──► queue ──► mbufs ──► transmit   waits while the driver has no room
 *   program ◄── next ── queue ◄── ifnet.input          drops and counts when the queue is full
 *
 * The frames that a program sends in one turn go to the driver in one batch, with one doorbell.
 *
 * Offloads end here. Software cuts a merged packet into segments and finishes checksums. A frame
 * that the program reads therefore has every checksum, and is no longer than the MTU allows.
 */

import type { UnderlyingSink } from "node:stream/web";
import { copyBytes } from "../shared/bytes/copy.ts";
import { nameOf } from "../shared/bytes/names.ts";
import { ETHER_HEADER_BYTES, headerBytes } from "../shared/net/ethernet.ts";
import { Frame, Gso } from "../shared/net/frame.ts";
import { Segmenter } from "../shared/net/segment.ts";
import type { FrameCounters } from "../shared/status/frontend-status.ts";
import { Errno } from "./bus/errno.ts";
import { mbufToFrame } from "./net/facts.ts";
import { Iff, type Ifnet } from "./net/ifnet.ts";
import { type Mbuf, MbufPool } from "./net/mbuf.ts";
import { SessionError } from "./session-error.ts";

type Read = IteratorResult<Uint8Array, undefined>;

/** A frame that the driver has not accepted yet. */
interface Sending extends PromiseWithResolvers<void> {
  readonly frame: Uint8Array;
  /** The copy for the driver, from the first attempt on. */
  m: Mbuf | undefined;
}

/** Most frames that the driver is offered at once, and that a stream has under way. */
const BATCH_FRAMES = 64;

/** Bytes of storage of a frame to send: an Ethernet header with tags, and the largest MTU. */
const CLUSTER_BYTES = 9216 + 64;
const END: Read = { done: true, value: undefined };

export class Frames implements AsyncIterableIterator<Uint8Array> {
  readonly counters: FrameCounters = { rxReaderFull: 0, rxMalformed: 0 };
  readonly #ifnet: Ifnet;
  readonly #limit: number;
  readonly #queue: Uint8Array[] = [];
  readonly #readers: PromiseWithResolvers<Read>[] = [];
  readonly #frame = new Frame();
  readonly #segmenter = new Segmenter();
  readonly #sink = { segment: (frame: Frame): void => this.#keep(frame) };
  /** The pool needs no limit: the driver's rings and one batch bound the number of mbufs in use. */
  readonly #pool = new MbufPool(CLUSTER_BYTES, Number.POSITIVE_INFINITY);
  readonly #sending: Sending[] = [];
  readonly #batch: Mbuf[] = [];
  readonly #flush = (): void => this.flush();
  #end: { readonly error: Error | undefined } | undefined;

  /** Keeps at most `limit` frames that the program has not read yet. */
  constructor(ifnet: Ifnet, limit: number) {
    this.#ifnet = ifnet;
    this.#limit = limit;
    ifnet.input = (m) => this.#input(m);
    ifnet.onTransmitReady = () => process.nextTick(this.#flush);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Read> {
    const value = this.#queue.shift();
    if (value !== undefined) return Promise.resolve({ done: false, value });
    const reader = Promise.withResolvers<Read>();
    if (this.#end === undefined) this.#readers.push(reader);
    else this.#tellEnd(reader);
    return reader.promise;
  }

  /** Called when the program leaves a loop. Frames that arrive are kept for the next loop. */
  return(): Promise<Read> {
    return Promise.resolve(END);
  }

  /**
   * Sends a frame. Waits while there is no room, or no device. Resolves when the driver has
   * accepted the frame; its bytes may change then. Rejects with SessionError: EMSGSIZE, ENETDOWN,
   * or the reason why the NIC has ended.
   */
  async send(frame: Uint8Array): Promise<void> {
    this.#check(frame);
    const sending: Sending = { frame, m: undefined, ...Promise.withResolvers<void>() };
    // The others of this turn join the first. A queue that is not empty waits for room.
    if (this.#sending.push(sending) === 1) process.nextTick(this.#flush);
    return sending.promise;
  }

  /**
   * The frames of a stream. A chunk counts as written when it is copied, so that the next one can
   * join its batch; the stream waits while BATCH_FRAMES of them are under way. A chunk that the
   * driver refuses afterwards puts the stream into its error state.
   */
  sink(): UnderlyingSink<Uint8Array> {
    let underWay = 0;
    let last = Promise.resolve();
    return {
      write: async (frame, controller) => {
        this.#check(frame);
        if ((this.#ifnet.flags & Iff.UP) === 0) throw this.#refusal(frame.length, Errno.ENETDOWN);
        underWay++;
        last = this.send(new Uint8Array(frame)).finally(() => {
          underWay--;
        });
        last.catch((error: unknown) => controller.error(error));
        if (underWay >= BATCH_FRAMES) await last;
      },
      close: () => last,
    };
  }

  /** Offers the driver the frames that wait, as many as it accepts. */
  flush(): void {
    const sending = this.#sending;
    while (sending.length > 0) {
      const n = Math.min(sending.length, BATCH_FRAMES);
      for (let i = 0; i < n; i++) this.#batch[i] = this.#copied(sending[i]!);
      const accepted = this.#ifnet.transmit(this.#batch, n);
      for (const { resolve } of sending.splice(0, accepted)) resolve();
      if (accepted === n) continue;
      const errno = this.#ifnet.transmitErrno;
      if (errno === Errno.ENOBUFS) return;
      const { m, frame, reject } = sending.shift()!;
      m?.free();
      reject(this.#refusal(frame.length, errno));
    }
  }

  /** Stops sending and receiving. Readers get the queued frames, then `error` or the end. */
  end(error?: Error): void {
    if (this.#end !== undefined) return;
    // Frames without a copy are of this turn: they were sent before the end.
    if (this.#sending.length > 0 && this.#sending[0]!.m === undefined) this.flush();
    this.#end = { error };
    for (const reader of this.#readers.splice(0)) this.#tellEnd(reader);
    for (const { m, reject } of this.#sending.splice(0)) {
      m?.free();
      reject(this.#closed());
    }
  }

  #tellEnd({ resolve, reject }: PromiseWithResolvers<Read>): void {
    const error = this.#end?.error;
    if (error === undefined) resolve(END);
    else reject(error);
  }

  /** Throws SessionError for a frame that can never go. */
  #check(frame: Uint8Array): void {
    if (this.#end !== undefined) throw this.#closed();
    const { length } = frame;
    const { mtu, name } = this.#ifnet;
    if (length < ETHER_HEADER_BYTES || length > headerBytes(frame) + mtu) {
      throw new SessionError("EMSGSIZE", `${name}: a frame of ${length} bytes, MTU ${mtu}`);
    }
  }

  #closed(): Error {
    return this.#end?.error ?? new SessionError("CLOSED", "the NIC is closed");
  }

  #refusal(length: number, errno: number): SessionError {
    const code = nameOf(Errno, errno);
    return new SessionError(code, `${this.#ifnet.name}: a frame of ${length} bytes: ${code}`);
  }

  #copied(sending: Sending): Mbuf {
    if (sending.m !== undefined) return sending.m;
    const { frame } = sending;
    const m = this.#pool.get()!;
    copyBytes(frame, 0, m.buffer, m.at, frame.length);
    m.length = frame.length;
    m.pktLength = frame.length;
    sending.m = m;
    return m;
  }

  /** Receives a packet from the driver, and frees it. */
  #input(m: Mbuf): void {
    const frame = this.#frame;
    if (!mbufToFrame(m, frame)) this.#malformed();
    else if (frame.gso === Gso.NONE && !frame.needsCsum) this.#keep(frame);
    else if (this.#segmenter.complete(frame, this.#sink) !== undefined) this.#malformed();
    m.free();
  }

  #malformed(): void {
    this.counters.rxMalformed++;
    this.#ifnet.counters.iqdrops++;
  }

  #keep(frame: Frame): void {
    if (this.#queue.length >= this.#limit) {
      this.counters.rxReaderFull++;
      this.#ifnet.counters.iqdrops++;
      return;
    }
    const value = new Uint8Array(frame.length);
    frame.copyTo(value, 0, 0, frame.length);
    const reader = this.#readers.shift();
    if (reader === undefined) this.#queue.push(value);
    else reader.resolve({ done: false, value });
  }
}
