/**
 * Runs libpcap's compiler in processes, a few at a time.
 *
 *   compile ──► waiting, a few of each owner ──► process, killed when it takes too long
 *
 * An address that asks for many filters waits behind its own, and others are served in between.
 */
import { fork } from "node:child_process";
import { extname } from "node:path";
import { CaptureFilterError } from "./filter-error.ts";
import type { FilterAnswer } from "./filter-worker.ts";

/** A filter that is compiled for longer is given up. */
const COMPILE_MS = 10_000;
/** Processes at once. */
const MAX_RUNNING = 2;
/** Filters of one owner, and of all, that are being compiled or wait for it. */
const MAX_OWNED = 4;
const MAX_ASKED = 32;
/** How long the answer to a filter may take, behind all others. */
export const FILTER_MS = (COMPILE_MS * MAX_ASKED) / MAX_RUNNING;
/** The file beside this one, compiled or not as this one is. */
const WORKER = new URL(`./filter-worker${extname(import.meta.url)}`, import.meta.url);

/** The compiler of one device, or of a program. Its bounds hold for all owners together. */
export class FilterCompiler {
  /** Number of filters that are being compiled or wait, by owner. */
  readonly #owned = new Map<string, number>();
  /** Each is called when its turn has come. */
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  /**
   * The program of a filter, or what is wrong. `owner` says on whose behalf: an address. Rejects
   * with CaptureFilterError BUSY when the owner, or all together, ask for too much.
   */
  async compile(owner: string, text: string): Promise<FilterAnswer> {
    const own = this.#owned.get(owner) ?? 0;
    if (own >= MAX_OWNED) {
      const message = `${own} filters of yours are being compiled; try again`;
      throw new CaptureFilterError("BUSY", message);
    }
    const all = this.#running + this.#waiting.length;
    if (all >= MAX_ASKED) {
      throw new CaptureFilterError("BUSY", `${all} filters are being compiled; try again`);
    }
    this.#owned.set(owner, own + 1);
    if (this.#running < MAX_RUNNING) this.#running++;
    else await new Promise<void>((begin) => this.#waiting.push(begin));
    try {
      return await inProcess(text);
    } finally {
      this.#passOn();
      const left = this.#owned.get(owner)! - 1;
      if (left === 0) this.#owned.delete(owner);
      else this.#owned.set(owner, left);
    }
  }

  /** A place has become free. */
  #passOn(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running--;
    else next();
  }
}

function inProcess(text: string): Promise<FilterAnswer> {
  // It gets the text, and of our variables only the one that says where libraries are.
  const { LD_LIBRARY_PATH } = process.env;
  const env = LD_LIBRARY_PATH === undefined ? {} : { LD_LIBRARY_PATH };
  const child = fork(WORKER, [], {
    env,
    stdio: ["ignore", "ignore", "ignore", "ipc"],
    timeout: COMPILE_MS,
    killSignal: "SIGKILL",
  });
  return new Promise((resolve) => {
    child.once("message", (answer) => resolve(answer as FilterAnswer));
    child.once("error", ({ message }) => {
      resolve({ code: "BUSY", message: `filters can't be compiled now: ${message}` });
    });
    // Behind the answer, if there was one.
    child.once("exit", (_code, signal) => {
      const late = `it was not compiled within ${COMPILE_MS / 1000} s`;
      const message = signal === "SIGKILL" ? late : "libpcap ended without an answer";
      resolve({ code: "FILTER", message });
    });
    // A process that could not be started has no channel; its error is on the way.
    if (child.connected) child.send(text, () => undefined);
  });
}
