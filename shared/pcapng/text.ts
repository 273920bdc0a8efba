/**
 * Text on its way into a file. Names and comments may come from a peer, so they are made harmless
 * here: readers are C programs that stop at a zero byte, and terminals obey control characters.
 */
import { MAX_OPTION_BYTES } from "./layout.ts";

/** Control characters, and Unicode's two line separators. */
const CONTROL = /[\p{Cc}\u2028\u2029]/gu;
/** A comment may have lines: line feed and tab stay. */
const CONTROL_BUT_LINES = /(?![\n\t])[\p{Cc}\u2028\u2029]/gu;
const REPLACEMENT = "\ufffd";
/** Ends a text that did not fit. */
const CUT_MARK = Buffer.from("…");

/** Somebody else's words in one line that no terminal obeys. */
export function printable(text: string): string {
  return text.replace(CONTROL, REPLACEMENT);
}

/** Well-formed UTF-8 of one line, at most `limit` bytes; a longer text ends with "…". */
export function nameBytes(text: string, limit = MAX_OPTION_BYTES): Uint8Array {
  return encode(text, CONTROL, limit);
}

/** The same with line feeds and tabs left in place. */
export function commentBytes(text: string, limit = MAX_OPTION_BYTES): Uint8Array {
  return encode(text, CONTROL_BUT_LINES, limit);
}

function encode(text: string, control: RegExp, limit: number): Uint8Array {
  // Each UTF-16 unit takes a byte at least: what is further behind can't be in the result.
  const bytes = Buffer.from(
    text
      .slice(0, limit + 1)
      .toWellFormed()
      .replace(control, REPLACEMENT),
  );
  if (bytes.length <= limit) return bytes;
  let end = limit - CUT_MARK.length;
  // Bytes 10xxxxxx continue a character: it is left out whole.
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--;
  return Buffer.concat([bytes.subarray(0, end), CUT_MARK]);
}
