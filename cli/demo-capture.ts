/** The capture that the demo leaves behind: the first packets of everything, small enough to open. */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FileOutput } from "../shared/capture/file-output.ts";
import type { CaptureSummary } from "../shared/capture/recorder-types.ts";
import { CaptureRelay } from "../shared/capture/relay.ts";
import { checkFile } from "./capture-output.ts";
import { openCapture } from "./capture-stream.ts";
import { Failure, messageOf } from "./failure.ts";

/** From the first word of each NIC into its traffic; a few megabytes. */
const PACKETS = 3000;
const SNAP_BYTES = 256;

/** Wireshark needs it to read the batches. */
export const DISSECTOR = fileURLToPath(
  new URL("../shared/capture/wireshark/ringwire.lua", import.meta.url),
);

export interface DemoCapture {
  readonly path: string;
  /** Ends it, if it has not ended by itself. Rejects with Failure when the file is not whole. */
  end(): Promise<CaptureSummary>;
}

/** Where it goes: `asked`, or a file in a new temporary folder. Throws Failure. */
export async function capturePath(asked: string | undefined): Promise<string> {
  if (asked !== undefined) {
    checkFile("--capture", asked);
    return asked;
  }
  try {
    return join(await mkdtemp(join(tmpdir(), "ringwire-demo-")), "ringwire-demo.pcapng");
  } catch (error) {
    throw new Failure(
      `no folder for the capture can be made in ${tmpdir()} (${messageOf(error)}): --capture FILE names another place, --no-capture leaves none`,
    );
  }
}

/** Begins before there is any NIC, so that the file has their first words. Rejects with Failure. */
export async function beginCapture(url: string, path: string): Promise<DemoCapture> {
  const relay = new CaptureRelay(new FileOutput(path));
  const stream = await openCapture(url, {
    sources: ["any"],
    frames: true,
    ring: true,
    snap: SNAP_BYTES,
    count: PACKETS,
  });
  const copied = (async () => {
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) await relay.feed(chunk);
    } catch {
      // Cut by `end`, or with the device: the file ends with what came.
    }
    await relay.end("the device ended it");
  })();
  void relay.done.then(() => stream.destroy());
  return {
    path,
    end: async () => {
      stream.destroy();
      await copied;
      const summary = await relay.done;
      if (summary.code !== undefined) throw new Failure(`the capture ${summary.reason}`);
      return summary;
    },
  };
}
