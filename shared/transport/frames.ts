/**
 * WebSocket frames: written in place, and found in the buffer into which a stream is read.
 *
 *   0        1            2                4/10             +4
 *   | FIN op | MASK  len7 | len16 or len64 | masking key     | payload ...
 *
 * A message is masked in place, and its header is written into the room in front of it. A received
 * message is passed on by its place in the stream's buffer. Nothing is allocated for either.
 *
 * Source: RFC 6455, section 5.2 (base framing), 5.3 (masking), 5.4 (fragments), 5.5 (control frames).
 */
import { maskInPlace } from "../bytes/mask.ts";
import { giveBuffer, takeBuffer } from "./message-buffers.ts";

/** Bytes that `send` needs in front of a message: the longest header with a key. */
export const FRAME_ROOM = 14;

/** Opcodes of frames. */
export const Opcode = {
  CONTINUATION: 0,
  TEXT: 1,
  BINARY: 2,
  CLOSE: 8,
  PING: 9,
  PONG: 10,
} as const;

/** Close codes of RFC 6455, 7.4.1, that this file uses. */
const Broken = { PROTOCOL: 1002, UTF8: 1007, POLICY: 1008, TOO_LONG: 1009 } as const;
/** The code for a close frame without a code. It never travels. */
export const NO_CODE = 1005;

const FIN = 0x80;
const RESERVED = 0x70;
const OPCODE = 0x0f;
const MASKED = 0x80;
const KEY_BYTES = 4;
const LEN16 = 126;
const LEN64 = 127;
/** Longest payload of a control frame. */
export const CONTROL_BYTES = 125;
/** Most fragments of one message. */
const MAX_FRAGMENTS = 1024;

/**
 * Writes the header into the room in front of the message bytes[at .. at + length). With a key, whose
 * first byte is the lowest, it also masks the payload in place, so the message is no longer readable.
 * Returns the bytes of the header.
 */
export function frameInPlace(
  bytes: Uint8Array,
  at: number,
  length: number,
  key: number | undefined,
  opcode: number = Opcode.BINARY,
): number {
  const size = length < LEN16 ? 2 : length < 0x10000 ? 4 : 10;
  const header = size + (key === undefined ? 0 : KEY_BYTES);
  const start = at - header;
  const mask = key === undefined ? 0 : MASKED;
  bytes[start] = FIN | opcode;
  bytes[start + 1] = mask | (size === 2 ? length : size === 4 ? LEN16 : LEN64);
  // Big-endian. A message has fewer than 2^32 bytes.
  for (let i = start + size - 1, left = length; i > start + 1; i--, left >>>= 8) bytes[i] = left;
  if (key !== undefined) {
    for (let i = 0; i < KEY_BYTES; i++) bytes[at - KEY_BYTES + i] = key >>> (8 * i);
    maskInPlace(bytes, at, length, key);
  }
  return header;
}

/** Receives what a FrameReader finds. The bytes are valid during the call only. */
export interface FrameSink {
  /** A whole binary message, bytes[at .. at + length); never of a Buffer, whose `slice` is a view. */
  message(bytes: Uint8Array, at: number, length: number): void;
  ping(payload: Uint8Array): void;
  /** The peer's close frame, with NO_CODE when it has no code. Nothing behind it is read. */
  closeFrame(code: number, reason: string): void;
  /** A whole text message. Nothing behind it is read. */
  text(): void;
  /** The stream breaks a rule. `code` is the close code for it. Nothing behind it is read. */
  broken(code: number, reason: string): void;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const NOTHING = new Uint8Array(0);

/**
 * Finds frames in a stream. A client receives unmasked frames, a server masked ones. Masks are
 * removed in place.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #limit: number;
  /** MASKED when every frame must carry a key, else 0. */
  readonly #mask: number;
  /** The pieces of a fragmented message, copied one behind the other; their bytes, and their number. */
  #parts: Uint8Array = NOTHING;
  #partBytes = 0;
  #pieces = 0;
  /** Opcode of the fragmented message under construction, or 0. */
  #partsOf: number = Opcode.CONTINUATION;
  /** True when no more input is looked at. */
  over = false;

  /** `limit`: most bytes of a message. */
  constructor(masked: boolean, limit: number, sink: FrameSink) {
    this.#mask = masked ? MASKED : 0;
    this.#limit = limit;
    this.#sink = sink;
  }

  /** Bytes of memory that a fragmented message holds. */
  get heldBytes(): number {
    return this.#parts.length;
  }

  /** Looks at no more input, and gives memory back. */
  stop(): void {
    this.over = true;
    this.#dropParts();
  }

  #dropParts(): void {
    giveBuffer(this.#parts);
    this.#parts = NOTHING;
    this.#partBytes = 0;
    this.#pieces = 0;
    this.#partsOf = Opcode.CONTINUATION;
  }

  /**
   * Passes on the first frame of bytes[at .. end). Returns the offset behind the frame, or `at` when
   * the frame is not whole yet. Behind a frame that ended the stream, returns `end`.
   */
  next(bytes: Uint8Array, at: number, end: number): number {
    const have = end - at;
    if (have < 2) return at;
    const first = bytes[at]!;
    const second = bytes[at + 1]!;
    const len7 = second & 0x7f;
    const key = second & MASKED;
    const header = (len7 < LEN16 ? 2 : len7 === LEN16 ? 4 : 10) + (key === 0 ? 0 : KEY_BYTES);
    if (first !== (FIN | Opcode.BINARY) || key !== this.#mask || this.#partsOf !== 0) {
      const why = this.#refusal(first, len7, key);
      if (why !== undefined) return this.#break(Broken.PROTOCOL, why, end);
    }
    if (have < header) return at;
    const length = len7 < LEN16 ? len7 : longLength(bytes, at + 2, len7 === LEN16 ? 2 : 8);
    const before = (first & OPCODE) < Opcode.CLOSE ? this.#partBytes : 0;
    if (length + before > this.#limit) {
      const why = `a message of more than ${this.#limit} bytes`;
      return this.#break(Broken.TOO_LONG, why, end);
    }
    const from = at + header;
    if (have < header + length) return at;
    if (key !== 0) {
      const k = from - KEY_BYTES;
      const word = bytes[k]! | (bytes[k + 1]! << 8) | (bytes[k + 2]! << 16) | (bytes[k + 3]! << 24);
      maskInPlace(bytes, from, length, word);
    }
    if (first === (FIN | Opcode.BINARY)) this.#sink.message(bytes, from, length);
    else {
      const payload = new Uint8Array(bytes.buffer, bytes.byteOffset + from, length);
      this.#other(first & OPCODE, (first & FIN) !== 0, payload);
    }
    return this.over ? end : from + length;
  }

  /** Returns why a header other than that of a whole binary message is not legal. */
  #refusal(first: number, len7: number, key: number): string | undefined {
    const opcode = first & OPCODE;
    if ((first & RESERVED) !== 0) return "a frame with reserved bits";
    if (key !== this.#mask) return key === 0 ? "a frame without a mask" : "a frame with a mask";
    if (opcode >= Opcode.CLOSE) {
      if (opcode > Opcode.PONG) return `a frame of the unknown opcode ${opcode}`;
      if ((first & FIN) === 0) return "a control frame in fragments";
      return len7 > CONTROL_BYTES ? "a control frame that is too long" : undefined;
    }
    if (opcode > Opcode.BINARY) return `a frame of the unknown opcode ${opcode}`;
    const isContinuation = opcode === Opcode.CONTINUATION;
    if (isContinuation === (this.#partsOf !== 0)) return undefined;
    return isContinuation ? "a continuation of no message" : "a message inside another message";
  }

  #other(opcode: number, fin: boolean, payload: Uint8Array): void {
    if (opcode === Opcode.PING) this.#sink.ping(payload);
    else if (opcode === Opcode.CLOSE) this.#close(payload);
    else if (opcode !== Opcode.PONG) this.#fragment(opcode, fin, payload);
  }

  #fragment(opcode: number, fin: boolean, payload: Uint8Array): void {
    if (opcode !== Opcode.CONTINUATION) this.#partsOf = opcode;
    if (++this.#pieces > MAX_FRAGMENTS) {
      this.#break(Broken.POLICY, "a message in too many pieces", 0);
      return;
    }
    const bytes = this.#partBytes + payload.length;
    if (bytes > this.#parts.length) {
      const old = this.#parts;
      this.#parts = takeBuffer(bytes);
      this.#parts.set(old.subarray(0, this.#partBytes));
      giveBuffer(old);
    }
    this.#parts.set(payload, this.#partBytes);
    this.#partBytes = bytes;
    if (!fin) return;
    const whole = this.#parts.subarray(0, bytes);
    const kind = this.#partsOf;
    // While the message is looked at, its buffer belongs to nobody else.
    this.#parts = NOTHING;
    this.#dropParts();
    if (kind === Opcode.BINARY) this.#sink.message(whole, 0, whole.length);
    else if (textOf(whole) === undefined) this.#break(Broken.UTF8, NOT_UTF8, 0);
    else {
      this.over = true;
      this.#sink.text();
    }
  }

  #close(payload: Uint8Array): void {
    if (payload.length === 1) {
      this.#break(Broken.PROTOCOL, "a close frame with half a code", 0);
      return;
    }
    const code = payload.length === 0 ? NO_CODE : (payload[0]! << 8) | payload[1]!;
    if (payload.length > 0 && !mayTravel(code)) {
      this.#break(Broken.PROTOCOL, `a close frame with the code ${code}`, 0);
      return;
    }
    const reason = textOf(payload.length === 0 ? NOTHING : payload.subarray(2));
    if (reason === undefined) {
      this.#break(Broken.UTF8, NOT_UTF8, 0);
      return;
    }
    this.over = true;
    this.#sink.closeFrame(code, reason);
  }

  #break(code: number, reason: string, end: number): number {
    this.stop();
    const rule = code === Broken.PROTOCOL ? ", which RFC 6455 does not allow" : "";
    this.#sink.broken(code, `${reason}${rule}`);
    return end;
  }
}

const NOT_UTF8 = "text that is not UTF-8";

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** RFC 6455, 7.4: the codes that a close frame may carry. */
const mayTravel = (code: number): boolean =>
  (code >= 1000 && code <= 1014 && code !== 1004 && code !== 1005 && code !== 1006) ||
  (code >= 3000 && code <= 4999);

/** Returns a length of `n` bytes. From 2^53 on it is inexact, and above every limit. */
function longLength(bytes: Uint8Array, at: number, n: number): number {
  let length = 0;
  for (let i = at; i < at + n; i++) length = length * 256 + bytes[i]!;
  return length;
}
