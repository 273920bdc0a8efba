/**
 * Sends back each packet by swapping buffers until its port is closed; then reports their number.
 */
import { parentPort, workerData } from "node:worker_threads";
import { nmAttach } from "../../frontend/netmap/descriptor.ts";
import { Ns, Poll } from "../../frontend/netmap/flags.ts";
import type { PortHandle } from "../../frontend/netmap/shared-port.ts";

const port = nmAttach(workerData as PortHandle);
const rx = port.rxRing(port.firstRx);
const tx = port.txRing(port.firstTx);
let frames = 0;

for (;;) {
  if ((port.pollSync(Poll.IN, -1) & Poll.ERR) !== 0) break;
  while (!rx.isEmpty) {
    if (tx.isEmpty && (port.pollSync(Poll.OUT, -1) & Poll.ERR) !== 0) break;
    const from = rx.head;
    const to = tx.head;
    const index = tx.bufIdx(to);
    tx.setSlot(to, rx.bufIdx(from), rx.len(from), Ns.BUF_CHANGED);
    rx.setBufIdx(from, index);
    rx.setSlotFlags(from, Ns.BUF_CHANGED);
    tx.advance(tx.next(to));
    rx.advance(rx.next(from));
    frames++;
  }
}
parentPort?.postMessage(frames);
