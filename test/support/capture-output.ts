/** Outputs for captures that stay in memory: they can stall, fill up, or lose their reader. */
import { type CaptureOutput, type CaptureSink, SinkError } from "../../shared/capture/output.ts";

interface MemoryFile {
  readonly name: string;
  readonly startMs: number;
  bytes: Buffer;
  closed: boolean;
}

export class MemoryOutput implements CaptureOutput {
  readonly name = "memory";
  readonly files: MemoryFile[] = [];
  /**
   * Bytes accepted in all. The write that goes beyond is accepted in part, then fails with `code`.
   */
  capacity = Number.POSITIVE_INFINITY;
  /** The error of a write beyond the capacity. */
  code = "ENOSPC";
  writes = 0;
  /** Tells the recorder that the reader has left. */
  leave: (error: SinkError) => void = () => {};
  /** Writes wait for this promise. */
  held: Promise<void> = Promise.resolve();

  async open(
    number: number,
    startMs: number,
    onGone: (error: SinkError) => void,
  ): Promise<CaptureSink> {
    this.leave = onGone;
    const file = { name: `memory-${number}`, startMs, bytes: Buffer.alloc(0), closed: false };
    this.files.push(file);
    return {
      name: file.name,
      write: (bytes) => this.#write(file, bytes),
      close: async (wholeBytes) => {
        file.closed = true;
        file.bytes = file.bytes.subarray(0, wholeBytes);
      },
    };
  }

  async #write(file: MemoryFile, bytes: Uint8Array): Promise<void> {
    this.writes++;
    await this.held;
    const taken = Math.min(bytes.length, this.capacity);
    file.bytes = Buffer.concat([file.bytes, bytes.subarray(0, taken)]);
    this.capacity -= taken;
    if (taken < bytes.length) throw new SinkError(this.code, "no space left on device", taken);
  }
}
