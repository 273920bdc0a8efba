/** Xen's security advisories about network backends, one test for each number. */

import { expect, test } from "vitest";
import { Verdict } from "../../device/switch/port.ts";
import { advance, index32 } from "../../shared/ring/index32.ts";
import { extra, GsoType } from "../../shared/xen/extra.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { NetifStatus, TX_SLOT_SIZE, TxFlag, txRequest } from "../../shared/xen/netif.ts";
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
  turn,
} from "../support/rogue-guest.ts";

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

test("fault-F1 XSA-155 slots that change while their packet waits change nothing", async () => {
  const guest = FakeGuest.connected();
  const { tx } = guest.queue();
  const other = guest.buffer(pattern(60, 99));
  const { ids } = guest.send(pieces(3), { push: false });
  for (let i = 0; i < 3; i++) {
    const at = tx.at(index32(i));
    txRequest.write(tx.view, at, grantRef(other), 50, TxFlag.MORE_DATA, 0xdead, 4000);
    tx.copy(at, TX_SLOT_SIZE);
  }
  guest.memory.answerNow();
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
  const turns = (): number => guest.events.counts.turns;
  const before = turns();
  for (let i = 0; i < 1000; i++) {
    guest.notify(txPort);
    guest.netback.batchEnd();
    guest.host.clock.advance(1);
    guest.events.tick(guest.host.clock.now());
  }
  expect(turns() - before).toBeLessThan(50);
  expect(guest.fatals).toEqual([]);

  const honest = FakeGuest.connected();
  const start = honest.events.counts.turns;
  for (let i = 0; i < 200; i++) {
    honest.post([piece(60)]);
    honest.queue().tx.publish();
    honest.notify(honest.queue().txPort);
    honest.netback.batchEnd();
  }
  expect(honest.events.counts.turns - start).toBe(200);
  expect(honest.events.counts.delayed).toBe(0);
});

test("XSA-374 disabled is entered once, and no work is done after", async () => {
  const guest = FakeGuest.connected({ queues: 2, control: true });
  // In queue 1 a packet waits for a read; in queue 0 a good packet precedes a fatal one.
  guest.send(pieces(3), { queue: 1, push: false });
  const late = guest.memory.reads.slice();
  guest.onFatal = () => {
    // The handler takes the interface down at once, within the call.
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
  for (const read of late) read.answer();
  guest.host.switchPort.onReady?.();
  guest.notify(guest.queue(0).txPort);
  guest.queue(1).tx.publish(advance(index32(0), 9999));
  guest.netback.batchEnd();
  guest.netback.tick(1e9);
  guest.netback.writableAgain();
  guest.netback.setRate({ bytes: 1, usec: 1 });
  guest.netback.setRate(undefined);
  guest.netback.fatal("LATE", "a rule broken in what was released");
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
  guest.memory.push(guest.buffer(pattern(60)) * PAGE, 60);
  guest.netback.batchEnd();
  expect(guest.memory.pushes.live).toBe(0);
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
    host.clock.advance(1000);
    netback.tick(host.clock.now());
  }
  expect(netback.snapshot()).toMatchObject({ stalled: true });
  // A single slot does not restore the carrier either.
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
  // The drop handler delivers again at once.
  switchPort.drop = () => {
    drops++;
    guest.netback.deliver(frame);
  };
  switchPort.roomAgain = () => {
    guest.netback.ready(9000);
    guest.netback.deliver(frame);
  };
  let queued = 0;
  while (guest.netback.deliver(frame) === undefined) queued++;
  expect(guest.netback.ready(9000)).toBe(false);
  guest.host.clock.advance(10_001);
  guest.netback.tick(guest.host.clock.now());
  expect(drops).toBe(queued);
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
  const nothing = new Uint8Array(0);
  // One piece without a grant, and one whose grant must not stay in use.
  guest.send([piece(60), { bytes: nothing, gref: 9999 }, { bytes: nothing }, piece(60)], {
    push: false,
  });
  guest.memory.answerNow();
  await turn();
  guest.host.switchPort.verdict = Verdict.DONE;
  guest.host.switchPort.onReady?.();
  await turn();
  expect(statuses(guest)).toEqual([0, 0, 0, 0]);
  expect(guest.inUse.length).toBe(2);
});
