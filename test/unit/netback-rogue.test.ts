/**
 * A frontend that breaks the rules, one row of the table of what is done about it a test, and the
 * advisories that taught those rules.
 */
import { describe, expect, test } from "vitest";
import { Verdict } from "../../device/switch/port.ts";
import { advance, index32 } from "../../shared/ring/index32.ts";
import { EvtchnStatus } from "../../shared/xen/event-channel.ts";
import { ExtraType, extra, GsoType } from "../../shared/xen/extra.ts";
import { NetifStatus, TX_SLOT_SIZE, TxFlag, txRequest } from "../../shared/xen/netif.ts";
import { FakeGuest, type FrontRing, GUEST, type Piece } from "../support/fake-guest.ts";
import { PAGE } from "../support/fake-guest-host.ts";
import { settle } from "../support/fake-host.ts";
import { frameOf } from "../support/packets.ts";

const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

/** A page-aligned piece of `length` bytes. */
const piece = (length: number, seed = 1): Piece => ({ bytes: pattern(length, seed) });

const pieces = (count: number, length = 60): Piece[] =>
  Array.from({ length: count }, (_, i) => piece(length, i));

const statuses = (guest: FakeGuest): number[] => guest.sent().map((done) => done.status);

async function turn(): Promise<void> {
  await settle();
  await settle();
}

/** The interface is disabled for this reason, said once, and holds nothing any more. */
function expectDisabled(guest: FakeGuest, code: string): void {
  expect(guest.takeFatals()).toEqual([code]);
  expect(guest.netback.connected).toBe(false);
  expect(guest.inUse).toEqual([]);
  expect(guest.memory.pushes).toEqual([]);
  expect(guest.memory.reads).toEqual([]);
  for (const { txPort, rxPort } of guest.queues) {
    for (const port of [txPort, rxPort]) {
      expect(guest.events.status(GUEST, GUEST, port)).toMatchObject({
        status: EvtchnStatus.UNBOUND,
      });
    }
  }
}

/** The interface serves as if nothing had been. */
function expectAlive(guest: FakeGuest): void {
  expect(guest.fatals).toEqual([]);
  const { frames } = guest.host.switchPort;
  const before = frames.length;
  guest.sent();
  guest.send([piece(77)]);
  expect(statuses(guest)).toEqual([NetifStatus.OKAY]);
  expect(frames.slice(before).map((f) => f.bytes)).toEqual([pattern(77)]);
}

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
  expect(guest.memory.pushes).toEqual([]);
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
      expect(guest.memory.pushes).toEqual([]);
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
    host.clock += 1000;
    netback.tick(host.clock);
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
  expect(guest.received().length).toBe(10);
  expect(netback.deliver(frameOf(pattern(60)))).toBeUndefined();
});

test("a guest that is slow and takes packets all the time keeps its carrier", () => {
  const guest = FakeGuest.connected();
  for (let second = 0; second < 100; second++) {
    for (let i = 0; i < 3; i++) guest.netback.deliver(frameOf(pattern(5000)));
    guest.netback.flush();
    guest.received();
    guest.postRx(3);
    guest.host.clock += 1000;
    guest.netback.tick(guest.host.clock);
  }
  expect(guest.host.switchPort.drops.get("expired")).toBeGreaterThan(50);
  expect(guest.netback.snapshot()).toMatchObject({ stalled: false });
});

test("one packet that was too big for the guest's slots is forgotten with the next that is not", () => {
  const guest = FakeGuest.connected();
  guest.postRx(2);
  guest.netback.deliver(frameOf(pattern(9000)));
  guest.host.clock += 11_000;
  guest.netback.tick(guest.host.clock);
  guest.netback.deliver(frameOf(pattern(60)));
  guest.netback.flush();
  expect(guest.received().length).toBe(1);
  guest.host.clock += 70_000;
  guest.netback.tick(guest.host.clock);
  expect(guest.netback.snapshot()).toMatchObject({ stalled: false });
});

test("an idle minute is no stall", () => {
  const guest = FakeGuest.connected();
  guest.postRx(1);
  guest.netback.deliver(frameOf(pattern(60)));
  guest.netback.flush();
  expect(guest.received().length).toBe(1);
  guest.host.clock += 100_000;
  guest.netback.deliver(frameOf(pattern(60)));
  guest.host.clock += 1000;
  guest.netback.tick(guest.host.clock);
  expect(guest.netback.snapshot()).toMatchObject({ stalled: false });
});

test("a ring page whose window goes away disables the interface", () => {
  const guest = FakeGuest.connected();
  guest.netback.windowRemoved((guest.queue().rx.frame + 1) * PAGE, PAGE);
  expectAlive(guest);
  guest.netback.windowRemoved(guest.queue().rx.frame * PAGE, PAGE);
  expectDisabled(guest, "RING_WINDOW_GONE");
});

describe("advisories", () => {
  test("XSA-155 each byte of a slot is read once", () => {
    const reads = new Map<number, number>();
    const seen = (at: number, bytes: number): void => {
      for (let i = at; i < at + bytes; i++) reads.set(i, (reads.get(i) ?? 0) + 1);
    };
    const counting = (view: DataView): DataView => {
      const { getUint8, getUint16, getUint32 } = view;
      view.getUint8 = (at) => {
        seen(at, 1);
        return getUint8.call(view, at);
      };
      view.getUint16 = (at, le) => {
        seen(at, 2);
        return getUint16.call(view, at, le);
      };
      view.getUint32 = (at, le) => {
        seen(at, 4);
        return getUint32.call(view, at, le);
      };
      return view;
    };
    const guest = new FakeGuest();
    const { memory } = guest;
    const addWindow = memory.addWindow.bind(memory);
    memory.addWindow = (frame) => {
      addWindow(frame);
      const window = memory.windows.pop()!;
      memory.windows.push({ ...window, view: counting(window.view) });
    };
    guest.connect();
    guest.post(pieces(18), {
      flags: TxFlag.DATA_VALIDATED,
      extras: [
        (view, at, more) => extra.writeHash(view, at, TX_SLOT_SIZE, more, 1, 1, 5),
        (view, at, more) => extra.writeGso(view, at, TX_SLOT_SIZE, more, 9000, GsoType.TCPV4),
      ],
    });
    guest.post(pieces(19));
    reads.clear();
    guest.kick();
    const slots = [...reads].filter(([at]) => at >= 64);
    expect(slots.length).toBeGreaterThan(37 * 8);
    expect(slots.filter(([, n]) => n > 1)).toEqual([]);
  });

  test("XSA-155 slots that change while their packet waits change nothing", async () => {
    const guest = FakeGuest.connected();
    const { tx } = guest.queue();
    const other = guest.buffer(pattern(60, 99));
    const { ids } = guest.send(pieces(3), { push: false });
    for (let i = 0; i < 3; i++) {
      const at = tx.at(index32(i));
      txRequest.write(tx.view, at, other, 50, TxFlag.MORE_DATA, 0xdead, 4000);
      tx.copy(at, TX_SLOT_SIZE);
    }
    guest.memory.answerReads();
    await turn();
    expect(guest.sent().map((d) => d.id)).toEqual(ids);
    expect(guest.host.switchPort.frames.map((f) => f.bytes)).toEqual([
      Uint8Array.from([...pattern(60, 0), ...pattern(60, 1), ...pattern(60, 2)]),
    ]);
  });

  test("XSA-216 what a response does not need of its slot is zero", () => {
    const guest = FakeGuest.connected();
    guest.send([piece(60), piece(60)], {
      extras: [(view, at, more) => extra.writeHash(view, at, TX_SLOT_SIZE, more, 1, 1, 0x5a5a5a5a)],
    });
    guest.send(pieces(19));
    for (const { rest } of guest.sent()) expect(rest).toEqual(new Uint8Array(8));
  });

  test("XSA-332 spurious events wait longer and longer, honest ones never", () => {
    const guest = FakeGuest.connected();
    const { txPort } = guest.queue();
    const turns = (): number => guest.events.snapshot()["turns"] as number;
    const before = turns();
    for (let i = 0; i < 1000; i++) {
      guest.notify(txPort);
      guest.netback.batchEnd();
      guest.host.clock += 1;
      guest.events.tick(guest.host.clock);
    }
    expect(turns() - before).toBeLessThan(50);
    expect(guest.fatals).toEqual([]);

    const honest = FakeGuest.connected();
    const start = honest.events.snapshot()["turns"] as number;
    for (let i = 0; i < 200; i++) {
      honest.post([piece(60)]);
      honest.queue().tx.publish();
      honest.notify(honest.queue().txPort);
      honest.netback.batchEnd();
    }
    expect((honest.events.snapshot()["turns"] as number) - start).toBe(200);
    expect(honest.events.snapshot()["delayed"]).toBe(0);
  });

  test("XSA-374 disabled is entered once, and no work is done after", async () => {
    const guest = FakeGuest.connected({ queues: 2, control: true });
    // Queue 1 has a packet that waits for a read, queue 0 a good one ahead of a fatal one.
    guest.send(pieces(3), { queue: 1, push: false });
    const late = guest.memory.reads.slice();
    guest.onFatal = () => {
      // Whoever is told takes the interface down at once, from within.
      guest.netback.disconnect();
      guest.netback.disconnect();
    };
    guest.post([piece(60)]);
    guest.post([{ bytes: pattern(6), offset: 4090, size: 60 }], { total: 60 });
    guest.post([piece(61)]);
    guest.kick();
    expectDisabled(guest, "TX_CROSSES_PAGE");
    const frames = guest.host.switchPort.frames.length;
    guest.takePosted();
    for (const read of late) read.resolve(pattern(60));
    guest.host.switchPort.onReady?.();
    guest.notify(guest.queue(0).txPort);
    guest.queue(1).tx.publish(advance(index32(0), 9999));
    guest.netback.batchEnd();
    guest.netback.tick(1e9);
    guest.netback.writableAgain();
    guest.netback.setRate({ bytes: 1, usec: 1 });
    guest.netback.setRate(undefined);
    expect(guest.netback.deliver(frameOf(pattern(60)))).toBe("port_down");
    guest.netback.flush();
    await turn();
    expect(guest.fatals).toEqual([]);
    expect(guest.takePosted()).toEqual([]);
    expect(guest.host.switchPort.frames.length).toBe(frames);
  });

  test("XSA-374 what is pushed to a disabled interface is not kept, and it can connect anew", () => {
    const guest = FakeGuest.connected();
    guest.queue().tx.publish(index32(1000));
    guest.netback.batchEnd();
    expectDisabled(guest, "TX_REQ_PROD");
    guest.memory.push(guest.buffer(pattern(60)), 0, 60);
    guest.netback.batchEnd();
    expect(guest.memory.pushes).toEqual([]);
    guest.netback.disconnect();
    expect(guest.connect()).toBeUndefined();
    expectAlive(guest);
  });

  test("XSA-374 a fatal receive ring met from within another's frame", () => {
    const guest = FakeGuest.connected({ queues: 2 });
    guest.netback.deliver(frameOf(pattern(60)));
    guest.queue(0).rx.publish(index32(1000));
    guest.queue(1).rx.publish(index32(1000));
    guest.post([piece(60)], { queue: 1 });
    guest.kick(1);
    expectDisabled(guest, "RX_REQ_PROD");
    expect(guest.host.switchPort.frames).toEqual([]);
  });

  test("XSA-392 one slot at a time, for packets of two, is no progress", () => {
    const guest = FakeGuest.connected();
    const { host, netback } = guest;
    guest.postRx(1);
    for (let second = 0; second < 61; second++) {
      netback.deliver(frameOf(pattern(5000)));
      netback.flush();
      host.clock += 1000;
      netback.tick(host.clock);
    }
    expect(netback.snapshot()).toMatchObject({ stalled: true });
    // Nor does one slot bring the carrier back.
    guest.queue().rx.publish();
    netback.batchEnd();
    expect(netback.snapshot()).toMatchObject({ stalled: true });
    guest.postRx(1);
    expect(netback.snapshot()).toMatchObject({ stalled: false });
  });

  test("XSA-423 XSA-432 the first 128 bytes lie in one span, however they were split", () => {
    const splits: number[][] = [
      Array(18).fill(1),
      [...Array(17).fill(1), 4000],
      [...Array(17).fill(1), 111],
      [1, 4000],
      [13, 1, 14, 20, 20, 60, 1],
      [127, 1],
      [127, 2],
      [128, 1],
      [64, 64, 64],
      [0, 0, 5, 0, 200],
    ];
    for (const split of splits) {
      const guest = FakeGuest.connected();
      const firsts: number[] = [];
      const { switchPort } = guest.host;
      const input = switchPort.input.bind(switchPort);
      switchPort.input = (frame) => {
        firsts.push(frame.lengths[0]!);
        return input(frame);
      };
      const length = split.reduce((sum, n) => sum + n, 0);
      const bytes = pattern(length);
      let at = 0;
      guest.send(
        split.map((n) => {
          at += n;
          return { bytes: bytes.subarray(at - n, at), offset: (at * 3) % 90 };
        }),
      );
      expect(statuses(guest)).toEqual(split.map(() => NetifStatus.OKAY));
      expect(switchPort.frames.map((f) => f.bytes)).toEqual([bytes]);
      expect(firsts[0]).toBeGreaterThanOrEqual(Math.min(length, 128));
    }
  });

  test("XSA-424 a drop leads nowhere that leads back to it", () => {
    const guest = FakeGuest.connected();
    const { switchPort } = guest.host;
    const frame = frameOf(pattern(9000));
    let drops = 0;
    // Who hears of a drop tries again at once.
    switchPort.drop = () => {
      drops++;
      guest.netback.deliver(frame);
    };
    switchPort.roomAgain = () => {
      guest.netback.ready(9000);
      guest.netback.deliver(frame);
    };
    while (guest.netback.deliver(frame) === undefined);
    expect(guest.netback.ready(9000)).toBe(false);
    guest.host.clock += 10_001;
    guest.netback.tick(guest.host.clock);
    expect(drops).toBe(58);
    guest.postRx(6);
    expect(guest.received().length).toBe(2);
    expectAlive(guest);
  });

  test("XSA-448 a piece of no bytes is nothing, in each position, and needs no grant", () => {
    for (let at = 0; at < 5; at++) {
      const guest = FakeGuest.connected();
      const all = pieces(5);
      all[at] = { bytes: new Uint8Array(0), gref: 9999 };
      const spans: number[] = [];
      const { switchPort } = guest.host;
      const input = switchPort.input.bind(switchPort);
      switchPort.input = (frame) => {
        for (let i = 0; i < frame.count; i++) spans.push(frame.lengths[i]!);
        return input(frame);
      };
      guest.send(all);
      expect(statuses(guest)).toEqual(Array(5).fill(NetifStatus.OKAY));
      const whole = all.flatMap((p) => [...p.bytes]);
      expect(switchPort.frames.map((f) => [...f.bytes])).toEqual([whole]);
      expect(spans).not.toContain(0);
    }
    const guest = FakeGuest.connected();
    guest.send(Array.from({ length: 18 }, () => ({ bytes: new Uint8Array(0), gref: 9999 })));
    expect(statuses(guest)).toEqual(Array(18).fill(NetifStatus.ERROR));
    expectAlive(guest);
  });

  test("XSA-448 a piece of no bytes in a packet that is held or read", async () => {
    const guest = FakeGuest.connected();
    guest.host.switchPort.verdict = Verdict.HELD;
    guest.send([piece(60), { bytes: new Uint8Array(0), gref: 9999 }, piece(60)], { push: false });
    guest.memory.answerReads();
    await turn();
    guest.host.switchPort.verdict = Verdict.DONE;
    guest.host.switchPort.onReady?.();
    await turn();
    expect(statuses(guest)).toEqual([0, 0, 0]);
    expect(guest.inUse.length).toBe(2);
  });
});
