/**
 * --capture FILE of a command that runs for long: a capture from its start, which SIGUSR2 ends, and
 * begins anew in a file with the next number.
 */
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { FileOutput } from "../shared/capture/file-output.ts";
import type { CaptureOutput } from "../shared/capture/output.ts";
import type { CaptureSummary } from "../shared/capture/recorder-types.ts";
import type { Logger } from "../shared/log.ts";
import { Failure, messageOf } from "./failure.ts";
import { bytesText, countText } from "./output.ts";

/** What can be begun and ended: a Recorder. */
export interface Recording {
  readonly ended: boolean;
  readonly done: Promise<CaptureSummary>;
  stop(reason: string): Promise<CaptureSummary>;
}

const SIGNAL = "SIGUSR2";

/** Without --capture: the signal that would end the process does nothing, and says so. */
export function ignoreSignal(log: Logger): void {
  process.on(SIGNAL, () => log.warn({}, `${SIGNAL}: nothing to begin or end without --capture`));
}

/** Throws Failure when no file can be written at `path`, which is the value of `flag`. */
export function checkFile(flag: string, path: string): void {
  try {
    const exists = existsSync(path);
    accessSync(exists ? path : dirname(path), constants.W_OK);
    if (!exists || !statSync(path).isDirectory()) return;
  } catch (error) {
    throw new Failure(`${flag} ${path}: ${messageOf(error)}`);
  }
  throw new Failure(`${flag} ${path} is a folder: name a file in it`);
}

export class CaptureFiles {
  readonly #path: string;
  readonly #begin: (output: CaptureOutput) => Recording;
  readonly #log: Logger;
  #recording: Recording | undefined;
  #files = 0;
  readonly #toggle = (): void => {
    if (this.#recording === undefined || this.#recording.ended) this.#start();
    else void this.#recording.stop(SIGNAL);
  };

  /** Begins at once. Throws Failure when no file can be made there. */
  constructor(path: string, begin: (output: CaptureOutput) => Recording, log: Logger) {
    this.#path = path;
    this.#begin = begin;
    this.#log = log;
    checkFile("--capture", path);
    this.#start();
    process.on(SIGNAL, this.#toggle);
  }

  /** Ends the capture. Settles when the file is whole. */
  async close(reason: string): Promise<void> {
    process.off(SIGNAL, this.#toggle);
    await this.#recording?.stop(reason);
  }

  #start(): void {
    const path = numbered(this.#path, ++this.#files);
    try {
      const recording = this.#begin(new FileOutput(path));
      this.#recording = recording;
      // What failed is said by whoever records.
      void recording.done.then(({ reason, code, packets, bytes }) => {
        if (code !== undefined) return;
        const what = `${countText(packets)} packets, ${bytesText(bytes)}, in ${path}`;
        this.#log.info({}, `capture: ${what}; ended: ${reason}`);
      });
      this.#log.info({}, `capture to ${path} has begun; ${SIGNAL} ends it`);
    } catch (error) {
      this.#log.warn({}, `no capture to ${path}: ${messageOf(error)}`);
    }
  }
}

/** The second file of trace.pcapng is trace-2.pcapng. */
function numbered(path: string, number: number): string {
  if (number === 1) return path;
  const extension = extname(path);
  return join(dirname(path), `${basename(path, extension)}-${number}${extension}`);
}
