/** The device against simple models: queue bookkeeping of the admin queue, and a correct driver. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { createEnaNic } from "../../device/ena/index.ts";
import { Verdict } from "../../device/switch/port.ts";
import {
  AdminStatus,
  createCq,
  createCqResp,
  createSq,
  Opcode,
  Placement,
  SqDirection,
} from "../../shared/ena/admin.ts";
import { queueId } from "../../shared/net/frame.ts";

import { holds } from "../support/counts.ts";
import { build } from "../support/ena-guest.ts";
import { EnaTwin } from "../support/ena-twin.ts";
import { FakeHost, settle } from "../support/fake-host.ts";

const SOAK = process.env["RINGWIRE_SOAK"] === "1";
const runs = (n: number): number => (SOAK ? n : Math.ceil(n / 10));
const QUEUES = 2;

test("CREATE and DESTROY in any order agree with a model", async () => {
  const step = fc.record({
    kind: fc.constantFrom("createCq", "createSq", "destroySq", "destroyCq", "reset"),
    index: fc.nat(4),
    tx: fc.boolean(),
    good: fc.integer({ min: 0, max: 9 }).map((n) => n > 0),
  });
  await holds(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const host = new FakeHost({ queues: QUEUES });
      const twin = new EnaTwin(createEnaNic(host), host);
      await twin.attach();
      const ring = twin.alloc(4096);
      /** Direction of each completion queue, and whether a submission queue uses it. */
      let cqs = new Map<number, { tx: boolean; used: boolean }>();
      for (const { kind, index, tx, good } of steps) {
        const cq = cqs.get(index);
        const direction = tx ? SqDirection.TX : SqDirection.RX;
        if (kind === "createCq") {
          const done = await twin.command(
            build(createCq, {
              opcode: Opcode.CREATE_CQ,
              entrySizeWords: tx ? 2 : 4,
              cqDepth: good ? 8 : 12,
              msixVector: 1,
              cqBa: ring,
            }),
          );
          let wanted: number = AdminStatus.SUCCESS;
          if (!good) wanted = AdminStatus.ILLEGAL_PARAMETER;
          else if (cqs.size === 2 * QUEUES) wanted = AdminStatus.RESOURCE_ALLOCATION_FAILURE;
          expect(done.status).toBe(wanted);
          if (wanted !== AdminStatus.SUCCESS) continue;
          const { cqIdx } = createCqResp.parse(done.entry, 0);
          expect(cqs.has(cqIdx)).toBe(false);
          cqs.set(cqIdx, { tx, used: false });
        } else if (kind === "createSq") {
          const done = await twin.command(
            build(createSq, {
              opcode: Opcode.CREATE_SQ,
              direction,
              placement: good ? Placement.HOST : Placement.DEV,
              contiguous: true,
              cqIdx: queueId(index),
              sqDepth: 8,
              sqBa: ring,
            }),
          );
          const same = [...cqs.values()].filter((c) => c.used && c.tx === tx).length;
          let wanted: number = AdminStatus.SUCCESS;
          if (cq === undefined || cq.used || cq.tx !== tx || !good)
            wanted = AdminStatus.ILLEGAL_PARAMETER;
          else if (same === QUEUES) wanted = AdminStatus.RESOURCE_ALLOCATION_FAILURE;
          expect(done.status).toBe(wanted);
          if (wanted === AdminStatus.SUCCESS) cq!.used = true;
        } else if (kind === "destroySq") {
          const done = await twin.destroySq(direction, index);
          const there = cq?.used === true && cq.tx === tx;
          expect(done.status).toBe(there ? AdminStatus.SUCCESS : AdminStatus.ILLEGAL_PARAMETER);
          if (there) cq.used = false;
        } else if (kind === "destroyCq") {
          const done = await twin.destroyCq(index);
          let wanted: number = AdminStatus.SUCCESS;
          if (cq === undefined) wanted = AdminStatus.ILLEGAL_PARAMETER;
          else if (cq.used) wanted = AdminStatus.RESOURCE_BUSY;
          expect(done.status).toBe(wanted);
          if (wanted === AdminStatus.SUCCESS) cqs.delete(index);
        } else {
          await twin.attach();
          cqs = new Map();
        }
      }
      twin.nic.destroy();
    }),
    { numRuns: runs(2000) },
  );
});

test("case-W1, case-W2 a correct driver with ids of its own and empty meta descriptors: every packet arrives whole, in order, completed once", async () => {
  const packet = fc.record({
    meta: fc.constantFrom("none" as const, "empty" as const),
    parts: fc.array(fc.integer({ min: 20, max: 300 }), { minLength: 1, maxLength: 4 }),
    pushed: fc.integer({ min: 0, max: 9 }).map((n) => n > 0),
  });
  const burst = fc.record({ packets: fc.array(packet, { maxLength: 6 }), hold: fc.boolean() });
  await holds(
    fc.asyncProperty(
      fc.boolean(),
      fc.constantFrom("fifo" as const, "shuffle" as const),
      fc.uniqueArray(fc.nat(0xffff), { minLength: 32, maxLength: 32 }),
      fc.array(burst, { maxLength: 30 }),
      async (windows, completionOrder, ids, bursts) => {
        const host = new FakeHost();
        const twin = new EnaTwin(createEnaNic(host, { completionOrder }), host, { windows });
        await twin.attach();
        const q = await twin.createQueue(SqDirection.TX, 32, 1);
        const free = [...ids];
        const sent: number[] = [];
        const owned = new Map<number, number>();
        let room = 31;
        let stamp = 0;
        const reap = () => {
          for (const reqId of twin.completed(q)) {
            const descs = owned.get(reqId);
            expect(descs, `completion of ${reqId}, which is not out`).toBeDefined();
            owned.delete(reqId);
            free.push(reqId);
            room += descs!;
          }
        };
        for (const { packets, hold } of bursts) {
          host.switchPort.verdict = hold ? Verdict.HELD : Verdict.DONE;
          for (const { meta, parts, pushed } of packets) {
            const descs = parts.length + (meta === "empty" ? 1 : 0);
            if (descs > room) continue;
            const reqId = free.shift()!;
            sent.push(stamp & 0xff);
            if (meta === "empty") twin.postEmptyMeta(q);
            parts.forEach((length, i) => {
              const first = i === 0 && meta === "none";
              const flags = (first ? "f" : "") + (i === parts.length - 1 ? "l" : "");
              const bytes = new Uint8Array(length).fill(stamp);
              twin.postTx(q, reqId, twin.buffer(bytes, pushed), length, flags);
            });
            stamp++;
            owned.set(reqId, descs);
            room -= descs;
          }
          twin.ring(q);
          if (!hold) await host.memory.answerReads();
          reap();
        }
        host.switchPort.verdict = Verdict.DONE;
        host.switchPort.onReady?.();
        await settle();
        await twin.settle();
        reap();
        expect(owned.size).toBe(0);
        expect(host.switchPort.frames.map((f) => f.bytes[0])).toEqual(sent);
        expect(host.switchPort.frames.every((f) => f.bytes.every((b) => b === f.bytes[0]))).toBe(
          true,
        );
        expect(host.takeFaults()).toEqual([]);
        expect(host.memory.pushes.live).toBe(0);
        twin.nic.destroy();
      },
    ),
    { numRuns: runs(2000) },
  );
});
