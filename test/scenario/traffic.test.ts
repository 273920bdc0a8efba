/** A real kernel's traffic between two hosts, at each MTU and number of queues. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { iperf, ping } from "../support/iperf.ts";
import { Lab, MIXES } from "../support/lab.ts";
import { whyNoNamespaces } from "../support/netns.ts";

const why = whyNoNamespaces();
const SETUPS = MIXES.flatMap(({ mix, drivers }) => [
  { mix, drivers, mtu: 1500, queues: 1 },
  { mix, drivers, mtu: 1500, queues: 4 },
  { mix, drivers, mtu: 9000, queues: 1 },
  { mix, drivers, mtu: 9000, queues: 4 },
]).filter(({ mix, mtu, queues }) => mix === "ena and ena" || (mtu === 1500) === (queues === 1));
const FAMILIES = ["address", "address6"] as const;
/** More than all windows and rings hold. The last window may be in flight at the end. */
const TCP_BYTES = 16 << 20;
/**
 * Bytes that the receiver's program must have read when the sender ends. The kernels' buffers may
 * hold 10 MiB of a stream at that moment.
 */
const TCP_ARRIVED = TCP_BYTES / 16;
/**
 * Low enough for any machine that runs tests. When a process is paused for a second, the bytes of
 * both flows fit into the 128 KiB in flight, so a loss is a defect of the product.
 */
const UDP_BITS_PER_SECOND = 500_000;

describe.skipIf(why !== undefined)(`two hosts on one device${why ? `: ${why}` : ""}`, () => {
  describe.each(SETUPS)("$mix, MTU $mtu, $queues queue(s)", ({ drivers, mtu, queues }) => {
    let lab: Lab;

    beforeAll(async () => {
      lab = new Lab(2, drivers);
      await lab.startDevice();
      const args = ["--mtu", String(mtu), "--queues", String(queues)];
      await Promise.all([lab.startFrontend(0, { args }), lab.startFrontend(1, { args })]);
    });

    afterAll(async () => {
      await lab.close();
    });

    const ends = (i: 0 | 1, family: (typeof FAMILIES)[number]) => ({
      from: lab.host(i).namespace,
      to: lab.host(1 - i).namespace,
      address: lab.host(1 - i)[family],
    });

    it("gives both TAPs the MTU", () => {
      expect([lab.tap(0)?.mtu, lab.tap(1)?.mtu]).toEqual([mtu, mtu]);
    });

    it.each(FAMILIES)("pings without loss or doubles, both ways, by %s", async (family) => {
      const results = await Promise.all(
        ([0, 1] as const).map((i) =>
          ping({ ...ends(i, family), count: 100, intervalSeconds: 0.01 }),
        ),
      );
      for (const { sent, received, duplicates } of results) {
        expect({ received, duplicates }).toEqual({ received: sent, duplicates: 0 });
      }
    });

    it.each(FAMILIES)("takes whole packets of the full MTU by %s", async (family) => {
      const headers = family === "address" ? 28 : 48;
      const { sent, received } = await ping({
        ...ends(0, family),
        count: 10,
        intervalSeconds: 0.02,
        wholeBytes: mtu - headers,
      });
      expect(received).toBe(sent);
    });

    it.each(FAMILIES)("carries TCP both ways at once by %s", async (family) => {
      const results = await Promise.all(
        [[], ["-R"]].map((way) =>
          iperf({ ...ends(0, family), args: ["-n", String(TCP_BYTES), ...way] }),
        ),
      );
      for (const { sum_received } of results) {
        expect(sum_received.bytes).toBeGreaterThan(TCP_ARRIVED);
      }
    });

    it("carries several TCP streams", async () => {
      const { sum_received } = await iperf({
        ...ends(0, "address"),
        args: ["-n", String(TCP_BYTES), "-P", "4"],
      });
      expect(sum_received.bytes).toBeGreaterThan(TCP_ARRIVED);
    });

    it("carries UDP without loss at a moderate rate, IPv4 and IPv6 at once", async () => {
      const args = ["-u", "-b", String(UDP_BITS_PER_SECOND)];
      const results = await Promise.all(
        FAMILIES.map((family) => iperf({ ...ends(0, family), args })),
      );
      for (const { sum } of results) {
        expect(sum.packets).toBeGreaterThan(0);
        expect(sum.lost_packets).toBe(0);
      }
    });
  });
});
