import { expect, it } from "vitest";
import { FirstRefusals } from "../../device/http/first-refusals.ts";

it("an address has one first refusal of a reason in a minute, from whatever port", () => {
  let now = 0;
  const firsts = new FirstRefusals(() => now);
  expect(firsts.isFirst("unknown_client", "192.0.2.1:1000")).toBe(true);
  expect(firsts.isFirst("unknown_client", "192.0.2.1:1001")).toBe(false);
  expect(firsts.isFirst("forbidden", "192.0.2.1:1002")).toBe(true);
  expect(firsts.isFirst("unknown_client", "192.0.2.2:1000")).toBe(true);
  // One host has a whole /64.
  expect(firsts.isFirst("unknown_client", "2001:db8::1:1000")).toBe(true);
  expect(firsts.isFirst("unknown_client", "2001:db8::2:1000")).toBe(false);
  now = 59_999;
  expect(firsts.isFirst("unknown_client", "192.0.2.1:1003")).toBe(false);
  now = 60_000;
  expect(firsts.isFirst("unknown_client", "192.0.2.1:1003")).toBe(true);
});

it("fault-L12 remembers a bounded number of addresses", () => {
  const firsts = new FirstRefusals(() => 0);
  for (let i = 0; i < 2000; i++) firsts.isFirst("forbidden", `10.0.${i >> 8}.${i & 255}:1`);
  expect(firsts.isFirst("forbidden", "10.0.7.207:1")).toBe(false);
  expect(firsts.isFirst("forbidden", "10.0.0.0:1")).toBe(true);
});
