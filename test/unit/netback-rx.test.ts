import { describe, expect, test } from "vitest";
import type { DropReason } from "../../device/switch/port.ts";
import { type Frame, Gso } from "../../shared/net/frame.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { GsoType } from "../../shared/xen/extra.ts";
import { Gntst } from "../../shared/xen/grant.ts";
import { RxFlag } from "../../shared/xen/netif.ts";
import { FakeGuest } from "../support/fake-guest.ts";
import { buildPacket, frameOf, plainSum, pseudoHeader } from "../support/packets.ts";

const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

/** Delivers frames as the switch does: each frame, then the end of the burst. */
function give(guest: FakeGuest, ...frames: Frame[]): (DropReason | undefined)[] {
  const reasons = frames.map((frame) => guest.netback.deliver(frame));
  guest.netback.flush();
  return reasons;
}

function blank(o: Parameters<typeof buildPacket>[0]): Frame {
  const built = buildPacket({ ...o, checksum: "partial" });
  const frame = frameOf(built.bytes);
  frame.needsCsum = true;
  frame.csumStart = built.l4;
  frame.csumOffset = o?.protocol === 17 ? 6 : 16;
  frame.csumValid = true;
  return frame;
}

function superFrame(payload: number, v6 = false): Frame {
  const built = buildPacket({ v6, checksum: "partial", payload: pattern(payload) });
  const frame = blank({ v6, payload: pattern(payload) });
  frame.gso = v6 ? Gso.TCPV6 : Gso.TCPV4;
  frame.gsoSize = 1448;
  frame.headerLength = built.payload;
  return frame;
}

describe.each([
  ["from the start", 0],
  ["across the wrap of the index", 2 ** 32 - 4],
])("frames of one and several pages, %s", (_name, start) => {
  test("arrive whole, in the slots of their requests, contents before index before event", () => {
    const guest = FakeGuest.connected({ start });
    guest.postRx(8);
    guest.takePosted();
    expect(give(guest, frameOf(pattern(60)), frameOf(pattern(9000), [7, 5000]))).toEqual([
      undefined,
      undefined,
    ]);
    const posted = guest.takePosted();
    const kinds = posted.map((p) => (p.kind === "write" ? p.type : p.kind));
    expect(kinds.slice(0, 4)).toEqual(Array(4).fill(RecordType.FRAME));
    expect(kinds.indexOf(RecordType.XEN_RX_RSP)).toBe(4);
    expect(kinds.slice(-2)).toEqual([RecordType.XEN_RING_INDEX, "event"]);
    const got = guest.received();
    expect(got.map((p) => p.bytes)).toEqual([pattern(60), pattern(9000)]);
    expect(got.map((p) => p.statuses)).toEqual([[60], [4096, 4096, 808]]);
    expect(got.map((p) => p.flags)).toEqual([0, RxFlag.MORE_DATA]);
    expect(guest.memory.violations).toEqual([]);
    // A copy begins and ends within its batch, so no use count is sent.
    expect(posted.filter((p) => p.kind === "use")).toEqual([]);
  });
});

test("page-sized frames take exactly their pages", () => {
  const guest = FakeGuest.connected();
  guest.postRx(10);
  for (const length of [4096, 4097, 8192]) give(guest, frameOf(pattern(length)));
  expect(guest.received().map((p) => p.statuses)).toEqual([[4096], [4096, 1], [4096, 4096]]);
});

describe("too few slots", () => {
  test("the frame waits, the next request is asked for, and order is kept", () => {
    const guest = FakeGuest.connected();
    const { rx } = guest.queue();
    guest.postRx(2);
    expect(give(guest, frameOf(pattern(9000)), frameOf(pattern(60)))).toEqual([
      undefined,
      undefined,
    ]);
    expect(guest.received()).toEqual([]);
    expect(rx.reqEvent).toBe(3);
    guest.postRx(1);
    expect(guest.received().map((p) => p.bytes.length)).toEqual([9000]);
    guest.postRx(1);
    expect(guest.received().map((p) => p.bytes)).toEqual([pattern(60)]);
  });

  test("the oldest frame needs its own slots only, however many the next one needs", () => {
    const guest = FakeGuest.connected();
    give(guest, frameOf(pattern(60)), frameOf(pattern(9000)));
    expect(guest.queue().rx.reqEvent).toBe(1);
    guest.postRx(1);
    expect(guest.received().map((p) => p.bytes)).toEqual([pattern(60)]);
    guest.postRx(3);
    expect(guest.received().map((p) => p.bytes)).toEqual([pattern(9000)]);
  });

  test("facts of a frame wait with it, also round the end of the memory it waits in", () => {
    const guest = FakeGuest.connected();
    const payload = pattern(63_000);
    const frames = [false, true].map((v6) => superFrame(payload.length, v6));
    const sent = [false, true].map((v6) => buildPacket({ v6, checksum: "partial", payload }).bytes);
    expect(give(guest, frames[0]!)).toEqual([undefined]);
    // One frame waits at all times, so the 67th frame reaches the end of 4 MiB.
    for (let i = 0; i < 70; i++) {
      expect(give(guest, frames[1 - (i % 2)]!)).toEqual([undefined]);
      guest.postRx(17);
      const [got, ...more] = guest.received();
      expect(got).toMatchObject({
        flags: RxFlag.CSUM_BLANK | RxFlag.DATA_VALIDATED | RxFlag.EXTRA_INFO | RxFlag.MORE_DATA,
        gso: { size: 1448, type: i % 2 === 0 ? GsoType.TCPV4 : GsoType.TCPV6 },
      });
      expect(Buffer.compare(got!.bytes, sent[i % 2]!), `frame ${i}`).toBe(0);
      expect(more).toEqual([]);
    }
  });

  test("the queue takes a burst up to 4 MiB, and 8192 frames", () => {
    for (const length of [60, 1514, 9000]) {
      const guest = FakeGuest.connected();
      let queued = 0;
      const frame = frameOf(pattern(length));
      while (guest.netback.deliver(frame) === undefined) queued++;
      expect(guest.netback.deliver(frame)).toBe("queue_full");
      expect(queued * length).toBeLessThanOrEqual(4 << 20);
      if (length > 1000) expect((queued + 1) * length).toBeGreaterThan(4 << 20);
      else expect(queued).toBe(8192);
      const { rx } = guest.netback.snapshot()!.queues![0]!;
      expect(rx).toMatchObject({ packets: 0, drops: 2, queued, queuedBytes: queued * length });
    }
  });

  test("where frames have waited for 50 ms, it takes no more than 512 KiB", () => {
    const guest = FakeGuest.connected();
    const frame = frameOf(pattern(9000));
    let queued = 0;
    const fill = (): void => {
      while (guest.netback.deliver(frame) === undefined) queued++;
    };
    expect(give(guest, frame)).toEqual([undefined]);
    guest.host.clock.advance(51);
    fill();
    expect((queued + 1) * 9000).toBeLessThanOrEqual(512 * 1024);
    expect((queued + 2) * 9000).toBeGreaterThan(512 * 1024);
    // The oldest frame is sent. The next has not waited yet, so a burst is accepted again.
    guest.postRx(3);
    expect(guest.received().length).toBe(1);
    expect(give(guest, frame)).toEqual([undefined]);
    expect(give(guest, frame)).toEqual([undefined]);
  });

  test("frames older than 10 s go, counted, also while the guest accepts nothing", () => {
    const guest = FakeGuest.connected();
    give(guest, frameOf(pattern(60, 1)));
    guest.host.clock.advance(6000);
    give(guest, frameOf(pattern(60, 2)));
    guest.host.clock.advance(4001);
    guest.netback.tick(guest.host.clock.now());
    expect(guest.host.switchPort.drops.get("expired")).toBe(1);
    expect(guest.netback.snapshot().queues![0]!.rx.queued).toBe(1);
  });

  test("attack-S12 frames older than a second are not delivered, and the younger ones are", () => {
    const guest = FakeGuest.connected();
    give(guest, frameOf(pattern(60, 1)), frameOf(pattern(60, 2)));
    guest.host.clock.advance(600);
    give(guest, frameOf(pattern(60, 3)));
    guest.host.clock.advance(401);
    guest.postRx(4);
    expect(guest.received().map((p) => p.bytes)).toEqual([pattern(60, 3)]);
    expect(guest.host.switchPort.drops.get("expired")).toBe(2);
    give(guest, frameOf(pattern(60, 4)));
    expect(guest.received().map((p) => p.bytes)).toEqual([pattern(60, 4)]);
  });

  test("disconnecting drops what waits, counted", () => {
    const guest = FakeGuest.connected();
    give(guest, frameOf(pattern(60)), frameOf(pattern(60)));
    guest.netback.disconnect();
    expect(guest.host.switchPort.drops.get("port_down")).toBe(2);
    expect(give(guest, frameOf(pattern(60)))).toEqual(["port_down"]);
    guest.connect();
    guest.postRx(4);
    expect(guest.received()).toEqual([]);
  });

  test("a guest without rx-notify is looked at with every batch and tick, and never stalls", () => {
    const guest = FakeGuest.connected({ rxNotify: false });
    give(guest, frameOf(pattern(60)));
    guest.postRx(1);
    expect(guest.received().length).toBe(1);
    for (let second = 0; second < 70; second++) {
      give(guest, frameOf(pattern(60)));
      guest.host.clock.advance(1000);
      guest.netback.tick(guest.host.clock.now());
    }
    expect(give(guest, frameOf(pattern(60)))).toEqual([undefined]);
  });
});

describe("holding", () => {
  test("no room is said while slots are missing, and room again when they came", () => {
    const guest = FakeGuest.connected();
    guest.postRx(1);
    expect(guest.netback.ready(60)).toBe(true);
    expect(guest.netback.ready(5000)).toBe(false);
    guest.postRx(1);
    expect(guest.host.switchPort.rooms).toBe(1);
    expect(guest.netback.ready(5000)).toBe(true);
    expect(give(guest, frameOf(pattern(5000)))).toEqual([undefined]);
    expect(guest.received().length).toBe(1);
  });

  test("every queue must have room, and so must the link", () => {
    const guest = FakeGuest.connected({ queues: 2 });
    guest.postRx(4, 0);
    expect(guest.netback.ready(60)).toBe(false);
    guest.postRx(4, 1);
    expect(guest.netback.ready(60)).toBe(true);
    guest.host.writable = false;
    expect(guest.netback.ready(60)).toBe(false);
    guest.host.writable = true;
    const { rooms } = guest.host.switchPort;
    guest.netback.writableAgain();
    expect(guest.host.switchPort.rooms).toBe(rooms + 1);
  });

  test("what waits is not copied to a link without room, and goes when there is some", () => {
    const guest = FakeGuest.connected();
    give(guest, frameOf(pattern(60)));
    guest.host.writable = false;
    guest.postRx(4);
    expect(guest.received()).toEqual([]);
    guest.host.writable = true;
    guest.netback.writableAgain();
    expect(guest.received().length).toBe(1);
  });

  test("a link that stays without room has a queue of a tenth of a second, and of small frames", () => {
    const guest = FakeGuest.connected();
    guest.postRx(256);
    guest.host.writable = false;
    const big = frameOf(pattern(1514));
    expect(guest.netback.deliver(big)).toBeUndefined();
    guest.host.clock.advance(100);
    expect(guest.netback.deliver(big)).toBeUndefined();
    guest.host.clock.advance(1);
    expect(guest.netback.deliver(big)).toBe("link_backlog");
    expect(guest.netback.deliver(frameOf(pattern(98)))).toBeUndefined();
    guest.host.writable = true;
    guest.netback.writableAgain();
    expect(guest.received().map(({ bytes }) => bytes.length)).toEqual([1514, 1514, 98]);
    // Here the guest is late, not the link.
    guest.host.clock.advance(1000);
    expect(guest.netback.deliver(big)).toBeUndefined();
  });

  test("a link without room fills the queue, then frames are dropped for that reason", () => {
    const guest = FakeGuest.connected();
    guest.postRx(256);
    guest.host.writable = false;
    const frame = frameOf(pattern(9000));
    let queued = 0;
    while (guest.netback.deliver(frame) === undefined) queued++;
    expect(guest.netback.deliver(frame)).toBe("link_backlog");
    expect(guest.received()).toEqual([]);
    guest.host.writable = true;
    guest.netback.writableAgain();
    const first = guest.received().length;
    expect(first).toBe(85);
    guest.postRx(255);
    expect(guest.received().length).toBe(85);
    expect(queued).toBeGreaterThan(170);
  });

  test("segments of one super-frame are waited for up to half a ring", () => {
    const guest = FakeGuest.connected();
    guest.postRx(127);
    expect(guest.netback.ready(100, 300)).toBe(false);
    guest.postRx(1);
    expect(guest.netback.ready(100, 300)).toBe(true);
    const frame = frameOf(pattern(100));
    for (let i = 0; i < 300; i++) expect(guest.netback.deliver(frame)).toBeUndefined();
    guest.netback.flush();
    expect(guest.received().length).toBe(128);
    guest.postRx(200);
    expect(guest.received().length).toBe(172);
  });

  test("a guest that takes nothing holds others for 10 s, not for ever", () => {
    const guest = FakeGuest.connected();
    expect(guest.netback.ready(60)).toBe(false);
    guest.host.clock.advance(10_001);
    guest.netback.tick(guest.host.clock.now());
    expect(guest.host.switchPort.rooms).toBe(1);
    expect(guest.netback.ready(60)).toBe(true);
    expect(give(guest, frameOf(pattern(60)))).toEqual([undefined]);
  });
});

describe("offloads", () => {
  test.each([
    [{}, { csum: true, tso4: true, tso6: true }],
    [{ noCsumOffload: true }, { csum: true, tso4: false, tso6: true }],
    [{ ipv6CsumOffload: false }, { csum: true, tso4: true, tso6: false }],
    [
      { noCsumOffload: true, ipv6CsumOffload: false },
      { csum: false, tso4: false, tso6: false },
    ],
    [{ gsoTcpv4: false }, { csum: true, tso4: false, tso6: true }],
    [{ sg: false }, { csum: true, tso4: false, tso6: false }],
  ])("%o takes %o", (features, offloads) => {
    expect(FakeGuest.connected(features).netback.offloads).toEqual(offloads);
  });

  test("a blank checksum outside its frame can't be finished, so the frame is dropped", () => {
    const guest = FakeGuest.connected({ noCsumOffload: true });
    guest.postRx(2);
    const broken = blank({});
    broken.csumStart = broken.length - 1;
    expect(give(guest, broken, blank({}))).toEqual(["malformed_offload", undefined]);
    expect(guest.received().map((p) => p.bytes)).toEqual([buildPacket({}).bytes]);
  });

  test("a blank checksum goes on to a guest that takes it", () => {
    const guest = FakeGuest.connected();
    guest.postRx(8);
    const valid = frameOf(buildPacket({}).bytes);
    valid.csumValid = true;
    give(guest, blank({}), blank({ v6: true, protocol: 17 }), valid, frameOf(pattern(60)));
    expect(guest.received().map((p) => p.flags)).toEqual([
      RxFlag.CSUM_BLANK | RxFlag.DATA_VALIDATED,
      RxFlag.CSUM_BLANK | RxFlag.DATA_VALIDATED,
      RxFlag.DATA_VALIDATED,
      0,
    ]);
  });

  test.each([
    ["IPv4", { noCsumOffload: true }, { payload: pattern(333) }],
    ["IPv6", { ipv6CsumOffload: false }, { v6: true, payload: pattern(333) }],
  ] as const)(
    "%s: a blank checksum is finished for a guest that does not",
    (_name, features, kind) => {
      const guest = FakeGuest.connected(features);
      guest.postRx(8);
      give(guest, blank(kind));
      const [packet] = guest.received();
      expect(packet!.flags & RxFlag.CSUM_BLANK).toBe(0);
      const { bytes, l3, l4 } = buildPacket({ ...kind, checksum: "full" });
      expect(packet!.bytes).toEqual(bytes);
      expect(plainSum(pseudoHeader(bytes, l3, l4, 6), packet!.bytes.subarray(l4))).toBe(0xffff);
    },
  );

  test("a super-frame takes a slot of extra info behind its first page", () => {
    const guest = FakeGuest.connected();
    guest.postRx(18);
    give(guest, superFrame(64_000));
    const [packet] = guest.received();
    expect(packet).toMatchObject({ slots: 17, gso: { size: 1448, type: GsoType.TCPV4 } });
    const sent = buildPacket({ checksum: "partial", payload: pattern(64_000) });
    expect(packet!.bytes).toEqual(sent.bytes);
  });

  test("without scatter-gather a frame has one page", () => {
    const guest = FakeGuest.connected({ sg: false });
    guest.postRx(8);
    expect(guest.netback.maxFrameBytes).toBe(4096);
    expect(give(guest, frameOf(pattern(4097)))).toEqual(["too_big"]);
    expect(give(guest, frameOf(pattern(4096)))).toEqual([undefined]);
  });
});

test.each([
  ["not granted", 9999, Gntst.BAD_GNTREF],
  ["granted for reading only", "readonly", Gntst.GENERAL_ERROR],
  ["granted to another domain", "foreign", Gntst.GENERAL_ERROR],
] as const)(
  "a page %s: its response carries the status, the others the bytes",
  (_name, what, status) => {
    const guest = FakeGuest.connected();
    guest.postRx(1);
    const frame = guest.newFrame();
    const gref =
      typeof what === "number"
        ? what
        : guest.grant(frame, what === "readonly" ? { readonly: true } : { domid: 7 });
    guest.postRx(1, 0, gref);
    guest.postRx(2);
    expect(give(guest, frameOf(pattern(9000)), frameOf(pattern(60)))).toEqual([
      undefined,
      undefined,
    ]);
    const [first, second] = guest.received();
    expect(first!.statuses).toEqual([4096, status, 808]);
    expect(second!.bytes).toEqual(pattern(60));
    expect(guest.memory.violations).toEqual([]);
    expect(guest.netback.snapshot()).toMatchObject({ queues: [{ rx: { copyErrors: 1 } }] });
  },
);

test("with multicast control only the listed groups come, and broadcast and unicast", () => {
  const to = (...address: number[]): Frame =>
    frameOf(Uint8Array.from([...address, ...pattern(54)]));
  const guest = FakeGuest.connected({ multicastControl: true });
  guest.postRx(8);
  guest.netback.multicast.add(0x0100, 0x5e00_0005);
  expect(
    give(
      guest,
      to(1, 0, 0x5e, 0, 0, 5),
      to(1, 0, 0x5e, 0, 0, 6),
      to(255, 255, 255, 255, 255, 255),
      to(2, 0, 0, 0, 0, 9),
    ),
  ).toEqual([undefined, "multicast_filter", undefined, undefined]);
});

test("flows spread over the queues, and each keeps to one", () => {
  const guest = FakeGuest.connected({ queues: 4 });
  for (let q = 0; q < 4; q++) guest.postRx(100, q);
  const flows = Array.from({ length: 40 }, (_, i) => buildPacket({ sourcePort: 1000 + i }).bytes);
  for (let round = 0; round < 2; round++) give(guest, ...flows.map((bytes) => frameOf(bytes)));
  const ports = [0, 1, 2, 3].map((q) =>
    guest.received(q).map((p) => Buffer.from(p.bytes).readUInt16BE(34)),
  );
  for (const seen of ports) expect(seen.length).toBeGreaterThan(0);
  for (const port of flows.map((_, i) => 1000 + i)) {
    expect(ports.filter((seen) => seen.includes(port)).length).toBe(1);
    expect(ports.flat().filter((p) => p === port).length).toBe(2);
  }
});
