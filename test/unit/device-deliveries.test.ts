import { expect, it } from "vitest";
import { Deliveries } from "../../device/deliveries.ts";

it("attack-S9 tells the frames that a report covers, and no half batch", () => {
  const deliveries = new Deliveries();
  deliveries.sent(1400, 3);
  deliveries.sent(1500, 3);
  deliveries.sent(9000, 20);
  expect(deliveries.arrived).toBe(0);
  deliveries.reported(8999);
  expect(deliveries.arrived).toBe(3);
  deliveries.reported(9000);
  expect(deliveries.arrived).toBe(20);
  deliveries.sent(12_000, 25);
  deliveries.reported(1e6);
  expect(deliveries.arrived).toBe(25);
});

it("attack-S9 with more batches under way than it keeps, what it can't tell apart is lost", () => {
  const deliveries = new Deliveries();
  for (let i = 1; i <= 10_000; i++) deliveries.sent(i * 100, i);
  deliveries.reported(409_500);
  expect(deliveries.arrived).toBe(4095);
  deliveries.reported(999_999);
  expect(deliveries.arrived).toBe(4095);
  deliveries.reported(1_000_000);
  expect(deliveries.arrived).toBe(10_000);
});
