/**
 * WebSocket data frames without garbage. This part of RFC 6455 carries nearly every byte.
 *
 *   0        1            2                4/10             +4
 *   | FIN op | MASK  len7 | len16 or len64 | masking key     | payload ...
 *
 * The `ws` library copies a message once to mask it, and it allocates a buffer for each 64 KiB
 * received. At full speed the collector then needs a third of the time. This file masks a message
 * in place and writes the header into the room in front of the message. It reads all input into one
 * buffer for the life of the connection. The library does everything else: handshake, control
 * frames, closing.
 *
 * Source: RFC 6455, section 5.2 (base framing), 5.3 (masking).
 */
import { copyBytes } from "../bytes/copy.ts";

/** Bytes that `send` needs in front of a message: the longest header with a key. */
export const FRAME_ROOM = 14;

const FIN_BINARY = 0x82;
const MASKED = 0x80;
const KEY_BYTES = 4;
const LEN16 = 126;
const LEN64 = 127;

/**
 * Writes the header into the room in front of `message`. With a key it also masks the payload in
 * place, so the message is no longer readable. Returns the whole frame.
 */
export function frameInPlace(message: Uint8Array, key: Uint8Array | undefined): Uint8Array {
  const n = message.byteLength;
  const length = n < LEN16 ? 2 : n < 0x10000 ? 4 : 10;
  const header = length + (key === undefined ? 0 : 4);
  const frame = new Uint8Array(message.buffer, message.byteOffset - header, header + n);
  const mask = key === undefined ? 0 : MASKED;
  frame[0] = FIN_BINARY;
  frame[1] = mask | (length === 2 ? n : length === 4 ? LEN16 : LEN64);
  // Big-endian. A message has fewer than 2^32 bytes.
  for (let at = length - 1, left = n; at > 1; at--, left >>>= 8) frame[at] = left;
  if (key !== undefined) {
    frame.set(key, length);
    maskInPlace(message, key);
  }
  return frame;
}

/** Applies the key to every byte by exclusive or, by words where the bytes are aligned. */
function maskInPlace(bytes: Uint8Array, key: Uint8Array): void {
  // The zero key exists to avoid this work.
  if ((key[0]! | key[1]! | key[2]! | key[3]!) === 0) return;
  const n = bytes.byteLength;
  const lead = Math.min(n, (4 - (bytes.byteOffset & 3)) & 3);
  for (let i = 0; i < lead; i++) bytes[i]! ^= key[i & 3]!;
  const words = (n - lead) >>> 2;
  if (words > 0) {
    const rotated = new Uint8Array(4);
    for (let i = 0; i < 4; i++) rotated[i] = key[(lead + i) & 3]!;
    const word = new Int32Array(rotated.buffer)[0]!;
    const body = new Int32Array(bytes.buffer, bytes.byteOffset + lead, words);
    for (let i = 0; i < words; i++) body[i]! ^= word;
  }
  for (let i = lead + 4 * words; i < n; i++) bytes[i]! ^= key[i & 3]!;
}

/** Initial size in bytes of the buffer for a message in parts. */
const FIRST_PARTIAL = 4096;

/**
 * Finds whole binary messages in a stream of frames. A client receives unmasked frames, a server
 * masked ones. Masks are removed in place.
 *
 * A message that lies whole in a chunk is passed on as a view of the chunk. Any other message is
 * joined in a buffer that is reused. Both are valid during the call only. Control frames go to the
 * library, byte for byte. Any other frame (text, a fragment, reserved bits, a missing or unexpected
 * mask, a length over the limit) ends this: from there on the library gets the whole stream and
 * answers.
 */
export class DataFrameReader {
  readonly #onMessage: (message: Uint8Array) => void;
  readonly #toLibrary: (bytes: Buffer) => void;
  readonly #limit: number;
  /** MASKED when every frame must carry a key, else 0. */
  readonly #mask: number;
  readonly #key = new Uint8Array(KEY_BYTES);
  /** First bytes of a header that continues in the next chunk. */
  readonly #header = new Uint8Array(FRAME_ROOM);
  #headerBytes = 0;
  /** Buffer of a message in parts. It grows with the bytes received, not by a header's length. */
  #partial = new Uint8Array(0);
  #partialBytes = 0;
  /** Payload bytes of the message under construction; 0 while there is none. */
  #wanted = 0;
  /** Bytes of a control frame that must still go to the library. */
  #control = 0;
  #handedOver = false;

  constructor(
    masked: boolean,
    limit: number,
    onMessage: (message: Uint8Array) => void,
    toLibrary: (bytes: Buffer) => void,
  ) {
    this.#mask = masked ? MASKED : 0;
    this.#limit = limit;
    this.#onMessage = onMessage;
    this.#toLibrary = toLibrary;
  }

  /** Processes the first `n` bytes of `chunk`. The caller may reuse the chunk afterwards. */
  feed(chunk: Uint8Array, n: number): void {
    let at = 0;
    while (at < n && !this.#handedOver) {
      if (this.#control > 0) {
        const take = Math.min(this.#control, n - at);
        this.#library(chunk, at, take);
        this.#control -= take;
        at += take;
      } else if (this.#wanted > 0) at = this.#collect(chunk, at, n);
      else at = this.#begin(chunk, at, n);
    }
    if (at < n) this.#library(chunk, at, n - at);
  }

  /** Parses a frame's header. Returns the offset at which to go on. */
  #begin(chunk: Uint8Array, at: number, n: number): number {
    // The rare header that spans two chunks is completed byte by byte.
    let header = chunk;
    let from = at;
    let have = n - at;
    if (this.#headerBytes > 0) {
      this.#header[this.#headerBytes++] = chunk[at]!;
      header = this.#header;
      from = 0;
      have = this.#headerBytes;
    }
    const length = headerLength(header, from, have);
    if (length > have) {
      if (header === this.#header) return at + 1;
      copyBytes(chunk, at, this.#header, 0, have);
      this.#headerBytes = have;
      return n;
    }
    const after = header === this.#header ? at + 1 : at + length;
    this.#headerBytes = 0;
    const first = header[from]!;
    const bytes = payloadLength(header, from);
    const masking = header[from + 1]! & MASKED;
    if (first === FIN_BINARY && masking === this.#mask && bytes > 0 && bytes <= this.#limit) {
      if (masking !== 0) copyBytes(header, from + length - KEY_BYTES, this.#key, 0, KEY_BYTES);
      if (bytes <= n - after) {
        this.#deliver(chunk.subarray(after, after + bytes));
        return after + bytes;
      }
      this.#wanted = bytes;
      this.#partialBytes = 0;
      return after;
    }
    this.#library(header, from, length);
    // Close, ping and pong with a legal length go to the library. Any other frame ends the work of
    // this reader.
    const isControl = (first & 0xf8) === 0x88 && masking === this.#mask && bytes < LEN16;
    if (isControl) this.#control = bytes;
    else this.#handedOver = true;
    return after;
  }

  #collect(chunk: Uint8Array, at: number, n: number): number {
    const take = Math.min(this.#wanted - this.#partialBytes, n - at);
    const room = this.#partialBytes + take;
    if (this.#partial.byteLength < room) {
      const larger = new Uint8Array(Math.min(this.#limit, Math.max(FIRST_PARTIAL, 2 * room)));
      larger.set(this.#partial.subarray(0, this.#partialBytes));
      this.#partial = larger;
    }
    copyBytes(chunk, at, this.#partial, this.#partialBytes, take);
    this.#partialBytes += take;
    if (this.#partialBytes === this.#wanted) {
      const message = this.#partial.subarray(0, this.#wanted);
      this.#wanted = 0;
      this.#deliver(message);
    }
    return at + take;
  }

  #deliver(message: Uint8Array): void {
    if (this.#mask !== 0) maskInPlace(message, this.#key);
    this.#onMessage(message);
  }

  #library(bytes: Uint8Array, at: number, length: number): void {
    if (length > 0) this.#toLibrary(Buffer.from(bytes.subarray(at, at + length)));
  }
}

/** Returns the bytes of the header at `at`; 2 while only its first byte is there. */
function headerLength(bytes: Uint8Array, at: number, have: number): number {
  if (have < 2) return 2;
  const second = bytes[at + 1]!;
  const length = second & 0x7f;
  const key = second < MASKED ? 0 : KEY_BYTES;
  return (length === LEN16 ? 4 : length === LEN64 ? 10 : 2) + key;
}

/** Returns the payload length. From 2^53 on it is inexact, and above every limit. */
function payloadLength(bytes: Uint8Array, at: number): number {
  const length = bytes[at + 1]! & 0x7f;
  if (length < LEN16) return length;
  const end = at + (length === LEN16 ? 4 : 10);
  let n = 0;
  for (let i = at + 2; i < end; i++) n = n * 256 + bytes[i]!;
  return n;
}
