/** Pushed bytes step by step: what is found, what is kept in memory, what is copied when. */
import { describe, expect, test } from "vitest";
import type { Span } from "../../device/dma/host-memory.ts";
import { MAX_PUSHES, PushQueue } from "../../device/dma/push-queue.ts";
import { busAddress } from "../../shared/wire/records.ts";

const LIMIT = 1000;
const message = (length: number, seed = 0): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i + seed) & 0xff);

function stage(limit = LIMIT) {
  const queue = new PushQueue(limit);
  const out: Span = { buffer: new Uint8Array(0), at: 0, length: 0 };
  /** The bytes that were found; undefined for none. */
  const find = (address: number, length: number): number[] | undefined =>
    queue.find(busAddress(address), length, out)
      ? [...out.buffer.subarray(out.at, out.at + out.length)]
      : undefined;
  const add = (address: number, of: Uint8Array, at: number, length: number): boolean =>
    queue.add(busAddress(address), of, at, length);
  const release = (address: number, length?: number): number =>
    queue.release(busAddress(address), length);
  const state = () => [queue.live, queue.bytes, queue.pinned];
  return { queue, out, find, add, release, state };
}

describe("entries", () => {
  test("count, bytes, and each message once", () => {
    const { add, release, state } = stage();
    const [first, second] = [message(100), message(50)];
    const states = [
      () => add(1000, first, 0, 10),
      () => add(2000, first, 10, 20),
      () => add(3000, second, 0, 30),
      () => add(4000, second, 30, 5),
      // The oldest ones release their messages.
      () => release(1000),
      () => release(2000),
      // The message stays until its last entry is the oldest no more.
      () => release(4000),
      () => release(3000),
    ].map((step) => {
      step();
      return state();
    });
    expect(states).toEqual([
      [1, 10, 100],
      [2, 30, 100],
      [3, 60, 150],
      [4, 65, 150],
      [3, 55, 50],
      [2, 35, 50],
      [1, 30, 50],
      [0, 0, 0],
    ]);
  });

  test("of a slot that was used before count no message twice", () => {
    const { add, release, state } = stage(1e6);
    for (let i = 0; i < 1024; i++) {
      add(i, message(10), 0, 1);
      release(i);
    }
    const one = message(100);
    for (let i = 0; i < 3; i++) add(5000 + i, one, i, 1);
    expect(state()).toEqual([3, 3, 100]);
    release(5000);
    release(5001);
    expect(state()).toEqual([1, 1, 0]);
  });

  test("end from their front, packet by packet, when one brought the bytes of several", () => {
    const { queue, find, add, release, state } = stage();
    add(500, message(10), 0, 10);
    add(1000, message(100), 20, 80);
    expect(release(1000, 30)).toBe(1030);
    expect(state()).toEqual([2, 60, 110]);
    expect([find(1000, 1), find(1029, 2)]).toEqual([undefined, undefined]);
    expect(find(1030, 50)).toEqual([...message(50, 50)]);
    // The index by address knows the entry by its new begin.
    expect(find(500, 10)).toEqual([...message(10)]);
    expect(find(1030, 50)).toEqual([...message(50, 50)]);
    expect(release(1030, 10)).toBe(1040);
    expect(find(500, 10)).toEqual([...message(10)]);
    expect(find(1040, 40)).toEqual([...message(40, 60)]);
    expect(queue.searches).toBeGreaterThan(0);
    // From its middle an entry ends as a whole, and so does one that is not longer.
    expect(release(1050, 5)).toBe(1080);
    expect(state()).toEqual([1, 10, 110]);
    expect(release(500, 10)).toBe(510);
    expect(release(500, 10)).toBe(0);
    expect(state()).toEqual([0, 0, 0]);
  });

  test("are found whole, in part and from the middle, and no byte beyond", () => {
    const { queue, out, find, add } = stage();
    add(1000, message(100), 20, 10);
    expect(find(1000, 10)).toEqual([...message(10, 20)]);
    expect([out.at, out.length]).toEqual([20, 10]);
    expect(find(1003, 4)).toEqual([...message(4, 23)]);
    expect([find(1000, 11), find(999, 1), find(1010, 1), find(1009, 2)]).toEqual(
      new Array(4).fill(undefined),
    );
    expect(find(1009, 1)).toEqual([29]);
    expect(queue.misses).toBe(4);
  });

  test("in their order need no search, nor do pieces of the one before", () => {
    const { queue, find, add, release } = stage(1e6);
    for (let i = 0; i < 10; i++) add(1000 * i, message(100, i), 0, 50);
    for (let i = 0; i < 10; i++) {
      expect(find(1000 * i, 20)).toEqual([...message(20, i)]);
      expect(find(1000 * i + 20, 20)).toEqual([...message(20, i + 20)]);
    }
    expect(queue.searches).toBe(0);
    expect(find(3000, 50)).toEqual([...message(50, 3)]);
    expect(queue.searches).toBe(1);
    // The one behind the last hit is expected next.
    expect(find(4000, 50)).toEqual([...message(50, 4)]);
    expect(queue.searches).toBe(1);
    for (let i = 0; i < 4; i++) release(1000 * i);
    expect(find(4000, 50)).toEqual([...message(50, 4)]);
    expect(queue.searches).toBe(1);
  });

  test("that are released unseen need no search for those behind them", () => {
    const { queue, find, add, release } = stage();
    for (let i = 0; i < 4; i++) add(1000 * (i + 1), message(10, i), 0, 10);
    release(1000);
    expect(find(2000, 10)).toEqual([...message(10, 1)]);
    release(2000);
    release(3000);
    expect(find(4000, 10)).toEqual([...message(10, 3)]);
    expect(queue.searches).toBe(0);
  });

  test("that are released are found no more, in whatever order, and not released twice", () => {
    const { find, add, release, state } = stage();
    for (let i = 0; i < 4; i++) add(1000 * (i + 1), message(10, i), 0, 10);
    for (const address of [3000, 1000, 3000, 2000, 9999]) release(address);
    expect(state()).toEqual([1, 10, 10]);
    expect([1000, 2000, 3000].map((address) => find(address, 1))).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(find(4000, 10)).toEqual([...message(10, 3)]);
    release(4005);
    expect(state()).toEqual([0, 0, 0]);
    add(1000, message(10, 9), 0, 10);
    expect(find(1000, 10)).toEqual([...message(10, 9)]);
    expect(state()).toEqual([1, 10, 10]);
  });

  test("at an address that was pushed before are the new ones", () => {
    const { find, add, release } = stage();
    add(1000, message(10, 1), 0, 10);
    add(2000, message(10, 2), 0, 10);
    expect(find(2000, 10)).toEqual([...message(10, 2)]);
    release(1000);
    add(1000, message(10, 7), 0, 10);
    expect(find(1000, 10)).toEqual([...message(10, 7)]);
  });

  test("from the middle are searched for among the oldest 256", () => {
    const { find, add } = stage(1e6);
    const one = message(20);
    for (let i = 0; i < 300; i++) add(100 * i, one, 0, 20);
    expect(find(100 * 255 + 1, 5)).toEqual([...message(5, 1)]);
    add(99_000, one, 0, 20);
    expect(find(100 * 10, 1)).toEqual([0]);
    expect(find(100 * 256 + 1, 5)).toBe(undefined);
    expect(find(100 * 256, 5)).toEqual([...message(5)]);
  });
});

describe("memory", () => {
  test("beyond the limit every entry is copied out of its message", () => {
    const { out, find, add, state } = stage(100);
    const first = message(60);
    const second = message(40, 50);
    add(1000, first, 10, 5);
    add(2000, second, 0, 5);
    // Just the limit.
    expect(state()).toEqual([2, 10, 100]);
    const third = message(1, 99);
    add(3000, third, 0, 1);
    expect(state()).toEqual([3, 11, 11]);
    for (const old of [first, second, third]) old.fill(0);
    expect([find(1000, 5), find(2000, 5), find(3000, 1)]).toEqual([
      [10, 11, 12, 13, 14],
      [50, 51, 52, 53, 54],
      [99],
    ]);
    expect([out.at, out.buffer.length]).toEqual([0, 1]);
    // The message that was at hand counts anew.
    add(4000, third, 0, 1);
    expect(state()).toEqual([4, 12, 12]);
  });

  test("a message that is used again leaves one copy for all its live entries", () => {
    const { queue, out, find, add, release } = stage();
    const old = message(10, 100);
    const now = message(30);
    add(500, old, 0, 10);
    for (const [i, at] of [0, 10, 20].entries()) add(1000 * (i + 1), now, at, 10);
    release(2000);
    queue.settle();
    now.fill(0xff);
    expect(find(1000, 10)).toEqual([...message(10)]);
    const copy = out.buffer;
    expect(copy).not.toBe(now);
    expect(find(3000, 10)).toEqual([...message(10, 20)]);
    expect(out.buffer).toBe(copy);
    expect(find(500, 10)).toEqual([...message(10, 100)]);
    expect(out.buffer).toBe(old);
    // A second time there is nothing to copy.
    queue.settle();
    expect(find(3000, 10)).toEqual([...message(10, 20)]);
    expect(out.buffer).toBe(copy);
    expect(queue.pinned).toBe(40);
  });

  test("a queue that was emptied keeps nothing", () => {
    const { queue, find, add, state } = stage();
    const bytes = message(30);
    add(1000, bytes, 0, 10);
    add(2000, bytes, 0, 10);
    expect(find(2000, 10)).not.toBe(undefined);
    queue.clear();
    expect([state(), find(1000, 10), find(2000, 10)]).toEqual([[0, 0, 0], undefined, undefined]);
    add(3000, bytes, 0, 10);
    expect(state()).toEqual([1, 10, 30]);
    expect(find(3000, 10)).toEqual([...message(10)]);
    queue.clear();
    queue.settle();
    expect(state()).toEqual([0, 0, 0]);
  });
});

describe("room", () => {
  const one = message(1);

  test("more entries than slots: all are found, those expected next without a search", () => {
    const { queue, find, add } = stage(1e6);
    for (let i = 0; i < 100; i++) add(i, one, 0, 1);
    for (let i = 0; i < 100; i++) expect(find(i, 1)).toEqual([0]);
    for (let i = 0; i < 50; i++) queue.release(busAddress(i));
    for (let i = 100; i < 3000; i++) expect(add(i, one, 0, 1)).toBe(true);
    for (let i = 100; i < 3000; i++) expect(find(i, 1)).toEqual([0]);
    expect([queue.live, queue.searches, queue.misses]).toEqual([2950, 0, 0]);
    expect([find(49, 1), find(50, 1), find(2999, 1)]).toEqual([undefined, [0], [0]]);
  });

  test("as many as a peer may have, and no more", () => {
    const { queue, add } = stage(1e9);
    for (let i = 0; i < MAX_PUSHES; i++) add(i, one, 0, 1);
    expect([add(MAX_PUSHES, one, 0, 1), queue.live]).toEqual([false, MAX_PUSHES]);
    // Of a full queue a quarter is free at least before it is packed. The oldest entry stays.
    const most = (MAX_PUSHES / 4) * 3;
    for (let i = 1; i < MAX_PUSHES - most; i++) queue.release(busAddress(i));
    expect([add(MAX_PUSHES, one, 0, 1), queue.live]).toEqual([false, most + 1]);
    queue.release(busAddress(MAX_PUSHES - most));
    expect([add(MAX_PUSHES, one, 0, 1), queue.live, queue.bytes]).toEqual([
      true,
      most + 1,
      most + 1,
    ]);
    // Packed entries are copies of their own byte.
    expect(queue.pinned).toBe(most + 1);
    const out: Span = { buffer: new Uint8Array(0), at: 0, length: 0 };
    for (const address of [0, MAX_PUSHES - most + 1, MAX_PUSHES - 1, MAX_PUSHES]) {
      expect(queue.find(busAddress(address), 1, out)).toBe(true);
    }
    expect(queue.find(busAddress(1), 1, out)).toBe(false);
  });
});
