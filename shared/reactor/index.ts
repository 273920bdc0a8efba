/**
 * The reactor of this thread, if it can have one. README.md has a drawing.
 *
 * No other file of this room is imported statically, so that koffi is loaded only where it works.
 */
import { isMainThread } from "node:worker_threads";
import type { DeviceStatus } from "../status/device-status.ts";
import type { Reactor } from "./reactor.ts";

let embedded: Reactor | undefined;
let reason = "not started";
let opening: Promise<void> | undefined;
let helped: Promise<Reactor> | undefined;

/** Returns why this thread can't have a reactor, as words for a log; undefined when it may. */
function whyNot(): string | undefined {
  if (process.env["RINGWIRE_REACTOR"] === "0") return "RINGWIRE_REACTOR=0";
  if (process.platform !== "linux") return `the system is ${process.platform}`;
  if (!isMainThread) return "this is a worker thread";
  if (process.versions["bun"] !== undefined) return "this runtime does not use libuv";
  return undefined;
}

async function open(): Promise<void> {
  const why = whyNot();
  if (why !== undefined) {
    reason = why;
    return;
  }
  try {
    const { openEpoll, Reactor } = await import("./reactor.ts");
    const { EmbeddedWaiter } = await import("./embedded.ts");
    const epoll = openEpoll();
    embedded = new Reactor(epoll, new EmbeddedWaiter(epoll));
    reason = "";
  } catch (error) {
    reason = error instanceof Error ? error.message : String(error);
  }
}

/**
 * Prepares the reactor of this thread. Resolves also when there is none. Code that accepts or dials
 * connections calls this before `reactor`.
 */
export function prepareReactor(): Promise<void> {
  opening ??= open();
  return opening;
}

/** The reactor for sockets, or undefined where libuv waits for them. See `prepareReactor`. */
export const reactor = (): Reactor | undefined => embedded;

/** Calls `run` in the next turn of the event loop, behind the input that has arrived. */
export function soon(run: () => void): void {
  if (embedded?.isActive === true) embedded.soon(run);
  else setImmediate(run);
}

/** The state of the wait for sockets, for a status. */
export function dataPathStatus(): DeviceStatus["dataPath"] {
  const times = embedded?.times;
  return {
    waits: embedded === undefined ? "libuv" : "reactor",
    whyLibuv: reason,
    turns: times?.byClass() ?? {},
    longestTurnMs: Math.round((times?.longestMs ?? 0) * 1000) / 1000,
    turnSeconds: Math.round(times?.sumMs ?? 0) / 1000,
  };
}

/** Returns the reactor for descriptors that libuv can't poll. Rejects on systems without epoll. */
export async function pollingReactor(): Promise<Reactor> {
  await prepareReactor();
  if (embedded !== undefined) return embedded;
  helped ??= (async () => {
    const { openEpoll, Reactor } = await import("./reactor.ts");
    const { HelperWaiter } = await import("./helper.ts");
    const epoll = openEpoll();
    return new Reactor(epoll, new HelperWaiter(epoll));
  })();
  return helped;
}
