/**
 * A stream on a descriptor, read and written by the reactor. A message is read and written without
 * a stream of Node and without a copy.
 */
import type { Socket } from "node:net";
import type { Reactor, Watch } from "../reactor/reactor.ts";
import * as sys from "../reactor/sys.ts";
import { type ByteStream, held, type StreamOwner } from "./stream.ts";

const FLAGS = sys.MSG_DONTWAIT | sys.MSG_NOSIGNAL;

interface Tail {
  readonly bytes: Uint8Array;
  at: number;
  length: number;
  /** True when the system has accepted a part of the write. */
  hasBegun: boolean;
  readonly done: () => void;
}

/** Keeps the address of the array that was used last. All streams share a few arrays of pools. */
class LastAddress {
  #bytes: Uint8Array = new Uint8Array(0);
  #address = 0;

  of(bytes: Uint8Array): number {
    if (bytes !== this.#bytes) {
      this.#address = sys.addressOfBuffer(bytes.buffer) + bytes.byteOffset;
      this.#bytes = bytes;
    }
    return this.#address;
  }
}

const received = new LastAddress();
const sent = new LastAddress();

export class FdStream implements ByteStream {
  readonly #fd: number;
  readonly #watch: Watch;
  /** What the system has not accepted yet, in order. */
  readonly #queue: Tail[] = [];
  #owner: StreamOwner | undefined;
  /** True when the owner has input left from an earlier turn. */
  #isBehind = false;
  #isReading = false;
  #isEnding = false;
  #closed = false;
  unsentBytes = 0;
  receivedBytes = 0;

  /**
   * Takes the connection over from a socket of Node, which ends. Returns undefined when the socket
   * has no descriptor (TLS, another runtime) or has unsent bytes.
   */
  static takeOver(reactor: Reactor, socket: Socket): FdStream | undefined {
    const handle = (socket as unknown as { _handle?: { fd?: number } | null })._handle;
    // A TLS socket has the descriptor of the connection below, with records in place of frames.
    const isTls = (socket as { encrypted?: boolean }).encrypted === true;
    const old = isTls || socket.writableLength > 0 ? -1 : (handle?.fd ?? -1);
    const fd = old < 0 ? -1 : sys.fcntl(old, sys.F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return undefined;
    socket.destroy();
    return new FdStream(reactor, fd);
  }

  private constructor(reactor: Reactor, fd: number) {
    this.#fd = fd;
    this.#watch = reactor.watch(fd, 0, (events) => this.#ready(events));
    held.descriptors++;
  }

  read(owner: StreamOwner): void {
    this.#owner = owner;
    this.#isReading = true;
    this.#interest();
    // Bytes that came with the handshake are in the buffer already.
    if (owner.input.end > owner.input.start) {
      this.#isBehind = true;
      this.#watch.again();
    }
  }

  stopReading(): void {
    this.#isReading = false;
    this.#interest();
  }

  write(bytes: Uint8Array, at: number, length: number, done: () => void): void {
    if (this.#closed || this.#isEnding) {
      done();
      return;
    }
    let n = 0;
    if (this.#queue.length === 0) {
      n = Math.max(0, this.#send(bytes, at, length));
      if (n === length) {
        done();
        return;
      }
    }
    this.#queue.push({ bytes, at: at + n, length: length - n, hasBegun: n > 0, done });
    this.unsentBytes += length - n;
    this.#interest();
  }

  dropWaiting(): void {
    for (const { length, done } of this.#queue.splice(this.#queue[0]?.hasBegun === true ? 1 : 0)) {
      this.unsentBytes -= length;
      done();
    }
  }

  end(): void {
    if (this.#isEnding || this.#closed) return;
    this.#isEnding = true;
    if (this.#queue.length === 0) sys.shutdown(this.#fd, sys.SHUT_WR);
  }

  destroy(): void {
    if (this.#closed) return;
    this.#closed = true;
    held.descriptors--;
    this.#watch.close();
    sys.close(this.#fd);
    this.unsentBytes = 0;
    for (const { done } of this.#queue.splice(0)) done();
  }

  /** Sends what the system accepts at once. Returns the number of bytes; -1 when it is lost. */
  #send(bytes: Uint8Array, at: number, length: number): number {
    for (;;) {
      const n = sys.send(this.#fd, sent.of(bytes) + at, length, FLAGS);
      if (n >= 0) return n;
      const why = sys.errno();
      if (why === sys.EAGAIN) return 0;
      if (why !== sys.EINTR) return -1;
    }
  }

  #ready(events: number): void {
    if ((events & sys.EPOLLOUT) !== 0) this.#drain();
    if (this.#closed) return;
    if (!this.#isReading) {
      if ((events & (sys.EPOLLERR | sys.EPOLLHUP)) !== 0) this.#lost();
      return;
    }
    // Without events, the owner has input left. Errors and hang-ups are for `recv` to report.
    if (events === 0 || (events & ~sys.EPOLLOUT) !== 0) this.#read();
  }

  #read(): void {
    const { input } = this.#owner!;
    if (!this.#isBehind) {
      const room = input.room();
      const n = sys.recv(this.#fd, received.of(input.bytes) + input.end, room, FLAGS);
      if (n <= 0) {
        input.settle();
        const why = n < 0 ? sys.errno() : 0;
        if (why !== sys.EAGAIN && why !== sys.EINTR) this.#lost();
        return;
      }
      this.receivedBytes += n;
      input.end += n;
    }
    this.#isBehind = this.#owner!.received();
    if (this.#closed) return;
    if (this.#isBehind) this.#watch.again();
    this.#interest();
  }

  #drain(): void {
    const queue = this.#queue;
    while (queue.length > 0) {
      const tail = queue[0]!;
      const n = this.#send(tail.bytes, tail.at, tail.length);
      if (n < 0) {
        this.#lost();
        return;
      }
      this.unsentBytes -= n;
      if (n < tail.length) {
        tail.at += n;
        tail.length -= n;
        tail.hasBegun ||= n > 0;
        return;
      }
      queue.shift();
      tail.done();
    }
    if (this.#isEnding) sys.shutdown(this.#fd, sys.SHUT_WR);
    this.#interest();
  }

  #lost(): void {
    const owner = this.#owner;
    const wasReading = this.#isReading;
    this.#isReading = false;
    this.destroy();
    if (wasReading) owner?.ended();
  }

  #interest(): void {
    const reads = this.#isReading && !this.#isBehind;
    this.#watch.want((reads ? sys.EPOLLIN : 0) | (this.#queue.length > 0 ? sys.EPOLLOUT : 0));
  }
}
