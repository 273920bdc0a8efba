/**
 * Reads a lab file: its form (schema.ts), its classes of NICs, and then what the parts must agree
 * on (agreement.ts). All mistakes are found at once, each with its line.
 */
import { basename, dirname, resolve } from "node:path";
import * as z from "zod";
import { segmentOptions } from "../../device/segments/options.ts";
import { messageOf, wrong } from "../common/failure.ts";
import { configText } from "../config/config-file.ts";
import { type Issue, issuesOf, keysIn, placeOf } from "../config/issues.ts";
import { withLibraryKeys } from "../config/keys.ts";
import { type Path, type Table, TomlError, TomlFile } from "../config/toml.ts";
import { type Cidr, parseCidr, parseRoute, type Route } from "./address.ts";
import { agreement } from "./agreement.ts";
import { numbered } from "./classes.ts";
import {
  isTable,
  type Lab,
  type LabCapture,
  type LabError,
  type LabHost,
  type LabNic,
  type LabSegment,
  textOf,
} from "./model.ts";
import { labShape, nicShape } from "./schema.ts";

export interface LabReading {
  /** The parts of the file that have the right form. The whole lab when there are no errors. */
  readonly lab: Lab;
  readonly errors: readonly LabError[];
}

const DEFAULT_SEGMENT = "lan0";

/** Returns the name of a lab whose file gives none. */
export const nameOfFile = (path: string): string =>
  basename(path)
    .replace(/\.toml$/i, "")
    .replace(/[^A-Za-z0-9._-]/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, 63) || "lab";

/** Reads a lab file. Throws Failure for a file that can't be read. */
export function readLab(path: string): LabReading {
  let text: string;
  try {
    text = configText(path);
  } catch (error) {
    throw wrong(`the lab file ${path} can't be read: ${messageOf(error)}`);
  }
  return parseLab(text, path);
}

/** Reads the text of a lab file. */
export function parseLab(text: string, path: string): LabReading {
  let file: TomlFile;
  try {
    file = new TomlFile(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const { line, message } = error;
    return { lab: labOf({}, {}, path, []), errors: [{ line, place: "", message }] };
  }
  const raw = file.value;
  const value: Table = { ...raw, segment: withLibraryKeys(raw["segment"]) };
  const { nics, issues } = expanded(raw);
  const found: Issue[] = [
    ...issuesOf(labShape.omit({ nic: true }), without(value, "nic"), keysOf),
    ...issues,
  ];
  const lab = labOf(raw, value, path, nics);
  found.push(...agreement(lab, raw));
  const errors = distinct(found).map(({ path: place, message }) => ({
    line: file.lineOf(place),
    place: placeOf(place),
    message,
  }));
  return { lab, errors: errors.toSorted((a, b) => a.line - b.line) };
}

const keysOf = (path: Path): string[] => keysIn(labShape, path);

const without = (table: Table, key: string): Table =>
  Object.fromEntries(Object.entries(table).filter(([name]) => name !== key));

/** An entry of `[[nic]]` with its number, and the keys of `[frontend]` that it leaves out. */
interface RawNic {
  readonly path: Path;
  readonly value: Table;
}

/** Makes the NICs of all entries, and checks them. Those with a mistake are left out. */
function expanded(raw: Table): { readonly nics: RawNic[]; readonly issues: Issue[] } {
  const entries = tables(raw["nic"]);
  if (raw["nic"] !== undefined && !isTables(raw["nic"])) {
    return { nics: [], issues: [{ path: ["nic"], message: "takes a list of tables: [[nic]]" }] };
  }
  const defaults = isTable(raw["frontend"]) ? raw["frontend"] : {};
  // A mistake in the defaults is reported there, and not once more for each NIC.
  const fine = Object.entries(defaults).filter(
    ([key, value]) => issuesOf(nicShape.partial(), { [key]: value }, () => []).length === 0,
  );
  const nics: RawNic[] = [];
  const issues: Issue[] = [];
  for (const [i, entry] of entries.entries()) {
    const count = typeof entry["count"] === "number" ? entry["count"] : 1;
    const own = issuesOf(nicShape.pick({ count: true }), { count: entry["count"] }, () => []);
    issues.push(...own.map(({ path, message }) => ({ path: ["nic", i, ...path], message })));
    if (own.length > 0) continue;
    for (let n = 1; n <= count; n++) {
      const value = { ...Object.fromEntries(fine), ...numbered(entry, n) };
      const path = ["nic", i];
      const mistakes = issuesOf(nicShape, value, (at) => keysIn(nicShape, at));
      issues.push(...mistakes.map((issue) => ({ ...issue, path: [...path, ...issue.path] })));
      if (mistakes.length > 0) break;
      nics.push({ path, value });
    }
  }
  return { nics, issues };
}

/** Makes a lab of what has the right form. */
function labOf(raw: Table, value: Table, path: string, nics: readonly RawNic[]): Lab {
  const file = resolve(path);
  const hosts = tables(raw["host"]).flatMap((host): LabHost[] =>
    typeof host["name"] === "string"
      ? [{ name: host["name"], connect: textOf(host["connect"]) }]
      : [],
  );
  const parsed = z.array(segmentOptions).safeParse(value["segment"]);
  const device = isTable(raw["device"]) ? raw["device"] : undefined;
  const segments: readonly LabSegment[] = parsed.success
    ? parsed.data
    : [{ name: textOf(device?.["segment"]) ?? DEFAULT_SEGMENT, port: [] }];
  const first = segments[0]?.name ?? DEFAULT_SEGMENT;
  return {
    name: textOf(raw["name"]) ?? nameOfFile(path),
    file,
    folder: dirname(file),
    hosts,
    device: device && {
      path: ["device"],
      host: textOf(device["host"]),
      flags: without(device, "host"),
    },
    segments,
    rawSegments: raw["segment"],
    nics: nics.map((nic) => nicOf(nic, first)),
    captures: tables(raw["capture"]).flatMap((entry, i) => captureOf(entry, ["capture", i])),
  };
}

/** Keys of `[[nic]]` that are no flags of `ringwire frontend`. */
const PLACE_KEYS = new Set(["host", "segment", "addresses", "routes"]);

function nicOf({ path, value }: RawNic, first: string): LabNic {
  const list = (key: string): string[] => (value[key] ?? []) as string[];
  return {
    path,
    name: String(value["name"]),
    host: textOf(value["host"]),
    segment: textOf(value["segment"]) ?? first,
    tap: textOf(value["tap"]),
    netns: textOf(value["netns"]),
    mac: textOf(value["mac"])?.toLowerCase(),
    addresses: list("addresses").map((address) => parseCidr(address) as Cidr),
    routes: list("routes").map((route) => parseRoute(route) as Route),
    flags: Object.fromEntries(Object.entries(value).filter(([key]) => !PLACE_KEYS.has(key))),
  };
}

function captureOf(entry: Table, path: Path): LabCapture[] {
  const write = textOf(entry["write"]);
  if (write === undefined) return [];
  const interfaces = [entry["interface"] ?? []].flat().map(String);
  return [{ path, host: textOf(entry["host"]), write, interfaces, flags: without(entry, "host") }];
}

const isTables = (value: unknown): value is Table[] => Array.isArray(value) && value.every(isTable);
const tables = (value: unknown): Table[] => (isTables(value) ? value : []);
function distinct(issues: readonly Issue[]): Issue[] {
  const seen = new Map(issues.map((issue) => [JSON.stringify([issue.path, issue.message]), issue]));
  return [...seen.values()];
}
