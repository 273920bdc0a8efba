/**
 * Runs libpcap's compiler in processes, a few at a time.
 *
 *   compileFilter ──► waiting, a few of each owner ──► process, killed when it takes too long
 *
 * An address that asks for many filters waits behind its own, and others are served in between.
 */
import { fork } from "node:child_process";
import { CaptureFilterError } from "./filter-error.ts";
import type { FilterAnswer, FilterWork } from "./filter-worker.ts";

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
const WORKER = new URL(
  import.meta.url.endsWith(".ts") ? "./filter-worker.ts" : "./filter-worker.js",
  import.meta.url,
);

/** All that are being compiled or wait, by owner. */
const owned = new Map<string, number>();
/** Each is called when its turn has come. */
const waiting: (() => void)[] = [];
let asked = 0;
let running = 0;

/**
 * The program of a filter, or what is wrong. `owner` says on whose behalf: an address. Rejects with
 * CaptureFilterError BUSY when the owner, or all together, ask for too much.
 */
export async function compileInProcess(owner: string, work: FilterWork): Promise<FilterAnswer> {
  const own = owned.get(owner) ?? 0;
  if (own >= MAX_OWNED) {
    const message = `${own} filters of yours are being compiled; try again`;
    throw new CaptureFilterError("BUSY", message);
  }
  if (asked >= MAX_ASKED) {
    throw new CaptureFilterError("BUSY", `${asked} filters are being compiled; try again`);
  }
  owned.set(owner, own + 1);
  asked++;
  try {
    if (running >= MAX_RUNNING) {
      await new Promise<void>((begin) => waiting.push(begin));
    } else {
      running++;
    }
    try {
      return await inProcess(work);
    } finally {
      passOn();
    }
  } finally {
    asked--;
    const left = owned.get(owner)! - 1;
    if (left === 0) owned.delete(owner);
    else owned.set(owner, left);
  }
}

/** A place has become free. */
function passOn(): void {
  const next = waiting.shift();
  if (next === undefined) running--;
  else next();
}

function inProcess(work: FilterWork): Promise<FilterAnswer> {
  // It gets the text, and of our variables only the one that says where libraries are.
  const { LD_LIBRARY_PATH } = process.env;
  const env = LD_LIBRARY_PATH === undefined ? {} : { LD_LIBRARY_PATH };
  const child = fork(WORKER, [], { env, stdio: ["ignore", "ignore", "ignore", "ipc"] });
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill("SIGKILL"), COMPILE_MS);
    child.once("message", (answer) => resolve(answer as FilterAnswer));
    child.once("error", ({ message }) => {
      clearTimeout(timer);
      resolve({ code: "BUSY", message: `filters can't be compiled now: ${message}` });
    });
    // Behind the answer, if there was one.
    child.once("exit", (_code, signal) => {
      clearTimeout(timer);
      const late = `it was not compiled within ${COMPILE_MS / 1000} s`;
      const message = signal === "SIGKILL" ? late : "libpcap ended without an answer";
      resolve({ code: "FILTER", message });
    });
    // A process that could not be started has no channel; its error is on the way.
    if (child.connected) child.send(work, () => undefined);
  });
}
