import { expect, test } from "vitest";
import { IdSet } from "../../device/ena/request-ids.ts";

test("case-W1 a set of ids holds each of 65,536 apart from its neighbours", () => {
  const set = new IdSet();
  for (const id of [0, 31, 32, 1024, 65_535]) set.add(id);
  expect(set.list()).toEqual([0, 31, 32, 1024, 65_535]);
  expect([1, 30, 33, 65_534].filter((id) => set.has(id))).toEqual([]);
  set.delete(31);
  set.delete(65_535);
  expect(set.list()).toEqual([0, 32, 1024]);
});
