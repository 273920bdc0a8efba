/** The part of `ringwire extcap` that has packets: a device's capture into Wireshark's pipe. */
import { stat } from "node:fs/promises";
import { FifoOutput } from "../shared/capture/fifo-output.ts";
import { CaptureFilterError, compileFilter } from "../shared/capture/filter.ts";
import { CaptureRelay } from "../shared/capture/relay.ts";
import { openCapture } from "./capture-stream.ts";
import { Failure, messageOf } from "./failure.ts";
import { onStop } from "./signals.ts";

export interface ExtcapCapture {
  readonly device: string;
  /** A port of the device, "switch", or "any". */
  readonly source: string;
  readonly ring: boolean;
  readonly filter: string | undefined;
  /** Bytes kept of a frame; 0: all. */
  readonly snap: number;
  /** 0: no end. */
  readonly count: number;
  /** The pipe, made by who reads it. */
  readonly fifo: string;
}

/** After a signal: for a reader that is late, before it counts as gone. */
const GRACE_MS = 1000;

/**
 * Captures until a signal, the count, or the end of either side. Says nothing when all is well:
 * Wireshark shows whatever an extcap program writes to stderr as an error. Throws Failure.
 */
export async function captureToFifo(options: ExtcapCapture): Promise<void> {
  const { device, source, ring, filter, snap, count, fifo } = options;
  await checkFifo(fifo);
  const stop = onStop();
  const sources = [source];
  const stream = await openCapture(device, { sources, frames: true, ring, filter, snap, count });
  const output = new FifoOutput(fifo);
  const relay = new CaptureRelay(output);
  let left = false;
  let grace: NodeJS.Timeout | undefined;
  const leave = (): void => {
    left = true;
    stream.destroy();
  };
  void stop.asked.then(() => {
    leave();
    grace = setTimeout(() => output.abort(), GRACE_MS);
  });
  void relay.done.then(leave);
  let broken: string | undefined;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) await relay.feed(chunk);
  } catch (error) {
    // What is cut from here ends with an error too.
    if (!left) broken = messageOf(error);
  }
  const { code, reason } = await relay.end(broken ?? "the capture is over");
  clearTimeout(grace);
  stop.forget();
  if (code !== undefined && reason !== "reader gone") throw new Failure(`${fifo}: ${reason}`);
  if (broken !== undefined) throw new Failure(`the connection to ${device} broke: ${broken}`);
}

async function checkFifo(fifo: string): Promise<void> {
  try {
    await stat(fifo);
  } catch (error) {
    throw new Failure(`the fifo can't be used: ${messageOf(error)}`);
  }
}

/** What is wrong with a capture filter; undefined: nothing that is known here. */
export async function filterProblem(text: string): Promise<string | undefined> {
  try {
    await compileFilter(text);
  } catch (error) {
    if (!(error instanceof CaptureFilterError)) throw error;
    // Without libpcap here it is the device that judges, when the capture begins.
    if (error.code === "FILTER") return error.message;
  }
  return undefined;
}
