/** Captures through a Node stream: the answer to a request, a socket. One file, no rotation. */
import type { Writable } from "node:stream";
import { type CaptureOutput, type CaptureSink, SinkError } from "./output.ts";

export class StreamOutput implements CaptureOutput {
  readonly name: string;
  readonly #stream: Writable;

  /** The stream is the capture's from now on: it is ended with it. */
  constructor(stream: Writable, name: string) {
    this.#stream = stream;
    this.name = name;
  }

  async open(
    number: number,
    _startMs: number,
    onGone: (error: SinkError) => void,
  ): Promise<CaptureSink> {
    if (number > 1) throw new SinkError("ENOTSUP", `${this.name} is one file`);
    return new StreamSink(this.name, this.#stream, onGone);
  }
}

class StreamSink implements CaptureSink {
  readonly name: string;
  readonly #stream: Writable;
  /** Ends the write that is under way. */
  #fail: (error: SinkError) => void = () => {};

  constructor(name: string, stream: Writable, onGone: (error: SinkError) => void) {
    this.name = name;
    this.#stream = stream;
    const gone = (error: SinkError): void => {
      // A destroyed stream need not call back for what it had taken.
      this.#fail(error);
      onGone(error);
    };
    // A stream without a listener for errors ends the process.
    stream.on("error", (error) => gone(SinkError.from(error)));
    stream.on("close", () => gone(new SinkError("EPIPE", `${name} was closed`)));
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      // The callback comes when the bytes have been taken, so a slow reader shows as a slow write.
      this.#stream.write(bytes, (error) => {
        if (error) reject(SinkError.from(error));
        else resolve();
      });
    });
  }

  close(): Promise<void> {
    if (this.#stream.destroyed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#stream.once("close", resolve);
      this.#stream.end(() => resolve());
    });
  }
}
