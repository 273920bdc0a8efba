/** The ENA device by exact values: answers of features, registers, rings, offloads, its status. */
import { describe, expect, test } from "vitest";
import { hintsFor, slackMs, worthTelling } from "../../device/ena/hints.ts";
import { createEnaNic, type EnaOptions } from "../../device/ena/index.ts";
import { CompletionRing, DescriptorRing, fetchBytes } from "../../device/ena/memory.ts";
import { TxMeta, TxOffloads } from "../../device/ena/offload.ts";
import { ACQ_BODY, SqDirection } from "../../shared/ena/admin.ts";
import {
  aenqConfig,
  deviceAttributes,
  FeatureId,
  hwHints,
  intrModeration,
  linkConfig,
  maxQueues,
  maxQueuesExt,
  statelessOffload,
} from "../../shared/ena/features.ts";
import { L3Proto, L4Proto, txDesc } from "../../shared/ena/io.ts";
import { AccelMode, llqFeature } from "../../shared/ena/llq.ts";
import { DevSts, devCtlReg, queueCapsReg, Register } from "../../shared/ena/registers.ts";
import { Frame, Gso } from "../../shared/net/frame.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { busAddress, RecordType } from "../../shared/wire/records.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost, FakeMemory, MEMORY_BASE, settle } from "../support/fake-host.ts";
import { buildPacket, bytesOf, plainSum, pseudoHeader } from "../support/packets.ts";

function bare(options: EnaOptions = {}) {
  const host = new FakeHost({ queues: 2, maxMtu: 9216 });
  const nic = createEnaNic(host, options);
  return { host, nic, twin: new EnaTwin(nic, host) };
}

async function rig(options: EnaOptions = {}) {
  const all = bare(options);
  await all.twin.attach();
  all.host.takeInterrupts();
  return all;
}

const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

describe("features", () => {
  test("each answers its whole body", async () => {
    const { host, twin } = await rig();
    const body = async <T>(id: number, layout: { parse(view: DataView, at: number): T }) =>
      layout.parse((await twin.getFeature(id)).entry, ACQ_BODY);
    expect(await body(FeatureId.DEVICE_ATTRIBUTES, deviceAttributes)).toMatchObject({
      implId: 1,
      deviceVersion: 1,
      supportedFeatures: 0x1c14_5c9e,
      capabilities: 0x19,
      physAddrWidthBits: 48,
      virtAddrWidthBits: 48,
      macAddr: host.config.mac,
      maxMtu: 9216,
    });
    expect(await body(FeatureId.MAX_QUEUES_NUM, maxQueues)).toMatchObject({
      maxSqNum: 2,
      maxSqDepth: 4096,
      maxCqNum: 2,
      maxCqDepth: 4096,
      maxHeaderSize: 96,
      maxPacketTxDescs: 19,
      maxPacketRxDescs: 19,
    });
    expect(await body(FeatureId.MAX_QUEUES_EXT, maxQueuesExt)).toMatchObject({
      version: 1,
      maxTxSqNum: 2,
      maxTxSqDepth: 4096,
      maxTxCqDepth: 4096,
      maxRxSqDepth: 4096,
      maxRxCqDepth: 4096,
      maxTxHeaderSize: 96,
      maxPerPacketTxDescs: 19,
      maxPerPacketRxDescs: 19,
    });
    expect(await body(FeatureId.STATELESS_OFFLOAD_CONFIG, statelessOffload)).toEqual({
      tx: 0x7f,
      rxSupported: 0xf,
      rxEnabled: 0xf,
    });
    expect(await body(FeatureId.AENQ_CONFIG, aenqConfig)).toEqual({
      supportedGroups: 0xdf,
      enabledGroups: 0xdf,
    });
    expect(await body(FeatureId.INTERRUPT_MODERATION, intrModeration)).toEqual({
      intrDelayResolutionUs: 1,
    });
    expect(await body(FeatureId.LINK_CONFIG, linkConfig)).toEqual({
      speedMbit: 25_000,
      supported: 0x10,
      autoneg: false,
      fullDuplex: true,
    });
    expect(await body(FeatureId.HW_HINTS, hwHints)).toEqual(hintsFor(0));
  });

  test.each([false, true])(
    "LLQ, with meta caching off %s: offered, then as chosen",
    async (off) => {
      const { twin } = await rig({ disableMetaCaching: off });
      const get = async () =>
        llqFeature.parse((await twin.getFeature(FeatureId.LLQ)).entry, ACQ_BODY);
      const offer = {
        maxLlqNum: 2,
        maxLlqDepth: 1024,
        headerLocationSupported: 1,
        headerLocationEnabled: 0,
        entrySizeSupported: 5,
        descsBeforeHeaderSupported: 3,
        strideSupported: 3,
        featureVersion: 1,
        entrySizeRecommended: 1,
        maxWideLlqDepth: 1024,
        accelFlags: off ? AccelMode.DISABLE_META_CACHING : 0,
      };
      expect(await get()).toMatchObject(offer);
      await twin.enableLlq();
      expect(await get()).toMatchObject({ ...offer, headerLocationEnabled: 1 });
    },
  );

  test("hints: defaults, and twenty round trips in steps of 100 ms, at most 30 s", () => {
    const slack = [0, 0.1, 5, 5.1, 10, 1495, 1499, 1500, 1e6].map(slackMs);
    expect(slack).toEqual([0, 100, 100, 200, 200, 29_900, 30_000, 30_000, 30_000]);
    expect(hintsFor(1100)).toEqual({
      mmioReadTimeoutMs: 1300,
      driverWatchdogTimeoutMs: 7100,
      missingTxCompletionTimeoutMs: 6100,
      missedTxCompletionCountThresholdToReset: 128,
      adminCompletionTimeoutMs: 5000,
      netdevWdTimeoutMs: 6100,
      maxTxSglSize: 19,
      maxRxSglSize: 19,
    });
    expect(hintsFor(1000).adminCompletionTimeoutMs).toBe(4000);
  });

  test.each([
    [0, 499, false],
    [0, 500, true],
    [500, 0, true],
    [499, 0, false],
    [4000, 3001, false],
    [4000, 3000, true],
    [4000, 5000, true],
    [4000, 4999, false],
  ])("hints of %i ms, now %i: told anew %s", (told, now, news) => {
    expect(worthTelling(told, now)).toBe(news);
  });
});

describe("registers", () => {
  test("read as exactly what they are", () => {
    const { twin } = bare();
    const { VERSION, CONTROLLER_VERSION, CAPS, DEV_STS, INTR_MASK } = Register;
    expect([VERSION, CONTROLLER_VERSION, CAPS, DEV_STS].map((at) => twin.read32(at))).toEqual([
      0x200,
      0x1_0000,
      0x303f,
      DevSts.READY,
    ]);
    twin.write32(INTR_MASK, 0xffff_fffe);
    expect(twin.read32(INTR_MASK)).toBe(0);
    twin.write32(INTR_MASK, 0xffff_ffff);
    expect(twin.read32(INTR_MASK)).toBe(1);
    twin.write32(Register.DEV_CTL, devCtlReg.packReset(0, true));
    expect(twin.read32(INTR_MASK)).toBe(0);
  });

  test.each([
    [{}, 0, true],
    [{ readless: false, llq: false }, 1, false],
  ])("%j: PCI revision %i, device memory %s", (options, revision, memory) => {
    const { nic } = bare(options);
    expect([nic.pci.revision, nic.pci.deviceMemory]).toEqual([revision, memory]);
  });

  test("reads at any place and length, writes of several registers at once", () => {
    const { host, nic, twin } = bare();
    expect([...nic.pci.mmioRead(0, Register.CAPS + 1, 6)]).toEqual([0x30, 0, 0, 0, 0, 0]);
    expect(nic.pci.mmioRead(0, Register.CAPS - 2, 4)[2]).toBe(0x3f);
    const both = Buffer.alloc(3 + 8);
    both.writeUInt32LE(twin.responseAddress >>> 0, 3);
    both.writeUInt32LE(Math.floor(twin.responseAddress / 2 ** 32), 7);
    nic.pci.mmioWrite(0, Register.MMIO_RESP_LO, both, 3, 8);
    expect(twin.readless(Register.CAPS)).toBe(0x303f);
    nic.pci.mmioWrite(0, 0x7ffc, new Uint8Array(4), 0, 4);
    expect(host.takeFaults()).toEqual(["REGISTER_UNDEFINED"]);
  });

  test.each([
    ["the last place", 2 ** 48 - 8, true],
    ["one byte further", 2 ** 48 - 7, false],
    ["nowhere", 0, false],
    ["beyond 48 bits", 2 ** 48 + 64, false],
  ])("an answer to a readless read at %s", (_, address, usable) => {
    const { host, twin } = bare();
    twin.write32(Register.MMIO_RESP_LO, address % 2 ** 32);
    twin.write32(Register.MMIO_RESP_HI, Math.floor(address / 2 ** 32));
    twin.write32(Register.MMIO_REG_READ, Register.CAPS << 16);
    expect(host.takeFaults()).toEqual(usable ? [] : ["MMIO_RESP_UNSET"]);
    expect(host.memory.writes.map((w) => w.address)).toEqual(usable ? [address + 2, address] : []);
    expect(host.flushes).toBe(usable ? 1 : 0);
  });

  const LAST = 2 ** 48 - 2 * 64;
  test.each([
    ["two entries", 2, 64, 2 ** 20, 2, []],
    ["one entry", 1, 64, 2 ** 20, 2, ["AQ_NOT_CONFIGURED"]],
    ["the most entries", 1024, 64, 2 ** 20, 1024, []],
    ["too many entries", 2048, 64, 2 ** 20, 2048, ["AQ_NOT_CONFIGURED"]],
    ["three entries", 3, 64, 2 ** 20, 4, ["AQ_NOT_CONFIGURED"]],
    ["short entries", 2, 32, 2 ** 20, 2, ["AQ_NOT_CONFIGURED"]],
    ["the last of memory", 2, 64, LAST, 2, []],
    ["beyond memory", 2, 64, LAST + 64, 2, ["AQ_NOT_CONFIGURED"]],
    ["fewer completions", 4, 64, 2 ** 20, 2, ["ACQ_TOO_SMALL"]],
    ["as many completions", 4, 64, 2 ** 20, 4, []],
  ])("an admin ring of %s", (_, depth, entryBytes, address, acqDepth, faults) => {
    const { host, twin } = bare();
    twin.initAdmin();
    twin.write32(Register.AQ_BASE_LO, address % 2 ** 32);
    twin.write32(Register.AQ_BASE_HI, Math.floor(address / 2 ** 32));
    twin.write32(Register.AQ_CAPS, queueCapsReg.pack(depth, entryBytes));
    twin.write32(Register.ACQ_CAPS, queueCapsReg.pack(acqDepth, 64));
    twin.write32(Register.AQ_DB, 0);
    expect(host.takeFaults()).toEqual(faults);
  });

  test("a queue's interrupt register arms its vector, the NUMA register does not", async () => {
    const { host, nic, twin } = await rig();
    const first = await twin.createQueue(SqDirection.TX, 8, 1);
    const second = await twin.createQueue(SqDirection.TX, 8, 2);
    expect([first, second].map((q) => [q.doorbell, q.unmask])).toEqual([
      [0x1000, 0x2000],
      [0x1004, 0x2004],
    ]);
    host.takeInterrupts();
    const armed = () => nic.snapshot().interrupts.map((vector) => vector.armed);
    const before = armed();
    twin.write32(0x3004, 1 << 30);
    expect(armed()).toEqual(before);
    twin.write32(second.unmask, 1 << 30);
    expect(armed()).toEqual([before[0], false, true]);
    twin.write32(first.unmask, ~(1 << 30));
    expect(armed()).toEqual([before[0], false, true]);
    for (const at of [0x2008, 0x3008, 0x2ffc, 0x3ffc]) twin.write32(at, 1 << 30);
    expect(host.takeFaults()).toEqual([
      "UNMASK_NO_QUEUE",
      "NUMA_NO_QUEUE",
      "UNMASK_NO_QUEUE",
      "NUMA_NO_QUEUE",
    ]);
    twin.write32(0x1ffc, 1);
    expect(host.takeFaults()).toEqual(["DOORBELL_NO_QUEUE"]);
  });
});

describe("a ring that the device fills", () => {
  function ring() {
    const memory = new FakeMemory(4096);
    const made = new CompletionRing(memory, busAddress(MEMORY_BASE), 4, 8, RecordType.ENA_TX_CDESC);
    const fill = (n: number): void => {
      for (let i = 0; i < n; i++) {
        made.view.setUint32(made.at, 0x100 + made.cursor.head, true);
        made.next();
      }
    };
    const writes = () => memory.writes.splice(0).map((w) => [w.address - MEMORY_BASE, w.length]);
    return { memory, made, fill, writes };
  }

  test("sends what is new, in two writes across its end, and nothing twice", () => {
    const { memory, made, fill, writes } = ring();
    expect([made.publish(), writes()]).toEqual([0, []]);
    fill(3);
    expect([made.publish(), writes()]).toEqual([3, [[0, 24]]]);
    fill(2);
    expect([made.publish(), made.publish()]).toEqual([2, 0]);
    expect(writes()).toEqual([
      [24, 8],
      [0, 8],
    ]);
    expect([0, 8, 16, 24].map((at) => memory.view.getUint32(at, true))).toEqual([
      0x104, 0x101, 0x102, 0x103,
    ]);
    expect(made.place).toEqual({ address: MEMORY_BASE, depth: 4, entryBytes: 8, head: 5 });
  });

  test("a full lap goes out by itself, before the next lap overwrites it", () => {
    const { made, fill, writes } = ring();
    fill(4);
    expect(writes()).toEqual([[0, 32]]);
    fill(1);
    expect([made.publish(), writes()]).toEqual([1, [[0, 8]]]);
    fill(4);
    expect(writes()).toEqual([
      [8, 24],
      [0, 8],
    ]);
  });
});

describe("a ring that the device reads", () => {
  function ring(depth: number, window = false) {
    const memory = new FakeMemory(1 << 18);
    const address = busAddress(MEMORY_BASE + 64);
    if (window) memory.addWindow(MEMORY_BASE, 4096);
    let more = 0;
    const refused: unknown[] = [];
    const made = new DescriptorRing(
      memory,
      address,
      depth,
      16,
      () => more++,
      (error) => void refused.push(error),
    );
    return { memory, made, refused, more: () => more };
  }

  test("a doorbell announces up to a whole ring, and never goes back", () => {
    const { made } = ring(8, true);
    expect(made.announce(9)).toBe("BEYOND_RING");
    expect([made.announce(3), made.readable, made.announced]).toEqual([undefined, 3, 3]);
    expect([made.announce(2), made.announce(3), made.announce(8)]).toEqual([
      "BACKWARDS",
      undefined,
      undefined,
    ]);
    made.cursor.skip(6);
    expect([made.readable, made.announce(14), made.announce(15)]).toEqual([
      2,
      undefined,
      "BEYOND_RING",
    ]);
    expect(made.place).toEqual({ address: MEMORY_BASE + 64, depth: 8, entryBytes: 16, head: 14 });
  });

  test("place and phase of the entries ahead, in a window that begins before the ring", () => {
    const { made } = ring(8, true);
    made.announce(8);
    made.cursor.skip(6);
    expect([0, 1, 2, 3].map((ahead) => made.at(ahead))).toEqual([64 + 96, 64 + 112, 64, 64 + 16]);
    expect([0, 1, 2, 7].map((ahead) => made.phase(ahead))).toEqual([1, 1, 0, 0]);
    made.cursor.skip(8);
    expect([0, 1, 2, 7].map((ahead) => made.phase(ahead))).toEqual([0, 0, 1, 1]);
  });

  test("elsewhere entries count once they are fetched, up to the end of the ring at a time", async () => {
    const { memory, made, more } = ring(8);
    memory.bytes.set(pattern(8 * 16), 64);
    made.announce(6);
    expect([made.readable, made.announced, memory.reads.length]).toEqual([0, 6, 1]);
    // An announcement during a fetch starts no second fetch.
    made.announce(7);
    expect(memory.reads.length).toBe(1);
    memory.answerNow();
    await settle();
    expect([made.readable, more(), memory.reads.length]).toEqual([6, 1, 1]);
    await memory.answerReads();
    expect([made.readable, more()]).toEqual([7, 2]);
    const { view } = made;
    expect(new Uint8Array(view.buffer).slice(0, 7 * 16)).toEqual(pattern(7 * 16));
    made.cursor.skip(7);
    made.announce(10);
    memory.answerNow();
    await settle();
    expect([made.readable, memory.reads.length]).toEqual([1, 1]);
    await memory.answerReads();
    expect([made.readable, more()]).toEqual([3, 4]);
  });

  test("a long ring is fetched in reads of what one may have", async () => {
    const { memory, made, more } = ring(8192);
    made.announce(8192);
    await memory.answerReads();
    expect([made.readable, more()]).toEqual([8192, Math.ceil((8192 * 16) / Limits.READ_BYTES)]);
  });

  test("a refusal is told, and nothing of a ring that is closed", async () => {
    const one = ring(8);
    one.made.announce(1);
    for (const read of one.memory.reads.splice(0)) read.refuse();
    await settle();
    expect([one.refused.length, one.more(), one.made.readable]).toEqual([1, 0, 0]);
    const two = ring(8);
    const three = ring(8);
    for (const { made } of [two, three]) {
      made.announce(1);
      made.close();
    }
    for (const read of two.memory.reads.splice(0)) read.refuse();
    three.memory.answerNow();
    await settle();
    expect([two.refused.length, three.more(), three.made.readable]).toEqual([0, 0, 0]);
  });
});

describe("a control buffer", () => {
  function stage() {
    const memory = new FakeMemory(4096);
    memory.bytes.set(pattern(4096));
    const fetch = (at: number, length: number) =>
      fetchBytes(memory, busAddress(MEMORY_BASE + at), length);
    return { memory, fetch };
  }
  const wanted = pattern(4096).slice(70, 78);

  test("in a window is copied from there", () => {
    const { memory, fetch } = stage();
    memory.addWindow(MEMORY_BASE + 64, 64);
    const got = fetch(70, 8);
    memory.bytes.fill(0);
    expect([got, memory.reads.length]).toEqual([wanted, 0]);
  });

  test("that was pushed is copied from the push, which it uses up", () => {
    const { memory, fetch } = stage();
    memory.push(MEMORY_BASE + 70, 20);
    const got = fetch(70, 8);
    memory.reuseMessage();
    expect([got, memory.reads.length, memory.pushes.live]).toEqual([wanted, 0, 0]);
  });

  test("elsewhere is read", async () => {
    const { memory, fetch } = stage();
    const got = fetch(70, 8);
    await memory.answerReads();
    expect(await got).toEqual(wanted);
  });
});

describe("offloads", () => {
  const META = { valid: true, mss: 0, l3HdrLen: 20, l3HdrOffset: 14, l4HdrLenWords: 5 };
  const ALL = txDesc.packOffload(L3Proto.IPV4, L4Proto.TCP, 1, 1, 0, 0, 0);
  const TSO = txDesc.packOffload(L3Proto.IPV4, L4Proto.TCP, 1, 1, 0, 1, 0);

  function frameOf(...pieces: Uint8Array[]): Frame {
    const frame = new Frame();
    for (const piece of pieces) frame.push(piece, 0, piece.length);
    return frame;
  }

  const meta = (fields: Partial<TxMeta> = {}): TxMeta => Object.assign(new TxMeta(), META, fields);

  // The headers that change end at byte 52, after TCP's checksum.
  test.each([
    [[180]],
    [[52, 128]],
    [[51, 129]],
    [[53, 127]],
    [[14, 20, 20, 126]],
    [[34, 146]],
    [[1, 1, 1, 31, 1, 17, 1, 127]],
    [[10, 10, 10, 10, 10, 2, 100, 28]],
    [[34, 18, 128]],
  ])("both checksums of a packet in pieces of %j; the driver's bytes stay", (sizes) => {
    const p = buildPacket({ payload: pattern(126), checksum: "partial" });
    expect(p.bytes.length).toBe(180);
    const sent = p.bytes.slice();
    for (const at of [p.l3 + 10, p.l3 + 11, p.l4 + 16, p.l4 + 17]) sent[at] = 0x77;
    let at = 0;
    const pieces = sizes.map((size) => {
      at += size;
      return sent.slice(at - size, at);
    });
    const kept = pieces.map((piece) => piece.slice());
    const frame = frameOf(...pieces);
    expect(new TxOffloads().apply(frame, ALL, meta())).toBe("");
    const got = bytesOf(frame);
    expect(got).toEqual(p.bytes);
    expect((got[p.l4 + 16]! << 8) | got[p.l4 + 17]!).toBe(
      plainSum(pseudoHeader(p.bytes, p.l3, p.l4, 6)),
    );
    expect(pieces).toEqual(kept);
    // One piece with the headers, then the rest of the other pieces.
    let beyond = 0;
    const left = sizes.filter((size) => {
      beyond += size;
      return beyond > 52;
    });
    expect(frame.count).toBe(1 + left.length);
    expect([frame.needsCsum, frame.csumStart, frame.csumOffset]).toEqual([true, 34, 16]);
    expect([frame.csumValid, frame.gso, frame.gsoSize]).toEqual([true, Gso.NONE, 0]);
  });

  test("one packet's headers are no part of the next one's", () => {
    const offloads = new TxOffloads();
    for (const seed of [1, 2]) {
      const p = buildPacket({ payload: pattern(100, seed), id: seed, checksum: "partial" });
      const frame = frameOf(p.bytes);
      expect(offloads.apply(frame, ALL, meta())).toBe("");
      expect(bytesOf(frame)).toEqual(p.bytes);
    }
  });

  test.each([
    ["more than a segment", 400, 401, { gso: Gso.TCPV4, gsoSize: 400, headerLength: 54 }],
    ["one segment", 400, 400, { gso: Gso.NONE, gsoSize: 0 }],
    ["the smallest size", 40, 100, { gso: Gso.TCPV4, gsoSize: 40, headerLength: 54 }],
    ["no payload", 40, 0, { gso: Gso.NONE, gsoSize: 0 }],
  ])("TSO of %s", (_, mss, bytes, facts) => {
    const p = buildPacket({ payload: pattern(bytes), checksum: "partial" });
    const frame = frameOf(p.bytes.slice());
    expect(new TxOffloads().apply(frame, TSO, meta({ mss }))).toBe("");
    expect(frame).toMatchObject({ ...facts, needsCsum: true, csumStart: 34, csumOffset: 16 });
  });

  test.each([
    ["TX_META_MISSING", TSO, { valid: false }, 500],
    ["TX_META_BEYOND_PACKET", ALL, { l3HdrLen: 0 }, 500],
    ["TX_META_BEYOND_PACKET", ALL, { l3HdrOffset: 255, l3HdrLen: 255 }, 509],
    ["TX_L3_MISMATCH", ALL, { l3HdrOffset: 255, l3HdrLen: 255 }, 510],
    ["TX_L3_MISMATCH", ALL, { l3HdrOffset: 15, l3HdrLen: 19 }, 500],
    ["TX_L3_MISMATCH", ALL, { l3HdrLen: 24 }, 500],
    ["TX_META_BEYOND_PACKET", TSO, { l4HdrLenWords: 6, mss: 400 }, 57],
    ["TX_META_BEYOND_PACKET", TSO, { l4HdrLenWords: 15, mss: 400 }, 93],
    ["", TSO, { l4HdrLenWords: 15, mss: 400 }, 94],
    ["TX_L4_MISMATCH", TSO, { l4HdrLenWords: 4, mss: 400 }, 500],
    ["TX_MSS_ZERO", TSO, { mss: 0 }, 500],
    ["TX_MSS_TOO_SMALL", TSO, { mss: 39 }, 500],
    ["", 0, { valid: false }, 500],
  ])("%s: word %i, meta %j, %i bytes", (error, word, fields, length) => {
    const p = buildPacket({ payload: pattern(length - 54), checksum: "partial" });
    const before = p.bytes.slice();
    const frame = frameOf(p.bytes);
    expect(new TxOffloads().apply(frame, word, meta({ mss: 400, ...fields }))).toBe(error);
    if (error !== "") expect(frame.needsCsum).toBe(false);
    expect(p.bytes).toEqual(before);
  });

  test("a claim of the other IP version is refused, of none is not", () => {
    const p = buildPacket({ payload: pattern(60), checksum: "partial" });
    const p6 = buildPacket({ payload: pattern(60), checksum: "partial", v6: true });
    const apply = (bytes: Uint8Array, l3: number, l3HdrLen: number) =>
      new TxOffloads().apply(
        frameOf(bytes.slice()),
        txDesc.packOffload(l3, L4Proto.TCP, 0, 1, 1, 0, 0),
        meta({ l3HdrLen }),
      );
    const { IPV4, IPV6, UNKNOWN } = L3Proto;
    expect([IPV4, IPV6, UNKNOWN].map((l3) => apply(p.bytes, l3, 20))).toEqual([
      "",
      "TX_L3_MISMATCH",
      "",
    ]);
    expect([IPV4, IPV6, UNKNOWN].map((l3) => apply(p6.bytes, l3, 40))).toEqual([
      "TX_L3_MISMATCH",
      "",
      "",
    ]);
  });

  test("the field is summed only when the driver has not done it; both protocols are named", () => {
    const p = buildPacket({ payload: pattern(60), checksum: "partial" });
    const udp = buildPacket({ payload: pattern(60), checksum: "partial", protocol: 17 });
    const field = (bytes: Uint8Array, at: number) => (bytes[at]! << 8) | bytes[at + 1]!;
    for (const [built, l4, at] of [
      [p, L4Proto.TCP, 16],
      [udp, L4Proto.UDP, 6],
    ] as const) {
      for (const partial of [0, 1]) {
        const sent = built.bytes.slice();
        sent[built.l4 + at] = 0x77;
        const frame = frameOf(sent);
        const word = txDesc.packOffload(L3Proto.IPV4, l4, 0, 1, partial, 0, 0);
        expect(new TxOffloads().apply(frame, word, meta())).toBe("");
        const wanted = partial === 1 ? sent : built.bytes;
        expect(field(bytesOf(frame), built.l4 + at)).toBe(field(wanted, built.l4 + at));
        expect(frame.csumOffset).toBe(at);
        expect(frame.count).toBe(partial === 1 ? 1 : 2);
      }
    }
    const none = txDesc.packOffload(L3Proto.IPV4, L4Proto.UNKNOWN, 0, 1, 1, 0, 0);
    expect(new TxOffloads().apply(frameOf(p.bytes), none, meta())).toBe("TX_L4_MISMATCH");
  });

  test("headers that change are found again by whoever asks the frame", () => {
    const p = buildPacket({ payload: pattern(126), checksum: "partial" });
    const frame = frameOf(p.bytes.slice(0, 20), p.bytes.slice(20));
    expect(new TxOffloads().apply(frame, ALL, meta())).toBe("");
    const h = frame.headers();
    expect([h.l3Offset, h.l4Offset, h.u16(p.l3 + 10), h.u16(p.l4 + 16)]).toEqual([
      14,
      34,
      (p.bytes[24]! << 8) | p.bytes[25]!,
      (p.bytes[50]! << 8) | p.bytes[51]!,
    ]);
  });

  test("a header checksum alone, and of a packet whose protocol is not named", () => {
    const p = buildPacket({ payload: pattern(60), checksum: "partial" });
    for (const l3 of [L3Proto.IPV4, L3Proto.UNKNOWN]) {
      const sent = p.bytes.slice();
      sent[p.l3 + 10] = 0x12;
      const frame = frameOf(sent);
      const word = txDesc.packOffload(l3, L4Proto.UNKNOWN, 1, 0, 0, 0, 0);
      expect(new TxOffloads().apply(frame, word, meta())).toBe("");
      expect(bytesOf(frame)).toEqual(p.bytes);
      expect(frame.needsCsum).toBe(false);
    }
  });
});

describe("status", () => {
  test("says what the device holds, to the number", async () => {
    const { host, nic, twin } = await rig();
    host.roundTripMs = 3;
    expect(nic.snapshot()).toMatchObject({
      personality: "ena",
      status: "ready",
      mtu: 9216,
      llq: false,
      driver: "unknown",
      features: 0x1c14_5c9e,
      admin: { running: true, waiting: 0, head: 2, tail: 2, events: 1, eventGroups: 0xdf },
      tx: [],
      rx: [],
      roundTripMs: 3,
    });
    const tx = await twin.createQueue(SqDirection.TX, 16, 1);
    const rx = await twin.createQueue(SqDirection.RX, 8, 2);
    for (let i = 0; i < 3; i++) twin.postTx(tx, i, twin.buffer(pattern(60 + i)), 60 + i);
    for (let i = 0; i < 5; i++) twin.postRx(rx, i, twin.buffer(new Uint8Array(128), false), 128);
    twin.ring(tx);
    twin.ring(rx);
    const frame = new Frame();
    frame.push(pattern(200), 0, 200);
    expect(host.port!.deliver(frame)).toBe(undefined);
    host.port!.flush();
    const { counters, ...now } = nic.snapshot();
    expect(now.tx).toEqual([
      {
        ...{
          index: 0,
          depth: 16,
          head: 3,
          tail: 3,
          cqHead: 3,
          kept: 0,
          vector: 1,
          placement: "host",
        },
        ...{ state: "idle", packets: 3, bytes: 183, drops: 0 },
      },
    ]);
    expect(now.rx).toEqual([
      {
        ...{ index: 1, depth: 8, head: 5, tail: 5, cqHead: 2, kept: 0, vector: 2 },
        ...{ state: "running", buffers: 3, packets: 1, bytes: 200, overruns: 0 },
      },
    ]);
    expect(counters).toMatchObject({
      ...{ txPackets: 3, txBytes: 183, txDrops: 0, txReads: 0 },
      ...{ rxPackets: 1, rxBytes: 200, rxDrops: 0, rxOverruns: 0, adminCommands: 6 },
    });
    expect(now.interrupts).toMatchObject([
      { vector: 0 },
      { vector: 1, raised: 0, armed: false, pending: true },
      { vector: 2, raised: 0, armed: false, pending: true },
    ]);
  });
});
