/** What zod finds in a file, as sentences: a place, and the values that it accepts. */
import * as z from "zod";
import { similar } from "../common/similar.ts";
import { filePath, kebab } from "./keys.ts";
import type { Path } from "./toml.ts";

export interface Issue {
  readonly path: Path;
  /** Follows the place in a sentence: "takes true or false, not 3". */
  readonly message: string;
}

type ZodIssue = z.core.$ZodIssue;

/** Longest part of a wrong value that a message repeats. */
const MAX_VALUE_CHARS = 60;

/** Words for the types of zod. */
const TYPES: Readonly<Record<string, string>> = {
  string: "a text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "a table",
  record: "a table",
};
const FORMATS: Readonly<Record<string, string>> = {
  ipv4: "an IPv4 address",
  ipv6: "an IPv6 address",
};

/** Checks `value`. `keysOf` returns the keys that exist at a place, for "Did you mean". */
export function issuesOf(
  shape: z.ZodType,
  value: unknown,
  keysOf: (path: Path) => string[],
): Issue[] {
  const { error } = shape.safeParse(value);
  return (error?.issues ?? []).flatMap((issue) => sentences(issue, value, keysOf));
}

function sentences(issue: ZodIssue, value: unknown, keysOf: (path: Path) => string[]): Issue[] {
  const path = filePath(issue.path);
  if (issue.code === "unrecognized_keys") {
    const known = keysOf(issue.path).map(kebab);
    return issue.keys.map((key) => {
      const meant = similar(kebab(key), known);
      const message = `is unknown${meant && ` (Did you mean ${meant}?)`}`;
      return { path: [...path, kebab(key)], message };
    });
  }
  // The parts of a list or table that fits one form are wrong, and not the whole.
  if (issue.code === "invalid_union") {
    const inner = issue.errors.find((errors) => errors.some((error) => error.path.length > 0));
    if (inner !== undefined) {
      const below = inner.map((error) => ({ ...error, path: [...issue.path, ...error.path] }));
      return below.flatMap((error) => sentences(error as ZodIssue, value, keysOf));
    }
  }
  const found = valueAt(value, issue.path);
  if (found === undefined && issue.code !== "custom") return [{ path, message: "is needed" }];
  const takes = takesOf(issue);
  if (takes === undefined) return [{ path, message: withValue(issue.message, found) }];
  return [{ path, message: withValue(`takes ${takes}`, found) }];
}

/** Returns what an issue accepts, as in "a whole number"; undefined when it has its own sentence. */
function takesOf(issue: ZodIssue): string | undefined {
  const { message } = issue;
  if (/^(takes|has|needs|is) /.test(message)) return undefined;
  switch (issue.code) {
    case "invalid_type":
      return TYPES[issue.expected] ?? issue.expected;
    case "invalid_value":
      return either(issue.values.map(String));
    case "invalid_format":
      return FORMATS[issue.format] ?? `the format ${issue.format}`;
    case "too_small":
      return `at least ${issue.minimum}${unitOf(issue.origin)}`;
    case "too_big":
      return `at most ${issue.maximum}${unitOf(issue.origin)}`;
    case "invalid_union":
      return either([...new Set(issue.errors.map(([first]) => takesOf(first!) ?? first!.message))]);
    default:
      return undefined;
  }
}

const unitOf = (origin: string): string =>
  ({ array: " entries", string: " characters" })[origin] ?? "";

/** "a", "a or b", "a, b or c". */
export const either = (words: readonly string[]): string =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;

/** Adds the wrong value to a sentence that does not have it. */
function withValue(message: string, value: unknown): string {
  if (value === undefined || typeof value === "object" || / not /.test(message)) return message;
  const text = JSON.stringify(value);
  if (!message.startsWith("takes ") || message.includes(text)) return message;
  return `${message}, not ${text.slice(0, MAX_VALUE_CHARS)}`;
}

function valueAt(value: unknown, path: Path): unknown {
  let at = value;
  for (const key of path) {
    if (typeof at !== "object" || at === null) return undefined;
    at = (at as Record<PropertyKey, unknown>)[key];
  }
  return at;
}

/** Returns the keys of the object that `shape` describes at `path`; none for other places. */
export function keysIn(shape: z.ZodType, path: Path): string[] {
  let at: unknown = shape;
  for (const key of [...path, undefined]) {
    at = bare(at);
    if (key === undefined) break;
    if (at instanceof z.ZodObject && typeof key === "string") at = at.shape[key];
    else if (at instanceof z.ZodArray) at = at.element;
    else return [];
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

/** Removes what lies around a type: optional, a default, a transformation. */
function bare(shape: unknown): unknown {
  if (shape instanceof z.ZodOptional || shape instanceof z.ZodDefault) return bare(shape.unwrap());
  if (shape instanceof z.ZodPrefault) return bare(shape.unwrap());
  return shape instanceof z.ZodPipe ? bare(shape.in) : shape;
}

/** Formats a place: nic[3].driver. */
export const placeOf = (path: Path): string =>
  path
    .map((key, i) => (typeof key === "number" ? `[${key}]` : `${i === 0 ? "" : "."}${String(key)}`))
    .join("");
