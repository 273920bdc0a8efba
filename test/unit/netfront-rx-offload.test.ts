/** netfront's handling of a packet's checksum, by the packet's flags and content. */
import { describe, expect, test } from "vitest";
import { Csum, HashType, Mbuf, mCopyData } from "../../frontend/net/mbuf.ts";
import { offerToStack, RxExtras } from "../../frontend/xen/rx-offload.ts";
import { Gso } from "../../shared/net/frame.ts";
import { HashType as WireHash } from "../../shared/xen/control.ts";
import { ExtraType, extra, GsoType } from "../../shared/xen/extra.ts";
import { RX_SLOT_SIZE, RxFlag } from "../../shared/xen/netif.ts";
import { MAC, payload } from "../support/nic-frames.ts";
import {
  type Built,
  buildPacket,
  plainSum,
  pseudoHeader,
  type TcpOptions,
} from "../support/packets.ts";
import { XenPair } from "../support/pair.ts";
import { violations } from "../support/xen-invariants.ts";

const MSS = 1400;
const TCP_FIELD = 16;
/** A destination-options header of 8 bytes: PadN. */
const DESTINATION = { kind: 60, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0) };
const HOP_BY_HOP = { kind: 0, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0) };

const kinds: readonly [string, TcpOptions][] = [
  ["IPv4", {}],
  ["IPv4 with options", { ipOptions: Uint8Array.of(1, 1, 1, 0) }],
  [
    "IPv4 in two VLAN tags",
    {
      tags: [
        [0x88a8, 5],
        [0x8100, 7],
      ],
    },
  ],
  ["TCP options", { tcpOptions: Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2) }],
  ["IPv6", { v6: true }],
  ["IPv6 with extension headers", { v6: true, extensions: [HOP_BY_HOP, DESTINATION] }],
  ["IPv6 in a VLAN tag", { v6: true, tags: [[0x8100, 7]] }],
];

/** The packet with only the pseudo-header's sum, as segmentation needs it. */
function partial(built: Built): Uint8Array {
  const bytes = Uint8Array.from(built.bytes);
  const sum = plainSum(pseudoHeader(bytes, built.l3, built.l4, 6));
  bytes.set([sum >>> 8, sum & 0xff], built.l4 + TCP_FIELD);
  return bytes;
}

const rx = (pair: XenPair) => pair.info.rxStats[0]!;

describe("case-W9 a super-frame without csum_blank has a field that is no pseudo-header sum", () => {
  describe.each([true, false])("data_validated %s", (csumValid) => {
    test.each(kinds)("%s: the field is recalculated, and counted", async (_name, options) => {
      const pair = await XenPair.started();
      const built = buildPacket({ ...options, payload: payload(20_000), destination: MAC });
      let got: Mbuf | undefined;
      pair.onInput = (m) => {
        got = m;
      };
      pair.inject(built.bytes, {
        csumValid,
        gso: options.v6 ? Gso.TCPV6 : Gso.TCPV4,
        gsoSize: MSS,
        headerLength: built.payload,
      });
      pair.flushPort();
      await pair.settle();
      expect(Buffer.compare(pair.inputs[0]!.bytes, partial(built))).toBe(0);
      expect(got).toMatchObject({
        tsoSegsz: MSS,
        csumStart: built.l4,
        csumOffset: TCP_FIELD,
        headerLength: built.payload,
        csumFlags: options.v6 ? Csum.IP6_TSO | Csum.IP6_TCP : Csum.IP_TSO | Csum.IP_TCP,
      });
      got?.free();
      expect(rx(pair)).toMatchObject({ gso_checksum_fixup: 1, csum_blank: 0, bad_csum: 0 });
      expect(violations(pair)).toEqual([]);
    });
  });

  test.each(kinds)("%s: with csum_blank the field stays as it is", async (_name, options) => {
    const pair = await XenPair.started();
    const built = buildPacket({
      ...options,
      payload: payload(20_000),
      destination: MAC,
      checksum: "partial",
    });
    pair.inject(built.bytes, {
      needsCsum: true,
      csumStart: built.l4,
      csumOffset: TCP_FIELD,
      csumValid: true,
      gso: options.v6 ? Gso.TCPV6 : Gso.TCPV4,
      gsoSize: MSS,
      headerLength: built.payload,
    });
    pair.flushPort();
    await pair.settle();
    expect(Buffer.compare(pair.inputs[0]!.bytes, built.bytes)).toBe(0);
    expect(rx(pair)).toMatchObject({ gso_checksum_fixup: 0, csum_blank: 1 });
  });

  test.each([false, true])("IPv6 %s: wherever a backend cuts the headers", async (v6) => {
    const pair = await XenPair.started();
    const built = buildPacket({ v6, payload: payload(3000), destination: MAC });
    const want = partial(built);
    const got = new Uint8Array(want.length);
    let right = 0;
    pair.onInput = (m) => {
      mCopyData(m, 0, m.pktLength, got, 0);
      if (Buffer.compare(got, want) === 0) right++;
      m.free();
    };
    for (let cut = 1; cut < built.payload; cut++) {
      const m = pair.mbuf(built.bytes.slice(0, cut), built.bytes.slice(cut));
      m.tsoSegsz = MSS;
      m.isIp6 = v6;
      m.cookie = RxFlag.DATA_VALIDATED;
      offerToStack(pair.info, pair.rxq(), m);
    }
    expect(right).toBe(built.payload - 1);
  });

  test.each([
    ["UDP over IPv4", { protocol: 17 }, Gso.TCPV4],
    ["UDP over IPv6", { protocol: 17, v6: true }, Gso.TCPV6],
    ["IPv6 said to be IPv4", { v6: true }, Gso.TCPV4],
  ] as const)("%s is no TCP super-frame of that kind: dropped", async (_name, options, gso) => {
    const pair = await XenPair.started();
    const built = buildPacket({ ...options, payload: payload(5000), destination: MAC });
    const m = pair.mbuf(built.bytes);
    m.tsoSegsz = MSS;
    m.isIp6 = gso === Gso.TCPV6;
    offerToStack(pair.info, pair.rxq(), m);
    expect(pair.inputs).toEqual([]);
    expect(rx(pair)).toMatchObject({ bad_csum: 1, gso_checksum_fixup: 0 });
  });

  test.each([
    ["TCP over IPv4", {}],
    ["TCP over IPv6", { v6: true }],
    ["UDP over IPv4", { protocol: 17 }],
    ["UDP over IPv6", { protocol: 17, v6: true }],
  ] as const)("%s that is no super-frame keeps its whole checksum", async (_name, options) => {
    const pair = await XenPair.started({ driver: { lro: false } });
    const built = buildPacket({ ...options, payload: payload(500), destination: MAC });
    for (const csumValid of [false, true]) pair.inject(built.bytes, { csumValid });
    pair.flushPort();
    await pair.settle();
    const same = pair.inputs.filter(({ bytes }) => Buffer.compare(bytes, built.bytes) === 0);
    expect(same).toHaveLength(2);
    expect(rx(pair)).toMatchObject({ gso_checksum_fixup: 0, csum_good: 1 });
  });
});

describe("extra info", () => {
  const slot = () => new DataView(new ArrayBuffer(RX_SLOT_SIZE));
  const facts = (extras: RxExtras) => {
    const m = new Mbuf();
    extras.apply(m);
    return [m.cookie, m.hashType, m.flowId, m.tsoSegsz, m.isIp6];
  };

  test.each([
    [WireHash.IPV4, HashType.RSS_IPV4],
    [WireHash.IPV4_TCP, HashType.RSS_TCP_IPV4],
    [WireHash.IPV6, HashType.RSS_IPV6],
    [WireHash.IPV6_TCP, HashType.RSS_TCP_IPV6],
    [4, HashType.NONE],
  ])("a hash of type %i becomes type %i of the stack, until the next packet", (type, wanted) => {
    const extras = new RxExtras();
    const view = slot();
    extra.writeHash(view, 0, RX_SLOT_SIZE, 0, type, 1, 0x1234_5678);
    extras.reset(3);
    expect(extras.take(view, 0, ExtraType.HASH)).toBe(true);
    expect(facts(extras)).toEqual([3, wanted, 0x1234_5678, 0, false]);
    extras.reset(0);
    expect(facts(extras)).toEqual([0, HashType.NONE, 0, 0, false]);
  });

  test.each([
    [GsoType.TCPV4, 1000, true, [5, 0, 0, 1000, false]],
    [GsoType.TCPV6, 1, true, [5, 0, 0, 1, true]],
    [GsoType.TCPV6, 0, false, [5, 0, 0, 0, true]],
    [GsoType.TCPV4, 0, false, [5, 0, 0, 0, false]],
    [3, 1000, false, [5, 0, 0, 1000, false]],
  ])("segmentation of type %i, size %i: valid %s", (type, size, valid, wanted) => {
    const extras = new RxExtras();
    const view = slot();
    extra.writeGso(view, 0, RX_SLOT_SIZE, 0, size, type);
    extras.reset(5);
    expect(extras.take(view, 0, ExtraType.GSO)).toBe(valid);
    expect(facts(extras)).toEqual(wanted);
    extras.reset(0);
    expect(facts(extras)).toEqual([0, 0, 0, 0, false]);
  });

  test("a multicast list means nothing to a frontend", () => {
    const extras = new RxExtras();
    const view = slot();
    extra.writeGso(view, 0, RX_SLOT_SIZE, 0, 1000, GsoType.TCPV4);
    extras.reset(1);
    expect(extras.take(view, 0, ExtraType.MCAST_ADD)).toBe(true);
    expect(facts(extras)).toEqual([1, 0, 0, 0, false]);
  });
});

describe("what goes up", () => {
  const offer = (pair: XenPair, bytes: Uint8Array, flags: number, mss = 0, v6 = false): void => {
    const m = pair.mbuf(bytes);
    m.cookie = flags;
    m.tsoSegsz = mss;
    m.isIp6 = v6;
    offerToStack(pair.info, pair.rxq(), m);
  };
  const { CSUM_BLANK, DATA_VALIDATED } = RxFlag;
  const segment = (i: number, bytes = 1000): Uint8Array =>
    buildPacket({
      ...{ payload: payload(bytes), sequence: 1 + i * 1000, df: true },
      ...{ destination: MAC, checksum: "partial" },
    }).bytes;

  test("a super-frame does not overtake what is being merged, and is counted", async () => {
    const pair = await XenPair.started();
    offer(pair, segment(0), CSUM_BLANK);
    offer(pair, segment(1), DATA_VALIDATED);
    expect(pair.inputs).toEqual([]);
    offer(pair, segment(2, 3000), CSUM_BLANK, 1000);
    expect(pair.inputs.map(({ pktLength }) => pktLength)).toEqual([2054, 3054]);
    expect(rx(pair)).toMatchObject({ gso: 1, csum_blank: 2, csum_good: 1, lro_queued: 1 });
    expect(pair.ifnet.counters).toMatchObject({ ipackets: 3, ibytes: 1054 * 2 + 3054 });
    expect(pair.outstanding).toBe(0);
  });

  test.each([
    ["TCP of one byte, as a super-frame", segment(0, 1), 1000, true],
    ["TCP without a byte, as a super-frame", segment(0, 0), 1000, false],
    ["TCP without a byte", segment(0, 0), 0, true],
    ["UDP, as a super-frame of the smallest segments", undefined, 1, false],
    ["UDP", undefined, 0, true],
  ] as const)("%s", async (_, bytes, mss, ok) => {
    const pair = await XenPair.started({ driver: { lro: false } });
    const udp = buildPacket({ payload: payload(90), protocol: 17, destination: MAC }).bytes;
    offer(pair, bytes ?? udp, CSUM_BLANK, mss);
    expect(pair.inputs.length).toBe(ok ? 1 : 0);
    expect(rx(pair)).toMatchObject({ bad_csum: ok ? 0 : 1, gso: mss > 0 ? 1 : 0 });
    expect(pair.outstanding).toBe(0);
  });

  test("a fragment has no checksum field that could be blank", async () => {
    const pair = await XenPair.started({ driver: { lro: false } });
    const udp = buildPacket({ payload: payload(90), protocol: 17, destination: MAC });
    const bytes = udp.bytes.slice();
    // More fragments follow.
    bytes[udp.l3 + 6] = 0x20;
    offer(pair, bytes, CSUM_BLANK);
    offer(pair, bytes, DATA_VALIDATED);
    expect(pair.inputs.length).toBe(1);
    expect(rx(pair)).toMatchObject({ bad_csum: 1, csum_good: 1, csum_blank: 0 });
    expect(pair.outstanding).toBe(0);
  });
});
