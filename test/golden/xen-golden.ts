/** Golden checks for the hand-written field functions of shared/xen. */
import { expect } from "vitest";
import { inJunk, writtenHex } from "./ena-golden.ts";

type Reader = (view: DataView, at: number) => number;

/** Checks every listed field, read from the golden bytes in the middle of junk. */
export function decodes(
  hex: string,
  fields: Readonly<Record<string, number>>,
  from: Readonly<Record<string, unknown>>,
): void {
  const { view, at } = inJunk(hex.length / 2, hex);
  for (const [name, value] of Object.entries(fields)) {
    expect({ [name]: (from[name] as Reader)(view, at) }).toEqual({ [name]: value });
  }
}

/** Checks that `write` writes exactly these bytes over junk, and changes none around them. */
export function encodes(hex: string, write: (view: DataView, at: number) => void): void {
  const { bytes, view, at } = inJunk(hex.length / 2);
  write(view, at);
  expect(writtenHex(bytes)).toBe(hex);
}
