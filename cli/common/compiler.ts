/**
 * Options of V8 for the data path. They are for this command only: a library leaves the engine of
 * its program alone. Each figure is from Node 24.21.
 */
import { setFlagsFromString } from "node:v8";

/** Call this before the data path is compiled. The options are those of every Node from 22 on. */
export function tuneV8(): void {
  // A frame passes many small functions. V8 stops inlining after 920 bytes of bytecode, and calls
  // the rest. With a larger budget the work of driver, device and sink for a frame of 60 bytes, in
  // one process without sockets, fell from 1217 to 1045 ns.
  setFlagsFromString("--max-inlined-bytecode-size=1000");
  setFlagsFromString("--max-inlined-bytecode-size-cumulative=4000");
  // A quiet link does not compile its path for minutes: V8 counts 3000 whole runs of a function, and
  // a message runs a part of each. A ping each 4 ms cost three processes 1300 us, and 930 with this.
  setFlagsFromString("--invocation-count-for-turbofan=1000");
  // Little survives a collection of new objects, so the wake-ups of helper threads cost more than they
  // save. TCP between two Xen frontends cost 5.2 s of processor time a GB, and 4.5 with this.
  setFlagsFromString("--no-parallel-scavenge");
}

/**
 * For a device, whose peers decide how many objects are in use. A collection of new objects stops the
 * thread for as long as it copies those. With 16 MB of new objects it stopped a device whose port was
 * flooded with sockets for 63 ms, and with the megabyte that V8 begins with for 8 ms.
 */
export function keepCollectionsShort(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
}
