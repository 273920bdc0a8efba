/**
 * A misbehaving device, and the driver's answer: the right reset reason, every buffer back, and
 * traffic as before. Faults C1, C2, C7, C15, C16, C17, D7 of the fault catalogue, driver side.
 */
import { beforeEach, describe, expect, test, vi } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import { RX_CDESC_SIZE, TX_CDESC_SIZE } from "../../shared/ena/io.ts";
import { Register, ResetReason } from "../../shared/ena/registers.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { EnaPair, type Tamper } from "../support/pair.ts";
import { RecordingLog } from "../support/recording-log.ts";
import type { Act } from "../support/wire-acts.ts";

const MAC = [2, 0, 0, 0, 0, 1];
const frame = (length: number, seed: number, destination: readonly number[]): Uint8Array => {
  const bytes = Uint8Array.from({ length }, (_, i) => (i * 5 + seed) & 0xff);
  bytes.set([...destination, 2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
  return bytes;
};
const out = (length: number, seed = 1): Uint8Array => frame(length, seed, [2, 0, 0, 0, 0, 7]);
const into = (length: number, seed = 1): Uint8Array => frame(length, seed, MAC);

/** Changes the bytes of every write of one type; false drops the write. */
const onWrite =
  (type: number, change: (bytes: Uint8Array) => boolean): Tamper =>
  (act) =>
    act.kind === "write" && act.type === type && !change(act.bytes) ? [] : [act];
const dropInterrupt =
  (vector: number): Tamper =>
  (act: Act) =>
    act.kind === "interrupt" && act.vector === vector ? [] : [act];

/** Makes each look at the clock find a long slice of work behind it. */
function everySliceEnds() {
  let looks = 0;
  let seen = 0;
  const spy = vi.spyOn(performance, "now").mockImplementation(() => 100 * looks++);
  return {
    /** True once after each look. */
    another: () => looks > seen && ++seen > 0,
    restore: () => spy.mockRestore(),
  };
}

async function seconds(pair: EnaPair, n: number): Promise<void> {
  for (let i = 0; i < n; i++) await pair.second();
}

async function sendAll(pair: EnaPair, n: number): Promise<void> {
  for (let i = 0; i < n; i++) expect(pair.send(out(100, i))).toBe(0);
  await pair.settle();
}

async function injectAll(pair: EnaPair, n: number): Promise<void> {
  for (let i = 0; i < n; i++) pair.inject(into(100, i));
  pair.flushPort();
  await pair.settle();
}

/** Expects that the reset ran, its reason reached the device, and everything works as before. */
async function recovered(pair: EnaPair, reason: number, counter: string): Promise<void> {
  pair.tamper = undefined;
  await seconds(pair, 2);
  const told = pair.resets.filter((r) => r !== ResetReason.NORMAL);
  expect(told).toEqual([reason]);
  expect(pair.counter(counter)).toBe(1);
  expect(pair.counter("total_resets")).toBe(1);
  expect(pair.outstanding).toBe(0);
  expect(pair.driver.ifnet.linkState).toBe("up");
  const before = [pair.segment.length, pair.inputs.length];
  await sendAll(pair, 10);
  await injectAll(pair, 10);
  expect([pair.segment.length, pair.inputs.length]).toEqual(before.map((n) => n + 10));
  expect(pair.inputs.slice(-10).map((f) => f.bytes)).toEqual(
    Array.from({ length: 10 }, (_, i) => into(100, i)),
  );
  await pair.run(pair.driver.detach());
  expect(pair.counter("rx_mbufs_in_use")).toBe(0);
  expect(pair.outstanding).toBe(0);
}

describe("reset reasons", () => {
  let pair: EnaPair;
  beforeEach(async () => {
    pair = new EnaPair({});
    await pair.start();
    await sendAll(pair, 3);
    await injectAll(pair, 3);
  });

  test("fault-C16 keep-alives stop: KEEP_ALIVE_TO", async () => {
    pair.tamper = (act) => (act.kind === "write" && act.type === RecordType.ENA_AENQ ? [] : [act]);
    await seconds(pair, 6);
    expect(pair.counter("total_resets")).toBe(0);
    await seconds(pair, 1);
    await recovered(pair, ResetReason.KEEP_ALIVE_TO, "wd_expired");
  });

  test("keep-alives lie there, their interrupt is lost: MISSING_ADMIN_INTERRUPT", async () => {
    pair.tamper = dropInterrupt(0);
    await seconds(pair, 6);
    pair.nic.tick();
    pair.pump();
    pair.tamper = undefined;
    pair.clock.advance(1000);
    pair.driver.tick();
    await pair.settle();
    await recovered(pair, ResetReason.MISSING_ADMIN_INTERRUPT, "missing_admin_interrupt");
  });

  test("fault-C15 tx completions are missing: MISS_TX_CMPL beyond 128, not before", async () => {
    pair.tamper = onWrite(RecordType.ENA_TX_CDESC, () => false);
    await sendAll(pair, 128);
    await seconds(pair, 8);
    expect(pair.counter("total_resets")).toBe(0);
    expect(pair.counter("queue0", "tx_ring", "missing_tx_comp")).toBe(128);
    expect(pair.outstanding).toBe(128);
    expect(pair.send(out(60))).toBe(0);
    await pair.settle();
    await seconds(pair, 6);
    expect(pair.counter("queue0", "tx_ring", "dropped_reset")).toBe(129);
    await recovered(pair, ResetReason.MISS_TX_CMPL, "missing_tx_cmpl");
  });

  test("fault-C17 an interrupt is lost: the poll after the batch recovers, without a reset", async () => {
    pair.tamper = dropInterrupt(1);
    const before = pair.inputs.length;
    await sendAll(pair, 130);
    await injectAll(pair, 130);
    expect([pair.outstanding, pair.inputs.length]).toEqual([0, before + 130]);
    await seconds(pair, 12);
    expect(pair.counter("total_resets")).toBe(0);
  });

  test("fault-C17 tx completions are there, and never an interrupt: MISS_INTERRUPT", async () => {
    pair = new EnaPair({});
    await pair.start();
    pair.tamper = dropInterrupt(1);
    await sendAll(pair, 130);
    expect(pair.outstanding).toBe(130);
    await seconds(pair, 12);
    await recovered(pair, ResetReason.MISS_INTERRUPT, "missing_intr");
  });

  test("fault-C1 a tx id beyond the ring: INV_TX_REQ_ID", async () => {
    pair.tamper = onWrite(RecordType.ENA_TX_CDESC, (bytes) => {
      bytes[1] = 0xff;
      return true;
    });
    await sendAll(pair, 5);
    expect(pair.counter("queue0", "tx_ring", "bad_req_id")).toBe(1);
    await recovered(pair, ResetReason.INV_TX_REQ_ID, "bad_tx_req_id");
  });

  test("fault-C2 a tx id that is not in flight: INV_TX_REQ_ID, nothing freed twice", async () => {
    pair.tamper = onWrite(RecordType.ENA_TX_CDESC, (bytes) => {
      // Every completion of the write repeats the first.
      for (let at = TX_CDESC_SIZE; at < bytes.length; at += TX_CDESC_SIZE) {
        bytes.copyWithin(at, 0, 2);
      }
      return true;
    });
    await sendAll(pair, 5);
    expect(pair.counter("queue0", "tx_ring", "bad_req_id")).toBe(1);
    expect(pair.outstanding).toBe(4);
    await recovered(pair, ResetReason.INV_TX_REQ_ID, "bad_tx_req_id");
  });

  test("fault-C1 an rx id beyond the ring: INV_RX_REQ_ID, earlier frames stay", async () => {
    pair.tamper = onWrite(RecordType.ENA_RX_CDESC, (bytes) => {
      bytes[2 * RX_CDESC_SIZE + 7] = 0xff;
      return true;
    });
    await injectAll(pair, 5);
    expect(pair.inputs.length).toBe(3 + 2);
    expect(pair.counter("queue0", "rx_ring", "bad_req_id")).toBe(1);
    await recovered(pair, ResetReason.INV_RX_REQ_ID, "bad_rx_req_id");
  });

  test("fault-C2 an rx id completed twice: INV_RX_REQ_ID", async () => {
    pair.tamper = onWrite(RecordType.ENA_RX_CDESC, (bytes) => {
      bytes.copyWithin(RX_CDESC_SIZE + 6, 6, 8);
      return true;
    });
    await injectAll(pair, 2);
    expect(pair.inputs.length).toBe(3 + 1);
    await recovered(pair, ResetReason.INV_RX_REQ_ID, "bad_rx_req_id");
  });

  test("fault-C4 more completions than a packet may have: TOO_MANY_RX_DESCS", async () => {
    pair.tamper = onWrite(RecordType.ENA_RX_CDESC, (bytes) => {
      for (let at = 0; at < bytes.length; at += RX_CDESC_SIZE) {
        bytes[at + 3]! &= ~0x08;
        if (at > 0) bytes[at + 3]! &= ~0x04;
      }
      return true;
    });
    await injectAll(pair, 25);
    expect(pair.inputs.length).toBe(3);
    expect(pair.counter("queue0", "rx_ring", "bad_desc_num")).toBe(1);
    await recovered(pair, ResetReason.TOO_MANY_RX_DESCS, "bad_rx_desc_num");
  });

  test("fault-C4 first in the middle of a packet: RX_DESCRIPTOR_MALFORMED", async () => {
    pair.tamper = onWrite(RecordType.ENA_RX_CDESC, (bytes) => {
      bytes[3]! &= ~0x08;
      return true;
    });
    await injectAll(pair, 3);
    expect(pair.inputs.length).toBe(3);
    await recovered(pair, ResetReason.RX_DESCRIPTOR_MALFORMED, "rx_desc_malformed");
  });

  test("fault-C10 more bytes than the buffer has: RX_DESCRIPTOR_MALFORMED", async () => {
    pair.tamper = onWrite(RecordType.ENA_RX_CDESC, (bytes) => {
      bytes[5] = 0x08;
      bytes[4] = 0x01;
      return true;
    });
    await injectAll(pair, 1);
    expect(pair.inputs.length).toBe(3);
    await recovered(pair, ResetReason.RX_DESCRIPTOR_MALFORMED, "rx_desc_malformed");
  });

  test("the device asks: DEVICE_REQUEST", async () => {
    expect(pair.nic.levers.requestReset()).toBe(true);
    await pair.settle();
    await recovered(pair, ResetReason.DEVICE_REQUEST, "device_request_reset");
  });

  test("attack-S11, fault-D10 a device that asks for a reset without end causes one log line", async () => {
    const log = new RecordingLog();
    const noisy = new EnaPair({ log });
    await noisy.start();
    for (let i = 0; i < 100; i++) {
      noisy.nic.levers.requestReset();
      await noisy.settle();
    }
    const asked = log.warnings.filter((line) => line === "the device asks for a reset");
    expect(asked.length).toBe(1);
  });

  test("the first reason wins", async () => {
    pair.tamper = onWrite(RecordType.ENA_RX_CDESC, (bytes) => {
      bytes[7] = 0xff;
      return true;
    });
    await injectAll(pair, 1);
    expect(pair.nic.levers.requestReset()).toBe(true);
    await pair.settle();
    await recovered(pair, ResetReason.INV_RX_REQ_ID, "bad_rx_req_id");
  });

  test("a stall of this process is no missing keep-alive", async () => {
    pair.clock.advance(60_000);
    pair.driver.tick();
    await pair.settle();
    await seconds(pair, 3);
    expect(pair.counter("total_resets")).toBe(0);
  });
});

describe("admin queue", () => {
  test("fault-D7 a lost completion: ETIMEDOUT, ADMIN_TO; a late one is ignored", async () => {
    const pair = new EnaPair({});
    await pair.start();
    const late: Act[] = [];
    pair.tamper = (act) => {
      if (act.kind !== "write" || act.type !== RecordType.ENA_ACQ) return [act];
      late.push(act);
      return [];
    };
    const errno = pair.driver.ifnet.setMtu(1400);
    await pair.settle();
    pair.clock.advance(60_000);
    expect(await pair.run(errno)).toBe(Errno.ETIMEDOUT);
    expect(pair.driver.ifnet.mtu).toBe(1500);
    pair.tamper = undefined;
    for (const act of late) pair.post(act);
    pair.post({ kind: "interrupt", vector: 0 });
    await pair.settle();
    await recovered(pair, ResetReason.ADMIN_TO, "admin_to");
  });

  test("a completion without its interrupt: MISSING_ADMIN_INTERRUPT", async () => {
    const pair = new EnaPair({});
    await pair.start();
    pair.tamper = dropInterrupt(0);
    const errno = pair.driver.ifnet.setMtu(1400);
    await pair.settle();
    pair.clock.advance(60_000);
    expect(await pair.run(errno)).toBe(Errno.ETIMEDOUT);
    await recovered(pair, ResetReason.MISSING_ADMIN_INTERRUPT, "missing_admin_interrupt");
  });

  test("a device that answers no register read fails attach with a sentence", async () => {
    const pair = new EnaPair({});
    pair.tamper = () => [];
    const attach = pair.attach();
    attach.catch(() => undefined);
    for (let i = 0; i < 8; i++) {
      await pair.settle();
      pair.clock.advance(10_000);
    }
    await expect(pair.run(attach)).rejects.toThrow(/can't be reset/);
  });

  test("a reset waits while the device answers no reads, and comes when it does", async () => {
    const pair = new EnaPair({});
    await pair.start();
    pair.nic.levers.requestReset();
    await pair.settle();
    pair.tamper = () => [];
    pair.clock.advance(1000);
    pair.driver.tick();
    for (let i = 0; i < 4; i++) {
      await pair.settle();
      pair.clock.advance(10_000);
    }
    await pair.settle();
    expect(pair.counter("total_resets")).toBe(0);
    await recovered(pair, ResetReason.DEVICE_REQUEST, "device_request_reset");
  });
});

describe("link loss", () => {
  test("in the middle of attach: attach rejects", async () => {
    for (let after = 0; after < 12; after++) {
      const pair = new EnaPair({});
      await pair.connect();
      const attach = pair.attach();
      attach.catch(() => undefined);
      for (let i = 0; i < after; i++) {
        pair.pump();
        await Promise.resolve();
      }
      pair.cut();
      await expect(attach).rejects.toThrow(/link/);
    }
  });

  test("in the middle of a reset, at every step: comes back whole", async () => {
    for (let after = 0; after < 60; after += 3) {
      const pair = new EnaPair({ queues: 2 });
      await pair.start();
      await sendAll(pair, 5);
      pair.nic.levers.requestReset();
      await pair.settle();
      pair.clock.advance(1000);
      pair.driver.tick();
      for (let i = 0; i < after; i++) {
        pair.deliverOne();
        await Promise.resolve();
      }
      pair.cut();
      expect(pair.driver.ifnet.linkState).toBe("down");
      await pair.reconnect();
      await pair.settle();
      expect(pair.driver.ifnet.linkState).toBe("up");
      const before = pair.segment.length;
      await sendAll(pair, 5);
      expect(pair.segment.length).toBe(before + 5);
      await pair.run(pair.driver.detach());
      expect(pair.outstanding).toBe(0);
      expect(pair.counter("rx_mbufs_in_use")).toBe(0);
    }
  });

  test("case-W8 in the middle of a bring-up in slices, at every slice: comes back whole", async () => {
    for (let after = 1; after < 26; after++) {
      const pair = new EnaPair({ queues: 3, driver: { rxRingSize: 2048 } });
      await pair.attach();
      const slow = everySliceEnds();
      const up = pair.driver.up();
      let isUp = false;
      void up.then(() => {
        isUp = true;
      });
      for (let slices = 0; slices < after; slices++) {
        await pair.until(() => isUp || slow.another());
      }
      slow.restore();
      pair.cut();
      await pair.run(up.catch(() => undefined));
      expect(pair.counter("rx_mbufs_in_use")).toBe(0);
      await pair.reconnect();
      expect(pair.driver.ifnet.linkState).toBe("up");
      await sendAll(pair, 5);
      await injectAll(pair, 5);
      await pair.run(pair.driver.detach());
      expect(pair.counter("rx_mbufs_in_use")).toBe(0);
    }
  });

  test("another MAC behind the new link: stays down; the right one: comes up", async () => {
    const pair = new EnaPair({});
    await pair.start();
    pair.cut();
    await pair.reconnect(undefined, { mac: Uint8Array.of(2, 0, 0, 0, 0, 0x55) });
    await seconds(pair, 3);
    expect(pair.driver.ifnet.linkState).toBe("down");
    pair.cut();
    await pair.reconnect();
    await pair.settle();
    expect(pair.driver.ifnet.linkState).toBe("up");
  });

  test("a smaller maximum MTU than ours: stays down", async () => {
    const pair = new EnaPair({ mtu: 9000 });
    await pair.start();
    pair.cut();
    await pair.reconnect(undefined, { maxMtu: 1500 });
    await seconds(pair, 2);
    expect(pair.driver.ifnet.linkState).toBe("down");
    expect(pair.counter("reset_failures")).toBe(1);
  });
});

describe("MTU", () => {
  test("refused outside the device's bounds, and followed inside", async () => {
    const pair = new EnaPair({});
    await pair.start();
    const { ifnet } = pair.driver;
    for (const mtu of [0, 127, 9217, 1500.5]) {
      expect(await pair.run(ifnet.setMtu(mtu))).toBe(Errno.EINVAL);
    }
    expect(ifnet.mtu).toBe(1500);
    expect(await pair.run(ifnet.setMtu(9216))).toBe(0);
    await pair.settle();
    expect(pair.inject(into(9230))).toBeUndefined();
    pair.flushPort();
    await pair.settle();
    expect(pair.inputs.at(-1)?.bytes).toEqual(into(9230));
  });
});

describe("pushes", () => {
  test("never more than the budget, and the source is told when there is room", async () => {
    const pushBytes = Limits.PUSH_BYTES_MIN;
    const pair = new EnaPair({ driver: { llq: false }, pushBytes });
    await pair.start();
    let sent = 0;
    while (pair.send(out(1514, sent)) === 0) sent++;
    expect(sent).toBe(Math.floor(pushBytes / 1514));
    expect(pair.counter("queue0", "tx_ring", "refused_budget")).toBe(1);
    await pair.settle();
    expect(pair.readyCalls).toBe(1);
    expect(pair.counter("pushed_bytes")).toBe(0);
    expect(pair.segment.length).toBe(sent);
  });

  test("a link without room refuses, and writableAgain wakes the source", async () => {
    const pair = new EnaPair({});
    await pair.start();
    pair.writable = false;
    expect(pair.send(out(60))).toBe(Errno.ENOBUFS);
    pair.writable = true;
    pair.driver.writableAgain();
    expect(pair.readyCalls).toBe(1);
    expect(pair.send(out(60))).toBe(0);
  });
});

test("case-X9 an event that comes while the driver detaches rings no doorbell during the reset", async () => {
  const pair = new EnaPair();
  await pair.start();
  const { regs } = pair.driver.adapter.com!;
  const write = regs.write.bind(regs);
  let inReset = false;
  const doorbells: number[] = [];
  vi.spyOn(regs, "write").mockImplementation((register, value) => {
    if (inReset && register === Register.AENQ_HEAD_DB) doorbells.push(value);
    write(register, value);
    if (register !== Register.DEV_CTL) return;
    inReset = value !== 0;
    // The interrupt of the device's last event was in flight when the reset began.
    if (inReset) pair.session.pci.interrupt(0);
  });
  pair.tamper = dropInterrupt(0);
  pair.nic.levers.requestReset();
  await pair.settle();
  await pair.run(pair.driver.detach());
  expect(doorbells).toEqual([]);
});
