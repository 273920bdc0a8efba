/**
 * The file of --config: TOML or JSON, with one section for each command. The file of a lab is such
 * a file, too. Its own parts (`nic`, `host` ...) concern no command here.
 *
 *   [device]                                 { "device": { "listen": "0.0.0.0:7700",
 *   listen = "0.0.0.0:7700"                                "insecure": true } }
 *   insecure = true
 */
import { readFileSync } from "node:fs";
import { messageOf, wrong } from "../common/failure.ts";
import type { Path, Table } from "./toml.ts";

/** Longest file. */
const MAX_BYTES = 1 << 20;

/** Keys at the top of a lab file that are no command. `capture` may be both. */
export const LAB_KEYS: readonly string[] = ["name", "host", "segment", "nic"];
/** Keys in the section of a command that only a lab uses. */
export const LAB_SECTION_KEYS: Readonly<Record<string, readonly string[]>> = { device: ["host"] };

export interface ConfigFile {
  readonly path: string;
  readonly value: Table;
  /** Formats a place for an error: FILE:LINE, or FILE where lines are not known. */
  where(place: Path): string;
}

/** TOML files that `prepareConfig` has read, by path. */
const prepared = new Map<string, ConfigFile>();

/** Reads the text of a file. Throws an Error. */
export function configText(path: string): string {
  const bytes = readFileSync(path);
  if (bytes.length > MAX_BYTES) throw new Error(`the file is longer than ${MAX_BYTES} bytes`);
  return bytes.toString("utf8");
}

/** True for TOML: the name says so, or the content is not JSON's. */
const isToml = (path: string, text: string): boolean =>
  /\.toml$/i.test(path) || !/^[\s\uFEFF]*(\{|$)/.test(text);

/**
 * Reads the file if it is TOML, so that `readConfig` has it. The parser is imported for that alone.
 * Throws Failure.
 */
export async function prepareConfig(path: string): Promise<void> {
  let text: string;
  try {
    text = configText(path);
  } catch {
    // readConfig reports it.
    return;
  }
  if (!isToml(path, text)) return;
  const { TomlError, TomlFile } = await import("./toml.ts");
  try {
    const file = new TomlFile(text);
    const where = (place: Path): string => `${path}:${file.lineOf(place)}`;
    prepared.set(path, { path, value: file.value, where });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw wrong(`the config file ${path}:${error.line} can't be used: ${error.message}`);
  }
}

/** Returns a file that `prepareConfig` has read, or else JSON. Throws Failure. */
export function readConfig(path: string): ConfigFile {
  const toml = prepared.get(path);
  if (toml !== undefined) return toml;
  let value: unknown;
  try {
    // Editors of Windows write a byte order mark at the start.
    value = JSON.parse(configText(path).replace(/^\uFEFF/, ""));
  } catch (error) {
    throw wrong(`the config file ${path} can't be used: ${messageOf(error)}`);
  }
  if (typeof value !== "object" || value === null) {
    throw wrong(`the config file ${path} is not of the form {"command": {"flag": value}}`);
  }
  return { path, value: value as Table, where: () => path };
}
