/** Memory for all peers together: its accounts, and a device that refuses what would pass it. */
import { afterEach, describe, expect, it } from "vitest";
import type { Device } from "../../device/index.ts";
import { LITTLE_BYTES, MemoryAccount, MemoryBudget } from "../../shared/memory-budget.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { CloseCode, Limits } from "../../shared/wire/protocol.ts";
import { testDevice } from "../support/device-server.ts";
import { RawEna } from "../support/raw-ena.ts";
import { column, RawFrontend } from "../support/raw-frontend.ts";

const MIB = 1 << 20;

describe("MemoryBudget", () => {
  it("keeps its last quarter for those who hold little", () => {
    const budget = new MemoryBudget(100 * MIB);
    const [large, small] = [new MemoryAccount(budget), new MemoryAccount(budget)];
    expect(large.charge("windows", 75 * MIB)).toBe(true);
    expect(large.charge("pushes", 1)).toBe(false);
    expect(small.charge("messages", LITTLE_BYTES)).toBe(true);
    expect(small.charge("messages", 1)).toBe(false);
    expect(new MemoryAccount(budget).charge("windows", LITTLE_BYTES)).toBe(true);
    expect(budget.snapshot()).toEqual({
      limitBytes: 100 * MIB,
      windowBytes: 83 * MIB,
      pushBytes: 0,
      messageBytes: 8 * MIB,
      refused: { windows: 0, pushes: 1, messages: 1 },
    });
    const third = new MemoryAccount(budget);
    expect(third.charge("windows", LITTLE_BYTES)).toBe(true);
    expect(third.charge("windows", 1)).toBe(false);
  });

  it("has all back when its peers have gone, in whatever order they gave it back", () => {
    const budget = new MemoryBudget(MIB);
    const accounts = [1, 2, 3].map(() => new MemoryAccount(budget));
    for (const account of accounts) {
      expect(account.charge("windows", 5000) && account.charge("pushes", 70)).toBe(true);
      account.release("pushes", 20);
    }
    expect(budget.held).toBe(3 * 5050);
    accounts[1]!.release("windows", 5000);
    accounts[2]!.holdMessage(4096, false);
    for (const account of accounts) account.close();
    expect(budget.held).toBe(4096);
    accounts[2]!.holdMessage(0, false);
    expect([budget.held, budget.heldBy]).toEqual([0, { windows: 0, pushes: 0, messages: 0 }]);
  });
});

describe("attack-S7 unfinished messages", () => {
  /** Accounts that give their message back when they are refused; `refused` has their numbers. */
  const accountsOf = (budget: MemoryBudget, n: number, refused: number[]) =>
    Array.from({ length: n }, (_, i) => {
      const account = new MemoryAccount(budget);
      account.onNoRoom = () => {
        refused.push(i);
        account.holdMessage(0, false);
      };
      return account;
    });

  it("have a quarter; without room, the peer goes that has ended none for longest", () => {
    const budget = new MemoryBudget(16 * MIB);
    const refused: number[] = [];
    const accounts = accountsOf(budget, 6, refused);
    for (const account of accounts.slice(0, 4)) account.holdMessage(MIB, false);
    expect([refused, budget.heldBy.messages]).toEqual([[], 4 * MIB]);
    // The first of them is a busy peer: it ends a message each time.
    accounts[0]!.holdMessage(MIB, true);
    accounts[4]!.holdMessage(MIB, false);
    accounts[5]!.holdMessage(MIB, false);
    expect([refused, budget.heldBy.messages]).toEqual([[1, 2], 4 * MIB]);
    accounts[3]!.holdMessage(MIB + 1, false);
    expect(refused).toEqual([1, 2, 3]);
    expect(accounts[3]!.held).toBe(0);
    expect(new MemoryAccount(budget).charge("windows", 8 * MIB)).toBe(true);
    for (const account of accounts) account.holdMessage(0, false);
    expect([budget.heldBy.messages, budget.unfinished.size]).toEqual([0, 0]);
  });

  it("are refused to the peer itself when they alone pass the budget", () => {
    const budget = new MemoryBudget(MIB);
    const refused: number[] = [];
    const [one, other] = accountsOf(budget, 2, refused);
    one!.holdMessage(MIB / 8, false);
    other!.holdMessage(MIB, false);
    expect([refused, budget.heldBy.messages]).toEqual([[0, 1], 0]);
  });
});

describe("attack-S7 a device", () => {
  const opened: Device[] = [];
  afterEach(async () => {
    for (const device of opened.splice(0)) await device.close();
  });
  const open = async (memoryBytes?: number): Promise<Device> => {
    const device = await testDevice({ memoryBytes });
    opened.push(device);
    return device;
  };

  /** Takes windows of 4 MiB until the link ends, or `most` of them. */
  const takeWindows = (raw: RawFrontend, most: number): void => {
    for (let i = 0; i < most; i++) {
      raw.batch([Op.WINDOW, 0x1000_0000 * (i + 1), Limits.WINDOW_BYTES]);
    }
  };

  it("refuses windows that pass its memory, by code and words; others go on, and may join", async () => {
    const device = await open(64 * MIB);
    const { ena, tx } = await RawEna.startWithQueues(device.port, "honest");
    const before = device.status().nicMemory.windowBytes;
    // 48 MiB of 64 are for those who hold much.
    const first = await RawFrontend.join(device.port, "stranger0");
    takeWindows(first, 11);
    expect(await first.survived()).toBe(true);
    for (const name of ["stranger1", "stranger2"]) {
      const raw = await RawFrontend.join(device.port, name);
      takeWindows(raw, 3);
      const { code, reason } = await raw.closed;
      expect(code).toBe(CloseCode.NO_MEMORY);
      expect(reason).toMatch(
        /^window of 4194304 bytes: this device holds \d+ bytes for all its NICs/,
      );
    }
    expect(await first.survived()).toBe(true);
    const late = await RawEna.startWithQueues(device.port, "late");
    ena.transmit(tx, Buffer.alloc(60, 2));
    expect(await ena.raw.survived()).toBe(true);
    expect(await late.ena.raw.survived()).toBe(true);
    expect(device.status().nicMemory.refused.windows).toBe(2);
    for (const raw of [first, late.ena.raw]) await raw.end();
    expect(await ena.raw.survived()).toBe(true);
    expect(device.status().nicMemory.windowBytes).toBe(before);
  });

  it("counts a window that its driver ends no more", async () => {
    const device = await open(64 * MIB);
    const raw = await RawFrontend.join(device.port, "raw");
    for (let i = 0; i < 40; i++) {
      raw.batch([Op.WINDOW, 0x1000_0000, Limits.WINDOW_BYTES], [Op.END_WINDOW, 0x1000_0000]);
    }
    expect(await raw.survived()).toBe(true);
    expect(device.status().nicMemory).toMatchObject({ windowBytes: 0, refused: { windows: 0 } });
  });

  it("refuses pushes that outlive their batch and pass its memory", async () => {
    const device = await open(10 * MIB);
    const raw = await RawFrontend.join(device.port, "raw");
    const honest = await RawEna.startWithQueues(device.port, "honest");
    for (let i = 0; i < 15; i++) {
      const bytes = Buffer.alloc(Limits.RECORD_BYTES);
      const pieces = [0, 1, 2, 3, 4, 5].map((j) => ({
        address: (i * 8 + j) * 0x4_0000 + 1,
        bytes,
      }));
      raw.batch(column(Op.PUSH, pieces));
    }
    const { code, reason } = await raw.closed;
    expect(code).toBe(CloseCode.NO_MEMORY);
    expect(reason).toMatch(/bytes of pushes: this device holds \d+ bytes/);
    expect(await honest.ena.raw.survived()).toBe(true);
    const { pushBytes, refused } = device.status().nicMemory;
    expect([pushBytes, refused]).toEqual([0, { windows: 0, pushes: 1, messages: 0 }]);
  });

  it("has a part of the machine's memory by default", async () => {
    const { limitBytes } = (await open()).status().nicMemory;
    expect(limitBytes).toBeGreaterThanOrEqual(Limits.WINDOWS_BYTES);
    expect(limitBytes).toBeLessThan(2 ** 53);
  });
});
