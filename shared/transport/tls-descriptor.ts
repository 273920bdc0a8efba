/**
 * The descriptor of a TLS connection whose handshake is over. OpenSSL seals and opens its records in
 * memory, so that one system call moves many of them.
 *
 *   send ────► SSL_write ──► sink ──► send(2)       the sink is one for all connections
 *   receive ◄── SSL_read ◄── source ◄── recv(2)     the source is the buffer of recv, read in place
 *
 * After each call of OpenSSL that may write, the sink is emptied, so no record of a connection
 * reaches another one.
 *
 * Source: the manual pages of OpenSSL 3, SSL_read, SSL_write, BIO_s_bio, BIO_s_mem; RFC 8446, 4.6.
 */
import * as ssl from "../reactor/openssl.ts";
import * as sys from "../reactor/sys.ts";
import { type Descriptor, received, receiveNow, sendNow, sent } from "./descriptor.ts";
import type { ReadBuffer } from "./read-buffer.ts";

/** Most bytes that one call seals. */
const SEAL_BYTES = 128 * 1024;
/** Room of the sink: sealed bytes with the headers and tags of their records, and some answers. */
const SINK_BYTES = SEAL_BYTES + 32 * 1024;
/** Most bytes of records that one turn receives. The smallest record has 23, and takes 1 µs. */
const RECEIVE_BYTES = 64 * 1024;
/** Most records in a row without data, such as a change of keys. OpenSSL answers some of them. */
const MAX_EMPTY_RECORDS = 32;
/** Most answers of OpenSSL that may wait for a peer that does not read. */
const MAX_ANSWERS = 32;

/** What all connections share. The buffers are fields of an object that lives, see sys.ts. */
class Shared {
  /** Records that a connection has just received. */
  readonly #records = new Uint8Array(RECEIVE_BYTES);
  readonly records = sys.addressOf(this.#records);
  /** The end of the sink into which OpenSSL writes. */
  readonly sink: number;
  readonly #output: number;
  readonly #pointer = new Uint32Array(sys.LEAST_BYTES);
  readonly #pointerAddress = sys.addressOf(this.#pointer);

  constructor() {
    [this.sink, this.#output] = ssl.newPair(SINK_BYTES);
  }

  get sinkBytes(): number {
    return ssl.bioPending(this.#output);
  }

  /** Empties the sink of its `bytes`. Returns their address, which is valid until the next write. */
  take(bytes: number): number {
    ssl.takeFromPair(this.#output, this.#pointerAddress, bytes);
    return ssl.pointerAt(this.#pointer);
  }
}
let shared: Shared | undefined;

export class TlsDescriptor implements Descriptor {
  readonly fd: number;
  readonly #ssl: number;
  readonly #shared: Shared;
  /** Records that the system has not accepted, in order, and the place of the first byte in the first. */
  readonly #waiting: Uint8Array[] = [];
  #waitingAt = 0;
  waitingBytes = 0;
  #early: Uint8Array | undefined;
  /** True when no more records are opened. */
  #isOver = false;

  /**
   * Owns the descriptor and the SSL, whose handshake is over. `early`: records that were received
   * before.
   */
  constructor(fd: number, connection: number, early: Uint8Array) {
    this.fd = fd;
    this.#ssl = connection;
    this.#early = early;
    shared ??= new Shared();
    this.#shared = shared;
    ssl.useSink(connection, shared.sink);
    ssl.setUp(connection);
  }

  get hasEarly(): boolean {
    return this.#early !== undefined;
  }

  send(bytes: Uint8Array, at: number, length: number): number {
    let n = 0;
    while (n < length && this.waitingBytes === 0) {
      const part = Math.min(length - n, SEAL_BYTES);
      if (ssl.write(this.#ssl, sent.of(bytes) + at + n, part) !== part) {
        this.#fail();
        return -1;
      }
      if (!this.#emptySink()) return -1;
      n += part;
    }
    return n;
  }

  flush(): boolean {
    while (this.#waiting.length > 0) {
      const first = this.#waiting[0]!;
      const left = first.length - this.#waitingAt;
      const n = sendNow(this.fd, sys.addressOfBuffer(first.buffer) + this.#waitingAt, left);
      if (n < 0) return false;
      this.waitingBytes -= n;
      this.#waitingAt += n;
      if (n < left) return true;
      this.#waiting.shift();
      this.#waitingAt = 0;
    }
    return true;
  }

  receive(input: ReadBuffer): number {
    if (this.#isOver) return -1;
    const early = this.#early;
    if (early !== undefined) {
      this.#early = undefined;
      const before = input.end - input.start;
      const address = early.length === 0 ? 0 : sys.addressOfBuffer(early.buffer);
      if (early.length > 0) this.#open(address, early.length, input);
      return early.length + (input.end - input.start) - before;
    }
    const n = receiveNow(this.fd, this.#shared.records, RECEIVE_BYTES);
    if (n > 0) this.#open(this.#shared.records, n, input);
    return n;
  }

  /** Opens the records at `address`. OpenSSL keeps the begin of a record that is not whole. */
  #open(address: number, length: number, input: ReadBuffer): void {
    const source = ssl.readFrom(this.#ssl, address, length);
    let room = 0;
    for (let empty = 0; empty < MAX_EMPTY_RECORDS; ) {
      if (room === 0) room = input.room();
      const n = ssl.read(this.#ssl, received.of(input.bytes) + input.end, room);
      if (n > 0) {
        input.end += n;
        room -= n;
        empty = 0;
      } else if (ssl.want(this.#ssl) !== ssl.SSL_READING) {
        this.#fail();
        return;
      } else if (ssl.bioPending(source) === 0) {
        if (!this.#emptySink() || this.#waiting.length > MAX_ANSWERS) this.#fail();
        return;
      } else empty++;
    }
    this.#fail();
  }

  /** Sends what OpenSSL has written, behind all that waits. Returns false when it is lost. */
  #emptySink(): boolean {
    const length = this.#shared.sinkBytes;
    if (length === 0) return true;
    const address = this.#shared.take(length);
    const n = this.waitingBytes > 0 ? 0 : sendNow(this.fd, address, length);
    if (n < 0) return false;
    if (n < length) {
      const rest = new Uint8Array(Math.max(length - n, sys.LEAST_BYTES));
      sys.copyFrom(address + n, rest, length - n);
      this.#waiting.push(rest.subarray(0, length - n));
      this.waitingBytes += length - n;
    }
    return true;
  }

  /** Sends the alert of OpenSSL, and ends both directions. epoll reports that, and `receive` then. */
  #fail(): void {
    this.#isOver = true;
    this.#emptySink();
    ssl.clearErrors();
    sys.shutdown(this.fd, sys.SHUT_RDWR);
  }

  end(): void {
    // Records that the system does not accept now are lost. The end of the stream is there anyway.
    if (!this.#isOver) {
      ssl.shutdown(this.#ssl);
      this.#emptySink();
      ssl.clearErrors();
    }
    sys.shutdown(this.fd, sys.SHUT_WR);
  }

  close(): void {
    this.#waiting.length = 0;
    this.waitingBytes = 0;
    sys.close(this.fd);
    ssl.free(this.#ssl);
  }
}
