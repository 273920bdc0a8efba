/** netfront's rings at their edges: ids, event index, refill threshold, kinds of extra info. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { MbufPool } from "../../frontend/net/mbuf.ts";
import { XenDmaMap } from "../../frontend/xen/bus-dma-xen/map.ts";
import { RX_SLOTS_MIN } from "../../frontend/xen/datapath-rx.ts";
import { Gso } from "../../shared/net/frame.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { HashType } from "../../shared/xen/control.ts";
import { EXTRA_FLAG_MORE, EXTRA_TYPE_MAX, ExtraType, GsoType } from "../../shared/xen/extra.ts";
import { RX_SLOT_SIZE } from "../../shared/xen/netif.ts";
import { RingWord } from "../../shared/xen/ring.ts";
import { frame, MAC } from "../support/nic-frames.ts";
import { buildPacket } from "../support/packets.ts";
import { LAZY_MS, XenPair } from "../support/pair.ts";
import { freeIds, violations } from "../support/xen-invariants.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

test("mutant-M1 a load that fails gives its request id back, however often", async () => {
  const pair = await XenPair.started();
  const load = vi.spyOn(XenDmaMap.prototype, "load").mockReturnValue(Errno.ENOSPC);
  for (let i = 0; i < 300; i++) expect(pair.send(frame(100, i))).toBe(0);
  expect(freeIds(pair.txq()).size).toBe(256);
  expect(pair.counter("queue0", "tx", "dma_mapping_err")).toBe(300);
  expect(violations(pair)).toEqual([]);
  load.mockRestore();
  expect(pair.send(frame(100))).toBe(0);
  await pair.settle();
  expect(pair.segment).toHaveLength(1);
});

describe("extra info", () => {
  const superFrame = buildPacket({ payload: frame(3000), destination: MAC, checksum: "partial" });
  const facts = {
    needsCsum: true,
    csumStart: superFrame.l4,
    csumOffset: 16,
    gso: Gso.TCPV4,
    gsoSize: 1000,
    headerLength: superFrame.payload,
  };

  /** A pair whose backend begins the extra info after the first response with these bytes. */
  async function receiveExtra(...bytes: number[]): Promise<XenPair> {
    const pair = await XenPair.started();
    pair.tamper = (act) => {
      if (act.kind === "write" && act.type === RecordType.XEN_RX_RSP) act.bytes.set(bytes, 8);
      return [act];
    };
    pair.inject(superFrame.bytes, facts);
    pair.flushPort();
    await pair.settle();
    return pair;
  }

  test.each([0, EXTRA_TYPE_MAX, EXTRA_TYPE_MAX + 1, 255])(
    "mutant-M14 of type %d is of no kind: the packet is dropped, its buffers are not",
    async (type) => {
      const pair = await receiveExtra(type);
      expect(pair.inputs).toEqual([]);
      expect(pair.counter("queue0", "rx", "bad_extra")).toBe(1);
      expect(pair.driver.ifnet.counters.ierrors).toBe(1);
      expect(pair.counter("queue0", "rx", "in_flight")).toBe(256);
      expect(violations(pair)).toEqual([]);
    },
  );

  test.each([
    [0, GsoType.TCPV4],
    [232, GsoType.NONE],
    [232, GsoType.TCPV6 + 1],
  ])("segments of %d bytes and type %d: the packet is dropped", async (size, type) => {
    const pair = await receiveExtra(ExtraType.GSO, 0, size, 0, type);
    expect(pair.inputs).toEqual([]);
    expect(pair.counter("queue0", "rx", "bad_extra")).toBe(1);
    expect(pair.driver.ifnet.counters.ierrors).toBe(1);
    expect(violations(pair)).toEqual([]);
  });

  test("a second extra info in the slot behind the first belongs to the same packet", async () => {
    const pair = await XenPair.started();
    const hash = [ExtraType.HASH, 0, HashType.IPV4_TCP, 0, 0x78, 0x56, 0x34, 0x12];
    pair.tamper = (act) => {
      if (act.kind === "write" && act.type === RecordType.XEN_RX_RSP) {
        expect(act.bytes.length).toBe(3 * RX_SLOT_SIZE);
        act.bytes[RX_SLOT_SIZE + 1] = EXTRA_FLAG_MORE;
        act.bytes.set(hash, 2 * RX_SLOT_SIZE);
      }
      return [act];
    };
    const flows: number[] = [];
    pair.onInput = (m) => {
      flows.push(m.flowId);
      m.free();
    };
    pair.inject(superFrame.bytes, facts);
    pair.inject(frame(60, 1, MAC));
    pair.flushPort();
    await pair.settle();
    expect(flows).toEqual([0x1234_5678]);
    expect(pair.counter("queue0", "rx", "gso")).toBe(1);
    expect(pair.driver.ifnet.counters.ierrors).toBe(0);
    expect(pair.counter("queue0", "rx", "in_flight")).toBe(256);
    expect(violations(pair)).toEqual([]);
  });

  test.each([1, 2, 3, 4])("of type %d is one that there is", async (type) => {
    const pair = await receiveExtra(type);
    expect(pair.counter("queue0", "rx", "bad_extra")).toBe(0);
    expect(pair.inputs).toHaveLength(1);
  });
});

test.each([
  [10, 30],
  [7, 8],
  [1, 1],
  [5, 0],
])(
  "mutant-M15 %d answered and %d still out: the next event is asked for behind half of those",
  async (answered, out) => {
    const pair = await XenPair.started();
    const ring = pair.txq().ring!;
    const armed = (): number => ring.view.getUint32(RingWord.RSP_EVENT, true);
    for (let i = 0; i < answered; i++) pair.send(frame(100, i));
    await Promise.resolve();
    // The backend answers the requests that it has seen, while more are in flight.
    pair.pumpDown();
    for (let i = 0; i < out; i++) pair.send(frame(100, i));
    await Promise.resolve();
    pair.clock.hurry(LAZY_MS);
    pair.pumpUp();
    expect(ring.inFlight).toBe(out);
    expect(armed()).toBe(answered + Math.floor(out / 2) + 1);
    await pair.settle();
    expect(pair.outstanding).toBe(0);
  },
);

test.each([
  [RX_SLOTS_MIN - 1, 0],
  [RX_SLOTS_MIN, RX_SLOTS_MIN],
])(
  "mutant-M16 with %d buffers for an empty ring the backend is shown %d",
  async (buffers, shown) => {
    // xen: netif.h, XEN_NETIF_NR_SLOTS_MIN is 18; the original waits for one more slot.
    expect(RX_SLOTS_MIN).toBe(19);
    const { get } = MbufPool.prototype;
    let left = buffers;
    vi.spyOn(MbufPool.prototype, "get").mockImplementation(function (this: MbufPool) {
      return left-- > 0 ? get.call(this) : undefined;
    });
    const pair = await XenPair.started();
    const ring = pair.rxq().ring!;
    expect([ring.claimed, ring.inFlight]).toEqual([buffers, shown]);
    expect(pair.rxq().short).toBe(shown === 0);
    expect(violations(pair)).toEqual([]);
  },
);
