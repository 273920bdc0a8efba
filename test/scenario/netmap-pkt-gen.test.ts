/** pkt-gen against pkt-gen through a real device: every frame accounted for; round trips; lb. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DeviceProcess } from "../support/device-process.ts";
import {
  hasReported,
  interrupt,
  type PktGenResult,
  resultOf,
  startApp,
} from "../support/netmap-app.ts";
import { type PortStatus, portOf, sum } from "../support/status.ts";

const THREADS = [
  ["the main thread", ""],
  ["a worker", " --worker"],
] as const;

let device: DeviceProcess;

beforeAll(async () => {
  device = await DeviceProcess.start();
});

afterAll(async () => {
  await device.child.stop();
});

/** Runs txseq against rxseq. Returns both reports, and the receiver's port with settled counts. */
async function numbered(flags: string, rxFlags: string, from = "ena1", to = "ena0") {
  const rx = await startApp(`pkt-gen -i netmap:${to} -f rxseq -T 100${rxFlags}`, device.url);
  const tx = await startApp(`pkt-gen -i netmap:${from} -f txseq ${flags}`, device.url);
  const sent = await resultOf(tx);
  let port: PortStatus | undefined;
  await hasReported(rx, async () => {
    port = portOf(await device.status(), to);
    return port.out.frames - sum(port.lost.out);
  });
  return { sent, got: await interrupt(rx), port: port! };
}

describe("numbered frames, pkt-gen to pkt-gen", () => {
  describe.each(THREADS)("in %s", (_where, flag) => {
    it.each(["-l 60", "-l 1514", "-l 1514 -l 60", "-l 1800 -F 3 --mtu 2000"])(
      "at full speed, %s: each is received or counted as lost",
      async (size) => {
        const count = 20_000;
        const rxFlags = size.includes("--mtu") ? `${flag} --mtu 2000` : flag;
        const { sent, got, port } = await numbered(`-n ${count} ${size}${flag}`, rxFlags);
        expect(sent.packets).toBe(count);
        // Every frame reached the switch and went to this port.
        expect(port.out.offered).toBe(count);
        const lost = sum(port.out.dropped) + sum(port.lost.out);
        const { unique, duplicate, stale, corrupt, foreign } = got.sequence!;
        expect({ duplicate, stale, corrupt, foreign }).toEqual({
          duplicate: 0,
          stale: 0,
          corrupt: 0,
          foreign: 0,
        });
        expect(unique + lost).toBe(count);
        expect(got.packets).toBe(unique);
        expect(got.nics[0]!.ifnet).toMatchObject({ ipackets: unique, iqdrops: 0, ierrors: 0 });
      },
    );

    it("at -R 1000: none is lost, and the rate is kept", async () => {
      const { sent, got } = await numbered(`-n 2000 -R 1000${flag}`, flag);
      expect(sent.packets).toBe(2000);
      // Late is allowed, early is not: the last frame is due after 1999 ms.
      expect(sent.seconds).toBeGreaterThan(1.99);
      expect(got.sequence).toMatchObject({ first: 0, highest: 1999, unique: 2000, missing: 0 });
    });
  });

  it("with four threads, each with a ring of its own", async () => {
    const rx = await startApp("pkt-gen -i netmap:ena0 -f rx -T 100 --queues 4 -p 4", device.url);
    const tx = await startApp("pkt-gen -i netmap:ena1 -f tx -n 10001 -z -p 4", device.url);
    const sent = await resultOf(tx);
    expect(sent.packets).toBe(10_001);
    let port: PortStatus | undefined;
    await hasReported(rx, async () => {
      port = portOf(await device.status(), "ena0");
      return port.out.frames - sum(port.lost.out);
    });
    expect(port!.out.offered).toBe(10_001);
    const got = await interrupt(rx);
    expect(got.packets + sum(port!.out.dropped) + sum(port!.lost.out)).toBe(10_001);
  });
});

describe("through the emulated adapter of a Xen NIC", () => {
  it.each([
    ["xn1", "xn0"],
    ["xn1", "ena0"],
    ["ena1", "xn0"],
  ])("numbered frames from %s to %s: each is received or counted as lost", async (from, to) => {
    const count = 20_000;
    const { sent, got, port } = await numbered(`-n ${count} -l 60 -l 1514`, "", from, to);
    expect(sent.packets).toBe(count);
    const { unique, duplicate, stale, corrupt, foreign } = got.sequence!;
    expect({ duplicate, stale, corrupt, foreign }).toEqual({
      duplicate: 0,
      stale: 0,
      corrupt: 0,
      foreign: 0,
    });
    expect(port.out.offered).toBe(count);
    // The interface, not the switch, counts a frame for which the adapter has no slot.
    const { iqdrops = 0 } = got.nics[0]!.ifnet;
    expect(unique + sum(port.out.dropped) + sum(port.lost.out) + iqdrops).toBe(count);
  });

  it("at -R 1000 none is lost", async () => {
    const { got } = await numbered("-n 1000 -R 1000", "", "xn1", "xn0");
    expect(got.sequence).toMatchObject({ first: 0, highest: 999, unique: 1000, missing: 0 });
  });
});

describe.each(THREADS)("ping and pong in %s", (_where, flag) => {
  let pinged: PktGenResult;
  let answered: PktGenResult;

  beforeAll(async () => {
    const pong = await startApp(`pkt-gen -i netmap:ena0 -f pong${flag}`, device.url);
    const ping = await startApp(`pkt-gen -i netmap:ena1 -f ping -n 500${flag}`, device.url);
    pinged = await resultOf(ping);
    answered = await interrupt(pong);
  });

  it("has an answer to each ping", () => {
    expect(pinged.sequence).toMatchObject({ unique: 500, missing: 0, duplicate: 0, late: 0 });
    expect(pinged).toMatchObject({ packets: 500, unanswered: 0 });
    expect(answered.packets).toBe(500);
  });

  it("has every delay in the histogram, in order", () => {
    const { count, minNs, p50Ns, p99Ns, maxNs, octaves } = pinged.delays!;
    expect(count).toBe(500);
    expect(octaves.reduce((n, [, some]) => n + some, 0)).toBe(500);
    expect(minNs).toBeGreaterThan(0);
    const order = [minNs, p50Ns, p99Ns, maxNs];
    expect(order.toSorted((a, b) => a - b)).toEqual(order);
    expect(octaves[0]![0]).toBeLessThanOrEqual(minNs);
    expect(octaves.at(-1)![0] * 2).toBeGreaterThan(maxNs);
  });
});

describe.each(THREADS)("lb in %s", (_where, flag) => {
  interface LbResult {
    readonly input: { readonly packets: number };
    readonly pipes: readonly { readonly packets: number; readonly drops: number }[];
  }

  const shared = async (addresses: string): Promise<LbResult> => {
    const lb = await startApp(`lb -i netmap:ena0 -p 3 -T 100${flag}`, device.url);
    const tx = await startApp(
      `pkt-gen -i netmap:ena1 -f tx -n 2000 -R 20000 ${addresses}`,
      device.url,
    );
    await resultOf(tx);
    await hasReported(lb, async () => {
      const port = portOf(await device.status(), "ena0");
      return port.out.frames - sum(port.lost.out);
    });
    return await interrupt<LbResult>(lb);
  };
  const takenBy = ({ pipes }: LbResult) => pipes.map(({ packets, drops }) => packets + drops);

  it("gives every frame to one pipe, many flows to all", async () => {
    const result = await shared("-s 10.0.0.1:1000-10.0.0.9:2000");
    const taken = takenBy(result);
    expect(result.input.packets).toBeGreaterThan(0);
    expect(taken.reduce((a, b) => a + b, 0)).toBe(result.input.packets);
    for (const packets of taken) expect(packets).toBeGreaterThan(0);
  });

  it("gives all frames of a flow to the same pipe", async () => {
    const result = await shared("-s 10.0.0.1:1000");
    expect(takenBy(result).toSorted((a, b) => a - b)).toEqual([0, 0, result.input.packets]);
  });
});
