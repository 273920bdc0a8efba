/** State of an ENA device: features after a reset, events, flushes, snapshots. */
import { describe, expect, test } from "vitest";
import { createEnaNic, type EnaOptions } from "../../device/ena/index.ts";
import { Verdict } from "../../device/switch/port.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import {
  ACQ_BODY,
  ACQ_ENTRY_SIZE,
  AdminStatus,
  createCq,
  createCqResp,
  createSq,
  Opcode,
  Placement,
  SqDirection,
} from "../../shared/ena/admin.ts";
import { AENQ_DEPTH, AENQ_ENTRY_SIZE, AenqGroup } from "../../shared/ena/aenq.ts";
import {
  aenqConfig,
  FeatureId,
  hostAttr,
  hwHints,
  mtuFeature,
  statelessOffload,
} from "../../shared/ena/features.ts";
import { hostInfo } from "../../shared/ena/host-info.ts";
import { L3Proto, L4Proto, txDesc, txMeta } from "../../shared/ena/io.ts";
import { llqFeature } from "../../shared/ena/llq.ts";
import { devCtlReg, Register } from "../../shared/ena/registers.ts";
import {
  RSS_INLINE_INDEX_NONE,
  rssHashFunction,
  rssHashKey,
  rssIndTable,
} from "../../shared/ena/rss.ts";
import { Gso } from "../../shared/net/frame.ts";
import { PhaseCursor } from "../../shared/ring/phase.ts";
import { EnaRingKind, StateKind } from "../../shared/wire/link-state.ts";
import {
  build,
  type EnaQueue,
  featureEntry,
  PLAIN_LLQ,
  txDescriptor,
} from "../support/ena-guest.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost, settle } from "../support/fake-host.ts";
import { stateParts, stateRecords } from "../support/link-state.ts";
import { buildPacket, frameOf } from "../support/packets.ts";

async function rig(options: EnaOptions = {}, windows = true, queues = 3) {
  const host = new FakeHost({ queues, maxMtu: 9216 });
  const nic = createEnaNic(host, options);
  const twin = new EnaTwin(nic, host, { windows });
  await twin.attach();
  host.takeFaults();
  host.takeInterrupts();
  return { host, nic, twin, port: host.port! };
}

const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

function refill(twin: EnaTwin, q: EnaQueue, count: number, length = 2048): void {
  for (let i = 0; i < count; i++) twin.postRx(q, i, twin.alloc(length), length);
  twin.ring(q);
}

/** Sets an RSS table with these queues in turn. */
async function setTable(
  twin: EnaTwin,
  queues: readonly number[],
  sizeLog2 = 7,
  inlineIndex = RSS_INLINE_INDEX_NONE,
) {
  const length = 4 * 2 ** sizeLog2;
  const address = twin.allocRing(length);
  for (let i = 0; i < 2 ** sizeLog2; i++) {
    twin.view.setUint16(twin.at(address) + i * 4, queues[i % queues.length]!, true);
  }
  const body = { sizeLog2, inlineIndex };
  const control = { address, length };
  return twin.setFeature(FeatureId.RSS_INDIRECTION_TABLE_CONFIG, rssIndTable, body, control);
}

describe("a reset", () => {
  test("restores every feature to what it was before any driver", async () => {
    const { host, nic, twin, port } = await rig();
    const rx = await twin.createQueue(SqDirection.RX, 8, 1);
    await setTable(twin, [rx.sqIdx]);
    await twin.setFeature(FeatureId.MTU, mtuFeature, { mtu: 1500 });
    await twin.setFeature(FeatureId.STATELESS_OFFLOAD_CONFIG, statelessOffload, { rxEnabled: 1 });
    await twin.enableLlq();
    const page = twin.allocRing(hostInfo.size);
    hostInfo.write(twin.view, twin.at(page), {
      kernelVerStr: "6.1",
      driverMajor: 2,
      driverMinor: 9,
      driverSubMinor: 1,
    });
    await twin.setFeature(FeatureId.HOST_ATTR_CONFIG, hostAttr, { osInfoBa: page });
    host.roundTripMs = 100;
    await twin.getFeature(FeatureId.HW_HINTS);
    const look = async () => {
      const entry = async (id: number) => (await twin.getFeature(id)).entry;
      const { mtu, driver, llq, admin, lastReset } = nic.snapshot();
      return {
        ...{ mtu, driver, llq, groups: admin.eventGroups, lastReset },
        frame: port.maxFrameBytes,
        told: mtuFeature.parse(await entry(FeatureId.MTU), ACQ_BODY).mtu,
        rx: statelessOffload.parse(await entry(FeatureId.STATELESS_OFFLOAD_CONFIG), ACQ_BODY)
          .rxEnabled,
        location: llqFeature.parse(await entry(FeatureId.LLQ), ACQ_BODY).headerLocationEnabled,
        table: rssIndTable.parse(await entry(FeatureId.RSS_INDIRECTION_TABLE_CONFIG), ACQ_BODY)
          .sizeLog2,
      };
    };
    expect(await look()).toEqual({
      ...{ mtu: 1500, driver: "6.1 2.9.1", llq: true, groups: 0xdf, lastReset: "NORMAL" },
      ...{ frame: 1518, told: 1500, rx: 1, location: 1, table: 7 },
    });
    twin.write32(Register.DEV_CTL, devCtlReg.packReset(0, true));
    expect(nic.snapshot()).toMatchObject({
      status: "resetting",
      admin: { running: false, waiting: 0, head: 0, tail: 0, events: 0, eventGroups: 0 },
      ...{ tx: [], rx: [], llq: false, mtu: 9216, driver: "unknown" },
    });
    await twin.attach(0);
    expect(await look()).toEqual({
      ...{ mtu: 9216, driver: "unknown", llq: false, groups: 0, lastReset: "NORMAL" },
      ...{ frame: 9234, told: 9216, rx: 0xf, location: 0, table: 0 },
    });
    // Hints sent to the last driver do not count for the next one.
    await twin.attach();
    const before = nic.snapshot().counters["aenqEvents"]!;
    nic.tick();
    expect(nic.snapshot().counters["aenqEvents"]).toBe(before + 2);
    nic.tick();
    expect(nic.snapshot().counters["aenqEvents"]).toBe(before + 3);
  });

  test("takes every queue away: nobody is named, nothing is delivered", async () => {
    const { host, twin, port } = await rig();
    const rx = await twin.createQueue(SqDirection.RX, 8, 1);
    const tx = await twin.createQueue(SqDirection.TX, 8, 1);
    refill(twin, rx, 4);
    expect(port.deliver(frameOf(pattern(60)))).toBe(undefined);
    twin.postTx(tx, 0, twin.buffer(pattern(60)), 60);
    twin.postTx(tx, 1, twin.buffer(pattern(60), false), 60);
    twin.ring(tx);
    expect(host.memory.reads.length).toBe(1);
    twin.reset();
    const writes = host.memory.writes.length;
    await twin.settle();
    expect(port.deliver(frameOf(pattern(60)))).toBe("port_down");
    port.flush();
    twin.write32(rx.unmask, 1 << 30);
    twin.write32(tx.doorbell, 3);
    expect(host.takeFaults()).toEqual(["UNMASK_NO_QUEUE", "DOORBELL_NO_QUEUE"]);
    expect(host.memory.writes.length).toBe(writes);
    expect([...host.switchPort.drops]).toEqual([]);
    expect(host.switchPort.frames.length).toBe(1);
    expect(host.memory.pushes.live).toBe(0);
  });

  test("of a device whose admin ring is being read, or whose command waits, is no fault", async () => {
    for (const windows of [false, true]) {
      const { host, nic, twin } = await rig({}, windows);
      const control = { address: twin.alloc(64), length: rssHashKey.size };
      const body = { selectedFunc: 2 };
      twin.post(featureEntry(FeatureId.RSS_HASH_FUNCTION, rssHashFunction, body, control));
      twin.ringAdmin();
      expect([host.memory.reads.length, nic.snapshot().admin.waiting]).toEqual([
        1,
        windows ? 1 : 0,
      ]);
      twin.reset();
      await settle();
      expect(nic.snapshot()).toMatchObject({ status: "ready", admin: { waiting: 0 } });
      expect(host.takeFaults()).toEqual([]);
    }
  });

  test("needs a new head before the first event", async () => {
    const { nic, twin } = await rig();
    twin.reset();
    twin.initAdmin();
    await twin.setFeature(FeatureId.AENQ_CONFIG, aenqConfig, { enabledGroups: 0xdf });
    expect([nic.events.plain(AenqGroup.WARNING), nic.snapshot().admin.events]).toEqual([false, 0]);
    twin.write32(Register.AENQ_HEAD_DB, AENQ_DEPTH);
    expect([nic.events.plain(AenqGroup.WARNING), nic.snapshot().admin.events]).toEqual([true, 2]);
  });

  test("an admin ring whose entries are still on their way is gone", async () => {
    const { host, nic, twin } = await rig({}, false);
    twin.post(featureEntry(FeatureId.MTU, mtuFeature, { mtu: 1500 }));
    twin.ringAdmin();
    const late = host.memory.reads.splice(0);
    expect(late.length).toBe(1);
    twin.reset();
    const before = nic.snapshot().counters["adminCommands"];
    for (const read of late) read.answer();
    await settle();
    expect(nic.snapshot()).toMatchObject({ mtu: 9216, counters: { adminCommands: before! } });
    expect(host.takeFaults()).toEqual([]);
  });
});

describe("a destroyed function", () => {
  test("answers nothing, counts nothing, and is destroyed once", async () => {
    const { host, nic, twin, port } = await rig();
    const rx = await twin.createQueue(SqDirection.RX, 8, 1);
    refill(twin, rx, 4);
    nic.destroy();
    nic.destroy();
    expect(host.switchPort.detached).toBe(true);
    const events = nic.snapshot().counters["aenqEvents"];
    const writes = host.memory.writes.length;
    nic.tick();
    twin.write32(Register.AQ_DB, 1);
    expect(port.deliver(frameOf(pattern(60)))).toBe("port_down");
    expect(nic.snapshot()).toMatchObject({
      status: "fatal",
      admin: { running: false, events: 0 },
      counters: { aenqEvents: events! },
      rx: [],
    });
    expect(host.memory.writes.length).toBe(writes);
  });
});

describe("what the link is asked to send", () => {
  test("once for each completion, event, readless answer and burst, and for nothing else", async () => {
    const { host, nic, twin, port } = await rig();
    const flushes = (): number => {
      const n = host.flushes;
      host.flushes = 0;
      return n;
    };
    flushes();
    await twin.getFeature(FeatureId.MTU);
    expect(flushes()).toBe(1);
    nic.events.plain(AenqGroup.WARNING);
    expect(flushes()).toBe(1);
    twin.readless(Register.CAPS);
    expect(flushes()).toBe(1);
    const tx = await twin.createQueue(SqDirection.TX, 8, 1);
    const other = await twin.createQueue(SqDirection.TX, 8, 2);
    const rx = await twin.createQueue(SqDirection.RX, 8, 3);
    refill(twin, rx, 4);
    for (const q of [tx, other, rx]) twin.unmask(q);
    host.takeInterrupts();
    flushes();
    nic.batchEnd();
    port.flush();
    expect([flushes(), host.takeInterrupts()]).toEqual([0, []]);
    for (let i = 0; i < 3; i++) twin.postTx(tx, i, twin.buffer(pattern(60)), 60);
    twin.ring(tx);
    expect([flushes(), host.takeInterrupts()]).toEqual([1, [1]]);
    port.deliver(frameOf(pattern(60)));
    expect([flushes(), host.takeInterrupts()]).toEqual([0, []]);
    port.flush();
    expect([flushes(), host.takeInterrupts()]).toEqual([1, [3]]);
    expect(
      nic.snapshot().interrupts.map(({ armed, pending, raised }) => [armed, pending, raised]),
    ).toEqual([
      [false, false, expect.any(Number)],
      [false, false, 1],
      [true, false, 0],
      [false, false, 1],
    ]);
  });
});

describe("events", () => {
  test("each entry is whole: its time, and nothing of the entry that lay there before", async () => {
    const { host, nic, twin } = await rig();
    const entry = (slot: number) =>
      Buffer.from(
        host.memory.bytes
          .slice(twin.at(twin.aenqAddress) + slot * AENQ_ENTRY_SIZE)
          .subarray(0, AENQ_ENTRY_SIZE),
      );
    const depth = AENQ_DEPTH;
    const first = nic.snapshot().admin.events;
    host.clock.advance(1234.5);
    nic.events.updateHints({ mmioReadTimeoutMs: 0xffff_ffff });
    expect(
      entry(first % depth)
        .subarray(16)
        .some((byte) => byte !== 0),
    ).toBe(true);
    for (let i = 1; i <= depth; i++) {
      twin.write32(Register.AENQ_HEAD_DB, (first + i + depth - 1) & 0xffff);
      nic.events.plain(AenqGroup.WARNING);
    }
    const last = entry(first % depth);
    expect(last.readUInt16LE(0)).toBe(AenqGroup.WARNING);
    expect(last.readUInt16LE(2)).toBe(0);
    expect(last.readUInt32LE(8)).toBe((1000 + 1234.5) * 1000);
    expect(last.subarray(12).every((byte) => byte === 0)).toBe(true);
    expect(nic.snapshot().counters).toMatchObject({
      aenqEvents: first + depth + 1,
      aenqOverflows: 0,
    });
  });

  test("a full ring loses events, and whoever sends them is told", async () => {
    const { host, nic } = await rig();
    const sent = Array.from({ length: AENQ_DEPTH + 1 }, () => nic.events.plain(AenqGroup.WARNING));
    // Link up has taken a place.
    expect(sent.filter(Boolean).length).toBe(AENQ_DEPTH - 1);
    expect(sent.slice(-2)).toEqual([false, false]);
    expect(nic.snapshot()).toMatchObject({
      counters: { aenqEvents: AENQ_DEPTH, aenqOverflows: 2 },
      faults: { AENQ_OVERFLOW: 2 },
    });
    expect(host.takeFaults()).toEqual(["AENQ_OVERFLOW", "AENQ_OVERFLOW"]);
  });

  test("a head that is written again is no fault, nor is a first one of 0", () => {
    const host = new FakeHost();
    const twin = new EnaTwin(createEnaNic(host), host);
    twin.reset();
    twin.initAdmin();
    for (const head of [0, 5, 5, AENQ_DEPTH]) twin.write32(Register.AENQ_HEAD_DB, head);
    expect(host.takeFaults()).toEqual([]);
    twin.write32(Register.AENQ_HEAD_DB, AENQ_DEPTH - 1);
    twin.write32(Register.AENQ_HEAD_DB, AENQ_DEPTH + 1);
    expect(host.takeFaults()).toEqual(["AENQ_HEAD_DB_RANGE", "AENQ_HEAD_DB_RANGE"]);
  });

  test("link up is the first event after every reset, and syndromes are 0 but for hints", async () => {
    const { host, nic, twin } = await rig();
    const words = (slot: number) => {
      const at = twin.at(twin.aenqAddress) + slot * AENQ_ENTRY_SIZE;
      return [host.memory.view.getUint16(at, true), host.memory.view.getUint16(at + 2, true)];
    };
    for (let round = 0; round < 2; round++) {
      expect(words(0)).toEqual([AenqGroup.LINK_CHANGE, 0]);
      nic.events.keepAlive();
      nic.events.confNotifications(1);
      nic.events.updateHints({});
      expect([1, 2, 3].map(words)).toEqual([
        [AenqGroup.KEEP_ALIVE, 0],
        [AenqGroup.CONF_NOTIFICATIONS, 0],
        [AenqGroup.NOTIFICATION, 2],
      ]);
      await twin.attach();
    }
  });
});

describe("features that have data", () => {
  test("receive offloads can be taken back, and no others be set", async () => {
    const { twin } = await rig();
    const set = async (rxEnabled: number) =>
      (await twin.setFeature(FeatureId.STATELESS_OFFLOAD_CONFIG, statelessOffload, { rxEnabled }))
        .status;
    const get = async () =>
      statelessOffload.parse(
        (await twin.getFeature(FeatureId.STATELESS_OFFLOAD_CONFIG)).entry,
        ACQ_BODY,
      ).rxEnabled;
    expect([await set(3), await get()]).toEqual([AdminStatus.SUCCESS, 3]);
    expect([await set(0x13), await get()]).toEqual([AdminStatus.ILLEGAL_PARAMETER, 3]);
    expect([await set(0), await get()]).toEqual([AdminStatus.SUCCESS, 0]);
  });

  test("versions up to 1 are answered, 2 is not", async () => {
    const { twin } = await rig();
    const statuses: number[] = [];
    for (const version of [0, 1, 2]) {
      for (const command of [
        featureEntry(FeatureId.MTU, undefined, {}, undefined, 8),
        featureEntry(FeatureId.MTU, mtuFeature, { mtu: 1500 }),
      ]) {
        // ena_admin_get_set_feature_common_desc: flags, id, version.
        const at = command.findIndex((byte, i) => i > 4 && byte === FeatureId.MTU);
        command[at + 1] = version;
        statuses.push((await twin.command(command)).status);
      }
    }
    const { SUCCESS, UNSUPPORTED_OPCODE } = AdminStatus;
    expect(statuses).toEqual([
      SUCCESS,
      SUCCESS,
      SUCCESS,
      SUCCESS,
      UNSUPPORTED_OPCODE,
      UNSUPPORTED_OPCODE,
    ]);
  });

  test("a refused answer has no body, whatever was written before the refusal", async () => {
    const { host, twin } = await rig();
    const address = twin.alloc(rssHashKey.size);
    const control = (length: number, at: number = address) => ({ address: at, length });
    const good = await twin.getFeature(FeatureId.RSS_HASH_FUNCTION, control(rssHashKey.size));
    expect(rssHashFunction.parse(good.entry, ACQ_BODY)).toEqual({
      supportedFunc: 2,
      selectedFunc: 2,
      initVal: 0,
    });
    const last = 2 ** 48 - rssHashKey.size;
    const bad = [control(rssHashKey.size - 1), control(rssHashKey.size, last + 1)];
    for (const each of bad) {
      const { status, entry } = await twin.getFeature(FeatureId.RSS_HASH_FUNCTION, each);
      expect(status).toBe(AdminStatus.ILLEGAL_PARAMETER);
      expect(
        [...new Uint8Array(entry.buffer, 8, ACQ_ENTRY_SIZE - 8)].every((byte) => byte === 0),
      ).toBe(true);
    }
    host.memory.writes.length = 0;
    expect(
      (await twin.getFeature(FeatureId.RSS_HASH_FUNCTION, control(rssHashKey.size, last))).status,
    ).toBe(0);
    expect(host.memory.writes[0]).toMatchObject({ address: last, length: rssHashKey.size });
  });

  test("an initial value is kept for whoever asks", async () => {
    const { twin } = await rig();
    const control = { address: twin.allocRing(rssHashKey.size), length: rssHashKey.size };
    await twin.getFeature(FeatureId.RSS_HASH_FUNCTION, control);
    const body = { selectedFunc: 2, initVal: 77 };
    await twin.setFeature(FeatureId.RSS_HASH_FUNCTION, rssHashFunction, body, control);
    const { entry } = await twin.getFeature(FeatureId.RSS_HASH_FUNCTION, control);
    expect(rssHashFunction.parse(entry, ACQ_BODY)).toMatchObject(body);
  });

  test.each([
    ["nowhere", 0, AdminStatus.ILLEGAL_PARAMETER],
    ["beyond the address space", 2 ** 48 - rssHashKey.size + 1, AdminStatus.ILLEGAL_PARAMETER],
  ])("a control buffer %s is refused without a look at it", async (_, address, status) => {
    const { host, twin } = await rig();
    const body = { selectedFunc: 2 };
    const control = { address, length: rssHashKey.size };
    const done = await twin.setFeature(FeatureId.RSS_HASH_FUNCTION, rssHashFunction, body, control);
    expect([done.status, host.memory.reads.length]).toEqual([status, 0]);
  });

  test("the last bytes of the address space are asked for", async () => {
    const { host, twin } = await rig();
    const control = { address: 2 ** 48 - rssHashKey.size, length: rssHashKey.size };
    twin.post(
      featureEntry(FeatureId.RSS_HASH_FUNCTION, rssHashFunction, { selectedFunc: 2 }, control),
    );
    twin.ringAdmin();
    expect(host.memory.reads.length).toBe(1);
    host.memory.answerNow();
    await settle();
    expect(twin.takeCompletions().map(({ status }) => status)).toEqual([
      AdminStatus.ILLEGAL_PARAMETER,
    ]);
  });

  test.each([
    [0, RSS_INLINE_INDEX_NONE, AdminStatus.ILLEGAL_PARAMETER],
    [1, RSS_INLINE_INDEX_NONE, AdminStatus.SUCCESS],
    [7, RSS_INLINE_INDEX_NONE, AdminStatus.SUCCESS],
    [7, 5, AdminStatus.ILLEGAL_PARAMETER],
  ])("a table of 2^%i entries, inline index %i: status %i", async (sizeLog2, inline, status) => {
    const { host, twin } = await rig();
    const first = await twin.createQueue(SqDirection.RX, 8, 1);
    const second = await twin.createQueue(SqDirection.RX, 8, 2);
    const done = await setTable(twin, [second.sqIdx, first.sqIdx], sizeLog2, inline);
    expect(done.status).toBe(status);
    if (status !== AdminStatus.SUCCESS) return;
    const address = twin.alloc(512);
    await twin.getFeature(FeatureId.RSS_INDIRECTION_TABLE_CONFIG, { address, length: 512 });
    const at = twin.at(address);
    const length = 2 ** sizeLog2;
    expect(Array.from({ length }, (_, i) => host.memory.view.getUint32(at + i * 4, true))).toEqual(
      Array.from({ length }, (_, i) => 1 - (i % 2)),
    );
  });

  test("before a table is set there is none to be written", async () => {
    const { host, twin } = await rig();
    const address = twin.alloc(512);
    host.memory.writes.length = 0;
    const done = await twin.getFeature(FeatureId.RSS_INDIRECTION_TABLE_CONFIG, {
      address,
      length: 512,
    });
    expect(rssIndTable.parse(done.entry, ACQ_BODY).sizeLog2).toBe(0);
    expect(host.memory.writes.filter((write) => write.address === address)).toEqual([]);
    expect(host.takeFaults()).toEqual([]);
  });

  test("hints that were told once are told anew only when they change enough", async () => {
    const { host, nic, twin } = await rig();
    host.roundTripMs = 50;
    const { entry } = await twin.getFeature(FeatureId.HW_HINTS);
    expect(hwHints.parse(entry, ACQ_BODY).mmioReadTimeoutMs).toBe(1200);
    const events = () => nic.snapshot().counters["aenqEvents"]!;
    const before = events();
    host.roundTripMs = 70;
    nic.tick();
    // The change of the round trip is too small for a new hint, so only the keep-alive comes.
    expect(events()).toBe(before + 1);
    host.roundTripMs = 75;
    nic.tick();
    expect(events()).toBe(before + 3);
  });
});

describe("receive", () => {
  test("each way to lose a frame, in the counters that the driver is told", async () => {
    const { host, nic, twin, port } = await rig();
    const counts = () => {
      const { rxPackets, rxBytes, rxDrops, rxOverruns } = nic.snapshot().counters;
      return [rxPackets, rxBytes, rxDrops, rxOverruns];
    };
    expect(port.deliver(frameOf(pattern(60)))).toBe("port_down");
    const q = await twin.createQueue(SqDirection.RX, 8, 1);
    host.writable = false;
    expect(port.deliver(frameOf(pattern(60)))).toBe("link_backlog");
    host.writable = true;
    expect(counts()).toEqual([0, 0, 0, 0]);
    expect(port.deliver(frameOf(pattern(60)))).toBe("rx_overrun");
    expect(counts()).toEqual([0, 0, 0, 1]);
    refill(twin, q, 4);
    const cut = frameOf(pattern(60));
    cut.gsoSize = 1000;
    expect(port.deliver(cut)).toBe("malformed_offload");
    expect(port.deliver(frameOf(pattern(9235)))).toBe("too_big");
    expect(counts()).toEqual([0, 0, 2, 1]);
    expect(port.deliver(frameOf(pattern(60)))).toBe(undefined);
    expect(counts()).toEqual([1, 60, 2, 1]);
  });

  const fragment6 = buildPacket({
    v6: true,
    protocol: 17,
    payload: pattern(40),
    extensions: [{ kind: 44, bytes: Uint8Array.of(17, 0, 0, 1, 0, 0, 0, 1) }],
  }).bytes;
  const changed = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
    const copy = bytes.slice();
    copy[at] = value;
    return copy;
  };
  const tcp = buildPacket({ payload: pattern(20) }).bytes;
  const udp6 = buildPacket({ payload: pattern(20), protocol: 17, v6: true }).bytes;
  // 8 IPv4, 11 IPv6; 0xc00 TCP, 0xd00 UDP; 0x2000 wrong header; 0x8000 fragment; 0x10000 checked.
  test.each([
    ["TCP", tcp, true, 0x1_0c08],
    ["TCP that nobody checked", tcp, false, 0xc08],
    ["UDP over IPv6", udp6, true, 0x1_0d0b],
    ["a protocol without a name over IPv6", changed(udp6, 14 + 6, 132), true, 0x0b],
    ["half a TCP header", tcp.slice(0, 14 + 20 + 10), true, 0x08],
    ["a fragment of IPv6", fragment6, true, 0x0b],
    ["ARP", changed(pattern(60), 12, 0x08), true, 0],
  ])("the status of %s", async (_, bytes, csumValid, status) => {
    const { twin, port } = await rig();
    const q = await twin.createQueue(SqDirection.RX, 8, 1);
    refill(twin, q, 4);
    const frame = frameOf(bytes);
    frame.csumValid = csumValid;
    expect(port.deliver(frame)).toBe(undefined);
    port.flush();
    const [done] = twin.takeRx(q);
    expect(done!.status & 0xf_ffff & ~0x2000).toBe(status);
    expect(done).toMatchObject({ first: 1, last: 1, reqId: 0, length: bytes.length, hash: 0 });
  });

  test("one queue gets everything unhashed, table or not; a table's queue may be gone", async () => {
    const { twin, port } = await rig();
    const queues: EnaQueue[] = [];
    for (let i = 0; i < 3; i++) queues.push(await twin.createQueue(SqDirection.RX, 8, 1 + i));
    const [a, b, c] = queues as [EnaQueue, EnaQueue, EnaQueue];
    for (const q of queues) refill(twin, q, 7);
    expect((await setTable(twin, [c.sqIdx])).status).toBe(0);
    const deliver = () => {
      const reason = port.deliver(frameOf(tcp));
      port.flush();
      return reason;
    };
    expect(deliver()).toBe(undefined);
    const [hashed] = twin.takeRx(c);
    expect(hashed!.hash).not.toBe(0);
    expect((await twin.destroySq(SqDirection.RX, c.sqIdx)).status).toBe(0);
    expect(deliver()).toBe("port_down");
    expect((await twin.destroySq(SqDirection.RX, a.sqIdx)).status).toBe(0);
    expect(deliver()).toBe(undefined);
    expect(twin.takeRx(b).map(({ hash }) => hash)).toEqual([0]);
  });

  test("a hold is told to the switch once, when buffers come, in whichever queue", async () => {
    const { host, twin, port } = await rig();
    await twin.createQueue(SqDirection.TX, 8, 1);
    const q = await twin.createQueue(SqDirection.RX, 8, 2);
    refill(twin, q, 4);
    expect([port.ready!(60, 1), host.switchPort.rooms]).toEqual([true, 0]);
    refill(twin, q, 1);
    expect(host.switchPort.rooms).toBe(0);
    expect(port.ready!(9000, 2)).toBe(true);
    const empty = await twin.createQueue(SqDirection.RX, 8, 3);
    expect(port.ready!(60, 1)).toBe(false);
    refill(twin, empty, 2);
    expect(host.switchPort.rooms).toBe(1);
    expect(port.ready!(60, 1)).toBe(true);
    // Created and destroyed queues can make room too.
    const other = await twin.createQueue(SqDirection.TX, 8, 1);
    expect(port.ready!(60, 3)).toBe(false);
    await twin.destroySq(SqDirection.RX, empty.sqIdx);
    expect(host.switchPort.rooms).toBe(2);
    expect(other.sqIdx).toBe(3);
  });
});

/** xorshift32, as the device uses it: 13, 17, 5. */
function xorshift(seed: number): (below: number) => number {
  let x = seed;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

describe("options", () => {
  test.each([{ seed: undefined }, { seed: 0 }, { seed: 1 }, { seed: 2 }, { seed: 77 }])(
    "shuffled completions come in the order of $seed",
    async ({ seed }) => {
      const options = {
        completionOrder: "shuffle",
        ...(seed === undefined ? {} : { seed }),
      } as const;
      const { twin } = await rig(options);
      const q = await twin.createQueue(SqDirection.TX, 32, 1);
      for (let i = 0; i < 20; i++) twin.postTx(q, i, twin.buffer(pattern(60)), 60);
      twin.ring(q);
      const pick = xorshift(seed || 1);
      const ids = Array.from({ length: 20 }, (_, i) => i);
      const order: number[] = [];
      while (ids.length > 0) {
        const i = pick(ids.length);
        order.push(ids[i]!);
        ids[i] = ids.at(-1)!;
        ids.pop();
      }
      expect(twin.completed(q)).toEqual(order);
    },
  );

  test("by default facts are kept, and the MTU is the largest before any reset", async () => {
    const { host, nic, twin } = await rig();
    const { entry } = await twin.getFeature(FeatureId.LLQ);
    expect(llqFeature.parse(entry, ACQ_BODY).accelFlags).toBe(0);
    expect(nic.snapshot().mtu).toBe(9216);
    expect(createEnaNic(new FakeHost({ maxMtu: 4000 })).snapshot().mtu).toBe(4000);
    expect(host.takeFaults()).toEqual([]);
  });

  test.each([
    [true, 1, [1]],
    [false, 1, []],
  ])(
    "a completion queue with interrupts %s and vector %i raises %j",
    async (mode, vector, raised) => {
      const { host, twin } = await rig();
      const cqBa = twin.allocRing(64);
      const command = { opcode: Opcode.CREATE_CQ, interruptMode: mode, msixVector: vector, cqBa };
      const cq = await twin.command(build(createCq, { ...command, entrySizeWords: 2, cqDepth: 8 }));
      const { cqIdx, cqInterruptUnmaskRegisterOffset } = createCqResp.parse(cq.entry, 0);
      const sqBa = twin.allocRing(128);
      await twin.command(
        build(createSq, {
          ...{ opcode: Opcode.CREATE_SQ, direction: SqDirection.TX, placement: Placement.HOST },
          ...{ contiguous: true, cqIdx, sqDepth: 8, sqBa },
        }),
      );
      twin.write32(cqInterruptUnmaskRegisterOffset, 1 << 30);
      host.takeInterrupts();
      const q = { sqAddress: sqBa, sq: new PhaseCursor(8), doorbell: 0x1000 } as EnaQueue;
      twin.postTx(q, 0, twin.buffer(pattern(60)), 60);
      twin.ring(q);
      expect(host.switchPort.frames.length).toBe(1);
      expect(host.takeInterrupts()).toEqual(raised);
    },
  );
});

describe("queues by number", () => {
  test("destroyed are those that were named, and their numbers are given out again", async () => {
    const { host, twin } = await rig();
    for (let i = 0; i < 3; i++) await twin.createQueue(SqDirection.TX, 8, 1);
    expect((await twin.destroySq(SqDirection.TX, 1)).status).toBe(0);
    expect((await twin.destroyCq(1)).status).toBe(0);
    for (const index of [0, 1, 2]) twin.write32(0x2000 + index * 4, 1 << 30);
    expect(host.takeFaults()).toEqual(["UNMASK_NO_QUEUE"]);
    const again = await twin.createQueue(SqDirection.TX, 8, 1);
    expect([again.cqIdx, again.sqIdx, again.doorbell, again.unmask]).toEqual([
      1, 1, 0x1004, 0x2004,
    ]);
  });

  test("a command that waits is counted until it is done, and then its id is free", async () => {
    const { host, nic, twin } = await rig();
    const body = { selectedFunc: 2 };
    const control = { address: twin.alloc(rssHashKey.size), length: rssHashKey.size };
    rssHashKey.write(twin.view, twin.at(control.address), { keyParts: 10 });
    for (let i = 0; i < 2; i++) {
      twin.post(featureEntry(FeatureId.RSS_HASH_FUNCTION, rssHashFunction, body, control), 9);
      twin.ringAdmin();
      expect(nic.snapshot().admin.waiting).toBe(1);
      host.memory.answerNow();
      await settle();
      expect(nic.snapshot().admin.waiting).toBe(0);
      expect(twin.takeCompletions()).toMatchObject([{ commandId: 9, status: 0 }]);
    }
  });
});

test("a capture that begins late is told every ring, its place and its registers", async () => {
  const { host, nic, twin } = await rig();
  const records = (kind: StateKind) =>
    stateRecords(
      stateParts((state) => nic.tellState(state)),
      kind,
    );
  await twin.enableLlq();
  const first = await twin.createQueue(SqDirection.TX, 16, 1);
  const local = await twin.createQueue(SqDirection.TX, 8, 2, Placement.DEV);
  const rx = await twin.createQueue(SqDirection.RX, 8, 3);
  refill(twin, rx, 2);
  host.switchPort.verdict = Verdict.HELD;
  twin.postTx(first, 5, twin.buffer(pattern(60)), 60);
  twin.ring(first);
  const entry = new Uint8Array(128);
  const address = twin.buffer(pattern(60));
  entry.set(txDescriptor({ length: 60, reqId: 6, address }, local));
  nic.pci.mmioWrite(2, local.llqOffset, entry, 0, 128);
  local.sq.next();
  twin.ring(local);
  const command = featureEntry(
    FeatureId.RSS_HASH_FUNCTION,
    rssHashFunction,
    { selectedFunc: 2 },
    { address: twin.alloc(64), length: rssHashKey.size },
  );
  twin.post(command, 12);
  twin.ringAdmin();
  const places = records(StateKind.ENA_RING).map(({ values: v }) =>
    [v["ring"], v["index"], v["address"], v["depth"], v["entryBytes"], v["head"]].map(Number),
  );
  const { AQ, ACQ, AENQ, CQ, TX_SQ, RX_SQ } = EnaRingKind;
  const { tail, events } = nic.snapshot().admin;
  const llqBytes = 1024 * 256;
  expect(places).toEqual([
    [AQ, 0, twin.aqAddress, 32, 64, tail],
    [ACQ, 0, twin.acqAddress, 32, 64, tail - 1],
    [AENQ, 0, twin.aenqAddress, AENQ_DEPTH, 64, events],
    [CQ, 0, first.cqAddress, 16, 8, 0],
    [CQ, 1, local.cqAddress, 8, 8, 0],
    [CQ, 2, rx.cqAddress, 8, 16, 0],
    [TX_SQ, 0, first.sqAddress, 16, 16, 1],
    [TX_SQ, 1, llqBytes, 8, 128, 1],
    [RX_SQ, 2, rx.sqAddress, 8, 16, 2],
  ]);
  const rest = records(StateKind.ENA_RING)
    .slice(3)
    .map(({ values: v }) => [
      v["register"],
      v["numaRegister"],
      v["vector"],
      v["cqIndex"],
      v["inDevice"],
    ]);
  expect(rest).toEqual([
    [0x2000, 0x3000, 1, 0, false],
    [0x2004, 0x3004, 2, 0, false],
    [0x2008, 0x3008, 3, 0, false],
    [0x1000, 0, 0, 0, false],
    [0x1004, 0, 0, 1, true],
    [0x1008, 0, 0, 2, false],
  ]);
  expect(records(StateKind.ENA_LLQ).map(({ values }) => values)).toEqual([
    { entryBytes: 128, descsBeforeHeader: 2 },
  ]);
  expect(
    records(StateKind.ENA_REQUEST).map(({ values: v }) => [
      v["ring"],
      v["index"],
      v["reqId"],
      v["address"],
    ]),
  ).toEqual([
    [TX_SQ, 0, 5, 0],
    [TX_SQ, 1, 6, 0],
    [RX_SQ, 2, 0, expect.any(Number)],
    [RX_SQ, 2, 1, expect.any(Number)],
  ]);
  const [waiting] = records(StateKind.ENA_COMMAND);
  expect(waiting!.tail.subarray(4)).toEqual(Uint8Array.from(command.subarray(4)));
  expect(nic.snapshot().tx.map(({ placement, state }) => [placement, state])).toEqual([
    ["host", "held"],
    ["device", "held"],
  ]);
  twin.write32(Register.DEV_CTL, devCtlReg.packReset(0, true));
  expect(stateParts((state) => nic.tellState(state))).toEqual([]);
});

describe("transmit", () => {
  const send = (
    twin: EnaTwin,
    q: EnaQueue,
    ...parts: [address: number, length: number][]
  ): void => {
    parts.forEach(([address, length], i) => {
      const flags = `${i === 0 ? "f" : ""}${i === parts.length - 1 ? "l" : ""}`;
      twin.postTx(q, q.sq.slot, address, length, flags);
    });
    twin.ring(q);
  };

  test("bytes that lie in a window are taken there; pushed, read and these make one frame", async () => {
    const { host, nic, twin } = await rig();
    const q = await twin.createQueue(SqDirection.TX, 64, 1);
    const bytes = pattern(300);
    const inWindow = twin.allocRing(4096) + 1000;
    twin.write(inWindow, bytes.subarray(100, 200));
    const parts: [number, number][] = [
      [twin.buffer(bytes.subarray(0, 100)), 100],
      [inWindow, 100],
      [twin.buffer(bytes.subarray(200), false), 100],
    ];
    send(twin, q, ...parts);
    expect([host.memory.reads.length, host.switchPort.frames.length]).toEqual([1, 0]);
    expect(nic.snapshot()).toMatchObject({ counters: { txReads: 1 }, tx: [{ state: "reading" }] });
    await twin.settle();
    expect(host.switchPort.frames.map((frame) => frame.bytes)).toEqual([bytes]);
    expect(host.memory.pushes.live).toBe(0);
    expect(nic.snapshot()).toMatchObject({ counters: { txReads: 1 }, tx: [{ state: "idle" }] });
  });

  test("offloads of a packet that had to be read", async () => {
    const { host, twin } = await rig();
    const q = await twin.createQueue(SqDirection.TX, 64, 1);
    const p = buildPacket({ payload: pattern(3000), checksum: "partial" });
    twin.postMeta(q, 1000, 20, 14, 5);
    const word = txDesc.packOffload(L3Proto.IPV4, L4Proto.TCP, 0, 1, 0, 1, 0);
    twin.postTx(q, 0, twin.buffer(p.bytes, false), p.bytes.length, "l", word);
    twin.ring(q);
    await twin.settle();
    expect(host.switchPort.frames).toMatchObject([
      { gso: Gso.TCPV4, gsoSize: 1000, csumStart: 34 },
    ]);
    // A wrong claim is found then too.
    twin.postMeta(q, 0, 20, 14, 5);
    twin.postTx(q, 0, twin.buffer(p.bytes, false), p.bytes.length, "l", word);
    twin.ring(q);
    await twin.settle();
    expect(host.takeFaults()).toEqual(["TX_MSS_ZERO"]);
    expect(host.switchPort.frames.length).toBe(1);
  });

  test("each drop has its own reason, also the one after a refused read", async () => {
    const { host, nic, twin } = await rig();
    const q = await twin.createQueue(SqDirection.TX, 64, 1);
    send(twin, q, [twin.buffer(pattern(60), false), 60]);
    host.memory.reads.splice(0)[0]!.refuse();
    await settle();
    send(twin, q, [twin.buffer(pattern(13)), 13]);
    expect([...host.switchPort.drops]).toEqual([
      ["host_refused", 1],
      ["tx_malformed", 1],
    ]);
    expect(nic.snapshot()).toMatchObject({
      tx: [{ drops: 2, packets: 0 }],
      counters: { txDrops: 2 },
    });
  });

  test.each([
    ["of 13 bytes", 13, ["TX_TOO_SHORT"]],
    ["of 14 bytes", 14, []],
    ["as long as the MTU allows", 9216 + 18, []],
    ["a byte longer", 9216 + 19, ["TX_TOO_LONG"]],
  ])("a packet %s", async (_, length, faults) => {
    const { host, twin } = await rig();
    const q = await twin.createQueue(SqDirection.TX, 64, 1);
    send(twin, q, [twin.buffer(pattern(length)), length]);
    expect(host.takeFaults()).toEqual(faults);
    expect(host.switchPort.frames.length).toBe(1 - faults.length);
  });

  test("the last bytes of the address space may be sent, and none beyond", async () => {
    const { host, twin } = await rig();
    const q = await twin.createQueue(SqDirection.TX, 64, 1);
    send(twin, q, [2 ** 48 - 59, 60]);
    expect(host.takeFaults()).toEqual(["TX_ADDRESS_RANGE"]);
    send(twin, q, [2 ** 48 - 60, 60]);
    expect([host.memory.reads.length, host.takeFaults()]).toEqual([1, []]);
  });

  test.each([
    ["19 buffers behind a meta descriptor", 19, true, []],
    ["20 buffers", 20, false, []],
    ["20 buffers behind a meta descriptor", 20, true, ["TX_TOO_MANY_DESCS"]],
    ["21 buffers", 21, false, ["TX_TOO_MANY_DESCS"]],
  ] as [string, number, boolean, string[]][])("a packet of %s", async (_, count, meta, faults) => {
    const { host, twin } = await rig();
    const q = await twin.createQueue(SqDirection.TX, 64, 1);
    if (meta) twin.postMeta(q, 0, 20, 14, 5);
    for (let i = 0; i < count; i++) {
      const flags = `${i === 0 && !meta ? "f" : ""}${i === count - 1 ? "l" : ""}`;
      twin.postTx(q, 0, twin.buffer(pattern(20, i)), 20, flags);
    }
    twin.ring(q);
    expect(host.takeFaults()).toEqual(faults);
    expect(host.switchPort.frames.length).toBe(1 - faults.length);
  });

  test("a queue that ends while its frame is held gives every push back", async () => {
    const { host, twin } = await rig();
    const q = await twin.createQueue(SqDirection.TX, 64, 1);
    host.switchPort.verdict = Verdict.HELD;
    for (let i = 0; i < 3; i++) {
      send(twin, q, [twin.buffer(pattern(59, i)), 59], [twin.buffer(pattern(1)), 1]);
    }
    expect(host.memory.pushes.live).toBe(6);
    await twin.destroySq(SqDirection.TX, q.sqIdx);
    expect(host.memory.pushes.live).toBe(0);
    host.switchPort.verdict = Verdict.DONE;
    host.switchPort.onReady?.();
    await settle();
    expect(host.switchPort.frames).toEqual([]);
  });

  test("a capture that begins late is told ids behind meta descriptors too", async () => {
    const { host, nic, twin } = await rig();
    const ids = () =>
      stateRecords(
        stateParts((state) => nic.tellState(state)),
        StateKind.ENA_REQUEST,
      ).map(({ values }) => values["reqId"]);
    host.switchPort.verdict = Verdict.HELD;
    const q = await twin.createQueue(SqDirection.TX, 64, 1);
    send(twin, q, [twin.buffer(pattern(60)), 60]);
    twin.postMeta(q, 0, 20, 14, 5);
    twin.postTx(q, 7, twin.buffer(pattern(60)), 60, "");
    twin.postTx(q, 0, twin.buffer(pattern(60)), 60, "l");
    twin.postTx(q, 9, twin.buffer(pattern(60)), 60);
    twin.ring(q);
    expect(ids()).toEqual([0, 7, 9]);
    // Of this packet only the meta descriptor is there.
    twin.postMeta(q, 0, 20, 14, 5);
    twin.ring(q);
    expect(ids()).toEqual([0, 7, 9]);
  });

  test.each([
    [2, [0, 5]],
    [1, [0, 5]],
  ])("with %i descriptors before the header: %j", async (before, wanted) => {
    const { host, nic, twin } = await rig();
    host.switchPort.verdict = Verdict.HELD;
    const body = { ...PLAIN_LLQ, descsBeforeHeaderEnabled: before };
    await twin.setFeature(FeatureId.LLQ, llqFeature, body);
    const q = await twin.createQueue(SqDirection.TX, 8, 1, Placement.DEV);
    const packet = (reqId: number, meta: boolean): void => {
      const phase = q.sq.phase;
      const descriptors: Uint8Array[] = [];
      if (meta) {
        const bytes = new Uint8Array(16);
        txMeta.write(viewOf(bytes), 0, phase, 0, 20, 14, 5);
        descriptors.push(bytes);
      }
      const address = twin.buffer(pattern(60));
      descriptors.push(txDescriptor({ length: 60, reqId, address, first: meta ? 0 : 1 }, q));
      for (let room = before; descriptors.length > 0; room = 8) {
        const entry = new Uint8Array(128);
        descriptors.splice(0, room).forEach((bytes, i) => void entry.set(bytes, i * 16));
        nic.pci.mmioWrite(2, q.llqOffset + q.sq.slot * 128, entry, 0, 128);
        q.sq.next();
      }
    };
    packet(0, false);
    packet(5, true);
    twin.ring(q);
    const ids = stateRecords(
      stateParts((state) => nic.tellState(state)),
      StateKind.ENA_REQUEST,
    );
    expect(ids.map(({ values }) => values["reqId"])).toEqual(wanted);
    expect(host.takeFaults()).toEqual([]);
  });
});
