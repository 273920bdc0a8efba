/** The BPF interpreter by itself: programs written by hand, and programs that it must refuse. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BpfProgram, NEED_MORE } from "../../shared/capture/bpf.ts";
import { cases, holds } from "../support/counts.ts";

type Row = readonly [code: number, k: number, jt?: number, jf?: number];
const program = (...rows: readonly Row[]): BpfProgram =>
  new BpfProgram(rows.map(([code, k, jt = 0, jf = 0]) => ({ code, k, jt, jf })));

// pcap/bpf.h
const LD_W_ABS = 0x20;
const LD_H_ABS = 0x28;
const LD_B_ABS = 0x30;
const LD_W_IND = 0x40;
const LD_B_IND = 0x50;
const LD_IMM = 0x00;
const LD_MEM = 0x60;
const LD_LEN = 0x80;
const LDX_IMM = 0x01;
const LDX_MEM = 0x61;
const LDX_LEN = 0x81;
const LDX_MSH = 0xb1;
const ST = 0x02;
const STX = 0x03;
const RET_K = 0x06;
const RET_A = 0x16;
const JA = 0x05;
const JSET_K = 0x45;
const TAX = 0x07;
const TXA = 0x87;

const packet = Uint8Array.of(0xff, 0xee, 0xdd, 0xcc, 0x45, 0x06, 0x07, 0x08, 0x09);
const run = (p: BpfProgram, have = packet.length): number => p.run(packet, 0, have, packet.length);

describe("instructions", () => {
  for (const [name, rows, expected] of [
    [
      "load word",
      [
        [LD_W_ABS, 0],
        [RET_A, 0],
      ],
      0xffeeddcc,
    ],
    [
      "load half word",
      [
        [LD_H_ABS, 1],
        [RET_A, 0],
      ],
      0xeedd,
    ],
    [
      "load byte",
      [
        [LD_B_ABS, 8],
        [RET_A, 0],
      ],
      9,
    ],
    [
      "load by index",
      [
        [LDX_IMM, 3],
        [LD_W_IND, 2],
        [RET_A, 0],
      ],
      0x06070809,
    ],
    [
      "load byte by index",
      [
        [LDX_IMM, 5],
        [LD_B_IND, 0],
        [RET_A, 0],
      ],
      6,
    ],
    [
      "load the length",
      [
        [LD_LEN, 0],
        [RET_A, 0],
      ],
      9,
    ],
    [
      "load the length into x",
      [
        [LDX_LEN, 0],
        [TXA, 0],
        [RET_A, 0],
      ],
      9,
    ],
    [
      "load a header's length",
      [
        [LDX_MSH, 4],
        [TXA, 0],
        [RET_A, 0],
      ],
      20,
    ],
    [
      "keep a",
      [
        [LD_IMM, 7],
        [ST, 15],
        [LD_IMM, 1],
        [LD_MEM, 15],
        [RET_A, 0],
      ],
      7,
    ],
    [
      "keep x",
      [
        [LDX_IMM, 8],
        [STX, 0],
        [LDX_IMM, 1],
        [LDX_MEM, 0],
        [TXA, 0],
        [RET_A, 0],
      ],
      8,
    ],
    [
      "move",
      [
        [LD_IMM, 9],
        [TAX, 0],
        [LD_IMM, 0],
        [TXA, 0],
        [RET_A, 0],
      ],
      9,
    ],
    [
      "jump",
      [
        [JA, 1],
        [RET_K, 1],
        [RET_K, 2],
      ],
      2,
    ],
    [
      "jump on bits",
      [
        [LD_IMM, 6],
        [JSET_K, 4, 0, 1],
        [RET_K, 1],
        [RET_K, 2],
      ],
      1,
    ],
    [
      "jump without bits",
      [
        [LD_IMM, 6],
        [JSET_K, 9, 0, 1],
        [RET_K, 1],
        [RET_K, 2],
      ],
      2,
    ],
    ["return a constant with its top bit", [[RET_K, 0xffffffff]], 0xffffffff],
    [
      "memory begins as zero",
      [
        [LD_MEM, 3],
        [RET_A, 0],
      ],
      0,
    ],
  ] as const satisfies readonly (readonly [string, readonly Row[], number])[]) {
    it(name, () => {
      expect(run(program(...rows))).toBe(expected);
    });
  }

  // alu k on a: bits of the operation, a, k, the result in C's 32-bit unsigned arithmetic
  for (const [name, op, a, k, expected] of [
    ["add", 0x00, 0xffffffff, 2, 1],
    ["sub", 0x10, 1, 2, 0xffffffff],
    ["mul", 0x20, 0x10001, 0x10001, 0x20001],
    ["div", 0x30, 0xfffffffe, 2, 0x7fffffff],
    ["or", 0x40, 0xf0, 0x0f, 0xff],
    ["and", 0x50, 0xff, 0x0f, 0x0f],
    ["lsh", 0x60, 1, 31, 0x80000000],
    ["lsh by 32", 0x60, 1, 32, 0],
    ["rsh", 0x70, 0x80000000, 31, 1],
    ["rsh by 33", 0x70, 0x80000000, 33, 0],
    ["neg", 0x80, 1, 0, 0xffffffff],
    ["mod", 0x90, 0xffffffff, 16, 15],
    ["xor", 0xa0, 0xff, 0x0f, 0xf0],
  ] as const) {
    it(`${name} with k and with x`, () => {
      expect(run(program([LD_IMM, a], [op | 4, k], [RET_A, 0]))).toBe(expected);
      expect(run(program([LD_IMM, a], [LDX_IMM, k], [op | 0xc, 0], [RET_A, 0]))).toBe(expected);
    });
  }

  // jump: bits of the operation, a, k, whether the jump is made; comparisons are unsigned
  for (const [name, op, a, k, taken] of [
    ["equal", 0x10, 5, 5, true],
    ["not equal", 0x10, 5, 6, false],
    ["greater, top bit", 0x20, 0x80000000, 1, true],
    ["greater, the same", 0x20, 5, 5, false],
    ["greater or equal", 0x30, 5, 5, true],
    ["less", 0x30, 1, 0xffffffff, false],
  ] as const) {
    it(`jumps when ${name}`, () => {
      const answer = taken ? 1 : 2;
      expect(run(program([LD_IMM, a], [op | 5, k, 0, 1], [RET_K, 1], [RET_K, 2]))).toBe(answer);
      expect(
        run(program([LD_IMM, a], [LDX_IMM, k], [op | 0xd, 0, 0, 1], [RET_K, 1], [RET_K, 2])),
      ).toBe(answer);
    });
  }
});

describe("a loop", () => {
  // x counts down to 0, like libpcap's loops over a chain of headers.
  const countDown = (from: number) =>
    program([LD_IMM, from], [0x14, 1], [0x15, 0, 1, 0], [JA, -3 >>> 0], [RET_K, 7]);

  it("case-W3 a jump back is taken, and the loop ends where it ends", () => {
    expect(run(countDown(1))).toBe(7);
    expect(run(countDown(5000))).toBe(7);
  });

  it("case-W3 a loop without end refuses the packet, and the next packet begins anew", () => {
    const endless = program([JA, -1 >>> 0], [RET_K, 1]);
    for (let n = 0; n < 100; n++) expect(run(endless)).toBe(0);
    const p = countDown(5000);
    for (let n = 0; n < 5; n++) expect(run(p)).toBe(7);
    expect(run(countDown(1_000_000))).toBe(0);
    // Three instructions a round: 10,922 rounds are 32,766.
    expect([run(countDown(10_923)), run(countDown(10_924))]).toEqual([7, 0]);
  });

  it("case-W3 a jump in front of the program, and one behind it, are not accepted", () => {
    expect(() => program([RET_K, 0], [JA, -3 >>> 0], [RET_K, 0])).toThrow(RangeError);
    expect(run(program([LD_LEN, 0], [0x25, 1, 0, 1], [JA, -3 >>> 0], [RET_K, 0]))).toBe(0);
    expect(() => program([JA, 0x7fff_ffff], [RET_K, 0])).toThrow(RangeError);
    expect(() => program([JA, 0x8000_0000], [RET_K, 0])).toThrow(RangeError);
  });
});

describe("a load behind the bytes at hand", () => {
  for (const [name, rows, reach] of [
    [
      "a word",
      [
        [LD_W_ABS, 2],
        [RET_K, 1],
      ],
      6,
    ],
    [
      "a half word",
      [
        [LD_H_ABS, 2],
        [RET_K, 1],
      ],
      4,
    ],
    [
      "a byte",
      [
        [LD_B_ABS, 2],
        [RET_K, 1],
      ],
      3,
    ],
    [
      "a header's length",
      [
        [LDX_MSH, 2],
        [RET_K, 1],
      ],
      3,
    ],
    [
      "a byte by index",
      [
        [LDX_IMM, 1],
        [LD_B_IND, 1],
        [RET_K, 1],
      ],
      3,
    ],
  ] as const satisfies readonly (readonly [string, readonly Row[], number])[]) {
    it(`of ${name} asks for more, and refuses a packet that has no more`, () => {
      const p = program(...rows);
      expect(p.run(packet, 0, reach, packet.length)).toBe(1);
      expect(p.run(packet, 0, reach - 1, packet.length)).toBe(NEED_MORE);
      expect(p.run(packet, 0, reach - 1, reach - 1)).toBe(0);
    });
  }

  it("refuses offsets near 2^32, alone and with an index", () => {
    expect(run(program([LD_W_ABS, 0xffffffff], [RET_K, 1]))).toBe(0);
    expect(run(program([LDX_IMM, 2], [LD_B_IND, 0xffffffff], [RET_K, 1]))).toBe(0);
  });

  it("and a division by zero refuse", () => {
    expect(run(program([LDX_IMM, 0], [0x3c, 0], [RET_K, 1]))).toBe(0);
    expect(run(program([LDX_IMM, 0], [0x9c, 0], [RET_K, 1]))).toBe(0);
  });
});

describe("programs that are not accepted", () => {
  for (const [name, rows] of [
    ["no instruction", []],
    ["no return at the end", [[LD_IMM, 0]]],
    [
      "a jump behind the end",
      [
        [JA, 1],
        [RET_K, 0],
      ],
    ],
    [
      "a conditional jump behind the end",
      [
        [0x15, 0, 0, 9],
        [RET_K, 0],
      ],
    ],
    [
      "memory that does not exist",
      [
        [LD_MEM, 16],
        [RET_K, 0],
      ],
    ],
    [
      "a store to memory that does not exist",
      [
        [ST, 16],
        [RET_K, 0],
      ],
    ],
    [
      "an unknown operation",
      [
        [0xb4, 0],
        [RET_K, 0],
      ],
    ],
    [
      "an unknown jump",
      [
        [0x55, 0],
        [RET_K, 0],
      ],
    ],
    [
      "an unknown load",
      [
        [0xc0, 0],
        [RET_K, 0],
      ],
    ],
    [
      "an unknown size",
      [
        [0x38, 0],
        [RET_K, 0],
      ],
    ],
  ] as const satisfies readonly (readonly [string, readonly Row[]])[]) {
    it(name, () => {
      expect(() => program(...rows)).toThrow(RangeError);
    });
  }

  it("and any other program ends with a number, whatever it does", () => {
    const row = fc.tuple(fc.nat(0xff), fc.nat(0xffffffff), fc.nat(3), fc.nat(3));
    let accepted = 0;
    holds(
      fc.property(
        fc.array(row, { maxLength: 6 }),
        fc.uint8Array({ maxLength: 20 }),
        (rows, bytes) => {
          const small = rows.map(([code, k, jt, jf]): Row => [code, (k % 40) - 4, jt, jf]);
          let p: BpfProgram;
          try {
            p = program(...small, [RET_A, 0]);
          } catch (error) {
            expect(error).toBeInstanceOf(RangeError);
            return;
          }
          accepted++;
          const answer = p.run(bytes, 0, bytes.length, bytes.length);
          expect(Number.isInteger(answer) && answer >= 0 && answer <= 0xffffffff).toBe(true);
        },
      ),
      { numRuns: cases(20_000) },
    );
    expect(accepted).toBeGreaterThan(100);
  });
});
