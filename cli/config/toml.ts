/** TOML as plain values, with the line of each key and value. */
import { type AST, parseTOML } from "toml-eslint-parser";
import { messageOf } from "../common/failure.ts";

/** A place in a file: keys and indexes from the top. */
export type Path = readonly PropertyKey[];

/** A table of the file. It has no prototype, so that every key is only a key. */
export type Table = Record<string, unknown>;

/** A mistake in the form of a file. */
export class TomlError extends Error {
  override readonly name = "TomlError";
  /** Line, from 1. */
  readonly line: number;
  constructor(line: number, message: string) {
    super(message);
    this.line = line;
  }
}

export class TomlFile {
  readonly value: Table = emptyTable();
  readonly #lines = new Map<string, number>();

  /** Throws TomlError, which names the line. */
  constructor(text: string) {
    let program: AST.TOMLProgram;
    try {
      // Editors of Windows write a byte order mark at the start.
      program = parseTOML(text.replace(/^\uFEFF/, ""), { tomlVersion: "1.0.0" });
    } catch (error) {
      const { lineNumber = 1 } = error as { lineNumber?: number };
      throw new TomlError(lineNumber, `${messageOf(error)}: this is no TOML`);
    }
    for (const node of program.body[0].body) {
      if (node.type === "TOMLKeyValue") this.#pair(this.value, [], node);
      else this.#table(node);
    }
  }

  /** Returns the line of a place, or that of the nearest table around it. */
  lineOf(path: Path): number {
    for (let length = path.length; length > 0; length--) {
      const line = this.#lines.get(keyOf(path.slice(0, length)));
      if (line !== undefined) return line;
    }
    return 1;
  }

  #table({ resolvedKey, body, loc }: AST.TOMLTable): void {
    let at: Table = this.value;
    resolvedKey.forEach((key, i) => {
      const next = resolvedKey[i + 1];
      this.#note(resolvedKey.slice(0, i + 1), loc.start.line);
      at = childOf(at, key, typeof next === "number" ? [] : emptyTable());
    });
    for (const pair of body) this.#pair(at, resolvedKey, pair);
  }

  #pair(table: Table, path: Path, { key, value }: AST.TOMLKeyValue): void {
    const names = key.keys.map((part) => (part.type === "TOMLBare" ? part.name : part.value));
    let at = table;
    const whole = [...path];
    names.forEach((name, i) => {
      whole.push(name);
      this.#note(whole, key.loc.start.line);
      if (i < names.length - 1) at = childOf(at, name, emptyTable());
    });
    at[names.at(-1)!] = this.#valueOf(value, whole);
  }

  #valueOf(node: AST.TOMLContentNode, path: Path): unknown {
    if (node.type === "TOMLValue") return node.value;
    if (node.type === "TOMLArray") {
      return node.elements.map((element, i) => {
        this.#note([...path, i], element.loc.start.line);
        return this.#valueOf(element, [...path, i]);
      });
    }
    const table = emptyTable();
    for (const pair of node.body) this.#pair(table, path, pair);
    return table;
  }

  /** The first line of a place counts. */
  #note(path: Path, line: number): void {
    const key = keyOf(path);
    if (!this.#lines.has(key)) this.#lines.set(key, line);
  }
}

const emptyTable = (): Table => Object.create(null) as Table;

/** Returns what lies at `key`, which is `fresh` when nothing lies there yet. */
function childOf(table: Table, key: string | number, fresh: Table | unknown[]): Table {
  table[key] ??= fresh;
  return table[key] as Table;
}

const keyOf = (path: Path): string => JSON.stringify(path);
