/**
 * Random traffic, faults, resets and link losses against the whole driver. A frame arrives whole
 * and once, or not at all; no mbuf is lost or freed twice (inv-I1, inv-I3, fault-C13, fault-C14).
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { RX_CDESC_SIZE } from "../../shared/ena/io.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { holds } from "../support/counts.ts";
import { EnaPair } from "../support/pair.ts";

const runs = process.env["RINGWIRE_SOAK"] === "1" ? 3000 : 150;
const same = (a: Uint8Array, b: Uint8Array | undefined): boolean =>
  b !== undefined && Buffer.compare(a, b) === 0;
const MAC = [2, 0, 0, 0, 0, 1];
const HEADER = 18;

/** A frame that carries its number, and whose bytes all depend on it. */
function numbered(n: number, length: number, destination: readonly number[]): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, i) => (i * 31 + n * 17) & 0xff);
  bytes.set([...destination, 2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
  new DataView(bytes.buffer).setUint32(14, n);
  return bytes;
}
const numberOf = (bytes: Uint8Array): number => new DataView(bytes.buffer).getUint32(14);

const length = fc.integer({ min: HEADER, max: 1514 });
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("send" as const),
      n: fc.integer({ min: 1, max: 90 }),
      length,
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("inject" as const),
      n: fc.integer({ min: 1, max: 90 }),
      length,
    }),
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("settle" as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("second" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("reset" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("link" as const), steps: fc.nat(40) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("updown" as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("spoil" as const),
      type: fc.constantFrom(RecordType.ENA_TX_CDESC, RecordType.ENA_RX_CDESC),
      at: fc.nat(15),
      xor: fc.integer({ min: 1, max: 255 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("hush" as const),
      vector: fc.integer({ min: 1, max: 3 }),
    }),
  },
);

test("frames whole and once, buffers neither lost nor doubled", async () => {
  const world = fc.record({
    llq: fc.boolean(),
    queues: fc.integer({ min: 1, max: 3 }),
    mtu: fc.constantFrom(1500, 3000),
    seed: fc.nat(),
  });
  const property = fc.asyncProperty(
    world,
    fc.array(step, { minLength: 5, maxLength: 40 }),
    async ({ llq, queues, mtu, seed }, steps) => {
      const pair = new EnaPair({
        device: { llq, completionOrder: "shuffle", seed },
        driver: { rxRingSize: 256, txRingSize: 256 },
        queues,
        mtu,
      });
      await pair.start();
      const sent = new Map<number, Uint8Array>();
      const injected = new Map<number, Uint8Array>();
      const spoiled = new Set<number>();
      let next = 0;
      let seen = 0;
      for (const s of steps) {
        if (s.do === "send") {
          for (let i = 0; i < s.n; i++) {
            const bytes = numbered(next, s.length, [2, 0, 0, 0, 0, 7]);
            const cut = Math.min(s.length - 1, 1 + (next % 200));
            if (pair.send(bytes.slice(0, cut), bytes.slice(cut)) === 0) sent.set(next, bytes);
            next++;
          }
        } else if (s.do === "inject") {
          if (pair.plugged) {
            for (let i = 0; i < s.n; i++, next++) {
              const bytes = numbered(next, s.length, MAC);
              injected.set(next, bytes);
              pair.inject(bytes);
            }
            pair.flushPort();
          }
        } else if (s.do === "settle") {
          await pair.settle();
        } else if (s.do === "second") {
          await pair.second();
        } else if (s.do === "reset") {
          if (pair.plugged) pair.nic.levers.requestReset();
        } else if (s.do === "link") {
          for (let i = 0; i < s.steps; i++) pair.deliverOne();
          pair.cut();
          await pair.reconnect();
        } else if (s.do === "updown") {
          await pair.run(pair.driver.down());
          await pair.run(pair.driver.up());
        } else if (s.do === "spoil") {
          // One completion is changed on the way, except its phase, which makes it valid.
          let once = true;
          pair.tamper = (act) => {
            if (once && act.kind === "write" && act.type === s.type && s.at % 8 !== 3) {
              once = false;
              act.bytes[s.at % act.bytes.length]! ^= s.xor;
              if (s.type === RecordType.ENA_RX_CDESC) spoiled.add(act.bytes.length / RX_CDESC_SIZE);
            }
            return [act];
          };
        } else {
          let once = true;
          pair.tamper = (act) => {
            if (!once || act.kind !== "interrupt" || act.vector !== s.vector) return [act];
            once = false;
            return [];
          };
        }
        for (; seen < pair.inputs.length; seen++) {
          const { bytes } = pair.inputs[seen]!;
          if (spoiled.size > 0) continue;
          const number = numberOf(bytes);
          expect(same(bytes, injected.get(number))).toBe(true);
          injected.delete(number);
        }
        expect(pair.outstanding).toBeGreaterThanOrEqual(0);
      }
      pair.tamper = undefined;
      await pair.settle();
      // After the faults end, everything recovers without an operator (inv-I6).
      for (let i = 0; i < 16; i++) await pair.second();
      const arrived = new Set<number>();
      for (const { bytes } of pair.segment) {
        const number = numberOf(bytes);
        expect(same(bytes, sent.get(number))).toBe(true);
        expect(arrived.has(number)).toBe(false);
        arrived.add(number);
      }
      const before = pair.segment.length;
      expect(pair.send(numbered(next, 100, [2, 0, 0, 0, 0, 7]))).toBe(0);
      await pair.settle();
      expect(pair.segment.length).toBe(before + 1);
      // A changed receive completion makes the driver take back a buffer that the device still has.
      // The device's later write to this buffer is refused, and nothing else may be refused.
      const late = /^DMA_(UNMAPPED|STALE_GENERATION): device write/;
      const refused = pair.driverFaults.filter((text) => spoiled.size === 0 || !late.test(text));
      expect(refused).toEqual([]);
      await pair.run(pair.driver.detach());
      expect(pair.outstanding).toBe(0);
      expect(pair.counter("rx_mbufs_in_use")).toBe(0);
      expect(pair.counter("pushed_bytes")).toBe(0);
    },
  );
  await holds(property, { numRuns: runs, endOnFailure: false });
});
