import { expect, test, vi } from "vitest";
import { Credit } from "../../device/xen/netback/credit.ts";
import { FakeGuest } from "../support/fake-guest.ts";
import { settle } from "../support/fake-host.ts";

const packet = (length: number) => [{ bytes: new Uint8Array(length).fill(2) }];

test("whoever waits for credit goes on by himself when it comes", () => {
  const guest = FakeGuest.connected();
  guest.netback.setRate({ bytes: 1000, usec: 50_000 });
  for (let i = 0; i < 3; i++) guest.send(packet(900));
  for (const expected of [1, 1, 1]) {
    expect(guest.sent().length).toBe(expected);
    guest.host.clock.advance(50);
  }
  expect(guest.sent().length).toBe(0);
});

test("a rate that becomes faster is not looked at as rarely as the slow one", async () => {
  const guest = FakeGuest.connected();
  const pass = async (ms: number): Promise<void> => {
    guest.host.clock.advance(ms);
    await settle();
  };
  guest.netback.setRate({ bytes: 1000, usec: 50_000_000 });
  for (let i = 0; i < 4; i++) guest.send(packet(900));
  await pass(1);
  expect(guest.sent().length).toBe(1);
  guest.netback.setRate({ bytes: 1000, usec: 10_000 });
  await pass(1);
  expect(guest.sent().length).toBe(1);
  for (let i = 0; i < 2; i++) {
    await pass(10);
    expect(guest.sent().length).toBe(1);
  }
});

test("a period longer than any timer makes no timer run wild", () => {
  const guest = FakeGuest.connected();
  guest.netback.setRate({ bytes: 10, usec: 999_999_999_999_999 });
  guest.send(packet(900));
  const armed = vi.spyOn(guest.host.clock, "setTimeout");
  guest.host.clock.advance(600_000);
  expect(armed.mock.calls.length).toBeLessThan(20);
  armed.mockRestore();
});

test("credit that came while the turn ended is looked for after 1 ms, not at once", () => {
  const guest = FakeGuest.connected();
  const { clock } = guest.host;
  guest.netback.setRate({ bytes: 1000, usec: 50_000 });
  guest.send(packet(900));
  const armed = vi.spyOn(clock, "setTimeout");
  // Credit is due at 50 ms. The timer is armed after that time.
  vi.spyOn(clock, "now").mockReturnValue(clock.now() + 60);
  guest.send(packet(900));
  expect(armed.mock.calls.map(([, ms]) => ms)).toEqual([1]);
  vi.restoreAllMocks();
});

test("a packet beyond the credit waits for time, in order, and the others behind it", () => {
  const guest = FakeGuest.connected();
  guest.netback.setRate({ bytes: 1000, usec: 50_000 });
  guest.send(packet(600));
  guest.send(packet(500));
  guest.send(packet(100));
  expect(guest.sent().length).toBe(1);
  guest.host.clock.advance(49);
  guest.netback.tick(guest.host.clock.now());
  expect(guest.sent().length).toBe(0);
  guest.host.clock.advance(1);
  guest.netback.tick(guest.host.clock.now());
  expect(guest.sent().length).toBe(2);
  expect(guest.host.switchPort.frames.map((f) => f.bytes.length)).toEqual([600, 500, 100]);
  expect(guest.inUse.length).toBe(2);
});

test("the smallest rate lets the largest packet go some day", () => {
  let now = 0;
  const credit = new Credit(() => now);
  credit.setRate({ bytes: 10, usec: 1000 });
  let waited = 0;
  while (!credit.take(65_535)) {
    expect(credit.due).toBeGreaterThan(now);
    now = credit.due;
    waited++;
  }
  expect(waited).toBe(Math.ceil((65_535 - 10) / 10));
});

test("what is not used is saved up to a burst, and no further", () => {
  let now = 0;
  const credit = new Credit(() => now);
  credit.setRate({ bytes: 1000, usec: 1000 });
  now = 10_000_000;
  expect(credit.take(131_073)).toBe(false);
  expect(credit.take(131_072)).toBe(true);
  expect(credit.take(1)).toBe(false);
  credit.setRate({ bytes: 500_000, usec: 1000 });
  now += 10_000_000;
  expect(credit.take(500_000)).toBe(true);
});

test("over a long time no more than the rate goes out", () => {
  let now = 0;
  const credit = new Credit(() => now);
  credit.setRate({ bytes: 5000, usec: 50_000 });
  let sent = 0;
  for (let i = 0; i < 20_000; i++) {
    now += 1.7;
    if (credit.take(700)) sent += 700;
  }
  const fair = (now / 50) * 5000;
  expect(sent).toBeLessThanOrEqual(fair + 5000);
  expect(sent).toBeGreaterThan(fair * 0.99);
});

test("without a rate nothing waits; taking it away frees who waits", async () => {
  const guest = FakeGuest.connected();
  guest.send(packet(9000 - 4904));
  expect(guest.sent().length).toBe(1);
  guest.netback.setRate({ bytes: 10, usec: 1_000_000 });
  guest.send(packet(1000));
  expect(guest.sent().length).toBe(0);
  guest.netback.setRate(undefined);
  guest.netback.batchEnd();
  expect(guest.sent().length).toBe(1);
});

test("a queue that waits for credit is disconnected without a trace", () => {
  const guest = FakeGuest.connected();
  guest.netback.setRate({ bytes: 10, usec: 1_000_000 });
  guest.send(packet(1000));
  guest.netback.disconnect();
  expect(guest.inUse).toEqual([]);
  guest.host.clock.advance(1e9);
  guest.netback.tick(guest.host.clock.now());
  expect(guest.host.switchPort.frames).toEqual([]);
  // The rate belongs to the interface and survives a reconnect.
  guest.connect();
  guest.send(packet(1000));
  expect(guest.sent().length).toBe(0);
});
