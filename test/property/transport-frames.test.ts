/** Our half of RFC 6455: frames written in place, and data frames found in a stream of chunks. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FRAME_ROOM, FrameReader, frameInPlace } from "../../shared/transport/frames.ts";
import { ReadBuffer } from "../../shared/transport/read-buffer.ts";
import { holds } from "../support/counts.ts";
import { same, sameBytes } from "../support/same.ts";

const LIMIT = 1 << 20;

/** The frame of a message at any alignment. The bytes around the frame stay. */
function framed(bytes: Uint8Array, key?: Uint8Array, shift = 0): Uint8Array {
  const at = FRAME_ROOM + shift;
  const buffer = new Uint8Array(at + bytes.length + 8).fill(0xa5);
  buffer.set(bytes, at);
  const word = key === undefined ? undefined : Buffer.from(key).readInt32LE();
  const start = at - frameInPlace(buffer, at, bytes.length, word);
  const end = at + bytes.length;
  const around = [...buffer.subarray(0, start), ...buffer.subarray(end)];
  sameBytes(Uint8Array.from(around), new Uint8Array(around.length).fill(0xa5), "around");
  return buffer.subarray(start, end);
}

/** Builds any frame in a slow and plain way. */
function frame(first: number, payload: Uint8Array, key?: Uint8Array): Buffer {
  const n = payload.length;
  const length =
    n < 126
      ? [n]
      : n < 65_536
        ? [126, n >> 8, n & 0xff]
        : [127, 0, 0, 0, 0, n >>> 24, (n >> 16) & 0xff, (n >> 8) & 0xff, n & 0xff];
  if (key !== undefined) length[0]! |= 0x80;
  const body = key === undefined ? payload : payload.map((b, i) => b ^ key[i & 3]!);
  return Buffer.concat([Buffer.from([first, ...length]), key ?? Buffer.alloc(0), body]);
}

/** Everything that a reader found, in order, as plain values. */
type Found =
  | { readonly message: Uint8Array }
  | { readonly ping: Uint8Array }
  | { readonly close: number; readonly reason: string }
  | { readonly broken: number; readonly reason: string }
  | { readonly text: true };

function reader(masked = false): {
  readonly found: Found[];
  readonly messages: readonly Uint8Array[];
  feed(chunk: Uint8Array): void;
} {
  const found: Found[] = [];
  const r = new FrameReader(masked, LIMIT, {
    message: (m, at, length) => void found.push({ message: m.slice(at, at + length) }),
    ping: (p) => void found.push({ ping: p.slice() }),
    closeFrame: (close, reason) => void found.push({ close, reason }),
    broken: (broken, reason) => void found.push({ broken, reason }),
    text: () => void found.push({ text: true }),
  });
  const input = new ReadBuffer();
  return {
    found,
    get messages() {
      return found.flatMap((f) => ("message" in f ? [f.message] : []));
    },
    feed: (chunk) => {
      for (let at = 0; at < chunk.length; ) {
        const n = Math.min(input.room(), chunk.length - at);
        input.bytes.set(chunk.subarray(at, at + n), input.end);
        input.end += n;
        at += n;
        while (!r.over) {
          const { start } = input;
          input.start = r.next(input.bytes, start, input.end);
          if (input.start === start) break;
          // A kept view of the processed bytes would change.
          input.bytes.fill(0x5a, start, input.start);
        }
        if (r.over) input.start = input.end;
        input.settle();
      }
    },
  };
}

const payload = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 300 }),
  fc
    .constantFrom(125, 126, 127, 65_535, 65_536, 70_001)
    .map((n) => new Uint8Array(n).map((_, i) => i * 7)),
);

describe("frameInPlace", () => {
  it("property: writes the frame of RFC 6455, masked or not, at any alignment", () => {
    holds(
      fc.property(
        payload,
        fc.nat(7),
        fc.option(fc.uint8Array({ minLength: 4, maxLength: 4 }), { nil: undefined }),
        (bytes, shift, key) => {
          const expected = frame(0x82, bytes, key);
          sameBytes(framed(bytes, key, shift), expected, "frame");
        },
      ),
      { numRuns: 300 },
    );
  });

  it("writes the examples of RFC 6455, section 5.7", () => {
    const hello = Buffer.from("Hello");
    const key = Uint8Array.of(0x37, 0xfa, 0x21, 0x3d);
    // The RFC's example is a text frame (0x81); our frames are binary.
    expect(Buffer.from(framed(hello, key)).toString("hex")).toBe("828537fa213d7f9f4d5158");
    expect(Buffer.from(framed(hello)).toString("hex")).toBe("820548656c6c6f");
  });
});

describe("FrameReader", () => {
  it.each([
    ["unmasked, as a client", false],
    ["masked, as a server", true],
  ])("property: finds every message and ping, %s, however the stream is cut", (_name, masked) => {
    const key = fc.uint8Array({ minLength: 4, maxLength: 4 });
    const control = fc.uint8Array({ maxLength: 125 });
    const item = fc.oneof(
      { weight: 4, arbitrary: fc.record({ op: fc.constant(0x82), p: payload, key }) },
      { weight: 1, arbitrary: fc.record({ op: fc.constantFrom(0x89, 0x8a), p: control, key }) },
    );
    const cut = fc.integer({ min: 1, max: 5000 });
    holds(
      fc.property(
        fc.array(item, { maxLength: 10 }),
        fc.array(cut, { minLength: 1 }),
        (items, cuts) => {
          const bytesOf = (i: (typeof items)[number]) =>
            frame(i.op, i.p, masked ? i.key : undefined);
          const stream = Buffer.concat(items.map(bytesOf));
          const r = reader(masked);
          for (let at = 0, i = 0; at < stream.length; i++) {
            const n = cuts[i % cuts.length]!;
            r.feed(stream.subarray(at, at + n));
            at += n;
          }
          const expected = items.filter(({ op }) => op !== 0x8a);
          same(r.found.length, expected.length, "frames");
          for (const [i, { op, p }] of expected.entries()) {
            const f = r.found[i]!;
            const bytes = "message" in f ? f.message : "ping" in f ? f.ping : undefined;
            same("message" in f, op === 0x82, "kind");
            sameBytes(bytes!, p, "payload");
          }
        },
      ),
      { numRuns: 80 },
    );
  });

  it("works byte by byte", () => {
    const r = reader();
    const stream = Buffer.concat([
      frame(0x82, Uint8Array.of(1)),
      frame(0x89, Uint8Array.of(2, 3)),
      frame(0x82, new Uint8Array(300).fill(4)),
      frame(0x82, new Uint8Array(66_000).fill(5)),
    ]);
    for (const byte of stream) r.feed(Uint8Array.of(byte));
    expect(r.messages.map((m) => m.length)).toEqual([1, 300, 66_000]);
    expect(r.found[1]).toEqual({ ping: Uint8Array.of(2, 3) });
  });

  it("joins fragments, with control frames between them", () => {
    const r = reader();
    const parts = [frame(0x02, Uint8Array.of(1)), frame(0x89, Uint8Array.of(9))];
    const rest = [frame(0x00, new Uint8Array(0)), frame(0x80, Uint8Array.of(2, 3))];
    const next = frame(0x82, Uint8Array.of(4));
    for (const byte of Buffer.concat([...parts, ...rest, next])) r.feed(Uint8Array.of(byte));
    expect(r.found).toEqual([
      { ping: Uint8Array.of(9) },
      { message: Uint8Array.of(1, 2, 3) },
      { message: Uint8Array.of(4) },
    ]);
  });

  it.each([
    ["an empty message", frame(0x82, new Uint8Array(0)), { message: new Uint8Array(0) }],
    ["an empty close", frame(0x88, new Uint8Array(0)), { close: 1005, reason: "" }],
    ["a close", frame(0x88, Uint8Array.of(0x0f, 0xa0, 0x6f)), { close: 4000, reason: "o" }],
    ["text", frame(0x81, Buffer.from("hi")), { text: true }],
  ])("finds %s", (_name, bytes, expected) => {
    const r = reader();
    r.feed(bytes);
    expect(r.found).toEqual([expected]);
  });

  const key = Uint8Array.of(1, 2, 3, 4);
  const fragment = frame(0x02, Uint8Array.of(1));
  it.each([
    ["reserved bits", frame(0xc2, Uint8Array.of(1)), 1002],
    ["a masked frame from a server", frame(0x82, Uint8Array.of(1), key), 1002],
    ["a length over the limit", Buffer.from([0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 1, 1]), 1009],
    ["a length of 2^63", Buffer.from([0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1]), 1009],
    ["a control frame too long", Buffer.from([0x89, 126, 0, 200, 1]), 1002],
    ["a ping in fragments", frame(0x09, Uint8Array.of(1)), 1002],
    ["an unknown opcode", frame(0x83, Uint8Array.of(1)), 1002],
    ["an unknown control opcode", frame(0x8b, Uint8Array.of(1)), 1002],
    ["a continuation of nothing", frame(0x80, Uint8Array.of(1)), 1002],
    ["a message inside another", Buffer.concat([fragment, frame(0x82, Uint8Array.of(1))]), 1002],
    ["a close of one byte", frame(0x88, Uint8Array.of(3)), 1002],
    ["a close with the code 1005", frame(0x88, Uint8Array.of(3, 0xed)), 1002],
    ["a close with the code 999", frame(0x88, Uint8Array.of(3, 0xe7)), 1002],
    ["a close whose reason is not UTF-8", frame(0x88, Uint8Array.of(3, 0xe8, 0xff)), 1007],
    ["text that is not UTF-8", frame(0x81, Uint8Array.of(0xff)), 1007],
    [
      "fragments over the limit together",
      Buffer.concat([frame(0x02, new Uint8Array(LIMIT)), frame(0x80, Uint8Array.of(1))]),
      1009,
    ],
    [
      "too many fragments",
      Buffer.concat([fragment, ...Array(1024).fill(frame(0x00, Uint8Array.of(1)))]),
      1008,
    ],
  ])("refuses %s by its code, and looks at nothing behind it", (_name, odd, code) => {
    const before = frame(0x82, Uint8Array.of(7));
    const after = frame(0x82, Uint8Array.of(8));
    for (const cut of [1, 3, 1 << 20]) {
      const r = reader();
      const stream = Buffer.concat([before, odd, after]);
      if (cut === 1 && stream.length > 100_000) continue;
      for (let at = 0; at < stream.length; at += cut) r.feed(stream.subarray(at, at + cut));
      expect(r.found[0]).toEqual({ message: Uint8Array.of(7) });
      expect(r.found.slice(1)).toEqual([{ broken: code, reason: expect.any(String) }]);
    }
  });

  it("refuses an unmasked frame of a client", () => {
    const r = reader(true);
    r.feed(frame(0x82, Uint8Array.of(7)));
    const reason = "a frame without a mask, which RFC 6455 does not allow";
    expect(r.found).toEqual([{ broken: 1002, reason }]);
  });
});
