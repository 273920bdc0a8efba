/** netfront against the device's netback: connect, frames both ways. */
import { expect, test } from "vitest";
import { XenPair } from "../support/xen-pair.ts";

const frame = (length: number, seed = 1): Uint8Array => {
  const bytes = Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);
  bytes.set([2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
  return bytes;
};

test("connects, and frames go both ways", async () => {
  const pair = new XenPair();
  await pair.start();
  expect(pair.linkStates).toEqual([true]);
  expect(pair.snapshot["backend"]).toBe("connected");
  const out = frame(60);
  expect(pair.send(out)).toBe(0);
  await pair.settle();
  expect(pair.segment.map((f) => f.bytes)).toEqual([out]);
  expect(pair.outstanding).toBe(0);
  const back = frame(1514, 3);
  expect(pair.inject(back)).toBeUndefined();
  pair.flushPort();
  await pair.settle();
  expect(pair.inputs.map((i) => i.bytes)).toEqual([back]);
});
