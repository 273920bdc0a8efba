import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  finishChecksum,
  finishUdpChecksum,
  foldSum,
  gather,
  L4Checksum,
  sumBytes,
  sumFrame,
  sumGathered,
  sumShort,
  swapSum,
  verifyL3,
  verifyL4,
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
    const wasm = instantiateSum();
    // Every processor these tests run on has it; a module that does not validate would hide here.
    expect(wasm).toBeDefined();
    wasm!.memory.set(Uint8Array.of(1, 2, 3, 4), 16);
    expect(wasm!.sum(16, 32)).toBe(0x0201 + 0x0403);
    expect(wasm!.sum(16, 16)).toBe(0);
  });
});

describe("verify", () => {
  const verify = (bytes: Uint8Array, cuts: number[] = [20, 33]): [L4Checksum, boolean] => {
    const frame = frameOf(bytes, cuts);
    const h = new Headers();
    h.parse(frame);
    return [verifyL4(frame, h), verifyL3(h)];
  };
  const payload = Uint8Array.from({ length: 301 }, (_, i) => i * 7);
  const shapes: TcpOptions[] = [
    { payload },
    { payload, protocol: 17 },
    { payload, v6: true },
    { payload, v6: true, protocol: 17 },
    { payload, ipOptions: new Uint8Array(4).fill(1), tags: [[0x8100, 3]] },
    { payload, v6: true, extensions: [{ kind: 60, bytes: new Uint8Array(16).fill(1, 1, 2) }] },
  ];

  it("tells right from wrong, byte by byte", () => {
    for (const options of shapes) {
      const { bytes, l3, l4 } = buildPacket(options);
      expect(verify(bytes)).toEqual([L4Checksum.GOOD, true]);
      for (const at of [l4, l4 + 3, bytes.length - 1, l4 + 40]) {
        bytes[at]! ^= 0x10;
        expect(verify(bytes)[0]).toBe(L4Checksum.BAD);
        bytes[at]! ^= 0x10;
      }
      if (options.v6) continue;
      bytes[l3 + 8]! ^= 1;
      expect(verify(bytes)).toEqual([L4Checksum.GOOD, false]);
    }
  });

  it("does not count padding", () => {
    const built = buildPacket({ payload: Uint8Array.of(1) });
    const padded = new Uint8Array(60).fill(0xee);
    padded.set(built.bytes);
    expect(verify(padded)[0]).toBe(L4Checksum.GOOD);
  });

  it("says NONE where there is none to verify", () => {
    const udp = buildPacket({ payload, protocol: 17 });
    udp.bytes.fill(0, udp.l4 + 6, udp.l4 + 8);
    expect(verify(udp.bytes)[0]).toBe(L4Checksum.NONE);
    const udp6 = buildPacket({ payload, protocol: 17, v6: true });
    udp6.bytes.fill(0, udp6.l4 + 6, udp6.l4 + 8);
    expect(verify(udp6.bytes)[0]).toBe(L4Checksum.BAD);
    const fragment = buildPacket({ payload });
    fragment.bytes[fragment.l3 + 6] = 0x20;
    expect(verify(fragment.bytes)[0]).toBe(L4Checksum.NONE);
    expect(verify(new Uint8Array(64))).toEqual([L4Checksum.NONE, false]);
    expect(verify(buildPacket({ payload }).bytes.slice(0, 70))[0]).toBe(L4Checksum.NONE);
  });
});
