/**
 * One TCP connection in front of the HTTP parser. The parser sees the first request and nothing
 * behind it:
 *
 *   socket ──► first request ──► parser            bytes behind the head are read when a handler
 *          ──► a body that is wanted ──►           wants a body, else dropped
 *          ◄── the answer, then the end ──
 *
 * So a client that sends many requests at once gets one answer. Its other requests are not parsed
 * and use no memory.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { inSlice } from "../../shared/slices.ts";
import type { Occupant } from "./places.ts";

/** Stages of a connection, in the order of its life. */
export const Stage = {
  /** The first request is not whole yet. */
  REQUEST: 0,
  /** A page answers the request. */
  PAGE: 1,
  /** The answer was sent, or the connection left HTTP. */
  OVER: 2,
} as const;
export type Stage = (typeof Stage)[keyof typeof Stage];

const CR = 13;
const LF = 10;
/** Length of CR LF CR LF, which ends the head. */
const END_BYTES = 4;
/** Size of the pieces in which the parser gets a body, so that few bytes behind it come along. */
const BODY_PIECE_BYTES = 512;
/** Upper bound of a wanted body with its chunk framing. */
const MAX_BODY_BYTES = 16 * 1024;
/** Most bytes behind the first request that are read and dropped. More cut the connection. */
const MAX_DROPPED_BYTES = 1 << 20;
/** Time (ms) for a client to close, counted from when the whole answer has left this process. */
const LINGER_MS = 1000;

/** HOST:PORT of the client of a socket, for logs. */
export const peerOf = ({
  remoteAddress = "",
  remotePort = 0,
}: Pick<Socket, "remoteAddress" | "remotePort">): string => `${remoteAddress}:${remotePort}`;

export interface FrontOwner {
  /** The first bytes of a request have arrived, so the connection needs the parser. */
  begun(front: FrontSocket): void;
  /** The head is whole, and the parser has read it. */
  headEnded(front: FrontSocket): void;
  /** The answer has left this process. The connection waits for the client to close. */
  answered(front: FrontSocket): void;
  /** A newer connection needs the place. */
  evicted(front: FrontSocket): void;
  /** The client sent more than one request. Called once. */
  pipelined(front: FrontSocket): void;
  /** The connection was closed or upgraded, and no longer belongs to this module. Called once. */
  left(front: FrontSocket): void;
}

export class FrontSocket extends Duplex implements Occupant {
  readonly address: string;
  /** Common name of the client's certificate, if it showed one of a known issuer. */
  readonly certificate: string | undefined;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly since = performance.now();
  stage: Stage = Stage.REQUEST;
  /** True for an answer that goes on until the client ends the connection. */
  streams = false;
  /** Time (ms, performance.now) at which the first byte of the answer was written; 0 before. */
  answeredSince = 0;
  readonly #raw: Socket;
  readonly #owner: FrontOwner;
  /** Number of bytes of CR LF CR LF that have matched so far. */
  #ending = 0;
  #begun = false;
  #headDone = false;
  /** Returns true when the body is whole. Set by a page that reads the body. */
  #bodyWanted: (() => boolean) | undefined;
  #bodyBytes = 0;
  #dropped = 0;
  /** Bytes behind the head that arrived in the same read. */
  #rest: Buffer | undefined;
  #gone = false;
  #linger: NodeJS.Timeout | undefined;

  constructor(raw: Socket, address: string, owner: FrontOwner, certificate?: string) {
    super({ allowHalfOpen: true });
    this.#raw = raw;
    this.#owner = owner;
    this.address = address;
    this.certificate = certificate;
    this.remoteAddress = raw.remoteAddress ?? "";
    this.remotePort = raw.remotePort ?? 0;
    raw.on("data", this.#onData);
    raw.on("end", this.#onEnd);
    raw.on("close", this.#onClose);
    // The parser adds its own listener only when the first byte arrives.
    this.on("error", () => {});
  }

  /** HOST:PORT of the client, for logs. */
  get peer(): string {
    return peerOf(this);
  }

  /** True while a part of the request has not arrived. */
  get incomplete(): boolean {
    if (this.stage === Stage.PAGE) return this.#bodyWanted?.() === false;
    return this.stage === Stage.REQUEST;
  }

  /**
   * As `answeredSince`, while an answer has not left this process. 0 when there is no such answer,
   * and for an answer that streams.
   */
  get unreadSince(): number {
    return this.streams || this.#linger !== undefined ? 0 : this.answeredSince;
  }

  evict(): void {
    this.#owner.evicted(this);
  }

  setKeepAlive(enable: boolean, delayMs: number): void {
    this.#raw.setKeepAlive(enable, delayMs);
  }

  /** Sends a whole answer without the parser, and ends the connection. */
  answer(text: string): void {
    if (this.#gone) return;
    this.#headDone = true;
    this.#rest = undefined;
    if (this.#raw.writable) this.#raw.write(text);
    this.#endRaw();
  }

  /** As `answer`, but closes at once to free the place. The client may lose part of the answer. */
  dismiss(text: string): void {
    if (this.#gone) return;
    if (this.#raw.writable) this.#raw.write(text);
    this.destroy();
  }

  /**
   * Resumes reading behind the head. With `complete`, the parser gets the body until `complete`
   * returns true. Without it, or after that, all further bytes are dropped.
   */
  takeBody(complete?: () => boolean): void {
    this.#bodyWanted = complete;
    // A handler runs inside the parser. The parser must finish the head before it gets more bytes.
    setImmediate(() => {
      const rest = this.#rest;
      this.#rest = undefined;
      if (rest !== undefined) this.#behindHead(rest);
      this.#raw.resume();
    });
  }

  /** Leaves HTTP. Returns the socket and the bytes that have arrived behind the request. */
  detach(): { socket: Socket; head: Buffer } {
    const head = this.#rest ?? Buffer.alloc(0);
    this.#rest = undefined;
    this.#raw.off("data", this.#onData);
    this.#raw.off("end", this.#onEnd);
    this.#raw.off("close", this.#onClose);
    this.#leave();
    return { socket: this.#raw, head };
  }

  // Calls of the parser and of its answers.

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

  // Events of the client's socket.

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
      // Hundreds of clients may send their requests in the same turn.
      this.#raw.pause();
      inSlice(() => {
        if (this.#gone || this.#headDone) return;
        this.#raw.resume();
        this.#owner.begun(this);
        this.#readHead(bytes, from);
      });
      return;
    }
    this.#readHead(bytes, from);
  };

  #readHead(bytes: Buffer, from: number): void {
    const end = this.#headEnd(bytes, from);
    if (end < 0) {
      this.push(from === 0 ? bytes : bytes.subarray(from));
      return;
    }
    this.#headDone = true;
    // The socket stays paused until a handler calls takeBody or detach.
    this.#raw.pause();
    if (end < bytes.length) this.#rest = bytes.subarray(end);
    this.push(bytes.subarray(from, end));
    // A stream may deliver pushed bytes later in this turn of the event loop.
    setImmediate(() => {
      if (!this.#gone) this.#owner.headEnded(this);
    });
  }

  readonly #onEnd = (): void => {
    // A client that half-closes still waits for a short answer. A stream ends here.
    if (this.stage === Stage.PAGE && !this.streams && !this.incomplete) return;
    this.destroy();
  };

  readonly #onClose = (): void => {
    this.destroy();
  };

  /** Returns the index behind the end of the head, or -1 when the end has not arrived. */
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
   * Sends the end, and reads on until the client sends its own end. Closing a socket with unread
   * bytes would reset the connection, and the client might lose the answer.
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
