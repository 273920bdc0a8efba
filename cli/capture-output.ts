/** Where a capture of the command line goes, by its path. */
import { type Stats, statSync } from "node:fs";
import { FifoOutput } from "../shared/capture/fifo-output.ts";
import { FileOutput, type FileOutputOptions } from "../shared/capture/file-output.ts";
import type { CaptureOutput } from "../shared/capture/output.ts";

/**
 * A file, or files by turns; or the pipe that has this name already: opened as files are, it would
 * wait for a reader in the thread pool, where no signal ends it.
 */
export function pathOutput(path: string, options: FileOutputOptions = {}): CaptureOutput {
  const isPipe = options.rotating !== true && statsOf(path)?.isFIFO() === true;
  return isPipe ? new FifoOutput(path) : new FileOutput(path, options);
}

/** Undefined when there is nothing of that name, or nothing that can be seen. */
export function statsOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
