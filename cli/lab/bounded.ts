/**
 * The output of a part of a lab goes to files that nobody rotates. So a part cuts its own files: when
 * one is too long, its last lines stay.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";

/** The variable that marks a process as part of a lab. */
export const LAB_MARK = "RINGWIRE_LAB";

/** Longest file. */
export const MAX_LOG_BYTES = 1 << 20;
/** Bytes that stay of a file that is too long. */
const KEEP_BYTES = 1 << 18;

/** Bounds standard output and standard error where they are files. */
export function boundOutput(): void {
  bound(process.stdout, 1);
  bound(process.stderr, 2);
}

function bound(stream: NodeJS.WriteStream, fd: number): void {
  if (!fstatSync(fd).isFile()) return;
  let size = fstatSync(fd).size;
  // Node writes to files at once, so what was written before is in the file.
  const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
  const bounded = (chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
    size += Buffer.byteLength(chunk);
    if (size > MAX_LOG_BYTES) size = cut(fd) + Buffer.byteLength(chunk);
    return write(chunk, ...rest);
  };
  stream.write = bounded as typeof stream.write;
}

/** Shortens a file to its last whole lines. Returns its new size. */
function cut(fd: number): number {
  try {
    const { size } = fstatSync(fd);
    const bytes = Buffer.alloc(Math.min(size, KEEP_BYTES));
    // The descriptor itself may only append.
    const reader = openSync(`/proc/self/fd/${fd}`, "r");
    const length = readSync(reader, bytes, 0, bytes.length, size - bytes.length);
    closeSync(reader);
    const kept = bytes.subarray(bytes.indexOf("\n") + 1, length);
    ftruncateSync(fd, 0);
    writeSync(fd, kept);
    return kept.length;
  } catch {
    // A log that can't be cut is tried again after as many bytes.
    return 0;
  }
}
