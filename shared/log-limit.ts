/**
 * Log lines that a peer can cause at will. Of each kind at most one line a second is written, or a
 * few where their subjects differ. The others are counted, and the next line of the kind says how
 * many were left out.
 *
 *   line ------------ written, the second begins
 *   line, line, line  counted
 *   tick() ---------- the last of them, with `collapsed: 2`; a new second begins
 */
import { type Level, type Logger, loggerOf } from "./log.ts";

const PERIOD_MS = 1000;
/** Kinds kept apart. A kind is a constant of the program; beyond the bound all share one. */
const MAX_KINDS = 64;
const OTHERS = "others";

interface Held {
  level: Level;
  fields: object;
  message: string;
  /** Time (ms) at which the present second of this kind began. */
  writtenAt: number;
  /** Lines written since then. */
  written: number;
  /** Lines since then that were not written. */
  count: number;
}

export class LogLimit {
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #burst: number;
  readonly #kinds = new Map<string, Held>();

  /**
   * `now` returns milliseconds of a monotonic clock; `burst` is the number of lines of a kind that are
   * written in a second.
   */
  constructor(log: Logger, now: () => number = () => performance.now(), burst = 1) {
    this.#log = log;
    this.#now = now;
    this.#burst = burst;
  }

  /** A logger whose lines, but for those of level error, are of one kind. */
  of(kind: string): Logger {
    return loggerOf((level, fields, message) => {
      if (level === "error") this.#log.error(fields, message);
      else this.#line(level, kind, fields, message);
    });
  }

  /** Call once a second: writes the last line of each kind that still has lines left out. */
  tick(): void {
    const now = this.#now();
    for (const [kind, held] of this.#kinds) {
      if (now - held.writtenAt < PERIOD_MS) continue;
      if (held.count === 0) this.#kinds.delete(kind);
      else this.#write(held, now);
    }
  }

  /** The subject of the lines is about to end: writes what is left out, whatever the time is. */
  flush(): void {
    const now = this.#now();
    for (const held of this.#kinds.values()) if (held.count > 0) this.#write(held, now);
    this.#kinds.clear();
  }

  #line(level: Level, kind: string, fields: object, message: string): void {
    const now = this.#now();
    const known = this.#kinds.has(kind) || this.#kinds.size < MAX_KINDS;
    const key = known ? kind : OTHERS;
    const held = this.#kinds.get(key);
    if (held === undefined) {
      this.#kinds.set(key, { level, fields, message, writtenAt: now, written: 1, count: 0 });
      this.#log[level](fields, message);
      return;
    }
    if (held.count === 0 && held.written < this.#burst && now - held.writtenAt < PERIOD_MS) {
      held.written++;
      this.#log[level](fields, message);
      return;
    }
    held.level = level;
    held.fields = fields;
    held.message = message;
    held.count++;
    if (now - held.writtenAt >= PERIOD_MS) this.#write(held, now);
  }

  #write(held: Held, now: number): void {
    const collapsed = held.count - 1;
    held.count = 0;
    held.written = 1;
    held.writtenAt = now;
    this.#log[held.level](
      collapsed > 0 ? { ...held.fields, collapsed } : held.fields,
      collapsed > 0 ? `${held.message} (and ${collapsed} more like it)` : held.message,
    );
  }
}
