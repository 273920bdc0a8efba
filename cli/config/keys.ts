/**
 * Keys of files. A file has the words of the command line, `when-full`. The options of the library
 * are `whenFull`. This is the only place where one becomes the other.
 */
import type { Path, Table } from "./toml.ts";

/** Marks a key of a file that is no word of the command line, so that no option has its name. */
const STRANGE = "=";

/** Tables whose keys are names of NICs, and no words of the command line. */
const BY_NAME: ReadonlySet<unknown> = new Set(["reserve"]);

/** whenFull becomes when-full. */
export const kebab = (key: string): string =>
  key.startsWith(STRANGE)
    ? key.slice(STRANGE.length)
    : key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Returns a place in the words of a file. */
export const filePath = (path: Path): PropertyKey[] =>
  path.map((key, i) => (typeof key === "string" && !BY_NAME.has(path[i - 1]) ? kebab(key) : key));

/** when-full becomes whenFull. */
const camel = (key: string): string =>
  /[A-Z]/.test(key)
    ? STRANGE + key
    : key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Returns a copy of a file's value in which all keys are those of the library. */
export function withLibraryKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withLibraryKeys);
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  const copy: Table = Object.create(null) as Table;
  for (const [key, child] of Object.entries(value)) {
    copy[camel(key)] = BY_NAME.has(key) ? child : withLibraryKeys(child);
  }
  return copy;
}
