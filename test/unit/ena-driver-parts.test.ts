/** Parts of the driver that a single frame or a single negotiation can test. */

import { describe, expect, test, vi } from "vitest";
import { AsyncLock } from "../../frontend/async-lock.ts";
import { BusSpaceExhausted } from "../../frontend/bus/misuse.ts";
import { PciFunction } from "../../frontend/bus/pci.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import { Abandoned } from "../../frontend/driver-error.ts";
import { chooseLlq } from "../../frontend/ena/llq.ts";
import { IoSq } from "../../frontend/ena/memory.ts";
import { MapCache, PKT_MAX_BUFS } from "../../frontend/ena/rings.ts";
import { Waits } from "../../frontend/ena/waits.ts";
import { findFacts } from "../../frontend/net/facts.ts";
import { Ifcap } from "../../frontend/net/ifnet.ts";
import { Csum, HashType, Mbuf, mbufByte } from "../../frontend/net/mbuf.ts";
import { nameOf } from "../../shared/bytes/names.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { systemClock } from "../../shared/clock.ts";
import { aqCommon, Opcode } from "../../shared/ena/admin.ts";
import {
  aenqConfig,
  FeatureId,
  featureCommand,
  SET_FEATURE_BODY,
} from "../../shared/ena/features.ts";
import { rxCdesc, TX_DESC_SIZE } from "../../shared/ena/io.ts";
import { type LlqFeature, llqFeature } from "../../shared/ena/llq.ts";
import { RSS_KEY_OFFSET } from "../../shared/ena/rss.ts";
import { silentLogger } from "../../shared/log.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { FakeDeviceLink } from "../support/fake-device-link.ts";
import { buildPacket } from "../support/packets.ts";
import { EnaPair } from "../support/pair.ts";

const OFFER: LlqFeature = {
  maxLlqNum: 4,
  maxLlqDepth: 1024,
  headerLocationSupported: 1,
  headerLocationEnabled: 0,
  entrySizeSupported: 1 | 4,
  entrySizeEnabled: 0,
  descsBeforeHeaderSupported: 2,
  descsBeforeHeaderEnabled: 0,
  strideSupported: 3,
  strideEnabled: 0,
  featureVersion: 1,
  entrySizeRecommended: 1,
  maxWideLlqDepth: 512,
  accelFlags: 0,
  maxTxBurstBytes: 0,
};

describe("guest-5 the admin commands are those of the original, in its order", () => {
  /**
   * "GET 20 v1 buffer": the feature, its version unless 0, and whether there is a control buffer.
   */
  function word(view: DataView): string {
    const { opcode } = aqCommon.parse(view, 0);
    if (opcode !== Opcode.GET_FEATURE && opcode !== Opcode.SET_FEATURE)
      return nameOf(Opcode, opcode);
    const c = featureCommand.parse(view, 0);
    return [
      opcode === Opcode.GET_FEATURE ? "GET" : "SET",
      nameOf(FeatureId, c.featureId),
      ...(c.featureVersion === 0 ? [] : [`v${c.featureVersion}`]),
      ...(c.controlLength === 0 ? [] : ["buffer"]),
    ].join(" ");
  }
  const INIT = [
    "SET HOST_ATTR_CONFIG",
    "GET DEVICE_ATTRIBUTES",
    "GET MAX_QUEUES_EXT v1",
    "GET AENQ_CONFIG",
    "GET STATELESS_OFFLOAD_CONFIG",
    "GET HW_HINTS",
    "GET LLQ v1",
    // ena_com_set_aenq_config reads the feature again.
    "GET AENQ_CONFIG",
    "SET AENQ_CONFIG",
    "SET LLQ",
  ];
  const QUEUES = ["CREATE_CQ", "CREATE_SQ", "CREATE_CQ", "CREATE_SQ"];
  const RSS_INIT = [
    "GET RSS_INDIRECTION_TABLE_CONFIG",
    "GET RSS_HASH_FUNCTION buffer",
    "GET RSS_HASH_FUNCTION",
    "SET RSS_HASH_FUNCTION buffer",
    "GET RSS_HASH_INPUT buffer",
    "SET RSS_HASH_INPUT buffer",
    "GET RSS_INDIRECTION_TABLE_CONFIG buffer",
  ];
  const RSS = [
    "SET RSS_INDIRECTION_TABLE_CONFIG buffer",
    "GET RSS_HASH_FUNCTION",
    "SET RSS_HASH_FUNCTION buffer",
    "SET RSS_HASH_INPUT buffer",
    "SET MTU",
  ];

  const commands = (pair: EnaPair): DataView[] =>
    pair.sent.flatMap((act) =>
      act.kind === "write" && act.type === RecordType.ENA_AQ ? viewOf(act.bytes) : [],
    );

  test("guest-5 attach and up, and after a reset the key of before", async () => {
    const pair = new EnaPair({});
    await pair.start();
    expect(commands(pair).map(word)).toEqual([...INIT, ...QUEUES, ...RSS_INIT, ...RSS]);
    const bodies = new Map(commands(pair).map((view) => [word(view), view]));
    const body = (what: string): DataView => {
      const { buffer, byteOffset } = bodies.get(what)!;
      return new DataView(buffer, byteOffset + SET_FEATURE_BODY);
    };
    expect(aenqConfig.parse(body("SET AENQ_CONFIG"), 0).enabledGroups).toBe(0xdf);
    expect(llqFeature.parse(body("SET LLQ"), 0)).toMatchObject({
      headerLocationEnabled: 1,
      entrySizeEnabled: 1,
      descsBeforeHeaderEnabled: 2,
      strideEnabled: 2,
      // The driver asks for both accelerations, though this device offers none.
      accelFlags: 3,
    });
    expect(pair.deviceFaults).toEqual([]);

    // Microsoft's key, as the device has it before any driver: last byte first.
    const key = pair.driver.adapter.rss.key!;
    const before = Buffer.from(key).toString("hex");
    expect(Buffer.from(key.slice(RSS_KEY_OFFSET)).reverse().toString("hex", 0, 4)).toBe("6d5a56da");
    pair.sent.length = 0;
    pair.nic.levers.requestReset();
    for (let i = 0; i < 3; i++) await pair.second();
    expect(commands(pair).map(word)).toEqual([...INIT, ...QUEUES, ...RSS]);
    expect(Buffer.from(pair.driver.adapter.rss.key!).toString("hex")).toBe(before);
    expect(pair.deviceFaults).toEqual([]);
  });
});

describe("low latency queues", () => {
  test("the usual offer: 128 bytes, two descriptors, several an entry", () => {
    expect(chooseLlq(OFFER)).toMatchObject({
      entryBytes: 128,
      wide: false,
      descsBeforeHeader: 2,
      descsPerEntry: 8,
      headerRoom: 96,
      disableMetaCaching: false,
      maxEntriesInBurst: 0,
    });
  });

  test("wide entries when recommended and there; a header has at most 255 bytes", () => {
    expect(chooseLlq({ ...OFFER, entrySizeRecommended: 4 })).toMatchObject({
      entryBytes: 256,
      wide: true,
      headerRoom: 224,
    });
    const narrow = { ...OFFER, entrySizeRecommended: 4, entrySizeSupported: 1 };
    expect(chooseLlq(narrow)).toMatchObject({ entryBytes: 128, wide: false });
  });

  test("falls back to what there is, and gives up on what can't be", () => {
    expect(chooseLlq({ ...OFFER, strideSupported: 1 })).toMatchObject({ descsPerEntry: 1 });
    expect(chooseLlq({ ...OFFER, descsBeforeHeaderSupported: 4 })).toMatchObject({
      descsBeforeHeader: 4,
      headerRoom: 64,
    });
    const burst = { ...OFFER, accelFlags: 3, maxTxBurstBytes: 1024 };
    expect(chooseLlq(burst)).toMatchObject({ disableMetaCaching: true, maxEntriesInBurst: 8 });
    expect(chooseLlq({ ...OFFER, headerLocationSupported: 2 })).toBeUndefined();
    expect(chooseLlq({ ...OFFER, entrySizeSupported: 0 })).toBeUndefined();
    expect(chooseLlq({ ...OFFER, descsBeforeHeaderSupported: 8 })).toBeUndefined();
  });
});

describe("submission queue in host memory", () => {
  test("publishes what was written, in two ranges across the wrap, before the doorbell", () => {
    const space = new DmaSpace({ log: silentLogger });
    const link = new FakeDeviceLink();
    space.attachLink(link);
    const pci = new PciFunction(space);
    const sq = new IoSq(space, pci, "sq", 8, RecordType.ENA_TX_DESC, undefined);
    const base = sq.memory!.address;
    const fill = (n: number): void => {
      for (let i = 0; i < n; i++) {
        sq.nextDesc();
        sq.descDone();
      }
    };
    fill(6);
    sq.ring();
    sq.ack(6);
    link.posted.length = 0;
    fill(5);
    sq.ring();
    expect(
      link.posted.map((p) =>
        p.kind === "write"
          ? [p.address - base, p.bytes.length]
          : p.kind === "mmio_write"
            ? viewOf(p.bytes).getUint32(0, true)
            : p.kind,
      ),
    ).toEqual([[6 * TX_DESC_SIZE, 2 * TX_DESC_SIZE], [0, 3 * TX_DESC_SIZE], 11]);
  });

  test("indexes wrap at 2^16: free entries and doorbells go on", () => {
    const space = new DmaSpace({ log: silentLogger });
    const pci = new PciFunction(space);
    const sq = new IoSq(space, pci, "sq", 16, RecordType.RAW, undefined);
    for (let lap = 0; lap < 2 ** 16 / 8 + 4; lap++) {
      if (sq.freeEntries() !== 15) throw new Error(`lap ${lap}: ${sq.freeEntries()} free`);
      for (let i = 0; i < 8; i++) {
        if (sq.phase !== 1 - (((lap * 8 + i) >> 4) & 1)) throw new Error(`lap ${lap}: phase`);
        sq.nextDesc();
        sq.descDone();
      }
      sq.ack(8);
    }
    expect(sq.cursor.head).toBe(32);
  });
});

describe("waits", () => {
  test("resolve when ready, at a poll", async () => {
    const waits = new Waits(systemClock);
    let ready = false;
    const wait = waits.until(() => ready, 60_000);
    ready = true;
    waits.poll();
    expect(await wait).toBe(true);
  });

  test("resolve false after their time, true if it came meanwhile", async () => {
    const waits = new Waits(systemClock);
    expect(await waits.until(() => false, 1)).toBe(false);
    let asked = 0;
    expect(await waits.until(() => ++asked > 1, 1)).toBe(true);
  });

  test("reject when abandoned, now and later", async () => {
    const waits = new Waits(systemClock);
    const wait = waits.until(() => false, 60_000);
    waits.abandon("gone");
    await expect(wait).rejects.toBeInstanceOf(Abandoned);
    await expect(waits.until(() => true, 1)).rejects.toBeInstanceOf(Abandoned);
  });

  test("a lock goes on after a step that failed", async () => {
    const lock = new AsyncLock();
    const order: number[] = [];
    const first = lock.run(async () => {
      await new Promise((resolve) => setImmediate(resolve));
      order.push(1);
      throw new Error("first");
    });
    const second = lock.run(async () => {
      order.push(2);
    });
    await expect(first).rejects.toThrow("first");
    await second;
    expect(order).toEqual([1, 2]);
  });
});

describe("flow", () => {
  const chain = (bytes: Uint8Array, cut: number): Mbuf => {
    const m = new Mbuf();
    m.attach(bytes, 0, cut, undefined);
    m.next = new Mbuf();
    m.next.attach(bytes, cut, bytes.length - cut, undefined);
    m.pktLength = bytes.length;
    return m;
  };

  test("the same for all packets of a flow, however cut; another for another port", () => {
    const a = buildPacket({ payload: Uint8Array.of(1, 2, 3), sourcePort: 1000 }).bytes;
    const b = buildPacket({ payload: Uint8Array.of(4), sourcePort: 1000, sequence: 99 }).bytes;
    const c = buildPacket({ payload: Uint8Array.of(1, 2, 3), sourcePort: 1001 }).bytes;
    const flowOf = (m: Mbuf): number => {
      findFacts(m);
      return m.flowId;
    };
    const hash = flowOf(chain(a, 20));
    for (const cut of [1, 13, 14, 33, 36]) expect(flowOf(chain(b, cut))).toBe(hash);
    expect(flowOf(chain(c, 20))).not.toBe(hash);
    expect(mbufByte(chain(a, 20), a.length)).toBe(0);
  });
});

describe("receive", () => {
  const MAC = [2, 0, 0, 0, 0, 1];

  test("segments of a burst are merged, and only with LRO on", async () => {
    const pair = new EnaPair({});
    await pair.start();
    const burst = async (): Promise<void> => {
      for (let i = 0; i < 10; i++) {
        const payload = new Uint8Array(1000).fill(i);
        const { bytes } = buildPacket({
          payload,
          sequence: 5000 + i * 1000,
          flags: 0x10,
          df: true,
          destination: MAC,
        });
        pair.inject(bytes, { csumValid: true });
      }
      pair.flushPort();
      await pair.settle();
    };
    await burst();
    expect(pair.inputs.length).toBe(1);
    const [merged] = pair.inputs;
    expect(merged?.bytes.length).toBe(54 + 10_000);
    expect(merged?.tsoSegsz).toBe(1000);
    expect(merged?.csumFlags).toBe(Csum.IP_TSO | Csum.IP_TCP);
    expect(pair.counter("queue0", "rx_ring", "lro_flushed")).toBe(1);
    pair.driver.ifnet.capEnable &= ~Ifcap.LRO;
    await burst();
    expect(pair.inputs.length).toBe(11);
  });

  test("no checked bit over a checksum that nobody checked", async () => {
    const pair = new EnaPair({});
    await pair.start();
    const good = buildPacket({ payload: new Uint8Array(100), destination: MAC }).bytes;
    const bad = good.slice();
    bad[50]! ^= 0xff;
    pair.inject(good, { csumValid: true });
    pair.inject(bad, { csumValid: false });
    pair.flushPort();
    await pair.settle();
    const flags = pair.inputs.map((f) => f.csumFlags & (Csum.L4_CALC | Csum.L4_VALID));
    expect(flags).toEqual([Csum.L4_CALC | Csum.L4_VALID, 0]);
  });

  const GOOD_L4 = Csum.L4_CALC | Csum.L4_VALID;
  const GOOD = GOOD_L4 | Csum.L3_CALC | Csum.L3_VALID;
  // A verdict: L3 and L4 protocol, wrong L3 sum, wrong L4 sum, L4 sum checked, fragment.
  test.each([
    ["TCP over IPv4", [8, 12, 0, 0, 1, 0], HashType.RSS_TCP_IPV4, GOOD, 1, 0],
    ["UDP over IPv4", [8, 13, 0, 0, 1, 0], HashType.RSS_UDP_IPV4, GOOD, 1, 0],
    ["UDP over IPv4, unchecked", [8, 13, 0, 0, 0, 0], HashType.RSS_UDP_IPV4, 0, 0, 0],
    ["UDP over IPv4, wrong", [8, 13, 0, 1, 1, 0], HashType.RSS_UDP_IPV4, 0, 0, 1],
    ["UDP over IPv4, wrong header", [8, 13, 1, 0, 1, 0], HashType.RSS_UDP_IPV4, 0, 0, 1],
    ["something over IPv4", [8, 0, 0, 0, 1, 0], HashType.RSS_IPV4, 0, 0, 0],
    ["a fragment", [8, 0, 0, 0, 0, 1], HashType.OPAQUE_HASH, 0, 0, 0],
    ["TCP over IPv6", [11, 12, 0, 0, 1, 0], HashType.RSS_TCP_IPV6, GOOD_L4, 1, 0],
    ["UDP over IPv6", [11, 13, 0, 0, 1, 0], HashType.RSS_UDP_IPV6, GOOD_L4, 1, 0],
    ["TCP over IPv6, wrong", [11, 12, 0, 1, 1, 0], HashType.RSS_TCP_IPV6, 0, 0, 1],
    ["something over IPv6", [11, 0, 0, 0, 1, 0], HashType.RSS_IPV6, 0, 0, 0],
    ["FCoE", [21, 0, 0, 0, 0, 0], HashType.OPAQUE_HASH, 0, 0, 0],
    ["a frame that the device can't parse", [0, 0, 0, 0, 0, 0], HashType.NONE, 0, 0, 0],
  ] as [string, Parameters<typeof rxCdesc.packVerdict>, number, number, number, number][])(
    "%s: hash type and checksums of %j",
    async (_, verdict, hash, flags, good, bad) => {
      const pair = new EnaPair({});
      await pair.start();
      pair.driver.ifnet.capEnable &= ~Ifcap.LRO;
      pair.tamper = (act) => {
        if (act.kind === "write" && act.type === RecordType.ENA_RX_CDESC) {
          const view = new DataView(act.bytes.buffer, act.bytes.byteOffset);
          const kept = rxCdesc.status(view, 0) & 0xff00_0000;
          view.setUint32(0, (kept | rxCdesc.packVerdict(...verdict)) >>> 0, true);
        }
        return [act];
      };
      pair.inject(buildPacket({ payload: new Uint8Array(100), destination: MAC }).bytes);
      pair.flushPort();
      await pair.settle();
      expect(pair.inputs).toMatchObject([{ hashType: hash, csumFlags: flags }]);
      const count = (name: string): number => pair.counter("queue0", "rx_ring", name);
      expect([count("csum_good"), count("csum_bad")]).toEqual([good, bad]);
    },
  );

  test("a refill that found no buffer is made up for by the watchdog", async () => {
    const pair = new EnaPair({ driver: { rxRingSize: 256 } });
    const held: Mbuf[] = [];
    await pair.start();
    pair.driver.ifnet.input = (m) => held.push(m);
    const bytes = buildPacket({
      payload: new Uint8Array(50),
      destination: MAC,
      protocol: 17,
    }).bytes;
    for (let i = 0; i < 4000; i++) {
      pair.inject(bytes);
      if (i % 50 === 0) {
        pair.flushPort();
        await pair.settle();
      }
    }
    pair.flushPort();
    await pair.settle();
    expect(pair.counter("queue0", "rx_ring", "mbuf_alloc_fail")).toBeGreaterThan(0);
    for (const m of held.splice(0)) m.free();
    for (let i = 0; i < 3; i++) await pair.second();
    expect(pair.counter("queue0", "rx_ring", "empty_rx_ring")).toBe(1);
    expect(pair.inject(bytes)).toBeUndefined();
    pair.flushPort();
    await pair.settle();
    expect(held.length).toBe(1);
  });
});

test("maps that could not be had in full go back to the cache, which destroys them and its tag", () => {
  const space = new DmaSpace({ log: silentLogger });
  const params = { alignment: 1, boundary: 0, maxSize: 64, nSegments: 1, maxSegSize: 64 };
  const tag = space.createTag({ ...params, name: "maps", direction: "toDevice" });
  const cache = new MapCache(tag);
  cache.give(cache.take(1));
  vi.spyOn(tag, "createMap").mockImplementationOnce(() => {
    throw new BusSpaceExhausted("no bus space");
  });
  expect(() => cache.take(2)).toThrow(BusSpaceExhausted);
  expect(tag.maps).toBe(1);
  cache.destroy();
  expect(tag.maps).toBe(0);
  expect(() => cache.take(1)).toThrow(/after destroy/);
});

describe("queues", () => {
  test("no more than the device offers", async () => {
    const pair = new EnaPair({ queues: 8, config: { queues: 3 } });
    await pair.start();
    expect(pair.counter("io_queues_nb")).toBe(3);
  });

  test("meta descriptors in front of every packet when the device keeps none", async () => {
    const pair = new EnaPair({ device: { disableMetaCaching: true } });
    await pair.start();
    for (let i = 0; i < 20; i++) expect(pair.send(new Uint8Array(200).fill(4))).toBe(0);
    await pair.settle();
    expect(pair.segment.length).toBe(20);
    expect(pair.deviceFaults).toEqual([]);
  });

  test("a packet of more pieces than the device accepts is copied into one, any other is not", async () => {
    const pair = new EnaPair({});
    await pair.start();
    const most = Math.min(pair.driver.adapter.maxTxSgl, PKT_MAX_BUFS) - 2;
    const pieces = (n: number): Uint8Array[] =>
      Array.from({ length: n }, (_, i) => new Uint8Array(100).fill(i + 1));
    for (const n of [1, most, most + 1]) expect(pair.send(...pieces(n))).toBe(0);
    await pair.settle();
    expect(pair.segment.map(({ bytes }) => bytes)).toEqual(
      [1, most, most + 1].map((n) => Uint8Array.from(Buffer.concat(pieces(n)))),
    );
    expect(pair.counter("queue0", "tx_ring", "mbuf_collapses")).toBe(1);
    expect(pair.outstanding).toBe(0);
  });

  test("offload facts that make no sense are dropped and counted", async () => {
    const pair = new EnaPair({});
    await pair.start();
    const tcp = buildPacket({ payload: new Uint8Array(3000) });
    const spoil: ((m: Mbuf) => void)[] = [
      (m) => (m.tsoSegsz = 0),
      (m) => (m.tsoSegsz = 0x4000),
      (m) => (m.csumStart = 5000),
      (m) => (m.csumStart = 20),
      (m) => (m.csumFlags = Csum.IP6_TSO | Csum.IP6_TCP),
    ];
    for (const change of spoil) {
      const m = pair.mbuf(tcp.bytes);
      m.csumFlags = Csum.IP_TSO | Csum.IP_TCP;
      m.csumStart = tcp.l4;
      m.csumOffset = 16;
      m.tsoSegsz = 1000;
      change(m);
      expect(pair.driver.ifnet.send(m)).toBe(0);
    }
    await pair.settle();
    expect(pair.segment).toEqual([]);
    expect(pair.outstanding).toBe(0);
    expect(pair.counter("queue0", "tx_ring", "bad_offload")).toBe(spoil.length);
    expect(pair.driver.ifnet.counters.oerrors).toBe(spoil.length);
  });
});
