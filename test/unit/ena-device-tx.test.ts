import { describe, expect, test } from "vitest";
import { createEnaNic, type EnaOptions } from "../../device/ena/index.ts";
import { Verdict } from "../../device/switch/port.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { AdminStatus, Placement, SqDirection } from "../../shared/ena/admin.ts";
import { FeatureId } from "../../shared/ena/features.ts";
import { L3Proto, L4Proto, txDesc, txMeta } from "../../shared/ena/io.ts";
import { AccelMode, llqFeature } from "../../shared/ena/llq.ts";
import { Gso } from "../../shared/net/frame.ts";
import { StateKind } from "../../shared/wire/link-state.ts";
import { busAddress } from "../../shared/wire/records.ts";
import { type EnaQueue, ETH_META_TYPE, EXT_VALID } from "../support/ena-guest.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost, settle } from "../support/fake-host.ts";
import { stateParts, stateRecords } from "../support/link-state.ts";
import { buildPacket, plainSum, pseudoHeader } from "../support/packets.ts";

async function rig(options: EnaOptions = {}, windows = true, depth = 64) {
  const host = new FakeHost({ queues: 2, maxMtu: 9216 });
  const nic = createEnaNic(host, options);
  const twin = new EnaTwin(nic, host, { windows });
  await twin.attach();
  const q = await twin.createQueue(SqDirection.TX, depth, 1);
  host.takeFaults();
  return { host, nic, twin, q, frames: host.switchPort.frames };
}

const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

describe.each([
  ["rings in windows", true],
  ["rings that have to be read", false],
])("transmit, %s", (_name, windows) => {
  test("pushed packets of several buffers arrive whole and are completed in one write", async () => {
    const { host, twin, q, frames } = await rig({}, windows);
    const bytes = pattern(3000);
    twin.postTx(q, 5, twin.buffer(bytes.subarray(0, 100)), 100, "f");
    twin.postTx(q, 0, twin.buffer(bytes.subarray(100, 2000)), 1900, "");
    twin.postTx(q, 0, twin.buffer(bytes.subarray(2000)), 1000, "l");
    twin.postTx(q, 9, twin.buffer(pattern(60)), 60);
    host.memory.writes.length = 0;
    twin.ring(q);
    await twin.settle();
    expect(frames.map((f) => f.bytes)).toEqual([bytes, pattern(60)]);
    expect(twin.completed(q)).toEqual([5, 9]);
    expect(host.memory.writes.length).toBe(1);
    expect(host.memory.pushes.live).toBe(0);
    expect(host.takeFaults()).toEqual([]);
  });

  test("index and phase go round, past 2^16 too", async () => {
    const { host, twin, q, frames } = await rig({}, windows, 8);
    const buffer = twin.buffer(pattern(14), false);
    let sent = 0;
    while (sent < 66_000) {
      host.memory.writes.length = 0;
      for (let i = 0; i < 7; i++, sent++) {
        host.memory.push(buffer, 14);
        twin.postTx(q, sent % 8, buffer, 14);
      }
      twin.ring(q);
      if (!windows) await host.memory.answerReads();
      const done = twin.completed(q);
      if (done.length !== 7) throw new Error(`${done.length} completions at ${sent}`);
      if (sent % 1000 < 7) frames.length = 0;
    }
    expect(host.takeFaults()).toEqual([]);
  });
});

test("bytes that were not pushed are read, the queue waits in order, others go on", async () => {
  const { host, twin, q, frames } = await rig();
  const other = await twin.createQueue(SqDirection.TX, 8, 2);
  const bytes = pattern(500);
  twin.postTx(q, 0, twin.buffer(bytes.subarray(0, 100)), 100, "f");
  twin.postTx(q, 0, twin.buffer(bytes.subarray(100), false), 400, "l");
  twin.postTx(q, 1, twin.buffer(pattern(60)), 60);
  twin.postTx(other, 0, twin.buffer(pattern(70)), 70);
  twin.ring(q);
  twin.ring(other);
  expect(frames.map((f) => f.bytes.length)).toEqual([70]);
  expect(twin.completed(q)).toEqual([]);
  await host.memory.answerReads();
  expect(frames.map((f) => f.bytes.length)).toEqual([70, 500, 60]);
  expect(frames[1]!.bytes).toEqual(bytes);
  expect(twin.completed(q)).toEqual([0, 1]);
  expect(host.memory.pushes.live).toBe(0);
});

test("a refused read costs that packet, which is completed all the same", async () => {
  const { host, twin, q, frames } = await rig();
  twin.postTx(q, 3, twin.buffer(pattern(100), false), 100);
  twin.postTx(q, 4, twin.buffer(pattern(60)), 60);
  twin.ring(q);
  host.memory.reads.splice(0)[0]!.refuse();
  await settle();
  expect(frames.map((f) => f.bytes.length)).toEqual([60]);
  expect(twin.completed(q)).toEqual([3, 4]);
  expect(host.takeFaults()).toEqual(["TX_READ_REFUSED"]);
  expect(host.switchPort.drops.get("host_refused")).toBe(1);
});

test("destroying the queue while it reads completes nothing, and gives pushes back", async () => {
  const { host, twin, q, frames } = await rig();
  twin.postTx(q, 0, twin.buffer(pattern(50)), 50, "f");
  twin.postTx(q, 0, twin.buffer(pattern(50), false), 50, "l");
  twin.postTx(q, 1, twin.buffer(pattern(60)), 60);
  // A buffer without bytes was not pushed. The push at its address is another's.
  twin.postTx(q, 2, twin.buffer(pattern(70)), 0);
  twin.ring(q);
  const late = host.memory.reads.splice(0);
  expect((await twin.destroySq(SqDirection.TX, q.sqIdx)).status).toBe(AdminStatus.SUCCESS);
  for (const read of late) read.answer();
  await settle();
  expect(frames).toEqual([]);
  expect(twin.completed(q)).toEqual([]);
  expect([host.memory.pushes.live, host.memory.pushes.bytes]).toEqual([1, 70]);
});

test("a held frame waits, unfinished, until there is room", async () => {
  const { host, twin, q, frames } = await rig();
  host.switchPort.verdict = Verdict.HELD;
  twin.postTx(q, 0, twin.buffer(pattern(60)), 60);
  twin.ring(q);
  twin.postTx(q, 1, twin.buffer(pattern(61)), 61);
  twin.ring(q);
  expect(twin.completed(q)).toEqual([]);
  expect(host.memory.pushes.live).toBe(2);
  // The transport reuses the message's memory; the device must have copied the bytes that it keeps.
  host.memory.reuseMessage();
  host.switchPort.verdict = Verdict.DONE;
  host.switchPort.onReady?.();
  await settle();
  expect(frames.map((f) => [...f.bytes])).toEqual([[...pattern(60)], [...pattern(61)]]);
  expect(twin.completed(q)).toEqual([0, 1]);
});

test("a backlogged link stops the queues until it is writable", async () => {
  const { host, nic, twin, q, frames } = await rig();
  host.backlogged = true;
  twin.postTx(q, 0, twin.buffer(pattern(60)), 60);
  twin.ring(q);
  expect(frames).toEqual([]);
  host.backlogged = false;
  nic.writableAgain();
  expect(frames.length).toBe(1);
});

test("a long queue is worked off in turns", async () => {
  const { twin, q, frames } = await rig({}, true, 1024);
  for (let i = 0; i < 1000; i++) twin.postTx(q, i, twin.buffer(pattern(20)), 20);
  twin.ring(q);
  expect(frames.length).toBe(256);
  for (let turn = 0; turn < 3; turn++) await settle();
  expect(frames.length).toBe(1000);
  expect(twin.completed(q).length).toBe(1000);
});

test("fault-B9 a frame with many copies counts as their work, and a turn has fewer of them", async () => {
  const { host, twin, q, frames } = await rig();
  host.switchPort.work = 64;
  for (let i = 0; i < 12; i++) twin.postTx(q, i, twin.buffer(pattern(20)), 20);
  twin.ring(q);
  expect(frames.length).toBe(4);
  for (let turn = 0; turn < 2; turn++) await settle();
  expect(frames.length).toBe(12);
  expect(twin.completed(q).length).toBe(12);
});

test("a packet whose last descriptor is not announced yet waits for it", async () => {
  const { host, twin, q, frames } = await rig();
  twin.postTx(q, 0, twin.buffer(pattern(100)), 100, "f");
  twin.ring(q);
  expect(frames).toEqual([]);
  twin.postTx(q, 0, twin.buffer(pattern(100)), 100, "l");
  twin.ring(q);
  expect(frames.map((f) => f.bytes.length)).toEqual([200]);
  expect(host.takeFaults()).toEqual([]);
});

test("shuffled completions answer each request once", async () => {
  const { twin, q } = await rig({ completionOrder: "shuffle", seed: 7 });
  const ids = Array.from({ length: 32 }, (_, i) => i);
  for (const id of ids) twin.postTx(q, id, twin.buffer(pattern(60)), 60);
  twin.ring(q);
  const done = twin.completed(q);
  expect(done).not.toEqual(ids);
  expect(done.toSorted((a, b) => a - b)).toEqual(ids);
});

describe("rules whose breaking stops the queue", () => {
  type Break = (twin: EnaTwin, q: EnaQueue, host: FakeHost) => void;
  const cases: [string, Break][] = [
    [
      "TX_WRONG_PHASE",
      (_twin, q) => {
        q.sq.next();
      },
    ],
    [
      "TX_FIRST_MISSING",
      (twin, q) => {
        twin.postTx(q, 0, twin.buffer(pattern(60)), 60, "l");
      },
    ],
    [
      "TX_FIRST_IN_MIDDLE",
      (twin, q) => {
        twin.postTx(q, 0, twin.buffer(pattern(60)), 60, "f");
        twin.postTx(q, 0, twin.buffer(pattern(60)), 60, "fl");
      },
    ],
    [
      "TX_TOO_MANY_DESCS",
      (twin, q) => {
        for (let i = 0; i < 21; i++) {
          twin.postTx(q, 0, twin.buffer(pattern(60)), 60, i === 0 ? "f" : i === 20 ? "l" : "");
        }
      },
    ],
    [
      "TX_META_MISPLACED",
      (twin, q) => {
        twin.postTx(q, 0, twin.buffer(pattern(60)), 60, "f");
        twin.postMeta(q, 1000, 20, 14, 5);
      },
    ],
    [
      "TX_DOORBELL_BEYOND_RING",
      (_twin, q) => {
        q.sq.skip(65);
      },
    ],
  ];
  test.each(cases)("%s", async (code, breakIt) => {
    const { host, twin, q, frames } = await rig();
    breakIt(twin, q, host);
    twin.ring(q);
    expect(host.faults.map((f) => [f.code, f.severity])).toEqual([[code, 1]]);
    // A stopped queue ignores everything until it is made again.
    twin.postTx(q, 1, twin.buffer(pattern(60)), 60);
    twin.ring(q);
    expect(frames).toEqual([]);
    expect(twin.completed(q)).toEqual([]);
    await twin.destroySq(SqDirection.TX, q.sqIdx);
    await twin.destroyCq(q.cqIdx);
    const fresh = await twin.createQueue(SqDirection.TX, 64, 1);
    twin.postTx(fresh, 1, twin.buffer(pattern(60)), 60);
    twin.ring(fresh);
    expect(twin.completed(fresh)).toEqual([1]);
  });

  test("TX_REQ_ID_IN_FLIGHT twice in one burst, completed once", async () => {
    const { host, twin, q } = await rig({ completionOrder: "shuffle" });
    twin.postTx(q, 1, twin.buffer(pattern(60)), 60);
    twin.postTx(q, 1, twin.buffer(pattern(60)), 60);
    twin.ring(q);
    expect(host.takeFaults()).toEqual(["TX_REQ_ID_IN_FLIGHT"]);
    expect(twin.completed(q)).toEqual([1]);
  });

  test("TX_DOORBELL_BACKWARDS while descriptors wait", async () => {
    const { host, twin, q } = await rig();
    host.switchPort.verdict = Verdict.HELD;
    for (let i = 0; i < 4; i++) twin.postTx(q, i, twin.buffer(pattern(60)), 60);
    twin.ring(q);
    twin.write32(q.doorbell, 2);
    expect(host.takeFaults()).toEqual(["TX_DOORBELL_BACKWARDS"]);
  });

  test("a packet longer than its ring", async () => {
    const { host, twin, q } = await rig({}, true, 4);
    for (let i = 0; i < 4; i++) twin.postTx(q, 0, twin.buffer(pattern(60)), 60, i === 0 ? "f" : "");
    twin.ring(q);
    expect(host.takeFaults()).toEqual(["TX_LAST_MISSING"]);
  });
});

describe("rules whose breaking costs the packet", () => {
  const cases: [string, (twin: EnaTwin, q: EnaQueue, host: FakeHost) => void][] = [
    ["TX_ZERO_LENGTH", (twin, q) => twin.postTx(q, 2, twin.alloc(64), 0)],
    ["TX_TOO_SHORT", (twin, q) => twin.postTx(q, 2, twin.buffer(pattern(13)), 13)],
    ["TX_TOO_LONG", (twin, q) => twin.postTx(q, 2, twin.buffer(pattern(9235)), 9235)],
    ["TX_ADDRESS_RANGE", (twin, q) => twin.postTx(q, 2, 2 ** 48 - 10, 60)],
    [
      "TX_RESERVED_BITS",
      (twin, q, host) => {
        const at = twin.at(q.sqAddress) + q.sq.slot * 16;
        twin.postTx(q, 2, twin.buffer(pattern(60)), 60);
        host.memory.bytes[at + 2]! |= 0x40;
      },
    ],
  ];
  test.each(cases)("%s", async (code, breakIt) => {
    const { host, nic, twin, q, frames } = await rig();
    breakIt(twin, q, host);
    twin.postTx(q, 3, twin.buffer(pattern(60)), 60);
    twin.ring(q);
    await twin.settle();
    expect(host.faults.map((f) => [f.code, f.severity])).toEqual([[code, 0]]);
    expect(frames.map((f) => f.bytes.length)).toEqual([60]);
    expect(twin.completed(q)).toEqual([2, 3]);
    expect(host.switchPort.drops.get("tx_malformed")).toBe(1);
    expect(nic.snapshot().counters).toMatchObject({ txDrops: 1, txPackets: 1 });
    expect(host.memory.pushes.live).toBe(0);
  });
});

describe("offloads", () => {
  const offload = (o: {
    l3?: number;
    v6?: boolean;
    udp?: boolean;
    full?: boolean;
    tso?: boolean;
  }) =>
    txDesc.packOffload(
      o.v6 === true ? L3Proto.IPV6 : L3Proto.IPV4,
      o.udp === true ? L4Proto.UDP : L4Proto.TCP,
      o.l3 ?? 0,
      1,
      o.full === true || o.tso === true ? 0 : 1,
      o.tso === true ? 1 : 0,
      0,
    );

  test("partial: told on as it stands, and the meta descriptor holds for the next packet", async () => {
    const { twin, q, frames } = await rig();
    const p = buildPacket({ payload: pattern(100), checksum: "partial" });
    twin.postMeta(q, 0, p.l4 - p.l3, p.l3, 5);
    twin.postTx(q, 0, twin.buffer(p.bytes), p.bytes.length, "l", offload({}));
    twin.postTx(q, 1, twin.buffer(p.bytes), p.bytes.length, "fl", offload({}));
    twin.ring(q);
    const facts = { needsCsum: true, csumStart: p.l4, csumOffset: 16, csumValid: true, gso: 0 };
    expect(frames).toMatchObject([facts, facts]);
    expect(frames[0]!.bytes).toEqual(p.bytes);
    expect(twin.completed(q).length).toBe(2);
  });

  test.each([
    [false, 6],
    [false, 17],
    [true, 6],
    [true, 17],
  ] as const)(
    "full (IPv6 %s, protocol %i): the pseudo-header sum is ours",
    async (v6, protocol) => {
      const { twin, q, frames } = await rig();
      const p = buildPacket({ v6, protocol, payload: pattern(101), checksum: "full" });
      const udp = protocol === 17;
      const field = p.l4 + (udp ? 6 : 16);
      const sent = p.bytes.slice();
      sent[field] = 0xde;
      sent[field + 1] = 0xad;
      twin.postMeta(q, 0, p.l4 - p.l3, p.l3, 0);
      // The header is cut at an awkward place; the driver's bytes stay unchanged.
      twin.postTx(
        q,
        0,
        twin.buffer(sent.subarray(0, p.l3 + 3)),
        p.l3 + 3,
        "",
        offload({ v6, udp, full: true }),
      );
      twin.postTx(q, 0, twin.buffer(sent.subarray(p.l3 + 3)), sent.length - p.l3 - 3, "l");
      twin.ring(q);
      expect(frames.length).toBe(1);
      const got = frames[0]!.bytes;
      expect((got[field]! << 8) | got[field + 1]!).toBe(
        plainSum(pseudoHeader(p.bytes, p.l3, p.l4, protocol)),
      );
      // Completing the checksum, as the switch does, gives the original packet.
      const sum = ~plainSum(got.subarray(p.l4)) & 0xffff;
      expect(sum).toBe((p.bytes[field]! << 8) | p.bytes[field + 1]!);
    },
  );

  test("IPv4 header checksum", async () => {
    const { twin, q, frames } = await rig();
    const p = buildPacket({ payload: pattern(100), checksum: "partial" });
    const sent = p.bytes.slice();
    sent[p.l3 + 10] = 0x12;
    twin.postMeta(q, 0, p.l4 - p.l3, p.l3, 0);
    twin.postTx(q, 0, twin.buffer(sent), sent.length, "l", offload({ l3: 1 }));
    twin.ring(q);
    expect(frames[0]!.bytes).toEqual(p.bytes);
  });

  test.each([false, true])("TSO (IPv6 %s) becomes a super-frame", async (v6) => {
    const { twin, q, frames } = await rig();
    const p = buildPacket({ v6, payload: pattern(20_000), checksum: "partial" });
    twin.postMeta(q, 1448, p.l4 - p.l3, p.l3, (p.payload - p.l4) / 4);
    twin.postTx(q, 0, twin.buffer(p.bytes), p.bytes.length, "l", offload({ v6, tso: true }));
    twin.ring(q);
    expect(frames).toMatchObject([
      {
        gso: v6 ? Gso.TCPV6 : Gso.TCPV4,
        gsoSize: 1448,
        headerLength: p.payload,
        gsoEcn: false,
        needsCsum: true,
        csumStart: p.l4,
      },
    ]);
    expect(frames[0]!.bytes).toEqual(p.bytes);
  });

  test("TSO of a segment with CWR says so: only the first packet may carry that flag", async () => {
    const { twin, q, frames } = await rig();
    const p = buildPacket({ payload: pattern(20_000), checksum: "partial", flags: 0x90 });
    twin.postMeta(q, 1448, p.l4 - p.l3, p.l3, 5);
    twin.postTx(q, 0, twin.buffer(p.bytes), p.bytes.length, "l", offload({ tso: true }));
    twin.ring(q);
    expect(frames).toMatchObject([{ gso: Gso.TCPV4, gsoEcn: true }]);
  });

  test("TSO of what fits one segment is an ordinary frame", async () => {
    const { twin, q, frames } = await rig();
    const p = buildPacket({ payload: pattern(500), checksum: "partial" });
    twin.postMeta(q, 500, p.l4 - p.l3, p.l3, 5);
    twin.postTx(q, 0, twin.buffer(p.bytes), p.bytes.length, "l", offload({ tso: true }));
    twin.ring(q);
    expect(frames).toMatchObject([{ gso: 0, gsoSize: 0, needsCsum: true }]);
  });

  test.each([
    ["TX_META_MISSING", undefined, {}],
    ["TX_MSS_ZERO", [0, 20, 14, 5], { tso: true }],
    ["TX_MSS_TOO_SMALL", [39, 20, 14, 5], { tso: true }],
    ["TX_META_BEYOND_PACKET", [1000, 20, 255, 5], {}],
    ["TX_META_BEYOND_PACKET", [100, 20, 14, 63], { tso: true }],
    ["TX_L3_MISMATCH", [1000, 24, 14, 5], {}],
    ["TX_L3_MISMATCH", [1000, 40, 14, 5], { v6: true }],
    ["TX_L4_MISMATCH", [1000, 20, 14, 5], { udp: true }],
    ["TX_L4_MISMATCH", [1000, 20, 14, 4], { tso: true }],
  ] as [string, [number, number, number, number] | undefined, object][])(
    "%s with meta %j and %j costs the packet",
    async (code, meta, what) => {
      const { host, twin, q, frames } = await rig();
      const p = buildPacket({ payload: pattern(180), checksum: "partial" });
      if (meta !== undefined) twin.postMeta(q, ...meta);
      const flags = meta === undefined ? "fl" : "l";
      twin.postTx(q, 0, twin.buffer(p.bytes), p.bytes.length, flags, offload(what));
      twin.ring(q);
      expect(host.takeFaults()).toEqual([code]);
      expect(frames).toEqual([]);
      expect(twin.completed(q)).toEqual([0]);
    },
  );

  describe("case-W2 a meta descriptor that says nothing", () => {
    test.each([
      ["without ext_valid", EXT_VALID],
      ["without a type", ETH_META_TYPE],
      ["without either", EXT_VALID | ETH_META_TYPE],
    ])(
      "case-W2 %s: its packet goes, and what was stored before still holds",
      async (_what, bits) => {
        const { host, twin, q, frames } = await rig();
        twin.postEmptyMeta(q, bits);
        twin.postTx(q, 0, twin.buffer(pattern(60)), 60, "l");
        twin.ring(q);
        expect(frames.map((f) => f.bytes.length)).toEqual([60]);
        const p = buildPacket({ payload: pattern(100) });
        const ask = offload({ full: true });
        // No meta descriptor was stored, so the offload has no data.
        twin.postEmptyMeta(q, bits);
        twin.postTx(q, 1, twin.buffer(p.bytes), p.bytes.length, "l", ask);
        twin.ring(q);
        expect(host.takeFaults()).toEqual(["TX_META_MISSING"]);
        twin.postMeta(q, 0, 20, 14, 5);
        twin.postTx(q, 2, twin.buffer(p.bytes), p.bytes.length, "l", ask);
        twin.postEmptyMeta(q, bits);
        twin.postTx(q, 3, twin.buffer(p.bytes), p.bytes.length, "l", ask);
        twin.ring(q);
        expect(host.takeFaults()).toEqual([]);
        expect(frames.slice(1).map((f) => [f.needsCsum, f.csumStart])).toEqual([
          [true, 34],
          [true, 34],
        ]);
        expect(twin.completed(q)).toEqual([0, 1, 2, 3]);
      },
    );
  });
});

describe("case-W1 a request id is any 16-bit number of the driver's", () => {
  test.each([
    ["4 x slot, as iPXE sends them", (i: number) => (i % 16) * 4],
    ["from the top down", (i: number) => 0xffff - (i % 16)],
    ["all over", (i: number) => (i * 40_503) & 0xffff],
    ["one and the same, one at a time", () => 65_535],
  ])("case-W1 %s, round the ring", async (_what, idOf) => {
    for (const completionOrder of ["fifo", "shuffle"] as const) {
      const { host, twin, q, frames } = await rig({ completionOrder }, true, 16);
      const buffer = twin.buffer(pattern(60), false);
      const wrong: number[] = [];
      for (let i = 0; i < 1000; i++) {
        host.memory.push(buffer, 60);
        twin.postTx(q, idOf(i), buffer, 60);
        twin.ring(q);
        const done = twin.completed(q);
        if (done.length !== 1 || done[0] !== idOf(i)) wrong.push(i);
      }
      expect(wrong).toEqual([]);
      expect(frames.length).toBe(1000);
      expect(host.takeFaults()).toEqual([]);
    }
  });

  test("case-W1 an id of 65535 that is in flight is refused a second time", async () => {
    const { host, twin, q } = await rig({ completionOrder: "shuffle" });
    for (let i = 0; i < 2; i++) twin.postTx(q, 65_535, twin.buffer(pattern(60)), 60);
    twin.ring(q);
    expect(host.takeFaults()).toEqual(["TX_REQ_ID_IN_FLIGHT"]);
    expect(twin.completed(q)).toEqual([65_535]);
  });

  test("case-W1 a capture that begins late learns of ids beyond the ring", async () => {
    const { host, nic, twin, q } = await rig();
    host.switchPort.verdict = Verdict.HELD;
    for (const id of [65_535, 3, 4096]) twin.postTx(q, id, twin.buffer(pattern(60)), 60);
    twin.ring(q);
    const parts = stateParts((state) => nic.tellState(state));
    const ids = stateRecords(parts, StateKind.ENA_REQUEST).map((r) => r.values["reqId"]);
    expect(ids).toEqual([65_535, 3, 4096]);
  });
});

describe.each([
  [128, 1, 2],
  [128, 2, 2],
  [256, 2, 2],
  [128, 2, 1],
])(
  "LLQ, entries of %i bytes, stride %i, %i descriptors before the header",
  (entry, stride, before) => {
    async function llqRig(options: EnaOptions = {}, accelFlags = 0) {
      const host = new FakeHost({ queues: 2, maxMtu: 9216 });
      const nic = createEnaNic(host, options);
      const twin = new EnaTwin(nic, host);
      await twin.attach();
      await twin.setFeature(FeatureId.LLQ, llqFeature, {
        headerLocationEnabled: 1,
        entrySizeEnabled: entry === 128 ? 1 : 4,
        descsBeforeHeaderEnabled: before,
        strideEnabled: stride,
        accelFlags,
      });
      await twin.createQueue(SqDirection.TX, 8, 1);
      const q = await twin.createQueue(SqDirection.TX, 16, 2, Placement.DEV);
      return { host, twin, q, frames: host.switchPort.frames };
    }

    /**
     * Writes one packet: header inline, `parts` as buffers, a meta descriptor first if asked for.
     */
    function send(
      twin: EnaTwin,
      q: EnaQueue,
      reqId: number,
      header: Uint8Array,
      parts: Uint8Array[],
      meta: boolean | "empty" = false,
      offload = 0,
    ): void {
      const descs: ((v: DataView, at: number) => void)[] = [];
      if (meta !== false) {
        descs.push((v, at) => {
          txMeta.write(v, at, q.sq.phase, 1000, 20, 14, 5);
          // Without ext_valid and type.
          if (meta === "empty")
            v.setUint32(at, v.getUint32(at, true) & ~(EXT_VALID | ETH_META_TYPE), true);
        });
      }
      const buffers = parts.length === 0 ? [new Uint8Array(0)] : parts;
      buffers.forEach((part, i) => {
        const address = busAddress(part.length === 0 ? 0 : twin.buffer(part));
        const first = i === 0 && meta === false ? 1 : 0;
        const last = i === buffers.length - 1 ? 1 : 0;
        const headerLength = i === 0 ? header.length : 0;
        descs.push((v, at) =>
          txDesc.write(
            v,
            at,
            part.length,
            reqId,
            q.sq.phase,
            first,
            last,
            1,
            offload,
            address,
            headerLength,
          ),
        );
      });
      const perEntry = stride === 2 ? entry / 16 : 1;
      let n = 0;
      for (let room = before; n < descs.length; room = perEntry) {
        const bytes = new Uint8Array(entry);
        const view = new DataView(bytes.buffer);
        if (n === 0) bytes.set(header.subarray(0, entry - before * 16), before * 16);
        for (let slot = 0; slot < room && n < descs.length; slot++) descs[n++]!(view, slot * 16);
        const at = q.llqOffset + q.sq.slot * entry;
        // In steps of eight bytes, as a driver writes.
        for (let i = 0; i < entry; i += 8) twin.nic.pci.mmioWrite(2, at + i, bytes, i, 8);
        q.sq.next();
      }
    }

    test("packets with header, with buffers, with both, round the ring", async () => {
      const { host, twin, q, frames } = await llqRig();
      const header = pattern(Math.min(96, entry - before * 16), 3);
      for (let i = 0; i < 40; i++) {
        const parts = Array.from({ length: i % 5 }, (_, k) => pattern(50 + k, k));
        send(twin, q, i % 16, header, parts, before > 1 && i % 3 === 0);
        twin.ring(q);
        expect(frames.pop()?.bytes).toEqual(
          Uint8Array.from([...header, ...parts.flatMap((p) => [...p])]),
        );
        expect(twin.completed(q)).toEqual([i % 16]);
      }
      expect(host.takeFaults()).toEqual([]);
      expect(host.memory.pushes.live).toBe(0);
    });

    test("case-W1 ids beyond the ring are echoed", async () => {
      const { host, twin, q, frames } = await llqRig();
      const ids = [16, 65_535, 1024, 4 * 15, 65_535, 0];
      for (const id of ids) {
        send(twin, q, id, pattern(60), []);
        twin.ring(q);
        expect(twin.completed(q)).toEqual([id]);
      }
      expect(frames.length).toBe(ids.length);
      expect(host.takeFaults()).toEqual([]);
    });

    test("case-W2 a meta descriptor that says nothing costs no packet", async () => {
      const { host, twin, q, frames } = await llqRig();
      send(twin, q, 0, pattern(60), [pattern(50)], "empty");
      twin.ring(q);
      expect(frames.length).toBe(1);
      expect(host.takeFaults()).toEqual([]);
      // IPv4 header offloads, although no meta descriptor was stored.
      send(twin, q, 1, pattern(60), [pattern(50)], "empty", 1 << 13);
      twin.ring(q);
      expect(host.takeFaults()).toEqual(["TX_META_MISSING"]);
      expect(twin.completed(q).length).toBe(2);
    });

    test("case-W2 without meta caching an empty meta descriptor is one, and nothing holds over", async () => {
      const { host, twin, q, frames } = await llqRig(
        { disableMetaCaching: true },
        AccelMode.DISABLE_META_CACHING,
      );
      send(twin, q, 0, pattern(60), [pattern(50)], true);
      send(twin, q, 1, pattern(60), [pattern(50)], "empty");
      twin.ring(q);
      expect(frames.length).toBe(2);
      expect(host.takeFaults()).toEqual([]);
      send(twin, q, 2, pattern(60), [pattern(50)], "empty", 1 << 13);
      twin.ring(q);
      expect(host.takeFaults()).toEqual(["TX_META_MISSING"]);
      expect(twin.completed(q).length).toBe(3);
    });

    test("a header longer than its place costs the packet", async () => {
      const { host, twin, q } = await llqRig();
      send(twin, q, 0, pattern(Math.min(entry - before * 16 + 1, 255)), [pattern(50)]);
      twin.ring(q);
      expect(host.takeFaults()).toEqual(["TX_HEADER_LENGTH"]);
      expect(twin.completed(q)).toEqual([0]);
    });

    test("destroying the queue releases the pushes of its packets, not those that a header spells", async () => {
      const { host, twin, q } = await llqRig();
      host.switchPort.verdict = Verdict.HELD;
      const another = busAddress(twin.buffer(pattern(50)));
      const header = new Uint8Array(16);
      txDesc.write(viewOf(header), 0, 50, 9, q.sq.phase, 1, 1, 1, 0, another, 0);
      send(twin, q, 0, header, [pattern(50)]);
      send(twin, q, 1, header, [pattern(50)]);
      // It goes on in a second entry.
      const parts = Array.from({ length: before + 1 }, () => pattern(50));
      send(twin, q, 2, header, parts);
      twin.ring(q);
      expect(host.memory.pushes.live).toBe(3 + parts.length);
      expect((await twin.destroySq(SqDirection.TX, q.sqIdx)).status).toBe(AdminStatus.SUCCESS);
      expect(host.memory.pushes.live).toBe(1);
      expect(host.takeFaults()).toEqual([]);
    });

    test("writes to BAR 2 outside a queue's entries are named and go nowhere", async () => {
      const { host, twin, q } = await llqRig();
      twin.nic.pci.mmioWrite(2, q.llqOffset + 16 * entry - 4, new Uint8Array(8), 0, 8);
      twin.nic.pci.mmioWrite(2, 0, new Uint8Array(8), 0, 8);
      twin.nic.pci.mmioWrite(2, 0xffff_fff8, new Uint8Array(8), 0, 8);
      expect(host.takeFaults()).toEqual(["BAR2_NO_QUEUE", "BAR2_NO_QUEUE", "BAR2_NO_QUEUE"]);
    });

    test("without meta caching every packet needs its meta descriptor", async () => {
      const { host, twin, q } = await llqRig(
        { disableMetaCaching: true },
        AccelMode.DISABLE_META_CACHING,
      );
      send(twin, q, 0, pattern(40), [pattern(50)], true);
      send(twin, q, 1, pattern(40), [pattern(50)], false);
      twin.ring(q);
      expect(host.takeFaults()).toEqual(["TX_META_REQUIRED"]);
      expect(twin.completed(q).length).toBe(2);
    });
  },
);
