/**
 * A cache of compiled modules for one run of the tests. Hundreds of processes begin from the same
 * sources: a worker script costs half of the processor time with it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const folder = mkdtempSync(join(tmpdir(), "ringwire-test-cache-"));

export function setup(): void {
  // The workers inherit it, and all processes that a test starts.
  process.env["NODE_COMPILE_CACHE"] = folder;
}

export function teardown(): void {
  rmSync(folder, { recursive: true, force: true });
}
