/**
 * A guest that breaks the rules of the IO rings, one at a time and then at random: addresses,
 * doorbells, phases, request ids, lengths, replies. (fault-C1 to C12, inv-I2, inv-I5, inv-I7)
 */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Placement, SqDirection } from "../../shared/ena/admin.ts";
import type { EnaStatus, NicStatus } from "../../shared/status/device-status.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { CloseCode, Limits } from "../../shared/wire/protocol.ts";
import { SOAK } from "../support/counts.ts";
import { type EnaQueue, type TxFields, txDescriptor } from "../support/ena-guest.ts";
import { HostileStage } from "../support/hostile-stage.ts";
import { BASE, BUFFERS, broadcast, RawEna } from "../support/raw-ena.ts";
import { column, mmio, RawFrontend } from "../support/raw-frontend.ts";
import { portOf, sum } from "../support/status.ts";

/** Enough cases that some frames are right by chance, although device memory is full of garbage. */
const CASES = SOAK ? 10_000 : 4000;

let stage: HostileStage;

beforeAll(async () => {
  stage = await HostileStage.open();
});

afterAll(async () => {
  await stage.close();
});

async function nicOf(name: string): Promise<NicStatus & { readonly nic: EnaStatus }> {
  const { nics } = await stage.status();
  const { nic, ...rest } = nics.find((candidate) => candidate.name === name) ?? {};
  if (nic?.personality !== "ena") throw new Error(`${name} is not in the status`);
  return { ...(rest as NicStatus), nic };
}

/** Gives `attack` a guest with a receive and a transmit queue; then the guest leaves. */
async function attacked(
  attack: (guest: { ena: RawEna; tx: EnaQueue; rx: EnaQueue; name: string }) => Promise<void>,
  windows = true,
): Promise<void> {
  const name = stage.name();
  const guest = await RawEna.startWithQueues(stage.port, name, windows);
  try {
    await attack({ ...guest, name });
  } finally {
    await guest.ena.raw.end();
  }
}

/** Waits until everything is applied, including completions of reads. */
async function settled(ena: RawEna): Promise<void> {
  for (let i = 0; i < 4; i++) await ena.raw.survived();
}

describe("an honest raw guest", () => {
  afterAll(() => stage.unharmed());

  it.each([
    ["windows and pushes", true, true],
    ["windows, and nothing pushed", true, false],
    ["neither windows nor pushes", false, false],
  ])("sends and is completed with %s", async (_what, windows, push) => {
    await attacked(async ({ ena, tx, name }) => {
      for (let i = 0; i < 100; i += 20) {
        for (let k = 0; k < 20; k++) ena.transmit(tx, broadcast(60 + i + k), undefined, push);
        // Each frame that the device has to read takes a round trip.
        for (let look = 0; look < 100 && tx.cq.head < i + 20; look++) {
          await ena.raw.survived();
          ena.completed(tx);
        }
      }
      expect(tx.cq.head).toBe(100);
      expect((await nicOf(name)).faults).toEqual({});
      expect(portOf(await stage.status(), name).in.frames).toBe(100);
      expect(ena.strays).toEqual([]);
    }, windows);
  });

  it.each([
    ["4 x slot", (n: number) => (n % 64) * 4],
    ["up to 65535", (n: number) => 0xffff - (n % 64)],
  ])("case-W1 sends and receives with request ids %s", async (_what, idOf) => {
    await attacked(async ({ ena, rx, name }) => {
      ena.refill(rx, 64, idOf);
      await settled(ena);
      await attacked(async ({ ena: other, tx, name: sender }) => {
        const sent: number[] = [];
        const completed: number[] = [];
        for (let n = 0; n < 128; n++) {
          sent.push(idOf(n));
          other.transmit(tx, broadcast(60 + n), idOf(n));
          if (n % 32 !== 31) continue;
          await settled(other);
          completed.push(...other.completed(tx));
        }
        expect(completed).toEqual(sent);
        expect((await nicOf(sender)).faults).toEqual({});
      });
      await settled(ena);
      expect(ena.completed(rx)).toEqual(Array.from({ length: 64 }, (_, n) => idOf(n)));
      expect((await nicOf(name)).faults).toEqual({});
    });
  });

  it("receives what another one sends", async () => {
    await attacked(async ({ ena, rx }) => {
      ena.refill(rx, 32);
      await settled(ena);
      await attacked(async (other) => {
        for (let i = 0; i < 10; i++) other.ena.transmit(other.tx, broadcast(200));
        await settled(other.ena);
      });
      await settled(ena);
      expect(ena.completed(rx)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
      const at = ena.buffer(128) - BASE;
      expect(ena.memory.subarray(at, at + 200)).toEqual(broadcast(200));
    });
  });
});

describe("a transmit descriptor that is wrong", () => {
  afterAll(() => stage.unharmed());

  const sane = { length: 60, reqId: 0, address: BUFFERS };
  /** Descriptors of one packet; the fault; and whether the queue stops or drops the packet. */
  const table: [string, Partial<TxFields>[], string, "dropped" | "stopped"][] = [
    ["of length 0", [{ length: 0 }], "TX_ZERO_LENGTH", "dropped"],
    ["of 13 bytes", [{ length: 13 }], "TX_TOO_SHORT", "dropped"],
    ["of 65535 bytes", [{ length: 65_535 }], "TX_TOO_LONG", "dropped"],
    ["that leaves the address space", [{ address: 2 ** 48 - 10 }], "TX_ADDRESS_RANGE", "dropped"],
    ["outside our memory", [{ address: 0x7777_0000 }], "TX_READ_REFUSED", "dropped"],
    ["across our memory's end", [{ address: BASE + 0x10_0000 - 30 }], "TX_READ_REFUSED", "dropped"],
    [
      "with length 0 behind the first",
      [{ last: 0 }, { first: 0, length: 0 }],
      "TX_ZERO_LENGTH",
      "dropped",
    ],
    ["with the old phase", [{ phase: 0 }], "TX_WRONG_PHASE", "stopped"],
    ["without a first bit", [{ first: 0 }], "TX_FIRST_MISSING", "stopped"],
    [
      "with a first bit in the middle",
      [{ last: 0 }, { first: 1 }],
      "TX_FIRST_IN_MIDDLE",
      "stopped",
    ],
    [
      "with 40 pieces",
      Array.from({ length: 40 }, (_, i) => ({ first: i === 0 ? 1 : 0, last: i === 39 ? 1 : 0 })),
      "TX_TOO_MANY_DESCS",
      "stopped",
    ],
    ["with a TSO that has no meta", [{ offload: 1 << 7, length: 100 }], "TX_", "dropped"],
  ];

  it.each(table)("%s", async (_what, descriptors, fault, outcome) => {
    await attacked(async ({ ena, tx, name }) => {
      for (const fields of descriptors) ena.describe(tx, txDescriptor({ ...sane, ...fields }, tx));
      ena.ring(tx);
      await settled(ena);
      const { faults, nic } = await nicOf(name);
      const codes = Object.keys(faults);
      expect(codes).toHaveLength(1);
      expect(codes[0]).toMatch(new RegExp(`^${fault}`));
      expect(ena.raw.faults).toContain(codes[0]);
      if (outcome === "stopped") {
        expect(nic.tx[0]!.state).toBe(codes[0]);
        expect(ena.completed(tx)).toEqual([]);
        return;
      }
      // A dropped packet is completed too, and the queue continues.
      expect(ena.completed(tx)).toEqual([0]);
      ena.transmit(tx, broadcast(), 7);
      await settled(ena);
      expect(ena.completed(tx)).toEqual([7]);
      const port = portOf(await stage.status(), name);
      expect([port.in.frames, sum(port.lost.in)]).toEqual([1, 1]);
    });
  });

  it("fault-C2: a request id used again waits until its first use is completed", async () => {
    await attacked(async ({ ena, tx, name }) => {
      ena.raw.onRead = () => undefined;
      ena.transmit(tx, broadcast(), 3, false);
      ena.transmit(tx, broadcast(), 3, false);
      await settled(ena);
      expect((await nicOf(name)).nic.tx[0]!.state).toBe("reading");
      const read = ena.raw.heard.told.find(([what]) => what === "read");
      ena.raw.batch([Op.READ_REPLY, read![1], 0, broadcast()]);
      await settled(ena);
      // The first packet is completed before the second is looked at, so its request id is free
      // again.
      expect(ena.completed(tx)).toEqual([3]);
    });
  });

  it("fault-C12: a malformed meta descriptor costs its packet", async () => {
    await attacked(async ({ ena, tx, name }) => {
      ena.postMeta(tx, 0, 0, 255, 63);
      const offload = (1 << 7) | (1 << 13) | (1 << 14) | 8 | (12 << 8);
      ena.raw.batch(column(Op.PUSH, [{ address: BUFFERS, bytes: Buffer.alloc(200, 1) }]));
      ena.postTx(tx, 1, BUFFERS, 200, "l", offload);
      ena.ring(tx);
      await settled(ena);
      expect(ena.completed(tx)).toEqual([1]);
      expect(Object.keys((await nicOf(name)).faults)).toHaveLength(1);
    });
  });
});

describe("fault-C5, C6: doorbells", () => {
  afterAll(() => stage.unharmed());

  it.each([
    ["beyond the ring", 65, "TX_DOORBELL_BEYOND_RING"],
    ["far beyond the ring", 40_000, "TX_DOORBELL_BEYOND_RING"],
    ["of -1", 65_535, "TX_DOORBELL_BEYOND_RING"],
  ])("%s stops the queue", async (_what, value, fault) => {
    await attacked(async ({ ena, tx, name }) => {
      ena.ring(tx, value);
      await settled(ena);
      const { nic, faults } = await nicOf(name);
      expect(nic.tx[0]!.state).toBe(fault);
      expect(Object.keys(faults)).toEqual([fault]);
    });
  });

  it("backwards stops the queue", async () => {
    await attacked(async ({ ena, rx, name }) => {
      ena.refill(rx, 32);
      ena.ring(rx, 10);
      await settled(ena);
      // The device has read all 32 descriptors, so the value is behind its own index.
      expect((await nicOf(name)).nic.rx[0]!.state).toMatch(/^RX_DOORBELL_BEYOND_RING/);
    });
  });

  it("every value on a small ring stops it or moves it, and never takes it out of step", async () => {
    const name = stage.name();
    const ena = await RawEna.start(stage.port, name);
    let stopped = 0;
    // Indexes over the whole range, in steps that hit each residue of the depth. A stopped ring is
    // made again.
    let queue = await ena.createQueue(SqDirection.RX, 4);
    for (let value = 0; value < 65_536; value += 4097) {
      for (const v of [value, value + 1, value + 4, value + 5].map((x) => x & 0xffff)) {
        ena.ring(queue, v);
        await ena.raw.survived();
        const { nic } = await nicOf(name);
        if (nic.rx[0]!.state === "running") continue;
        stopped++;
        await ena.destroyQueue(queue);
        queue = await ena.createQueue(SqDirection.RX, 4);
        if (stopped % 4 === 0) {
          await ena.renew();
          queue = await ena.createQueue(SqDirection.RX, 4);
        }
      }
    }
    expect(stopped).toBeGreaterThan(10);
    await ena.raw.end();
  });

  it("of queues that never were, or are no more, are named and change nothing", async () => {
    await attacked(async ({ ena, tx, rx, name }) => {
      await ena.destroyQueue(tx);
      for (const offset of [tx.doorbell, 0x1000 + 4 * 100, 0x1ffc]) ena.write32(offset, 1);
      for (const offset of [0x2000 + 4 * 100, 0x3000 + 4 * 100]) ena.write32(offset, 1);
      await settled(ena);
      expect((await nicOf(name)).faults).toEqual({
        DOORBELL_NO_QUEUE: 3,
        UNMASK_NO_QUEUE: 1,
        NUMA_NO_QUEUE: 1,
      });
      ena.refill(rx, 8);
      await settled(ena);
      expect((await nicOf(name)).nic.rx[0]!.state).toBe("running");
    });
  });

  it("a hundred thousand of them are counted, and told at a bounded rate", async () => {
    await attacked(async ({ ena, name }) => {
      const ring = mmio(0x1ffc, 1);
      for (let i = 0; i < 100; i++) ena.raw.batch(...Array.from({ length: 1000 }, () => ring));
      await settled(ena);
      expect((await nicOf(name)).faults["DOORBELL_NO_QUEUE"]).toBe(100_000);
      expect(ena.raw.faults.length).toBeLessThan(200);
    });
  });
});

describe("receive buffers that are wrong", () => {
  afterAll(() => stage.unharmed());

  const table: [string, (ena: RawEna, rx: EnaQueue) => void, string][] = [
    ["the old phase", (ena, rx) => ena.postRx(rx, 0, ena.buffer(0), 2048, 0), "RX_WRONG_PHASE"],
    [
      "an address at the end of 48 bits",
      (ena, rx) => ena.postRx(rx, 0, 2 ** 48 - 1, 2048),
      "RX_ADDRESS_RANGE",
    ],
  ];

  it.each(table)("with %s stop the queue when a frame needs them", async (_what, post, fault) => {
    await attacked(async ({ ena, rx, name }) => {
      post(ena, rx);
      ena.ring(rx);
      await settled(ena);
      await attacked(async (other) => {
        other.ena.transmit(other.tx, broadcast());
        await settled(other.ena);
      });
      const { nic, faults } = await nicOf(name);
      expect(nic.rx[0]!.state).toBe(fault);
      expect(Object.keys(faults)).toEqual([fault]);
      expect(ena.strays).toEqual([]);
    });
  });

  it("fault-C9: outside all memory: the write is the frontend's to refuse", async () => {
    await attacked(async ({ ena, rx, name }) => {
      ena.postRx(rx, 0, 0x7777_0000, 2048);
      ena.ring(rx);
      await settled(ena);
      await attacked(async (other) => {
        other.ena.transmit(other.tx, broadcast());
        await settled(other.ena);
      });
      await settled(ena);
      expect(ena.strays).toEqual([{ address: 0x7777_0000, length: 60 }]);
      expect((await nicOf(name)).faults).toEqual({});
    });
  });

  it("fault-C10: smaller than the frame: it is scattered, or dropped and counted", async () => {
    for (const [bytes, taken] of [
      [64, true],
      [1, false],
    ] as const) {
      await attacked(async ({ ena, rx, name }) => {
        for (let i = 0; i < 32; i++) {
          ena.postRx(rx, i, ena.buffer(i), bytes);
        }
        ena.ring(rx);
        await settled(ena);
        await attacked(async (other) => {
          other.ena.transmit(other.tx, broadcast(200));
          await settled(other.ena);
        });
        await settled(ena);
        expect(ena.completed(rx)).toEqual(taken ? [0, 1, 2, 3] : []);
        const { out } = portOf(await stage.status(), name);
        expect(sum(out.dropped)).toBe(taken ? 0 : 1);
      });
    }
  });

  it("fault-C8, C18: never offered: frames for it are dropped by reason", async () => {
    await attacked(async ({ name }) => {
      await attacked(async (other) => {
        for (let i = 0; i < 20; i++) other.ena.transmit(other.tx, broadcast());
        await settled(other.ena);
      });
      expect(portOf(await stage.status(), name).out.dropped).toEqual({ rx_overrun: 20 });
    });
  });
});

describe("reads", () => {
  afterAll(() => stage.unharmed());

  it("a reply that nobody asked for ends the connection", async () => {
    for (const tag of [0, 1, 2 ** 32 - 1]) {
      const raw = await RawFrontend.join(stage.port, stage.name());
      raw.batch([Op.READ_REPLY, tag, 0, Buffer.alloc(4)]);
      const { code, reason } = await raw.closed;
      expect(code).toBe(CloseCode.PROTOCOL);
      expect(reason).toMatch(/^read_reply: tag \d+ was never used/);
    }
  });

  it("a second reply to one read ends the connection", async () => {
    const { ena, tx } = await RawEna.startWithQueues(stage.port, stage.name());
    ena.raw.onRead = () => undefined;
    ena.transmit(tx, broadcast(), 0, false);
    await settled(ena);
    const [, tag] = ena.raw.heard.told.find(([what]) => what === "read")!;
    ena.raw.batch([Op.READ_REPLY, tag, 0, broadcast()], [Op.READ_REPLY, tag, 0, broadcast()]);
    expect((await ena.raw.closed).reason).toMatch(/is answered/);
  });

  it.each([
    ["refused", "refuse" as const],
    ["answered with one byte less", broadcast(59)],
    ["answered with one byte more", broadcast(61)],
    ["answered with nothing", Buffer.alloc(0)],
  ])("%s cost the packet, which is completed", async (_what, answer) => {
    await attacked(async ({ ena, tx, name }) => {
      ena.raw.onRead = () => answer;
      ena.transmit(tx, broadcast(60), 5, false);
      await settled(ena);
      expect(ena.completed(tx)).toEqual([5]);
      expect((await nicOf(name)).faults).toEqual({ TX_READ_REFUSED: 1 });
      expect(portOf(await stage.status(), name).lost.in).toEqual({ host_refused: 1 });
    });
  });

  it("never answered hold that queue alone; reset frees it, and the late answer is dropped", async () => {
    await attacked(async ({ ena, tx, name }) => {
      ena.raw.onRead = () => undefined;
      ena.transmit(tx, broadcast(), 0, false);
      await settled(ena);
      expect((await nicOf(name)).nic.tx[0]!.state).toBe("reading");
      await ena.reset();
      const [, tag] = ena.raw.heard.told.find(([what]) => what === "read")!;
      ena.raw.batch([Op.READ_REPLY, tag, 0, broadcast()]);
      expect(await ena.raw.survived()).toBe(true);
      ena.setUpAdmin();
      const again = await ena.createQueue(SqDirection.TX);
      ena.transmit(again, broadcast(), 1);
      await settled(ena);
      expect(ena.completed(again)).toEqual([1]);
    });
  });
});

describe("windows and pushes", () => {
  afterAll(() => stage.unharmed());

  const M = 1 << 20;
  const zeros = (n: number) => Buffer.alloc(n);
  it.each<[string, unknown[][], RegExp]>([
    [
      "a window twice",
      [
        [Op.WINDOW, M, 64],
        [Op.WINDOW, M, 64],
      ],
      /overlaps/,
    ],
    [
      "a window that overlaps by a byte",
      [
        [Op.WINDOW, M, 64],
        [Op.WINDOW, M + 63, 64],
      ],
      /overlaps/,
    ],
    [
      "a window around another",
      [
        [Op.WINDOW, M, 64],
        [Op.WINDOW, M - 64, 4096],
      ],
      /overlaps/,
    ],
    ["a window of no bytes", [[Op.WINDOW, M, 0]], /length 0/],
    ["a window of more than 4 MiB", [[Op.WINDOW, M, 4 * M + 1]], /window: length/],
    [
      "1025 windows",
      Array.from({ length: 1025 }, (_, i) => [Op.WINDOW, M + i * 4096, 4096]),
      /more than 1024 windows/,
    ],
    [
      "windows of more than 64 MiB",
      Array.from({ length: 17 }, (_, i) => [Op.WINDOW, i * 4 * M, 4 * M]),
      /more than 1024 windows or/,
    ],
    ["the end of no window", [[Op.END_WINDOW, M]], /no window begins/],
    [
      "the end inside a window",
      [
        [Op.WINDOW, M, 64],
        [Op.END_WINDOW, M + 8],
      ],
      /no window begins/,
    ],
    ["a write outside", [column(Op.WRITE, [{ address: M, bytes: zeros(4) }])], /lies in no window/],
    [
      "a write across a window's end",
      [[Op.WINDOW, M, 64], column(Op.WRITE, [{ address: M + 62, bytes: zeros(4) }])],
      /lies in no window/,
    ],
    [
      "a write to a window that is gone",
      [[Op.WINDOW, M, 64], [Op.END_WINDOW, M], column(Op.WRITE, [{ address: M, bytes: zeros(4) }])],
      /lies in no window/,
    ],
    [
      "a write to a grant",
      [[Op.WINDOW, M, 64], column(Op.WRITE, [{ address: M, bytes: zeros(4), space: 1 }])],
      /space 1/,
    ],
    [
      "a push to a grant",
      [column(Op.PUSH, [{ address: M, bytes: zeros(4), space: 1 }])],
      /space 1/,
    ],
  ])("%s ends the connection", async (_what, transactions, sentence) => {
    const raw = await RawFrontend.join(stage.port, stage.name());
    raw.batch(...transactions);
    const { code, reason } = await raw.closed;
    expect(code).toBe(CloseCode.PROTOCOL);
    expect(reason).toMatch(sentence);
  });

  it("a window at the end of the address space can't leave it", async () => {
    const raw = await RawFrontend.join(stage.port, stage.name());
    raw.batch([Op.WINDOW, Limits.ADDRESS, 4096]);
    const { code, reason } = await raw.closed;
    expect(code).toBe(CloseCode.PROTOCOL);
    expect(reason).toMatch(/^window: /);
  });

  it("a window that goes away under a ring stops that queue", async () => {
    await attacked(async ({ ena, tx, name }) => {
      ena.raw.batch([Op.END_WINDOW, BASE]);
      await settled(ena);
      ena.raw.batch(mmio(tx.doorbell, 1));
      await settled(ena);
      expect((await nicOf(name)).nic.tx[0]!.state).toBe("RING_WINDOW_FREED");
    });
  });

  it.each([
    ["in bytes", 65_536, 300],
    ["in number", 1, 70_000],
  ])("fault-J4: pushes beyond the budget %s end the connection", async (_what, bytes, count) => {
    const raw = await RawFrontend.join(stage.port, stage.name());
    const piece = (i: number) => ({ address: 2 ** 33 + i * bytes, bytes: zeros(bytes) });
    const each = Math.min(8000, Math.floor(900_000 / (bytes + 16)));
    for (let i = 0; i < count && raw.open; i += each) {
      raw.batch(
        column(
          Op.PUSH,
          Array.from({ length: each }, (_, k) => piece(i + k)),
        ),
      );
    }
    const { code, reason } = await raw.closed;
    expect(code).toBe(CloseCode.LIMIT);
    expect(reason).toMatch(/^push: \d+ entries of \d+ bytes wait/);
  });

  it("pushes of one address a hundred times keep their count straight", async () => {
    await attacked(async ({ ena, tx, name }) => {
      for (let i = 0; i < 100; i++) {
        ena.raw.batch(column(Op.PUSH, [{ address: ena.buffer(0), bytes: broadcast() }]));
      }
      ena.transmit(tx, broadcast(), 0);
      await settled(ena);
      expect(ena.completed(tx)).toEqual([0]);
      await ena.reset();
      const { memory } = await nicOf(name);
      expect([memory.pushesLive, memory.pushBytes]).toEqual([0, 0]);
    });
  });
});

describe("at random", () => {
  afterAll(() => stage.unharmed());

  /** Makes new queues whenever the old ones have stopped. */
  async function storm(
    count: number,
    placement: Placement,
    step: (ena: RawEna, tx: EnaQueue, rx: EnaQueue) => void,
  ): Promise<void> {
    const name = stage.name();
    const ena = await RawEna.start(stage.port, name);
    if (placement === Placement.DEV) await ena.enableLlq();
    const make = async () => [
      await ena.createQueue(SqDirection.TX, 64, 1, placement),
      await ena.createQueue(SqDirection.RX),
    ];
    let [tx, rx] = (await make()) as [EnaQueue, EnaQueue];
    for (let done = 0; done < count; done++) {
      step(ena, tx, rx);
      if (done % 10 !== 9) continue;
      expect(await ena.raw.survived(), stage.seeded("the connection ended")).toBe(true);
      ena.completed(tx);
      ena.completed(rx);
      await ena.renew(stage.random.below(21));
      if (placement === Placement.DEV) await ena.enableLlq();
      [tx, rx] = (await make()) as [EnaQueue, EnaQueue];
    }
    // The storm must get past the first checks: it has to cause several kinds of faults.
    const { faults } = await nicOf(name);
    expect(Object.keys(faults).length, stage.seeded(JSON.stringify(faults))).toBeGreaterThan(5);
    const port = portOf(await stage.status(), name);
    expect(port.in.frames, stage.seeded("no frame got through")).toBeGreaterThan(0);
    // After all that, the device still handles a correct guest.
    await ena.renew();
    const last = await ena.createQueue(SqDirection.TX);
    ena.transmit(last, broadcast(), 9);
    await settled(ena);
    expect(ena.completed(last), stage.seeded("not completed")).toEqual([9]);
    await ena.raw.end();
  }

  const fields = (): TxFields => {
    const { random } = stage;
    return {
      length: random.oneIn(3) ? random.edgy(16) : 60,
      reqId: random.oneIn(4) ? random.edgy(16) : random.below(64),
      address: random.oneIn(3) ? random.edgy(48) : BUFFERS + random.below(0x8_0000),
      first: random.oneIn(6) ? 0 : 1,
      last: random.oneIn(6) ? 0 : 1,
      offload: random.oneIn(3) ? random.u32() & 0x3_ffff : 0,
      headerLength: random.oneIn(3) ? random.below(256) : 0,
    };
  };

  it("property: descriptors, doorbells and pushes of any kind harm that NIC alone", async () => {
    const { random } = stage;
    await storm(CASES, Placement.HOST, (ena, tx, rx) => {
      const queue = random.oneIn(4) ? rx : tx;
      for (let n = random.below(4); n >= 0; n--) {
        ena.describe(queue, random.oneIn(4) ? random.bytes(16) : txDescriptor(fields(), queue));
      }
      if (random.oneIn(2)) {
        const bytes = random.bytes(random.below(2000) + 1);
        ena.raw.batch(column(Op.PUSH, [{ address: BUFFERS + random.below(0x8_0000), bytes }]));
      }
      ena.ring(queue, random.oneIn(10) ? random.edgy(16) : queue.sq.head);
    });
  });

  it("property: fault-C11: garbage in device memory harms that NIC alone", async () => {
    const { random } = stage;
    await storm(CASES, Placement.DEV, (ena, tx) => {
      const entry = random.bytes(128);
      if (!random.oneIn(3)) entry.set(txDescriptor(fields(), tx), random.oneIn(2) ? 0 : 16);
      const offset = random.oneIn(8) ? random.edgy(24) : tx.llqOffset + tx.sq.slot * 128;
      ena.raw.batch(column(Op.MMIO_WRITE, [{ address: offset, bytes: entry, space: 2 }]));
      tx.sq.next();
      ena.ring(tx, random.oneIn(20) ? random.edgy(16) : tx.sq.head);
    });
  });

  it("property: reads are answered with anything", async () => {
    const { random } = stage;
    const name = stage.name();
    let ena = await RawEna.start(stage.port, name, false);
    let tx: EnaQueue | undefined;
    for (let done = 0; done < CASES; done += 10) {
      if (tx === undefined) tx = await ena.createQueue(SqDirection.TX);
      const honest = ena.raw.onRead;
      ena.raw.onRead = (address, length, tag) => {
        switch (random.below(5)) {
          case 0:
            return "refuse";
          case 1:
            return random.bytes(random.below(200));
          case 2:
            return random.bytes(length);
          default:
            return honest(address, length, tag);
        }
      };
      for (let i = 0; i < 10; i++) ena.transmit(tx, broadcast(), undefined, random.oneIn(2));
      await settled(ena);
      ena.raw.onRead = honest;
      await ena.renew();
      tx = undefined;
      if (!ena.raw.open) ena = await RawEna.start(stage.port, name, false);
    }
    await ena.raw.end();
  });
});
