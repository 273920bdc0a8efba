import { describe, expect, test } from "vitest";
import { createEnaNic, type EnaOptions } from "../../device/ena/index.ts";
import { SqDirection } from "../../shared/ena/admin.ts";
import { FeatureId, mtuFeature } from "../../shared/ena/features.ts";
import { L3Proto, L4Proto, rxCdesc } from "../../shared/ena/io.ts";
import { RSS_INLINE_INDEX_NONE, rssHashFunction, rssIndTable } from "../../shared/ena/rss.ts";
import { StateKind } from "../../shared/wire/link-state.ts";
import type { EnaQueue } from "../support/ena-guest.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost } from "../support/fake-host.ts";
import { stateParts, stateRecords } from "../support/link-state.ts";
import { buildPacket, frameOf } from "../support/packets.ts";

async function rig(options: EnaOptions = {}, windows = true, depth = 64) {
  const host = new FakeHost({ queues: 4, maxMtu: 9216 });
  const nic = createEnaNic(host, options);
  const twin = new EnaTwin(nic, host, { windows });
  await twin.attach();
  const q = await twin.createQueue(SqDirection.RX, depth, 1);
  host.takeFaults();
  host.takeInterrupts();
  return { host, nic, twin, q, port: host.port! };
}

/** Posts buffers with ids from `from` on. Returns the buffers' addresses by id. */
function refill(twin: EnaTwin, q: EnaQueue, count: number, length = 2048, from = 0): number[] {
  const addresses: number[] = [];
  for (let i = 0; i < count; i++) {
    const address = twin.alloc(length);
    addresses[from + i] = address;
    twin.postRx(q, from + i, address, length);
  }
  twin.ring(q);
  return addresses;
}

const pattern = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 13) & 0xff);

describe.each([
  ["rings in windows", true],
  ["rings that have to be read", false],
])("receive, %s", (_name, windows) => {
  test("a frame is scattered over its buffers, bytes before completions before interrupt", async () => {
    const { host, twin, q, port } = await rig({}, windows);
    twin.unmask(q);
    const addresses = refill(twin, q, 8, 512);
    await host.memory.answerReads();
    const bytes = pattern(1200);
    host.memory.writes.length = 0;
    expect(port.deliver(frameOf(bytes, [100, 700]))).toBeUndefined();
    expect(twin.takeRx(q)).toEqual([]);
    port.flush();
    const done = twin.takeRx(q);
    expect(done.map((d) => [d.reqId, d.length, d.first, d.last])).toEqual([
      [0, 512, 1, 0],
      [1, 512, 0, 0],
      [2, 176, 0, 1],
    ]);
    const got = done.flatMap((d) => {
      const at = twin.at(addresses[d.reqId]!);
      return [...host.memory.bytes.subarray(at, at + d.length)];
    });
    expect(Uint8Array.from(got)).toEqual(bytes);
    expect(host.memory.writes.map((w) => w.length)).toEqual([512, 512, 176, 48]);
    expect(host.takeInterrupts()).toEqual([1]);
    expect(host.takeFaults()).toEqual([]);
  });

  test("fault-C7 index and phase go round, past 2^16 too", async () => {
    const { host, twin, q, port } = await rig({}, windows, 8);
    const buffer = twin.alloc(64);
    const frame = frameOf(pattern(60));
    for (let round = 0; round < 10_000; round++) {
      for (let i = 0; i < 7; i++) twin.postRx(q, i, buffer, 64);
      twin.ring(q);
      if (!windows) await host.memory.answerReads();
      for (let i = 0; i < 7; i++) port.deliver(frame);
      port.flush();
      // A ring that wraps is read in two parts, and the part read last is used first.
      const ids = twin
        .takeRx(q)
        .map((d) => d.reqId)
        .toSorted((a, b) => a - b);
      if (ids.join() !== "0,1,2,3,4,5,6") throw new Error(`round ${round}: ${ids}`);
      host.memory.writes.length = 0;
    }
    expect(host.takeFaults()).toEqual([]);
  });
});

test("without room nothing is used up, and the drop is an overrun", async () => {
  const { host, nic, twin, q, port } = await rig();
  refill(twin, q, 2, 512);
  expect(port.deliver(frameOf(pattern(1025)))).toBe("rx_overrun");
  expect(port.deliver(frameOf(pattern(1024)))).toBeUndefined();
  expect(port.deliver(frameOf(pattern(60)))).toBe("rx_overrun");
  port.flush();
  expect(twin.takeRx(q).map((d) => d.reqId)).toEqual([0, 1]);
  expect(nic.snapshot().counters).toMatchObject({ rxPackets: 1, rxOverruns: 2, rxDrops: 0 });
  refill(twin, q, 1, 512, 2);
  expect(port.deliver(frameOf(pattern(60)))).toBeUndefined();
  expect(host.takeFaults()).toEqual([]);
});

test("case-W1 more ids than a small ring has places are held, each once", async () => {
  const { host, twin, q, port } = await rig({}, true, 8);
  // A frame that never gets enough buffers leaves them held.
  for (const from of [0, 7, 14]) {
    refill(twin, q, 7, 64, from);
    if (from < 14) expect(port.deliver(frameOf(pattern(1200)))).toBe("rx_overrun");
  }
  const ids: number[] = [];
  for (let frames = 0; frames < 21; frames++) {
    expect(port.deliver(frameOf(pattern(60)))).toBeUndefined();
    port.flush();
    ids.push(...twin.takeRx(q).map((d) => d.reqId));
  }
  // The buffers of the last doorbell come first, in their order.
  const seven = [0, 1, 2, 3, 4, 5, 6];
  expect(ids).toEqual([14, 7, 0].flatMap((from) => seven.map((i) => from + i)));
  expect(host.takeFaults()).toEqual([]);
});

test("a driver that posts more buffers than a ring has them all used, and stops at twice as many", async () => {
  const { host, nic, twin, q, port } = await rig({}, true, 8);
  const buffers = (): number => nic.snapshot().rx[0]!.buffers;
  let posted = 0;
  for (; posted < 35; posted += 7) refill(twin, q, 7, 64, posted);
  expect([buffers(), host.takeFaults()]).toEqual([35, []]);
  const ids = new Set<number>();
  for (let i = 0; i < 35; i++) {
    expect(port.deliver(frameOf(pattern(60)))).toBeUndefined();
    port.flush();
    for (const { reqId } of twin.takeRx(q)) ids.add(reqId);
  }
  expect([ids.size, buffers(), host.takeFaults()]).toEqual([35, 0, []]);
  for (let i = 0; i < 5; i++) refill(twin, q, 8, 64, 100 + 8 * i);
  expect(host.takeFaults()).toEqual(["RX_DOORBELL_BEYOND_RING"]);
});

test("why a frame is not taken has a name", async () => {
  const host = new FakeHost();
  const nic = createEnaNic(host);
  const twin = new EnaTwin(nic, host);
  const port = host.port!;
  expect(port.deliver(frameOf(pattern(60)))).toBe("port_down");
  await twin.attach();
  const q = await twin.createQueue(SqDirection.RX, 64, 1);
  refill(twin, q, 32);
  await twin.setFeature(FeatureId.MTU, mtuFeature, { mtu: 1500 });
  expect(port.deliver(frameOf(pattern(1519)))).toBe("too_big");
  expect(port.deliver(frameOf(pattern(1518)))).toBeUndefined();
  host.writable = false;
  expect(port.deliver(frameOf(pattern(60)))).toBe("link_backlog");
  host.writable = true;
  const unfinished = frameOf(pattern(60));
  unfinished.needsCsum = true;
  expect(port.deliver(unfinished)).toBe("malformed_offload");
});

test("a frame that more buffers than a packet may have could not hold", async () => {
  const { host, twin, q, port } = await rig();
  refill(twin, q, 40, 64);
  expect(port.deliver(frameOf(pattern(19 * 64 + 1)))).toBe("too_big");
  expect(host.takeFaults()).toEqual(["RX_BUFFERS_TOO_SMALL"]);
  expect(port.deliver(frameOf(pattern(19 * 64)))).toBeUndefined();
});

test("shuffled buffers: any order, each once, every byte in its place", async () => {
  const { host, twin, q, port } = await rig({ completionOrder: "shuffle", seed: 3 });
  const addresses = refill(twin, q, 60, 100);
  const bytes = pattern(250);
  for (let i = 0; i < 20; i++) expect(port.deliver(frameOf(bytes))).toBeUndefined();
  expect(port.deliver(frameOf(bytes))).toBe("rx_overrun");
  port.flush();
  const done = twin.takeRx(q);
  const ids = done.map((d) => d.reqId);
  expect(ids).not.toEqual(ids.toSorted((a, b) => a - b));
  expect(new Set(ids).size).toBe(60);
  // A frame is given any of the next 16 buffers, and no other one.
  expect(Math.max(...ids.map((id, i) => id - (i - (i % 3))))).toBe(15);
  const got = done.slice(0, 3).flatMap((d) => {
    const at = twin.at(addresses[d.reqId]!);
    return [...host.memory.bytes.subarray(at, at + d.length)];
  });
  expect(Uint8Array.from(got)).toEqual(bytes);
});

test.each([
  ["RX_WRONG_PHASE", (_twin: EnaTwin, q: EnaQueue) => q.sq.next()],
  ["RX_ADDRESS_RANGE", (twin: EnaTwin, q: EnaQueue) => twin.postRx(q, 0, 2 ** 48 - 32, 64)],
  ["RX_DOORBELL_BEYOND_RING", (_twin: EnaTwin, q: EnaQueue) => q.sq.skip(65)],
] as const)("%s stops the queue", async (code, breakIt) => {
  const { host, twin, q, port } = await rig();
  breakIt(twin, q);
  twin.ring(q);
  expect(port.deliver(frameOf(pattern(60)))).toBe("rx_overrun");
  expect(host.faults.map((f) => [f.code, f.severity])).toEqual([[code, 1]]);
  refill(twin, q, 4);
  expect(port.deliver(frameOf(pattern(60)))).toBe("rx_overrun");
  expect(host.faults.length).toBe(1);
});

describe("what a completion says", () => {
  async function statusOf(bytes: Uint8Array, csumValid: boolean): Promise<number> {
    const { twin, q, port } = await rig();
    refill(twin, q, 4);
    const frame = frameOf(bytes);
    frame.csumValid = csumValid;
    port.deliver(frame);
    port.flush();
    return twin.takeRx(q)[0]!.status;
  }

  test.each([
    [false, 6, L3Proto.IPV4, L4Proto.TCP],
    [false, 17, L3Proto.IPV4, L4Proto.UDP],
    [true, 6, L3Proto.IPV6, L4Proto.TCP],
    [true, 17, L3Proto.IPV6, L4Proto.UDP],
  ] as const)("IPv6 %s, protocol %i", async (v6, protocol, l3, l4) => {
    const p = buildPacket({ v6, protocol, payload: pattern(100) });
    for (const csumValid of [false, true]) {
      const status = await statusOf(p.bytes, csumValid);
      expect(rxCdesc.l3ProtoOf(status)).toBe(l3);
      expect(rxCdesc.l4ProtoOf(status)).toBe(l4);
      expect(rxCdesc.l4CsumCheckedOf(status)).toBe(csumValid ? 1 : 0);
      expect(rxCdesc.l3CsumErrOf(status)).toBe(0);
      expect(rxCdesc.mbzOf(status)).toBe(0);
      expect((status >>> 30) & 1).toBe(1);
    }
  });

  test("an IPv4 header checksum that is wrong is told", async () => {
    const p = buildPacket({ payload: pattern(100) });
    p.bytes[p.l3 + 10]! ^= 1;
    expect(rxCdesc.l3CsumErrOf(await statusOf(p.bytes, true))).toBe(1);
  });

  test("a fragment has no layer 4 and no checked bit", async () => {
    const p = buildPacket({ payload: pattern(100) });
    p.bytes[p.l3 + 6]! |= 0x20;
    const status = await statusOf(p.bytes, true);
    expect(rxCdesc.ipv4FragOf(status)).toBe(1);
    expect(rxCdesc.l4ProtoOf(status)).toBe(0);
    expect(rxCdesc.l4CsumCheckedOf(status)).toBe(0);
  });

  test("ARP is nothing that we know", async () => {
    const bytes = pattern(60);
    bytes.set([8, 6], 12);
    const status = await statusOf(bytes, true);
    expect([rxCdesc.l3ProtoOf(status), rxCdesc.l4ProtoOf(status)]).toEqual([0, 0]);
  });
});

describe("RSS", () => {
  async function rssRig(options: EnaOptions = {}) {
    const { host, twin, q, port } = await rig(options);
    const queues = [q];
    for (let i = 1; i < 4; i++) queues.push(await twin.createQueue(SqDirection.RX, 64, 1 + i));
    for (const each of queues) refill(twin, each, 60);
    return { host, twin, queues, port };
  }

  async function setTable(host: FakeHost, twin: EnaTwin, queues: EnaQueue[]): Promise<void> {
    const address = twin.allocRing(512);
    for (let i = 0; i < 128; i++) {
      host.memory.view.setUint16(twin.at(address) + i * 4, queues[i % 4]!.sqIdx, true);
    }
    const body = { sizeLog2: 7, inlineIndex: RSS_INLINE_INDEX_NONE };
    const done = await twin.setFeature(FeatureId.RSS_INDIRECTION_TABLE_CONFIG, rssIndTable, body, {
      address,
      length: 512,
    });
    expect(done.status).toBe(0);
  }

  /** Microsoft's verification suite: its key, and one of its tuples. */
  const KEY = Buffer.from(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa",
    "hex",
  );
  const TUPLE_HASH = 0x51ccc178;

  function suitePacket(): Uint8Array {
    const p = buildPacket({ payload: pattern(20) });
    p.bytes.set([66, 9, 149, 187], p.l3 + 12);
    p.bytes.set([161, 142, 100, 80], p.l3 + 16);
    p.bytes.set([2794 >> 8, 2794 & 255, 1766 >> 8, 1766 & 255], p.l4);
    return p.bytes;
  }

  test.each(["reversed", "asSent"] as const)(
    "the published hash, key order %s",
    async (rssKeyOrder) => {
      const { host, twin, queues, port } = await rssRig({ rssKeyOrder });
      await setTable(host, twin, queues);
      const address = twin.allocRing(48);
      const key = rssKeyOrder === "reversed" ? Buffer.from(KEY).reverse() : KEY;
      host.memory.view.setUint32(twin.at(address), 10, true);
      host.memory.bytes.set(key, twin.at(address) + 8);
      await twin.setFeature(
        FeatureId.RSS_HASH_FUNCTION,
        rssHashFunction,
        { selectedFunc: 2 },
        { address, length: 48 },
      );
      port.deliver(frameOf(suitePacket()));
      port.flush();
      const got = queues.map((q) => twin.takeRx(q).map((d) => d.hash));
      const wanted: number[][] = [[], [], [], []];
      wanted[(TUPLE_HASH & 127) % 4] = [TUPLE_HASH];
      expect(got).toEqual(wanted);
    },
  );

  // As Linux's and FreeBSD's drivers call ena_com_fill_hash_function: without a key.
  test.each(["reversed", "asSent"] as const)(
    "guest-2 a driver that sets the key that it has read keeps the hash, key order %s",
    async (rssKeyOrder) => {
      const { host, twin, queues, port } = await rssRig({ rssKeyOrder });
      const control = { address: twin.allocRing(48), length: 48 };
      await twin.getFeature(FeatureId.RSS_HASH_FUNCTION, control);
      await twin.setFeature(
        FeatureId.RSS_HASH_FUNCTION,
        rssHashFunction,
        { selectedFunc: 2, initVal: 0xffff_ffff },
        control,
      );
      await setTable(host, twin, queues);
      port.deliver(frameOf(suitePacket()));
      port.flush();
      expect(queues.flatMap((q) => twin.takeRx(q).map((d) => d.hash))).toEqual([TUPLE_HASH]);
    },
  );

  test("flows spread over all queues, each flow stays on one", async () => {
    const { host, twin, queues, port } = await rssRig();
    await setTable(host, twin, queues);
    const byPort = new Map<number, number>();
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 40; i++) {
        port.deliver(
          frameOf(buildPacket({ sourcePort: 1000 + i * 17, payload: pattern(10) }).bytes),
        );
        port.flush();
        const hit = queues.findIndex((q) => twin.takeRx(q).length > 0);
        expect(byPort.get(i) ?? hit).toBe(hit);
        byPort.set(i, hit);
      }
    }
    expect(new Set(byPort.values()).size).toBe(4);
  });

  test("before a table is set everything goes to the first queue, unhashed", async () => {
    const { twin, queues, port } = await rssRig();
    port.deliver(frameOf(suitePacket()));
    port.flush();
    expect(twin.takeRx(queues[0]!).map((d) => d.hash)).toEqual([0]);
  });
});

describe("a port set to hold", () => {
  test("says no until buffers come, then tells the switch", async () => {
    const { host, twin, q, port } = await rig();
    expect(port.ready(60, 1)).toBe(false);
    refill(twin, q, 1, 512);
    expect(host.switchPort.rooms).toBe(1);
    expect(port.ready(512, 1)).toBe(true);
    expect(port.ready(513, 1)).toBe(false);
    // Buffers that `ready` has counted can still be used.
    expect(port.deliver(frameOf(pattern(512)))).toBeUndefined();
  });

  test("counts the segments of a super-frame, up to half a ring", async () => {
    const { twin, q, port } = await rig({}, true, 16);
    refill(twin, q, 5, 1024);
    expect(port.ready(1500, 2)).toBe(true);
    expect(port.ready(1500, 3)).toBe(false);
    refill(twin, q, 3, 1024, 5);
    expect(port.ready(1500, 3)).toBe(true);
    // A frame larger than the whole ring must not wait for ever.
    expect(port.ready(1500, 45)).toBe(true);
  });

  test("looks at no more buffers than a packet may have", async () => {
    const { twin, q, port } = await rig();
    refill(twin, q, 18, 64);
    expect(port.ready(5000, 1)).toBe(false);
    refill(twin, q, 1, 64, 18);
    // The frame will be dropped, so it waits for nothing.
    expect(port.ready(5000, 1)).toBe(true);
    expect(port.deliver(frameOf(pattern(5000)))).toBe("too_big");
  });

  test("says no while the link is full, and tells when it is not", async () => {
    const { host, nic, twin, q, port } = await rig();
    refill(twin, q, 4);
    host.writable = false;
    expect(port.ready(60, 1)).toBe(false);
    host.writable = true;
    nic.writableAgain();
    expect(host.switchPort.rooms).toBe(1);
  });

  test("does not hold for a port that is down", () => {
    const host = new FakeHost();
    createEnaNic(host);
    expect(host.port!.ready(60, 1)).toBe(true);
  });
});

test("destroy takes the port off the switch and hears nothing more", async () => {
  const { host, nic, twin, q } = await rig();
  nic.destroy();
  expect(host.switchPort.detached).toBe(true);
  const faults = host.faults.length;
  twin.write32(q.doorbell, 5);
  nic.tick();
  nic.batchEnd();
  expect(host.faults.length).toBe(faults);
});

test("fault-C2 a request id posted again before it is completed is named, and used as posted", async () => {
  const { host, twin, q, port } = await rig();
  const buffer = twin.alloc(2048);
  twin.postRx(q, 5, buffer, 2048);
  twin.postRx(q, 5, buffer, 2048);
  twin.ring(q);
  for (let i = 0; i < 2; i++) expect(port.deliver(frameOf(pattern(60)))).toBe(undefined);
  port.flush();
  expect(twin.takeRx(q).map((d) => d.reqId)).toEqual([5, 5]);
  expect(host.faults.map((f) => [f.code, f.severity])).toEqual([["RX_REQ_ID_IN_FLIGHT", 0]]);
});

test.each([
  ["4 x slot", (i: number) => (i % 16) * 4],
  ["from the top down", (i: number) => 0xffff - (i % 16)],
  ["all over", (i: number) => (i * 40_503) & 0xffff],
])("case-W1 receive ids are any 16-bit numbers: %s, round the ring", async (_what, idOf) => {
  for (const completionOrder of ["fifo", "shuffle"] as const) {
    const { host, nic, twin, q, port } = await rig({ completionOrder }, true, 16);
    const buffer = twin.alloc(2048);
    let posted = 0;
    const posts = (n: number): void => {
      for (let i = 0; i < n; i++) twin.postRx(q, idOf(posted++), buffer, 2048);
      twin.ring(q);
    };
    posts(16);
    const parts = stateParts((state) => nic.tellState(state));
    expect(stateRecords(parts, StateKind.ENA_REQUEST).map((r) => r.values["reqId"])).toEqual(
      Array.from({ length: 16 }, (_, i) => idOf(i)),
    );
    const seen: number[] = [];
    for (let i = 0; i < 70; i++) {
      for (let n = 0; n < 16; n++) port.deliver(frameOf(pattern(60)));
      port.flush();
      const done = twin.takeRx(q);
      seen.push(...done.map((d) => d.reqId));
      posts(done.length);
    }
    const sorted = (ids: number[]): number[] => ids.toSorted((a, b) => a - b);
    expect(seen.length).toBe(70 * 16);
    expect(sorted(seen)).toEqual(sorted(Array.from({ length: 70 * 16 }, (_, i) => idOf(i))));
    expect(host.faults).toEqual([]);
  }
});

test("case-W1 receive id 65535 posted again before its completion was announced is named", async () => {
  const { host, twin, q, port } = await rig();
  const buffer = twin.alloc(2048);
  // Both descriptors are announced before the first completes, so the second names a buffer that
  // the device still has.
  twin.postRx(q, 65_535, buffer, 2048);
  twin.postRx(q, 1, buffer, 2048);
  twin.postRx(q, 65_535, buffer, 2048);
  twin.ring(q);
  expect(host.takeFaults()).toEqual(["RX_REQ_ID_IN_FLIGHT"]);
  for (let i = 0; i < 3; i++) port.deliver(frameOf(pattern(60)));
  expect(host.takeFaults()).toEqual([]);
  for (let i = 0; i < 2; i++) twin.postRx(q, i === 0 ? 2 : 65_535, buffer, 2048);
  twin.ring(q);
  for (let i = 0; i < 2; i++) port.deliver(frameOf(pattern(60)));
  expect(host.takeFaults()).toEqual([]);
  port.flush();
  expect(twin.takeRx(q).map((d) => d.reqId)).toEqual([65_535, 1, 65_535, 2, 65_535]);
});

test("a request id posted again after its completion is as good as new, lap after lap", async () => {
  const { host, twin, q, port } = await rig();
  const buffer = twin.alloc(2048);
  for (let lap = 0; lap < 200; lap++) {
    twin.postRx(q, 5, buffer, 2048);
    twin.ring(q);
    expect(port.deliver(frameOf(pattern(60)))).toBe(undefined);
    port.flush();
  }
  expect(host.faults).toEqual([]);
});
