/**
 * A cache of compiled modules for one run of the tests. Hundreds of processes begin from the same
 * sources: a worker script costs half of the processor time with it.
 */
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL("../../node_modules/.cache/ringwire-tests", import.meta.url));

export function setup(): void {
  // Removed at the start, because processes write their part when they end, behind the last test.
  rmSync(FOLDER, { recursive: true, force: true });
  // The workers inherit it, and all processes that a test starts.
  process.env["NODE_COMPILE_CACHE"] = FOLDER;
}
