import { expect, it } from "vitest";
import { agreedSeconds, checkedDeadAfter, deadAfterField } from "../../shared/wire/dead-after.ts";

it.each([
  ["nobody says anything", undefined, undefined, 4],
  ["this end waits longer", 30, 10, 30],
  ["the peer asks for more", 4, 60, 60],
  ["the peer asks for too much", 4, 3600, 600],
  ["the peer never gives up", 4, 0, 600],
  ["this end never gives up", "off", 10, Number.POSITIVE_INFINITY],
  ["an older peer", 60, undefined, 60],
] as const)("fault-K3 both ends agree on the longer time: %s", (_what, own, asked, seconds) => {
  expect(agreedSeconds(own, asked)).toBe(seconds);
});

it("off is 0 on the wire", () => {
  expect([deadAfterField("off"), deadAfterField(60)]).toEqual([0, 60]);
});

it.each([1, 0, -1, 3601, 2.5, Number.NaN, Number.POSITIVE_INFINITY])("%s is refused", (wrong) => {
  expect(() => checkedDeadAfter(wrong)).toThrow(/deadAfter takes whole seconds from 2 to 3600/);
});
