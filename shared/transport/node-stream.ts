/** A stream on a socket of Node: TLS, and wherever there is no reactor. */
import type { Socket } from "node:net";
import { copyBytes } from "../bytes/copy.ts";
import type { ByteStream, StreamOwner } from "./stream.ts";

/** Bytes that are handed to Node at most, so that the rest can still be dropped. */
const AT_ONCE_BYTES = 256 * 1024;

interface Waiting {
  readonly bytes: Uint8Array;
  readonly done: () => void;
}

export class NodeStream implements ByteStream {
  readonly #socket: Socket;
  #owner: StreamOwner | undefined;
  #isReading = false;
  /** True when the owner has input left from an earlier turn. */
  #isBehind = false;
  #hasEnded = false;
  /** The writes that Node does not have yet, in order, and the number of their bytes. */
  readonly #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #isEnding = false;
  receivedBytes = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.pause();
    socket.setNoDelay(true);
  }

  get unsentBytes(): number {
    return this.#socket.writableLength + this.#waitingBytes;
  }

  read(owner: StreamOwner): void {
    this.#owner = owner;
    this.#isReading = true;
    const socket = this.#socket;
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("end", () => this.#ended());
    socket.on("close", () => this.#ended());
    // "close" follows.
    socket.on("error", () => {});
    // In the next turn: the owner's handlers are not set yet.
    if (socket.closed) setImmediate(() => this.#ended());
    else if (owner.input.end > owner.input.start) this.#after(true);
    else socket.resume();
  }

  stopReading(): void {
    this.#isReading = false;
    this.#socket.pause();
  }

  write(bytes: Uint8Array, at: number, length: number, done: () => void): void {
    const part = bytes.subarray(at, at + length);
    const isFree = this.#waiting.length === 0 && this.#socket.writableLength === 0;
    if (isFree) this.#hand(part, done);
    else {
      this.#waiting.push({ bytes: part, done });
      this.#waitingBytes += length;
    }
  }

  #hand(bytes: Uint8Array, done: () => void): void {
    let isDone = false;
    const finish = (): void => {
      if (isDone) return;
      isDone = true;
      done();
    };
    this.#socket.write(bytes, () => {
      finish();
      this.#handMore();
    });
    // Node tells of a write in a later tick, also when the system has accepted all bytes at once.
    if (this.#socket.writableLength === 0) finish();
  }

  #handMore(): void {
    const socket = this.#socket;
    if (this.#waiting.length === 0 || socket.writableLength > 0) return;
    if (socket.destroyed) {
      this.dropWaiting();
      return;
    }
    // Corked writes leave together.
    socket.cork();
    while (this.#waiting.length > 0 && socket.writableLength < AT_ONCE_BYTES) {
      const { bytes, done } = this.#waiting.shift()!;
      this.#waitingBytes -= bytes.length;
      this.#hand(bytes, done);
    }
    socket.uncork();
    if (this.#isEnding && this.#waiting.length === 0) socket.end();
  }

  dropWaiting(): void {
    this.#waitingBytes = 0;
    for (const { done } of this.#waiting.splice(0)) done();
  }

  end(): void {
    this.#isEnding = true;
    if (this.#waiting.length === 0) this.#socket.end();
  }

  destroy(): void {
    this.#isReading = false;
    this.#socket.destroy();
    this.dropWaiting();
  }

  #take(chunk: Buffer): void {
    this.receivedBytes += chunk.length;
    if (!this.#isReading) return;
    const { input } = this.#owner!;
    // A chunk that comes although the socket is paused waits behind the rest.
    let isBehind = this.#isBehind;
    for (let at = 0; at < chunk.length && this.#isReading; ) {
      const n = Math.min(input.room(), chunk.length - at);
      copyBytes(chunk, at, input.bytes, input.end, n);
      input.end += n;
      at += n;
      if (!isBehind) isBehind = this.#owner!.received();
    }
    this.#after(isBehind);
  }

  #after(isBehind: boolean): void {
    if (!this.#isReading) return;
    if (!isBehind) this.#socket.resume();
    else if (!this.#isBehind) {
      this.#socket.pause();
      setImmediate(() => this.#rest());
    }
    this.#isBehind = isBehind;
  }

  #rest(): void {
    this.#isBehind = false;
    if (this.#isReading) this.#after(this.#owner!.received());
  }

  #ended(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    if (this.#isReading) this.#owner!.ended();
  }
}
