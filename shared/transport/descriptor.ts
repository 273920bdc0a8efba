/** The descriptor of a connection, and what its bytes need on their way: nothing, or TLS. */
import * as sys from "../reactor/sys.ts";
import type { ReadBuffer } from "./read-buffer.ts";

export const FLAGS = sys.MSG_DONTWAIT | sys.MSG_NOSIGNAL;

export interface Descriptor {
  readonly fd: number;
  /**
   * Sends what the system accepts at once. Returns the number of bytes that are no longer needed; -1
   * when the connection is lost.
   */
  send(bytes: Uint8Array, at: number, length: number): number;
  /** Bytes that `send` has processed and the system has not accepted. `send` processes none meanwhile. */
  readonly waitingBytes: number;
  /** Sends the waiting bytes as far as the system accepts them. Returns false when they are lost. */
  flush(): boolean;
  /**
   * Reads into `input`. Returns the number of bytes that were received, which are not all in `input`
   * then; 0 when there are none, -1 at the end or when the connection is lost.
   */
  receive(input: ReadBuffer): number;
  /** True when `receive` has bytes that the system does not report. */
  readonly hasEarly: boolean;
  /** Announces the end. */
  end(): void;
  close(): void;
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

export const received = new LastAddress();
export const sent = new LastAddress();

/** Sends bytes at an address. Returns the number that the system accepts; -1 when they are lost. */
export function sendNow(fd: number, address: number, length: number): number {
  for (;;) {
    const n = sys.send(fd, address, length, FLAGS);
    if (n >= 0) return n;
    const why = sys.errno();
    if (why === sys.EAGAIN) return 0;
    if (why !== sys.EINTR) return -1;
  }
}

/** Receives bytes. Returns their number; 0 when there are none, -1 at the end or after an error. */
export function receiveNow(fd: number, address: number, room: number): number {
  const n = sys.recv(fd, address, room, FLAGS);
  if (n > 0) return n;
  const why = n < 0 ? sys.errno() : 0;
  return why === sys.EAGAIN || why === sys.EINTR ? 0 : -1;
}

export class PlainDescriptor implements Descriptor {
  readonly fd: number;
  readonly waitingBytes = 0;
  readonly hasEarly = false;

  constructor(fd: number) {
    this.fd = fd;
  }

  send(bytes: Uint8Array, at: number, length: number): number {
    return sendNow(this.fd, sent.of(bytes) + at, length);
  }

  flush(): boolean {
    return true;
  }

  receive(input: ReadBuffer): number {
    const room = input.room();
    const n = receiveNow(this.fd, received.of(input.bytes) + input.end, room);
    if (n > 0) input.end += n;
    return n;
  }

  end(): void {
    sys.shutdown(this.fd, sys.SHUT_WR);
  }

  close(): void {
    sys.close(this.fd);
  }
}
