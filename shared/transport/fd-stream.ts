/**
 * A stream on a descriptor, read and written by the reactor. A message is read and written without
 * a stream of Node and without a copy.
 */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Reactor, Watch } from "../reactor/reactor.ts";
import * as sys from "../reactor/sys.ts";
import { type Descriptor, PlainDescriptor } from "./descriptor.ts";
import { type ByteStream, held, type StreamOwner } from "./stream.ts";

interface Tail {
  readonly bytes: Uint8Array;
  at: number;
  length: number;
  /** True when the system has accepted a part of the write. */
  hasBegun: boolean;
  readonly done: () => void;
}

export class FdStream implements ByteStream {
  readonly #descriptor: Descriptor;
  readonly #watch: Watch;
  /** What the system has not accepted yet, in order. */
  readonly #queue: Tail[] = [];
  #owner: StreamOwner | undefined;
  /** True when the owner has input left from an earlier turn. */
  #isBehind = false;
  #isReading = false;
  #isEnding = false;
  #closed = false;
  #queuedBytes = 0;
  receivedBytes = 0;

  /**
   * Takes the connection over from a socket of Node, which ends. `takeTls` makes the descriptor of a
   * TLS connection. Returns undefined when the socket has no descriptor (another runtime) or has
   * unsent bytes, or when its TLS stays with Node.
   */
  static takeOver(
    reactor: Reactor,
    socket: Socket,
    takeTls?: (socket: TLSSocket, fd: number) => Descriptor | undefined,
  ): FdStream | undefined {
    const handle = (socket as unknown as { _handle?: { fd?: number } | null })._handle;
    const old = socket.writableLength > 0 ? -1 : (handle?.fd ?? -1);
    const fd = old < 0 ? -1 : sys.fcntl(old, sys.F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return undefined;
    // A TLS socket has the descriptor of the connection below, with records in place of frames.
    const isTls = "encrypted" in socket;
    const descriptor = isTls ? takeTls?.(socket as TLSSocket, fd) : new PlainDescriptor(fd);
    if (descriptor === undefined) {
      sys.close(fd);
      return undefined;
    }
    socket.destroy();
    return new FdStream(reactor, descriptor);
  }

  private constructor(reactor: Reactor, descriptor: Descriptor) {
    this.#descriptor = descriptor;
    this.#watch = reactor.watch(descriptor.fd, 0, (events) => this.#ready(events));
    held.descriptors++;
  }

  /** Bytes that the system has not accepted. */
  get unsentBytes(): number {
    return this.#queuedBytes + this.#descriptor.waitingBytes;
  }

  read(owner: StreamOwner): void {
    this.#owner = owner;
    this.#isReading = true;
    this.#interest();
    // Bytes that came with the handshake are in the buffer already.
    this.#isBehind = owner.input.end > owner.input.start;
    this.#resume();
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
    if (this.#queue.length === 0) n = Math.max(0, this.#descriptor.send(bytes, at, length));
    if (n === length) done();
    else {
      this.#queue.push({ bytes, at: at + n, length: length - n, hasBegun: n > 0, done });
      this.#queuedBytes += length - n;
    }
    this.#interest();
  }

  dropWaiting(): void {
    for (const { length, done } of this.#queue.splice(this.#queue[0]?.hasBegun === true ? 1 : 0)) {
      this.#queuedBytes -= length;
      done();
    }
  }

  end(): void {
    if (this.#isEnding || this.#closed) return;
    this.#isEnding = true;
    if (!this.#hasUnsent) this.#descriptor.end();
  }

  destroy(): void {
    if (this.#closed) return;
    this.#closed = true;
    held.descriptors--;
    this.#watch.close();
    this.#descriptor.close();
    this.#queuedBytes = 0;
    for (const { done } of this.#queue.splice(0)) done();
  }

  get #hasUnsent(): boolean {
    return this.#queue.length > 0 || this.#descriptor.waitingBytes > 0;
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
      const n = this.#descriptor.receive(input);
      if (n <= 0) {
        input.settle();
        if (n < 0) this.#lost();
        return;
      }
      this.receivedBytes += n;
    }
    this.#isBehind = this.#owner!.received();
    if (this.#closed) return;
    this.#resume();
    this.#interest();
  }

  /** Asks for another turn when there is input that no event announces. */
  #resume(): void {
    if (this.#isBehind || this.#descriptor.hasEarly) this.#watch.again();
  }

  #drain(): void {
    const queue = this.#queue;
    if (!this.#descriptor.flush()) {
      this.#lost();
      return;
    }
    while (queue.length > 0) {
      const tail = queue[0]!;
      const n = this.#descriptor.send(tail.bytes, tail.at, tail.length);
      if (n < 0) {
        this.#lost();
        return;
      }
      this.#queuedBytes -= n;
      if (n < tail.length) {
        tail.at += n;
        tail.length -= n;
        tail.hasBegun ||= n > 0;
        return;
      }
      queue.shift();
      tail.done();
    }
    if (this.#isEnding && !this.#hasUnsent) this.#descriptor.end();
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
    this.#watch.want((reads ? sys.EPOLLIN : 0) | (this.#hasUnsent ? sys.EPOLLOUT : 0));
  }
}
