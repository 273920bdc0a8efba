/** A capture can be read back whether its file is whole, cut or damaged. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readerFor } from "../../shared/capture/read.ts";
import { BlockBuffer } from "../../shared/pcapng/block-buffer.ts";
import { type CapturedPacket, CaptureFormatError } from "../../shared/pcapng/packet.ts";
import { PcapngReader } from "../../shared/pcapng/reader.ts";
import { PcapngWriter, packetNote, Verdict } from "../../shared/pcapng/writer.ts";
import { cases, holds } from "../support/counts.ts";

/** Any sequence of UTF-16 units, with unpaired surrogates and control characters. */
const hostileText = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }),
  fc
    .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 40 })
    .map((units) => String.fromCharCode(...units)),
  fc.constantFrom("", "\0", "a\nb", "\r\n", "\u2028", "\ud800", "\u001b[2J", "…", "\ufeffvm1"),
);

interface Written {
  readonly data: Uint8Array;
  readonly original: number;
  readonly interface: number;
  readonly direction: number;
  readonly queue: number;
  readonly id: number;
  readonly drops: number;
  readonly comment: string | undefined;
  readonly time: bigint;
}

const written: fc.Arbitrary<Written> = fc.record({
  data: fc.uint8Array({ maxLength: 70 }),
  original: fc.nat(70_000),
  interface: fc.nat(2),
  direction: fc.integer({ min: 0, max: 2 }),
  queue: fc.integer({ min: -1, max: 127 }),
  id: fc.oneof(fc.nat(9), fc.maxSafeNat()),
  drops: fc.oneof(fc.constant(0), fc.maxSafeNat()),
  comment: fc.option(hostileText, { nil: undefined }),
  time: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
});

interface Session {
  readonly names: readonly string[];
  readonly packets: readonly Written[];
}

const session: fc.Arbitrary<Session> = fc.record({
  names: fc.array(hostileText, { minLength: 3, maxLength: 3 }),
  packets: fc.array(written, { maxLength: 12 }),
});

/** The file, and the end of each packet's block. */
function write({ names, packets }: Session): { bytes: Uint8Array; ends: number[] } {
  // A small buffer that has to grow.
  const out = new BlockBuffer(64);
  const writer = new PcapngWriter(out);
  const ends: number[] = [];
  writer.section({ application: names[0]!, comment: names[1]! });
  for (const name of names) {
    writer.interface({ linkType: 1, snapLength: 0, name, description: name });
  }
  writer.names([{ mac: Uint8Array.of(2, 0, 0, 0, 0, 1), name: names[2]! }]);
  for (const packet of packets) {
    const { comment } = packet;
    const at = writer.packet({
      interface: packet.interface,
      timeHigh: Number(packet.time >> 32n),
      timeLow: Number(packet.time & 0xffffffffn),
      captured: packet.data.length,
      original: packet.original,
      flags: packet.direction,
      queue: packet.queue,
      id: packet.id,
      drops: packet.drops,
      note: comment === undefined ? undefined : packetNote(Verdict.PASSED, comment),
    });
    out.bytes.set(packet.data, at);
    ends.push(out.used);
  }
  return { bytes: out.written().slice(), ends };
}

function readAll(bytes: Uint8Array, step = bytes.length): [PcapngReader, CapturedPacket[]] {
  const reader = new PcapngReader();
  const packets: CapturedPacket[] = [];
  for (let at = 0; at < bytes.length; at += step) {
    reader.feed(bytes.subarray(at, at + step));
    for (let packet = reader.next(); packet !== undefined; packet = reader.next()) {
      packets.push(packet);
    }
  }
  return [reader, packets];
}

/** Text that any reader can show, so that it must come back unchanged. */
const harmless = (text: string): boolean =>
  text.isWellFormed() && !/[\p{Cc}\u2028\u2029]/u.test(text.replaceAll(/[\n\t]/g, ""));

function expectText(got: string, given: string, lines: boolean): void {
  const oneLine = !/[\n\t]/.test(given);
  if (harmless(given) && (lines || oneLine)) expect(got).toBe(given);
  else {
    expect(harmless(got)).toBe(true);
    if (!lines) expect(got).not.toMatch(/[\n\t]/);
    // Each unit is kept or replaced by one unit, so the length stays.
    expect(got.length).toBe(given.length);
    for (let i = 0; i < got.length; i++) {
      if (got[i] !== "\ufffd") expect(got[i]).toBe(given[i]);
    }
  }
}

function expectPacket(got: CapturedPacket, given: Written): void {
  expect(Buffer.compare(got.bytes, given.data)).toBe(0);
  expect(got).toMatchObject({
    tsNs: given.time,
    capturedLength: given.data.length,
    originalLength: given.original,
    flags: given.direction,
    queue: given.queue < 0 ? undefined : given.queue,
    id: given.id === 0 ? undefined : BigInt(given.id),
    drops: given.drops === 0 ? undefined : BigInt(given.drops),
    interface: { index: given.interface },
  });
  expect(got.comments).toHaveLength(given.comment === undefined ? 0 : 1);
  if (given.comment !== undefined) expectText(got.comments[0]!, given.comment, true);
}

describe("pcapng", () => {
  it("reads back what was written, in pieces of any size", () => {
    holds(
      fc.property(session, fc.integer({ min: 1, max: 200 }), (given, step) => {
        const { bytes } = write(given);
        const [reader, packets] = readAll(bytes, step);
        expect(reader.pending).toBe(0);
        expect(packets).toHaveLength(given.packets.length);
        for (const [i, packet] of packets.entries()) expectPacket(packet, given.packets[i]!);
        for (const [i, { name, description }] of reader.interfaces.entries()) {
          expectText(name!, given.names[i]!, false);
          expectText(description!, given.names[i]!, false);
        }
        expectText(reader.sections[0]!.application!, given.names[0]!, false);
      }),
      { numRuns: cases(3000) },
    );
  });

  it("opens a file cut at any byte up to the last whole packet", () => {
    holds(
      fc.property(session, (given) => {
        const { bytes, ends } = write(given);
        for (let cut = 0; cut <= bytes.length; cut++) {
          const [, packets] = readAll(bytes.subarray(0, cut));
          expect(packets).toHaveLength(ends.filter((end) => end <= cut).length);
        }
      }),
      { numRuns: cases(100) },
    );
  });

  it("throws nothing but its own error on damaged files, with a place inside the file", () => {
    const damage = fc.record({
      at: fc.nat(),
      byte: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)),
    });
    let errors = 0;
    holds(
      fc.property(session, fc.array(damage, { minLength: 1, maxLength: 6 }), (given, damages) => {
        const { bytes } = write(given);
        for (const { at, byte } of damages) bytes[at % bytes.length] = byte;
        try {
          readAll(bytes);
        } catch (error) {
          errors++;
          expect(error).toBeInstanceOf(CaptureFormatError);
          expect((error as CaptureFormatError).offset).toBeLessThan(bytes.length);
        }
      }),
      { numRuns: cases(20_000) },
    );
    expect(errors).toBeGreaterThan(0);
  });

  it("throws nothing but its own error on any bytes behind a valid first word", () => {
    const words = fc.constantFrom(
      "0a0d0d0a200000004d3c2b1a",
      "0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000",
      "0a0d0d0a0000001c1a2b3c4d00010000ffffffffffffffff0000001c",
      "d4c3b2a1",
      "a1b23c4d",
      "d4c3b2a1020004000000000000000000000004000100000000000000",
    );
    holds(
      fc.property(words, fc.uint8Array({ maxLength: 120 }), (head, tail) => {
        const bytes = Buffer.concat([Buffer.from(head, "hex"), tail]);
        try {
          const reader = readerFor(bytes);
          reader.feed(bytes);
          while (reader.next() !== undefined);
        } catch (error) {
          expect(error).toBeInstanceOf(CaptureFormatError);
        }
      }),
      { numRuns: cases(20_000) },
    );
  });
});
