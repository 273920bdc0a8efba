/** nmOpen: waiting, buffers, closing, and rings shared with another thread. */
import { Worker } from "node:worker_threads";
import { beforeEach, describe, expect, test } from "vitest";
import { nmAttach, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Poll, RegMode, SyncFlag } from "../../frontend/netmap/flags.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { FakeNic } from "../support/fake-netmap-adapter.ts";
import { ethernet, putFrame, takeAll } from "../support/netmap-frames.ts";

let netmap: Netmap;
let nic: FakeNic;
beforeEach(() => {
  netmap = new Netmap();
  nic = new FakeNic(netmap, { txRings: 2, rxRings: 2 });
});
const open = (name = "netmap:fake0") => nmOpen(name, { netmap });

describe("poll", () => {
  test("waits for a frame on any of its rings", async () => {
    const port = await open();
    const waiting = port.poll(Poll.IN, -1);
    nic.inject(1, ethernet(1, 2));
    expect(await waiting).toBe(Poll.IN);
    expect(takeAll(port, port.rxRing(1))).toHaveLength(1);
    await port.close();
  });

  test("waits for its own ring only", async () => {
    const port = await open("netmap:fake0-0");
    const both = await open("netmap:fake0-1");
    const waiting = port.poll(Poll.IN, 20);
    nic.inject(1, ethernet(1, 2));
    expect(await waiting).toBe(0);
    await port.close();
    await both.close();
  });

  test("gives 0 at the end of the time, and at once with none", async () => {
    const port = await open();
    expect(await port.poll(Poll.IN, 0)).toBe(0);
    expect(await port.poll(Poll.IN, 5)).toBe(0);
    await port.close();
  });

  test("sends what was filled, whatever it is asked", async () => {
    const port = await open();
    putFrame(port, port.txRing(1), ethernet(1, 2));
    await port.poll(Poll.IN, 0);
    expect(nic.sent[1]).toHaveLength(1);
    await port.close();
  });

  test("syncs no idle tx ring when it asks for no room, or once it has found room", async () => {
    const lazy = new FakeNic(netmap, { name: "lazy0", txRings: 2, lazyTx: true });
    const port = await open("netmap:lazy0");
    const synced = (events: number): number[] => {
      const before = lazy.syncs.tx;
      return [port.look(events), lazy.syncs.tx - before];
    };
    expect(synced(Poll.IN)).toEqual([0, 0]);
    putFrame(port, port.txRing(1), ethernet(1, 2));
    expect(synced(Poll.IN)).toEqual([0, 1]);
    for (const ring of port.txRings()) while (putFrame(port, ring, ethernet(1, 2)));
    // Both rings are full, and both are synced twice.
    expect(synced(Poll.OUT)).toEqual([0, 4]);
    lazy.complete(0);
    expect(synced(Poll.OUT)).toEqual([Poll.OUT, 1]);
    await port.close();
  });

  test("a port without receive rings never has input", async () => {
    const port = await open("netmap:fake0/T");
    expect(port.look(Poll.IN | Poll.OUT)).toBe(Poll.OUT);
    expect(port.look(Poll.IN)).toBe(0);
    await port.close();
  });

  test("waits for room while everything is in flight", async () => {
    const lazy = new FakeNic(netmap, { name: "lazy0", lazyTx: true });
    const port = await open("netmap:lazy0");
    const ring = port.txRing(0);
    while (putFrame(port, ring, ethernet(1, 2)));
    const waiting = port.poll(Poll.OUT, -1);
    lazy.complete(0);
    expect(await waiting).toBe(Poll.OUT);
    expect(ring.space).toBe(ring.numSlots - 1);
    await port.close();
  });

  test("a port that closes, or whose driver goes, wakes its sleepers with an error", async () => {
    const port = await open();
    const waiting = port.poll(Poll.IN, -1);
    await port.close();
    expect(await waiting).toBe(Poll.ERR);
    expect(port.look(Poll.IN)).toBe(Poll.ERR);
    expect(() => port.txsync()).toThrow(/closed/);
    const second = await open();
    const again = second.poll(Poll.IN, -1);
    netmap.detach(nic.na);
    expect(await again).toBe(Poll.ERR);
    await second.close();
  });

  test("a loop of polls that always succeed leaves the event loop its turns", async () => {
    const port = await open();
    let turns = 0;
    let on = true;
    const count = (): void => {
      turns++;
      if (on) setImmediate(count);
    };
    setImmediate(count);
    for (let i = 0; i < 200; i++) expect(await port.poll(Poll.OUT, -1)).toBe(Poll.OUT);
    on = false;
    expect(turns).toBeGreaterThan(5);
    await port.close();
  });

  test("two users of a ring: who syncs wakes the other", async () => {
    const a = await open("netmap:fake0-0");
    const b = await open("netmap:fake0-0");
    nic.na.flags |= 0;
    const waiting = b.poll(Poll.IN, -1);
    nic.inject(0, ethernet(1, 2));
    expect(a.look(Poll.IN)).toBe(Poll.IN);
    expect(await waiting).toBe(Poll.IN);
    await a.close();
    await b.close();
  });
});

describe("a port", () => {
  test("shows buffers by index, one view each, and refuses what is no index", async () => {
    const port = await open();
    const index = port.txRing(0).bufIdx(3);
    const buffer = port.buffer(index);
    expect(buffer).toHaveLength(2048);
    expect(port.buffer(index)).toBe(buffer);
    expect(buffer.byteOffset).toBe(port.txRing(0).buffersAt + index * 2048);
    expect(() => port.buffer(1_000_000)).toThrow(/no buffer/);
    expect(() => port.buffer(-1)).toThrow(/no buffer/);
    await port.close();
  });

  test("is closed once, by whatever disposes of it too", async () => {
    const port = await open();
    expect(nic.na.isOn).toBe(true);
    await Promise.all([port.close(), port.close(), port[Symbol.asyncDispose]()]);
    expect([nic.na.isOn, nic.na.refs]).toEqual([false, 1]);
  });

  test("opened and closed many times at once, leaves nothing", async () => {
    const names = ["netmap:fake0", "netmap:fake0-0", "netmap:fake0^", "netmap:fake0{1", "vale0:a"];
    const all = Array.from({ length: 40 }, (_, i) => open(names[i % names.length]));
    for (const port of await Promise.all(all)) await port.close();
    expect([nic.na.refs, netmap.memory.active, netmap.memory.badFrees]).toEqual([1, 0, 0]);
  });

  test("a null port has rings and nobody behind them", async () => {
    const sizes = { txRings: 2, rxRings: 1, txSlots: 4, rxSlots: 4 };
    const port = { name: "x", mode: RegMode.NULL, ringId: 0, flags: 0, options: "" } as const;
    await expect(netmap.open({ ...port, memId: 0 }, sizes)).rejects.toMatchObject({
      code: "EINVAL",
    });
    const priv = await netmap.open({ ...port, memId: 1 }, sizes);
    expect(priv.na?.name).toBe("null:x");
    expect(priv.selected(1)).toHaveLength(2);
    await netmap.close(priv);
    expect(netmap.memory.active).toBe(0);
  });
});

describe("rings of another thread", () => {
  test("the same rings, seen from the handle alone", async () => {
    const port = await open("netmap:fake0-1");
    const app = nmAttach(structuredClone(port.share()));
    expect(() => app.txRing(0)).toThrow(/not bound/);
    putFrame(app, app.txRing(1), ethernet(1, 2));
    app.txsync();
    expect(await app.poll(Poll.OUT, -1)).toBe(Poll.OUT);
    while (nic.sent[1]!.length < 1) await new Promise((resolve) => setImmediate(resolve));
    const waiting = app.poll(Poll.IN, -1);
    nic.inject(1, ethernet(3, 4));
    expect(await waiting).toBe(Poll.IN);
    expect(takeAll(app, app.rxRing(1))).toHaveLength(1);
    app.rxRing(1).head = 500;
    expect(await app.poll(Poll.IN, -1)).toBe(Poll.ERR);
    // Reinit returns to the last released slot, so frames read since then appear again.
    takeAll(app, app.rxRing(1));
    const last = app.poll(Poll.IN, -1);
    await port.close();
    expect(await last).toBe(Poll.ERR);
    expect(app.isClosed).toBe(true);
  });

  test("a data path that has applied a batch may look at them at once", async () => {
    const port = await open("netmap:fake0-1");
    expect(netmap.service()).toBe(false);
    const app = nmAttach(port.share());
    putFrame(app, app.txRing(1), ethernet(1, 2));
    expect(netmap.service()).toBe(true);
    expect(nic.sent[1]).toHaveLength(1);
    expect(nic.lastFlags).toEqual({ tx: SyncFlag.FORCE_RECLAIM, rx: SyncFlag.FORCE_READ });
    expect(netmap.service()).toBe(false);
    await port.close();
  });

  test.each([Poll.IN, Poll.OUT])(
    "who sleeps for %i is not woken for the other event",
    async (event) => {
      const lazy = new FakeNic(netmap, { name: "lazy0", lazyTx: true });
      const port = await open("netmap:lazy0");
      const handle = port.share();
      const app = nmAttach(handle);
      // The first words of the control block: wake-ups, and the events that the sleeper waits for.
      const words = new Int32Array(handle.control, 0, 2);
      if (event === Poll.OUT) {
        while (putFrame(app, app.txRing(0), ethernet(1, 2)));
        lazy.inject(0, ethernet(3, 4));
      }
      const waiting = app.poll(event, -1);
      netmap.service();
      expect(words).toEqual(Int32Array.of(0, event | Poll.ERR));
      if (event === Poll.OUT) lazy.complete(0);
      else lazy.inject(0, ethernet(3, 4));
      netmap.service();
      expect(words).toEqual(Int32Array.of(1, 0));
      expect(await waiting).toBe(event);
      await port.close();
    },
  );

  test("a frame that comes while both threads sleep wakes the application in the same turn", async () => {
    const port = await open("netmap:fake0-0");
    const handle = port.share();
    const app = nmAttach(handle);
    const control = new Int32Array(handle.control);
    const doorbell = new Int32Array(handle.doorbell);
    const waiting = app.poll(Poll.IN, -1);
    // The data path arms the doorbell before it sleeps.
    while (doorbell[1] === 0) await new Promise((resolve) => setImmediate(resolve));
    nic.inject(0, ethernet(1, 2));
    await Promise.resolve();
    expect(control[0]).toBe(1);
    expect(await waiting).toBe(Poll.IN);
    await port.close();
  });

  test("a worker that blocks: every frame comes back, in order, and it ends when told", async () => {
    const port = await open("netmap:fake0-0");
    const worker = new Worker(new URL("../support/netmap-echo-worker.ts", import.meta.url), {
      workerData: port.share(),
      execArgv: ["--import", "tsx"],
    });
    const ended = new Promise((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
    const total = 2000;
    for (let i = 0; i < total; i++) {
      const frame = ethernet(1, 2);
      new DataView(frame.buffer).setUint32(20, i);
      nic.inject(0, frame);
      if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    while (nic.sent[0]!.length < total) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    const order = nic.sent[0]!.map((f) => Buffer.from(f).readUInt32BE(20));
    expect(order).toEqual(Array.from({ length: total }, (_, i) => i));
    await port.close();
    expect(await ended).toBe(total);
    await worker.terminate();
  });
});
