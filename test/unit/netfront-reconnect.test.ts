/**
 * netfront on one connection: a cancelled suspend, and a backend that closes, disappears, returns,
 * and offers other features than before.
 */
import { describe, expect, test } from "vitest";
import { RingWord } from "../../shared/xen/ring.ts";
import { frame, MAC } from "../support/nic-frames.ts";
import { XenPair } from "../support/pair.ts";
import type { Act } from "../support/wire-acts.ts";
import { referencesInUse, violations } from "../support/xen-invariants.ts";

const BACKEND = "/local/domain/0/backend/vif/1/0";
const CLOSING = "5";
const INITIALISING = "1";
const INIT_WAIT = "2";

async function bothWays(pair: XenPair, seed: number): Promise<void> {
  const before = [pair.segment.length, pair.inputs.length];
  expect(pair.send(frame(200, seed))).toBe(0);
  pair.inject(frame(300, seed, MAC));
  pair.flushPort();
  await pair.settle();
  expect(pair.segment.at(-1)?.bytes).toEqual(frame(200, seed));
  expect(pair.inputs.slice(before[1]).map((input) => input.bytes)).toEqual([frame(300, seed, MAC)]);
}

test("a suspend that is cancelled: what came while it lasted is taken, with no other event", async () => {
  const pair = await XenPair.started();
  const late: Act[] = [];
  pair.tamper = (act) => {
    if (act.kind !== "hypercall_reply") return [act];
    late.push(act);
    return [];
  };
  const { machine } = pair;
  machine.store.write("/local/domain/1/control/shutdown", "suspend");
  machine.settle();
  await pair.settle();
  expect([pair.info.suspended, pair.info.carrier, late.length]).toEqual([true, false, 1]);
  for (let i = 0; i < 3; i++) pair.inject(frame(60 + i, i, MAC));
  pair.flushPort();
  await pair.settle();
  expect(pair.inputs).toEqual([]);
  // Drops everything else: events, answers, whole batches.
  pair.tamper = (act) => (act.kind === "hypercall_reply" ? [act] : []);
  const { pumpUp } = pair;
  pair.pumpUp = () => {
    if (pair.toDriver.length > 0) pumpUp.call(pair);
  };
  for (const act of late) pair.post(act);
  await pair.settle();
  expect(pair.info.carrier).toBe(true);
  expect(pair.inputs).toHaveLength(3);
  expect(pair.counter("queue0", "rx", "in_flight")).toBe(256);
  pair.tamper = undefined;
  await bothWays(pair, 7);
  expect(violations(pair)).toEqual([]);
});

test.each([
  ["one small frame", [60]],
  ["frames of one page and of more", [60, 9000, 1514, 4097, 100]],
])(
  "what came after a suspend and before the link went is the stack's, whole and in order: %s",
  async (_, sizes) => {
    const pair = await XenPair.started({ queues: 2, mtu: 9000 });
    await pair.suspend();
    for (const [i, size] of sizes.entries()) pair.inject(frame(size, i, MAC));
    pair.flushPort();
    await pair.settle();
    expect(pair.inputs).toEqual([]);
    const before = pair.inputDones;
    pair.cut();
    expect(pair.inputs.map((input) => input.bytes)).toEqual(sizes.map((n, i) => frame(n, i, MAC)));
    expect(pair.inputDones).toBeGreaterThan(before);
    expect(referencesInUse(pair)).toBe(0);
    await pair.reconnect();
    expect(violations(pair)).toEqual([]);
    await bothWays(pair, 8);
  },
);

test("who waited for a new link sends when the backend takes it: nothing pushed is asked for again", async () => {
  const pair = await XenPair.started();
  pair.cut();
  expect(pair.send(frame(100))).not.toBe(0);
  let waiting = 50;
  pair.driver.ifnet.onTransmitReady = () => {
    for (; waiting > 0; waiting--) expect(pair.send(frame(1000, waiting))).toBe(0);
    // The packets need more than one message, so those posted so far are sent now.
    pair.pump();
  };
  await pair.reconnect();
  expect(waiting).toBe(0);
  expect(pair.segment.filter(({ bytes }) => bytes.length === 1000)).toHaveLength(50);
  expect(pair.end.memory.readCount).toBe(0);
});

describe("a backend that closes and offers itself again", () => {
  test("mutant-M4 again and again on one link: no event channel and no handler is left behind", async () => {
    const pair = await XenPair.started({ queues: 2 });
    const { machine } = pair;
    const domid = 1;
    const { ports } = machine.events.use(domid);
    const old: number[] = [];
    for (let round = 0; round < 5; round++) {
      old.push(...pair.info.txqs.map((txq) => txq.port));
      await pair.backendSays("state", CLOSING);
      expect(machine.events.use(domid)).toMatchObject({ ports: 0, bound: 0 });
      await pair.backendSays("state", INITIALISING);
      expect(pair.info.carrier).toBe(true);
      expect(machine.events.use(domid)).toMatchObject({ ports, bound: ports });
    }
    // An event for an old port reaches none of the old queues.
    const now = new Set(pair.info.txqs.map((txq) => txq.port));
    const gone = old.filter((port) => !now.has(port));
    const { counters } = pair.info.events;
    const before = { ...counters };
    for (const port of gone) pair.hypervisor.onEvent(port);
    expect(counters).toEqual({ ...before, stray: before.stray + gone.length });
    await bothWays(pair, 1);
  });

  test("with fewer queues: the number of before is not left in the store", async () => {
    const pair = await XenPair.started({ queues: 4 });
    expect(pair.info.rxqs).toHaveLength(4);
    await pair.backendSays("state", CLOSING);
    await pair.backendSays("multi-queue-max-queues", "1");
    await pair.backendSays("state", INITIALISING);
    expect(pair.deviceFaults).toEqual([]);
    expect(pair.info.rxqs).toHaveLength(1);
    expect(pair.nic.snapshot().backend).toBe("connected");
    await bothWays(pair, 2);
  });

  test("without scatter-gather, and with it again: the MTU that can be had follows", async () => {
    const pair = await XenPair.started();
    const { ifnet } = pair.driver;
    await pair.backendSays("state", CLOSING);
    await pair.backendSays("feature-sg", "0");
    await pair.backendSays("state", INITIALISING);
    expect(pair.info.carrier).toBe(true);
    await expect(ifnet.setMtu(9000)).resolves.not.toBe(0);
    await pair.backendSays("state", CLOSING);
    await pair.backendSays("feature-sg", "1");
    await pair.backendSays("state", INITIALISING);
    expect(pair.info.carrier).toBe(true);
    await expect(ifnet.setMtu(9000)).resolves.toBe(0);
  });

  test("for less than the interface's MTU: it stays down, with a sentence, and nothing is left", async () => {
    const pair = await XenPair.started({ mtu: 9000 });
    await pair.backendSays("state", CLOSING);
    await pair.backendSays("feature-sg", "0");
    await pair.backendSays("state", INITIALISING);
    expect(pair.info.carrier).toBe(false);
    expect(pair.counter("resume_failures")).toBe(1);
    expect(pair.info.grants.liveCount).toBe(0);
  });

  test("after an attempt that failed: what is still to be tried is not tried when it works", async () => {
    const pair = await XenPair.started();
    await pair.backendSays("state", CLOSING);
    await pair.backendSays("feature-rx-copy", "0");
    await pair.backendSays("state", INITIALISING);
    expect(pair.info.retryTicks).toBeGreaterThan(0);
    await pair.backendSays("feature-rx-copy", "1");
    await pair.backendSays("state", CLOSING);
    await pair.backendSays("state", INITIALISING);
    expect(pair.info.carrier).toBe(true);
    expect(pair.info.retryTicks).toBe(0);
    await bothWays(pair, 3);
    // Invalid data stops the NIC for good, even while a retry is scheduled.
    const { view } = pair.rxq().ring!;
    view.setUint32(RingWord.RSP_PROD, 0x8000_0000, true);
    pair.driver.batchApplied();
    expect(pair.info.broken).toBe("RX_RESPONSES");
    for (let i = 0; i < 40; i++) await pair.second();
    expect(pair.info.broken).toBe("RX_RESPONSES");
    pair.cut();
    await pair.reconnect();
    await bothWays(pair, 4);
  });

  test("a try that is due while it connects, and finds it broken again, tries nothing", async () => {
    const pair = await XenPair.started();
    await pair.backendSays("state", CLOSING);
    await pair.backendSays("feature-rx-copy", "0");
    await pair.backendSays("state", INITIALISING);
    expect(pair.info.retryTicks).toBe(1);
    await pair.backendSays("feature-rx-copy", "1");
    await pair.backendSays("state", CLOSING);
    const { machine } = pair;
    machine.store.write(`${BACKEND}/state`, INITIALISING);
    machine.settle();
    for (let turns = 0; pair.info.broken === undefined && turns < 1000; turns++) {
      pair.pump();
      await new Promise((resolve) => setImmediate(resolve));
      if (pair.info.retryTicks > 0 && pair.info.rxqs.length > 0) pair.driver.tick();
      if (!pair.info.carrier) continue;
      pair.rxq().ring!.view.setUint32(RingWord.RSP_PROD, 0x8000_0000, true);
      pair.driver.batchApplied();
    }
    await pair.settle();
    expect(pair.info.broken).toBe("RX_RESPONSES");
    pair.cut();
    await pair.reconnect();
    await bothWays(pair, 6);
  });

  test("after it was gone from the store", async () => {
    const pair = await XenPair.started();
    const { machine } = pair;
    machine.store.rm(`${BACKEND}/state`);
    machine.settle();
    await pair.settle();
    expect(pair.info.carrier).toBe(false);
    expect(pair.info.grants.liveCount).toBe(0);
    await pair.backendSays("state", INIT_WAIT);
    expect(pair.info.carrier).toBe(true);
    await bothWays(pair, 5);
    expect(violations(pair)).toEqual([]);
  });
});
