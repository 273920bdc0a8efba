/** Tags of one kind of request: each is used once, in any order, with a bounded number of gaps. */
import { expect, test } from "vitest";
import { CloseCode, Limits } from "../../shared/wire/protocol.ts";
import { UsedTags } from "../../shared/wire/used-tags.ts";
import { Random } from "../support/random.ts";

const codeOf = (run: () => void): string => {
  try {
    run();
    return "";
  } catch (error) {
    const { code, close } = error as { code: string; close: number };
    return `${code} ${close}`;
  }
};

test("page-W5 no tag is taken twice, in whatever order they come", () => {
  const random = new Random(5);
  const tags = new UsedTags("read");
  const seen = new Set<number>();
  let wrong = 0;
  // A small range, so that every number is drawn many times and few gaps remain.
  for (let i = 0; i < 20_000; i++) {
    const tag = random.below(1500);
    const again = codeOf(() => tags.add(tag));
    if (again !== (seen.has(tag) ? `WIRE_TAG ${CloseCode.PROTOCOL}` : "")) wrong++;
    seen.add(tag);
  }
  expect(wrong).toBe(0);
  expect(codeOf(() => tags.add(0xffff_ffff))).toBe("");
  expect(codeOf(() => tags.add(0xffff_ffff))).toBe(`WIRE_TAG ${CloseCode.PROTOCOL}`);
});

test("page-W5 gaps between tags are bounded, a million tags in a row are one range", () => {
  const tags = new UsedTags("read");
  for (let tag = 0; tag < 1_000_000; tag++) tags.add(tag);
  for (let i = 1; i < Limits.TAG_RANGES; i++) tags.add(2_000_000 + 2 * i);
  expect(codeOf(() => tags.add(5_000_000))).toBe(`WIRE_TAG ${CloseCode.LIMIT}`);
  // A tag that fills a gap is accepted.
  expect(codeOf(() => tags.add(2_000_003))).toBe("");
  expect(codeOf(() => tags.add(5_000_000))).toBe("");
});
