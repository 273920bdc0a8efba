/** The capture that the demo leaves behind: a small file with the first packets. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { FileOutput } from "../../shared/capture/file-output.ts";
import { checkFile } from "../capture/output.ts";
import { CaptureRelay } from "../capture/relay.ts";
import { copyCapture, openCapture } from "../capture/stream.ts";
import { Failure, messageOf } from "../common/failure.ts";

/** Number of packets, from the first message of each NIC into its traffic; a few megabytes. */
const PACKETS = 3000;
const SNAP_BYTES = 256;

/** Path of the dissector. Wireshark needs it to read the batches. */
export const DISSECTOR = fileURLToPath(
  new URL("../wireshark/plugin/ringwire.lua", import.meta.url),
);

/** The finished capture of a demo. */
export interface LeftCapture {
  readonly file: string;
  readonly packets: number;
  readonly bytes: number;
}

export class DemoCapture {
  readonly #path: string;
  /** Temporary folder created for the file; undefined when the user chose the path. */
  readonly #folder: string | undefined;
  #stream: Readable | undefined;
  #relay: CaptureRelay | undefined;
  #copied: Promise<void> = Promise.resolve();
  #isLeft = false;

  private constructor(path: string, folder: string | undefined) {
    this.#path = path;
    this.#folder = folder;
  }

  /**
   * Prepares a capture to the file `asked`, or to a file in a new temporary folder. Returns
   * undefined when `asked` is false. Rejects with Failure.
   */
  static async at(asked: string | boolean | undefined): Promise<DemoCapture | undefined> {
    if (asked === false) return undefined;
    if (typeof asked === "string") {
      checkFile("--capture", asked);
      return new DemoCapture(asked, undefined);
    }
    try {
      const folder = await mkdtemp(join(tmpdir(), "ringwire-demo-"));
      return new DemoCapture(join(folder, "ringwire-demo.pcapng"), folder);
    } catch (error) {
      throw new Failure(
        `no folder for the capture can be made in ${tmpdir()} (${messageOf(error)}): --capture FILE names another place, --no-capture leaves none`,
      );
    }
  }

  /** Begins before there is any NIC, so that the file has all messages. Rejects with Failure. */
  async begin(url: string): Promise<void> {
    const stream = await openCapture(
      { connect: url },
      {
        sources: ["any"],
        frames: true,
        ring: true,
        snap: SNAP_BYTES,
        count: PACKETS,
      },
    );
    const relay = new CaptureRelay(new FileOutput(this.#path));
    this.#stream = stream;
    this.#relay = relay;
    this.#copied = copy(stream, relay);
  }

  /** Ends the capture, unless it has ended. Rejects with Failure when the file is incomplete. */
  async end(): Promise<LeftCapture | undefined> {
    if (this.#relay === undefined) return undefined;
    this.#stream?.destroy();
    await this.#copied;
    const { code, reason, packets, bytes } = await this.#relay.done;
    if (code !== undefined) throw new Failure(`the capture ${reason}`);
    this.#isLeft = true;
    return { file: this.#path, packets, bytes };
  }

  /** Removes the folder, unless the demo reached its end and named the file to the user. */
  async clear(): Promise<void> {
    if (this.#isLeft) return;
    this.#stream?.destroy();
    await this.#copied;
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true });
  }
}

async function copy(stream: Readable, relay: CaptureRelay): Promise<void> {
  // If `end` or the end of the device cuts the stream, the file ends with what was received.
  const ends = [relay.done.then(({ reason }) => reason)];
  await copyCapture(stream, (chunk) => relay.feed(chunk), ends);
  await relay.end("the device ended it");
}
