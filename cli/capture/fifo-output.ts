/**
 * A capture into a named pipe that somebody else made and reads, as Wireshark does with its extcap
 * programs.
 *
 * The pipe is opened and written without blocking: a write that waits in Node's thread pool for a
 * reader that never comes could not be ended, not even by process.exit. A process that only writes learns
 * that the reader has left at the next write, which may never come; so the pipe is opened once
 * more from time to time, which fails without a reader (fifo(7): ENXIO).
 */
import { close, constants, open } from "node:fs";
import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { type CaptureOutput, type CaptureSink, SinkError } from "../../shared/capture/output.ts";
import { StreamOutput } from "../../shared/capture/stream-output.ts";

/** How often it is tried again while there is no reader. */
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

  /** `abort` was called: what fails from then on is no news. */
  get aborted(): boolean {
    return this.#aborted;
  }

  /** Waits for a reader. Rejects with SinkError: there is no such pipe, or `abort` was called. */
  async attach(): Promise<void> {
    const fd = await this.#opened();
    const socket = new Socket({ fd, readable: false, writable: true });
    this.#socket = socket;
    const watch = setInterval(() => void this.#look(socket), WATCH_MS);
    socket.once("close", () => clearInterval(watch));
  }

  /** The pipe; waits for a reader when nobody did. */
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

  /** If there never was a reader, waits for none any more. */
  waitNoLonger(): void {
    if (this.#socket === undefined) this.#aborted = true;
  }

  /** Closes the pipe, and waits no longer: for a reader, or for one that does not read. */
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

  /** Undefined: there is no reader. */
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
      // The name may be gone while the pipe is in use: then it says nothing.
    }
  }
}
