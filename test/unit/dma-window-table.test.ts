import { expect, test } from "vitest";
import { WindowTable } from "../../device/dma/window-table.ts";
import { CloseCode, Limits, type WireError } from "../../shared/wire/protocol.ts";
import { busAddress, NO_ADDRESS } from "../../shared/wire/records.ts";

const LARGEST = Limits.WINDOW_BYTES;
const A_SECOND = Limits.WINDOWS_BYTES_A_SECOND / LARGEST;

test("windows that come and go without end are cut, those of a driver that resets are not", () => {
  const clock = { ms: 5000 };
  const table = new WindowTable(() => clock.ms);
  const churn = (times: number): void => {
    for (let i = 0; i < times; i++) {
      table.add(NO_ADDRESS, LARGEST);
      table.remove(NO_ADDRESS);
    }
  };
  churn(A_SECOND);
  expect(() => churn(1)).toThrow(
    expect.objectContaining({ code: "WINDOW_CHURN", close: CloseCode.LIMIT }),
  );

  const honest = new WindowTable(() => clock.ms);
  // 100 resets a second, with 2 MiB of rings each.
  for (let resets = 0; resets < 1000; resets++) {
    clock.ms += 10;
    for (let ring = 0; ring < 32; ring++) honest.add(busAddress(ring << 20), 1 << 16);
    for (let ring = 0; ring < 32; ring++) honest.remove(busAddress(ring << 20));
  }
  expect(honest.bytes).toBe(0);
});

test("page-W3 in any second so many bytes of windows are made, whatever the clock does", () => {
  const clock = { ms: 5000 };
  const table = new WindowTable(() => clock.ms);
  const made = (times: number): boolean => {
    try {
      for (let i = 0; i < times; i++) table.remove(table.add(NO_ADDRESS, LARGEST).address);
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: "WINDOW_CHURN", close: CloseCode.LIMIT });
      return false;
    }
  };
  // Half of what a second allows, and the other half just before the second ends.
  expect(made(A_SECOND / 2)).toBe(true);
  clock.ms += 999;
  expect(made(A_SECOND / 2)).toBe(true);
  expect(made(1)).toBe(false);
  // The first half is a second old now, the second half is not.
  clock.ms += 0.5;
  expect(made(1)).toBe(false);
  clock.ms += 0.5;
  expect(made(A_SECOND / 2)).toBe(true);
  expect(made(1)).toBe(false);
  // A clock that stands still or goes back allows nothing more.
  clock.ms -= 3000;
  expect(made(1)).toBe(false);
  clock.ms += 3000 + 1000;
  expect(made(A_SECOND)).toBe(true);
  expect(made(1)).toBe(false);
});

test("windows may touch, and one that is gone is found no more, by whoever found it last", () => {
  const table = new WindowTable();
  table.add(busAddress(0x1000), 0x1000);
  const second = table.add(busAddress(0x2000), 0x1000);
  table.add(busAddress(0x0800), 0x800);
  expect(() => table.add(busAddress(0x2fff), 1)).toThrow(/overlaps/);
  expect(() => table.add(busAddress(0x07ff), 2)).toThrow(/overlaps/);
  // An access can't cross from one window into the next.
  expect(table.find(busAddress(0x2ff8), 9)).toBeUndefined();
  expect(table.find(busAddress(0x1ff8), 16)).toBeUndefined();
  expect(table.find(busAddress(0x2ff8), 8)).toBe(second);
  table.remove(busAddress(0x2000));
  expect(table.find(busAddress(0x2ff8), 8)).toBeUndefined();
  const third = table.add(busAddress(0x2000), 0x1000);
  expect(table.find(busAddress(0x2ff8), 8)).toBe(third);
});

test("a window has a byte at least, and ends within 48 bits, each to the byte", () => {
  const table = new WindowTable();
  const code = (address: number, length: number): string => {
    try {
      table.remove(table.add(busAddress(address), length).address);
      return "";
    } catch (error) {
      return (error as WireError).code;
    }
  };
  expect([code(0, 0), code(0, 1)]).toEqual(["WINDOW_EMPTY", ""]);
  const last = Limits.ADDRESS;
  expect([code(last, 1), code(last - 9, 10), code(last - 9, 11), code(last, 2)]).toEqual([
    "",
    "",
    "WINDOW_RANGE",
    "WINDOW_RANGE",
  ]);
  expect(table.bytes).toBe(0);
});
