/**
 * Sends and receives frames for a program on top of an interface. Frames are whole Ethernet frames,
 * in order. Each is a separate copy.
 *
 *   program ── send ──► mbuf ──► ifnet.transmit        waits while the driver has no room
 *   program ◄── next ── queue ◄── ifnet.input          drops and counts when the queue is full
 *
 * Offloads end here. Software cuts a merged packet into segments and finishes checksums. A frame
 * that the program reads therefore has every checksum, and is no longer than the MTU allows.
 */

import { nameOf } from "../shared/bytes/names.ts";
import { ETHER_HEADER_BYTES, headerBytes } from "../shared/net/ethernet.ts";
import { Frame, Gso } from "../shared/net/frame.ts";
import { Segmenter } from "../shared/net/segment.ts";
import type { FrameCounters } from "../shared/status/frontend-status.ts";
import { AsyncLock } from "./async-lock.ts";
import { Errno } from "./bus/errno.ts";
import { mbufToFrame } from "./net/facts.ts";
import type { Ifnet } from "./net/ifnet.ts";
import { type Mbuf, MbufPool } from "./net/mbuf.ts";
import { SessionError } from "./session-error.ts";

type Read = IteratorResult<Uint8Array, undefined>;

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
  /** The pool needs no limit: the driver's rings bound the number of mbufs in use. */
  readonly #pool = new MbufPool(CLUSTER_BYTES, Number.POSITIVE_INFINITY);
  /** Callers of `send`, in order. The first of them waits for room. */
  readonly #senders = new AsyncLock();
  #waiting = 0;
  #room: (() => void) | undefined;
  #end: { readonly error: Error | undefined } | undefined;

  /** Keeps at most `limit` frames that the program has not read yet. */
  constructor(ifnet: Ifnet, limit: number) {
    this.#ifnet = ifnet;
    this.#limit = limit;
    ifnet.input = (m) => this.#input(m);
    ifnet.onTransmitReady = () => this.#room?.();
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
    if (this.#waiting === 0 && this.#transmit(frame)) return;
    this.#waiting++;
    try {
      await this.#senders.run(async () => {
        while (!this.#transmit(frame)) {
          await new Promise<void>((resolve) => {
            this.#room = resolve;
          });
        }
      });
    } finally {
      this.#waiting--;
    }
  }

  /** Stops sending and receiving. Readers get the queued frames, then `error` or the end. */
  end(error?: Error): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    for (const reader of this.#readers.splice(0)) this.#tellEnd(reader);
    this.#room?.();
  }

  #tellEnd({ resolve, reject }: PromiseWithResolvers<Read>): void {
    const error = this.#end?.error;
    if (error === undefined) resolve(END);
    else reject(error);
  }

  /** Gives a copy of the frame to the driver. Returns false without room. Throws SessionError. */
  #transmit(frame: Uint8Array): boolean {
    const { length } = frame;
    const { mtu, name } = this.#ifnet;
    if (this.#end !== undefined) {
      throw this.#end.error ?? new SessionError("CLOSED", "the NIC is closed");
    }
    if (length < ETHER_HEADER_BYTES || length > headerBytes(frame) + mtu) {
      throw new SessionError("EMSGSIZE", `${name}: a frame of ${length} bytes, MTU ${mtu}`);
    }
    const m = this.#pool.get()!;
    m.buffer.set(frame);
    m.length = length;
    m.pktLength = length;
    const errno = this.#ifnet.send(m);
    if (errno === 0) return true;
    m.free();
    if (errno === Errno.ENOBUFS) return false;
    const code = nameOf(Errno, errno);
    throw new SessionError(code, `${name}: a frame of ${length} bytes: ${code}`);
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
