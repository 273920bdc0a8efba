/** Outputs of a capture, chosen by the path on the command line. */
import { accessSync, constants, existsSync, type Stats, statSync } from "node:fs";
import { dirname } from "node:path";
import { FileOutput, type FileOutputOptions } from "../../shared/capture/file-output.ts";
import type { CaptureOutput } from "../../shared/capture/output.ts";
import { ExitCode, Failure, messageOf, systemCode } from "../common/failure.ts";
import { FifoOutput } from "./fifo-output.ts";

/**
 * Returns the output for a path: a file, rotated files, or a named pipe that exists there. A pipe
 * that is opened like a file would wait for a reader in the thread pool, where no signal ends it.
 */
export function pathOutput(path: string, options: FileOutputOptions = {}): CaptureOutput {
  const isPipe = options.rotating !== true && statsOf(path)?.isFIFO() === true;
  return isPipe ? new FifoOutput(path) : new FileOutput(path, options);
}

/** Errors of a path that mean wrong usage. Permissions and full disks are failures instead. */
const WRONG_PATHS = new Set(["ENOENT", "ENOTDIR", "ENAMETOOLONG"]);

/** Throws Failure when no file can be written at `path`, which is the value of `flag`. */
export function checkFile(flag: string, path: string): void {
  try {
    accessSync(existsSync(path) ? path : dirname(path), constants.W_OK);
  } catch (error) {
    const isUsage = WRONG_PATHS.has(systemCode(error) ?? "");
    const code = isUsage ? ExitCode.USAGE : ExitCode.FAILED;
    throw new Failure(`${flag} ${path}: ${messageOf(error)}`, code);
  }
  if (statsOf(path)?.isDirectory() !== true) return;
  throw new Failure(`${flag} ${path} is a folder: name a file in it`, ExitCode.USAGE);
}

/** Returns undefined when the path does not exist or can't be examined. */
export function statsOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
