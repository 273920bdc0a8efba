/**
 * One TCP connection on its way to the HTTP parser, which sees the first request and nothing
 * behind it:
 *
 *   socket ──► first request ──► parser            what follows the head is read when a handler
 *          ──► a body that is wanted ──►           wants it, dropped when not
 *          ◄── the answer, then the end ──
 *
 * A client that sends many requests at once thus gets one answer. Its other requests cost neither
 * parsing nor memory.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import type { Occupant } from "./places.ts";

/** What a connection is about, in the order of its life. */
export const Stage = {
  /** Its first request is not whole. */
  REQUEST: 0,
  /** A page answers it. */
  PAGE: 1,
  /** It has had its answer, or left HTTP. */
  OVER: 2,
} as const;
export type Stage = (typeof Stage)[keyof typeof Stage];

const CR = 13;
const LF = 10;
/** CR LF CR LF ends the head. */
const END_BYTES = 4;
/** A body is handed on in pieces of this size, so that little behind it gets to the parser. */
const BODY_PIECE_BYTES = 512;
/** A wanted body with all that frames it. */
const MAX_BODY_BYTES = 16 * 1024;
/** Bytes behind the first request that are read and dropped before the connection is cut. */
const MAX_DROPPED_BYTES = 1 << 20;
/** Time for a client to read the answer and close, once all of it has left this process. */
const LINGER_MS = 1000;

export interface FrontOwner {
  /** First bytes: the parser is needed. */
  begun(front: FrontSocket): void;
  /** The head is whole, and the parser has seen it. */
  headEnded(front: FrontSocket): void;
  /** The answer has left; only the client's end is waited for. */
  answered(front: FrontSocket): void;
  /** The client sent more than one request. Called once. */
  pipelined(front: FrontSocket): void;
  /** The connection is no longer ours: closed, or upgraded. Called once. */
  left(front: FrontSocket): void;
}

export class FrontSocket extends Duplex implements Occupant {
  readonly address: string;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly since = performance.now();
  stage: Stage = Stage.REQUEST;
  /** The answer goes on until the client ends the connection. */
  streams = false;
  /** When the first byte of the answer was written, in ms of performance.now; 0 before. */
  answeredSince = 0;
  readonly #raw: Socket;
  readonly #owner: FrontOwner;
  readonly #evicted: (front: FrontSocket) => void;
  /** Bytes of the head's end that were seen. */
  #ending = 0;
  #begun = false;
  #headDone = false;
  /** Set by the page that reads the body: true when the body is whole. */
  #bodyWanted: (() => boolean) | undefined;
  #bodyBytes = 0;
  #dropped = 0;
  /** Bytes that came in one read with the head, and lie behind it. */
  #rest: Buffer | undefined;
  #gone = false;
  #linger: NodeJS.Timeout | undefined;

  constructor(
    raw: Socket,
    address: string,
    owner: FrontOwner,
    evicted: (front: FrontSocket) => void,
  ) {
    super({ allowHalfOpen: true });
    this.#raw = raw;
    this.#owner = owner;
    this.#evicted = evicted;
    this.address = address;
    this.remoteAddress = raw.remoteAddress ?? "";
    this.remotePort = raw.remotePort ?? 0;
    raw.on("data", this.#onData);
    raw.on("end", this.#onEnd);
    raw.on("close", this.#onClose);
    // The parser listens too, but only from the first byte on.
    this.on("error", () => {});
  }

  /** HOST:PORT of the client, for logs. */
  get peer(): string {
    return `${this.remoteAddress}:${this.remotePort}`;
  }

  /** Part of the request is still to come. */
  get incomplete(): boolean {
    if (this.stage === Stage.PAGE) return this.#bodyWanted?.() === false;
    return this.stage === Stage.REQUEST;
  }

  /** As `answeredSince`, of an answer that is to end and has not left this process; 0: none. */
  get unreadSince(): number {
    return this.streams || this.#linger !== undefined ? 0 : this.answeredSince;
  }

  evict(): void {
    this.#evicted(this);
  }

  setKeepAlive(enable: boolean, delayMs: number): void {
    this.#raw.setKeepAlive(enable, delayMs);
  }

  /** Sends a whole answer past the parser, and ends the connection. */
  answer(text: string): void {
    if (this.#gone) return;
    this.#headDone = true;
    this.#rest = undefined;
    if (this.#raw.writable) this.#raw.write(text);
    this.#endRaw();
  }

  /** As `answer`, but the place is wanted now: what the client has not read it need not get. */
  dismiss(text: string): void {
    if (this.#gone) return;
    if (this.#raw.writable) this.#raw.write(text);
    this.destroy();
  }

  /**
   * The request has no body, or nobody wants it: what still comes is dropped. `complete` is asked
   * where a body is wanted: it says whether the body is whole.
   */
  takeBody(complete?: () => boolean): void {
    this.#bodyWanted = complete;
    // A handler runs inside the parser, which must be through with the head before it gets more.
    setImmediate(() => {
      const rest = this.#rest;
      this.#rest = undefined;
      if (rest !== undefined) this.#behindHead(rest);
      this.#raw.resume();
    });
  }

  /** Leaves HTTP: the socket, and what came behind the request. */
  detach(): { socket: Socket; head: Buffer } {
    const head = this.#rest ?? Buffer.alloc(0);
    this.#rest = undefined;
    this.#raw.off("data", this.#onData);
    this.#raw.off("end", this.#onEnd);
    this.#raw.off("close", this.#onClose);
    this.#leave();
    return { socket: this.#raw, head };
  }

  // What the parser and its answers do.

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.answeredSince === 0) this.answeredSince = performance.now();
    this.#raw.write(bytes, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#endRaw();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#linger);
    if (!this.#gone) this.#raw.destroy();
    this.#leave();
    done(error);
  }

  // What the client does.

  readonly #onData = (bytes: Buffer): void => {
    if (this.#headDone) {
      this.#behindHead(bytes);
      return;
    }
    let from = 0;
    // RFC 9112, 2.2: empty lines before a request are ignored.
    if (!this.#begun) {
      while (from < bytes.length && (bytes[from] === CR || bytes[from] === LF)) from++;
      if (from === bytes.length) return;
      this.#begun = true;
      this.#owner.begun(this);
    }
    const end = this.#headEnd(bytes, from);
    if (end < 0) {
      this.push(from === 0 ? bytes : bytes.subarray(from));
      return;
    }
    this.#headDone = true;
    // Until a handler has said what it wants of the rest.
    this.#raw.pause();
    if (end < bytes.length) this.#rest = bytes.subarray(end);
    this.push(bytes.subarray(from, end));
    // A stream may hand on what was pushed later in this turn.
    setImmediate(() => {
      if (!this.#gone) this.#owner.headEnded(this);
    });
  };

  readonly #onEnd = (): void => {
    // A client that half-closes has left a stream, but still waits for a short answer.
    if (this.stage === Stage.PAGE && !this.streams && !this.incomplete) return;
    this.destroy();
  };

  readonly #onClose = (): void => {
    this.destroy();
  };

  /** Index behind the end of the head, or -1. */
  #headEnd(bytes: Buffer, from: number): number {
    for (let i = from; i < bytes.length; i++) {
      const wanted = this.#ending % 2 === 0 ? CR : LF;
      if (bytes[i] === wanted) this.#ending++;
      else this.#ending = bytes[i] === CR ? 1 : 0;
      if (this.#ending === END_BYTES) return i + 1;
    }
    return -1;
  }

  #behindHead(bytes: Buffer): void {
    let at = 0;
    while (this.#bodyWanted !== undefined && at < bytes.length) {
      if (this.#bodyWanted() || this.#bodyBytes > MAX_BODY_BYTES) {
        this.#bodyWanted = undefined;
        break;
      }
      const piece = bytes.subarray(at, at + BODY_PIECE_BYTES);
      at += piece.length;
      this.#bodyBytes += piece.length;
      this.push(piece);
    }
    if (at === bytes.length) return;
    if (this.#dropped === 0) this.#owner.pipelined(this);
    this.#dropped += bytes.length - at;
    if (this.#dropped > MAX_DROPPED_BYTES) this.destroy();
  }

  /**
   * Says the end, and reads on until the client says it too: a socket that is closed with bytes
   * unread resets the connection, and the client might lose the answer.
   */
  #endRaw(): void {
    if (this.#linger !== undefined) return;
    this.#raw.end(() => {
      if (this.#gone) return;
      this.stage = Stage.OVER;
      this.#raw.resume();
      this.#linger = setTimeout(() => this.destroy(), LINGER_MS);
      this.#owner.answered(this);
    });
  }

  #leave(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#owner.left(this);
  }
}
