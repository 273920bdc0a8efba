/** Programs that are not ours and may be missing. */
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
