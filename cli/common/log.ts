/**
 * The log: pino's records to stderr, as one line of words each, or as JSON with --log json.
 */
import pino from "pino";
import type { Logger } from "../../shared/log.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogForm = "text" | "json";

export interface LogOptions {
  readonly level: LogLevel;
  readonly form: LogForm;
}

/** Common fields of all records. They are not printed as name=value. */
const COMMON = new Set(["level", "time", "msg", "err"]);

export function createLog(options: LogOptions): Logger {
  const { level, form } = options;
  const out = form === "json" ? process.stderr : { write: (record: string) => say(record, level) };
  return pino({ level, base: null }, out);
}

function say(record: string, level: LogLevel): void {
  process.stderr.write(`${wordsOf(JSON.parse(record), level === "debug")}\n`);
}

interface LogRecord {
  readonly level: number;
  readonly time: number;
  readonly msg?: string;
  readonly err?: { readonly message?: string; readonly stack?: string };
  readonly [field: string]: unknown;
}

/** Formats "10:01:02 warn  ena0: fault: ...  code=TX_PHASE". `stacks` adds stacks of errors. */
export function wordsOf(record: LogRecord, stacks: boolean): string {
  const words = [
    new Date(record.time).toTimeString().slice(0, 8),
    (pino.levels.labels[record.level] ?? "").padEnd(5),
    plain(record.msg ?? ""),
  ];
  const fields = Object.entries(record)
    .filter(([name, value]) => !COMMON.has(name) && value !== undefined)
    .map(
      ([name, value]) =>
        `${name}=${typeof value === "string" ? plain(value) : JSON.stringify(value)}`,
    );
  if (fields.length > 0) words.push(`(${fields.join(" ")})`);
  const { err } = record;
  if (err !== undefined) words.push(stacks ? `\n${err.stack}` : `[${plain(err.message ?? "")}]`);
  return words.join(" ");
}

/** Escapes control characters, so that a peer's text can't begin a line or control the terminal. */
const plain = (text: string): string =>
  text.replace(/\p{Cc}/gu, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
