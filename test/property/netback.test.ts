/**
 * Random frames in random honest splits come out as they were sent, in whatever order things wait.
 * Random slots of a frontend that lies never throw, get one response each, and leave no grant in
 * use (fault rows of the rings, XSA-423, XSA-432, XSA-448).
 */

import fc from "fast-check";
import { expect, test } from "vitest";
import { Verdict } from "../../device/switch/port.ts";
import { index32 } from "../../shared/ring/index32.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { rxRequest, txRequest } from "../../shared/xen/netif.ts";
import { holds } from "../support/counts.ts";
import { FakeGuest, type Piece } from "../support/fake-guest.ts";
import { PAGE } from "../support/fake-guest-memory.ts";
import { settle } from "../support/fake-host.ts";
import { frameOf } from "../support/packets.ts";

const soak = process.env["RINGWIRE_SOAK"] === "1";
const QUEUES = 2;

const bytesOf = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 17) & 0xff);

async function turns(): Promise<void> {
  for (let i = 0; i < 4; i++) await settle();
}

/** Lets everything move: answers reads, gives the switch room, and time to the credit. */
async function idle(guest: FakeGuest): Promise<void> {
  const { switchPort } = guest.host;
  switchPort.verdict = Verdict.DONE;
  for (let i = 0; i < 40; i++) {
    switchPort.onReady?.();
    guest.host.clock.advance(20);
    guest.netback.tick(guest.host.clock.now());
    guest.memory.answerNow();
    await turns();
  }
}

/** References in use when nothing is in flight: the rings, while the vif is connected. */
function restingUses(guest: FakeGuest): number[] {
  if (!guest.netback.connected) return [];
  return guest.queues.flatMap(({ tx, rx }) => [tx.reference, rx.reference]).sort((a, b) => a - b);
}
const uses = (guest: FakeGuest): number[] => guest.inUse.sort((a, b) => a - b);

const cut = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 4096 }) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 3 }) },
  { weight: 1, arbitrary: fc.constantFrom(13, 14, 127, 128, 129, 4095, 4096) },
);
const queue = fc.nat(QUEUES - 1);
const honestStep = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("send" as const),
      queue,
      cuts: fc.array(cut, { minLength: 1, maxLength: 18 }),
      offset: fc.nat(4095),
      push: fc.boolean(),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("deliver" as const),
      length: fc.integer({ min: 14, max: 20_000 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("post" as const), queue, n: fc.nat(12) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("hold" as const), hold: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("turn" as const) }) },
);

test("random honest splits of random frames come out as sent, in order, and nothing stays in use", async () => {
  await holds(
    fc.asyncProperty(
      fc.array(honestStep, { maxLength: 40 }),
      fc.constantFrom(0, 2 ** 32 - 5, 2 ** 31 - 5),
      async (steps, start) => {
        const guest = FakeGuest.connected({ queues: QUEUES, start, maxFrameBytes: 65_557 });
        const { switchPort } = guest.host;
        const sent: Uint8Array[] = [];
        const delivered: Uint8Array[] = [];
        const got: Uint8Array[] = [];
        let slots = 0;
        let answered = 0;
        let n = 0;
        const collect = (): void => {
          for (let q = 0; q < QUEUES; q++) {
            got.push(...guest.received(q).map((p) => p.bytes));
            const done = guest.sent(q);
            answered += done.length;
            expect(done.filter((d) => d.status !== 0)).toEqual([]);
          }
        };
        for (const step of steps) {
          if (step.do === "send") {
            const lengths = step.cuts.slice();
            const total = lengths.reduce((sum, length) => sum + length, 0);
            if (total < 14) lengths[0]! += 14;
            const length = Math.min(
              65_535,
              lengths.reduce((sum, l) => sum + l, 0),
            );
            if (lengths[0]! > PAGE || length !== lengths.reduce((sum, l) => sum + l, 0)) continue;
            if (guest.queue(step.queue).tx.unanswered + lengths.length > 200) continue;
            const bytes = bytesOf(length, ++n);
            // The frame carries its queue and number, so that the test can check the order.
            bytes[0] = step.queue;
            let at = 0;
            const pieces: Piece[] = lengths.map((l) => {
              at += l;
              return { bytes: bytes.subarray(at - l, at), offset: Math.min(step.offset, PAGE - l) };
            });
            guest.send(pieces, { queue: step.queue, push: step.push });
            sent.push(bytes);
            slots += lengths.length;
          } else if (step.do === "deliver") {
            const bytes = bytesOf(step.length, ++n);
            // Frames of one flow keep their order; different flows may use different queues.
            bytes.fill(n % 3, 1, 14);
            bytes[0] = 2;
            if (guest.netback.deliver(frameOf(bytes)) === undefined) delivered.push(bytes);
            guest.netback.flush();
          } else if (step.do === "post") {
            collect();
            if (guest.queue(step.queue).rx.unanswered < 200) guest.postRx(step.n, step.queue);
          } else if (step.do === "hold") {
            switchPort.verdict = step.hold ? Verdict.HELD : Verdict.DONE;
            switchPort.onReady?.();
          } else {
            guest.memory.answerNow();
            await turns();
          }
          collect();
        }
        await idle(guest);
        for (let i = 0; i < 12; i++) {
          for (let q = 0; q < QUEUES; q++) {
            collect();
            guest.postRx(Math.max(0, 200 - guest.queue(q).rx.unanswered), q);
          }
        }
        collect();
        for (let q = 0; q < QUEUES; q++) {
          const of = (frames: { bytes: Uint8Array }[]) => frames.filter((f) => f.bytes[0] === q);
          expect(of(switchPort.frames).map((f) => f.bytes)).toEqual(
            of(sent.map((bytes) => ({ bytes }))).map((f) => f.bytes),
          );
        }
        for (const flow of [0, 1, 2]) {
          const of = (frames: Uint8Array[]) => frames.filter((bytes) => bytes[1] === flow);
          expect(of(got)).toEqual(of(delivered));
        }
        expect(answered).toBe(slots);
        expect(guest.fatals).toEqual([]);
        expect(guest.memory.violations).toEqual([]);
        expect(guest.memory.pushes.live).toBe(0);
        expect(uses(guest)).toEqual(restingUses(guest));
      },
    ),
    { numRuns: soak ? 5000 : 120 },
  );
});

/** The twelve bytes of a slot, by field; each field is often valid. */
const hostileSlot = fc.record({
  gref: fc.oneof(
    { weight: 8, arbitrary: fc.nat(3) },
    { weight: 1, arbitrary: fc.constantFrom(7, 9999, 0xffff_ffff) },
  ),
  offset: fc.oneof({ weight: 6, arbitrary: fc.nat(200) }, { weight: 1, arbitrary: fc.nat(0xffff) }),
  flags: fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(0, 0, 0, 4, 4, 1, 3) },
    { weight: 1, arbitrary: fc.nat(0xffff) },
  ),
  id: fc.nat(0xffff),
  size: fc.oneof(
    { weight: 6, arbitrary: fc.nat(300) },
    { weight: 1, arbitrary: fc.constantFrom(0, 1, 13, 14, 4096, 0xffff) },
  ),
});
const hostileStep = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("slots" as const),
      queue,
      slots: fc.array(hostileSlot, { minLength: 1, maxLength: 24 }),
      push: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("index" as const), queue, by: fc.nat(2 ** 32 - 1) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("receive" as const),
      length: fc.integer({ min: 14, max: 70_000 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("rx" as const),
      queue,
      grefs: fc.array(fc.constantFrom(0, 1, 2, 3, 9999, 0xffff_ffff), { maxLength: 20 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("hold" as const), hold: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("reads" as const),
      how: fc.constantFrom("answer", "refuse"),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("scribble" as const),
      queue,
      bytes: fc.uint8Array({ minLength: 48, maxLength: 48 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reconnect" as const) }) },
);

test("random hostile slots never throw, are answered one for one, and leave nothing in use", async () => {
  await holds(
    fc.asyncProperty(fc.array(hostileStep, { maxLength: 30 }), async (steps) => {
      const guest = FakeGuest.connected({ queues: QUEUES, maxFrameBytes: 9234 });
      const { switchPort } = guest.host;
      const pages = [true, true, false, false].map((isReadonly, i) =>
        guest.buffer(bytesOf(PAGE, i), 0, { readonly: isReadonly }),
      );
      const gref = (n: number): number => pages[n] ?? n;
      for (const step of steps) {
        if (step.do === "slots") {
          const { tx } = guest.queue(step.queue);
          if (tx.unanswered + step.slots.length > tx.size) continue;
          for (const s of step.slots) {
            if (step.push && s.gref < 4 && s.offset + s.size <= PAGE && s.size > 0) {
              guest.memory.push(gref(s.gref) * PAGE + s.offset, s.size);
            }
            tx.request((view, at) =>
              txRequest.write(view, at, grantRef(gref(s.gref)), s.offset, s.flags, s.id, s.size),
            );
          }
          guest.kick(step.queue);
        } else if (step.do === "index") {
          guest.queue(step.queue).tx.publish(index32(step.by));
          guest.netback.batchEnd();
        } else if (step.do === "receive") {
          const frame = frameOf(bytesOf(Math.min(step.length, 65_000), 5));
          guest.netback.deliver(frame);
          guest.netback.ready(step.length);
          guest.netback.flush();
        } else if (step.do === "rx") {
          const { rx } = guest.queue(step.queue);
          for (const n of step.grefs) {
            rx.request((view, at) => rxRequest.write(view, at, n & 0xffff, grantRef(gref(n))));
          }
          rx.publish();
          guest.netback.batchEnd();
        } else if (step.do === "hold") {
          switchPort.verdict = step.hold ? Verdict.HELD : Verdict.DONE;
          switchPort.onReady?.();
          await turns();
        } else if (step.do === "reads") {
          if (step.how === "refuse") for (const r of guest.memory.reads.splice(0)) r.refuse(-3);
          else guest.memory.answerNow();
          await turns();
        } else if (step.do === "scribble") {
          const { tx } = guest.queue(step.queue);
          guest.memory.page(tx.frame).set(step.bytes, 64);
          tx.copy(64, step.bytes.length);
        } else {
          guest.netback.disconnect();
          expect(uses(guest)).toEqual([]);
          guest.connect();
        }
      }
      await idle(guest);
      expect(guest.fatals.length).toBeLessThanOrEqual(
        1 + steps.filter((s) => s.do === "reconnect").length,
      );
      if (guest.netback.connected) {
        for (const { tx } of guest.queues) expect(tx.unanswered).toBe(0);
      }
      expect(uses(guest)).toEqual(restingUses(guest));
      // Writes went only to pages that the guest's own table grants.
      expect(guest.memory.violations).toEqual([]);
      expect(guest.memory.reads).toEqual([]);
      guest.netback.destroy();
      expect(uses(guest)).toEqual([]);
    }),
    { numRuns: soak ? 20_000 : 200 },
  );
});
