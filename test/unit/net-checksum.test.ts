import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allocate } from "../../shared/bytes/arena.ts";
import {
  finishChecksum,
  finishUdpChecksum,
  foldSum,
  gather,
  sumBytes,
  sumFrame,
  sumGathered,
  sumShort,
  swapSum,
  verifyL3,
} from "../../shared/net/checksum.ts";
import { instantiateSum } from "../../shared/net/checksum-wasm.ts";
import { Headers } from "../../shared/net/headers.ts";
import { holds } from "../support/counts.ts";
import { buildPacket, frameOf, plainSum, type TcpOptions } from "../support/packets.ts";

const bytesUpTo = (maxLength: number) => fc.uint8Array({ maxLength });

describe("sums", () => {
  it("give RFC 1071's own example", () => {
    const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
    expect(sumBytes(bytes, 0, 8)).toBe(0xddf2);
    expect(finishChecksum(0xddf2)).toBe(0x220d);
  });

  it("agree with the plain sum at every offset, length and split", () => {
    holds(
      fc.property(
        bytesUpTo(3000),
        fc.nat(20),
        fc.array(fc.integer({ min: 1, max: 700 }), { maxLength: 90 }),
        (bytes, skip, cuts) => {
          const from = Math.min(skip, bytes.length);
          const wanted = plainSum(bytes.subarray(from));
          const length = bytes.length - from;
          expect(sumBytes(bytes, from, length)).toBe(wanted);
          expect(sumShort(bytes, from, length)).toBe(wanted);
          const frame = frameOf(bytes, cuts);
          expect(sumFrame(frame, from, length)).toBe(wanted);
          gather(frame, 0, bytes.length);
          expect(sumGathered(from, length)).toBe(wanted);
        },
      ),
      { numRuns: 1000 },
    );
  });

  it("hold at the largest frame of the largest words", () => {
    const bytes = new Uint8Array(65557).fill(0xff);
    expect(sumBytes(bytes, 0, 65556)).toBe(0xffff);
    expect(sumShort(bytes, 0, 65556)).toBe(0xffff);
    expect(sumBytes(bytes, 0, 65557)).toBe(plainSum(bytes));
    expect(sumBytes(new Uint8Array(65557), 0, 65557)).toBe(0);
  });

  it("move by a byte with a swap, and fold to the end", () => {
    expect(swapSum(0x1234)).toBe(0x3412);
    expect(foldSum(0xffff_ffff)).toBe(0xffff);
    expect(foldSum(0x1_0000)).toBe(1);
    expect(finishUdpChecksum(0xffff)).toBe(0xffff);
    expect(finishChecksum(0xffff)).toBe(0);
  });

  it("come from the SIMD module where the engine has it", () => {
    const sumWords = instantiateSum();
    // All processors that run these tests support it; without this check an invalid module would go
    // unnoticed.
    expect(sumWords).toBeDefined();
    const bytes = allocate(32);
    bytes.set(Uint8Array.of(1, 2, 3, 4));
    const at = bytes.byteOffset;
    expect(sumWords!(at, at + 16)).toBe(0x0201 + 0x0403);
    expect(sumWords!(at, at)).toBe(0);
  });
});

describe("verifyL3", () => {
  const verify = (bytes: Uint8Array): boolean => {
    const h = new Headers();
    h.parse(frameOf(bytes, [20, 33]));
    return verifyL3(h);
  };

  it("tells right from wrong, with options and behind tags", () => {
    const shapes: TcpOptions[] = [
      {},
      { protocol: 17 },
      { ipOptions: new Uint8Array(4).fill(1), tags: [[0x8100, 3]] },
    ];
    for (const options of shapes) {
      const { bytes, l3 } = buildPacket(options);
      expect(verify(bytes)).toBe(true);
      bytes[l3 + 8]! ^= 1;
      expect(verify(bytes)).toBe(false);
    }
  });

  it("passes IPv6, which has no such checksum, and nothing that is no IP", () => {
    expect(verify(buildPacket({ v6: true }).bytes)).toBe(true);
    expect(verify(new Uint8Array(64))).toBe(false);
  });
});
