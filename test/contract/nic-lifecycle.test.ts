/** How a NIC starts, stops and recovers, for ENA and Xen alike: the other half of nic.test.ts. */
import { describe, expect, test } from "vitest";
import { Verdict } from "../../device/switch/port.ts";
import { Errno } from "../../frontend/bus/errno.ts";
import { Iff } from "../../frontend/net/ifnet.ts";
import { SOAK } from "../support/counts.ts";
import { arrive, arriving, bytesOf, frame, MAC } from "../support/nic-frames.ts";
import { type AnyPair, NICS, type NicOptions, XenPair } from "../support/pair.ts";

/** The device makes the driver start again, while the link stays up. */
async function resetByDevice(nic: AnyPair): Promise<void> {
  if (nic instanceof XenPair) {
    // The toolstack closes the backend and offers it again, at most once a second.
    for (const state of ["5", "1"]) await nic.backendSays("state", state);
  } else {
    // The driver's watchdog handles this event.
    expect(nic.nic.levers.requestReset()).toBe(true);
    nic.pump();
  }
  await nic.second();
}

const ROUNDS = SOAK ? 200 : 60;

describe.each(NICS)("$kind", ({ kind, make }) => {
  async function started(options: NicOptions = {}): Promise<AnyPair> {
    const nic = make(options);
    await nic.start();
    return nic;
  }

  describe("coming and going", () => {
    test("attach finds the device, up brings the carrier, detach ends all", async () => {
      const nic = make();
      expect(nic.send(frame(60))).toBe(Errno.ENETDOWN);
      await nic.attach();
      expect([...nic.ifnet.mac]).toEqual(MAC);
      expect(nic.ifnet.flags & Iff.DRV_RUNNING).toBe(0);
      expect(nic.send(frame(60))).toBe(Errno.ENETDOWN);
      await nic.up();
      expect(nic.ifnet.flags & (Iff.UP | Iff.DRV_RUNNING)).toBe(Iff.UP | Iff.DRV_RUNNING);
      expect(nic.linkStates).toEqual([true]);
      expect(nic.ifnet.linkState).toBe("up");
      expect(nic.send(frame(60))).toBe(0);
      await nic.down();
      expect(nic.ifnet.flags & (Iff.UP | Iff.DRV_RUNNING)).toBe(0);
      expect(nic.send(frame(60))).toBe(Errno.ENETDOWN);
      await nic.up();
      expect(nic.send(frame(61))).toBe(0);
      await nic.settle();
      expect(bytesOf(nic.segment)).toEqual([frame(60), frame(61)]);
      await nic.detach();
      expect(nic.send(frame(60))).not.toBe(0);
      expect(Object.entries(nic.held()).filter(([, n]) => n !== 0)).toEqual([]);
      expect(nic.faults).toEqual([]);
    });

    test("what comes while the interface is down is dropped and counted, not handed up", async () => {
      const nic = await started();
      await nic.down();
      let refused = 0;
      for (let i = 0; i < 5; i++) if (nic.inject(arriving(100, i)) !== undefined) refused++;
      nic.flushPort();
      await nic.settle();
      expect(nic.inputs).toEqual([]);
      // With ENA the device refuses the frames.
      const dropped = kind === "xen" ? nic.counter("queue0", "rx", "dropped_down") : 0;
      expect(refused + dropped).toBe(5);
      expect(nic.ifnet.counters.ipackets).toBe(0);
      expect(nic.ifnet.counters.iqdrops).toBe(dropped);
      await nic.up();
      await arrive(nic, arriving(100, 9));
      expect(bytesOf(nic.inputs)).toEqual([arriving(100, 9)]);
      expect(nic.faults).toEqual([]);
    });

    test("many times up and down, with traffic: nothing grows", async () => {
      const nic = await started({ queues: 2 });
      let first: object | undefined;
      for (let round = 0; round < ROUNDS; round++) {
        await nic.down();
        await nic.up();
        expect(nic.send(frame(200, round))).toBe(0);
        await arrive(nic, arriving(300, round));
        const now = { ...nic.held(), granules: nic.space.granules.end };
        if (round === 3) first = now;
        if (round > 3) expect(now).toEqual(first);
      }
      expect([nic.segment.length, nic.inputs.length]).toEqual([ROUNDS, ROUNDS]);
      expect(nic.faults).toEqual([]);
    });

    test("detached with packets under way, each way: every mbuf is freed once", async () => {
      const nic = await started({ queues: 2 });
      for (let i = 0; i < 60; i++) expect(nic.send(frame(300, i))).toBe(0);
      for (let i = 0; i < 60; i++) expect(nic.inject(arriving(300, i))).toBeUndefined();
      nic.flushPort();
      expect(nic.outstanding).toBe(60);
      await nic.detach();
      expect(nic.outstanding).toBe(0);
      expect(Object.entries(nic.held()).filter(([, n]) => n !== 0)).toEqual([]);
      expect(nic.segment.length).toBeLessThanOrEqual(60);
    });
  });

  describe("recovery", () => {
    /** In each direction some frames are in flight, and some have just arrived. */
    function traffic(nic: AnyPair, round: number): number {
      let sent = 0;
      for (let i = 0; i < 40; i++) if (nic.send(frame(300 + i, round)) === 0) sent++;
      for (let i = 0; i < 40; i++) nic.inject(arriving(300 + i, round));
      nic.flushPort();
      return sent;
    }

    test("the link goes and comes under traffic: mbufs freed once, traffic goes on", async () => {
      const nic = await started({ queues: 2 });
      let first: object | undefined;
      let sent = 0;
      for (let round = 0; round < 30; round++) {
        sent += traffic(nic, round);
        if (round % 3 > 0) nic.pump();
        if (round % 3 === 2) await nic.settle();
        nic.cut();
        expect(nic.outstanding).toBe(0);
        expect(nic.ifnet.linkState).toBe("down");
        expect(nic.send(frame(60))).toBe(Errno.ENOBUFS);
        const ready = nic.readyCalls;
        await nic.reconnect();
        expect(nic.ifnet.linkState).toBe("up");
        expect(nic.readyCalls).toBe(ready + 1);
        const [out, up] = [nic.segment.length, nic.inputs.length];
        expect(nic.send(frame(999, round))).toBe(0);
        await arrive(nic, arriving(888, round));
        expect(nic.segment.slice(out).map((f) => f.bytes)).toEqual([frame(999, round)]);
        expect(nic.inputs.slice(up).map((f) => f.bytes)).toEqual([arriving(888, round)]);
        const now = { ...nic.held(), granules: nic.space.granules.end };
        if (round === 3) first = now;
        if (round > 3) expect(now).toEqual(first);
      }
      expect(nic.segment.length).toBeLessThanOrEqual(sent + 30);
      expect(nic.linkStates.filter((up) => !up)).toHaveLength(30);
      await nic.detach();
      expect(Object.entries(nic.held()).filter(([, n]) => n !== 0)).toEqual([]);
    });

    test("attack-S12, fault-K3 frames that waited while the process stood still are dropped", async () => {
      const nic = await started({ queues: 2 });
      for (let round = 0; round < 3; round++) {
        const [up, out] = [nic.inputs.length, nic.segment.length];
        const staleBefore = nic.ifnet.counters.iqdrops;
        traffic(nic, round);
        // Both ends stand still. The messages wait between them.
        nic.session.link!.flush();
        nic.clock.turn();
        nic.clock.advance(3000);
        let wasStale = false;
        const { switchPort } = nic;
        const input = switchPort.input.bind(switchPort);
        switchPort.input = (f) => {
          wasStale ||= switchPort.stale;
          return switchPort.stale ? Verdict.DONE : input(f);
        };
        await nic.settle();
        switchPort.input = input;
        expect(wasStale).toBe(true);
        expect([switchPort.stale, nic.ifnet.stale]).toEqual([false, false]);
        expect([nic.inputs.length - up, nic.segment.length - out]).toEqual([0, 0]);
        expect(nic.ifnet.counters.iqdrops - staleBefore).toBe(40);
        expect(nic.outstanding).toBe(0);
        // The present is delivered again.
        expect(nic.send(frame(999, round))).toBe(0);
        await arrive(nic, arriving(888, round));
        expect(nic.segment.at(-1)!.bytes).toEqual(frame(999, round));
        expect(nic.inputs.at(-1)!.bytes).toEqual(arriving(888, round));
      }
      const rx = [0, 1].map((q) =>
        nic.counter(`queue${q}`, kind === "ena" ? "rx_ring" : "rx", "dropped_stale"),
      );
      expect(rx[0]! + rx[1]!).toBe(120);
    });

    test("what was under way when the link went is counted", async () => {
      const nic = await started();
      for (let i = 0; i < 25; i++) expect(nic.send(frame(300, i))).toBe(0);
      nic.cut();
      expect(nic.ifnet.counters.oqdrops).toBe(25);
      expect(nic.segment).toEqual([]);
    });

    test("the device begins anew under traffic: mbufs freed once, traffic goes on", async () => {
      const nic = await started({ queues: 2 });
      let first: object | undefined;
      for (let round = 0; round < 20; round++) {
        traffic(nic, round);
        if (round % 2 === 0) nic.pump();
        await resetByDevice(nic);
        await nic.settle();
        expect(nic.ifnet.linkState).toBe("up");
        expect(nic.outstanding).toBe(0);
        const [out, up] = [nic.segment.length, nic.inputs.length];
        expect(nic.send(frame(999, round))).toBe(0);
        await arrive(nic, arriving(888, round));
        expect(nic.segment.slice(out).map((f) => f.bytes)).toEqual([frame(999, round)]);
        expect(nic.inputs.slice(up).map((f) => f.bytes)).toEqual([arriving(888, round)]);
        const now = { ...nic.held(), granules: nic.space.granules.end };
        if (round === 3) first = now;
        if (round > 3) expect(now).toEqual(first);
      }
      expect(nic.linkStates.filter((up) => !up)).toHaveLength(20);
      await nic.detach();
      expect(Object.entries(nic.held()).filter(([, n]) => n !== 0)).toEqual([]);
    });

    test("a link that goes and comes while the interface is down leaves it down", async () => {
      const nic = await started();
      await nic.down();
      nic.cut();
      await nic.reconnect();
      expect(nic.send(frame(60))).toBe(Errno.ENETDOWN);
      await nic.up();
      expect(nic.send(frame(60))).toBe(0);
      await arrive(nic, arriving(60));
      expect([nic.segment.at(-1)!.bytes, nic.inputs.at(-1)!.bytes]).toEqual([
        frame(60),
        arriving(60),
      ]);
    });

    test("brought up without a link, it works when there is one", async () => {
      const nic = make();
      await nic.attach();
      nic.cut();
      await nic.up();
      expect(nic.send(frame(60))).toBe(Errno.ENOBUFS);
      await nic.reconnect();
      expect(nic.send(frame(60))).toBe(0);
      await nic.settle();
      expect(nic.segment.at(-1)!.bytes).toEqual(frame(60));
    });

    test("detached without a link, nothing is left", async () => {
      const nic = await started();
      traffic(nic, 0);
      nic.cut();
      await nic.detach();
      expect(Object.entries(nic.held()).filter(([, n]) => n !== 0)).toEqual([]);
    });

    test("suspended, it has finished what was sent and sends no more", async ({ skip }) => {
      skip(
        kind === "ena",
        "ENA has no suspend: what is lost in a move, the reset behind it counts",
      );
      const nic = await started();
      for (let i = 0; i < 80; i++) expect(nic.send(frame(300, i))).toBe(0);
      await nic.suspend();
      expect([nic.segment.length, nic.outstanding]).toEqual([80, 0]);
      expect(nic.send(frame(60))).toBe(Errno.ENOBUFS);
      expect(nic.ifnet.linkState).toBe("down");
    });

    test("suspended and moved to another device, traffic goes on", async () => {
      const nic = await started();
      await nic.suspend();
      nic.cut();
      await nic.reconnect();
      const out = nic.segment.length;
      expect(nic.send(frame(70))).toBe(0);
      await arrive(nic, arriving(80));
      expect(nic.segment.slice(out).map((f) => f.bytes)).toEqual([frame(70)]);
      expect(bytesOf(nic.inputs)).toEqual([arriving(80)]);
      expect(nic.ifnet.linkState).toBe("up");
    });
  });
});
