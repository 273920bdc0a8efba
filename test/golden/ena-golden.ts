/** One golden check for every structure declared with `struct`: size, decode, encode over junk. */
import { expect, test } from "vitest";
import type { Struct } from "../../shared/bytes/struct.ts";

/** Every pair of its bits has a one, so a byte that an encoder forgets is noticed. */
const JUNK = 0xa5;
/**
 * Bytes around the structure that must stay unchanged. Odd, so that nothing relies on alignment.
 */
const MARGIN = 7;

/** The bytes in the middle of junk, and a view of all of it. */
export function inJunk(size: number, hex = ""): { bytes: Uint8Array; view: DataView; at: number } {
  const bytes = new Uint8Array(size + 2 * MARGIN).fill(JUNK);
  bytes.set(Buffer.from(hex, "hex"), MARGIN);
  return { bytes, view: new DataView(bytes.buffer), at: MARGIN };
}

/** The structure as hex, after a check that the bytes around it are still junk. */
export function writtenHex(bytes: Uint8Array): string {
  const end = bytes.length - MARGIN;
  const around = [...bytes.subarray(0, MARGIN), ...bytes.subarray(end)];
  expect(around.filter((b) => b !== JUNK)).toEqual([]);
  return Buffer.from(bytes.subarray(MARGIN, end)).toString("hex");
}

export function golden<T>(
  name: string,
  layout: Struct<T>,
  size: number,
  hex: string,
  value: NoInfer<T>,
): void {
  test(`${name}: ${size} bytes`, () => {
    expect(layout.size).toBe(size);
    expect(hex.length).toBe(2 * size);
  });
  test(`${name}: decodes`, () => {
    const { view, at } = inJunk(size, hex);
    expect(layout.parse(view, at)).toEqual(value);
  });
  test(`${name}: encodes every byte`, () => {
    const { bytes, view, at } = inJunk(size);
    layout.write(view, at, value);
    expect(writtenHex(bytes)).toBe(hex);
  });
  test(`${name}: what is not named is zero`, () => {
    const { bytes, view, at } = inJunk(size);
    layout.write(view, at, {});
    expect(writtenHex(bytes)).toBe("00".repeat(size));
  });
}
