/**
 * Captures through a Node stream: the answer to a request, a socket. One file, no rotation. Its reader
 * can stand still for as long as it likes, or until it is cut off.
 */
import type { Writable } from "node:stream";
import { type CaptureOutput, type CaptureSink, SinkError } from "./output.ts";

export class StreamOutput implements CaptureOutput, CaptureSink {
  readonly name: string;
  /** When the write that is under way began, by performance.now; undefined while there is none. */
  waitingSince: number | undefined;
  readonly #stream: Writable;
  #onGone: (error: SinkError) => void = () => {};
  /** Ends the write that is under way. */
  #fail: (error: SinkError) => void = () => {};

  /** The stream is the capture's from now on: it is ended with it. */
  constructor(stream: Writable, name: string) {
    this.#stream = stream;
    this.name = name;
  }

  /** Ends it, with what it has not taken: a failure that says `why`. */
  cutOff(why: string): void {
    // First the reason: an answer over HTTP says of its end only that it came.
    this.#gone(new SinkError("ETIMEDOUT", why));
    this.#stream.destroy();
  }

  async open(
    number: number,
    _startMs: number,
    onGone: (error: SinkError) => void,
  ): Promise<CaptureSink> {
    if (number > 1) throw new SinkError("ENOTSUP", `${this.name} is one file`);
    this.#onGone = onGone;
    // A stream without a listener for errors ends the process.
    this.#stream.on("error", (error) => this.#gone(SinkError.from(error)));
    this.#stream.on("close", () => this.#gone(new SinkError("EPIPE", `${this.name} was closed`)));
    return this;
  }

  #gone(error: SinkError): void {
    // A destroyed stream need not call back for what it had taken.
    this.#fail(error);
    this.#onGone(error);
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      this.waitingSince = performance.now();
      // The callback comes when the bytes have been taken, so a slow reader shows as a slow write.
      this.#stream.write(bytes, (error) => {
        this.waitingSince = undefined;
        if (error) reject(SinkError.from(error));
        else resolve();
      });
    });
  }

  close(): Promise<void> {
    if (this.#stream.destroyed) return Promise.resolve();
    this.waitingSince = performance.now();
    return new Promise((resolve) => {
      const closed = (): void => {
        this.waitingSince = undefined;
        resolve();
      };
      this.#stream.once("close", closed);
      this.#stream.end(closed);
    });
  }
}
