/**
 * The transmit gate seen from the stack above it, for ENA and Xen alike: which frames are sent,
 * which wait, and which can never be sent. The device of each pair fails the test when its push
 * budget is exceeded.
 */
import { describe, expect, test } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import type { Mbuf } from "../../frontend/net/mbuf.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { bytesOf, frame, PEER, payload, withOffload } from "../support/nic-frames.ts";
import { type Built, buildPacket } from "../support/packets.ts";
import { type AnyPair, NICS, type NicOptions } from "../support/pair.ts";

const SMALLEST = { pushBytes: Limits.PUSH_BYTES_MIN };
/** Ethernet, IPv4 and TCP header of a super-frame. */
const HEADERS = 54;
/** The longest Ethernet frame that an IPv4 packet can fill. */
const LONGEST_IPV4 = 14 + 65_535;

const superFrame = (bytes: number): Built =>
  buildPacket({ payload: payload(bytes - HEADERS), checksum: "partial", destination: PEER });

const tso = (nic: AnyPair, built: Built): Mbuf =>
  withOffload(nic.mbuf(built.bytes), built, false, 6, 1400);

describe.each(NICS)("transmit gate, $kind", ({ make }) => {
  async function started(options: NicOptions = {}): Promise<AnyPair> {
    const nic = make(options);
    await nic.start();
    return nic;
  }

  test("the smallest legal push budget passes the longest super-frame, again and again", async () => {
    const nic = await started(SMALLEST);
    const built = superFrame(nic.ifnet.hwTsomax);
    for (let round = 1; round <= 3; round++) {
      expect(nic.sendMbuf(tso(nic, built))).toBe(0);
      expect(nic.sendMbuf(tso(nic, built))).toBe(Errno.ENOBUFS);
      await nic.settle();
      expect(nic.readyCalls).toBe(round);
    }
    expect(bytesOf(nic.segment)).toEqual([built.bytes, built.bytes, built.bytes]);
    expect(nic.outstanding).toBe(0);
    expect(nic.held()).toMatchObject({ pushedBytes: 0, pushes: 0 });
    expect(nic.faults).toEqual([]);
  });

  test("a small frame waits as a long one does when the budget is used up", async () => {
    const nic = await started(SMALLEST);
    const built = superFrame(nic.ifnet.hwTsomax);
    expect(nic.sendMbuf(tso(nic, built))).toBe(0);
    const small = frame(60);
    expect(nic.send(frame(1514))).toBe(Errno.ENOBUFS);
    await nic.settle();
    expect(nic.readyCalls).toBe(1);
    expect(nic.send(small)).toBe(0);
    await nic.settle();
    expect(bytesOf(nic.segment)).toEqual([built.bytes, small]);
    expect(nic.faults).toEqual([]);
  });

  test.each([
    { budget: "the smallest legal", pushBytes: SMALLEST.pushBytes },
    { budget: "one byte too small for the frame", pushBytes: LONGEST_IPV4 - 1 },
    { budget: "64 KiB of", pushBytes: 65_536 },
    { budget: "the usual", pushBytes: Limits.PUSH_BYTES },
  ])(
    "a super-frame beyond hwTsomax is refused for good, $budget push budget",
    async ({ pushBytes }) => {
      const nic = await started({ pushBytes });
      expect(nic.ifnet.hwTsomax).toBeLessThan(LONGEST_IPV4);
      const built = superFrame(LONGEST_IPV4);
      const errnos = Array.from({ length: 5 }, () => nic.sendMbuf(tso(nic, built)));
      expect(errnos).toEqual(new Array(5).fill(Errno.EMSGSIZE));
      await nic.settle();
      // No sender waits, and the next frame is sent.
      expect(nic.readyCalls).toBe(0);
      const next = frame(60);
      expect(nic.send(next)).toBe(0);
      await nic.settle();
      expect(bytesOf(nic.segment)).toEqual([next]);
      expect(nic.faults).toEqual([]);
    },
  );

  test("hwTsomax never exceeds the push budget", async () => {
    const nic = await started({ pushBytes: 20_000 });
    expect(nic.ifnet.hwTsomax).toBe(20_000);
    expect(nic.sendMbuf(tso(nic, superFrame(20_001)))).toBe(Errno.EMSGSIZE);
    expect(nic.sendMbuf(tso(nic, superFrame(20_000)))).toBe(0);
    await nic.settle();
    expect(nic.segment.length).toBe(1);
  });

  test("a frame that asks for no cutting and is longer than the device accepts is refused for good", async () => {
    const nic = await started();
    for (let i = 0; i < 3; i++) expect(nic.send(frame(65_536))).toBe(Errno.EMSGSIZE);
    expect(nic.send(frame(60))).toBe(0);
    await nic.settle();
    expect(bytesOf(nic.segment)).toEqual([frame(60)]);
    expect(nic.readyCalls).toBe(0);
    expect(nic.faults).toEqual([]);
  });

  test("a link without room is no reason to keep a frame that can never go", async () => {
    const nic = await started();
    nic.writable = false;
    expect(nic.send(frame(65_536))).toBe(Errno.EMSGSIZE);
    expect(nic.send(frame(60))).toBe(Errno.ENOBUFS);
    nic.writable = true;
    nic.driver.writableAgain();
    expect(nic.readyCalls).toBe(1);
  });

  test("a source that meets ENETDOWN hears when the interface is up again", async () => {
    const nic = await started();
    await nic.down();
    expect(nic.send(frame(60))).toBe(Errno.ENETDOWN);
    expect(nic.readyCalls).toBe(0);
    await nic.up();
    expect(nic.readyCalls).toBe(1);
    expect(nic.send(frame(60))).toBe(0);
    await nic.settle();
    expect(bytesOf(nic.segment)).toEqual([frame(60)]);
  });
});
