/**
 * Data on stdout: lines of text for people, or with --json one JSON object a line. What is said
 * about the work goes to stderr, through log.ts.
 */
import { styleText } from "node:util";

export class Output {
  readonly json: boolean;

  constructor(json: boolean) {
    this.json = json;
    // A reader that has seen enough ("| head") is not a failure.
    process.stdout.on("error", (error: NodeJS.ErrnoException) => {
      process.exit(error.code === "EPIPE" ? 0 : 1);
    });
  }

  /** Tells one event: `text` to people, `value` to programs. */
  event(text: string, value: object): void {
    this.#line(this.json ? JSON.stringify(value) : text);
  }

  /** A line for people only. */
  text(line: string): void {
    if (!this.json) this.#line(line);
  }

  /** A line for programs only. */
  value(value: object): void {
    if (this.json) this.#line(JSON.stringify(value));
  }

  #line(line: string): void {
    process.stdout.write(`${line}\n`);
  }
}

/** Bold on a terminal; as it is elsewhere, and with NO_COLOR. */
export function bold(text: string): string {
  return styleText("bold", text, { stream: process.stdout, validateStream: true });
}

export type Cell = string | number;

/**
 * Rows under a heading, columns aligned, numbers to the right. Every row has as many cells as the
 * heading. No line ends in spaces.
 */
export function table(heading: readonly string[], rows: readonly (readonly Cell[])[]): string[] {
  const all = [heading, ...rows];
  const widths = heading.map((_, i) => Math.max(...all.map((row) => String(row[i] ?? "").length)));
  const right = heading.map((_, i) => rows.length > 0 && rows.every((row) => isNumeric(row[i])));
  return all.map((row, at) => {
    const cells = widths.map((width, i) => {
      const text = String(row[i] ?? "");
      return right[i] ? text.padStart(width) : text.padEnd(width);
    });
    const line = cells.join("  ").trimEnd();
    return at === 0 ? bold(line) : line;
  });
}

const isNumeric = (cell: Cell | undefined): boolean =>
  typeof cell === "number" || cell === "" || /^[\d.,]+( ms| s| B| KiB| MiB)?$/.test(String(cell));

/** Somebody else's words in one line that no terminal obeys. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, "\ufffd");
}

/** 1536 is "1.5 KiB". */
export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1 << 20) return `${(bytes / 1024).toFixed(1)} KiB`;
  return `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}

/** 0.3151 is "0.32 ms". */
export function msText(ms: number): string {
  return `${ms < 10 ? ms.toFixed(2) : ms.toFixed(0)} ms`;
}

/** 1234567 is "1,234,567". */
export function countText(n: number): string {
  return n.toLocaleString("en-US");
}
