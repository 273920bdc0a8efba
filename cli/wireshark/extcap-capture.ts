/** The part of `ringwire extcap` with packets: it writes a device's capture to Wireshark's pipe. */

import { CaptureFilterError, compileFilter } from "../../shared/capture/filter.ts";
import { readerGone, SinkError } from "../../shared/capture/output.ts";
import { FifoOutput } from "../capture/fifo-output.ts";
import { CaptureRelay } from "../capture/relay.ts";
import { copyCapture, openCapture } from "../capture/stream.ts";
import { Failure } from "../common/failure.ts";
import { onStop, type Stop } from "../common/signals.ts";
import { reachOf } from "./extcap-devices.ts";

export interface ExtcapCapture {
  readonly device: string;
  /** A port of the device, "switch", or "any". */
  readonly source: string;
  readonly ring: boolean;
  readonly filter: string | undefined;
  /** Bytes kept of each frame; 0: all. */
  readonly snap: number;
  /** Number of packets after which the capture ends; 0: no limit. */
  readonly count: number;
  /** Path of the pipe, which its reader has created. */
  readonly fifo: string;
}

/** Time (ms) after a signal for a late reader, before the reader counts as gone. */
const GRACE_MS = 1000;

/**
 * Captures until a signal, the count, or the end of either side. Prints nothing without an error,
 * because Wireshark shows any stderr output of an extcap program as an error. Rejects with Failure.
 */
export async function captureToFifo(options: ExtcapCapture): Promise<void> {
  const output = new FifoOutput(options.fifo);
  const stop = onStop();
  let grace: NodeJS.Timeout | undefined;
  void stop.asked.then(() => {
    grace = setTimeout(() => output.abort(), GRACE_MS);
  });
  try {
    // The pipe is opened first, even if nothing will be written. dumpcap waits for a writer, and
    // can notice the end only of a writer that has opened the pipe.
    await output.attach();
    await relay(options, output, stop);
  } catch (error) {
    if (!(error instanceof SinkError)) throw error;
    if (!readerGone(error.code)) throw new Failure(`the fifo can't be used: ${error.message}`);
  } finally {
    clearTimeout(grace);
    output.abort();
    stop.forget();
  }
}

async function relay(options: ExtcapCapture, output: FifoOutput, stop: Stop): Promise<void> {
  const { device, source, ring, filter, snap, count, fifo } = options;
  const sources = [source];
  const stream = await openCapture(reachOf(device), {
    ...{ sources, frames: true, ring, filter, snap, count },
  });
  const relayed = new CaptureRelay(output);
  const ends = [stop.asked, relayed.done.then(({ reason }) => reason)];
  const { broken } = await copyCapture(stream, (chunk) => relayed.feed(chunk), ends);
  const { code, reason } = await relayed.end(broken ?? "the capture is over");
  const failed = code !== undefined && reason !== "reader gone" && !output.aborted;
  if (failed) throw new Failure(`${fifo}: ${reason}`);
  if (broken !== undefined) throw new Failure(`the connection to ${device} broke: ${broken}`);
}

/** Returns what is wrong with a capture filter; undefined when no mistake is known here. */
export async function filterProblem(text: string): Promise<string | undefined> {
  try {
    await compileFilter(text);
  } catch (error) {
    if (!(error instanceof CaptureFilterError)) throw error;
    // Without libpcap on this host the device checks the filter when the capture begins.
    if (error.code === "FILTER") return error.message;
  }
  return undefined;
}
