import { describe, expect, test } from "vitest";
import { createEnaNic } from "../../device/ena/index.ts";
import { DropReason } from "../../device/switch/port.ts";
import { ACQ_BODY, Opcode, SqDirection } from "../../shared/ena/admin.ts";
import {
  AENQ_BODY,
  AENQ_DEPTH,
  AENQ_ENTRY_SIZE,
  AenqGroup,
  AenqSyndrome,
  aenqCommon,
  aenqKeepAlive,
  aenqLinkChange,
} from "../../shared/ena/aenq.ts";
import { aenqConfig, FeatureId, hwHints } from "../../shared/ena/features.ts";
import { DevSts, Register } from "../../shared/ena/registers.ts";
import { basicStats, getStats, StatsType } from "../../shared/ena/stats.ts";
import { build } from "../support/ena-guest.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost } from "../support/fake-host.ts";
import { frameOf } from "../support/packets.ts";

function rig() {
  const host = new FakeHost();
  const nic = createEnaNic(host);
  return { host, nic, twin: new EnaTwin(nic, host) };
}

/** Events since the last call: the group of each, and its address. */
function takeEvents(twin: EnaTwin): { group: number; syndrome: number; at: number }[] {
  const { view } = twin.host.memory;
  const found: { group: number; syndrome: number; at: number }[] = [];
  for (;;) {
    const at = twin.at(twin.aenqAddress) + twin.aenq.slot * AENQ_ENTRY_SIZE;
    const { group, syndrome, phase } = aenqCommon.parse(view, at);
    if (phase !== twin.aenq.phase) return found;
    found.push({ group, syndrome, at });
    twin.aenq.next();
  }
}

const acknowledge = (twin: EnaTwin): void =>
  twin.write32(Register.AENQ_HEAD_DB, (twin.aenq.head + AENQ_DEPTH) & 0xffff);

describe("the event queue", () => {
  test.each(["groups first", "doorbell first"])("tells link up once, %s", async (order) => {
    const { host, twin } = rig();
    twin.setResponse();
    twin.reset();
    twin.initAdmin();
    const groups = () =>
      twin.setFeature(FeatureId.AENQ_CONFIG, aenqConfig, { enabledGroups: 0x1f });
    if (order === "groups first") await groups();
    else twin.write32(Register.AENQ_HEAD_DB, AENQ_DEPTH);
    expect(takeEvents(twin)).toEqual([]);
    host.takeInterrupts();
    if (order === "groups first") twin.write32(Register.AENQ_HEAD_DB, AENQ_DEPTH);
    else await groups();
    const events = takeEvents(twin);
    expect(events.map((e) => e.group)).toEqual([AenqGroup.LINK_CHANGE]);
    expect(aenqLinkChange.parse(host.memory.view, events[0]!.at).linkUp).toBe(true);
    expect(host.takeInterrupts()).toContain(0);
    acknowledge(twin);
    expect(takeEvents(twin)).toEqual([]);
  });

  test("guest-4 keep-alive carries the driver's drops so far, not those of a port that was down or of the link", async () => {
    const { host, nic, twin } = rig();
    const frame = frameOf(new Uint8Array(60));
    const early = [1, 2].map(() => host.port!.deliver(frame));
    await twin.attach();
    early.push(host.port!.deliver(frame));
    expect(early).toEqual([DropReason.PORT_DOWN, DropReason.PORT_DOWN, DropReason.PORT_DOWN]);
    const q = await twin.createQueue(SqDirection.RX, 8, 1);
    takeEvents(twin);
    for (let i = 0; i < 3; i++) host.port!.deliver(frame);
    host.writable = false;
    expect(host.port!.deliver(frame)).toBe(DropReason.LINK_BACKLOG);
    host.writable = true;
    expect(host.port!.deliver(frameOf(new Uint8Array(9300)))).toBe(DropReason.TOO_BIG);
    const stats = await twin.command(
      build(getStats, { opcode: Opcode.GET_STATS, type: StatsType.BASIC }),
    );
    expect(basicStats.parse(stats.entry, ACQ_BODY)).toMatchObject({ rxDrops: 1, rxOverruns: 3 });
    nic.tick();
    const [event] = takeEvents(twin);
    expect(event?.group).toBe(AenqGroup.KEEP_ALIVE);
    expect(aenqKeepAlive.parse(host.memory.view, event!.at)).toMatchObject({
      rxDrops: 1,
      txDrops: 0,
      rxOverruns: 3,
    });
    expect(q.sqIdx).toBe(0);
  });

  test("groups that are not enabled are not sent", async () => {
    const { nic, twin } = rig();
    await twin.attach(1 << AenqGroup.LINK_CHANGE);
    takeEvents(twin);
    nic.tick();
    expect(nic.levers.requestReset()).toBe(false);
    expect(takeEvents(twin)).toEqual([]);
  });

  test("a full ring loses events and counts them; acknowledging helps", async () => {
    const { host, nic, twin } = rig();
    await twin.attach();
    for (let i = 0; i < AENQ_DEPTH + 4; i++) nic.tick();
    expect(takeEvents(twin).length).toBe(AENQ_DEPTH);
    // The link-up event used one entry, so five of twenty did not fit.
    expect(nic.snapshot().counters).toMatchObject({ aenqOverflows: 5 });
    expect(new Set(host.takeFaults())).toEqual(new Set(["AENQ_OVERFLOW"]));
    acknowledge(twin);
    nic.tick();
    expect(takeEvents(twin).length).toBe(1);
  });

  test("goes round its ring, and past 2^16", async () => {
    const { host, nic, twin } = rig();
    await twin.attach();
    takeEvents(twin);
    acknowledge(twin);
    let seen = 0;
    while (seen < 66_000) {
      for (let i = 0; i < AENQ_DEPTH; i++) nic.events.plain(AenqGroup.WARNING);
      const events = takeEvents(twin).length;
      if (events !== AENQ_DEPTH) throw new Error(`${events} events at ${seen}`);
      seen += events;
      acknowledge(twin);
      host.memory.writes.length = 0;
    }
    expect(nic.snapshot().counters).toMatchObject({ aenqOverflows: 0 });
  });

  test.each([
    ["beyond the ring", 17],
    ["backwards", -1],
  ])("a head %s is named and ignored", async (_what, by) => {
    const { host, nic, twin } = rig();
    await twin.attach();
    takeEvents(twin);
    acknowledge(twin);
    twin.write32(Register.AENQ_HEAD_DB, (twin.aenq.head + AENQ_DEPTH + by) & 0xffff);
    expect(host.takeFaults()).toEqual(["AENQ_HEAD_DB_RANGE"]);
    nic.tick();
    expect(takeEvents(twin).length).toBe(1);
  });

  test("groups before the ring are refused with the reason", async () => {
    const { host, twin } = rig();
    await twin.attach();
    const done = await twin.setFeature(FeatureId.AENQ_CONFIG, aenqConfig, {
      enabledGroups: 1 << 5,
    });
    expect(done.status).toBe(5);
    expect(host.faults.at(-1)?.text).toContain("0x20");
  });

  test("hints are told anew when the round trip changed, and only then", async () => {
    const { host, nic, twin } = rig();
    await twin.attach();
    await twin.getFeature(FeatureId.HW_HINTS);
    takeEvents(twin);
    host.roundTripMs = 100;
    nic.tick();
    const events = takeEvents(twin);
    expect(events.map((e) => [e.group, e.syndrome])).toEqual([
      [AenqGroup.KEEP_ALIVE, 0],
      [AenqGroup.NOTIFICATION, AenqSyndrome.UPDATE_HINTS],
    ]);
    const hints = hwHints.parse(host.memory.view, events[1]!.at + AENQ_BODY);
    expect(hints.adminCompletionTimeoutMs).toBe(5000);
    host.roundTripMs = 105;
    nic.tick();
    expect(takeEvents(twin).map((e) => e.group)).toEqual([AenqGroup.KEEP_ALIVE]);
  });

  test("the levers of fault scripts", async () => {
    const { host, nic, twin } = rig();
    await twin.attach();
    takeEvents(twin);
    expect(nic.levers.requestReset()).toBe(true);
    expect(nic.events.confNotifications(5)).toBe(true);
    nic.levers.fail("SCRIPT", "the script says so");
    expect(takeEvents(twin).map((e) => e.group)).toEqual([
      AenqGroup.DEVICE_REQUEST_RESET,
      AenqGroup.CONF_NOTIFICATIONS,
      AenqGroup.FATAL_ERROR,
    ]);
    expect(twin.read32(Register.DEV_STS) & DevSts.FATAL_ERROR).not.toBe(0);
    expect(host.faults.map((f) => [f.code, f.severity])).toEqual([["SCRIPT", 2]]);
  });
});

describe("interrupts of IO queues", () => {
  async function pair() {
    const { host, nic, twin } = rig();
    await twin.attach();
    const tx = await twin.createQueue(SqDirection.TX, 64, 1);
    const rx = await twin.createQueue(SqDirection.RX, 64, 1);
    for (let i = 0; i < 32; i++) twin.postRx(rx, i, twin.alloc(128), 128);
    twin.ring(rx);
    host.takeInterrupts();
    const deliver = (count: number) => {
      for (let i = 0; i < count; i++) host.port!.deliver(frameOf(new Uint8Array(60)));
      host.port!.flush();
    };
    let id = 0;
    const send = () => {
      twin.postTx(tx, id++, twin.buffer(new Uint8Array(60)), 60);
      twin.ring(tx);
    };
    return { host, nic, twin, tx, rx, deliver, send };
  }

  test("none before the first unmask, then at once for what has come", async () => {
    const { host, twin, tx, deliver } = await pair();
    deliver(1);
    expect(host.takeInterrupts()).toEqual([]);
    twin.unmask(tx);
    expect(host.takeInterrupts()).toEqual([1]);
  });

  test("one for a burst, none until unmasked again", async () => {
    const { host, twin, tx, deliver } = await pair();
    twin.unmask(tx);
    deliver(5);
    deliver(5);
    expect(host.takeInterrupts()).toEqual([1]);
  });

  test("unmasking through the tx queue arms the vector for rx too", async () => {
    const { host, twin, tx, deliver, send } = await pair();
    twin.unmask(tx);
    send();
    expect(host.takeInterrupts()).toEqual([1]);
    // Posted while masked: only the unmask can raise the interrupt.
    deliver(1);
    expect(host.takeInterrupts()).toEqual([]);
    twin.unmask(tx);
    expect(host.takeInterrupts()).toEqual([1]);
    twin.unmask(tx);
    expect(host.takeInterrupts()).toEqual([]);
    deliver(1);
    expect(host.takeInterrupts()).toEqual([1]);
  });

  test("a write without the unmask bit arms nothing", async () => {
    const { host, twin, tx, deliver } = await pair();
    twin.write32(tx.unmask, 50);
    deliver(1);
    expect(host.takeInterrupts()).toEqual([]);
  });
});
