/** Capture filters in the libpcap language, compiled by libpcap in a process, and run here. */
import type { Frame } from "../net/frame.ts";
import { BpfProgram, isAbsoluteLoad, NEED_MORE } from "./bpf.ts";
import { FilterCompiler } from "./filter-compiler.ts";
import { CaptureFilterError } from "./filter-error.ts";
import { networkNameIn } from "./filter-names.ts";
import type { FrameFilter } from "./recorder-types.ts";

export { FILTER_MS } from "./filter-compiler.ts";
export { CaptureFilterError } from "./filter-error.ts";

const MAX_FILTER_CHARS = 4096;
/** Bytes gathered of a frame in pieces before the filter looks: headers, with room for options. */
const HEAD_BYTES = 256;
/** From here on a program's offsets name facts of a Linux socket (SKF_AD_OFF of linux/filter.h). */
const SOCKET_FACTS = 0xffff_f000;
/** Compiles the filters of programs, which compile their own. Each device has a compiler. */
const ofPrograms = new FilterCompiler();

/**
 * Compiles a filter for Ethernet frames, on behalf of `owner` (an address, or nothing for a user of
 * this process). Names of hosts and networks are not looked up. Rejects with CaptureFilterError and
 * nothing else: what libpcap says of the text, in its words, what can't be done here, which package
 * brings libpcap where there is none, or that too many filters are being compiled.
 */
export async function compileFilter(
  text: string,
  owner = "",
  compiler = ofPrograms,
): Promise<FrameFilter> {
  const problem = problemOf(text);
  if (problem !== undefined) throw new CaptureFilterError("FILTER", problem);
  const answer = await compiler.compile(owner, text);
  if ("code" in answer) throw new CaptureFilterError(answer.code, answer.message);
  if (answer.program.some(({ code, k }) => isAbsoluteLoad(code) && k >= SOCKET_FACTS)) {
    const message = "it asks what only a Linux socket knows (inbound, outbound), and no frame";
    throw new CaptureFilterError("FILTER", message);
  }
  try {
    return new CompiledFilter(text, new BpfProgram(answer.program));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new CaptureFilterError("FILTER", error.message);
  }
}

/** Why libpcap is not asked about a text; undefined: it is. */
function problemOf(text: string): string | undefined {
  if (text.length > MAX_FILTER_CHARS) {
    return `it has ${text.length} characters, and may have ${MAX_FILTER_CHARS}`;
  }
  // libpcap takes a text that ends at a zero byte.
  const at = text.search(/\p{Cc}/u);
  if (at >= 0) {
    const code = text.charCodeAt(at).toString(16).toUpperCase().padStart(4, "0");
    return `character ${at + 1} is the control character U+${code}`;
  }
  const name = networkNameIn(text);
  if (name === undefined) return undefined;
  return `"${name}" is a name, and names are not looked up: use an address`;
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
