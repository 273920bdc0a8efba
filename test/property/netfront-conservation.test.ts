/**
 * Conservation under any traffic, backend errors, shortage of references, suspends and lost links:
 * a queue has 257 maps, each reference in use has one live grant of the right kind, and after a
 * disconnect every reference is free again. Every frame arrives whole and once, or not at all
 * (inv-I1, inv-I3, fault-E5, fault-E11).
 */

import fc from "fast-check";
import { expect, test } from "vitest";
import type { Mbuf } from "../../frontend/net/mbuf.ts";
import { Csum } from "../../frontend/net/mbuf.ts";
import { Gso } from "../../shared/net/frame.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { holds } from "../support/counts.ts";
import { buildPacket } from "../support/packets.ts";
import { XenPair } from "../support/pair.ts";
import { backendViolations, referencesInUse, violations } from "../support/xen-invariants.ts";

/** Steps of one run; 100,000 in a soak. */
const STEPS = 250;
const runs = process.env["RINGWIRE_SOAK"] === "1" ? 400 : 8;
const MAC = [2, 0, 0, 0, 0, 1];
const PEER = [2, 0, 0, 0, 0, 7];

function numbered(n: number, length: number, destination: readonly number[]): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, i) => (i * 31 + n * 17) & 0xff);
  bytes.set([...destination, 2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
  new DataView(bytes.buffer).setUint32(14, n);
  return bytes;
}

const length = fc.oneof(
  fc.integer({ min: 18, max: 1514 }),
  fc.integer({ min: 1514, max: 9000 }),
  fc.constantFrom(4096, 4097, 8192),
);

/** The toolstack, or the backend, writes a key. */
async function say(pair: XenPair, key: string, value: string): Promise<void> {
  const { machine } = pair;
  const domid = pair.nic.snapshot().domid;
  const path = key
    .replace("back", `/local/domain/0/backend/vif/${domid}/0`)
    .replace("front", `/local/domain/${domid}`);
  machine.store.write(path, value);
  machine.settle();
  await pair.settle();
}

const plain = <T extends string>(what: T) => fc.record({ do: fc.constant(what) });
const step = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant("send" as const),
      n: fc.integer({ min: 1, max: 40 }),
      length,
      pieces: fc.integer({ min: 1, max: 30 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("super" as const),
      bytes: fc.integer({ min: 3000, max: 60000 }),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant("inject" as const),
      n: fc.integer({ min: 1, max: 60 }),
      length,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("injectSuper" as const),
      bytes: fc.integer({ min: 3000, max: 60000 }),
    }),
  },
  { weight: 10, arbitrary: plain("settle") },
  { weight: 4, arbitrary: plain("pumpUp") },
  { weight: 3, arbitrary: plain("second") },
  { weight: 3, arbitrary: plain("updown") },
  { weight: 3, arbitrary: plain("hold") },
  { weight: 3, arbitrary: plain("release") },
  { weight: 2, arbitrary: plain("cut") },
  { weight: 2, arbitrary: plain("migrate") },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("elsewhere" as const),
      queues: fc.integer({ min: 1, max: 4 }),
      splitEventChannels: fc.boolean(),
      trusted: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("reoffer" as const),
      sg: fc.boolean(),
      csum: fc.boolean(),
      queues: fc.integer({ min: 1, max: 4 }),
    }),
  },
  { weight: 2, arbitrary: plain("cancelled") },
  { weight: 1, arbitrary: plain("shortage") },
  { weight: 1, arbitrary: plain("stuck") },
  { weight: 2, arbitrary: plain("noRoom") },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("spoil" as const),
      tx: fc.boolean(),
      at: fc.nat(255),
      to: fc.integer({ min: -4, max: 3 }),
    }),
  },
);

test("maps, references and buffers are conserved", async () => {
  const world = fc.record({
    queues: fc.integer({ min: 1, max: 3 }),
    trusted: fc.boolean(),
    lro: fc.boolean(),
    splitEventChannels: fc.boolean(),
  });
  const property = fc.asyncProperty(
    world,
    fc.array(step, { minLength: STEPS, maxLength: STEPS }),
    async ({ queues, trusted, lro, splitEventChannels }, steps) => {
      const pair = new XenPair({
        queues,
        driver: { trusted, lro },
        device: { splitEventChannels },
      });
      const { info } = pair;
      await pair.start();
      const sent = new Map<number, Uint8Array>();
      const held: Mbuf[] = [];
      let spoilt = false;
      let stuck = 0;
      let next = 0;
      let seen = 0;
      const injected = new Map<number, Uint8Array>();
      for (const s of steps) {
        if (s.do === "send") {
          for (let i = 0; i < s.n; i++, next++) {
            const bytes = numbered(next, s.length, PEER);
            const cut = Math.max(18, Math.ceil(s.length / s.pieces));
            const pieces: Uint8Array[] = [];
            for (let at = 0; at < bytes.length; at += cut) pieces.push(bytes.slice(at, at + cut));
            if (pair.send(...pieces) === 0) sent.set(next, bytes);
          }
        } else if (s.do === "super") {
          const { bytes, l4 } = buildPacket({
            payload: new Uint8Array(s.bytes),
            checksum: "partial",
            destination: PEER,
          });
          const m = pair.mbuf(bytes);
          m.csumFlags = Csum.IP_TSO | Csum.IP_TCP;
          m.csumStart = l4;
          m.csumOffset = 16;
          m.tsoSegsz = 1448;
          pair.sendMbuf(m);
        } else if (s.do === "inject") {
          if (pair.plugged) {
            for (let i = 0; i < s.n; i++, next++) {
              const bytes = numbered(next, s.length, MAC);
              injected.set(next, bytes);
              pair.inject(bytes);
            }
            pair.flushPort();
          }
        } else if (s.do === "injectSuper") {
          if (pair.plugged) {
            const { bytes, l4, payload } = buildPacket({
              payload: new Uint8Array(s.bytes),
              checksum: "partial",
              destination: MAC,
            });
            pair.inject(bytes, {
              needsCsum: true,
              csumStart: l4,
              csumOffset: 16,
              csumValid: true,
              gso: Gso.TCPV4,
              gsoSize: 1448,
              headerLength: payload,
            });
            pair.flushPort();
          }
        } else if (s.do === "settle") await pair.settle();
        else if (s.do === "pumpUp") pair.pumpUp();
        else if (s.do === "second") await pair.second();
        else if (s.do === "updown") {
          await pair.driver.down();
          await pair.settle();
          await pair.driver.up();
        } else if (s.do === "hold") pair.onInput = (m) => held.push(m);
        else if (s.do === "release") {
          pair.onInput = undefined;
          for (const m of held.splice(0)) m.free();
        } else if (s.do === "cut") {
          pair.cut();
          expect(referencesInUse(pair)).toBe(0);
          await pair.reconnect();
        } else if (s.do === "migrate") {
          if (info.carrier) await pair.suspend();
          pair.cut();
          expect(referencesInUse(pair)).toBe(0);
          await pair.reconnect();
        } else if (s.do === "elsewhere") {
          // Another device with a different number of queues and channels.
          pair.cut();
          expect(referencesInUse(pair)).toBe(0);
          Object.assign(pair.options, { config: { queues: s.queues } });
          await pair.reconnect({ splitEventChannels: s.splitEventChannels, trusted: s.trusted });
          expect(info.rxqs).toHaveLength(Math.min(queues, s.queues));
        } else if (s.do === "reoffer") {
          // The backend closes, and offers itself again with other features, at most once a second.
          await pair.second();
          await say(pair, "back/state", "5");
          await say(pair, "back/feature-sg", s.sg ? "1" : "0");
          await say(pair, "back/feature-no-csum-offload", s.csum ? "0" : "1");
          const offered = Math.min(s.queues, pair.end.config.queues);
          await say(pair, "back/multi-queue-max-queues", String(offered));
          await say(pair, "back/state", "1");
          expect(info.rxqs).toHaveLength(Math.min(queues, offered));
          expect(info.maxMtu).toBe(s.sg ? 9216 : 1500);
        } else if (s.do === "cancelled") {
          await say(pair, "front/control/shutdown", "suspend");
          while (info.suspended) await pair.settle();
        } else if (s.do === "shortage") {
          pair.cut();
          // Someone else holds all but a few references, so the table can't grow enough.
          const taken: number[] = [];
          while (taken.length < info.grants.capacity - 300) {
            taken.push(info.grants.allocGrantReference());
          }
          await pair.reconnect();
          expect(info.carrier).toBe(false);
          expect(violations(pair)).toEqual([]);
          for (const reference of taken) info.grants.freeGrantReference(grantRef(reference));
          const back = (): boolean => info.carrier || info.broken !== undefined;
          for (let i = 0; i < 40 && !back(); i++) await pair.second();
          expect(back()).toBe(true);
        } else if (s.do === "stuck") {
          // The backend keeps using a page that it has returned.
          const map = info.rxqs[0]?.maps.find((one) => one !== undefined);
          if (map !== undefined) stuck++;
          if (map !== undefined) pair.hypervisor.onGrantUse(map.gref(0), 1, 1);
        } else if (s.do === "noRoom") {
          pair.writable = !pair.writable;
          if (pair.writable) pair.driver.writableAgain();
        } else {
          // Changes one response on the way.
          spoilt = true;
          const type = s.tx ? RecordType.XEN_TX_RSP : RecordType.XEN_RX_RSP;
          let once = true;
          pair.tamper = (act) => {
            if (!once || act.kind !== "write" || act.type !== type) return [act];
            once = false;
            const slot = s.tx ? 12 : 8;
            const at = (s.at * slot) % act.bytes.length;
            const view = new DataView(act.bytes.buffer, act.bytes.byteOffset);
            view.setInt16(at + (s.tx ? 2 : 6), s.to, true);
            return [act];
          };
        }
        expect(violations(pair)).toEqual([]);
        for (; seen < pair.inputs.length; seen++) {
          const { bytes } = pair.inputs[seen]!;
          if (spoilt || bytes[12] !== 0x88) continue;
          const number = new DataView(bytes.buffer).getUint32(14);
          expect(Buffer.compare(bytes, injected.get(number)!)).toBe(0);
          injected.delete(number);
        }
      }
      pair.tamper = undefined;
      pair.writable = true;
      pair.onInput = undefined;
      for (const m of held.splice(0)) m.free();
      await pair.settle();
      const arrived = new Set<number>();
      for (const { bytes } of pair.segment) {
        if (bytes[12] !== 0x88) continue;
        const number = new DataView(bytes.buffer).getUint32(14);
        expect(Buffer.compare(bytes, sent.get(number)!)).toBe(0);
        expect(arrived.has(number)).toBe(false);
        arrived.add(number);
      }
      // Leaves a backend that sent invalid data; the next backend is accepted.
      if (info.broken !== undefined || !info.carrier) {
        pair.cut();
        await pair.reconnect();
      }
      expect(info.carrier).toBe(true);
      await pair.settle();
      expect(violations(pair)).toEqual([]);
      expect(backendViolations(pair)).toEqual([]);
      const before = pair.segment.length;
      expect(pair.send(numbered(next, 100, PEER))).toBe(0);
      await pair.settle();
      expect(pair.segment.length).toBe(before + 1);
      await pair.run(pair.driver.detach());
      await pair.settle();
      // References that the backend still uses come back when it is gone; only they are missing
      // now.
      expect(info.grants.quarantined).toBeLessThanOrEqual(stuck);
      if (info.grants.quarantined > 0) pair.cut();
      expect(referencesInUse(pair)).toBe(0);
      expect(pair.outstanding).toBe(0);
      expect(pair.counter("pushed_bytes")).toBe(0);
      expect(pair.counter("rx_mbufs_in_use")).toBe(0);
    },
  );
  await holds(property, { numRuns: runs, endOnFailure: true });
}, 1_800_000);
