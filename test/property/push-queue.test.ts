import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Span } from "../../device/dma/host-memory.ts";
import { MAX_PUSHES, PushQueue } from "../../device/dma/push-queue.ts";
import { WindowTable } from "../../device/dma/window-table.ts";
import { Limits, WireError } from "../../shared/wire/protocol.ts";
import { busAddress } from "../../shared/wire/records.ts";
import { holds } from "../support/counts.ts";
import { same, sameBytes } from "../support/same.ts";

const PIN = 1 << 16;
const span = (): Span => ({ buffer: new Uint8Array(0), at: 0, length: 0 });

describe("PushQueue", () => {
  it("property: finds what was pushed and not released, in any order", () => {
    holds(
      fc.property(
        fc.array(
          fc.oneof(
            {
              weight: 3,
              arbitrary: fc.record({ do: fc.constant("add"), n: fc.integer({ min: 1, max: 300 }) }),
            },
            { weight: 3, arbitrary: fc.record({ do: fc.constant("take"), n: fc.nat() }) },
            { weight: 2, arbitrary: fc.record({ do: fc.constant("oldest"), n: fc.nat() }) },
            { weight: 1, arbitrary: fc.record({ do: fc.constant("miss"), n: fc.nat() }) },
          ),
          { maxLength: 400 },
        ),
        (steps) => {
          const queue = new PushQueue(PIN);
          const model = new Map<number, Uint8Array>();
          let next = 0x1_0000_0000;
          const out = span();
          const check = (address: number) => {
            const bytes = model.get(address)!;
            same(queue.find(busAddress(address), bytes.length, out), true);
            sameBytes(out.buffer.subarray(out.at, out.at + out.length), bytes);
          };
          for (const { do: what, n } of steps) {
            const live = [...model.keys()];
            if (what === "add") {
              const bytes = Uint8Array.from({ length: n }, (_, i) => i + next);
              const message = new Uint8Array(n + 9);
              message.set(bytes, 5);
              same(queue.add(busAddress(next), message, 5, n), true);
              model.set(next, bytes);
              next += 0x1000;
            } else if (what === "miss") {
              same(queue.find(busAddress(next + 0x10_0000), 1, out), false);
            } else if (live.length > 0) {
              const address = busAddress(what === "oldest" ? live[0]! : live[n % live.length]!);
              check(address);
              queue.release(address);
              model.delete(address);
              same(queue.find(address, 1, out), false);
            }
            same(queue.live, model.size);
            same(
              queue.bytes,
              [...model.values()].reduce((sum, b) => sum + b.length, 0),
            );
            if (queue.pinned > PIN + 400 * 309) expect(queue.pinned).toBeLessThanOrEqual(PIN);
          }
          for (const address of model.keys()) check(address);
        },
      ),
      { numRuns: 200 },
    );
  });

  it("property: settled entries hold when their message's memory is used again", () => {
    holds(
      fc.property(
        fc.array(
          fc.record({
            lengths: fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 20 }),
            used: fc.array(fc.boolean(), { maxLength: 20 }),
          }),
          { maxLength: 20 },
        ),
        (messages) => {
          const queue = new PushQueue(1 << 12);
          const memory = new Uint8Array(2000);
          const left = new Map<number, Uint8Array>();
          const out = span();
          let next = 4096;
          for (const { lengths, used } of messages) {
            const message = memory.subarray(1);
            let at = 3;
            for (const [i, n] of lengths.entries()) {
              for (let k = 0; k < n; k++) message[at + k] = next + k;
              queue.add(busAddress(next), message, at, n);
              if (used[i]) {
                same(queue.find(busAddress(next), n, out), true);
                queue.release(busAddress(next));
              } else left.set(next, message.slice(at, at + n));
              at += n;
              next += 0x1000;
            }
            queue.settle();
            memory.fill(0x5a);
          }
          for (const [address, bytes] of left) {
            same(queue.find(busAddress(address), bytes.length, out), true);
            sameBytes(out.buffer.subarray(out.at, out.at + out.length), bytes);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it("finds a piece inside a push", () => {
    const queue = new PushQueue(PIN);
    queue.add(busAddress(4096), Uint8Array.from([1, 2, 3, 4, 5]), 0, 5);
    const out = span();
    same(queue.find(busAddress(4098), 2, out), true);
    expect([...out.buffer.subarray(out.at, out.at + 2)]).toEqual([3, 4]);
    same(queue.find(busAddress(4100), 2, out), false);
    same(queue.misses, 1);
  });

  it("does not keep large messages alive for small entries", () => {
    const queue = new PushQueue(PIN);
    for (let i = 0; i < 1000; i++) {
      const message = new Uint8Array(1 << 15);
      message[7] = i;
      queue.add(busAddress(i * 4096), message, 7, 1);
      if (queue.pinned > PIN) expect(queue.pinned).toBeLessThanOrEqual(PIN);
    }
    const out = span();
    for (let i = 0; i < 1000; i++) {
      same(queue.find(busAddress(i * 4096), 1, out), true);
      same(out.buffer[out.at], i & 0xff);
    }
  });

  it("one old entry that is not released does not fill it, whatever comes and goes behind it", () => {
    const queue = new PushQueue(PIN);
    const out = span();
    const message = Uint8Array.from({ length: 16 }, (_, i) => i);
    queue.add(busAddress(1), message, 3, 1);
    queue.add(busAddress(2), message, 4, 1);
    for (let i = 10; i < 3 * MAX_PUSHES; i++) {
      same(queue.add(busAddress(i), message, i & 15, 1), true);
      // The first 200 pushes stay longer than the others.
      if (i < 200) continue;
      if (!queue.find(busAddress(i), 1, out) || out.buffer[out.at] !== (i & 15)) same(i, -1);
      queue.release(busAddress(i));
    }
    expect([queue.live, queue.bytes]).toEqual([192, 192]);
    for (const [address, byte] of [
      [2, 4],
      [1, 3],
      [10, 10],
      [199, 7],
    ] as const) {
      same(queue.find(busAddress(address), 1, out), true);
      same(out.buffer[out.at], byte);
      queue.release(busAddress(address));
      same(queue.find(busAddress(address), 1, out), false);
    }
    for (let i = 11; i < 199; i++) queue.release(busAddress(i));
    expect([queue.live, queue.bytes, queue.pinned]).toEqual([0, 0, 0]);
  });

  it("refuses more entries than it may hold", () => {
    const queue = new PushQueue(PIN);
    const byte = new Uint8Array(1);
    for (let i = 0; i < MAX_PUSHES; i++) same(queue.add(busAddress(i), byte, 0, 1), true);
    same(queue.add(busAddress(MAX_PUSHES), byte, 0, 1), false);
    queue.clear();
    expect([queue.live, queue.bytes, queue.pinned]).toEqual([0, 0, 0]);
    same(queue.add(busAddress(1), byte, 0, 1), true);
  });
});

describe("WindowTable", () => {
  it("property: agrees with a map of bytes", () => {
    holds(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.nat(200), fc.integer({ min: 1, max: 20 })), {
          maxLength: 60,
        }),
        (steps) => {
          const table = new WindowTable();
          const owner = new Map<number, number>();
          for (const [add, address, length] of steps) {
            if (add) {
              const free = Array.from({ length }, (_, i) => address + i).every(
                (a) => !owner.has(a),
              );
              if (free) {
                table.add(busAddress(address), length);
                for (let i = 0; i < length; i++) owner.set(address + i, address);
              } else expect(() => table.add(busAddress(address), length)).toThrow(WireError);
            } else if (owner.get(address) === address) {
              table.remove(busAddress(address));
              for (const [a, o] of owner) if (o === address) owner.delete(a);
            } else expect(() => table.remove(busAddress(address))).toThrow(WireError);
            for (let a = 0; a < 230; a++) {
              same(table.find(busAddress(a), 1)?.address, owner.get(a));
              const two = owner.get(a) !== undefined && owner.get(a) === owner.get(a + 1);
              same(table.find(busAddress(a), 2) !== undefined, two);
            }
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  it("bounds number and bytes of windows", () => {
    const table = new WindowTable();
    for (let i = 0; i < Limits.WINDOWS; i++) table.add(busAddress(i * 4096), 1);
    expect(() => table.add(busAddress(Limits.WINDOWS * 4096), 1)).toThrow(/more than/);
    const large = new WindowTable();
    const most = Limits.WINDOWS_BYTES / Limits.WINDOW_BYTES;
    for (let i = 0; i < most; i++)
      large.add(busAddress(i * Limits.WINDOW_BYTES), Limits.WINDOW_BYTES);
    expect(() => large.add(busAddress(most * Limits.WINDOW_BYTES), 1)).toThrow(/more than/);
  });
});
