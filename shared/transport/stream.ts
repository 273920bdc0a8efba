/** A TCP or TLS connection under a WebSocket, whichever way the system is asked. */
import type { ReadBuffer } from "./read-buffer.ts";

export interface StreamOwner {
  /** The stream reads into this buffer, behind the bytes that the owner has not processed yet. */
  readonly input: ReadBuffer;
  /**
   * Processes `input`, and gives back the memory that it does not need while it waits. Returns true
   * when it stopped for want of time. The stream then calls again in its next turn, before it reads
   * more.
   */
  received(): boolean;
  /** The peer sends no more, or the connection is lost. Called at most once. */
  ended(): void;
}

export interface ByteStream {
  /**
   * Sends bytes[at .. at + length) behind all earlier bytes. Calls `done` once, when they are no
   * longer needed. The array has more than 64 bytes, so that V8 does not move it.
   */
  write(bytes: Uint8Array, at: number, length: number, done: () => void): void;
  /** Bytes passed to `write` that the system has not accepted yet. */
  readonly unsentBytes: number;
  readonly receivedBytes: number;
  /** Begins to read. Called once. */
  read(owner: StreamOwner): void;
  /** Reads no more: further bytes of the peer stay in the kernel, and the TCP window closes. */
  stopReading(): void;
  /** Drops the writes that have not begun to leave, and calls their `done`. */
  dropWaiting(): void;
  /** Announces the end behind all written bytes. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** Descriptors that streams of this process hold besides the sockets of Node. */
export const held = { descriptors: 0 };
