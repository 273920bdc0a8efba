/**
 * A capture into a named pipe that another program created and reads, as Wireshark does for its
 * extcap programs.
 *
 * The pipe is opened and written without blocking. A write that waits in Node's thread pool for a
 * reader could not be ended, not even by process.exit. A process that only writes notices at its
 * next write that the reader has left, and that write may never come. So the pipe is opened once
 * more from time to time, which fails without a reader (fifo(7): ENXIO).
 */
import { close, constants, open } from "node:fs";
import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { type CaptureOutput, type CaptureSink, SinkError } from "../../shared/capture/output.ts";
import { StreamOutput } from "../../shared/capture/stream-output.ts";

/** Time (ms) between two tries to open the pipe while there is no reader. */
const RETRY_MS = 20;
const WATCH_MS = 1000;

const openFile = promisify(open);
const closeFile = promisify(close);

export class FifoOutput implements CaptureOutput {
  readonly name: string;
  #aborted = false;
  #socket: Socket | undefined;

  constructor(path: string) {
    this.name = path;
  }

  /** True after `abort`. Later failures are not reported. */
  get aborted(): boolean {
    return this.#aborted;
  }

  /** Waits for a reader. Rejects with SinkError without such a pipe, and after `abort`. */
  async attach(): Promise<void> {
    const fd = await this.#opened();
    const socket = new Socket({ fd, readable: false, writable: true });
    this.#socket = socket;
    const watch = setInterval(() => void this.#look(socket), WATCH_MS);
    socket.once("close", () => clearInterval(watch));
  }

  /** Returns the pipe. Waits for a reader if `attach` was not called. */
  async open(
    number: number,
    startMs: number,
    onGone: (error: SinkError) => void,
  ): Promise<CaptureSink> {
    if (this.#socket === undefined) await this.attach();
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed) {
      throw new SinkError("EPIPE", `${this.name} has no reader`);
    }
    return new StreamOutput(socket, this.name).open(number, startMs, onGone);
  }

  /** Ends the wait for a first reader. */
  waitNoLonger(): void {
    if (this.#socket === undefined) this.#aborted = true;
  }

  /** Closes the pipe. Ends the wait for a reader, or for a reader that does not read. */
  abort(): void {
    this.#aborted = true;
    this.#socket?.destroy();
  }

  async #opened(): Promise<number> {
    for (;;) {
      if (this.#aborted) throw new SinkError("EPIPE", `${this.name} has no reader`);
      const fd = await this.#tried();
      if (fd !== undefined) return fd;
      await sleep(RETRY_MS);
    }
  }

  /** Opens the pipe. Returns undefined while there is no reader. */
  async #tried(): Promise<number | undefined> {
    try {
      return await openFile(this.name, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch (error) {
      const failure = SinkError.from(error);
      if (failure.code === "ENXIO") return undefined;
      throw failure;
    }
  }

  async #look(socket: Socket): Promise<void> {
    try {
      const fd = await this.#tried();
      if (fd === undefined) socket.destroy();
      else await closeFile(fd);
    } catch {
      // The name may be removed while the pipe is in use. That says nothing about the reader.
    }
  }
}
