/** The helper thread of HelperWaiter: waits for an epoll set, and tells the thread that turns. */
import { parentPort, workerData } from "node:worker_threads";
import { Phase, type WaitWorkerData } from "./helper.ts";
import { newEvent } from "./reactor.ts";
import * as sys from "./sys.ts";

const { epoll, word } = workerData as WaitWorkerData;
const event = newEvent(0);

while (Atomics.load(word, 0) !== Phase.OVER) {
  if (Atomics.wait(word, 0, Phase.RESTING) === "timed-out") continue;
  if (sys.epollWaitOne(epoll, event, 1, -1) <= 0) continue;
  if (Atomics.compareExchange(word, 0, Phase.WAITING, Phase.RESTING) === Phase.WAITING) {
    parentPort?.postMessage(0);
  }
}
