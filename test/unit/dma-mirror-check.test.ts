/**
 * The check that both copies of coherent memory are equal, and the end of a link when they differ.
 */
import { afterEach, describe, expect, test, vi } from "vitest";
import { DmaError } from "../../device/dma/host-memory.ts";
import { type Divergence, type Mirror, MirrorCheck } from "../../device/dma/mirror-check.ts";
import { WindowTable } from "../../device/dma/window-table.ts";
import type { Device } from "../../device/index.ts";
import { EnaDriver } from "../../frontend/ena/index.ts";
import { MbufPool } from "../../frontend/net/mbuf.ts";
import { Session } from "../../frontend/session.ts";
import { XenDriver } from "../../frontend/xen/index.ts";
import { silentLogger } from "../../shared/log.ts";
import { Limits } from "../../shared/wire/protocol.ts";
import { busAddress, Space } from "../../shared/wire/records.ts";
import { testDevice } from "../support/device-server.ts";
import { eventually } from "../support/process.ts";
import { Random } from "../support/random.ts";

const ADDRESS = busAddress(0x10_000);

/** Two copies, and a frontend that answers reads from its own. */
function copies(bytes: number) {
  const ours = new Uint8Array(bytes);
  const theirs = new Uint8Array(bytes);
  const found: Divergence[] = [];
  const mirrors: Mirror[] = [{ space: Space.BUS, address: ADDRESS, bytes: ours }];
  /** `run` is called between the read and its reply. */
  const between = { run: () => {} };
  const lengths: number[] = [];
  const check = new MirrorCheck(
    async (_space, address, length) => {
      lengths.push(length);
      const answer = theirs.slice(address - ADDRESS, address - ADDRESS + length);
      between.run();
      return await Promise.resolve(answer);
    },
    () => mirrors,
    (where) => found.push(where),
  );
  return { ours, theirs, found, mirrors, between, lengths, check };
}

describe("MirrorCheck", () => {
  test.each([0, 1, 70_000, 150_000])(
    "fault-F5: a flipped bit at byte %d is found, believed at the third look, and told once",
    async (at) => {
      const { theirs, found, check } = copies(150_001);
      theirs[at] = 4;
      // The first two looks reach the byte; two more have to confirm the difference.
      for (let ticks = 0; ticks < 2; ticks++) await check.tick();
      expect(found).toEqual([]);
      for (let ticks = 0; ticks < 6; ticks++) await check.tick();
      expect(found).toEqual([{ space: Space.BUS, address: ADDRESS + at, ours: 0, theirs: 4 }]);
    },
  );

  test("fault-F5: damage in many places hides none of it", async () => {
    const { theirs, found, check } = copies(150_001);
    for (const at of [7, 70_000, 150_000]) theirs[at] = 4;
    for (let ticks = 0; ticks < 4; ticks++) await check.tick();
    expect(found).toEqual([{ space: Space.BUS, address: ADDRESS + 7, ours: 0, theirs: 4 }]);
  });

  test("fault-F5: what is posted late, or changes on the way, is no divergence", async () => {
    const { ours, theirs, found, between, check } = copies(8192);
    const random = new Random(55);
    for (let ticks = 0; ticks < 200; ticks++) {
      const at = random.below(8192);
      // The frontend has written and not posted yet; it posts before the next look but one.
      theirs[at] = random.below(256);
      await check.tick();
      // The device writes while the reply is in flight.
      between.run = () => {
        const other = random.below(8192);
        ours[other] = theirs[other] = random.below(256);
      };
      ours[at] = theirs[at]!;
    }
    expect(found).toEqual([]);
  });

  test("fault-F5: a window that goes, or another in its place, is no divergence", async () => {
    const { theirs, found, mirrors, between, check } = copies(4096);
    theirs[5] = 1;
    between.run = () => {
      mirrors[0] = { space: Space.BUS, address: ADDRESS, bytes: new Uint8Array(4096) };
    };
    for (let ticks = 0; ticks < 10; ticks++) await check.tick();
    between.run = () => {
      throw new DmaError("DMA_REFUSED", "gone");
    };
    for (let ticks = 0; ticks < 10; ticks++) await check.tick();
    mirrors.length = 0;
    await check.tick();
    expect(found).toEqual([]);
  });

  test("looks at a megabyte a tick, at most 64 KiB a read, and comes round", async () => {
    const { check, lengths } = copies(3 << 20);
    for (let ticks = 1; ticks <= 3; ticks++) {
      await check.tick();
      expect(check.compared).toBe(ticks << 20);
    }
    expect(Math.max(...lengths)).toBe(Limits.READ_BYTES);
    expect(lengths).toHaveLength((3 << 20) / Limits.READ_BYTES);
    expect(check.compared).toBe(3 << 20);
  });
});

describe("MirrorCheck, look by look", () => {
  const ELSEWHERE = busAddress(0x50_000);

  /** Mirrors at these places, and what the check asks for: space, address, length. */
  function stage(...sizes: [space: Space, address: number, bytes: number][]) {
    const mirrors = sizes.map(([space, address, bytes]) => ({
      space,
      address: busAddress(address),
      bytes: new Uint8Array(bytes),
    }));
    const theirs = new Map(mirrors.map((mirror) => [mirror, mirror.bytes.slice()]));
    const asked: (readonly number[])[] = [];
    const found: Divergence[] = [];
    const answer = { run: () => {} };
    const check = new MirrorCheck(
      async (space, address, length) => {
        asked.push([space, address, length]);
        const mirror = mirrors.find(
          (m) => m.space === space && address >= m.address && address < m.address + m.bytes.length,
        )!;
        const at = address - mirror.address;
        const bytes = theirs.get(mirror)!.slice(at, at + length);
        answer.run();
        return await Promise.resolve(bytes);
      },
      () => mirrors,
      (where) => found.push(where),
    );
    const asks = async () => {
      await check.tick();
      return asked.splice(0);
    };
    return { mirrors, theirs, found, answer, check, asks };
  }

  test("goes through all mirrors once a tick, in their order, and counts each byte", async () => {
    const { check, asks } = stage([Space.BUS, ADDRESS, 100], [Space.GRANT, ELSEWHERE, 65_537]);
    const round = [
      [Space.BUS, ADDRESS, 100],
      [Space.GRANT, ELSEWHERE, 65_536],
      [Space.GRANT, ELSEWHERE + 65_536, 1],
    ];
    // The end of the list ends the tick.
    expect(await asks()).toEqual(round);
    expect(await asks()).toEqual(round);
    expect(check.compared).toBe(2 * 65_637);
  });

  test("a suspect is looked at by itself first; the third look ends it all", async () => {
    const { mirrors, theirs, found, asks } = stage(
      [Space.BUS, ADDRESS, 100],
      [Space.GRANT, ADDRESS, 200],
    );
    theirs.get(mirrors[1]!)![150] = 1;
    const round = [
      [Space.BUS, ADDRESS, 100],
      [Space.GRANT, ADDRESS, 200],
    ];
    expect(await asks()).toEqual(round);
    expect(await asks()).toEqual([[Space.GRANT, ADDRESS + 150, 1], ...round]);
    expect(found).toEqual([]);
    expect(await asks()).toEqual([[Space.GRANT, ADDRESS + 150, 1]]);
    expect(found).toEqual([{ space: Space.GRANT, address: ADDRESS + 150, ours: 0, theirs: 1 }]);
    expect(await asks()).toEqual([]);
  });

  test.each([
    ["equal in between", (theirs: Uint8Array, look: number) => (theirs[5] = look === 1 ? 0 : 1)],
    ["another value of theirs", (theirs: Uint8Array, look: number) => (theirs[5] = 1 + (look & 1))],
  ])("only looks in a row count: %s", async (_, change) => {
    const { mirrors, theirs, found, asks } = stage([Space.BUS, ADDRESS, 100]);
    const bytes = theirs.get(mirrors[0]!)!;
    for (let look = 0; look < 3; look++) {
      change(bytes, look);
      await asks();
    }
    expect(found).toEqual([]);
    bytes[5] = 9;
    for (let look = 0; look < 2; look++) await asks();
    expect(found).toEqual([]);
    await asks();
    expect(found).toMatchObject([{ theirs: 9 }]);
  });

  test("another value of ours begins anew", async () => {
    const { mirrors, theirs, found, asks } = stage([Space.BUS, ADDRESS, 100]);
    theirs.get(mirrors[0]!)![5] = 1;
    for (const ours of [0, 2, 2]) {
      mirrors[0]!.bytes[5] = ours;
      await asks();
    }
    expect(found).toEqual([]);
    await asks();
    expect(found).toMatchObject([{ ours: 2, theirs: 1 }]);
  });

  test("what the device writes during a look is none, even where it differs", async () => {
    const { mirrors, theirs, found, answer, asks } = stage([Space.BUS, ADDRESS, 100]);
    const ours = mirrors[0]!.bytes;
    answer.run = () => {
      ours[5] = ours[5]! + 1;
    };
    for (let look = 0; look < 5; look++) await asks();
    expect(theirs.get(mirrors[0]!)![5]).toBe(0);
    expect(found).toEqual([]);
  });

  test.each([0, 65_535, 65_536, 65_537])(
    "a suspect at byte %i of a long mirror stays one until its own bytes are equal",
    async (at) => {
      const { mirrors, theirs, found, asks } = stage([Space.BUS, ADDRESS, 3 * 65_536]);
      const bytes = theirs.get(mirrors[0]!)!;
      bytes[at] = 1;
      for (let look = 0; look < 3; look++) await asks();
      expect(found).toMatchObject([{ address: ADDRESS + at }]);
    },
  );

  test("a suspect whose mirror is gone is forgotten; back, it needs three looks again", async () => {
    const { mirrors, theirs, found, asks } = stage(
      [Space.BUS, ADDRESS, 100],
      [Space.BUS, ELSEWHERE, 9],
    );
    const [gone] = mirrors as [(typeof mirrors)[0]];
    theirs.get(gone)![99] = 1;
    await asks();
    await asks();
    mirrors.shift();
    expect(await asks()).toEqual([[Space.BUS, ELSEWHERE, 9]]);
    mirrors.unshift(gone);
    await asks();
    await asks();
    expect(found).toEqual([]);
    await asks();
    expect(found.length).toBe(1);
  });

  test("one question at a time; an error that is no refusal is the caller's", async () => {
    let fail: ((error: Error) => void) | undefined;
    let asked = 0;
    const check = new MirrorCheck(
      () => {
        asked++;
        return new Promise((_, reject) => {
          fail = reject;
        });
      },
      () => [{ space: Space.BUS, address: ADDRESS, bytes: new Uint8Array(9) }],
      () => {},
    );
    const first = check.tick();
    await check.tick();
    expect(asked).toBe(1);
    fail!(new TypeError("a bug"));
    await expect(first).rejects.toThrow("a bug");
    // The round had come to its end.
    await check.tick();
    const second = check.tick();
    await new Promise((resolve) => setImmediate(resolve));
    expect(asked).toBe(2);
    fail!(new DmaError("DMA_REFUSED", "gone"));
    await expect(second).resolves.toBe(undefined);
  });
});

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  for (const each of open.splice(0)) await each.close();
});

describe.each(["ena", "xen"])(
  "a device that checks its windows, and a NIC of %s",
  (personality) => {
    async function running(): Promise<{ device: Device; session: Session }> {
      const device = await testDevice({ maxQueues: 2, checkWindows: true });
      const { port } = device;
      const session = new Session({
        connect: `ws://127.0.0.1:${port}`,
        name: "a",
        personality,
        agent: "test",
        queues: 2,
        log: silentLogger,
        driver: (context) =>
          personality === "xen" ? new XenDriver(context) : new EnaDriver(context),
      });
      open.push(session, device);
      await session.start();
      await session.driver.up();
      return { device, session };
    }

    const nic = (device: Device) => device.status().nics[0];

    test("fault-F5: finds nothing while it sends, goes down and comes up", async () => {
      const { device, session } = await running();
      const pool = new MbufPool(2048, 256);
      const { ifnet } = session.driver;
      let compared = 0;
      for (let round = 0; round < 3; round++) {
        for (let i = 0; i < 20; i++) {
          const m = pool.get()!;
          m.length = 200;
          m.pktLength = 200;
          // A frame is refused while the link is down, or while the ring is full.
          await eventually("room for a frame", () => (ifnet.send(m) === 0 ? true : undefined));
        }
        await session.driver.settled();
        // Waits until every byte was compared at least once.
        await eventually("a whole round of looks", () => {
          const { windowBytes = 0, windowBytesCompared = 0 } = nic(device)?.memory ?? {};
          if (windowBytesCompared < compared + windowBytes / 2) return undefined;
          compared = windowBytesCompared;
          return true;
        });
        await session.driver.down();
        await session.driver.up();
      }
      expect(ifnet.counters.opackets).toBe(60);
      expect(nic(device)?.faults["WINDOW_DIVERGED"]).toBeUndefined();
      expect(session.reconnects).toBe(0);
    });

    test.each(["device", "frontend"])(
      "fault-F5: a bit that flips in the copy of the %s is named, and the NIC starts over",
      async (side) => {
        const { add } = WindowTable.prototype;
        const deviceCopies: Uint8Array[] = [];
        vi.spyOn(WindowTable.prototype, "add").mockImplementation(function (
          this: WindowTable,
          ...args
        ) {
          const window = add.apply(this, args);
          deviceCopies.push(window.bytes);
          return window;
        });
        const { device, session } = await running();
        await session.driver.settled();
        const all =
          side === "device" ? deviceCopies : [...session.space.windows].map((w) => w.bytes);
        // The last byte of the largest window is the end of a ring that no index has reached.
        const victim = all.reduce((a, b) => (b.length > a.length ? b : a));
        victim[victim.length - 1]! ^= 0x10;
        await eventually("the NIC to start over", () =>
          session.reconnects === 1 && session.state === "attached" ? true : undefined,
        );
        expect(session.faults.get("WINDOW_DIVERGED")).toBe(1);
        // On the new connection both copies are equal.
        expect(session.epoch).toBe(2);
        await eventually("a look at the new windows", () =>
          (nic(device)?.memory.windowBytesCompared ?? 0) > 0 ? true : undefined,
        );
        expect(nic(device)?.faults).toEqual({});
      },
    );
  },
);
