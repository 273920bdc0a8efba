/**
 * Random walks over everything a driver can touch. Whatever the driver does, nothing is thrown, the
 * device writes only to described buffers, and no request is completed more often than it was
 * posted.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createEnaNic, type EnaOptions } from "../../device/ena/index.ts";
import { Verdict } from "../../device/switch/port.ts";
import { AdminStatus, Placement, SqDirection } from "../../shared/ena/admin.ts";
import { FeatureId } from "../../shared/ena/features.ts";
import { llqFeature } from "../../shared/ena/llq.ts";
import { holds } from "../support/counts.ts";
import type { EnaQueue } from "../support/ena-guest.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost, MEMORY_BASE, type Range, settle } from "../support/fake-host.ts";
import { frameOf } from "../support/packets.ts";

const SOAK = process.env["RINGWIRE_SOAK"] === "1";
const runs = (n: number): number => (SOAK ? n : Math.ceil(n / 10));

const MEMORY = 1 << 18;
const options: fc.Arbitrary<EnaOptions> = fc.record({
  llq: fc.boolean(),
  completionOrder: fc.constantFrom("fifo" as const, "shuffle" as const),
  disableMetaCaching: fc.boolean(),
});
const anyOffset = fc.oneof(
  fc.integer({ min: 0, max: 0x100 }).map((n) => n & ~3),
  fc.constantFrom(0x1000, 0x1004, 0x1008, 0x2000, 0x2004, 0x3000, 0x4000, 0x7ffc),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
const anyValue = fc.oneof(
  fc.integer({ min: 0, max: 64 }),
  fc.constantFrom(0, 1, 0x10000, 0xffff, 0xffff_ffff, MEMORY_BASE / 2 ** 32, 0x400010),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);

describe("a driver that does anything", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("write" as const), offset: anyOffset, value: anyValue }),
    fc.record({
      kind: fc.constant("bytes" as const),
      bar: fc.constantFrom(0, 1, 2),
      offset: anyOffset,
      bytes: fc.uint8Array({ maxLength: 64 }),
    }),
    fc.record({
      kind: fc.constant("memory" as const),
      at: fc.integer({ min: 0, max: 1 << 13 }),
      bytes: fc.uint8Array({ maxLength: 64 }),
    }),
    fc.record({ kind: fc.constantFrom("tick" as const, "batch" as const, "frame" as const) }),
    fc.record({ kind: fc.constantFrom("reads" as const, "refuse" as const, "attach" as const) }),
  );

  test("never throws and still comes up after a reset", async () => {
    await holds(
      fc.asyncProperty(options, fc.array(step, { maxLength: 60 }), async (o, steps) => {
        const host = new FakeHost({ queues: 2 }, MEMORY);
        const nic = createEnaNic(host, o);
        let twin = new EnaTwin(nic, host, { windows: false });
        await twin.attach();
        for (const s of steps) {
          if (s.kind === "write") twin.write32(s.offset & ~3, s.value);
          else if (s.kind === "bytes")
            nic.pci.mmioWrite(s.bar, s.offset, s.bytes, 0, s.bytes.length);
          else if (s.kind === "memory") host.memory.bytes.set(s.bytes, s.at);
          else if (s.kind === "tick") nic.tick();
          else if (s.kind === "batch") nic.batchEnd();
          else if (s.kind === "frame") host.port!.deliver(frameOf(new Uint8Array(60)));
          else if (s.kind === "reads") await host.memory.answerReads();
          else if (s.kind === "refuse") for (const r of host.memory.reads.splice(0)) r.refuse();
          else twin.reset();
          nic.snapshot();
        }
        await settle();
        host.memory.bytes.fill(0);
        twin = new EnaTwin(nic, host, { windows: true });
        await twin.attach();
        expect((await twin.getFeature(FeatureId.MTU)).status).toBe(AdminStatus.SUCCESS);
        nic.destroy();
      }),
      { numRuns: runs(10_000) },
    );
  });
});

describe("random descriptors", () => {
  interface Rig {
    host: FakeHost;
    twin: EnaTwin;
    tx: EnaQueue;
    rx: EnaQueue;
  }
  async function rig(o: EnaOptions, windows: boolean, llq: boolean): Promise<Rig> {
    const host = new FakeHost({ queues: 2 }, MEMORY);
    const nic = createEnaNic(host, { ...o, llq });
    const twin = new EnaTwin(nic, host, { windows });
    await twin.attach();
    if (llq) {
      await twin.setFeature(FeatureId.LLQ, llqFeature, {
        headerLocationEnabled: 1,
        entrySizeEnabled: 1,
        descsBeforeHeaderEnabled: 2,
        strideEnabled: 2,
        // As all drivers ask, whatever the device offered.
        accelFlags: 3,
      });
    }
    const tx = await twin.createQueue(SqDirection.TX, 8, 1, llq ? Placement.DEV : Placement.HOST);
    const rx = await twin.createQueue(SqDirection.RX, 8, 1);
    return { host, twin, tx, rx };
  }

  test("tx: ring bytes and doorbells at will", async () => {
    await holds(
      fc.asyncProperty(
        options,
        fc.boolean(),
        fc.boolean(),
        fc.array(
          fc.tuple(fc.uint8Array({ minLength: 128, maxLength: 128 }), fc.nat(12), fc.boolean()),
          {
            maxLength: 12,
          },
        ),
        async (o, windows, llq, steps) => {
          const { host, twin, tx } = await rig(o, windows, llq);
          host.memory.writable = [{ address: tx.cqAddress, length: 64 }];
          let announced = 0;
          for (const [bytes, by, hold] of steps) {
            // The phase is made right, because few walks would pass that check by chance.
            const stride = llq ? 128 : 16;
            for (let i = 0; i < 8; i++) {
              const at = i * stride + 3;
              if (at < bytes.length) bytes[at] = (bytes[at]! & 0xfe) | tx.sq.phase;
            }
            if (llq) twin.nic.pci.mmioWrite(2, tx.llqOffset + tx.sq.slot * 128, bytes, 0, 128);
            else host.memory.bytes.set(bytes, twin.at(tx.sqAddress));
            host.switchPort.verdict = hold ? Verdict.HELD : Verdict.DONE;
            tx.sq.skip(by);
            announced += by;
            twin.ring(tx);
            await host.memory.answerReads();
            host.switchPort.onReady?.();
            await settle();
          }
          expect(twin.completed(tx).length).toBeLessThanOrEqual(announced);
          expect(host.memory.violations).toEqual([]);
          twin.nic.destroy();
        },
      ),
      { numRuns: SOAK ? 10_000 : 3000 },
    );
  });

  test("rx: descriptors at will, frames of any size", async () => {
    await holds(
      fc.asyncProperty(
        options,
        fc.boolean(),
        fc.array(
          fc.record({
            reqId: fc.oneof(
              { weight: 1, arbitrary: fc.nat(7) },
              { weight: 1, arbitrary: fc.nat(0xffff) },
            ),
            length: fc.oneof(fc.integer({ min: 1, max: 2048 }), fc.constantFrom(0, 1, 0xffff)),
            at: fc.nat(MEMORY - 4096),
            frames: fc.array(fc.integer({ min: 1, max: 9234 }), { maxLength: 3 }),
          }),
          { maxLength: 40 },
        ),
        async (o, windows, steps) => {
          const { host, twin, rx } = await rig(o, windows, false);
          const writable: Range[] = [{ address: rx.cqAddress, length: 128 }];
          host.memory.writable = writable;
          const posted = new Map<number, number>();
          for (const s of steps) {
            const address = MEMORY_BASE + MEMORY + s.at;
            writable.push({ address, length: s.length === 0 ? 65_536 : s.length });
            posted.set(s.reqId, (posted.get(s.reqId) ?? 0) + 1);
            twin.postRx(rx, s.reqId, address, s.length);
            twin.ring(rx);
            await host.memory.answerReads();
            for (const n of s.frames) host.port!.deliver(frameOf(new Uint8Array(n)));
            host.port!.flush();
            for (const { reqId } of twin.takeRx(rx)) {
              const left = (posted.get(reqId) ?? 0) - 1;
              expect(left).toBeGreaterThanOrEqual(0);
              posted.set(reqId, left);
            }
          }
          expect(host.memory.violations).toEqual([]);
          twin.nic.destroy();
        },
      ),
      { numRuns: SOAK ? 10_000 : 3000 },
    );
  });
});
