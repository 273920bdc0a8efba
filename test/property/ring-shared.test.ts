/**
 * ring.h's arithmetic on shared rings against a model that counts without a wrap.
 *
 * The model's positions are BigInts that never wrap; only the page's values are taken modulo 2^32.
 * Every run starts close to a wrap of the unsigned or the signed number.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  freeRequests,
  type Index32,
  index32,
  needNotify,
  requestProdOverflow,
  unconsumedRequests,
} from "../../shared/ring/index32.ts";
import { RING_HEADER_SIZE, slotOffset } from "../../shared/xen/ring.ts";
import { cases, holds } from "../support/counts.ts";

const TWO_32 = 1n << 32n;
const fold = (position: bigint): Index32 =>
  index32(Number(((position % TWO_32) + TWO_32) % TWO_32));

const size = fc.constantFrom(2, 4, 128, 256);
/** A start position such that some neighbours lie beyond 2^32 or 2^31. */
const start = fc
  .tuple(fc.constantFrom(0n, 1n << 31n, TWO_32), fc.integer({ min: -300, max: 300 }))
  .map(([wrap, off]) => 4n * TWO_32 + wrap + BigInt(off));
const runs = { numRuns: cases(100_000) };

describe("a shared ring close to the wrap", () => {
  test("an honest ring: rspCons <= rspProd <= reqCons <= reqProd <= rspCons + size", () => {
    const ring = size.chain((n) =>
      fc.record({
        n: fc.constant(n),
        rspCons: start,
        cuts: fc.tuple(fc.nat(n), fc.nat(n), fc.nat(n)),
      }),
    );
    holds(
      fc.property(ring, ({ n, rspCons, cuts }) => {
        const [a, b, c] = [...cuts].sort((x, y) => x - y).map(BigInt) as [bigint, bigint, bigint];
        const [rspProd, reqCons, reqProd] = [rspCons + a, rspCons + b, rspCons + c];
        const room = BigInt(n) - (reqProd - rspCons);
        expect(freeRequests(n, fold(reqProd), fold(rspCons))).toBe(Number(room));
        expect(unconsumedRequests(n, fold(reqProd), fold(reqCons), fold(rspProd))).toBe(
          Number(reqProd - reqCons),
        );
        expect(requestProdOverflow(n, fold(reqProd), fold(rspProd))).toBe(false);
      }),
      runs,
    );
  });

  test("a lie: an index more than a ring ahead, or behind, is known as such", () => {
    const lie = fc.record({
      n: size,
      base: start,
      ahead: fc.oneof(fc.integer({ min: -600, max: 600 }), fc.integer()).map(BigInt),
    });
    holds(
      fc.property(lie, ({ n, base, ahead }) => {
        const index = fold(base + ahead);
        // An index that is behind looks like one almost 2^32 ahead.
        const far = ahead < 0n || ahead > BigInt(n);
        expect(requestProdOverflow(n, index, fold(base))).toBe(far);
      }),
      runs,
    );
  });

  test("whatever reqProd says, a backend takes no more than it can answer", () => {
    const lie = fc.record({ n: size, base: start, taken: fc.nat(256), prod: fc.integer() });
    holds(
      fc.property(lie, ({ n, base, taken, prod }) => {
        const unanswered = Math.min(taken, n);
        const reqCons = base + BigInt(unanswered);
        const got = unconsumedRequests(n, fold(reqCons + BigInt(prod)), fold(reqCons), fold(base));
        const claimed = prod < 0 ? Number(TWO_32) + prod : prod;
        expect(got).toBe(claimed < n - unanswered ? claimed : n - unanswered);
      }),
      runs,
    );
  });

  test("a push wakes the peer exactly when it steps onto or over its event", () => {
    const push = fc.record({
      before: start,
      by: fc.nat(256),
      event: fc.integer({ min: -300, max: 300 }).map(BigInt),
    });
    holds(
      fc.property(push, ({ before, by, event }) => {
        const after = before + BigInt(by);
        const at = before + event;
        const stepped = at > before && at <= after;
        expect(needNotify(fold(before), fold(after), fold(at))).toBe(stepped);
      }),
      runs,
    );
  });

  test("neighbours in index are neighbours in the page, the last slot's is the first", () => {
    holds(
      fc.property(size, fc.constantFrom(8, 12, 16), start, (n, bytes, position) => {
        const slot = Number(((position % BigInt(n)) + BigInt(n)) % BigInt(n));
        expect(slotOffset(fold(position), bytes, n)).toBe(RING_HEADER_SIZE + slot * bytes);
      }),
      runs,
    );
  });
});
