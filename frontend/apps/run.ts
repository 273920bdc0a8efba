/**
 * Runs an application where its ports were opened, or in a worker that shares their rings.
 *
 *   this thread: link, driver, every sync ◄── doorbell, head and cur ──► worker: the application
 */
import { Worker } from "node:worker_threads";
import type { NmPort } from "../netmap/descriptor.ts";
import type { PortHandle } from "../netmap/shared-port.ts";
import type { AppPort, Control, Counts } from "./app.ts";
import { lb } from "./lb.ts";
import { type PktGenConfig, type PktGenResult, pktGen } from "./pkt-gen.ts";

export type AppWork =
  | { readonly app: "pkt-gen"; readonly config: PktGenConfig }
  | { readonly app: "lb"; readonly burst: number };

/** The data that a worker receives. */
export interface WorkerWork {
  readonly work: AppWork;
  readonly handles: readonly PortHandle[];
  readonly counts: readonly SharedArrayBuffer[];
  readonly control: SharedArrayBuffer;
}

const WORKER = new URL(
  import.meta.url.endsWith(".ts") ? "./app-worker.ts" : "./app-worker.js",
  import.meta.url,
);

/** One loop. pkt-gen has one port; lb an input, then its pipes. As many counts as ports. */
export async function runApp(
  work: AppWork,
  ports: readonly AppPort[],
  counts: readonly Counts[],
  control: Control,
): Promise<PktGenResult> {
  if (work.app === "pkt-gen") return await pktGen(ports[0]!, work.config, counts[0]!, control);
  await lb(ports[0]!, ports.slice(1), work.burst, counts, control);
  return {};
}

/** The same in a worker. The ports are the worker's until this resolves. */
export async function runInWorker(
  work: AppWork,
  ports: readonly NmPort[],
  counts: readonly Counts[],
  control: Control,
): Promise<PktGenResult> {
  const workerData: WorkerWork = {
    work,
    handles: ports.map((port) => port.share()),
    counts: counts.map(({ buffer }) => buffer),
    control: control.buffer,
  };
  const worker = new Worker(WORKER, { name: work.app, workerData });
  const { promise, resolve, reject } = Promise.withResolvers<PktGenResult>();
  worker.on("message", resolve);
  worker.on("error", reject);
  // It exits after its message. Without a message it was terminated from outside.
  worker.on("exit", (code) => reject(new Error(`the ${work.app} thread ended with ${code}`)));
  return await promise;
}
