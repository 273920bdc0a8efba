/**
 * --capture FILE of a long-running command: a capture that begins with the command. SIGUSR2 ends
 * the file, and the next SIGUSR2 begins a file with the next number.
 */
import { basename, dirname, extname, join } from "node:path";
import type { CaptureOutput } from "../../shared/capture/output.ts";
import type { CaptureSummary } from "../../shared/capture/recorder-types.ts";
import type { Logger } from "../../shared/log.ts";
import { messageOf } from "../common/failure.ts";
import { bytesText, countText } from "../common/output.ts";
import { FifoOutput } from "./fifo-output.ts";
import { checkFile, pathOutput } from "./output.ts";

/** The part of a Recorder that ends a capture. */
export interface Recording {
  readonly ended: boolean;
  readonly done: Promise<CaptureSummary>;
  stop(reason: string): Promise<CaptureSummary>;
}

const SIGNAL = "SIGUSR2";
/** Time (ms) that the reader of a pipe gets at the end for the bytes that wait. */
const GRACE_MS = 1000;

/** Makes SIGUSR2, which would end a process without --capture, log a warning only. */
export function ignoreSignal(log: Logger): void {
  process.on(SIGNAL, () => log.warn({}, `${SIGNAL}: nothing to begin or end without --capture`));
}

/** A capture that runs, or whose last bytes are being written. */
interface Running {
  readonly recording: Recording;
  readonly output: CaptureOutput;
}

export class CaptureFiles {
  readonly #path: string;
  readonly #begin: (output: CaptureOutput) => Recording;
  readonly #log: Logger;
  readonly #running = new Set<Running>();
  #files = 0;
  readonly #toggle = (): void => {
    const at = [...this.#running].find(({ recording }) => !recording.ended);
    if (at === undefined) this.#start();
    else void at.recording.stop(SIGNAL);
  };

  /** Begins the first capture. Throws Failure when no file can be created at `path`. */
  constructor(path: string, begin: (output: CaptureOutput) => Recording, log: Logger) {
    this.#path = path;
    this.#begin = begin;
    this.#log = log;
    checkFile("--capture", path);
    this.#start();
    process.on(SIGNAL, this.#toggle);
  }

  /** Ends the capture. Settles when every file is complete, or a pipe's reader reads no more. */
  async close(reason: string): Promise<void> {
    process.off(SIGNAL, this.#toggle);
    const running = [...this.#running];
    const pipes = running.map(({ output }) => output).filter((o) => o instanceof FifoOutput);
    for (const pipe of pipes) pipe.waitNoLonger();
    const grace = setTimeout(() => {
      for (const pipe of pipes) pipe.abort();
    }, GRACE_MS);
    await Promise.all(running.map(({ recording }) => recording.stop(reason)));
    clearTimeout(grace);
  }

  #start(): void {
    const path = numbered(this.#path, ++this.#files);
    try {
      const output = pathOutput(path);
      const running = { recording: this.#begin(output), output };
      this.#running.add(running);
      // The recorder reports failures itself.
      void running.recording.done.then(({ reason, code, packets, bytes }) => {
        this.#running.delete(running);
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

/** Returns the path of a file by its number: the second file of trace.pcapng is trace-2.pcapng. */
function numbered(path: string, number: number): string {
  if (number === 1) return path;
  const extension = extname(path);
  return join(dirname(path), `${basename(path, extension)}-${number}${extension}`);
}
