import { expect, it } from "vitest";
import { jsonInSlices } from "../../device/http/json-slices.ts";

it("equals JSON.stringify", async () => {
  const values = [
    {},
    { a: 1, none: undefined, list: [1, undefined, { b: [2] }, "\u2028"], nothing: null, empty: [] },
  ];
  for (const value of values) expect(await jsonInSlices(value)).toBe(JSON.stringify(value));
});

it("attack-S1 other events have their turn between the items of a long page", async () => {
  let turns = 0;
  let isOver = false;
  const turn = (): void => {
    turns++;
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  // An item that takes longer than a slice, by whatever clock.
  const item = {
    toJSON: () => {
      for (const end = performance.now() + 6; performance.now() < end; );
      return 1;
    },
  };
  const seen: number[] = [];
  const watching = { toJSON: () => seen.push(turns) };
  const text = await jsonInSlices({ nics: [item, watching, item, watching, item, watching] });
  isOver = true;
  expect(text).toBe('{"nics":[1,1,1,2,1,3]}');
  expect(new Set(seen).size).toBe(3);
});
