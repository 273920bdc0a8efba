/** The lines of an answer that goes on. */

import type { Readable } from "node:stream";
import { StringDecoder } from "node:string_decoder";

/** Most characters of a line. A device's events have far fewer; another server may send anything. */
const MAX_LINE_CHARS = 64 * 1024;

/**
 * Yields the lines of `stream`, without their line feeds. Ends the stream, with an error, behind a
 * line that is too long, and after `silentMs` without a byte.
 */
export async function* linesOf(stream: Readable, silentMs: number): AsyncGenerator<string> {
  const silence = setTimeout(() => {
    stream.destroy(new Error(`the device has said nothing for ${silentMs / 1000} s`));
  }, silentMs);
  const decoder = new StringDecoder();
  let rest = "";
  try {
    for await (const bytes of stream as AsyncIterable<Buffer>) {
      silence.refresh();
      const lines = (rest + decoder.write(bytes)).split("\n");
      rest = lines.pop()!;
      if (rest.length > MAX_LINE_CHARS) throw new Error("the device sent a line without an end");
      yield* lines;
    }
  } finally {
    clearTimeout(silence);
    stream.destroy();
  }
}
