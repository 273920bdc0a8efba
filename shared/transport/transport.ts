/**
 * What a link needs of the thing that carries its messages. `websocket.ts` is the implementation;
 * tests join two ends in one process.
 */
export interface Transport {
  /**
   * Sends one message. `done` is called once, when its bytes are no longer needed. Until then the
   * message and the FRAME_ROOM bytes in front of it in its buffer are the transport's to change.
   */
  send(message: Uint8Array, done: () => void): void;
  /** False once either side has said that it ends: what is sent then goes nowhere. */
  readonly open: boolean;
  /** Bytes handed to `send` that the system has not taken yet. */
  readonly unsentBytes: number;
  /** Bytes ever received, counted below the message level: a half message is life too. */
  readonly receivedBytes: number;
  /** One whole message, no Buffer. Its bytes are valid during the call only. */
  onMessage: (message: Uint8Array) => void;
  /** Called once, whoever closed. */
  onClose: (code: number, reason: string) => void;
  /** Says why and ends after what is unsent. */
  close(code: number, reason: string): void;
  /** Ends now. */
  terminate(): void;
  /** Everything sent until `uncork` may leave in one system call. */
  cork(): void;
  uncork(): void;
}
