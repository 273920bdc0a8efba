/** netfront's data path by exact values: requests, responses, rings, counters. */
import { describe, expect, test, vi } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { Ifcap, Iff } from "../../frontend/net/ifnet.ts";
import { Csum, type Mbuf } from "../../frontend/net/mbuf.ts";
import { XenDmaMap } from "../../frontend/xen/bus-dma-xen/map.ts";
import { FrontRing } from "../../frontend/xen/memory.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { advance, index32 } from "../../shared/ring/index32.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { extra } from "../../shared/xen/extra.ts";
import { grantAddress } from "../../shared/xen/grant.ts";
import { RX_SLOT_SIZE, RxFlag, TX_SLOT_SIZE, txRequest } from "../../shared/xen/netif.ts";
import { RING_HEADER_SIZE, RingWord } from "../../shared/xen/ring.ts";
import { GrantStage } from "../support/grant-stage.ts";
import { arrive, arriving, bytesOf, frame, MAC, payload } from "../support/nic-frames.ts";
import { buildPacket } from "../support/packets.ts";
import { XenPair } from "../support/pair.ts";
import { freeIds, violations } from "../support/xen-invariants.ts";

/** Slots of a ring, and slots kept free for the largest packet. */
const SLOTS = 256;
const ROOM = 20;

/** Counters of a queue that are not 0, without its state. */
function counted(pair: XenPair, half: "tx" | "rx"): Record<string, number> {
  const queue = pair.driver.counters()["queue0"] as Record<string, Record<string, number>>;
  const { in_flight: _, pool: __, port: ___, ...counters } = queue[half]!;
  return Object.fromEntries(Object.entries(counters).filter(([, n]) => n !== 0));
}

/** Resets the counters. */
function forget(pair: XenPair): void {
  for (const stats of [...pair.info.txStats, ...pair.info.rxStats]) {
    for (const name of Object.keys(stats)) Object.assign(stats, { [name]: 0 });
  }
}

async function started(options: ConstructorParameters<typeof XenPair>[0] = {}): Promise<XenPair> {
  const pair = await XenPair.started(options);
  await pair.settle();
  // Removes the announcements of the connection.
  pair.segment.length = 0;
  forget(pair);
  pair.sent.length = 0;
  return pair;
}

describe("transmit", () => {
  /** The requests since `from`: offset, flags, size; for extra info its size and type. */
  function requests(pair: XenPair, from: number): (readonly number[])[] {
    const ring = pair.txq().ring!;
    let isExtra = false;
    return Array.from({ length: ring.reqProdPvt - from }, (_, i) => {
      const at = ring.at(index32(from + i));
      if (isExtra) {
        isExtra = false;
        return [extra.gsoSize(ring.view, at), extra.gsoType(ring.view, at)];
      }
      const flags = txRequest.flags(ring.view, at);
      isExtra = (flags & 8) !== 0;
      return [txRequest.offset(ring.view, at), flags, txRequest.size(ring.view, at)];
    });
  }

  /** A packet in pieces, each at this offset of a buffer of its own. */
  function pieces(pair: XenPair, ...places: [at: number, length: number][]): Mbuf {
    const bytes = places.map(([, length], i) => frame(length, i));
    const m = pair.mbuf(...bytes);
    let piece: Mbuf | undefined = m;
    for (const [i, [at]] of places.entries()) {
      const buffer = new Uint8Array(at + bytes[i]!.length);
      buffer.set(bytes[i]!, at);
      piece!.buffer = buffer;
      piece!.at = at;
      piece = piece!.next;
    }
    return m;
  }

  test.each([
    ["one piece", [[0, 100]], [[0, 0, 100]]],
    ["a whole page", [[0, 4096]], [[0, 0, 4096]]],
    [
      "a byte more",
      [[0, 4097]],
      [
        [0, 4, 4097],
        [0, 0, 1],
      ],
    ],
    [
      "two pages",
      [[0, 8192]],
      [
        [0, 4, 8192],
        [0, 0, 4096],
      ],
    ],
    [
      "three pieces",
      [
        [0, 60],
        [0, 70],
        [0, 80],
      ],
      [
        [0, 4, 210],
        [0, 4, 70],
        [0, 0, 80],
      ],
    ],
  ] as [string, [number, number][], number[][]][])(
    "requests of %s",
    async (_, places, expected) => {
      const pair = await started({ mtu: 9000 });
      const from = pair.txq().ring!.reqProdPvt;
      const { gate } = pair.info;
      const bytes = expected[0]![2]!;
      expect(pair.sendMbuf(pieces(pair, ...places))).toBe(0);
      expect(requests(pair, from)).toEqual(expected);
      expect([gate.pushes, gate.pushedBytes]).toEqual([expected.length, bytes]);
      expect([pair.txq().idsOut, pair.txq().extrasOut]).toEqual([expected.length, 0]);
      await pair.settle();
      expect([gate.pushes, gate.pushedBytes, pair.txq().idsOut]).toEqual([0, 0, 0]);
      const { notifications: _n, ...rest } = counted(pair, "tx");
      expect(rest).toEqual({ count: 1, bytes, requests: expected.length });
      expect(pair.ifnet.counters).toMatchObject({ opackets: 1, obytes: bytes });
      expect([pair.segment.length, pair.outstanding]).toEqual([1, 0]);
      expect(violations(pair)).toEqual([]);
    },
  );

  const tcp = buildPacket({ payload: payload(3000), checksum: "partial" });
  const tcp6 = buildPacket({ payload: payload(3000), checksum: "partial", v6: true });

  function asks(pair: XenPair, bytes: Uint8Array, flags: number, mss = 0): Mbuf {
    const m = pair.mbuf(bytes);
    m.csumFlags = flags;
    m.tsoSegsz = mss;
    return m;
  }

  // Flags: 1 the checksum is blank, 2 the data is valid, 8 extra info follows.
  test.each([
    ["nothing", tcp.bytes, 0, 0, [0]],
    ["TCP", tcp.bytes, Csum.IP_TCP, 0, [3]],
    ["UDP", tcp.bytes, Csum.IP_UDP, 0, [3]],
    ["TCP over IPv6", tcp6.bytes, Csum.IP6_TCP, 0, [3]],
    ["UDP over IPv6", tcp6.bytes, Csum.IP6_UDP, 0, [3]],
    ["TSO", tcp.bytes, Csum.IP_TSO | Csum.IP_TCP, 1000, [11, 1000, 1]],
    ["TSO and IPv4's checksum", tcp.bytes, Csum.IP_TSO | Csum.IP, 1000, [11, 1000, 1]],
    ["TSO over IPv6", tcp6.bytes, Csum.IP6_TSO, 1, [11, 1, 2]],
    ["TSO of the longest segments", tcp.bytes, Csum.IP_TSO, 0xffff, [11, 0xffff, 1]],
  ] as [string, Uint8Array, number, number, number[]][])(
    "flags and extra info: %s",
    async (_, bytes, flags, mss, [wanted, ...gso]) => {
      const pair = await started({ mtu: 9000 });
      const from = pair.txq().ring!.reqProdPvt;
      expect(pair.sendMbuf(asks(pair, bytes, flags, mss))).toBe(0);
      expect(requests(pair, from)).toEqual([
        [0, wanted, bytes.length],
        ...(gso.length > 0 ? [gso] : []),
      ]);
      expect(pair.txq().extrasOut).toBe(gso.length > 0 ? 1 : 0);
      await pair.settle();
      expect(pair.txq().extrasOut).toBe(0);
      expect(counted(pair, "tx")).toMatchObject({
        requests: gso.length > 0 ? 2 : 1,
        ...(gso.length > 0 ? { tso: 1 } : {}),
      });
      expect(pair.segment.length).toBe(1);
    },
  );

  const ALL_TX = Ifcap.TXCSUM | Ifcap.TXCSUM_IPV6 | Ifcap.TSO4 | Ifcap.TSO6;
  test.each([
    ["a header checksum alone", Csum.IP, 0, 0],
    ["segments of nothing", Csum.IP_TSO, 0, 0],
    ["segments beyond the field", Csum.IP_TSO, 0x1_0000, 0],
    ["TCP without the capability", Csum.IP_TCP, 0, Ifcap.TXCSUM],
    ["UDP over IPv6 without the capability", Csum.IP6_UDP, 0, Ifcap.TXCSUM_IPV6],
    ["TSO without the capability", Csum.IP_TSO, 1000, Ifcap.TSO4],
    ["TSO over IPv6 without the capability", Csum.IP6_TSO, 1000, Ifcap.TSO6],
  ])("what no backend can be asked: %s", async (_, flags, mss, without) => {
    const pair = await started();
    expect(pair.ifnet.capEnable & ALL_TX).toBe(ALL_TX);
    const sent = asks(pair, tcp.bytes.slice(0, 1000), flags, mss);
    pair.ifnet.capEnable &= ~without;
    expect(pair.sendMbuf(sent)).toBe(0);
    await pair.settle();
    expect(counted(pair, "tx")).toEqual({ bad_offload: 1 });
    expect(pair.ifnet.counters).toMatchObject({ oerrors: 1, opackets: 0 });
    expect([pair.segment.length, pair.outstanding]).toEqual([0, 0]);
  });

  test.each([
    ["TXCSUM", Ifcap.TXCSUM, tcp.bytes, Csum.IP_UDP],
    ["TXCSUM_IPV6", Ifcap.TXCSUM_IPV6, tcp6.bytes, Csum.IP6_TCP],
    ["TSO4", Ifcap.TSO4, tcp.bytes, Csum.IP_TSO],
    ["TSO6", Ifcap.TSO6, tcp6.bytes, Csum.IP6_TSO],
  ])(
    "a packet that needs only %s is sent with that alone enabled",
    async (_, cap, bytes, flags) => {
      const pair = await started({ mtu: 9000 });
      pair.ifnet.capEnable = cap;
      expect(pair.sendMbuf(asks(pair, bytes, flags, 1000))).toBe(0);
      await pair.settle();
      expect([pair.segment.length, counted(pair, "tx")["bad_offload"]]).toEqual([1, undefined]);
    },
  );

  test.each([
    ["TX_NULL", (pair: XenPair) => onTxResponse(pair, (view) => view.setInt16(2, 1, true))],
    ["TX_ID", (pair: XenPair) => onTxResponse(pair, (view) => view.setUint16(0, 256, true))],
    ["TX_RESPONSES", (pair: XenPair) => onRspProd(pair, 2)],
  ])("%s stops the NIC and frees nothing twice", async (reason, spoil) => {
    const pair = await started();
    spoil(pair);
    pair.send(frame(60));
    await pair.settle();
    expect([pair.info.broken, pair.outstanding]).toEqual([reason, 1]);
    expect(pair.info.stats.broken).toBe(1);
    pair.tamper = undefined;
    await pair.detach();
    expect(pair.outstanding).toBe(0);
  });

  /** Changes the first of the responses that come. */
  function onTxResponse(pair: XenPair, change: (view: DataView) => void): void {
    pair.tamper = (act) => {
      if (act.kind === "write" && act.type === RecordType.XEN_TX_RSP) change(viewOf(act.bytes));
      return [act];
    };
  }

  /** The backend says that it has answered so many requests. */
  function onRspProd(pair: XenPair, answered: number): void {
    const address = grantAddress(pair.txq().ring!.reference, RingWord.RSP_PROD);
    pair.tamper = (act) => {
      if (act.kind === "write" && act.address === address) {
        const view = viewOf(act.bytes);
        view.setUint32(0, pair.txq().ring!.rspCons + answered, true);
      }
      return [act];
    };
  }

  test("an owner of a packet that drops the link in the middle of the responses", async () => {
    const pair = await started();
    for (let i = 0; i < 3; i++) {
      const m = pair.mbuf(frame(60, i));
      const { release } = m;
      m.release = (one) => {
        release?.(one);
        if (pair.plugged) pair.cut();
      };
      expect(pair.sendMbuf(m)).toBe(0);
    }
    await pair.settle();
    expect(pair.outstanding).toBe(0);
    expect(pair.info.txStats[0]).toMatchObject({ count: 3, dropped_link: 2 });
    expect([pair.info.gate.pushes, pair.info.gate.pushedBytes]).toEqual([0, 0]);
  });

  test("13 bytes are no frame, 14 are", async () => {
    const pair = await started();
    for (const length of [13, 14]) expect(pair.send(frame(length))).toBe(0);
    await pair.settle();
    expect(counted(pair, "tx")).toMatchObject({ too_short: 1, count: 1, bytes: 14 });
    expect(pair.ifnet.counters.oerrors).toBe(1);
  });

  test("a ring refuses with 20 slots left, and goes on with more", async () => {
    const pair = await started();
    const tx = pair.txq();
    let sent = 0;
    while (pair.send(frame(60)) === 0) sent++;
    expect([sent, tx.ring!.freeRequests, tx.full]).toEqual([SLOTS - ROOM, ROOM, true]);
    expect(pair.send(frame(60))).toBe(Errno.ENOBUFS);
    expect(counted(pair, "tx")).toMatchObject({
      count: sent,
      queue_stops: 2,
      refused_ring: 2,
      requests: sent,
    });
    await pair.settle();
    expect([pair.readyCalls, tx.full]).toEqual([1, false]);
    expect(counted(pair, "tx")["queue_wakeups"]).toBe(1);
    expect(pair.send(frame(60))).toBe(0);
    await pair.settle();
    expect(counted(pair, "tx")).toMatchObject({ queue_stops: 2, queue_wakeups: 1 });
  });

  test("18 pieces go as they are; of 19 a copy goes, page by page", async () => {
    const pair = await started();
    for (const n of [18, 19]) {
      const from = pair.txq().ring!.reqProdPvt;
      const chain = Array.from({ length: n }, (_, i) => frame(50 + i, i));
      expect(pair.send(...chain)).toBe(0);
      expect(requests(pair, from).length).toBe(n === 18 ? 18 : 1);
      expect(counted(pair, "tx")["defrag"]).toBe(n === 18 ? undefined : 1);
      await pair.settle();
      expect(bytesOf(pair.segment).at(-1)).toEqual(
        Uint8Array.from(chain.flatMap((piece) => [...piece])),
      );
    }
    // A super-frame of many short pieces.
    const chain = Array.from({ length: 30 }, (_, i) => payload(300, i));
    const from = pair.txq().ring!.reqProdPvt;
    const { bytes } = buildPacket({
      payload: Uint8Array.from(chain.flatMap((piece) => [...piece])),
      checksum: "partial",
    });
    const cut = Array.from({ length: 30 }, (_, i) => bytes.slice(i * 302, (i + 1) * 302));
    const m = pair.mbuf(...cut);
    m.csumFlags = Csum.IP_TSO | Csum.IP_TCP;
    m.tsoSegsz = 1000;
    expect(pair.sendMbuf(m)).toBe(0);
    expect(requests(pair, from)).toEqual([
      [0, 15, bytes.length],
      [1000, 1],
      [0, 4, 4096],
      [0, 0, bytes.length - 8192],
    ]);
    await pair.settle();
    expect(bytesOf(pair.segment).at(-1)).toEqual(bytes);
  });

  test("a backend of fewer pieces: as many as it accepts, or a copy, or nothing", async () => {
    const pair = await started({ mtu: 9000 });
    pair.info.maxTxFrags = 2;
    for (const [length, requestCount] of [
      [4096, 1],
      [8192, 2],
    ] as const) {
      const from = pair.txq().ring!.reqProdPvt;
      expect(pair.send(frame(length - 20), frame(20))).toBe(0);
      expect(requests(pair, from).length).toBe(2);
      expect(pair.send(frame(length - 40), frame(20), frame(20))).toBe(0);
      expect(requests(pair, from).length).toBe(2 + requestCount);
    }
    expect(counted(pair, "tx")["defrag"]).toBe(3);
    expect(pair.send(frame(8193))).toBe(Errno.EMSGSIZE);
    expect(counted(pair, "tx")).toMatchObject({ too_long: 1, count: 4 });
    await pair.settle();
    expect(pair.segment.length).toBe(4);
  });

  test.each([0, 1, 2])("a load that fails at piece %i undoes the others", async (bad) => {
    const pair = await started({ mtu: 9000 });
    const { load } = XenDmaMap.prototype;
    let calls = 0;
    vi.spyOn(XenDmaMap.prototype, "load").mockImplementation(function (
      this: XenDmaMap,
      ...rest: Parameters<typeof load>
    ) {
      return calls++ === bad ? Errno.ENOSPC : load.apply(this, rest);
    });
    const before = [...freeIds(pair.txq())].sort();
    const live = pair.info.grants.liveCount;
    expect(pair.send(frame(9000))).toBe(0);
    expect(calls).toBe(bad + 1);
    expect([...freeIds(pair.txq())].sort()).toEqual(before);
    expect(pair.info.grants.liveCount).toBe(live);
    expect(counted(pair, "tx")).toEqual({ dma_mapping_err: 1 });
    expect(pair.held()).toMatchObject({ mbufs: 0, pushes: 0, pushedBytes: 0 });
    expect(violations(pair)).toEqual([]);
    expect(pair.send(frame(9000))).toBe(0);
    await pair.settle();
    expect(bytesOf(pair.segment)).toEqual([frame(9000)]);
  });

  test("a distrusted backend gets copies, counted, in pages without rest", async () => {
    const pair = await started({ driver: { trusted: false }, mtu: 9000 });
    expect(pair.send(frame(5000))).toBe(0);
    const pages = pair.txq().bounce.filter((page) => page !== undefined);
    expect(pages.map((page) => page.length)).toEqual([4096, 4096]);
    await pair.settle();
    expect(pair.send(frame(60, 3), frame(40, 4))).toBe(0);
    const used = pair.txq().bounce.filter((page) => page !== undefined);
    const small = used.find((page) => page[59] === frame(60, 3)[59])!;
    expect(small.subarray(100).every((byte) => byte === 0)).toBe(true);
    await pair.settle();
    expect(counted(pair, "tx")).toMatchObject({ bounced: 5100, count: 2 });
    pair.info.maxTxFrags = 1;
    expect(pair.send(frame(4097))).toBe(Errno.EMSGSIZE);
    expect(pair.send(frame(4096))).toBe(0);
    await pair.settle();
    expect(bytesOf(pair.segment)).toEqual([
      frame(5000),
      Uint8Array.from([...frame(60, 3), ...frame(40, 4)]),
      frame(4096),
    ]);
  });

  test.each([
    [0, {}, 0],
    [-1, { error: 1 }, 1],
    [-2, { dropped: 1 }, 1],
    [-3, { error: 1 }, 1],
  ])("a response of status %i", async (status, counters, oerrors) => {
    const pair = await started();
    pair.tamper = (act) => {
      if (act.kind === "write" && act.type === RecordType.XEN_TX_RSP) {
        viewOf(act.bytes).setInt16(2, status, true);
      }
      return [act];
    };
    pair.send(frame(60));
    await pair.settle();
    const { notifications: _, ...rest } = counted(pair, "tx");
    expect(rest).toEqual({ count: 1, bytes: 60, requests: 1, ...counters });
    expect(pair.ifnet.counters.oerrors).toBe(oerrors);
    expect([pair.outstanding, pair.info.broken]).toEqual([0, undefined]);
  });

  test("packets without a response when the link is lost are counted and freed", async () => {
    const pair = await started({ mtu: 9000 });
    for (let i = 0; i < 3; i++) pair.send(frame(9000, i));
    pair.cut();
    await pair.settle();
    expect(pair.info.txStats[0]).toMatchObject({ count: 3, dropped_link: 3 });
    expect(pair.ifnet.counters.oqdrops).toBe(3);
    expect(pair.info.stats.quarantined_maps).toBe(0);
    expect([pair.outstanding, pair.info.gate.pushes, pair.info.gate.pushedBytes]).toEqual([
      0, 0, 0,
    ]);
  });

  test("a tap sees what was sent, with its queue", async () => {
    const pair = await started();
    const seen: unknown[] = [];
    pair.ifnet.bpf = {
      input: (m, queue) => void seen.push(["in", m.pktLength, queue]),
      output: (m, queue) => void seen.push(["out", m.pktLength, queue]),
    };
    pair.send(frame(61));
    await arrive(pair, arriving(60));
    expect(seen).toEqual([
      ["out", 61, 0],
      ["in", 60, 0],
    ]);
  });
});

describe("receive", () => {
  /** Changes each response of the backend, in order. */
  function onResponse(pair: XenPair, change: (view: DataView, i: number) => void): void {
    let i = 0;
    pair.tamper = (act) => {
      if (act.kind === "write" && act.type === RecordType.XEN_RX_RSP) {
        const { buffer, byteOffset, length } = act.bytes;
        for (let at = 0; at < length; at += RX_SLOT_SIZE) {
          change(new DataView(buffer, byteOffset + at, RX_SLOT_SIZE), i++);
        }
      }
      return [act];
    };
  }
  const FLAGS = 4;
  const OFFSET = 2;
  const STATUS = 6;

  test("counts packets, bytes and the requests that replace what was used", async () => {
    const pair = await started({ mtu: 9000, driver: { lro: false } });
    await arrive(pair, arriving(60), arriving(5000), arriving(9000));
    const { notifications: _, ...rest } = counted(pair, "rx");
    expect(rest).toEqual({ count: 3, bytes: 14_060, requests: 6 });
    expect(pair.inputs.map(({ pieces, pktLength }) => [pieces, pktLength])).toEqual([
      [1, 60],
      [2, 5000],
      [3, 9000],
    ]);
    expect(bytesOf(pair.inputs)).toEqual([arriving(60), arriving(5000), arriving(9000)]);
    expect(pair.ifnet.counters).toMatchObject({ ipackets: 3, ibytes: 14_060, ierrors: 0 });
    expect(pair.inputDones).toBe(1);
    expect(pair.rxq().ring!.freeRequests).toBe(0);
  });

  test.each([
    ["up to the last byte of the page", 4096 - 1000, 1000, true],
    ["a byte beyond it", 4096 - 999, 1000, false],
    ["of none", 0, 0, true],
    ["an error", 0, -1, false],
  ])("a fragment %s", async (_, offset, status, ok) => {
    const pair = await started({ driver: { lro: false } });
    onResponse(pair, (view) => {
      view.setUint16(OFFSET, offset, true);
      view.setInt16(STATUS, status, true);
    });
    await arrive(pair, arriving(1000));
    expect(pair.inputs.map(({ pktLength }) => pktLength)).toEqual(ok ? [status] : []);
    expect(counted(pair, "rx")).toMatchObject(ok ? { count: 1 } : { bad_response: 1 });
    expect(pair.ifnet.counters.ierrors).toBe(ok ? 0 : 1);
    expect(pair.rxq().ring!.freeRequests).toBe(0);
    expect(violations(pair)).toEqual([]);
  });

  test("the error of any fragment costs the packet, and no other", async () => {
    const pair = await started({ mtu: 9000, driver: { lro: false } });
    for (const bad of [0, 1, 2]) {
      onResponse(pair, (view, i) => {
        if (i === bad) view.setInt16(STATUS, -1, true);
      });
      await arrive(pair, arriving(9000), arriving(60));
    }
    expect(bytesOf(pair.inputs)).toEqual([arriving(60), arriving(60), arriving(60)]);
    expect(counted(pair, "rx")).toMatchObject({ count: 3, bytes: 180, bad_response: 3 });
    expect(pair.ifnet.counters.ierrors).toBe(3);
    expect(violations(pair)).toEqual([]);
  });

  test.each([19, 20])("of %i fragments", async (frags) => {
    const pair = await started({ driver: { lro: false } });
    onResponse(pair, (view, i) => {
      view.setUint16(FLAGS, i < frags - 1 ? RxFlag.MORE_DATA : 0, true);
    });
    await arrive(pair, ...Array.from({ length: frags + 1 }, () => arriving(60)));
    const ok = frags === 19;
    expect(pair.inputs.map(({ pieces }) => pieces)).toEqual(ok ? [19, 1] : [1]);
    expect(counted(pair, "rx")["too_many_frags"]).toBe(ok ? undefined : 1);
    expect(pair.ifnet.counters.ierrors).toBe(ok ? 0 : 1);
    expect(violations(pair)).toEqual([]);
  });

  test("packets for an interface that is down are counted and their pages used again", async () => {
    const pair = await started({ mtu: 9000 });
    pair.ifnet.flags &= ~Iff.UP;
    await arrive(pair, arriving(60), arriving(9000));
    expect(pair.inputs).toEqual([]);
    expect(counted(pair, "rx")).toMatchObject({ count: 2, dropped_down: 2 });
    expect(pair.ifnet.counters).toMatchObject({ ipackets: 0, iqdrops: 2 });
    expect([pair.info.rxPool.inUse, pair.rxq().ring!.freeRequests]).toEqual([256, 0]);
  });

  test("a packet whose last fragment is not there is dropped", async () => {
    const pair = await started({ driver: { lro: false } });
    onResponse(pair, (view) => view.setUint16(FLAGS, RxFlag.MORE_DATA, true));
    await arrive(pair, arriving(60), arriving(61));
    expect(pair.inputs).toEqual([]);
    expect(counted(pair, "rx")["missing_frags"]).toBe(1);
    expect(pair.ifnet.counters.ierrors).toBe(1);
    onResponse(pair, (view) => view.setUint16(FLAGS, RxFlag.EXTRA_INFO, true));
    await arrive(pair, arriving(60));
    expect(counted(pair, "rx")["bad_extra"]).toBe(1);
    expect(pair.ifnet.counters.ierrors).toBe(2);
    expect(violations(pair)).toEqual([]);
  });

  const tcp = buildPacket({ payload: payload(200), destination: MAC, checksum: "partial" });
  const udp = buildPacket({
    payload: payload(200),
    destination: MAC,
    protocol: 17,
    checksum: "partial",
  });
  const udp6 = buildPacket({
    payload: payload(200),
    destination: MAC,
    protocol: 17,
    v6: true,
    checksum: "partial",
  });
  const CHECKED = Csum.L4_CALC | Csum.L4_VALID;
  const BLANK = RxFlag.CSUM_BLANK;
  test.each([
    ["nothing said", tcp.bytes, 0, [0, 0, 0], {}],
    ["right", tcp.bytes, RxFlag.DATA_VALIDATED, [CHECKED, 0, 0], { csum_good: 1 }],
    ["TCP, blank", tcp.bytes, BLANK, [Csum.IP_TCP, 34, 16], { csum_blank: 1 }],
    ["UDP, blank", udp.bytes, BLANK | 1, [Csum.IP_UDP, 34, 6], { csum_blank: 1 }],
    ["UDP over IPv6, blank", udp6.bytes, BLANK, [Csum.IP6_UDP, 54, 6], { csum_blank: 1 }],
    ["no IP, blank", arriving(100), BLANK, undefined, { bad_csum: 1 }],
    ["half a TCP header, blank", tcp.bytes.slice(0, 50), BLANK, undefined, { bad_csum: 1 }],
  ] as [string, Uint8Array, number, [number, number, number] | undefined, object][])(
    "checksum: %s",
    async (_, bytes, flags, facts, counters) => {
      const pair = await started({ driver: { lro: false } });
      onResponse(pair, (view) => view.setUint16(FLAGS, flags, true));
      await arrive(pair, bytes);
      expect(
        pair.inputs.map(({ csumFlags, csumStart, csumOffset }) => [
          csumFlags,
          csumStart,
          csumOffset,
        ]),
      ).toEqual(facts === undefined ? [] : [facts]);
      const {
        notifications: _n,
        requests: _r,
        count: _c,
        bytes: _b,
        ...rest
      } = counted(pair, "rx");
      expect(rest).toEqual(counters);
      expect(pair.ifnet.counters).toMatchObject(
        facts === undefined
          ? { ipackets: 0, ibytes: 0, ierrors: 1 }
          : { ipackets: 1, ibytes: bytes.length, ierrors: 0 },
      );
    },
  );

  test("segments are merged when checked or blank, and not otherwise; others go by", async () => {
    const segment = (i: number): Uint8Array =>
      buildPacket({ payload: payload(1000), sequence: 1 + i * 1000, df: true, destination: MAC })
        .bytes;
    for (const [flags, lro, lengths] of [
      [RxFlag.DATA_VALIDATED, true, [2054]],
      [RxFlag.CSUM_BLANK, true, [2054]],
      [0, true, [1054, 1054]],
      [RxFlag.DATA_VALIDATED, false, [1054, 1054]],
    ] as const) {
      const pair = await started({ driver: { lro } });
      onResponse(pair, (view) => view.setUint16(FLAGS, flags, true));
      await arrive(pair, segment(0), segment(1));
      expect(pair.inputs.map(({ pktLength }) => pktLength)).toEqual(lengths);
    }
  });
});

describe("the front half of a ring", () => {
  function ring(slotBytes: number, start = 0) {
    const stage = new GrantStage();
    const type = RecordType.XEN_TX_REQ;
    const made = new FrontRing(
      stage.space,
      stage.grants,
      0,
      "ring",
      slotBytes,
      type,
      index32(start),
    );
    const base = made.memory.address;
    const writes = (): number[][] =>
      stage.device.posted
        .splice(0)
        .flatMap((act) =>
          act.kind === "write" ? [[act.address - base, act.bytes.length, act.type]] : [],
        );
    const words = (): number[] => [0, 4, 8, 12].map((at) => made.view.getUint32(at, true));
    return { stage, made, writes, words };
  }
  const INDEX = [RingWord.REQ_PROD, 4, RecordType.XEN_RING_INDEX];

  test.each([
    [TX_SLOT_SIZE, 256],
    [RX_SLOT_SIZE, 256],
  ])("of slots of %i bytes: its words at first, and one grant", (slotBytes, slots) => {
    const { stage, made, writes, words } = ring(slotBytes, 7);
    expect(words()).toEqual([7, 8, 7, 8]);
    expect(writes()).toEqual([[0, RING_HEADER_SIZE, RecordType.XEN_RING_PAGE]]);
    expect([made.size, made.freeRequests, made.inFlight, made.claimed]).toEqual([
      slots,
      slots,
      0,
      0,
    ]);
    expect(made.slot(index32(slots + 3))).toBe(3);
    expect(made.at(index32(slots + 3))).toBe(RING_HEADER_SIZE + 3 * slotBytes);
    stage.grants.post();
    expect([...stage.device.entries.keys()]).toEqual([made.reference]);
  });

  test("requests go out once, in two writes only across the end, and then the index", () => {
    const { made, writes, words } = ring(TX_SLOT_SIZE);
    writes();
    const size = TX_SLOT_SIZE;
    const type = RecordType.XEN_TX_REQ;
    expect([made.publish(), writes()]).toEqual([false, []]);
    for (let i = 0; i < 250; i++) expect(made.claim()).toBe(i);
    expect([made.unpublished, made.inFlight, made.claimed]).toEqual([250, 0, 250]);
    // The backend asked for an event at the first request.
    expect(made.publish()).toBe(true);
    expect(writes()).toEqual([[RING_HEADER_SIZE, 250 * size, type], INDEX]);
    expect([made.unpublished, made.inFlight, words()[0]]).toEqual([0, 250, 250]);
    made.rspCons = index32(250);
    for (let i = 0; i < 6; i++) made.claim();
    expect(made.publish()).toBe(false);
    expect(writes()).toEqual([[RING_HEADER_SIZE + 250 * size, 6 * size, type], INDEX]);
    for (let i = 0; i < 5; i++) made.claim();
    made.publish();
    expect(writes()).toEqual([[RING_HEADER_SIZE, 5 * size, type], INDEX]);
    made.rspCons = index32(261);
    for (let i = 0; i < 254; i++) made.claim();
    made.view.setUint32(RingWord.REQ_EVENT, 515, true);
    expect(made.publish()).toBe(true);
    expect(writes()).toEqual([
      [RING_HEADER_SIZE + 5 * size, 251 * size, type],
      [RING_HEADER_SIZE, 3 * size, type],
      INDEX,
    ]);
    expect([made.freeRequests, made.inFlight]).toEqual([2, 254]);
  });

  test("responses up to the requests are possible, and no more", () => {
    const { made } = ring(TX_SLOT_SIZE, 2 ** 32 - 2);
    for (let i = 0; i < 4; i++) made.claim();
    const said = (n: number): number => {
      made.view.setUint32(RingWord.RSP_PROD, (2 ** 32 - 2 + n) >>> 0, true);
      return made.unconsumed();
    };
    expect([said(0), said(1)]).toEqual([0, -1]);
    made.publish();
    expect([said(0), said(1), said(4), said(5), said(-1)]).toEqual([0, 1, 4, -1, -1]);
    made.rspCons = advance(made.rspCons, 3);
    expect([said(3), said(4), said(2)]).toEqual([0, 1, -1]);
  });

  test("an event is asked for once", () => {
    const { made, writes, words } = ring(TX_SLOT_SIZE);
    writes();
    made.arm(index32(1));
    made.postEvent();
    expect(writes()).toEqual([]);
    made.arm(index32(5));
    expect(writes()).toEqual([]);
    made.postEvent();
    expect(writes()).toEqual([[RingWord.RSP_EVENT, 4, RecordType.XEN_RING_INDEX]]);
    expect(words()[3]).toBe(5);
    made.arm(index32(5));
    made.postEvent();
    expect(writes()).toEqual([]);
  });

  test("its end gives back page and reference, once; used, when the use ends", () => {
    for (const used of [false, true]) {
      const { stage, made } = ring(TX_SLOT_SIZE);
      const free = stage.grants.freeCount;
      stage.grants.post();
      if (used) stage.use(made.reference, 1);
      made.end();
      made.end();
      stage.grants.post();
      expect(stage.grants.quarantined).toBe(used ? 1 : 0);
      expect(stage.device.of("end_window").length).toBe(used ? 0 : 1);
      if (used) stage.use(made.reference, -1);
      expect([stage.grants.freeCount, stage.grants.quarantined]).toEqual([free + 1, 0]);
      expect(stage.device.of("end_window").length).toBe(1);
    }
  });
});
