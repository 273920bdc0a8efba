/** Pipes. Behaviours 003, 006, 008 and 023 of netmap's integration tests are among them. */
import { beforeEach, describe, expect, test } from "vitest";
import { adapterOf, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Ns, Poll } from "../../frontend/netmap/flags.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import type { PipeAdapter } from "../../frontend/netmap/pipe.ts";
import { FakeNic } from "../support/fake-netmap-adapter.ts";
import { ethernet, putFrame, takeAll, takeFrame } from "../support/netmap-frames.ts";

let netmap: Netmap;
beforeEach(() => {
  netmap = new Netmap();
});
const open = (name: string, options = {}) => nmOpen(name, { netmap, ...options });

describe("frames", () => {
  test("cross both ways without a copy: the slots carry the same buffers", async () => {
    const nic = new FakeNic(netmap);
    const master = await open("netmap:fake0{1");
    const slave = await open("netmap:fake0}1");
    const tx = master.txRing(0);
    const sent = tx.bufIdx(0);
    putFrame(master, tx, ethernet(1, 2));
    master.txsync();
    slave.rxsync();
    expect(slave.rxRing(0).bufIdx(0)).toBe(sent);
    expect(takeAll(slave, slave.rxRing(0))).toEqual([Buffer.from(ethernet(1, 2))]);
    putFrame(slave, slave.txRing(0), ethernet(3, 4));
    slave.txsync();
    master.rxsync();
    expect(takeAll(master, master.rxRing(0))).toEqual([Buffer.from(ethernet(3, 4))]);
    // The NIC itself was never opened.
    expect(nic.registerCalls).toEqual([]);
    await master.close();
    await slave.close();
    expect(nic.na.refs).toBe(1);
    expect(netmap.memory.active).toBe(0);
  });

  test("a name that is no port gives the pipe memory of its own (023)", async () => {
    const a = await open("netmap:pipeA{1");
    const b = await open("netmap:pipeA}1");
    putFrame(b, b.txRing(0), ethernet(1, 2));
    b.txsync();
    expect(a.look(Poll.IN)).toBe(Poll.IN);
    expect(takeAll(a, a.rxRing(0))).toHaveLength(1);
    expect(adapterOf(a).memory.isPrivate).toBe(true);
    await a.close();
    await b.close();
    await expect(open("netmap:pipeA")).rejects.toMatchObject({ code: "ENXIO" });
  });

  test("only whole packets are published", async () => {
    const a = await open("netmap:p{1");
    const b = await open("netmap:p}1");
    const tx = a.txRing(0);
    putFrame(a, tx, ethernet(1, 1));
    tx.setSlotFlags(tx.head, Ns.MOREFRAG);
    tx.head = tx.next(tx.head);
    tx.cur = tx.head;
    a.txsync();
    b.rxsync();
    expect(b.rxRing(0).space).toBe(1);
    putFrame(a, tx, ethernet(1, 2));
    a.txsync();
    b.rxsync();
    expect(b.rxRing(0).space).toBe(3);
    await a.close();
    await b.close();
  });

  test("after 10 sent and 7 read, exactly 3 slots are pending; one more than fits does not (008)", async () => {
    const a = await open("netmap:pipeA{1", { txSlots: 64, rxSlots: 64 });
    const b = await open("netmap:pipeA}1");
    const tx = b.txRing(0);
    const most = tx.space;
    for (let i = 0; i < 10; i++) putFrame(b, tx, ethernet(1, i, 274));
    b.txsync();
    a.rxsync();
    for (let i = 0; i < 7; i++) expect(takeFrame(a, a.rxRing(0))?.[11]).toBe(i);
    a.rxsync();
    b.txsync();
    expect(most - tx.space).toBe(3);
    let room = tx.space;
    while (putFrame(b, tx, ethernet(1, 2, 274))) room--;
    expect(room).toBe(0);
    await a.close();
    await b.close();
  });

  test.each([
    ["{", "}"],
    ["}", "{"],
  ])(
    "whichever end is opened first, here p%s1, is the end that was named",
    async (first, second) => {
      const opened = await open(`netmap:p${first}1`);
      const role = (port: typeof opened) => (adapterOf(port) as PipeAdapter).isMaster;
      expect(role(opened)).toBe(first === "{");
      const other = await open(`netmap:p${second}1`);
      expect(role(other)).toBe(first !== "{");
      putFrame(opened, opened.txRing(0), ethernet(1, 2));
      opened.txsync();
      other.rxsync();
      expect(takeAll(other, other.rxRing(0))).toHaveLength(1);
      await opened.close();
      await other.close();
      expect(netmap.memory.active).toBe(0);
    },
  );

  test("every slot that was read goes back to the sender, over whole laps", async () => {
    const a = await open("netmap:pipeA{1", { txSlots: 64, rxSlots: 64 });
    const b = await open("netmap:pipeA}1");
    const tx = b.txRing(0);
    const most = tx.space;
    expect(most).toBe(63);
    for (const count of [63, 1, 62, 63, 63]) {
      for (let i = 0; i < count; i++) expect(putFrame(b, tx, ethernet(1, i))).toBe(true);
      b.txsync();
      expect(tx.space).toBe(most - count);
      a.rxsync();
      expect(takeAll(a, a.rxRing(0)).map((bytes) => bytes[11])).toEqual(
        Array.from({ length: count }, (_, i) => i),
      );
      a.rxsync();
      b.txsync();
      expect(tx.space).toBe(most);
    }
    await a.close();
    await b.close();
  });

  test("NS_BUF_CHANGED is told to the other end and cleared at this one", async () => {
    const a = await open("netmap:p{1");
    const b = await open("netmap:p}1");
    const tx = a.txRing(0);
    const rx = b.rxRing(0);
    putFrame(a, tx, ethernet(1, 1));
    tx.setSlotFlags(0, Ns.BUF_CHANGED);
    a.txsync();
    b.rxsync();
    expect([tx.slotFlags(0), rx.slotFlags(0)]).toEqual([0, Ns.BUF_CHANGED]);
    await a.close();
    await b.close();
  });

  test("extra buffers can be sent through a pipe and come back the other way (006)", async () => {
    const a = await open("netmap:p{1", { extraBufs: 4 });
    const b = await open("netmap:p}1");
    const tx = a.txRing(0);
    const extra = a.takeExtra();
    const mine = tx.bufIdx(0);
    a.buffer(extra).set(ethernet(7, 7));
    tx.setBufIdx(0, extra);
    tx.setLen(0, 60);
    tx.setSlotFlags(0, Ns.BUF_CHANGED);
    tx.head = 1;
    tx.cur = 1;
    a.giveExtra(mine);
    a.txsync();
    b.rxsync();
    expect(b.rxRing(0).bufIdx(0)).toBe(extra);
    expect(takeAll(b, b.rxRing(0))).toEqual([Buffer.from(ethernet(7, 7))]);
    await b.close();
    await a.close();
  });
});

describe("ends", () => {
  test("frames wait for an end that opens later, and for one that opens again", async () => {
    const a = await open("netmap:p{1");
    putFrame(a, a.txRing(0), ethernet(1, 1));
    a.txsync();
    const b = await open("netmap:p}1");
    b.rxsync();
    expect(takeFrame(b, b.rxRing(0))).toEqual(Buffer.from(ethernet(1, 1)));
    b.rxsync();
    await b.close();
    putFrame(a, a.txRing(0), ethernet(1, 2));
    a.txsync();
    const again = await open("netmap:p}1");
    again.rxsync();
    expect(takeAll(again, again.rxRing(0))).toEqual([Buffer.from(ethernet(1, 2))]);
    await a.close();
    await again.close();
  });

  test.each(["ab", "ba"])("closing in order %s frees every buffer exactly once", async (order) => {
    const nic = new FakeNic(netmap);
    const holder = await open("netmap:fake0");
    const free = netmap.memory.buffers.objFree;
    const a = await open("netmap:fake0{x");
    const b = await open("netmap:fake0}x");
    for (let i = 0; i < 5; i++) putFrame(a, a.txRing(0), ethernet(1, i));
    a.txsync();
    b.rxsync();
    takeFrame(b, b.rxRing(0));
    takeFrame(b, b.rxRing(0));
    b.rxsync();
    putFrame(b, b.txRing(0), ethernet(1, 1));
    b.txsync();
    await (order === "ab" ? a : b).close();
    await (order === "ab" ? b : a).close();
    expect(netmap.memory.badFrees).toBe(0);
    expect(netmap.memory.buffers.objFree).toBe(free);
    await holder.close();
    expect(nic.na.refs).toBe(1);
  });

  test("exclusive use of one end leaves the other to others (003)", async () => {
    const a = await open("netmap:p{1/x");
    await expect(open("netmap:p{1")).rejects.toMatchObject({ code: "EBUSY" });
    await expect(open("netmap:p{1/x")).rejects.toMatchObject({ code: "EBUSY" });
    await (await open("netmap:p}1")).close();
    await a.close();
  });

  test("several rings a pipe, slots as asked for, and turned round at the slave", async () => {
    const a = await open("netmap:p{1", { txRings: 2, rxRings: 3, txSlots: 16, rxSlots: 32 });
    const b = await open("netmap:p}1");
    expect([a.nicTxRings, a.nicRxRings, b.nicTxRings, b.nicRxRings]).toEqual([2, 3, 3, 2]);
    expect([b.txRing(2).numSlots, b.rxRing(1).numSlots]).toEqual([32, 16]);
    putFrame(b, b.txRing(2), ethernet(1, 2));
    b.txsync();
    a.rxsync();
    expect(takeAll(a, a.rxRing(2))).toHaveLength(1);
    await b.close();
    await a.close();
  });

  test.each(["netmap:p{1^", "netmap:p{1*"])("%s: pipes have no host rings", async (name) => {
    await expect(open(name)).rejects.toMatchObject({ code: "EINVAL" });
  });

  test("many pipes on one base, closed in any order", async () => {
    const nic = new FakeNic(netmap);
    const ports = [];
    for (const id of ["a", "b", "c"]) {
      ports.push(await open(`netmap:fake0{${id}`), await open(`netmap:fake0}${id}`));
    }
    expect(nic.na.pipes.size).toBe(3);
    for (const i of [3, 0, 5, 2, 1, 4]) await ports[i]!.close();
    expect(nic.na.pipes.size).toBe(0);
    expect([nic.na.refs, netmap.memory.active, netmap.memory.badFrees]).toEqual([1, 0, 0]);
  });

  test("an end whose other end only a monitor keeps can be opened, and all of it goes", async () => {
    const nic = new FakeNic(netmap);
    const master = await open("netmap:fake0{1");
    const monitor = await open("netmap:fake0{1/z");
    await master.close();
    const slave = await open("netmap:fake0}1");
    expect(putFrame(slave, slave.txRing(0), ethernet(1, 2))).toBe(true);
    slave.txsync();
    await monitor.close();
    await slave.close();
    expect([nic.na.refs, nic.na.pipes.size, netmap.memory.active]).toEqual([1, 0, 0]);
    expect(netmap.memory.badFrees).toBe(0);
  });
});
