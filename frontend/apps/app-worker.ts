/** The worker of runInWorker: attaches to the rings, runs the loop, reports its result. */
import { parentPort, workerData } from "node:worker_threads";
import { WorkerPort } from "../netmap/shared-port.ts";
import { type AppPort, Control, Counts } from "./app.ts";
import { runApp, type WorkerWork } from "./run.ts";

/** Blocks in place of waiting for a promise, because this thread has no other work. */
class BlockingPort extends WorkerPort implements AppPort {
  override async poll(events: number, timeoutMs: number): Promise<number> {
    return this.pollSync(events, timeoutMs);
  }
}

const data = workerData as WorkerWork;
const counts = data.counts.map((buffer) => new Counts(buffer));
const ports = data.handles.map((handle) => new BlockingPort(handle));
parentPort?.postMessage(await runApp(data.work, ports, counts, new Control(data.control, true)));
