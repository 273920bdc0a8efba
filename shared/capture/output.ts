/** Where a capture goes: files, a descriptor, a stream; or a test's stub. */

export interface CaptureSink {
  /** Its name in messages. */
  readonly name: string;
  /**
   * Takes bytes behind those before; never called again before it has settled. Then the bytes
   * belong to the caller again. Rejects with SinkError.
   */
  write(bytes: Uint8Array): Promise<void>;
  /**
   * No more writes follow. After a failed write the last whole block ends at `wholeBytes`, and
   * what a file has behind it is worthless.
   */
  close(wholeBytes: number): Promise<void>;
}

/** The place where a recorder writes: one file, a series of files, a pipe, or a stream. */
export interface CaptureOutput {
  readonly name: string;
  /**
   * The sink for file `number`, from 1, that begins at `startMs` (milliseconds since 1970). More
   * than one is asked for only when the recorder rotates. A sink whose reader leaves between two
   * writes says so by `onGone`. Rejects with SinkError.
   */
  open(number: number, startMs: number, onGone: (error: SinkError) => void): Promise<CaptureSink>;
}

/** An output that takes no more. */
export class SinkError extends Error {
  /** The system's name of the error: ENOSPC, EPIPE ... */
  readonly code: string;
  /** Bytes of the failed write that did arrive. */
  readonly written: number;

  constructor(code: string, text: string, written = 0) {
    super(text);
    this.name = "SinkError";
    this.code = code;
    this.written = written;
  }

  /** Makes a SinkError of a system error, after `written` bytes. */
  static from(error: unknown, written = 0): SinkError {
    if (error instanceof SinkError) return error;
    const { code, message } = error as NodeJS.ErrnoException;
    return new SinkError(code ?? "UNKNOWN", message, written);
  }
}

const GONE: ReadonlySet<string> = new Set([
  "EPIPE",
  "ECONNRESET",
  "ERR_STREAM_DESTROYED",
  "ERR_STREAM_PREMATURE_CLOSE",
  "ERR_STREAM_WRITE_AFTER_END",
]);

/** The reader went away, as readers of a pipe do: an end and no failure. */
export const readerGone = (code: string): boolean => GONE.has(code);
