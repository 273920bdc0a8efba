/**
 * Interrupt moderation by the delays of the unmask register: which completions wait, until when, and
 * which never do. A driver that sets no delay, or a short one, gets everything at once.
 */
import { describe, expect, test } from "vitest";
import { createEnaNic, type EnaOptions } from "../../device/ena/index.ts";
import { Verdict } from "../../device/switch/port.ts";
import { SqDirection } from "../../shared/ena/admin.ts";
import { intrReg } from "../../shared/ena/io.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import type { EnaQueue } from "../support/ena-guest.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost } from "../support/fake-host.ts";
import { frameOf } from "../support/packets.ts";

const KEEP = 2 ** 31;
/** Most transmit completions that wait. */
const MOST_KEPT = 64;

interface Rig {
  readonly host: FakeHost;
  readonly nic: ReturnType<typeof createEnaNic>;
  readonly twin: EnaTwin;
  readonly tx: EnaQueue;
  readonly rx: EnaQueue;
  /** Writes the unmask register of the pair, with delays in microseconds. */
  unmask(rxDelay: number, txDelay: number, more?: number): void;
  /** Sends `count` packets of `bytes` bytes, with one doorbell. */
  send(count?: number, bytes?: number): void;
  /** A frame of the segment arrives. */
  arrive(): void;
  /** Completions and vectors that have reached the driver since the last call. */
  got(): { tx: number; rx: number; vectors: number[] };
}

/** A queue pair whose vector is armed; both rings are of `depth` entries. */
async function rig({
  depth = 1024,
  ...options
}: EnaOptions & { depth?: number } = {}): Promise<Rig> {
  const host = new FakeHost({ queues: 2, maxMtu: 9216 }, 1 << 23);
  const nic = createEnaNic(host, options);
  const twin = new EnaTwin(nic, host);
  await twin.attach();
  const tx = await twin.createQueue(SqDirection.TX, depth, 1);
  const rx = await twin.createQueue(SqDirection.RX, depth, 1);
  for (let i = 0; i < depth - 1; i++) twin.postRx(rx, i, twin.alloc(128), 128);
  twin.ring(rx);
  let id = 0;
  const address = twin.alloc(9000);
  const made: Rig = {
    ...{ host, nic, twin, tx, rx },
    unmask: (rxDelay, txDelay, more = 0) =>
      twin.write32(tx.unmask, (intrReg.pack(rxDelay, txDelay, 1) + more) >>> 0),
    send(count = 1, bytes = 60) {
      for (let i = 0; i < count; i++) {
        host.memory.push(address, bytes);
        twin.postTx(tx, id++ % 0x8000, address, bytes);
      }
      twin.ring(tx);
    },
    arrive() {
      expect(host.port!.deliver(frameOf(new Uint8Array(60)))).toBe(undefined);
      host.port!.flush();
    },
    got: () => ({
      tx: twin.completed(tx).length,
      rx: twin.completed(rx).length,
      vectors: host.takeInterrupts(),
    }),
  };
  made.unmask(0, 0);
  host.takeInterrupts();
  return made;
}

const NOTHING = { tx: 0, rx: 0, vectors: [] };

describe("without a delay of a millisecond", () => {
  test.each([0, 50, 64, 999])("a Tx delay of %i us delays nothing", async (us) => {
    const { unmask, send, got, host } = await rig();
    unmask(20, us);
    send();
    expect(got()).toEqual({ tx: 1, rx: 0, vectors: [1] });
    expect([host.deadlines, host.flushes > 0]).toEqual([[], true]);
  });

  test("a frame is never delayed, and takes along what waits, with one interrupt", async () => {
    const { unmask, send, arrive, got, host } = await rig();
    unmask(0, 10_000);
    send(3);
    expect(got()).toEqual(NOTHING);
    const { flushes } = host;
    arrive();
    expect(got()).toEqual({ tx: 3, rx: 1, vectors: [1] });
    expect(host.flushes).toBe(flushes + 1);
  });

  test("a queue without interrupts gets its completions at once", async () => {
    const { host, twin, unmask, got } = await rig();
    unmask(0, 10_000);
    const silent = await twin.createQueue(SqDirection.TX, 16, 0xffff_ffff);
    host.takeInterrupts();
    twin.write32(silent.unmask, intrReg.pack(0, 10_000, 1));
    twin.postTx(silent, 0, twin.buffer(new Uint8Array(60)), 60);
    twin.ring(silent);
    expect([twin.completed(silent), host.deadlines]).toEqual([[0], []]);
    expect(got()).toEqual(NOTHING);
  });
});

describe("with a Tx delay", () => {
  test("completions and their interrupt come with the next batch, which the deadline brings", async () => {
    const { unmask, send, got, host, nic } = await rig();
    unmask(0, 10_999);
    const { flushes } = host;
    send(2);
    send(1);
    expect([host.deadlines, host.flushes]).toEqual([[10, 10], flushes]);
    expect(got()).toEqual(NOTHING);
    expect(nic.snapshot()).toMatchObject({
      tx: [{ kept: 3, cqHead: 3 }],
      interrupts: [{}, { rxDelay: 0, txDelay: 10_999, armed: true }, {}],
    });
    nic.beforeFlush();
    expect(got()).toEqual({ tx: 3, rx: 0, vectors: [1] });
    expect(nic.snapshot().tx).toMatchObject([{ kept: 0 }]);
    nic.beforeFlush();
    expect(got()).toEqual(NOTHING);
  });

  test("a masked vector remembers: its interrupt comes at the unmask", async () => {
    const { unmask, send, got, nic } = await rig();
    unmask(0, 10_000);
    send();
    nic.beforeFlush();
    expect(got()).toEqual({ tx: 1, rx: 0, vectors: [1] });
    send();
    nic.beforeFlush();
    expect(got()).toEqual({ tx: 1, rx: 0, vectors: [] });
    unmask(0, 10_000);
    expect(got()).toEqual({ tx: 0, rx: 0, vectors: [1] });
  });

  test("a driver that sets a shorter delay gets at once what has waited", async () => {
    const { unmask, send, got, host } = await rig();
    unmask(0, 20_000);
    send();
    unmask(0, 5_000);
    expect([host.deadlines, got()]).toEqual([[20, 5], NOTHING]);
    unmask(0, 0);
    expect(got()).toEqual({ tx: 1, rx: 0, vectors: [1] });
  });

  test("the delays stay when a write says so, and end with a reset", async () => {
    const { unmask, send, got, host, nic, twin } = await rig();
    unmask(0, 20_000);
    unmask(0, 0, KEEP);
    send();
    expect([host.deadlines, got()]).toEqual([[20], NOTHING]);
    twin.reset();
    expect(nic.snapshot().interrupts[1]).toMatchObject({ rxDelay: 0, txDelay: 0, armed: false });
    nic.beforeFlush();
    expect(got().vectors).toEqual([]);
  });
});

describe("with an Rx delay", () => {
  test("frames wait with their interrupt, up to a quarter of the ring", async () => {
    const { unmask, arrive, got, host, nic } = await rig({ depth: 64 });
    unmask(3_000, 0);
    for (let i = 0; i < 16; i++) arrive();
    expect([host.deadlines.every((ms) => ms === 3), got()]).toEqual([true, NOTHING]);
    nic.beforeFlush();
    expect(got()).toEqual({ tx: 0, rx: 16, vectors: [1] });
    for (let i = 0; i < 17; i++) arrive();
    expect(got()).toEqual({ tx: 0, rx: 17, vectors: [] });
  });
});

describe("a driver that may wait for them gets Tx completions at once", () => {
  test(`beyond ${MOST_KEPT} packets`, async () => {
    const { unmask, send, got } = await rig();
    unmask(0, 10_000);
    for (let i = 1; i < MOST_KEPT; i++) send();
    expect(got()).toEqual(NOTHING);
    send();
    expect(got()).toEqual({ tx: MOST_KEPT, rx: 0, vectors: [1] });
    // The count begins again.
    send(MOST_KEPT - 1);
    expect(got()).toEqual(NOTHING);
  });

  test("beyond a quarter of the ring, in entries that it can't reuse", async () => {
    const { unmask, send, got, twin, tx, host, nic } = await rig({ depth: 64 });
    unmask(0, 10_000);
    send(10);
    // A packet of six entries, and the beginning of another, which stays in the ring.
    const address = twin.alloc(64);
    host.memory.push(address, 60);
    for (let i = 0; i < 6; i++) {
      twin.postTx(tx, 500, address, 10, i === 0 ? "f" : i === 5 ? "l" : "");
    }
    twin.ring(tx);
    expect(got()).toEqual(NOTHING);
    twin.postTx(tx, 501, address, 10, "f");
    twin.ring(tx);
    expect(got()).toEqual({ tx: 11, rx: 0, vectors: [1] });
    expect(nic.snapshot().tx).toMatchObject([{ kept: 0, head: 16, tail: 17 }]);
  });

  test("beyond a quarter of its budget of pushes, and with a small budget always", async () => {
    for (const [pushBytes, kept] of [
      [Limits.PUSH_BYTES_MIN, 0],
      [Limits.PUSH_BYTES_MIN + 999, 0],
      [Limits.PUSH_BYTES_MIN + 1000, 1],
      [160_000, 40],
    ] as const) {
      const { unmask, send, got, host } = await rig();
      host.pushBytes = pushBytes;
      unmask(0, 10_000);
      let sent = 0;
      while (got().tx === 0) {
        send(1, 1000);
        sent++;
      }
      expect(sent).toBe(kept + 1);
    }
  });

  test("a packet was held: those before it, and itself when it goes", async () => {
    const { unmask, send, got, host } = await rig();
    const port = host.switchPort;
    unmask(0, 10_000);
    send(2);
    port.verdict = Verdict.HELD;
    send();
    expect(got()).toEqual({ tx: 2, rx: 0, vectors: [1] });
    port.verdict = Verdict.DONE;
    port.onReady?.();
    await new Promise(setImmediate);
    expect(got()).toMatchObject({ tx: 1 });
    send();
    expect(got()).toEqual(NOTHING);
  });

  test("a packet had to be read: likewise", async () => {
    const { unmask, send, got, twin, tx, host } = await rig();
    unmask(0, 10_000);
    send(2);
    twin.postTx(tx, 900, twin.buffer(new Uint8Array(60), false), 60);
    twin.ring(tx);
    expect(got()).toEqual({ tx: 2, rx: 0, vectors: [1] });
    await host.memory.answerReads();
    expect(got()).toMatchObject({ tx: 1 });
  });

  test("the queue is destroyed: they come before the answer, in any order that the device likes", async () => {
    for (const completionOrder of ["fifo", "shuffle"] as const) {
      const { unmask, send, got, twin, tx, host } = await rig({ completionOrder });
      unmask(0, 10_000);
      send(5);
      host.memory.writes.length = 0;
      await twin.destroySq(SqDirection.TX, tx.sqIdx);
      expect(got().tx).toBe(5);
      expect(host.memory.writes.map(({ length }) => length)).toEqual([5 * 8, 64]);
    }
  });
});
