/** Our half of RFC 6455: frames written in place, and data frames found in a stream of chunks. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DataFrameReader, FRAME_ROOM, frameInPlace } from "../../shared/transport/frames.ts";
import { holds } from "../support/counts.ts";
import { same, sameBytes } from "../support/same.ts";

const LIMIT = 1 << 20;

/** A message, at any alignment, with room in front of it that a transport may overwrite. */
function roomy(bytes: Uint8Array, shift = 0): Uint8Array {
  const buffer = new Uint8Array(FRAME_ROOM + shift + bytes.length + 8).fill(0xa5);
  buffer.set(bytes, FRAME_ROOM + shift);
  return buffer.subarray(FRAME_ROOM + shift, FRAME_ROOM + shift + bytes.length);
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

function reader(masked = false): {
  readonly messages: Uint8Array[];
  /** The bytes that the reader left to the library. */
  library(): Uint8Array;
  feed(chunk: Uint8Array): void;
} {
  const messages: Uint8Array[] = [];
  const library: Uint8Array[] = [];
  const r = new DataFrameReader(
    masked,
    LIMIT,
    (m) => messages.push(m.slice()),
    (b) => library.push(b.slice()),
  );
  return {
    messages,
    library: () => Buffer.concat(library),
    feed: (chunk) => {
      // Overwrites the chunk's buffer afterwards, so that a kept view would change.
      const own = Uint8Array.from(chunk);
      r.feed(own, own.length);
      own.fill(0x5a);
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
          sameBytes(frameInPlace(roomy(bytes, shift), key), expected, "frame");
        },
      ),
      { numRuns: 300 },
    );
  });

  it("writes the examples of RFC 6455, section 5.7", () => {
    const hello = Buffer.from("Hello");
    const key = Uint8Array.of(0x37, 0xfa, 0x21, 0x3d);
    // The RFC's example is a text frame (0x81); our frames are binary.
    expect(Buffer.from(frameInPlace(roomy(hello), key)).toString("hex")).toBe(
      "828537fa213d7f9f4d5158",
    );
    expect(Buffer.from(frameInPlace(roomy(hello), undefined)).toString("hex")).toBe(
      "820548656c6c6f",
    );
  });
});

describe("DataFrameReader", () => {
  it.each([
    ["unmasked, as a client", false],
    ["masked, as a server", true],
  ])(
    "property: finds every message, %s, however the stream is cut, and leaves control frames alone",
    (_name, masked) => {
      const key = fc.uint8Array({ minLength: 4, maxLength: 4 });
      const item = fc.oneof(
        { weight: 4, arbitrary: fc.record({ op: fc.constant(0x82), p: payload, key }) },
        {
          weight: 1,
          arbitrary: fc.record({
            op: fc.constantFrom(0x89, 0x8a, 0x88),
            p: fc.uint8Array({ maxLength: 125 }),
            key,
          }),
        },
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
            const data = items.filter(({ op }) => op === 0x82);
            const control = items.filter(({ op }) => op !== 0x82);
            same(r.messages.length, data.length, "messages");
            for (const [i, { p }] of data.entries()) sameBytes(r.messages[i]!, p, "message");
            sameBytes(r.library(), Buffer.concat(control.map(bytesOf)), "control frames");
          },
        ),
        { numRuns: 80 },
      );
    },
  );

  it("hands an unmasked frame of a client over to the library", () => {
    const r = reader(true);
    const stream = frame(0x82, Uint8Array.of(7));
    r.feed(stream);
    expect(r.messages).toEqual([]);
    sameBytes(r.library(), stream);
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
    expect([...r.library()]).toEqual([0x89, 2, 2, 3]);
  });

  it.each([
    ["text", frame(0x81, Buffer.from("hi"))],
    ["a fragment", frame(0x02, Uint8Array.of(1))],
    ["reserved bits", frame(0xc2, Uint8Array.of(1))],
    ["an empty message", frame(0x82, new Uint8Array(0))],
    ["a masked frame from a server", frame(0x82, Uint8Array.of(1), Uint8Array.of(1, 2, 3, 4))],
    ["a length over the limit", Buffer.from([0x82, 127, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1])],
    ["a length of 2^63", Buffer.from([0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1])],
    ["a control frame too long", Buffer.from([0x89, 126, 0, 200, 1])],
  ])("hands the stream over to the library from %s on", (_name, odd) => {
    const before = frame(0x82, Uint8Array.of(7));
    const after = frame(0x82, Uint8Array.of(8));
    for (const cut of [1, 2, 3, 1000]) {
      const r = reader();
      const stream = Buffer.concat([before, odd, after]);
      for (let at = 0; at < stream.length; at += cut) r.feed(stream.subarray(at, at + cut));
      expect(r.messages.map((m) => [...m])).toEqual([[7]]);
      sameBytes(r.library(), Buffer.concat([odd, after]));
    }
  });
});
