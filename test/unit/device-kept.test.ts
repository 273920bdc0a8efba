/** Completions that may wait for the next message to their driver, and those that may not. */
import { describe, expect, test } from "vitest";
import { Kept } from "../../device/kept.ts";
import { Limits } from "../../shared/wire/protocol.ts";

const RING = 1024;
const PUSH_BYTES = 4 * Limits.PUSH_BYTES_MIN;
/** A quarter of the budget. */
const MOST_BYTES = PUSH_BYTES / 4;

function kept() {
  const pushes = { bytes: 0 };
  const host = { memory: { pushes }, pushBytes: PUSH_BYTES } as unknown as ConstructorParameters<
    typeof Kept
  >[0];
  return { kept: new Kept(host), pushes };
}

describe("completions wait", () => {
  test("while their driver is far from the end of its ring", () => {
    const { kept: it } = kept();
    expect([0, RING / 4, RING / 4 + 1].map((occupied) => it.mayWait(occupied, RING))).toEqual([
      true,
      true,
      false,
    ]);
  });

  test("while its pushes, those of the completed packets too, are a quarter of its budget", () => {
    const { kept: it, pushes } = kept();
    pushes.bytes = MOST_BYTES - 100;
    it.bytes = 100;
    expect(it.mayWait(0, RING)).toBe(true);
    pushes.bytes++;
    expect(it.mayWait(0, RING)).toBe(false);
    it.clear();
    expect(it.mayWait(0, RING)).toBe(true);
    pushes.bytes = MOST_BYTES + 1;
    expect(it.mayWait(0, RING)).toBe(false);
  });

  test("again after those that could not wait were sent", () => {
    const { kept: it } = kept();
    it.packets = 64;
    expect(it.mayWait(0, RING)).toBe(false);
    it.packets = 63;
    it.urgent = true;
    expect(it.mayWait(0, RING)).toBe(false);
    it.clear();
    expect(it.mayWait(0, RING)).toBe(true);
  });
});
