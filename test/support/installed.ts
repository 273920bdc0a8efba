/** Programs that are not ours and may be missing. */
import { execFileSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";

/** Why a test can't run: the first of the programs that is not there. Undefined when all are. */
export function missingProgram(...programs: readonly string[]): string | undefined {
  const folders = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`.split(":");
  const missing = programs.find(
    (program) => !folders.some((folder) => runs(join(folder, program))),
  );
  return missing === undefined ? undefined : `(${missing} is not installed)`;
}

function runs(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** What a program writes to its standard output. Throws when it fails, with its words. */
export function outputOf(program: string, args: readonly string[]): Buffer {
  return execFileSync(program, args, { maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "pipe"] });
}
