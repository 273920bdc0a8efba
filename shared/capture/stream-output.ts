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

  constructor(name: string, stream: Writable, onGone: (error: SinkError) => void) {
    this.name = name;
    this.#stream = stream;
    // A stream without a listener for errors ends the process.
    stream.on("error", (error) => onGone(SinkError.from(error)));
    stream.on("close", () => onGone(new SinkError("EPIPE", `${name} was closed`)));
    if (stream.destroyed) onGone(new SinkError("EPIPE", `${name} was closed`));
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
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
