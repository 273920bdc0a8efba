/**
 * Keys of files. A file has the words of the command line, `when-full`. The options of the library
 * are `whenFull`. This is the only place where one becomes the other. Keys that are names, as those of
 * a table of reservations, stay as they are: the shape says which are.
 */
import * as z from "zod";
import type { Path, Table } from "./toml.ts";

/** Marks a key of a file that is no word of the command line, so that no option has its name. */
const STRANGE = "=";

/** whenFull becomes when-full. */
export const kebab = (key: string): string =>
  key.startsWith(STRANGE)
    ? key.slice(STRANGE.length)
    : key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** when-full becomes whenFull. */
const camel = (key: string): string =>
  /[A-Z]/.test(key)
    ? STRANGE + key
    : key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Returns a copy of a file's value in which the keys that `shape` names are those of the library. */
export function withLibraryKeys(value: unknown, shape: z.ZodType): unknown {
  if (Array.isArray(value)) return value.map((item, i) => withLibraryKeys(item, within(shape, i)));
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  const isNamed = objectIn(shape) !== undefined;
  const copy: Table = Object.create(null) as Table;
  for (const [name, child] of Object.entries(value)) {
    const key = isNamed ? camel(name) : name;
    copy[key] = withLibraryKeys(child, within(shape, key));
  }
  return copy;
}

/** Returns a place of the library's options as a place of the file. */
export function filePath(shape: z.ZodType, path: Path): PropertyKey[] {
  let at = shape;
  return path.map((key) => {
    const isNamed = objectIn(at) !== undefined;
    at = within(at, key);
    return isNamed && typeof key === "string" ? kebab(key) : key;
  });
}

/** Returns the keys of the table that `shape` describes at `path`; none for other places. */
export function keysIn(shape: z.ZodType, path: Path): string[] {
  const at = path.reduce<z.ZodType>(within, shape);
  return Object.keys(objectIn(at)?.shape ?? {});
}

/** Returns the shape of what lies at `key`. */
function within(shape: z.ZodType, key: PropertyKey): z.ZodType {
  for (const one of formsOf(shape)) {
    if (typeof key === "number" && one instanceof z.ZodArray) return one.element as z.ZodType;
    if (one instanceof z.ZodObject && Object.hasOwn(one.shape, key))
      return one.shape[key as string];
    if (one instanceof z.ZodRecord) return one.valueType as z.ZodType;
  }
  return z.unknown();
}

const objectIn = (shape: z.ZodType): z.ZodObject | undefined =>
  formsOf(shape).find((one) => one instanceof z.ZodObject);

/** Returns a shape without what lies around it (optional, a default, a step), for each form of it. */
function formsOf(shape: unknown): unknown[] {
  if (shape instanceof z.ZodOptional || shape instanceof z.ZodDefault) {
    return formsOf(shape.unwrap());
  }
  if (shape instanceof z.ZodPrefault) return formsOf(shape.unwrap());
  if (shape instanceof z.ZodPipe) return formsOf(shape.in);
  return shape instanceof z.ZodUnion ? shape.options.flatMap(formsOf) : [shape];
}
