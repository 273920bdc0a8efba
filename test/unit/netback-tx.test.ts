import { describe, expect, test } from "vitest";
import { grantPush } from "../../device/dma/host-memory.ts";
import { Verdict } from "../../device/switch/port.ts";
import { Gso } from "../../shared/net/frame.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { ExtraType, extra, GsoType } from "../../shared/xen/extra.ts";
import { grantAddress, grantRef } from "../../shared/xen/grant.ts";
import { NetifStatus, TX_SLOT_SIZE, TxFlag } from "../../shared/xen/netif.ts";
import { FakeGuest } from "../support/fake-guest.ts";
import { settle } from "../support/fake-host.ts";
import { buildPacket, plainSum, pseudoHeader } from "../support/packets.ts";

const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

/** Runs promises, and work deferred to the next turn of the event loop. */
async function turn(): Promise<void> {
  await settle();
  await settle();
}

const gsoExtra =
  (size: number, type: number) =>
  (view: DataView, at: number, more: number): void =>
    extra.writeGso(view, at, TX_SLOT_SIZE, more, size, type);

const mcast =
  (type: number, last: number) =>
  (view: DataView, at: number, more: number): void =>
    extra.writeMcast(view, at, TX_SLOT_SIZE, more, type, Uint8Array.of(1, 0, 0x5e, 0, 0, last), 0);

const statuses = (guest: FakeGuest): number[] => guest.sent().map((done) => done.status);

describe.each([
  ["from the start", 0],
  ["across the wrap of the index", 2 ** 32 - 3],
  ["across the sign bit", 2 ** 31 - 3],
])("packets of one and several slots, %s", (_name, start) => {
  test("arrive whole and are answered, contents before index", () => {
    const guest = FakeGuest.connected({ start });
    const { frames } = guest.host.switchPort;
    const bytes = pattern(9000);
    const a = guest.post([{ bytes: pattern(60), offset: 100 }]);
    const b = guest.post([
      { bytes: bytes.subarray(0, 4096) },
      { bytes: bytes.subarray(4096, 8000), offset: 192 },
      { bytes: bytes.subarray(8000) },
    ]);
    guest.takePosted();
    guest.kick();
    expect(frames.map((f) => f.bytes)).toEqual([pattern(60), bytes]);
    const done = guest.sent();
    expect(done.map((d) => d.id)).toEqual([...a.ids, ...b.ids]);
    expect(done.map((d) => d.status)).toEqual([0, 0, 0, 0]);
    expect(guest.memory.pushes.live).toBe(0);
    const types = guest.takePosted().map((p) => (p.kind === "write" ? p.type : p.kind));
    // The write is split at the end of the ring.
    const slots = types.filter((type) => type === RecordType.XEN_TX_RSP);
    expect(slots.length).toBe(start === 0 ? 1 : 2);
    // Order: slots, then the index, then the event.
    expect(types.lastIndexOf(RecordType.XEN_TX_RSP)).toBeLessThan(
      types.lastIndexOf(RecordType.XEN_RING_INDEX),
    );
    expect(types.at(-1)).toBe("event");
    expect(guest.memory.violations).toEqual([]);
    expect(guest.host.takeFaults()).toEqual([]);
  });
});

test("the ring goes round many times with everything answered", () => {
  const guest = FakeGuest.connected({ start: 2 ** 32 - 1000 });
  for (let turn = 0; turn < 40; turn++) {
    for (let i = 0; i < 64; i++) guest.post([{ bytes: pattern(60, i) }]);
    guest.kick();
    const done = guest.sent();
    expect(done.length).toBe(64);
    for (const grefs of [...guest.memory.entries.keys()].slice(2)) guest.end(grefs);
  }
  expect(guest.host.switchPort.frames.length).toBe(40 * 64);
  expect(guest.fatals).toEqual([]);
});

test("an event is only sent when the guest asked for one, and one is asked of it when idle", () => {
  const guest = FakeGuest.connected();
  const { tx } = guest.queue();
  tx.arm(tx.rspCons); // An index already passed.
  guest.takePosted();
  guest.send([{ bytes: pattern(60) }]);
  expect(guest.takePosted().filter((p) => p.kind === "event")).toEqual([]);
  expect(tx.reqEvent).toBe(2);
  tx.arm();
  guest.sent();
  guest.send([{ bytes: pattern(60) }]);
  expect(guest.takePosted().filter((p) => p.kind === "event").length).toBe(0);
  guest.sent();
  tx.arm();
  guest.send([{ bytes: pattern(60) }]);
  expect(guest.takePosted().at(-1)).toEqual({ kind: "event", port: guest.queue().txPort });
});

test("a batch with nothing for us posts nothing; one with work flushes switch and link", () => {
  const guest = FakeGuest.connected();
  guest.send([{ bytes: pattern(60) }]);
  guest.takePosted();
  const { flushes } = guest.host;
  guest.netback.batchEnd();
  expect(guest.takePosted()).toEqual([]);
  expect(guest.host.flushes).toBe(flushes);
  const ofSwitch = guest.host.switchPort.flushes;
  guest.send([{ bytes: pattern(60) }]);
  expect(guest.host.flushes).toBe(flushes + 1);
  expect(guest.host.switchPort.flushes).toBe(ofSwitch + 1);
});

test("requests that crossed with the wish for an event are taken when their batch ends", () => {
  const guest = FakeGuest.connected();
  guest.post([{ bytes: pattern(60) }]);
  guest.queue().tx.publish();
  // No event: the guest published before it saw our request for one.
  guest.netback.batchEnd();
  expect(statuses(guest)).toEqual([NetifStatus.OKAY]);
});

describe("one push in the pages of several references", () => {
  const PAGE = 4096;

  /** Grants pages that hold these bytes, in consecutive references. Returns the first. */
  function granted(guest: FakeGuest, bytes: Uint8Array): number {
    const refs: number[] = [];
    for (let at = 0; at < bytes.length; at += PAGE) {
      refs.push(guest.buffer(bytes.subarray(at, at + PAGE)));
    }
    return refs[0]!;
  }
  const slots = (first: number, bytes: Uint8Array) =>
    Array.from({ length: Math.ceil(bytes.length / PAGE) }, (_, i) => ({
      bytes: bytes.subarray(i * PAGE, (i + 1) * PAGE),
      gref: first + i,
    }));
  const pushAll = (guest: FakeGuest, first: number, bytes: Uint8Array): void => {
    const { pushes } = guest.memory;
    pushes.add(grantPush(grantAddress(grantRef(first), 0)), bytes.slice(), 0, bytes.length);
  };

  test("is one packet's: found for each slot without a search, and released once", () => {
    const guest = FakeGuest.connected();
    const bytes = pattern(9000);
    const first = granted(guest, bytes);
    pushAll(guest, first, bytes);
    guest.send(slots(first, bytes), { push: false });
    expect(guest.host.switchPort.frames.map((f) => f.bytes)).toEqual([bytes]);
    expect(statuses(guest)).toEqual([0, 0, 0]);
    const { live, searches, misses } = guest.memory.pushes;
    expect([live, searches, misses]).toEqual([0, 0, 0]);
  });

  test("is two packets': the second keeps its bytes when the first is answered", () => {
    const guest = FakeGuest.connected();
    const bytes = pattern(4 * PAGE);
    const first = granted(guest, bytes);
    pushAll(guest, first, bytes);
    guest.send(slots(first, bytes.subarray(0, 2 * PAGE)), { push: false });
    expect(guest.memory.pushes.bytes).toBe(2 * PAGE);
    guest.send(slots(first + 2, bytes.subarray(2 * PAGE)), { push: false });
    expect(guest.host.switchPort.frames.map((f) => f.bytes)).toEqual([
      bytes.subarray(0, 2 * PAGE),
      bytes.subarray(2 * PAGE),
    ]);
    const { live, bytes: left, misses } = guest.memory.pushes;
    expect([live, left, misses]).toEqual([0, 0, 0]);
    expect(guest.memory.reads).toEqual([]);
  });

  test("saves no check: a page that is not granted costs the packet", () => {
    const guest = FakeGuest.connected();
    const bytes = pattern(9000);
    const first = granted(guest, bytes);
    pushAll(guest, first, bytes);
    guest.end(first + 1);
    guest.send(slots(first, bytes), { push: false });
    expect(guest.host.switchPort.frames).toEqual([]);
    expect(guest.host.takeFaults()).toEqual(["TX_GRANT_REFUSED"]);
    expect(statuses(guest)).toEqual([-1, -1, -1]);
    expect(guest.memory.pushes.live).toBe(0);
  });

  test("and pushes of its own for each slot, with one missing, leave nothing behind", async () => {
    const guest = FakeGuest.connected();
    const bytes = pattern(9000);
    const first = granted(guest, bytes);
    guest.memory.push((first + 1) * PAGE, PAGE);
    guest.memory.push((first + 2) * PAGE, 9000 - 2 * PAGE);
    guest.send(slots(first, bytes), { push: false });
    guest.memory.answerNow();
    await turn();
    expect(guest.host.switchPort.frames.map((f) => f.bytes)).toEqual([bytes]);
    expect(guest.memory.pushes.live).toBe(0);
  });
});

test("bytes that were not pushed are read under a pin that ends before the response", async () => {
  const guest = FakeGuest.connected({ queues: 2 });
  const { frames } = guest.host.switchPort;
  guest.takePosted();
  const { grefs } = guest.send([{ bytes: pattern(500) }, { bytes: pattern(400, 9) }], {
    push: false,
  });
  guest.send([{ bytes: pattern(60) }]);
  guest.send([{ bytes: pattern(70) }], { queue: 1 });
  expect(frames.map((f) => f.bytes.length)).toEqual([70]);
  expect(statuses(guest)).toEqual([]);
  expect(guest.end(grefs[0]!)).toBe(false);
  const before = guest.takePosted();
  expect(before.findIndex((p) => p.kind === "use")).toBeLessThan(
    before.findIndex((p) => p.kind === "read"),
  );
  guest.memory.answerNow();
  await turn();
  expect(frames.map((f) => f.bytes.length)).toEqual([70, 900, 60]);
  expect(frames[1]!.bytes).toEqual(Uint8Array.from([...pattern(500), ...pattern(400, 9)]));
  const after = guest.takePosted();
  const uses = after.flatMap((p, i) => (p.kind === "use" ? [i] : []));
  expect(uses.length).toBe(2);
  expect(Math.max(...uses)).toBeLessThan(
    after.findIndex((p) => p.kind === "write" && p.type === RecordType.XEN_TX_RSP),
  );
  expect(statuses(guest)).toEqual([0, 0, 0]);
  expect(guest.end(grefs[0]!)).toBe(true);
});

test("a refused read costs that packet, which is answered all the same", async () => {
  const guest = FakeGuest.connected();
  guest.send([{ bytes: pattern(100) }, { bytes: pattern(100) }], { push: false });
  guest.send([{ bytes: pattern(60) }]);
  for (const read of guest.memory.reads.splice(0)) read.refuse();
  await turn();
  expect(guest.host.switchPort.frames.map((f) => f.bytes.length)).toEqual([60]);
  expect(statuses(guest)).toEqual([NetifStatus.ERROR, NetifStatus.ERROR, NetifStatus.OKAY]);
  expect(guest.host.switchPort.drops.get("host_refused")).toBe(1);
  expect(guest.host.takeFaults()).toEqual(["TX_READ_REFUSED"]);
  expect(guest.memory.pushes.live).toBe(0);
});

test("the queue counts packets, bytes, drops and reads, a packet being one of several slots", async () => {
  const guest = FakeGuest.connected();
  guest.send([{ bytes: pattern(100) }, { bytes: pattern(50) }]);
  guest.send([{ bytes: pattern(60) }], { push: false });
  guest.memory.answerNow();
  await turn();
  guest.send([{ bytes: pattern(13) }]);
  guest.send([{ bytes: pattern(100), gref: 9999 }, { bytes: pattern(50) }]);
  const { tx } = guest.netback.snapshot()!.queues![0]!;
  expect(tx).toMatchObject({ packets: 2, bytes: 210, drops: 2, reads: 1, creditWaits: 0 });
});

test("a held packet pins its grants until there is room, and keeps its bytes", async () => {
  const guest = FakeGuest.connected();
  const port = guest.host.switchPort;
  port.verdict = Verdict.HELD;
  const { grefs } = guest.send([{ bytes: pattern(60) }]);
  guest.send([{ bytes: pattern(61) }]);
  expect(statuses(guest)).toEqual([]);
  expect(guest.inUse).toContain(grefs[0]);
  expect(guest.end(grefs[0]!)).toBe(false);
  // The transport reuses the message's memory.
  guest.memory.reuseMessage();
  port.verdict = Verdict.DONE;
  port.onReady?.();
  await turn();
  expect(port.frames.map((f) => f.bytes)).toEqual([pattern(60), pattern(61)]);
  expect(statuses(guest)).toEqual([0, 0]);
  expect(guest.end(grefs[0]!)).toBe(true);
});

test("disconnecting while a packet is read or held frees every use and answers nothing", async () => {
  for (const how of ["read", "held"] as const) {
    const guest = FakeGuest.connected();
    if (how === "held") guest.host.switchPort.verdict = Verdict.HELD;
    guest.send([{ bytes: pattern(60) }, { bytes: pattern(61) }], { push: how === "held" });
    guest.post([{ bytes: pattern(80) }]);
    expect(guest.inUse.length).toBe(4);
    guest.netback.disconnect();
    expect(guest.inUse).toEqual([]);
    expect(guest.memory.pushes.live).toBe(0);
    guest.host.switchPort.verdict = Verdict.DONE;
    guest.host.switchPort.onReady?.();
    await turn();
    expect(statuses(guest)).toEqual([]);
    expect(guest.host.switchPort.frames).toEqual([]);
    expect(guest.connect()).toBeUndefined();
    guest.send([{ bytes: pattern(90) }]);
    expect(statuses(guest)).toEqual([0]);
  }
});

test("a backlogged link stops the queues until it is writable", () => {
  const guest = FakeGuest.connected();
  guest.host.backlogged = true;
  guest.send([{ bytes: pattern(60) }]);
  expect(guest.host.switchPort.frames).toEqual([]);
  guest.host.backlogged = false;
  guest.netback.writableAgain();
  expect(statuses(guest)).toEqual([0]);
});

describe("offloads", () => {
  test.each([
    ["TCP over IPv4", { v6: false, protocol: 6 }, 16],
    ["UDP over IPv4", { v6: false, protocol: 17 }, 6],
    ["TCP over IPv6", { v6: true, protocol: 6 }, 16],
    ["UDP over IPv6", { v6: true, protocol: 17 }, 6],
  ] as const)("a blank checksum of %s becomes a fact of the frame", (_name, kind, offset) => {
    const guest = FakeGuest.connected();
    const built = buildPacket({ ...kind, checksum: "partial", payload: pattern(200) });
    // The header is cut in two, at awkward places.
    guest.send(
      [
        { bytes: built.bytes.subarray(0, 20) },
        { bytes: built.bytes.subarray(20, 37) },
        { bytes: built.bytes.subarray(37) },
      ],
      { flags: TxFlag.CSUM_BLANK | TxFlag.DATA_VALIDATED },
    );
    const [frame] = guest.host.switchPort.frames;
    expect(frame).toMatchObject({
      needsCsum: true,
      csumStart: built.l4,
      csumOffset: offset,
      csumValid: true,
      gso: Gso.NONE,
    });
    expect(frame!.bytes).toEqual(built.bytes);
    expect(statuses(guest)).toEqual([0, 0, 0]);
  });

  test("data_validated alone is passed on as such", () => {
    const guest = FakeGuest.connected();
    guest.send([{ bytes: buildPacket({}).bytes }], { flags: TxFlag.DATA_VALIDATED });
    guest.send([{ bytes: buildPacket({}).bytes }]);
    const { frames } = guest.host.switchPort;
    expect(frames.map((f) => [f.needsCsum, f.csumValid])).toEqual([
      [false, true],
      [false, false],
    ]);
  });

  test.each([
    ["IPv4", false, GsoType.TCPV4, Gso.TCPV4],
    ["IPv6", true, GsoType.TCPV6, Gso.TCPV6],
  ] as const)(
    "GSO over %s: extra info becomes facts, and its slot is answered with NULL",
    (_name, v6, type, gso) => {
      const guest = FakeGuest.connected();
      const built = buildPacket({ v6, checksum: "partial", payload: pattern(12_000) });
      const pieces = [0, 4000, 8000].map((from) => ({
        bytes: built.bytes.subarray(from, from === 8000 ? undefined : from + 4000),
      }));
      // The last piece is longer than a page.
      const last = pieces.pop()!.bytes;
      pieces.push({ bytes: last.subarray(0, 4000) }, { bytes: last.subarray(4000) });
      guest.send(pieces, {
        flags: TxFlag.CSUM_BLANK | TxFlag.DATA_VALIDATED,
        extras: [gsoExtra(1448, type)],
      });
      const [frame] = guest.host.switchPort.frames;
      expect(frame).toMatchObject({
        gso,
        gsoSize: 1448,
        headerLength: built.payload,
        needsCsum: true,
        csumStart: built.l4,
      });
      expect(frame!.bytes).toEqual(built.bytes);
      expect(statuses(guest)).toEqual([0, NetifStatus.NULL, 0, 0, 0]);
    },
  );

  test.each([
    ["IPv4", {}, GsoType.TCPV4],
    ["IPv4 with options", { ipOptions: Uint8Array.of(1, 1, 1, 0) }, GsoType.TCPV4],
    ["IPv6", { v6: true }, GsoType.TCPV6],
    [
      "IPv6 with an extension header",
      { v6: true, extensions: [{ kind: 60, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0) }] },
      GsoType.TCPV6,
    ],
  ] as const)(
    "case-W9 GSO over %s whose checksum is not blank gets the sum of the pseudo-header, counted",
    (_name, options, type) => {
      const guest = FakeGuest.connected();
      const built = buildPacket({ ...options, checksum: "full", payload: pattern(3000) });
      for (const flags of [0, TxFlag.DATA_VALIDATED]) {
        guest.send([{ bytes: built.bytes }], { flags, extras: [gsoExtra(1000, type)] });
      }
      const { frames } = guest.host.switchPort;
      expect(frames).toHaveLength(2);
      for (const frame of frames) {
        expect(frame).toMatchObject({ needsCsum: true, csumStart: built.l4, gsoSize: 1000 });
        const field = Buffer.from(frame.bytes).readUInt16BE(built.l4 + 16);
        expect(field).toBe(plainSum(pseudoHeader(built.bytes, built.l3, built.l4, 6)));
      }
      expect(guest.netback.snapshot()).toMatchObject({
        queues: [{ tx: { checksumFixups: 2 } }],
      });
    },
  );

  test("what fits one segment is no super-frame", () => {
    const guest = FakeGuest.connected();
    const built = buildPacket({ checksum: "partial", payload: pattern(1000) });
    guest.send([{ bytes: built.bytes }], {
      flags: TxFlag.CSUM_BLANK,
      extras: [gsoExtra(1000, GsoType.TCPV4)],
    });
    expect(guest.host.switchPort.frames[0]).toMatchObject({ gso: Gso.NONE, needsCsum: true });
  });

  test.each([
    ["a blank checksum without TCP or UDP", pattern(100), []],
    [
      "GSO of the other IP",
      buildPacket({ v6: true, payload: pattern(500) }).bytes,
      [GsoType.TCPV4],
    ],
    ["GSO of UDP", buildPacket({ protocol: 17, payload: pattern(500) }).bytes, [GsoType.TCPV4]],
  ] as const)(
    "%s can't be sent: the packet is dropped, the interface lives",
    (_name, bytes, types) => {
      const guest = FakeGuest.connected();
      guest.send([{ bytes }], {
        flags: TxFlag.CSUM_BLANK,
        extras: types.map((type) => gsoExtra(100, type)),
      });
      expect(statuses(guest)[0]).toBe(NetifStatus.DROPPED);
      expect(guest.host.switchPort.drops.get("malformed_offload")).toBe(1);
      guest.send([{ bytes: pattern(60) }]);
      expect(statuses(guest)).toEqual([0]);
    },
  );
});

test("groups are added and removed by extra info, up to 64 of them", () => {
  const guest = FakeGuest.connected({ multicastControl: true });
  for (let i = 0; i < 65; i++) {
    guest.send([{ bytes: new Uint8Array(0) }], { extras: [mcast(ExtraType.MCAST_ADD, i)] });
  }
  const answers = statuses(guest);
  expect(answers.filter((_, i) => i % 2 === 1)).toEqual(Array(65).fill(NetifStatus.NULL));
  const first = answers.filter((_, i) => i % 2 === 0);
  expect(first.slice(0, 64)).toEqual(Array(64).fill(NetifStatus.OKAY));
  expect(first[64]).toBe(NetifStatus.ERROR);
  guest.send([{ bytes: new Uint8Array(0) }], { extras: [mcast(ExtraType.MCAST_DEL, 3)] });
  guest.send([{ bytes: new Uint8Array(0) }], { extras: [mcast(ExtraType.MCAST_ADD, 64)] });
  expect(statuses(guest)).toEqual([0, 1, 0, 1]);
  expect(guest.netback.snapshot()).toMatchObject({ multicastGroups: 64 });
  expect(guest.host.switchPort.frames).toEqual([]);
});

test("a group that is added twice is there once", () => {
  const guest = FakeGuest.connected({ multicastControl: true });
  for (let i = 0; i < 3; i++) {
    guest.send([{ bytes: new Uint8Array(0) }], { extras: [mcast(ExtraType.MCAST_ADD, 9)] });
  }
  expect(guest.netback.multicast.has(0x0100, 0x5e00_0009)).toBe(true);
  guest.send([{ bytes: new Uint8Array(0) }], { extras: [mcast(ExtraType.MCAST_DEL, 9)] });
  expect(guest.netback.multicast.has(0x0100, 0x5e00_0009)).toBe(false);
  expect(guest.netback.multicast.length).toBe(0);
});

test("a hash that a frontend sends along is answered and ignored", () => {
  const guest = FakeGuest.connected();
  guest.send([{ bytes: pattern(60) }], {
    extras: [(view, at, more) => extra.writeHash(view, at, TX_SLOT_SIZE, more, 1, 1, 99)],
  });
  expect(statuses(guest)).toEqual([0, NetifStatus.NULL]);
  expect(guest.host.switchPort.frames.map((f) => f.bytes)).toEqual([pattern(60)]);
});

test("four queues share the turn, and a full ring is taken over several turns", async () => {
  const guest = FakeGuest.connected({ queues: 4 });
  for (let q = 0; q < 4; q++) {
    for (let i = 0; i < 200; i++) guest.post([{ bytes: pattern(60, q) }], { queue: q });
    guest.queue(q).tx.publish();
  }
  guest.netback.batchEnd();
  const first = guest.host.switchPort.frames.map((f) => f.bytes[0]);
  expect(first.length).toBe(256);
  expect([1, 2, 3, 4].map((_, q) => first.filter((b) => b === q).length)).toEqual([64, 64, 64, 64]);
  for (let i = 0; i < 4; i++) await turn();
  expect(guest.host.switchPort.frames.length).toBe(800);
});

test("fault-B9 a frame with many copies counts as their work, and a turn has fewer of them", async () => {
  const guest = FakeGuest.connected();
  const { frames } = guest.host.switchPort;
  guest.host.switchPort.work = 64;
  for (let i = 0; i < 12; i++) guest.post([{ bytes: pattern(60) }]);
  // A packet that is lost has no copies.
  guest.post([{ bytes: pattern(5) }]);
  guest.queue().tx.publish();
  guest.netback.batchEnd();
  expect(frames.length).toBe(4);
  for (let i = 0; i < 4; i++) await turn();
  expect(frames.length).toBe(12);
  expect(guest.sent().length).toBe(13);
});

test.each([
  ["as a driver cuts them are a packet each", 1448, 12],
  ["of segments of 8 bytes end the turn early", 8, 3],
])("super-frames %s", async (_what, mss, firstTurn) => {
  const guest = FakeGuest.connected();
  const { bytes } = buildPacket({ checksum: "partial", payload: pattern(61_000) });
  const pieces = Array.from({ length: Math.ceil(bytes.length / 4096) }, (_, i) => ({
    bytes: bytes.subarray(i * 4096, (i + 1) * 4096),
  }));
  for (let n = 0; n < 12; n++) {
    guest.post(pieces, {
      flags: TxFlag.CSUM_BLANK | TxFlag.DATA_VALIDATED,
      extras: [gsoExtra(mss, GsoType.TCPV4)],
    });
  }
  guest.queue().tx.publish();
  guest.netback.batchEnd();
  expect(guest.host.switchPort.frames.length).toBe(firstTurn);
  for (let i = 0; i < 8; i++) await turn();
  expect(guest.host.switchPort.frames.length).toBe(12);
});
