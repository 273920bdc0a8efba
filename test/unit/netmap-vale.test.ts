/** VALE. Behaviours 001, 002, 004, 005, 007, 009 to 011, 021 and 022 of netmap's tests are among them. */
import { beforeEach, describe, expect, test } from "vitest";
import { adapterOf, type NmPort, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Ns, RegFlag } from "../../frontend/netmap/flags.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import type { ValePort } from "../../frontend/netmap/vale.ts";
import { rthash, ValeTable } from "../../frontend/netmap/vale-table.ts";
import { FakeNic } from "../support/fake-netmap-adapter.ts";
import { ethernet, putFrame, takeAll } from "../support/netmap-frames.ts";

let netmap: Netmap;
beforeEach(() => {
  netmap = new Netmap();
});
const open = (name: string, options = {}) => nmOpen(name, { netmap, ...options });
const HASHES: readonly (readonly [string, number])[] = [
  ["000000000000", 269],
  ["020000000001", 92],
  ["020000000002", 23],
  ["ffffffffffff", 604],
  ["00163e5ac381", 384],
  ["525400123456", 814],
];

/** The last byte of each received source address: the senders. */
function seen(port: NmPort): number[] {
  port.rxsync();
  const frames = takeAll(port, port.rxRing(0));
  port.rxsync();
  return frames.map((f) => f[11]!);
}
function send(port: NmPort, ...frames: Uint8Array[]): void {
  for (const frame of frames) expect(putFrame(port, port.txRing(0), frame)).toBe(true);
  port.txsync();
}
const drops = (port: NmPort) => (adapterOf(port) as ValePort).drops;

describe("switching", () => {
  let a: NmPort;
  let b: NmPort;
  let c: NmPort;
  beforeEach(async () => {
    a = await open("vale0:a");
    b = await open("vale0:b");
    c = await open("vale0:c");
  });

  test("unknown and group addresses go to all others, learned ones to their port (007)", () => {
    send(a, ethernet(0xff, 1));
    expect([seen(a), seen(b), seen(c)]).toEqual([[], [1], [1]]);
    send(b, ethernet(1, 2));
    expect([seen(a), seen(b), seen(c)]).toEqual([[2], [], []]);
    send(c, ethernet(9, 3));
    expect([seen(a), seen(b), seen(c)]).toEqual([[3], [3], []]);
  });

  test("an address that moves is found at its new port at once", () => {
    send(a, ethernet(0xff, 1));
    send(b, ethernet(0xff, 1));
    send(c, ethernet(1, 3));
    expect([seen(a), seen(b)]).toEqual([[1], [1, 3]]);
  });

  test("a frame for its own sender's port goes nowhere", () => {
    send(a, ethernet(0xff, 1));
    send(a, ethernet(1, 5));
    expect([seen(b), seen(c)]).toEqual([[1], [1]]);
    expect(drops(a).noPort).toBe(1);
  });

  test("a group address as source is not learned; NS_NO_LEARN is not honoured, as in netmap", () => {
    const odd = ethernet(0xff, 7);
    odd[6] = 3;
    send(a, odd);
    seen(b);
    seen(c);
    const tx = b.txRing(0);
    putFrame(b, tx, ethernet(0xff, 8));
    tx.setSlotFlags(0, Ns.NO_LEARN);
    b.txsync();
    send(c, ethernet(8, 3));
    expect([seen(a), seen(b)]).toEqual([[8], [3]]);
  });

  test("runts are dropped, and so is what finds no room; order holds within a sync", async () => {
    send(a, new Uint8Array(13));
    expect(drops(a).runt).toBe(1);
    await c.close();
    const small = await open("vale0:small", { rxSlots: 4 });
    send(a, ethernet(0xff, 1), ethernet(0xff, 2), ethernet(0xff, 3), ethernet(0xff, 4));
    expect([seen(b), seen(small)]).toEqual([
      [1, 2, 3, 4],
      [1, 2, 3],
    ]);
    expect(drops(a).full).toBe(1);
    // A large frame does not fit, and a small frame behind it does not overtake it.
    putFrame(a, a.txRing(0), ethernet(0xff, 5, 4 * 100), 100);
    send(a, ethernet(0xff, 6));
    expect([seen(b), seen(small)]).toEqual([[5, 6], []]);
    send(a, ethernet(0xff, 7));
    expect(seen(small)).toEqual([7]);
  });

  test("packets of several slots: NS_RFRAGS counts them, MOREFRAG is on all but the last", () => {
    putFrame(a, a.txRing(0), ethernet(0xff, 1, 250), 100);
    a.txsync();
    b.rxsync();
    const flags = [0, 1, 2].map((i) => b.rxRing(0).slotFlags(i));
    expect(flags).toEqual([0x320, 0x320, 0x300]);
    expect(takeAll(b, b.rxRing(0))).toEqual([Buffer.from(ethernet(0xff, 1, 250))]);
  });

  test("MOREFRAG on the last slot of a sync: the packet ends there", () => {
    const tx = a.txRing(0);
    putFrame(a, tx, ethernet(0xff, 1));
    tx.setSlotFlags(0, Ns.MOREFRAG);
    a.txsync();
    b.rxsync();
    expect(b.rxRing(0).slotFlags(0)).toBe(0x100);
  });

  test("64 slots make a packet, 65 do not", () => {
    putFrame(a, a.txRing(0), ethernet(0xff, 1, 64 * 20), 20);
    putFrame(a, a.txRing(0), ethernet(0xff, 2, 65 * 20), 20);
    a.txsync();
    expect(seen(b)).toEqual([1]);
    expect(drops(a).tooManyFrags).toBe(1);
  });

  test("lengths beyond a buffer, and buffers that are none: nothing else is touched", () => {
    const tx = a.txRing(0);
    putFrame(a, tx, ethernet(0xff, 1));
    tx.setLen(0, 4000);
    putFrame(a, tx, ethernet(0xff, 2));
    tx.setBufIdx(1, 0xffff_ffff);
    putFrame(a, tx, ethernet(0xff, 3));
    a.txsync();
    // The first frame has no bytes; the second holds buffer 0's bytes, with an unknown destination.
    expect(drops(a).runt).toBe(1);
    expect(seen(b).at(-1)).toBe(3);
  });

  test("NS_INDIRECT: the data is at byte `ptr` of the region, or there is none", () => {
    const tx = a.txRing(0);
    const other = tx.bufIdx(100);
    a.buffer(other).set(ethernet(0xff, 1));
    tx.setLen(0, 60);
    tx.setPtr(0, a.bufferAt(other));
    tx.setSlotFlags(0, Ns.INDIRECT);
    tx.setLen(1, 60);
    tx.setPtr(1, a.place.region.byteLength - 10);
    tx.setSlotFlags(1, Ns.INDIRECT);
    tx.head = 2;
    tx.cur = 2;
    a.txsync();
    expect(seen(b)).toEqual([1]);
    expect(drops(a).runt).toBe(1);
  });

  test("rings that are not open get nothing; a port that closes is forgotten", async () => {
    const deaf = await open("vale0:deaf/T");
    send(a, ethernet(0xff, 1));
    expect(drops(a).notListening).toBe(1);
    send(b, ethernet(0xff, 2));
    await b.close();
    send(a, ethernet(2, 1));
    expect(drops(a).noPort).toBe(1);
    await deaf.close();
  });

  test("switches are apart, and ports have memory of their own", async () => {
    const x = await open("vale1:a");
    send(a, ethernet(0xff, 1));
    expect(seen(x)).toEqual([]);
    expect(x.place.region).not.toBe(a.place.region);
    expect(netmap.valeList()).toEqual([
      { name: "vale0", ports: ["vale0:a", "vale0:b", "vale0:c"] },
      { name: "vale1", ports: ["vale1:a"] },
    ]);
    await x.close();
    expect(netmap.valeList()).toHaveLength(1);
  });

  test("exclusive use of a port (001)", async () => {
    const x = await open("vale0:x/x");
    await expect(open("vale0:x")).rejects.toMatchObject({ code: "EBUSY" });
    await expect(open("vale0:x/x")).rejects.toMatchObject({ code: "EBUSY" });
    await x.close();
    await (await open("vale0:x")).close();
  });

  test("extra buffers are sent like any other (004)", async () => {
    const x = await open("vale0:x", { extraBufs: 3 });
    const extra = x.takeExtra();
    const tx = x.txRing(0);
    x.buffer(extra).set(ethernet(0xff, 9));
    const mine = tx.bufIdx(0);
    tx.setSlot(0, extra, 60, Ns.BUF_CHANGED);
    tx.head = 1;
    tx.cur = 1;
    x.txsync();
    expect(tx.slotFlags(0)).toBe(0);
    expect(seen(a)).toEqual([9]);
    x.giveExtra(mine);
    await x.close();
  });
});

describe("persistent ports", () => {
  test("made, opened by their own name, attached, opened by either, detached, destroyed (009, 022)", async () => {
    netmap.valeNewif("v0");
    expect(() => netmap.valeNewif("v0")).toThrow(expect.objectContaining({ code: "EEXIST" }));
    const before = await open("netmap:v0");
    netmap.valeAttach("vale0:v0");
    const peer = await open("vale0:p");
    send(before, ethernet(0xff, 1));
    expect(seen(peer)).toEqual([1]);
    const again = await open("vale0:v0");
    expect(adapterOf(again)).toBe(adapterOf(before));
    await again.close();
    await before.close();
    expect(() => netmap.valeDelif("v0")).toThrow(expect.objectContaining({ code: "EBUSY" }));
    expect(() => netmap.valeDetach("vale1:v0")).toThrow(expect.objectContaining({ code: "ENXIO" }));
    netmap.valeDetach("vale0:v0");
    netmap.valeDelif("v0");
    expect(() => netmap.valeDelif("v0")).toThrow(expect.objectContaining({ code: "ENXIO" }));
    await peer.close();
  });

  test("attached once only (010), created once only (011)", () => {
    netmap.valeNewif("v0");
    netmap.valeAttach("valeA:v0");
    for (const name of ["valeA:v0", "valeB:v0"]) {
      expect(() => netmap.valeAttach(name)).toThrow(expect.objectContaining({ code: "EBUSY" }));
    }
  });

  test("a NIC is neither opened nor attached through a switch", async () => {
    new FakeNic(netmap);
    await expect(open("vale0:fake0")).rejects.toMatchObject({ code: "EINVAL" });
    expect(() => netmap.valeAttach("vale0:fake0")).toThrow(
      expect.objectContaining({ code: "EOPNOTSUPP" }),
    );
  });
});

describe("limits", () => {
  const tiny = { txSlots: 2, rxSlots: 2 };

  test("rings and slots are bounded, as asked for or by default", async () => {
    const big = await open("vale0:big", { txRings: 99, rxRings: 2, txSlots: 9999, rxSlots: 1 });
    expect([big.nicTxRings, big.nicRxRings]).toEqual([16, 2]);
    expect([big.txRing(0).numSlots, big.rxRing(0).numSlots]).toEqual([4096, 1]);
    const plain = await open("vale0:plain");
    expect([plain.nicTxRings, plain.txRing(0).numSlots]).toEqual([1, 1024]);
    await big.close();
    await plain.close();
  });

  test("eight switches, and a place is free again when a switch is empty", async () => {
    const ports = [];
    for (let i = 0; i < 8; i++) ports.push(await open(`vale${i}:p`, tiny));
    await expect(open("vale8:p")).rejects.toMatchObject({ code: "ENOMEM" });
    await ports[3]!.close();
    await (await open("vale8:p", tiny)).close();
    for (const port of ports) await port.close();
  });

  test("a switch keeps two of its 254 places free", () => {
    for (let i = 0; i < 252; i++) netmap.valeNewif(`v${i}`, tiny);
    for (let i = 0; i < 252; i++) netmap.valeAttach(`vale0:v${i}`);
    netmap.valeNewif("v252", tiny);
    expect(() => netmap.valeAttach("vale0:v252")).toThrow(
      expect.objectContaining({ code: "ENOMEM" }),
    );
  });

  test("virtio-net headers: 0, 10 or 12 bytes, to be accepted, and equal at both ends", async () => {
    const a = await open("vale0:a");
    const b = await open("vale0:b");
    expect(() => netmap.portHdrSet("vale0:a", 11)).toThrow(/10 or 12/);
    expect(() => netmap.portHdrSet("vale0:q", 12)).toThrow(/no port/);
    netmap.portHdrSet("vale0:a", 12);
    await expect(open("vale0:a")).rejects.toMatchObject({ code: "EIO" });
    await (await open("vale0:a", { flags: RegFlag.ACCEPT_VNET_HDR })).close();
    const frame = Buffer.concat([new Uint8Array(12), ethernet(0xff, 1)]);
    send(a, frame);
    expect(drops(a).headerMismatch).toBe(1);
    netmap.portHdrSet("vale0:b", 12);
    send(a, frame);
    b.rxsync();
    expect(takeAll(b, b.rxRing(0))).toEqual([frame]);
    // The header in a slot of its own.
    const tx = a.txRing(0);
    const at = tx.head;
    putFrame(a, tx, frame.subarray(0, 12));
    tx.setSlotFlags(at, Ns.MOREFRAG);
    putFrame(a, tx, frame.subarray(12));
    a.txsync();
    b.rxsync();
    expect(takeAll(b, b.rxRing(0))).toEqual([frame]);
    await a.close();
    await b.close();
  });
});

describe("the table", () => {
  test("hashes as netmap does (values printed by its C function)", () => {
    const at = (hex: string) => rthash(Buffer.from(hex, "hex"), 0);
    expect(HASHES.map(([mac]) => at(mac))).toEqual(HASHES.map(([, hash]) => hash));
  });

  test("a collision overwrites", () => {
    const table = new ValeTable();
    const one = Uint8Array.of(2, 0, 0, 0, 0, 1);
    const two = one.slice();
    for (let i = 0; rthash(two, 0) !== rthash(one, 0) || two[3] === 0; i++) {
      two[3] = 1 + (i & 0x7f);
      two[4] = i >> 7;
    }
    table.learn(one, 0, 5);
    expect(table.lookup(one, 0)).toBe(5);
    table.learn(two, 0, 6);
    expect([table.lookup(one, 0), table.lookup(two, 0)]).toEqual([254, 6]);
  });
});
