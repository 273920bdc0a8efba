/** Looks for programs of other projects, which may be missing. */
import { execFileSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";

/** Why a test can't run: names the first missing program. Undefined when none is missing. */
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

/** A program's standard output. Throws its error text when it fails. */
export function outputOf(program: string, args: readonly string[]): Buffer {
  return execFileSync(program, args, { maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "pipe"] });
}
