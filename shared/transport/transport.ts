/**
 * The interface through which a link sends and receives messages. `framed.ts` implements it.
 * Tests join two ends in one process.
 */
export interface Transport {
  /**
   * Sends bytes[at .. at + length) as one message. Calls `done` once, when the bytes are no longer
   * needed. Until then the transport may change the message and the FRAME_ROOM bytes in front of it.
   */
  send(bytes: Uint8Array, at: number, length: number, done: () => void): void;
  /** False after either side has announced the end. Later messages are not sent. */
  readonly open: boolean;
  /** Bytes passed to `send` that the system has not accepted yet. */
  readonly unsentBytes: number;
  /** Bytes received since the start, incomplete messages included: they are signs of life, too. */
  readonly receivedBytes: number;
  /**
   * Called with one whole message, bytes[at .. at + length), which is not in a Buffer. The bytes are
   * valid during the call only.
   */
  onMessage: (bytes: Uint8Array, at: number, length: number) => void;
  /** Called once, whichever side closed. */
  onClose: (code: number, reason: string) => void;
  /** Sends all unsent messages and the reason, then ends. */
  close(code: number, reason: string): void;
  /**
   * Ends at once. Drops the messages that have not begun to leave. The peer gets code and reason if it
   * reads what has left.
   */
  abort(code: number, reason: string): void;
}
