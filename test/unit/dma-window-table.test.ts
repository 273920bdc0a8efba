import { expect, test } from "vitest";
import { WindowTable } from "../../device/dma/window-table.ts";
import { CloseCode, Limits } from "../../shared/wire/transactions.ts";

const LARGEST = Limits.WINDOW_BYTES;
const A_SECOND = Limits.WINDOWS_BYTES_A_SECOND / LARGEST;

test("windows that come and go without end are cut, those of a driver that resets are not", () => {
  const clock = { ms: 5000 };
  const table = new WindowTable(() => clock.ms);
  const churn = (times: number): void => {
    for (let i = 0; i < times; i++) {
      table.add(0, LARGEST);
      table.remove(0);
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
    for (let ring = 0; ring < 32; ring++) honest.add(ring << 20, 1 << 16);
    for (let ring = 0; ring < 32; ring++) honest.remove(ring << 20);
  }
  expect(honest.bytes).toBe(0);
});
