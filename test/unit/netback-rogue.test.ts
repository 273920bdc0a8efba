/** A frontend that breaks the rules: one test for each row of the table of consequences. */
import { describe, expect, test } from "vitest";
import { index32 } from "../../shared/ring/index32.ts";
import { busAddress } from "../../shared/wire/records.ts";
import { ExtraType, extra, GsoType } from "../../shared/xen/extra.ts";
import { NetifStatus, TX_SLOT_SIZE, TxFlag } from "../../shared/xen/netif.ts";
import type { FrontRing } from "../support/fake-front-ring.ts";
import { FakeGuest } from "../support/fake-guest.ts";
import { PAGE } from "../support/fake-guest-memory.ts";
import { frameOf } from "../support/packets.ts";
import {
  expectAlive,
  expectDisabled,
  pattern,
  piece,
  pieces,
  statuses,
} from "../support/rogue-guest.ts";

describe("a producer index that runs ahead of the ring is fatal", () => {
  const lies: [string, (guest: FakeGuest) => FrontRing, string][] = [
    ["transmit", (guest) => guest.queue().tx, "TX_REQ_PROD"],
    ["control", (guest) => guest.control!.ring, "CTRL_REQ_PROD"],
  ];
  test.each(lies)("%s", (_name, ringOf, code) => {
    for (const ahead of [1, 1000, 2 ** 31, 2 ** 32 - 257]) {
      const guest = FakeGuest.connected({ control: true });
      const ring = ringOf(guest);
      ring.publish(index32(ring.size + ahead));
      guest.netback.batchEnd();
      expectDisabled(guest, code);
    }
  });

  test("receive, when a frame comes", () => {
    const guest = FakeGuest.connected();
    guest.queue().rx.publish(index32(257));
    expect(guest.netback.deliver(frameOf(pattern(60)))).toBe("port_down");
    expectDisabled(guest, "RX_REQ_PROD");
  });

  test("an index that goes back is the same lie", () => {
    const guest = FakeGuest.connected();
    guest.send([piece(60)]);
    guest.queue().tx.publish(index32(0));
    guest.netback.batchEnd();
    expectDisabled(guest, "TX_REQ_PROD");
  });

  test("a ring that is just full is none", () => {
    const guest = FakeGuest.connected();
    for (let i = 0; i < 256; i++) guest.post([piece(60)]);
    guest.kick();
    expect(statuses(guest).length).toBe(256);
    expectAlive(guest);
  });
});

test("20 slots are malicious: fatal, and whatever comes with them", () => {
  for (const count of [20, 21, 40]) {
    const guest = FakeGuest.connected();
    guest.send(pieces(count));
    expectDisabled(guest, "TX_SLOTS_MALICIOUS");
  }
});

test("18 slots are taken; 19 are dropped with an error for each", () => {
  const guest = FakeGuest.connected();
  guest.send(pieces(18));
  expect(statuses(guest)).toEqual(Array(18).fill(NetifStatus.OKAY));
  const { ids } = guest.send(pieces(19));
  const done = guest.sent();
  expect(done.map((d) => d.status)).toEqual(Array(19).fill(NetifStatus.ERROR));
  expect(done.map((d) => d.id)).toEqual(ids);
  expect(guest.host.switchPort.drops.get("tx_malformed")).toBe(1);
  expect(guest.host.takeFaults()).toEqual(["TX_TOO_MANY_SLOTS"]);
  expect(guest.memory.pushes.live).toBe(0);
  expectAlive(guest);
});

test("a packet with more slots than are on the ring is fatal", () => {
  for (const shown of [1, 2, 3]) {
    const guest = FakeGuest.connected();
    guest.post(pieces(4));
    guest.queue().tx.publish(index32(shown));
    guest.netback.batchEnd();
    expectDisabled(guest, "TX_SLOTS_MISSING");
  }
});

test("a piece that crosses its page is fatal, wherever it stands", () => {
  for (let at = 0; at < 5; at++) {
    const guest = FakeGuest.connected();
    const all = pieces(5);
    all[at] = { bytes: pattern(60), offset: 4036, size: 61 };
    guest.send(all);
    expectDisabled(guest, "TX_CROSSES_PAGE");
  }
  const guest = FakeGuest.connected();
  guest.send([{ bytes: pattern(60), offset: 4036 }]);
  expectAlive(guest);
});

describe("extra info that is none is fatal", () => {
  const raw =
    (type: number, more = 0) =>
    (view: DataView, at: number): void => {
      extra.writeHash(view, at, TX_SLOT_SIZE, more, 0, 0, 0);
      view.setUint8(at, type);
    };
  const gso = (size: number, type: number) => (view: DataView, at: number, more: number) =>
    extra.writeGso(view, at, TX_SLOT_SIZE, more, size, type);

  test.each([0, 5, 6, 255])("type %i", (type) => {
    const guest = FakeGuest.connected();
    guest.send([piece(60)], { extras: [raw(type)] });
    expectDisabled(guest, "TX_EXTRA_TYPE");
  });

  test("announced and missing, as the first or as one more", () => {
    const guest = FakeGuest.connected();
    guest.send([piece(60)], { flags: TxFlag.EXTRA_INFO });
    expectDisabled(guest, "TX_EXTRA_MISSING");
    const other = FakeGuest.connected();
    other.send([piece(60)], { extras: [raw(ExtraType.HASH, 1)] });
    expectDisabled(other, "TX_EXTRA_MISSING");
  });

  test("GSO of size 0", () => {
    const guest = FakeGuest.connected();
    guest.send([piece(60)], { extras: [gso(0, GsoType.TCPV4)] });
    expectDisabled(guest, "TX_GSO_SIZE");
  });

  test.each([0, 3, 255])("GSO of type %i", (type) => {
    const guest = FakeGuest.connected();
    guest.send([piece(60)], { extras: [gso(1000, type)] });
    expectDisabled(guest, "TX_GSO_TYPE");
  });

  test("a chain as long as the ring ends with the ring", () => {
    const guest = FakeGuest.connected();
    guest.send([piece(60)], { extras: Array(255).fill(raw(ExtraType.HASH, 1)) });
    expectDisabled(guest, "TX_EXTRA_MISSING");
  });
});

test("a piece longer than what remains of the packet costs the packet", () => {
  const guest = FakeGuest.connected();
  guest.send([piece(60), piece(61)], { total: 60 });
  guest.send([piece(60), piece(30), piece(31)], { total: 60 });
  expect(statuses(guest)).toEqual(Array(5).fill(NetifStatus.ERROR));
  expect(guest.host.takeFaults()).toEqual(["TX_PIECE_TOO_LONG", "TX_PIECE_TOO_LONG"]);
  expectAlive(guest);
});

test("a packet of 64 KiB and more, whose size has overflowed, costs the packet", () => {
  const guest = FakeGuest.connected();
  const all = pieces(17, 4000);
  guest.send(all, { total: (17 * 4000) & 0xffff });
  expect(new Set(statuses(guest))).toEqual(new Set([NetifStatus.ERROR]));
  expectAlive(guest);
});

test("less than an Ethernet header costs the packet", () => {
  const guest = FakeGuest.connected();
  for (const length of [0, 1, 13]) guest.send([piece(length)]);
  guest.send([piece(6), piece(7)]);
  expect(statuses(guest)).toEqual(Array(5).fill(NetifStatus.ERROR));
  expect(guest.host.switchPort.frames).toEqual([]);
  expectAlive(guest);
});

test("a frame longer than the segment takes costs the packet, unless it is to be cut", () => {
  const guest = FakeGuest.connected({ maxFrameBytes: 1518 });
  guest.send([piece(1518)]);
  guest.send([piece(1519)]);
  expect(statuses(guest)).toEqual([NetifStatus.OKAY, NetifStatus.ERROR]);
  expect(guest.host.switchPort.drops.get("too_big")).toBe(1);
});

test("a grant that fails costs the packet, and every piece of it is unwound", () => {
  for (const gref of [9999, 0xffff_ffff, 0]) {
    for (let at = 0; at < 4; at++) {
      const guest = FakeGuest.connected();
      const before = guest.inUse;
      const all = pieces(4);
      all[at] = { bytes: pattern(60), gref };
      guest.send(all);
      expect(statuses(guest)).toEqual(Array(4).fill(NetifStatus.ERROR));
      expect(guest.host.switchPort.drops.get("host_refused")).toBe(1);
      expect(guest.memory.pushes.live).toBe(0);
      expect(guest.inUse).toEqual(before);
      expectAlive(guest);
    }
  }
});

test("a guest that takes nothing: 10 s, then its packets go; 60 s, then its carrier; both come back", () => {
  const guest = FakeGuest.connected();
  const { host, netback } = guest;
  const second = (): void => {
    netback.deliver(frameOf(pattern(60)));
    netback.flush();
    host.clock.advance(1000);
    netback.tick(host.clock.now());
  };
  for (let i = 0; i < 60; i++) second();
  expect(host.switchPort.drops.get("expired")).toBe(50);
  expect(netback.snapshot()).toMatchObject({ stalled: false });
  second();
  expect(netback.snapshot()).toMatchObject({ stalled: true });
  expect(netback.deliver(frameOf(pattern(60)))).toBe("stalled");
  expect(netback.ready(60)).toBe(true);
  expect(host.takeFaults()).toEqual(["RX_STALLED"]);
  guest.postRx(32);
  expect(netback.snapshot()).toMatchObject({ stalled: false });
  // The others are older than a second by now.
  expect(guest.received().length).toBe(1);
  expect(netback.deliver(frameOf(pattern(60)))).toBeUndefined();
});

test("a guest that is slow and takes packets all the time keeps its carrier", () => {
  const guest = FakeGuest.connected();
  for (let second = 0; second < 100; second++) {
    for (let i = 0; i < 3; i++) guest.netback.deliver(frameOf(pattern(5000)));
    guest.netback.flush();
    guest.received();
    guest.postRx(3);
    guest.host.clock.advance(1000);
    guest.netback.tick(guest.host.clock.now());
  }
  expect(guest.host.switchPort.drops.get("expired")).toBeGreaterThan(50);
  expect(guest.netback.snapshot()).toMatchObject({ stalled: false });
});

test("one packet that was too big for the guest's slots is forgotten with the next that is not", () => {
  const guest = FakeGuest.connected();
  guest.postRx(2);
  guest.netback.deliver(frameOf(pattern(9000)));
  guest.host.clock.advance(11_000);
  guest.netback.tick(guest.host.clock.now());
  guest.netback.deliver(frameOf(pattern(60)));
  guest.netback.flush();
  expect(guest.received().length).toBe(1);
  guest.host.clock.advance(70_000);
  guest.netback.tick(guest.host.clock.now());
  expect(guest.netback.snapshot()).toMatchObject({ stalled: false });
});

test("an idle minute is no stall", () => {
  const guest = FakeGuest.connected();
  guest.postRx(1);
  guest.netback.deliver(frameOf(pattern(60)));
  guest.netback.flush();
  expect(guest.received().length).toBe(1);
  guest.host.clock.advance(100_000);
  guest.netback.deliver(frameOf(pattern(60)));
  guest.host.clock.advance(1000);
  guest.netback.tick(guest.host.clock.now());
  expect(guest.netback.snapshot()).toMatchObject({ stalled: false });
});

test("a ring page whose window goes away disables the interface", () => {
  const guest = FakeGuest.connected();
  guest.netback.windowRemoved(busAddress((guest.queue().rx.frame + 1) * PAGE), PAGE);
  expectAlive(guest);
  guest.netback.windowRemoved(busAddress(guest.queue().rx.frame * PAGE), PAGE);
  expectDisabled(guest, "RING_WINDOW_GONE");
});
