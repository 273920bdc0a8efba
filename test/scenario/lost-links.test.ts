/**
 * The device is stopped under traffic until both links are given up, then continues. Every frame
 * has reached its receiver or is counted with a reason, across both connections.
 *
 *   txseq ─► driver ── link ──► port in ─► switch ─► port out ── link ──► driver ─► rxseq
 */
import { describe, expect, it } from "vitest";
import { DeviceProcess } from "../support/device-process.ts";
import { type Child, eventually, startRingwire } from "../support/process.ts";
import { allPorts, type DeviceStatus, portsAndLeft, sum, unaccounted } from "../support/status.ts";

const FRAMES = 20_000;

interface Result {
  readonly packets: number;
  readonly nics: readonly {
    readonly ifnet: { readonly opackets: number; readonly oqdrops: number };
  }[];
}

/** Totals of a NIC name: those of its live port, and of its ports that left. */
function totalsOf(status: DeviceStatus, name: string) {
  const ports = portsAndLeft(status).filter((p) => p.name === name);
  const add = (of: (port: (typeof ports)[number]) => number) =>
    ports.reduce((all, p) => all + of(p), 0);
  return {
    in: add((p) => p.in.frames),
    forwarded: add((p) => p.in.forwarded),
    offered: add((p) => p.out.offered),
    taken: add((p) => p.out.frames),
    dropped: add((p) => sum(p.out.dropped)),
    lost: add((p) => sum(p.lost.out)),
    linkLost: add((p) => p.lost.out["link_lost"] ?? 0),
  };
}

const result = (child: Child): Promise<Result> =>
  child.waitForJson((line) => line["event"] === "result");

describe.each([
  ["ena0", "xn0"],
  ["xn0", "ena0"],
])("frames from %s to %s over a lost link", (from, to) => {
  it("attack-S9, inv-I1, fault-K1, fault-K3 are received or counted, and so is why the link was reset", async () => {
    const device = await DeviceProcess.start();
    const generator = (mode: string, port: string, ...more: string[]): Child =>
      startRingwire([
        ...["pkt-gen", "-f", mode, "-i", `netmap:${port}`, "--connect", device.url, "--json"],
        ...more,
      ]);
    const receiver = generator("rxseq", to);
    let sender: Child | undefined;
    try {
      const mac = await eventually("the receiver", async () => {
        const status = await device.status();
        return allPorts(status).length === 1 ? status.nics[0]?.mac : undefined;
      });
      sender = generator("txseq", from, "-D", mac, "-R", "5000", "-n", `${FRAMES}`);
      const both = [receiver, sender];
      await eventually("frames", async () => {
        const port = allPorts(await device.status()).find((p) => p.name === to);
        return (port?.out.frames ?? 0) > 1000 ? true : undefined;
      });
      device.child.signal("SIGSTOP");
      await Promise.all(both.map((child) => child.waitFor(/the link is gone: no sign of life/)));
      device.child.signal("SIGCONT");
      await Promise.all(both.map((child) => child.waitFor(/the link is back/)));
      // pkt-gen ends when its ring is empty: every frame has reached the device, or was lost.
      const sent = await result(sender);
      await sender.ended();
      // Frames in flight arrive: the receiver's driver has reported all of them.
      await eventually("the last frames", async () => {
        const { nics } = await device.status();
        const receiving = nics.find((nic) => nic.name === to);
        return receiving?.link.inFlightBytes === 0 ? true : undefined;
      });
      receiver.signal("SIGINT");
      const received = await result(receiver);
      await receiver.ended();
      const status = await eventually("both to leave", async () => {
        const now = await device.status();
        return now.nics.length === 0 ? now : undefined;
      });

      expect(unaccounted(status)).toEqual([]);
      const source = totalsOf(status, from);
      const target = totalsOf(status, to);
      const [{ ifnet }] = sent.nics as [Result["nics"][number]];
      // The device takes no more frames than the driver put into its ring.
      expect(source.in).toBeLessThanOrEqual(ifnet.opackets);
      // A frame whose completion was lost is counted on both sides.
      expect(source.in + ifnet.oqdrops).toBeGreaterThanOrEqual(FRAMES);
      expect(target.offered).toBe(target.taken + target.dropped);
      // A frame that arrived, but was not reported before the link was lost, counts as lost.
      expect(received.packets).toBeGreaterThanOrEqual(target.taken - target.lost);
      expect(received.packets).toBeLessThanOrEqual(target.taken - target.lost + target.linkLost);

      const ena = status.left.nics.find((nic) => nic.name === "ena0")!;
      // On a busy machine the driver's limit for completions (5 s) may end before the link does.
      const { KEEP_ALIVE_TO = 0, MISS_TX_CMPL = 0 } = ena.resets;
      expect([ena.connections, KEEP_ALIVE_TO + MISS_TX_CMPL]).toEqual([2, 1]);
    } finally {
      await sender?.stop();
      await receiver.stop();
      await device.stop();
    }
  });
});
