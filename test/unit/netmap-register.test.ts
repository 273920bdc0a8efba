/** Registration: modes, ranges, exclusive use, partial opening, extra buffers, failures. */
import { beforeEach, describe, expect, test } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { Ifcap } from "../../frontend/net/ifnet.ts";
import { adapterOf, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Naf, Poll, RegFlag, RingMode } from "../../frontend/netmap/flags.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { bufSizeValidate } from "../../frontend/netmap/register.ts";
import { FakeNic } from "../support/fake-netmap-adapter.ts";
import { ethernet, takeAll } from "../support/netmap-frames.ts";

const sizes = {
  ifs: { count: 6, bytes: 1024 },
  rings: { count: 40, bytes: 4096 },
  buffers: { count: 300, bytes: 2048 },
};

let netmap: Netmap;
let nic: FakeNic;
beforeEach(() => {
  netmap = new Netmap({ memory: sizes });
  nic = new FakeNic(netmap, { txRings: 3, rxRings: 2 });
});

const open = (name: string, options = {}) => nmOpen(name, { netmap, ...options });
const modes = () => [nic.na.txRings.map((k) => k.nrMode), nic.na.rxRings.map((k) => k.nrMode)];
/** Expects that nothing is left behind. */
function expectClean(): void {
  const { memory } = netmap;
  expect(memory.active).toBe(0);
  expect([memory.ifs.objFree, memory.rings.objFree, memory.buffers.objFree]).toEqual([6, 40, 298]);
  expect([nic.na.activeFds, nic.na.refs, nic.na.siUsers]).toEqual([0, 1, [0, 0]]);
  expect(nic.na.isOn).toBe(false);
  expect(nic.ifnet.capEnable & Ifcap.NETMAP).toBe(0);
}

describe("ring ranges", () => {
  test.each([
    ["netmap:fake0", 0, 3, 0, 2],
    ["netmap:fake0*", 0, 4, 0, 3],
    ["netmap:fake0^", 3, 4, 2, 3],
    ["netmap:fake0-1", 1, 2, 1, 2],
    // The interface has fewer receive rings, so the first ring is opened.
    ["netmap:fake0-2", 2, 3, 0, 1],
    ["netmap:fake0/T", 0, 3, 0, 0],
    ["netmap:fake0/R", 0, 0, 0, 2],
    ["netmap:fake0^0", 3, 4, 2, 3],
    // Both together select no ring, which is allowed.
    ["netmap:fake0/TR", 0, 0, 0, 0],
  ])("%s", async (name, firstTx, lastTx, firstRx, lastRx) => {
    const port = await open(name);
    expect([port.firstTx, port.lastTx, port.firstRx, port.lastRx]).toEqual([
      firstTx,
      lastTx,
      firstRx,
      lastRx,
    ]);
    expect(port.txRings()).toHaveLength(lastTx - firstTx);
    expect(port.rxRings()).toHaveLength(lastRx - firstRx);
    await port.close();
    expectClean();
  });

  test("more host rings when asked for by the first to open, of which one can be opened", async () => {
    const port = await open("netmap:fake0^1", { hostTxRings: 2, hostRxRings: 2 });
    expect([port.firstTx, port.lastTx, port.firstRx, port.lastRx]).toEqual([4, 5, 3, 4]);
    expect([port.hostTxRings, port.hostRxRings]).toEqual([2, 2]);
    await port.close();
    const many = await open("netmap:fake0^", { hostTxRings: 5, hostRxRings: 4 });
    expect([many.txRings().length, many.rxRings().length]).toEqual([5, 4]);
    await many.close();
    expect([nic.na.numHostTxRings, nic.na.numHostRxRings]).toEqual([1, 1]);
    expectClean();
  });

  test.each([
    ["netmap:fake0-3", Errno.EINVAL],
    ["netmap:fake0^1", Errno.EINVAL],
    ["netmap:fake0@9", Errno.EINVAL],
    ["netmap:nobody", Errno.ENXIO],
    ["netmap:fake0@conf:x=1", Errno.EOPNOTSUPP],
  ])("%s is refused and leaves nothing", async (name, errno) => {
    await expect(open(name)).rejects.toMatchObject({ errno });
    expectClean();
  });
});

describe("netmap mode", () => {
  test("only the rings that were opened change mode; the driver is called when one does", async () => {
    const one = await open("netmap:fake0-1");
    expect(modes()).toEqual([
      [0, 1, 0, 0],
      [0, 1, 0],
    ]);
    expect(nic.registerCalls).toEqual([true]);
    expect(nic.ifnet.capEnable & Ifcap.NETMAP).toBe(Ifcap.NETMAP);
    // The same rings again: nothing changes, and the driver is not called.
    const same = await open("netmap:fake0-1");
    expect(nic.registerCalls).toEqual([true]);
    const all = await open("netmap:fake0");
    expect(nic.registerCalls).toEqual([true, true]);
    expect(modes()).toEqual([
      [1, 1, 1, 0],
      [1, 1, 0],
    ]);
    await all.close();
    expect(nic.registerCalls).toEqual([true, true, false]);
    expect(modes()).toEqual([
      [0, 1, 0, 0],
      [0, 1, 0],
    ]);
    await one.close();
    expect(nic.registerCalls).toHaveLength(3);
    await same.close();
    expect(nic.registerCalls).toEqual([true, true, false, false]);
    expectClean();
  });

  test("host rings alone change mode without the driver once somebody is in", async () => {
    const nicRings = await open("netmap:fake0");
    const host = await open("netmap:fake0^");
    expect(nic.registerCalls).toEqual([true]);
    expect(nic.na.txRings[3]!.nrMode).toBe(RingMode.ON);
    await host.close();
    expect(nic.registerCalls).toEqual([true]);
    expect(nic.na.txRings[3]!.nrMode).toBe(RingMode.OFF);
    await nicRings.close();
    expectClean();
  });

  test("partial opening: other rings have no shared ring, and no offset in the netmap_if", async () => {
    const port = await open("netmap:fake0-0");
    expect(nic.na.txRings.map((k) => k.ring !== undefined)).toEqual([true, false, false, false]);
    expect(() => port.txRing(1)).toThrow(/ring 1 is not bound/);
    const other = await open("netmap:fake0-1");
    expect(() => port.txRing(1)).toThrow(/not bound/);
    expect(() => other.txRing(0)).toThrow(/not bound/);
    expect(other.txRing(1).ringId).toBe(1);
    await port.close();
    expect(nic.na.txRings.map((k) => k.ring !== undefined)).toEqual([false, true, false, false]);
    await other.close();
    expectClean();
  });

  test("a driver that refuses: everything is as before, and the next try works", async () => {
    nic.registerError = Errno.EIO;
    await expect(open("netmap:fake0")).rejects.toMatchObject({ errno: Errno.EIO, code: "EIO" });
    expectClean();
    nic.registerError = 0;
    const port = await open("netmap:fake0");
    await port.close();
    expectClean();
  });

  test("syncs pass rings by while a registration is under way", async () => {
    const port = await open("netmap:fake0-0");
    const second = open("netmap:fake0-1");
    await Promise.resolve();
    await Promise.resolve();
    const before = nic.syncs.rx;
    expect(nic.na.rxRings[0]!.stopped).not.toBe(0);
    expect(port.rxsync()).toBe(true);
    expect(nic.syncs.rx).toBe(before);
    await (await second).close();
    expect(port.rxsync()).toBe(true);
    expect(nic.syncs.rx).toBe(before + 1);
    await port.close();
  });

  test("sizes that changed are taken by the first to open, not under open rings", async () => {
    const config = { numTxRings: 1, numTxDesc: 4, numRxRings: 1, numRxDesc: 4, rxBufMaxsize: 2048 };
    nic.configNow = config;
    const port = await open("netmap:fake0");
    expect([port.nicTxRings, port.txRing(0).numSlots]).toEqual([1, 4]);
    nic.configNow = { ...config, numTxDesc: 16 };
    const second = await open("netmap:fake0");
    expect(second.txRing(0).numSlots).toBe(4);
    await port.close();
    await second.close();
    const third = await open("netmap:fake0");
    expect(third.txRing(0).numSlots).toBe(16);
    await third.close();
  });
});

describe("exclusive use", () => {
  test.each([
    ["netmap:fake0/x", "netmap:fake0", false],
    ["netmap:fake0/x", "netmap:fake0/x", false],
    ["netmap:fake0", "netmap:fake0/x", false],
    ["netmap:fake0-0/x", "netmap:fake0-1", true],
    ["netmap:fake0-0/x", "netmap:fake0", false],
    ["netmap:fake0/x", "netmap:fake0^", true],
    ["netmap:fake0/xT", "netmap:fake0/R", true],
  ])("%s, then %s", async (first, second, ok) => {
    const one = await open(first);
    const two = open(second);
    if (ok) await (await two).close();
    else await expect(two).rejects.toMatchObject({ code: "EBUSY" });
    await one.close();
    // Anybody can open the rings again.
    await (await open(second)).close();
    expectClean();
  });
});

describe("memory", () => {
  test("extra buffers: a list as long as there is room, given back on close", async () => {
    const port = await open("netmap:fake0-0", { extraBufs: 5 });
    expect(port.extraBufs).toBe(5);
    const taken: number[] = [];
    for (let i = port.takeExtra(); i !== 0; i = port.takeExtra()) taken.push(i);
    expect(new Set(taken).size).toBe(5);
    for (const i of taken) port.giveExtra(i);
    await port.close();
    expectClean();

    const greedy = await open("netmap:fake0-0", { extraBufs: 10_000 });
    expect(greedy.extraBufs).toBe(298 - 16);
    await greedy.close();
    expectClean();
  });

  test("a list that is a ring, or nonsense, ends; the region starts afresh with its last port", async () => {
    const port = await open("netmap:fake0-0", { extraBufs: 3 });
    const head = port.takeExtra();
    new DataView(port.place.region).setUint32(port.bufferAt(head), head, true);
    port.bufsHead = head;
    const wild = await open("netmap:fake0-1");
    wild.bufsHead = 0xdead_beef;
    await wild.close();
    await port.close();
    expect(netmap.memory.badFrees).toBe(1);
    expectClean();
  });

  test("no room for rings: ENOMEM, and nothing is left", async () => {
    const small = new Netmap({
      memory: {
        ifs: { count: 1, bytes: 1024 },
        rings: { count: 8, bytes: 4096 },
        buffers: { count: 20, bytes: 2048 },
      },
    });
    const fake = new FakeNic(small, { txRings: 2, rxRings: 2 });
    await expect(nmOpen("netmap:fake0", { netmap: small })).rejects.toMatchObject({
      code: "ENOMEM",
    });
    expect([small.memory.buffers.objFree, small.memory.rings.objFree]).toEqual([18, 8]);
    expect(fake.na.txRings).toEqual([]);
    const port = await nmOpen("netmap:fake0-0", { netmap: small });
    await expect(nmOpen("netmap:fake0-0", { netmap: small })).rejects.toMatchObject({
      code: "ENOMEM",
    });
    await port.close();
  });

  test("what a port leaked comes back when the last one closes", async () => {
    const port = await open("netmap:fake0-0");
    port.txRing(0).setBufIdx(0, 0);
    await port.close();
    expectClean();
  });

  test.each([
    // mtu, rx_buf_maxsize, MOREFRAG, result
    [1500, 2048, false, 0],
    [2049, 4096, true, Errno.EINVAL],
    [9000, 2048, true, 0],
    [9000, 2048, false, Errno.EINVAL],
    [9000, 4096, true, Errno.EINVAL],
  ])("mtu %i, %i bytes a slot, MOREFRAG %s: %i", (mtu, rxBufMaxsize, more, want) => {
    nic.na.rxBufMaxsize = rxBufMaxsize;
    nic.na.flags = more ? nic.na.flags | Naf.MOREFRAG : nic.na.flags & ~Naf.MOREFRAG;
    expect(bufSizeValidate(nic.na, mtu)).toBe(want);
  });

  test("an MTU that does not fit stops receivers only", async () => {
    const big = new FakeNic(netmap, { name: "big0", mtu: 9000, flags: 0 });
    await expect(open("netmap:big0")).rejects.toMatchObject({ code: "EINVAL" });
    const port = await open("netmap:big0/T");
    await port.close();
    expect(big.na.activeFds).toBe(0);
  });

  test("another region by its id, until the last user leaves", async () => {
    const vale = await open("vale0:a");
    const id = adapterOf(vale).memory.id;
    expect(id).toBeGreaterThan(1);
    const port = await open(`netmap:fake0-0@${id}`);
    expect(port.place.region).toBe(vale.place.region);
    // The region can't change while a port is open.
    const same = await open("netmap:fake0-1");
    expect(same.place.region).toBe(vale.place.region);
    await port.close();
    await same.close();
    expect(nic.na.memory).toBe(netmap.memory);
    await vale.close();
    await expect(open(`netmap:fake0@${id}`)).rejects.toMatchObject({ code: "EINVAL" });
  });
});

describe("drivers come and go", () => {
  test("a driver that detaches leaves open ports in error, and closing works", async () => {
    const port = await open("netmap:fake0");
    netmap.detach(nic.na);
    expect(port.look(Poll.IN | Poll.OUT) & Poll.ERR).toBe(Poll.ERR);
    expect(port.rxsync()).toBe(false);
    const calls = nic.registerCalls.length;
    await port.close();
    expect(nic.registerCalls).toHaveLength(calls);
    expect(nic.na.refs).toBe(0);
    expect(nic.ifnet.capEnable & Ifcap.NETMAP).toBe(0);
  });

  test("netmap_reset: sent slots are the application's again, unread frames stay unread", async () => {
    const port = await open("netmap:fake0");
    const tx = port.txRing(0);
    tx.head = 3;
    tx.cur = 3;
    port.txsync();
    nic.inject(0, ethernet(1, 2));
    nic.inject(0, ethernet(1, 3));
    port.rxsync();
    const k = nic.na.txRings[0]!;
    k.nrHwcur = 1;
    expect(nic.na.reset(k.tx, 0)).toBe(k.ring);
    expect([k.nrHwcur, k.nrHwtail, k.nkrHwofs]).toEqual([3, 2, 3]);
    const r = nic.na.rxRings[0]!;
    nic.na.reset(r.tx, 0);
    expect([r.nrHwcur, r.nrHwtail, r.nkrHwofs]).toEqual([0, 2, 2]);
    port.rxsync();
    expect(takeAll(port, port.rxRing(0))).toHaveLength(2);
    await port.close();
  });

  test("netmap_reset of a ring that is not, or no longer, in netmap mode gives nothing", async () => {
    expect(nic.na.reset(1, 0)).toBeUndefined();
    const port = await open("netmap:fake0-0");
    expect(nic.na.reset(1, 1)).toBeUndefined();
    expect(nic.na.txRings[1]!.nrMode).toBe(RingMode.OFF);
    expect(nic.na.reset(1, 3)).toBeUndefined();
    await port.close();
  });

  test("interrupts of rings outside netmap mode are the driver's", async () => {
    expect(nic.na.rxIrq(0)).toBe(false);
    const port = await open("netmap:fake0-0");
    expect([nic.na.rxIrq(0), nic.na.txIrq(0), nic.na.rxIrq(1), nic.na.rxIrq(7)]).toEqual([
      true,
      true,
      false,
      false,
    ]);
    await port.close();
  });

  test("one adapter an interface, and one interface a name", () => {
    expect(() => new FakeNic(netmap)).toThrow(/there is an interface fake0 already/);
    const params = { ...nic.na, ifnet: nic.ifnet } as never;
    expect(() => netmap.attach(params)).toThrow(/netmap adapter already/);
  });

  test("flags that name nothing do nothing", async () => {
    const port = await open("netmap:fake0", { flags: RegFlag.NO_TX_POLL });
    const before = nic.syncs.tx;
    port.txRing(0).head = 1;
    port.txRing(0).cur = 1;
    port.look(Poll.IN);
    expect(nic.syncs.tx).toBe(before);
    expect(port.look(Poll.OUT)).toBe(Poll.OUT);
    await port.close();
  });
});
