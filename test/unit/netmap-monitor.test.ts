/** Monitors. Behaviours 012 to 020 and 025 to 027 of netmap's integration tests are among them. */
import { beforeEach, describe, expect, test } from "vitest";
import { adapterOf, type NmPort, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Ns, Poll } from "../../frontend/netmap/flags.ts";
import type { MonitorAdapter } from "../../frontend/netmap/monitor.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { FakeNic } from "../support/fake-netmap-adapter.ts";
import { ethernet, putFrame, takeAll } from "../support/netmap-frames.ts";

let netmap: Netmap;
beforeEach(() => {
  netmap = new Netmap();
});
const open = (name: string, options = {}) => nmOpen(name, { netmap, ...options });
const f1 = Buffer.from(ethernet(1, 2));
const f2 = Buffer.from(ethernet(1, 3));

function seen(port: NmPort): Buffer[] {
  port.rxsync();
  const frames = takeAll(port, port.rxRing(0)).map((f) => Buffer.from(f));
  port.rxsync();
  return frames;
}

describe.each([
  ["pipe", "netmap:pipe{1", "netmap:pipe}1"],
  ["VALE", "vale0:a", "vale0:b"],
])("on a %s", (_kind, monitored, peerName) => {
  let port: NmPort;
  let peer: NmPort;
  beforeEach(async () => {
    port = await open(monitored);
    peer = await open(peerName);
  });
  const close = async (...more: NmPort[]): Promise<void> => {
    for (const p of [...more, port, peer]) await p.close();
    expect(netmap.memory.badFrees + adapterOf(port).memory.badFrees).toBe(0);
  };
  const send = (from: NmPort, frame: Uint8Array): void => {
    expect(putFrame(from, from.txRing(0), frame)).toBe(true);
    from.txsync();
  };

  test("/r: a copy of what comes, before it is read, which reaches its reader as well", async () => {
    const mon = await open(`${monitored}/r`);
    send(peer, f1);
    expect(seen(mon)).toEqual([f1]);
    expect(seen(port)).toEqual([f1]);
    expect(seen(mon)).toEqual([]);
    await close(mon);
  });

  test("/t: a copy of what goes, marked NS_TXMON", async () => {
    const mon = await open(`${monitored}/t`);
    send(port, f1);
    mon.rxsync();
    expect(mon.rxRing(0).slotFlags(0) & Ns.TXMON).toBe(Ns.TXMON);
    expect(seen(mon)).toEqual([f1]);
    expect(seen(peer)).toEqual([f1]);
    send(peer, f2);
    expect(seen(mon)).toEqual([]);
    await close(mon);
  });

  test("/z: received frames once they are released", async () => {
    const mon = await open(`${monitored}/z`);
    send(peer, f1);
    port.rxsync();
    expect(seen(mon)).toEqual([]);
    expect(seen(port)).toEqual([f1]);
    expect(seen(mon)).toEqual([f1]);
    await close(mon);
  });

  test("/z: sent frames once their slots are free again", async () => {
    const mon = await open(`${monitored}/z`);
    send(port, f1);
    if (monitored.startsWith("netmap")) expect(seen(mon)).toEqual([]);
    expect(seen(peer)).toEqual([f1]);
    send(port, f2);
    const frames = [...seen(mon)];
    expect(frames[0]).toEqual(f1);
    await close(mon);
  });

  test("several monitors of each kind see the same, in any order of closing", async () => {
    const mons = [
      await open(`${monitored}/r`),
      await open(`${monitored}/rt`),
      await open(`${monitored}/z`),
      await open(`${monitored}/z`),
    ];
    send(peer, f1);
    expect(seen(mons[0]!)).toEqual([f1]);
    expect(seen(port)).toEqual([f1]);
    expect(seen(mons[1]!)).toEqual([f1]);
    // The second zero-copy monitor reads from the first, which has to release its slots.
    expect(seen(mons[2]!)).toEqual([f1]);
    expect(seen(mons[3]!)).toEqual([f1]);
    await mons[2]!.close();
    send(peer, f2);
    expect(seen(port)).toEqual([f2]);
    expect(seen(mons[3]!)).toEqual([f2]);
    await mons[0]!.close();
    send(peer, f1);
    expect(seen(mons[1]!)).toEqual([f2, f1]);
    await close(mons[3]!, mons[1]!);
  });

  test("excess is dropped and counted, and the monitored port does not notice", async () => {
    const mon = await open(`${monitored}/r`, { rxSlots: 4 });
    for (let i = 0; i < 6; i++) {
      send(peer, ethernet(1, 10 + i));
      port.rxsync();
    }
    expect(takeAll(port, port.rxRing(0))).toHaveLength(6);
    expect(seen(mon)).toHaveLength(3);
    expect((adapterOf(mon) as MonitorAdapter).dropped).toBe(3);
    await close(mon);
  });

  test("when the port closes, the monitor fails for good and can still be closed", async () => {
    for (const kind of ["r", "t", "z"]) {
      const mon = await open(`${monitored}/${kind}`);
      await port.close();
      expect(mon.look(Poll.IN)).toBe(Poll.ERR);
      port = await open(monitored);
      expect(mon.look(Poll.IN)).toBe(Poll.ERR);
      await mon.close();
    }
    await close();
  });
});

describe("rules", () => {
  test("a port that nobody has open can't be monitored", async () => {
    const nic = new FakeNic(netmap);
    await expect(open("netmap:fake0/r")).rejects.toMatchObject({ code: "EINVAL" });
    expect(nic.na.refs).toBe(1);
  });

  test("nothing can be sent through a monitor", async () => {
    new FakeNic(netmap);
    const port = await open("netmap:fake0");
    const mon = await open("netmap:fake0/r");
    mon.txRing(0).head = 1;
    mon.txRing(0).cur = 1;
    expect(mon.look(Poll.OUT) & Poll.ERR).toBe(Poll.ERR);
    await mon.close();
    await port.close();
  });

  test("frames reach a copy monitor though the application never looks", async () => {
    const nic = new FakeNic(netmap, { rxRings: 2, txRings: 2 });
    const port = await open("netmap:fake0");
    const mon = await open("netmap:fake0-1/r");
    nic.inject(0, f1);
    nic.inject(1, f2);
    mon.rxsync();
    expect(takeAll(mon, mon.rxRing(1))).toEqual([f2]);
    await mon.close();
    await port.close();
  });

  test("a copy monitor has its own memory, a zero-copy one the port's", async () => {
    new FakeNic(netmap);
    const port = await open("netmap:fake0");
    const copy = await open("netmap:fake0/r");
    const zero = await open("netmap:fake0/z");
    expect(copy.place.region).not.toBe(port.place.region);
    expect(zero.place.region).toBe(port.place.region);
    await copy.close();
    await zero.close();
    await port.close();
    expect(netmap.memory.active).toBe(0);
  });
});
