/**
 * How a NIC handles frames, for ENA and Xen alike: one suite that runs on each. A skip is a
 * difference, with its reason here and in test/skips.json. The other half of the suite,
 * nic-lifecycle.test.ts, tests how a NIC starts, stops and recovers.
 */
import { beforeEach, describe, expect, test } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { Iff } from "../../frontend/net/ifnet.ts";
import { Csum } from "../../frontend/net/mbuf.ts";
import { adapterOf, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { EmulatedAdapter } from "../../frontend/netmap/emulated.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { Gso } from "../../shared/net/frame.ts";
import { putFrame, takeAll } from "../support/netmap-frames.ts";
import {
  arrive,
  arriving,
  bytesOf,
  CHECKSUM_AT,
  frame,
  MAC,
  PEER,
  payload,
  withOffload,
} from "../support/nic-frames.ts";
import { type Built, buildPacket } from "../support/packets.ts";
import { type AnyPair, NICS, type NicOptions } from "../support/pair.ts";
import { same, sameBytes } from "../support/same.ts";

const BROADCAST = [255, 255, 255, 255, 255, 255];
const GROUP = [0x33, 0x33, 0, 0, 0, 1];
const CHECKED = Csum.L4_CALC | Csum.L4_VALID;
const LENGTHS = [14, 15, 59, 60, 61, 96, 97, 128, 577, 1499, 1513, 1514];
describe.each(NICS)("$kind", ({ kind, make }) => {
  async function started(options: NicOptions = {}): Promise<AnyPair> {
    const nic = make(options);
    await nic.start();
    return nic;
  }

  describe("frames", () => {
    let nic: AnyPair;
    beforeEach(async () => {
      nic = await started({ mtu: 9000 });
    });

    test("of all lengths leave byte for byte, in order, and are freed", async () => {
      const lengths = [...LENGTHS, 4095, 4096, 4097, 9014];
      for (const length of lengths) expect(nic.send(frame(length, length))).toBe(0);
      await nic.settle();
      expect(bytesOf(nic.segment)).toEqual(lengths.map((n) => frame(n, n)));
      expect(nic.outstanding).toBe(0);
      expect(nic.segment.filter((f) => f.needsCsum || f.gso !== Gso.NONE)).toEqual([]);
      expect(nic.faults).toEqual([]);
    });

    test("of all lengths arrive byte for byte, in order", async () => {
      const lengths = [...LENGTHS, 4095, 4096, 4097, 9014];
      await arrive(nic, ...lengths.map((n) => arriving(n, n)));
      expect(bytesOf(nic.inputs)).toEqual(lengths.map((n) => arriving(n, n)));
      expect(nic.faults).toEqual([]);
    });

    test("in chains of any cut leave whole", async () => {
      const whole = frame(5000, 3);
      const sizes = [1, 2, 7, 14, 60, 300, 2048, 4096, 4999, 5000];
      for (const size of sizes) {
        const pieces: Uint8Array[] = [];
        for (let at = 0; at < whole.length; at += size) pieces.push(whole.slice(at, at + size));
        expect(nic.send(...pieces)).toBe(0);
        await nic.settle();
      }
      expect(bytesOf(nic.segment)).toEqual(sizes.map(() => whole));
      expect(nic.outstanding).toBe(0);
      expect(nic.faults).toEqual([]);
    });

    test("for everybody and for groups go both ways", async () => {
      for (const to of [BROADCAST, GROUP]) expect(nic.send(frame(100, 1, to))).toBe(0);
      await arrive(nic, frame(100, 2, BROADCAST, PEER), frame(100, 3, GROUP, PEER));
      expect(bytesOf(nic.segment)).toEqual([frame(100, 1, BROADCAST), frame(100, 1, GROUP)]);
      expect(bytesOf(nic.inputs)).toEqual([
        frame(100, 2, BROADCAST, PEER),
        frame(100, 3, GROUP, PEER),
      ]);
    });

    test("leave in one message, at once, when the port is flushed so", async () => {
      const messages = () => nic.toDriver.length;
      expect([nic.inject(arriving(60)), messages()]).toEqual([undefined, 0]);
      nic.flushPort(true);
      expect(messages()).toBe(1);
      nic.flushPort(true);
      nic.clock.turn();
      expect(messages()).toBe(1);
      await nic.settle();
      expect(bytesOf(nic.inputs)).toEqual([arriving(60)]);
    });

    test("are counted, packets and bytes each way", async () => {
      for (const length of LENGTHS) expect(nic.send(frame(length))).toBe(0);
      await arrive(nic, arriving(60), arriving(1000), arriving(9014));
      const { ipackets, ibytes, opackets, obytes, ...errors } = nic.ifnet.counters;
      expect([opackets, obytes]).toEqual([LENGTHS.length, LENGTHS.reduce((a, b) => a + b)]);
      expect([ipackets, ibytes]).toEqual([3, 60 + 1000 + 9014]);
      expect(errors).toEqual({ ierrors: 0, oerrors: 0, iqdrops: 0, oqdrops: 0 });
    });
  });

  test("many laps of the rings, both ways at once", async () => {
    const nic = await started();
    const seen = { out: 0, in: 0 };
    for (let round = 0; round < 30; round++) {
      for (let i = 0; i < 100; i++) same(nic.send(frame(60 + i, round)), 0);
      for (let i = 0; i < 100; i++) same(nic.inject(arriving(90 + i, round)), undefined);
      nic.flushPort();
      await nic.settle();
      for (; seen.out < nic.segment.length; seen.out++) {
        sameBytes(nic.segment[seen.out]!.bytes, frame(60 + (seen.out % 100), round));
      }
      for (; seen.in < nic.inputs.length; seen.in++) {
        sameBytes(nic.inputs[seen.in]!.bytes, arriving(90 + (seen.in % 100), round));
      }
    }
    expect(seen).toEqual({ out: 3000, in: 3000 });
    expect(nic.outstanding).toBe(0);
    expect(nic.faults).toEqual([]);
  });

  describe.each([
    { name: "TCP over IPv4", v6: false, protocol: 6 },
    { name: "UDP over IPv4", v6: false, protocol: 17 },
    { name: "TCP over IPv6", v6: true, protocol: 6 },
    { name: "UDP over IPv6", v6: true, protocol: 17 },
  ] as const)("checksums of $name", ({ v6, protocol }) => {
    const packet = (checksum: "full" | "partial", to: readonly number[]): Built =>
      buildPacket({ v6, protocol, checksum, destination: to, payload: payload(700, 5) });

    test("left to the device are told to the segment, with their place", async () => {
      const nic = await started();
      const built = packet("partial", PEER);
      expect(nic.sendMbuf(withOffload(nic.mbuf(built.bytes), built, v6, protocol))).toBe(0);
      await nic.settle();
      expect(bytesOf(nic.segment)).toEqual([built.bytes]);
      expect(nic.segment[0]).toMatchObject({
        needsCsum: true,
        csumStart: built.l4,
        csumOffset: CHECKSUM_AT[protocol],
        gso: Gso.NONE,
      });
      expect(nic.faults).toEqual([]);
    });

    test("already there are left alone", async () => {
      const nic = await started();
      const { bytes } = packet("full", PEER);
      expect(nic.send(bytes)).toBe(0);
      await nic.settle();
      expect(bytesOf(nic.segment)).toEqual([bytes]);
      expect(nic.segment[0]).toMatchObject({ needsCsum: false });
    });

    test("that the segment vouches for come up as checked", async () => {
      const nic = await started();
      const { bytes } = packet("full", MAC);
      expect(nic.inject(bytes, { csumValid: true })).toBeUndefined();
      nic.flushPort();
      await nic.settle();
      expect(bytesOf(nic.inputs)).toEqual([bytes]);
      expect(nic.inputs[0]!.csumFlags & CHECKED).toBe(CHECKED);
    });

    test("that are wrong never come up as right", async () => {
      const nic = await started();
      const { bytes } = packet("full", MAC);
      bytes[bytes.length - 1]! ^= 0x55;
      await arrive(nic, bytes);
      expect(bytesOf(nic.inputs)).toEqual([bytes]);
      expect(nic.inputs[0]!.csumFlags & Csum.L4_VALID).toBe(0);
    });

    test("blank in a frame of the segment come up with their place", async ({ skip }) => {
      skip(kind === "ena", "ENA has no descriptor for it: the switch finishes them for its port");
      const nic = await started();
      const built = packet("partial", MAC);
      const csumOffset = CHECKSUM_AT[protocol];
      const facts = { needsCsum: true, csumStart: built.l4, csumOffset, csumValid: true };
      expect(nic.inject(built.bytes, facts)).toBeUndefined();
      nic.flushPort();
      await nic.settle();
      expect(bytesOf(nic.inputs)).toEqual([built.bytes]);
      expect(nic.inputs).toMatchObject([{ csumStart: built.l4, csumOffset }]);
    });
  });

  describe.each([
    { name: "IPv4", v6: false, gso: Gso.TCPV4 },
    { name: "IPv6", v6: true, gso: Gso.TCPV6 },
  ] as const)("super-frames over $name", ({ v6, gso }) => {
    const superFrame = (bytes: number, to: readonly number[]): Built =>
      buildPacket({ v6, payload: payload(bytes), checksum: "partial", destination: to });

    test("leave as one, to be cut by whoever has to", async () => {
      const nic = await started();
      const sizes = [3000, 20_000, Math.min(60_000, nic.ifnet.hwTsomax - 100)];
      const built = sizes.map((size) => superFrame(size, PEER));
      for (const b of built) {
        expect(nic.sendMbuf(withOffload(nic.mbuf(b.bytes), b, v6, 6, 1400))).toBe(0);
      }
      await nic.settle();
      expect(bytesOf(nic.segment)).toEqual(built.map((b) => b.bytes));
      for (const sent of nic.segment) {
        expect(sent).toMatchObject({ gso, gsoSize: 1400, needsCsum: true });
      }
      expect(nic.outstanding).toBe(0);
      expect(nic.faults).toEqual([]);
    });

    test("of many pieces leave as one", async () => {
      const nic = await started();
      const built = superFrame(16_000, PEER);
      const pieces: Uint8Array[] = [built.bytes.slice(0, built.payload)];
      for (let at = built.payload; at < built.bytes.length; at += 1400) {
        pieces.push(built.bytes.slice(at, at + 1400));
      }
      expect(nic.sendMbuf(withOffload(nic.mbuf(...pieces), built, v6, 6, 1400))).toBe(0);
      await nic.settle();
      expect(bytesOf(nic.segment)).toEqual([built.bytes]);
      expect(nic.segment[0]).toMatchObject({ gso, gsoSize: 1400 });
    });

    test("of the segment come up as one chain", async ({ skip }) => {
      skip(kind === "ena", "ENA delivers no super-frames: the switch cuts them for its port");
      const nic = await started();
      const built = superFrame(60_000, MAC);
      const facts = {
        needsCsum: true,
        csumStart: built.l4,
        csumOffset: 16,
        csumValid: true,
        gso,
        gsoSize: 1400,
        headerLength: built.payload,
      };
      expect(nic.inject(built.bytes, facts)).toBeUndefined();
      nic.flushPort();
      await nic.settle();
      expect(bytesOf(nic.inputs)).toEqual([built.bytes]);
      expect(nic.inputs[0]).toMatchObject({ tsoSegsz: 1400 });
      expect(nic.inputs).toMatchObject([{ headerLength: built.payload, isIp6: v6 }]);
    });

    test("come of segments that follow each other", async () => {
      const nic = await started();
      const parts = [0, 1, 2, 3].map((i) => payload(1000, i));
      for (const [i, part] of parts.entries()) {
        const { bytes } = buildPacket({
          v6,
          payload: part,
          sequence: 1 + 1000 * i,
          df: true,
          destination: MAC,
        });
        expect(nic.inject(bytes, { csumValid: true })).toBeUndefined();
      }
      nic.flushPort();
      await nic.settle();
      expect(nic.inputs).toHaveLength(1);
      expect(nic.inputs[0]).toMatchObject({ tsoSegsz: 1000 });
      expect(nic.inputs[0]!.bytes.subarray(-4000)).toEqual(
        Uint8Array.from(parts.flatMap((p) => [...p])),
      );
    });
  });

  describe("the MTU", () => {
    test("changes, with traffic before and after", async () => {
      const nic = await started();
      expect(nic.send(frame(1514))).toBe(0);
      await arrive(nic, arriving(1514));
      for (const mtu of [9000, 1500, 4000]) {
        const errno = nic.ifnet.setMtu(mtu);
        await nic.settle();
        expect(await errno).toBe(0);
        expect(nic.ifnet.mtu).toBe(mtu);
        expect(nic.send(frame(mtu + 14, mtu))).toBe(0);
        await arrive(nic, arriving(mtu + 14, mtu));
        expect(nic.segment.at(-1)!.bytes).toEqual(frame(mtu + 14, mtu));
        expect(nic.inputs.at(-1)!.bytes).toEqual(arriving(mtu + 14, mtu));
      }
      expect([nic.segment.length, nic.inputs.length]).toEqual([4, 4]);
      expect(nic.faults).toEqual([]);
    });

    test("that makes no sense is refused, and the one before holds", async () => {
      const nic = await started({ mtu: 2000 });
      for (const mtu of [-1, 0, 1500.5, Number.NaN, 9217, 65_536]) {
        expect(await nic.ifnet.setMtu(mtu)).toBe(Errno.EINVAL);
        expect(nic.ifnet.mtu).toBe(2000);
      }
      expect(nic.send(frame(2014))).toBe(0);
      await nic.settle();
      expect(nic.segment).toHaveLength(1);
    });
  });

  describe("room", () => {
    test("a full queue refuses, and says once when there is room again", async () => {
      const nic = await started();
      let sent = 0;
      while (nic.send(frame(200, sent)) === 0) sent++;
      expect(sent).toBeGreaterThan(200);
      expect(nic.send(frame(200))).toBe(Errno.ENOBUFS);
      expect(nic.ifnet.flags & Iff.DRV_OACTIVE).not.toBe(0);
      expect([nic.outstanding, nic.readyCalls]).toEqual([sent, 0]);
      await nic.settle();
      expect(nic.readyCalls).toBe(1);
      expect(nic.ifnet.flags & Iff.DRV_OACTIVE).toBe(0);
      expect(nic.segment).toHaveLength(sent);
      expect(nic.send(frame(200))).toBe(0);
    });

    test("a link without room refuses, until it has some", async () => {
      const nic = await started();
      nic.writable = false;
      expect(nic.send(frame(100))).toBe(Errno.ENOBUFS);
      await nic.settle();
      expect(nic.readyCalls).toBe(0);
      nic.writable = true;
      nic.driver.writableAgain();
      expect(nic.readyCalls).toBe(1);
      expect(nic.send(frame(100))).toBe(0);
      await nic.settle();
      expect(nic.segment).toHaveLength(1);
    });
  });

  describe("four queues", () => {
    const FLOWS = 64;
    const FRAMES = 10;
    /** Frame `i` of flow `f`: the port is the flow, the first payload byte is the number. */
    const ofFlow = (f: number, i: number, to: readonly number[]): Uint8Array =>
      buildPacket({
        protocol: 17,
        sourcePort: 5000 + f,
        destination: to,
        payload: Uint8Array.of(i, ...payload(50)),
      }).bytes;
    const port = (bytes: Uint8Array): number => bytes[34]! * 256 + bytes[35]! - 5000;

    /** The numbers of the frames that arrived of each flow, in order of arrival. */
    function byFlow(list: readonly { readonly bytes: Uint8Array }[]): number[][] {
      const flows: number[][] = Array.from({ length: FLOWS }, () => []);
      for (const { bytes } of list) flows[port(bytes)]!.push(bytes[42]!);
      return flows;
    }

    test("share the flows, and each flow keeps its order, both ways", async () => {
      const nic = await started({ queues: 4 });
      for (let i = 0; i < FRAMES; i++) {
        for (let f = 0; f < FLOWS; f++) {
          expect(nic.send(ofFlow(f, i, PEER))).toBe(0);
          expect(nic.inject(ofFlow(f, i, MAC))).toBeUndefined();
        }
        nic.flushPort();
        // Some frames are delivered in between, so that the queues are at different positions.
        if (i % 3 === 0) nic.pump();
      }
      await nic.settle();
      const whole = Array.from({ length: FLOWS }, () =>
        Array.from({ length: FRAMES }, (_, i) => i),
      );
      expect(byFlow(nic.segment)).toEqual(whole);
      expect(byFlow(nic.inputs)).toEqual(whole);
      for (const ring of kind === "ena" ? ["tx_ring", "rx_ring"] : ["tx", "rx"]) {
        const counts = [0, 1, 2, 3].map((q) => nic.counter(`queue${q}`, ring, "count"));
        expect(counts.filter((count) => count === 0 || count % FRAMES !== 0)).toEqual([]);
        expect(counts.reduce((a, b) => a + b)).toBe(FLOWS * FRAMES);
      }
      expect(nic.faults).toEqual([]);
    });

    test("tell the stack the hash of a flow", async ({ skip }) => {
      skip(kind === "xen", "netfront asks its backend for no hash");
      const nic = await started({ queues: 4 });
      await arrive(nic, ...[0, 1, 0, 1].map((f, i) => ofFlow(f, i, MAC)));
      const hashes = byFlow(nic.inputs.map((input) => ({ bytes: input.bytes })));
      expect(hashes.slice(0, 2).map((flow) => flow.length)).toEqual([2, 2]);
      const ids = nic.inputs.map(({ bytes, flowId }) => `${port(bytes)}:${flowId}`);
      expect(new Set(ids).size).toBe(2);
      expect(nic.inputs.map(({ hashType }) => hashType)).not.toContain(0);
    });
  });

  test("netmap: an application gets and sends the same frames", async () => {
    const netmap = new Netmap();
    const nic = await started({ netmap });
    const opening = nmOpen(`netmap:${nic.ifnet.name}`, { netmap });
    await nic.settle();
    const open = await opening;
    await nic.settle();
    expect(adapterOf(open) instanceof EmulatedAdapter).toBe(kind === "xen");
    for (const length of LENGTHS) {
      expect(putFrame(open, open.txRing(0), frame(length, length))).toBe(true);
    }
    open.txsync();
    await arrive(nic, ...LENGTHS.map((n) => arriving(n, n)));
    open.rxsync();
    expect(takeAll(open, open.rxRing(0)).map((b) => Uint8Array.from(b))).toEqual(
      LENGTHS.map((n) => arriving(n, n)),
    );
    expect(bytesOf(nic.segment)).toEqual(LENGTHS.map((n) => frame(n, n)));
    expect(nic.inputs).toEqual([]);
    const closing = open.close();
    await nic.settle();
    await closing;
    await nic.settle();
    await arrive(nic, arriving(60, 77));
    expect(bytesOf(nic.inputs)).toEqual([arriving(60, 77)]);
    expect(nic.faults).toEqual([]);
  });
});
