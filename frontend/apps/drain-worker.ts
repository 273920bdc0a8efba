/** The smallest application in a worker: it releases all received slots until its port is closed. */
import { workerData } from "node:worker_threads";
import { nmAttach } from "../netmap/descriptor.ts";
import { Poll } from "../netmap/flags.ts";
import type { PortHandle } from "../netmap/shared-port.ts";

const port = nmAttach(workerData as PortHandle);
const rings = port.rxRings();

while ((port.pollSync(Poll.IN, -1) & Poll.ERR) === 0) {
  for (const ring of rings) ring.advance(ring.tail);
}
