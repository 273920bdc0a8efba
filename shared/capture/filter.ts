/** Capture filters in the libpcap language, compiled by libpcap in a worker, and run here. */
import { Worker } from "node:worker_threads";
import type { Frame } from "../net/frame.ts";
import { BpfProgram, isAbsoluteLoad, NEED_MORE } from "./bpf.ts";
import { CaptureFilterError } from "./filter-error.ts";
import type { FilterAnswer, FilterWork } from "./filter-worker.ts";
import { LinkType } from "./pcapng/layout.ts";
import type { FrameFilter } from "./recorder-types.ts";

export { CaptureFilterError } from "./filter-error.ts";

/** Bytes gathered of a frame in pieces before the filter looks: headers, with room for options. */
const HEAD_BYTES = 256;
/** A resolver that does not answer is not waited for longer. */
export const COMPILE_MS = 10_000;
/** Each takes a thread, for as long as the resolver takes: nobody may have many. */
const MAX_COMPILERS = 4;
let compilers = 0;
/** The file beside this one, compiled or not as this one is. */
const WORKER = new URL(
  import.meta.url.endsWith(".ts") ? "./filter-worker.ts" : "./filter-worker.js",
  import.meta.url,
);
/** From here on a program's offsets name facts of a Linux socket (SKF_AD_OFF of linux/filter.h). */
const SOCKET_FACTS = 0xffff_f000;
/** pcap_compile's snap length becomes the "accept" answer: a whole frame. */
const ACCEPT_BYTES = 262_144;

/**
 * Compiles a filter for Ethernet frames. Rejects with CaptureFilterError: what libpcap says of the
 * text, in its words, which package brings libpcap where there is none, or that others are first.
 */
export async function compileFilter(text: string): Promise<FrameFilter> {
  const answer = await inWorker({ text, linkType: LinkType.ETHERNET, snapLength: ACCEPT_BYTES });
  if ("code" in answer) throw new CaptureFilterError(answer.code, answer.message);
  if (answer.program.some(({ code, k }) => isAbsoluteLoad(code) && k >= SOCKET_FACTS)) {
    const message = "it asks what only a Linux socket knows (inbound, outbound), and no frame";
    throw new CaptureFilterError("FILTER", message);
  }
  return new CompiledFilter(text, new BpfProgram(answer.program));
}

/** The worker ends with its answer; one that waits for a resolver is left to itself after a while. */
function inWorker(work: FilterWork): Promise<FilterAnswer> {
  if (compilers === MAX_COMPILERS) {
    const message = `${MAX_COMPILERS} other filters are being compiled; try again`;
    return Promise.resolve({ code: "BUSY", message });
  }
  compilers++;
  const worker = new Worker(WORKER, { name: "capture filter", workerData: work });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      worker.unref();
      void worker.terminate();
      const seconds = COMPILE_MS / 1000;
      resolve({
        code: "FILTER",
        message: `it was not compiled within ${seconds} s: use addresses`,
      });
    }, COMPILE_MS);
    worker.on("message", resolve);
    worker.on("error", reject);
    worker.on("exit", () => {
      // A thread within the resolver ends later than it is told to.
      compilers--;
      clearTimeout(timer);
      reject(new Error("the worker of a capture filter ended without an answer"));
    });
  });
}

class CompiledFilter implements FrameFilter {
  readonly text: string;
  readonly #program: BpfProgram;
  #scratch = new Uint8Array(HEAD_BYTES);

  constructor(text: string, program: BpfProgram) {
    this.text = text;
    this.#program = program;
  }

  matchesSpan(bytes: Uint8Array, at: number, length: number): boolean {
    return this.#program.run(bytes, at, length, length) !== 0;
  }

  matches(frame: Frame): boolean {
    const { length } = frame;
    // Most filters look at headers, and most frames have them in their first span.
    let answer = NEED_MORE;
    if (frame.count > 0) {
      const first = frame.buffers[0]!;
      answer = this.#program.run(first, frame.offsets[0]!, frame.lengths[0]!, length);
    }
    if (answer === NEED_MORE) answer = this.#gathered(frame, Math.min(HEAD_BYTES, length));
    if (answer === NEED_MORE) answer = this.#gathered(frame, length);
    return answer !== 0;
  }

  #gathered(frame: Frame, have: number): number {
    if (this.#scratch.length < have) this.#scratch = new Uint8Array(have);
    frame.copyTo(this.#scratch, 0, 0, have);
    return this.#program.run(this.#scratch, 0, have, frame.length);
  }
}
