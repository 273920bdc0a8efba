/** A copy of the tree, in which edits are made. The checkout itself is never changed. */
import { cpSync, mkdtempSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const ROOT = join(import.meta.dirname, "../..");

const PARTS = ["cli", "device", "frontend", "shared", "test", "scripts"];
const FILES = ["package.json", "tsconfig.json", "vitest.config.ts", "README.md"];

/** Makes a copy, with a link to the packages. Returns its folder; the caller removes it. */
export function copyTree(): string {
  const folder = mkdtempSync(join(tmpdir(), "ringwire-mutants-"));
  for (const part of [...PARTS, ...FILES]) {
    cpSync(join(ROOT, part), join(folder, part), { recursive: true });
  }
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  return folder;
}
