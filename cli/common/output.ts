/**
 * Data on stdout: lines of text for users, or with --json one JSON object a line. Messages about
 * the work go to stderr, through log.ts.
 */
import { styleText } from "node:util";
import { printable } from "../../shared/pcapng/text.ts";

/**
 * Handles an error of standard output. A reader that closes early ("| head") is not a failure; a
 * full disk is a failure. A closed terminal is ignored, because SIGHUP requests an orderly end.
 */
export function endWithoutStdout(error: NodeJS.ErrnoException): void {
  if (isTerminalGone(error)) return;
  if (error.code === "EPIPE") process.exit(0);
  process.stderr.write(`ringwire: standard output can't be written: ${error.message}\n`);
  process.exit(1);
}

export const isTerminalGone = ({ code }: NodeJS.ErrnoException): boolean =>
  code === "EIO" && process.stdout.isTTY === true;

export class Output {
  readonly json: boolean;

  constructor(json: boolean) {
    this.json = json;
    process.stdout.on("error", endWithoutStdout);
  }

  /** Prints one event: `text` for users, `value` for programs. */
  event(text: string, value: object): void {
    this.#line(this.json ? JSON.stringify(value) : text);
  }

  /** Prints a line for users only. */
  text(line: string): void {
    if (!this.json) this.#line(line);
  }

  /** Prints a line for programs only. */
  value(value: object): void {
    if (this.json) this.#line(JSON.stringify(value));
  }

  #line(line: string): void {
    process.stdout.write(`${line}\n`);
  }
}

/** Returns the text in bold on a terminal; unchanged elsewhere, and with NO_COLOR. */
export function bold(text: string): string {
  return styleText("bold", text, { stream: process.stdout, validateStream: true });
}

export type Cell = string | number;

export interface TableOptions {
  /** Number of columns at the left that identify a row. */
  readonly keys?: number;
  /** Width in characters. Default: that of the terminal on standard output, else no limit. */
  readonly width?: number;
}

const GAP = "  ";

/**
 * Formats rows under a heading, with aligned columns and numbers to the right. Every row has as
 * many cells as the heading. Without rows there is no table. No line ends in spaces. Columns that
 * do not fit the terminal follow below, in a second table with the same keys.
 */
export function table(
  heading: readonly string[],
  rows: readonly (readonly Cell[])[],
  { keys = 1, width = terminalWidth() }: TableOptions = {},
): string[] {
  if (rows.length === 0) return [];
  const all = [heading, ...rows];
  const widths = heading.map((_, i) => Math.max(...all.map((row) => String(row[i] ?? "").length)));
  const right = heading.map((_, i) => isNumericColumn(rows.map((row) => row[i])));
  return blocksOf(widths, keys, width).flatMap((columns) =>
    all.map((row, at) => {
      const cells = columns.map((i) => {
        const text = String(row[i] ?? "");
        return right[i] ? text.padStart(widths[i] ?? 0) : text.padEnd(widths[i] ?? 0);
      });
      const line = cells.join(GAP).trimEnd();
      return at === 0 ? bold(line) : line;
    }),
  );
}

/** Headings, each with a function that returns the cell under it. */
export type Columns<T> = readonly (readonly [heading: string, cell: (of: T) => Cell])[];

/** Formats a table with a row for each of `things`. Escapes texts, which may come from a peer. */
export function tableOf<T>(
  things: readonly T[],
  columns: Columns<T>,
  options: TableOptions = {},
): string[] {
  const cellOf = (cell: Cell): Cell => (typeof cell === "string" ? printable(cell) : cell);
  return table(
    columns.map(([heading]) => heading),
    things.map((thing) => columns.map(([, cell]) => cellOf(cell(thing)))),
    options,
  );
}

/** Returns the column indexes of each partial table; each list begins with the keys. */
function blocksOf(widths: readonly number[], keys: number, width: number): number[][] {
  const blocks: number[][] = [];
  const begin = [...widths.keys()].slice(0, keys);
  const taken = (columns: readonly number[]): number =>
    columns.reduce((sum, i) => sum + (widths[i] ?? 0) + GAP.length, 0);
  let block = begin;
  for (let i = keys; i < widths.length; i++) {
    if (block.length > keys && taken(block) + (widths[i] ?? 0) > width) {
      blocks.push(block);
      block = begin;
    }
    block = [...block, i];
  }
  return [...blocks, block];
}

/** Cuts lines to a screen of `rows`; the last line says how many more there are. */
export function topOf(lines: readonly string[], rows: number): readonly string[] {
  // The cursor needs a row of its own.
  if (lines.length < rows) return lines;
  const shown = Math.max(1, rows - 2);
  return [
    ...lines.slice(0, shown),
    `... ${lines.length - shown} more lines; a taller window has them`,
  ];
}

function terminalWidth(): number {
  return process.stdout.isTTY === true ? process.stdout.columns : Number.POSITIVE_INFINITY;
}

/** Returns true for a column of numbers. An unknown value ("-") counts as a number. */
const isNumericColumn = (cells: readonly (Cell | undefined)[]): boolean =>
  cells.some(isNumeric) && cells.every((cell) => cell === "-" || isNumeric(cell));

const isNumeric = (cell: Cell | undefined): boolean =>
  typeof cell === "number" || cell === "" || /^[\d.,]+( ms| s| B| KiB| MiB)?$/.test(String(cell));

/** Formats bytes: 1536 is "1.5 KiB". */
export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1 << 20) return `${(bytes / 1024).toFixed(1)} KiB`;
  return `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}

/** Formats milliseconds: 0.3151 is "0.32 ms". */
export function msText(ms: number): string {
  return `${ms < 10 ? ms.toFixed(2) : ms.toFixed(0)} ms`;
}

/** Formats a count: 1234567 is "1,234,567". */
export function countText(n: number): string {
  return n.toLocaleString("en-US");
}
