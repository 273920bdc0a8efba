/** Spans of a frame: what joins the last one, and what begins another. */
import { expect, test } from "vitest";
import { Frame, MAX_SPANS } from "../../shared/net/frame.ts";
import { bytesOf } from "../support/packets.ts";

const memory = Uint8Array.from({ length: 300 }, (_, i) => i & 0xff);

test("append joins bytes that follow the last span in memory, and no others", () => {
  const frame = new Frame();
  frame.append(memory, 10, 20);
  frame.append(memory, 30, 5);
  frame.append(memory, 36, 4);
  frame.append(memory, 35, 1);
  frame.append(memory.slice(), 36, 7);
  frame.append(memory, 43, 1);
  const spans = Array.from({ length: frame.count }, (_, i) => [frame.offsets[i], frame.lengths[i]]);
  expect(spans).toEqual([
    [10, 25],
    [36, 4],
    [35, 1],
    [36, 7],
    [43, 1],
  ]);
  expect(frame.length).toBe(38);
  const parts = spans.flatMap(([at, n]) => [...memory.subarray(at, at! + n!)]);
  expect([...bytesOf(frame)]).toEqual(parts);
});

test("append refuses one span too many, and still joins", () => {
  const frame = new Frame();
  for (let i = 0; i < MAX_SPANS; i++) expect(frame.append(memory, 2 * i, 1)).toBe(true);
  expect(frame.append(memory, 0, 1)).toBe(false);
  expect(frame.append(memory, 2 * MAX_SPANS - 1, 1)).toBe(true);
  expect([frame.count, frame.length]).toEqual([MAX_SPANS, MAX_SPANS + 1]);
});
