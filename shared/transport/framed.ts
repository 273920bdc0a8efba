/**
 * A link's messages as WebSocket frames on a stream, from the end of the handshake to the end of the
 * connection. The control frames travel in order with the messages.
 *
 *   open ── close ──► closing ── the peer's close, or its end, or time ──► closed
 *     └── the peer's close, a broken rule ────────────────────────────────────┘
 *
 * Source: RFC 6455, section 5.5 (control frames), 7 (closing).
 */
import { randomFillSync } from "node:crypto";
import type { MemoryAccount } from "../memory-budget.ts";
import { CloseCode, Limits } from "../wire/protocol.ts";
import {
  CONTROL_BYTES,
  FRAME_ROOM,
  FrameReader,
  type FrameSink,
  frameInPlace,
  NO_CODE,
  Opcode,
} from "./frames.ts";
import { ReadBuffer } from "./read-buffer.ts";
import type { ByteStream, StreamOwner } from "./stream.ts";
import type { Transport } from "./transport.ts";

/** Longest reason of a close frame, which also has a code. */
const REASON_BYTES = CONTROL_BYTES - 2;
/** Time (ms) in which a peer must answer a close before its socket is cut. */
const CLOSE_MS = 5000;
/** Bytes and time (ms) that a peer may still send after this side has sent its close frame. */
const LAST_BYTES = 256 * 1024;
const LAST_MS = 1000;
/** Time (ms) in which one connection may process input before others have their turn. */
const READ_MS = 1;
/** Bytes of input that are processed whatever the time. Most turns have less, and read no clock. */
const SHORT_BYTES = 4096;
/** Most answers to pings that may wait for a peer that does not read. */
const MAX_PENDING_PONGS = 64;
/** The code of a connection that ended without a close frame (RFC 6455, 7.4.1). */
const ABNORMAL = 1006;

/** Random masking keys are drawn many at a time. */
const KEY_POOL = 1024;

/** Masking of sent frames: none (a server), random keys (a client), or the zero key (a client). */
export type Masking = "none" | "random" | "zero";

export class FramedTransport implements Transport, StreamOwner, FrameSink {
  readonly input = new ReadBuffer();
  readonly #stream: ByteStream;
  readonly #masking: Masking;
  readonly #reader: FrameReader;
  /** Pays for unfinished messages. */
  readonly #account: MemoryAccount | undefined;
  #isCharged = false;
  /** True when a message has ended since the account was told of one. */
  #hasEnded = false;
  /** Pool of random keys, empty unless frames are masked with random keys. */
  readonly #keys: Int32Array;
  #nextKey = KEY_POOL;
  #pongs = 0;
  /** True after this side has sent its close frame. */
  #isClosing = false;
  #isOver = false;
  /** Value of `receivedBytes` after which reading stops; set when this side ends. */
  #lastByte = Number.POSITIVE_INFINITY;
  #cut: NodeJS.Timeout | undefined;
  onMessage: (bytes: Uint8Array, at: number, length: number) => void = () => {};
  onClose: (code: number, reason: string) => void = () => {};
  readonly #ponged = (): void => {
    this.#pongs--;
  };

  /**
   * `head`: bytes that arrived with the handshake. `account` pays for unfinished messages; without
   * one nobody does.
   */
  constructor(stream: ByteStream, masking: Masking, head: Uint8Array, account?: MemoryAccount) {
    this.#stream = stream;
    this.#account = account;
    if (account !== undefined) {
      account.onNoRoom = (why) => this.#refuse(CloseCode.NO_MEMORY, why);
    }
    this.#masking = masking;
    this.#keys = new Int32Array(masking === "random" ? KEY_POOL : 0);
    this.#reader = new FrameReader(masking === "none", Limits.MESSAGE_BYTES, this);
    if (head.length > 0) {
      this.input.bytes = Uint8Array.from(head);
      this.input.end = head.length;
    }
    stream.read(this);
  }

  get open(): boolean {
    return !this.#isClosing && !this.#isOver;
  }

  get unsentBytes(): number {
    return this.#stream.unsentBytes;
  }

  get receivedBytes(): number {
    return this.#stream.receivedBytes;
  }

  send(bytes: Uint8Array, at: number, length: number, done: () => void): void {
    if (!this.open) {
      done();
      return;
    }
    const header = frameInPlace(bytes, at, length, this.#key());
    this.#stream.write(bytes, at - header, header + length, done);
  }

  close(code: number, reason: string): void {
    if (!this.open) return;
    this.#sendClose(code, reason);
    this.#lastByte = this.receivedBytes + LAST_BYTES;
    this.#cutAfter(CLOSE_MS);
  }

  abort(code: number, reason: string): void {
    if (this.open) {
      this.#stream.dropWaiting();
      this.#sendClose(code, reason);
    }
    if (this.#stream.unsentBytes === 0) this.#terminate();
    else this.#leave(CLOSE_MS);
  }

  #terminate(): void {
    clearTimeout(this.#cut);
    this.#stream.destroy();
    this.#drop();
    // The caller has its own reason, and tells it first.
    queueMicrotask(() => this.#finish(ABNORMAL, ""));
  }

  // Calls of the stream.

  received(): boolean {
    const isBehind = this.#process();
    if (this.receivedBytes > this.#lastByte) this.#leave();
    else {
      if (!isBehind) this.input.settle();
      this.#charge();
    }
    return isBehind;
  }

  ended(): void {
    this.#terminate();
  }

  #process(): boolean {
    const { input } = this;
    const reader = this.#reader;
    const isShort = input.end - input.start <= SHORT_BYTES;
    const until = isShort ? Number.POSITIVE_INFINITY : performance.now() + READ_MS;
    while (!reader.over) {
      const at = input.start;
      input.start = reader.next(input.bytes, at, input.end);
      if (input.start === at) return false;
      if (!isShort && performance.now() >= until) return input.start < input.end;
    }
    input.start = input.end;
    return false;
  }

  /** Tells the account what is held until the rest of a message comes, or until the next turn. */
  #charge(): void {
    const bytes = this.input.extraBytes + this.#reader.heldBytes;
    // Most turns end with a whole message.
    if (bytes !== 0 || this.#isCharged) {
      this.#isCharged = bytes !== 0;
      this.#account?.holdMessage(bytes, this.#hasEnded);
    }
    this.#hasEnded = false;
  }

  /** Gives back what is held, because no more messages are read. */
  #drop(): void {
    this.input.clear();
    this.#reader.stop();
    this.#charge();
  }

  // Calls of the reader.

  message(bytes: Uint8Array, at: number, length: number): void {
    this.#hasEnded = true;
    this.onMessage(bytes, at, length);
  }

  ping(payload: Uint8Array): void {
    if (!this.open) return;
    if (this.#pongs === MAX_PENDING_PONGS) {
      this.#refuse(CloseCode.POLICY, "pings come faster than their answers are read");
      return;
    }
    this.#pongs++;
    this.#sendControl(Opcode.PONG, payload, this.#ponged);
  }

  text(): void {
    this.#refuse(CloseCode.TEXT_MESSAGE, "only binary messages are understood here");
  }

  broken(code: number, reason: string): void {
    this.#refuse(code, reason);
  }

  /** Answers with the same code. Nothing but the end of the stream should follow. */
  closeFrame(code: number, reason: string): void {
    if (!this.#isClosing) this.#sendClose(code, reason);
    this.#stream.end();
    this.#lastByte = Math.min(this.#lastByte, this.receivedBytes + LAST_BYTES);
    this.#cutAfter(LAST_MS);
    this.#finish(code, reason);
  }

  /** Ends a connection whose peer broke a rule, and tells it why. */
  #refuse(code: number, reason: string): void {
    if (!this.#isClosing) this.#sendClose(code, reason);
    this.#leave();
    this.#finish(code, reason);
  }

  /**
   * Stops reading, so that further bytes of the peer stay in the kernel and the TCP window closes.
   * The peer may still read the close frame and the end of the stream; then the socket is cut.
   */
  #leave(ms = LAST_MS): void {
    this.#stream.stopReading();
    this.#drop();
    this.#stream.end();
    this.#cutAfter(ms);
  }

  #cutAfter(ms: number): void {
    clearTimeout(this.#cut);
    this.#cut = setTimeout(() => this.#terminate(), ms);
    this.#cut.unref();
  }

  #finish(code: number, reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reader.stop();
    this.onClose(code, reason);
  }

  #sendClose(code: number, reason: string): void {
    this.#isClosing = true;
    const text = new TextEncoder().encode(clip(reason));
    const payload = new Uint8Array(code === NO_CODE ? 0 : 2 + text.length);
    if (code !== NO_CODE) {
      payload[0] = code >> 8;
      payload[1] = code;
      payload.set(text, 2);
    }
    this.#sendControl(Opcode.CLOSE, payload, () => {});
  }

  #sendControl(opcode: number, payload: Uint8Array, done: () => void): void {
    const room = new Uint8Array(FRAME_ROOM + CONTROL_BYTES);
    room.set(payload, FRAME_ROOM);
    const header = frameInPlace(room, FRAME_ROOM, payload.length, this.#key(), opcode);
    this.#stream.write(room, FRAME_ROOM - header, header + payload.length, done);
  }

  #key(): number | undefined {
    if (this.#masking === "none") return undefined;
    if (this.#masking === "zero") return 0;
    if (this.#nextKey === KEY_POOL) {
      randomFillSync(this.#keys);
      this.#nextKey = 0;
    }
    return this.#keys[this.#nextKey++]!;
  }
}

function clip(reason: string): string {
  let text = reason;
  while (Buffer.byteLength(text) > REASON_BYTES) text = text.slice(0, -1);
  return text;
}
