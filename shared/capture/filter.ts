/** Capture filters in the libpcap language, compiled by libpcap and run here. */
import type { Frame } from "../net/frame.ts";
import { BpfProgram, NEED_MORE } from "./bpf.ts";
import { LinkType } from "./pcapng/layout.ts";
import type { FrameFilter } from "./recorder-types.ts";

export { CaptureFilterError } from "./filter-error.ts";

/** Bytes gathered of a frame in pieces before the filter looks: headers, with room for options. */
const HEAD_BYTES = 256;
/** pcap_compile's snap length becomes the "accept" answer: a whole frame. */
const ACCEPT_BYTES = 262_144;

/**
 * Compiles a filter for Ethernet frames. Rejects with CaptureFilterError: what libpcap says of the
 * text, in its words, or which package brings libpcap where there is none.
 */
export async function compileFilter(text: string): Promise<FrameFilter> {
  const { compile } = await import("./libpcap.ts");
  return new CompiledFilter(text, new BpfProgram(compile(text, LinkType.ETHERNET, ACCEPT_BYTES)));
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
