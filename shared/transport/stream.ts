/** A TCP or TLS connection under a WebSocket, whichever way the system is asked. */
import type { ReadBuffer } from "./read-buffer.ts";

export interface StreamOwner {
  /** The stream reads into this buffer, behind the bytes that the owner has not processed yet. */
  readonly input: ReadBuffer;
  /**
   * Processes `input` until `until` (ms, performance.now). Returns true when it stopped for want of
   * time. The stream then calls again in its next turn, before it reads more.
   */
  received(until: number): boolean;
  /** The peer sends no more, or the connection is lost. Called at most once. */
  ended(): void;
}

export interface ByteStream {
  /** Sends `bytes` behind all earlier ones. Calls `done` once, when they are no longer needed. */
  write(bytes: Uint8Array, done: () => void): void;
  /** Bytes passed to `write` that the system has not accepted yet. */
  readonly unsentBytes: number;
  readonly receivedBytes: number;
  /** Begins to read. Called once. */
  read(owner: StreamOwner): void;
  /** Reads no more: further bytes of the peer stay in the kernel, and the TCP window closes. */
  stopReading(): void;
  /** Announces the end behind all written bytes. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** Time (ms) in which one connection may process input before others have their turn. */
export const READ_MS = 2;

/** Descriptors that streams of this process hold besides the sockets of Node. */
export const held = { descriptors: 0 };
