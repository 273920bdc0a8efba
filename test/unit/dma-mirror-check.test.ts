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
    for (let ticks = 0; ticks < 3; ticks++) await check.tick();
    expect(Math.max(...lengths)).toBe(Limits.READ_BYTES);
    expect(lengths).toHaveLength((3 << 20) / Limits.READ_BYTES);
    expect(check.compared).toBe(3 << 20);
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
