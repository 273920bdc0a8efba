/**
 * Captures on disk, and on a descriptor that somebody else opened (standard output). Writes go
 * through Node's thread pool one at a time, so a slow disk or a reader that stalls holds up one
 * thread of the pool and nothing else. `process.stdout` would not do: on a pipe it blocks.
 */
import { close, ftruncate, open, write } from "node:fs";
import { unlink } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { type CaptureOutput, type CaptureSink, SinkError } from "./output.ts";

/** A capture holds other people's traffic: for its owner only, as dumpcap's. */
const MODE = 0o600;
/** A descriptor that is not ours may be non-blocking: how long to wait before trying again. */
const RETRY_MS = 5;

const openFile = promisify(open);
const closeFile = promisify(close);
const writeFile = promisify(write);
const truncateFile = promisify(ftruncate);

/** Options of a FileOutput. */
export interface FileOutputOptions {
  /** Several files: the path gets a number and a time, as dumpcap's have. */
  readonly rotating?: boolean;
  /** Most files kept when rotating: the oldest goes first. */
  readonly keep?: number;
}

/** A CaptureOutput that writes to files: one, or a series when it rotates. */
export class FileOutput implements CaptureOutput {
  readonly name: string;
  readonly #rotating: boolean;
  readonly #keep: number;
  readonly #written: string[] = [];

  constructor(path: string, options: FileOutputOptions = {}) {
    this.name = path;
    this.#rotating = options.rotating ?? false;
    this.#keep = options.keep ?? Number.POSITIVE_INFINITY;
  }

  async open(number: number, startMs: number): Promise<CaptureSink> {
    const path = this.#rotating ? rotatedName(this.name, number, startMs) : this.name;
    try {
      const fd = await openFile(path, "w", MODE);
      this.#written.push(path);
      await this.#forget();
      return new DescriptorSink(path, fd, true);
    } catch (error) {
      throw SinkError.from(error);
    }
  }

  async #forget(): Promise<void> {
    while (this.#written.length > this.#keep) {
      // Somebody may have moved it away: then there is nothing to do.
      await unlink(this.#written.shift()!).catch(() => undefined);
    }
  }
}

/** An output that writes to a descriptor and leaves it open: 1 is standard output. */
export const descriptorOutput = (fd: number, name: string): CaptureOutput => ({
  name,
  open: async () => new DescriptorSink(name, fd, false),
});

class DescriptorSink implements CaptureSink {
  readonly name: string;
  readonly #fd: number;
  readonly #owned: boolean;
  /** Bytes that arrived, those behind the last whole block included. */
  #bytes = 0;

  constructor(name: string, fd: number, owned: boolean) {
    this.name = name;
    this.#fd = fd;
    this.#owned = owned;
  }

  async write(bytes: Uint8Array): Promise<void> {
    let at = 0;
    while (at < bytes.length) {
      try {
        at += await this.#some(bytes, at);
      } catch (error) {
        this.#bytes += at;
        throw SinkError.from(error, at);
      }
    }
    this.#bytes += at;
  }

  async close(wholeBytes: number): Promise<void> {
    if (!this.#owned) return;
    try {
      // Shrinking needs no space, so this works on a full disk.
      if (this.#bytes > wholeBytes) await truncateFile(this.#fd, wholeBytes);
    } finally {
      await closeFile(this.#fd);
    }
  }

  async #some(bytes: Uint8Array, at: number): Promise<number> {
    try {
      const { bytesWritten } = await writeFile(this.#fd, bytes, at, bytes.length - at, null);
      if (bytesWritten === 0) throw new SinkError("EIO", "a write of no bytes");
      return bytesWritten;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      return sleep(RETRY_MS, 0);
    }
  }
}

/** `trace.pcapng` becomes `trace_00001_20261122123009.pcapng`, in local time. */
export function rotatedName(path: string, number: number, startMs: number): string {
  const extension = extname(path);
  const t = new Date(startMs);
  const two = (n: number): string => String(n).padStart(2, "0");
  const date = `${t.getFullYear()}${two(t.getMonth() + 1)}${two(t.getDate())}`;
  const time = `${two(t.getHours())}${two(t.getMinutes())}${two(t.getSeconds())}`;
  const count = String(number).padStart(5, "0");
  return join(dirname(path), `${basename(path, extension)}_${count}_${date}${time}${extension}`);
}
