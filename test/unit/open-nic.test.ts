/** openNic, with a device at the other end. */
import { ReadableStream } from "node:stream/web";
import { afterEach, describe, expect, it } from "vitest";
import { type Device, openDevice } from "../../device/index.ts";
import { type Nic, type NicOptions, openNic } from "../../frontend/index.ts";
import { Csum, Mbuf } from "../../frontend/net/mbuf.ts";
import { Netmap, nmAttach, nmOpen, Poll } from "../../frontend/netmap/index.ts";
import { buildPacket } from "../support/packets.ts";
import { eventually } from "../support/process.ts";

const open: AsyncDisposable[] = [];

afterEach(async () => {
  for (const one of open.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});

function keep<T extends AsyncDisposable>(one: T): T {
  open.push(one);
  return one;
}

/** A device that holds frames and so drops none for lack of room. */
const device = async (): Promise<Device> =>
  keep(await openDevice({ listen: { port: 0 }, segments: { whenFull: "hold" } }));

async function nic({ url }: Device, options: Partial<NicOptions> = {}): Promise<Nic> {
  const one = keep(await openNic({ connect: url, ...options }));
  await one.settled();
  return one;
}

/** A broadcast of a local experimental EtherType (IEEE 802). */
function frame(n: number, length = 60): Uint8Array {
  const bytes = new Uint8Array(length).fill(n & 0xff, 18);
  bytes.set([255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 7, 0x88, 0xb5]);
  new DataView(bytes.buffer).setUint32(14, n);
  return bytes;
}
const numberOf = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(14);

/** Number of Tx notifications to the device. A busy Xen backend asks for fewer. */
function doorbells(of: Nic): number {
  const { queue0 } = of.counters().driver as Readonly<
    Record<"queue0", Readonly<Record<string, Readonly<Record<string, number>>>>>
  >;
  return queue0.tx_ring?.doorbells ?? queue0.tx!.notifications!;
}

async function take(from: AsyncIterable<Uint8Array>, count: number): Promise<Uint8Array[]> {
  const frames: Uint8Array[] = [];
  for await (const one of from) if (frames.push(one) === count) break;
  return frames;
}

describe.each(["ena", "xen"] as const)("a NIC of %s", (driver) => {
  it("sends more frames than its rings have slots, and yields them in order", async () => {
    const there = await device();
    const a = await nic(there, { driver, name: "a" });
    const b = await nic(there, { driver, name: "b", readerFrames: 3000 });
    const received = take(b, 3000);
    for (let n = 0; n < 3000; n++) await a.send(frame(n));
    expect((await received).map(numberOf)).toEqual(Array.from({ length: 3000 }, (_, n) => n));
    expect(b.counters().frames).toEqual({ rxReaderFull: 0, rxMalformed: 0 });
  });

  it("is a readable and a writable stream", async () => {
    const there = await device();
    const a = await nic(there, { driver, name: "a" });
    const b = await nic(there, { driver, name: "b" });
    const received = take(b.readable, 3);
    await ReadableStream.from([frame(1), frame(2, 1514), frame(3)]).pipeTo(a.writable);
    expect(await received).toEqual([frame(1), frame(2, 1514), frame(3)]);
  });

  it("sends the frames of one turn with one doorbell, in order", async () => {
    const there = await device();
    const a = await nic(there, { driver, name: "a" });
    const b = await nic(there, { driver, name: "b" });
    const received = take(b, 43);
    await a.send(frame(0));
    const before = doorbells(a);
    await Promise.all(Array.from({ length: 20 }, (_, n) => a.send(frame(1 + n))));
    await a.settled();
    expect(doorbells(a) - before).toBeLessThanOrEqual(1);
    await ReadableStream.from(Array.from({ length: 20 }, (_, n) => frame(21 + n))).pipeTo(
      a.writable,
      { preventClose: true },
    );
    await a.settled();
    expect(doorbells(a) - before).toBeLessThanOrEqual(2);
    const writer = a.writable.getWriter();
    for (const n of [41, 42]) void writer.write(frame(n));
    await writer.close();
    await a.settled();
    expect(doorbells(a) - before).toBeLessThanOrEqual(3);
    expect((await received).map(numberOf)).toEqual(Array.from({ length: 43 }, (_, n) => n));
  });

  it("sends what was given to it before it is closed, and keeps the order while there is no room", async () => {
    const there = await device();
    const a = await nic(there, { driver, name: "a" });
    const b = await nic(there, { driver, name: "b", readerFrames: 3001 });
    const received = take(b, 3001);
    await Promise.all(Array.from({ length: 3000 }, (_, n) => a.send(frame(n))));
    const last = a.send(frame(3000));
    await a.close();
    await last;
    expect((await received).map(numberOf)).toEqual(Array.from({ length: 3001 }, (_, n) => n));
  });

  it("refuses one frame of a batch and sends the others; a stream ends with the reason", async () => {
    const there = await device();
    const a = await nic(there, { driver, name: "a" });
    const b = await nic(there, { driver, name: "b" });
    const received = take(b, 3);
    const [first, long, second] = await Promise.allSettled(
      [frame(0), frame(1, 1519), frame(2)].map((one) => a.send(one)),
    );
    expect([first!.status, second!.status]).toEqual(["fulfilled", "fulfilled"]);
    expect(long).toMatchObject({ status: "rejected", reason: { code: "EMSGSIZE" } });
    const chunks = [frame(3), frame(4, 1519), frame(5)];
    await expect(ReadableStream.from(chunks).pipeTo(a.writable)).rejects.toMatchObject({
      code: "EMSGSIZE",
    });
    expect((await received).map(numberOf)).toEqual([0, 2, 3]);
    await expect(a.writable.getWriter().write(frame(6))).rejects.toMatchObject({
      code: "EMSGSIZE",
    });
  });

  it("drops and counts what a slow reader has no room for", async () => {
    const there = await device();
    const a = await nic(there, { driver, name: "a" });
    const b = await nic(there, { driver, name: "b", readerFrames: 4 });
    const frames = b[Symbol.asyncIterator]();
    for (let n = 0; n < 10; n++) await a.send(frame(n));
    await eventually("all frames", () => (b.ifnet.counters.ipackets === 10 ? true : undefined));
    expect(b.counters().frames?.rxReaderFull).toBe(6);
    expect(b.ifnet.counters.iqdrops).toBe(6);
    for (let n = 0; n < 4; n++) expect(numberOf((await frames.next()).value!)).toBe(n);
  });

  it("finishes the checksum of a packet that the sender left to others", async () => {
    const there = await device();
    const a = await nic(there, { driver, name: "a" });
    const b = await nic(there, { driver, name: "b" });
    const packet = {
      protocol: 17 as const,
      destination: new Array<number>(6).fill(255),
      payload: new Uint8Array(40).fill(7),
    };
    const { bytes, l4 } = buildPacket({ ...packet, checksum: "partial" });
    const received = take(b, 1);
    const m = new Mbuf();
    m.attach(bytes, 0, bytes.length, undefined);
    m.csumFlags = Csum.IP_UDP;
    m.csumStart = l4;
    m.csumOffset = 6;
    expect(a.ifnet.send(m)).toBe(0);
    expect(await received).toEqual([buildPacket(packet).bytes]);
  });

  it("ends loops and refuses frames when it is closed", async () => {
    const there = await device();
    const a = await nic(there, { driver, name: "a" });
    const received = take(a, 1);
    await a.close();
    expect(await received).toEqual([]);
    await expect(a.send(frame(1))).rejects.toMatchObject({ code: "CLOSED" });
  });

  it("refuses what is no frame, and frames while it is down", async () => {
    const a = await nic(await device(), { driver, name: "a" });
    await expect(a.send(new Uint8Array(13))).rejects.toMatchObject({ code: "EMSGSIZE" });
    await expect(a.send(frame(1, 1519))).rejects.toMatchObject({ code: "EMSGSIZE" });
    await a.down();
    await expect(a.send(frame(1))).rejects.toMatchObject({ code: "ENETDOWN" });
  });

  it("says when its device goes and comes back; frames wait meanwhile", async () => {
    const first = await openDevice({ listen: { port: 0 } });
    const { port } = first;
    const a = await nic(first, { driver, name: "a" });
    const said: string[] = [];
    for (const event of ["up", "down", "link-gone", "link-back"] as const) {
      a.on(event, () => said.push(event));
    }
    await first.close();
    await eventually("the end of the link", () => (said.includes("link-gone") ? true : undefined));
    let isSent = false;
    const sent = a.send(frame(1)).then(() => {
      isSent = true;
    });
    const again = keep(await openDevice({ listen: { port } }));
    expect(isSent).toBe(false);
    await sent;
    await eventually("the link", () => (said.includes("link-back") ? true : undefined));
    expect(said.filter((event) => event.startsWith("link"))).toEqual(["link-gone", "link-back"]);
    expect(said.filter((event) => !event.startsWith("link"))).toEqual(["down", "up"]);
    expect(a.status()).toMatchObject({ name: "a", driver, state: "attached", reconnects: 1 });
    expect(again.url).toBe(first.url);
  });
});

describe("netmap", () => {
  it("of two NICs of one process, each with a netmap of its own, knows nothing of the other", async () => {
    const there = await device();
    const options = { ifname: "ena0", netmap: true };
    const a = await nic(there, { ...options, name: "a" });
    const b = await nic(there, { ...options, name: "b" });
    const [tx, rx] = [await nmOpen("netmap:ena0", a), await nmOpen("netmap:ena0", b)].map(keep);
    await b.settled();
    // As an application in another thread gets them.
    const [sender, receiver] = [nmAttach(tx!.share()), nmAttach(rx!.share())];
    const out = sender.txRing(0);
    sender.buffer(out.bufIdx(out.head)).set(frame(77));
    out.setLen(out.head, 60);
    out.advance(out.next(out.head));
    sender.txsync();
    expect(await receiver.poll(Poll.IN, -1)).toBe(Poll.IN);
    const slots = receiver.rxRing(0);
    expect(numberOf(receiver.buffer(slots.bufIdx(slots.head)))).toBe(77);
    expect(a.netmap).not.toBe(b.netmap);
    await tx!.close();
    expect([sender.isClosed, receiver.isClosed]).toEqual([true, false]);
  });

  it("is shared by the NICs that are given the same one, under names of their own", async () => {
    const there = await device();
    const netmap = new Netmap();
    await nic(there, { ifname: "ena0", netmap });
    await nic(there, { ifname: "xn0", netmap });
    expect(["ena0", "xn0"].map((name) => netmap.hasInterface(name))).toEqual([true, true]);
    const again = openNic({ connect: there.url, ifname: "ena0", name: "c", netmap });
    await expect(again).rejects.toMatchObject({ code: "ATTACH" });
  });

  it("is not there when nobody asked for it", async () => {
    const a = await nic(await device());
    expect(() => a.netmap).toThrow("ena0 was opened without netmap");
  });
});
