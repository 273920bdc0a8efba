/** The switch against a small model, with the accounting checked at each step. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FLAP_MOVES, FLAP_WINDOW_MS } from "../../device/switch/mac-table.ts";
import { DropReason, type SwitchPort, Verdict } from "../../device/switch/port.ts";
import { Switch } from "../../device/switch/switch.ts";
import { Gso } from "../../shared/net/frame.ts";
import { holds } from "../support/counts.ts";
import { buildPacket, frameOf } from "../support/packets.ts";
import { same } from "../support/same.ts";
import { sum } from "../support/status.ts";
import { NO_OFFLOADS, TestPort } from "../support/switch-port.ts";

const AGE_MS = 3000;
const MACS_PER_PORT = 3;
const PORTS = 6;

// Addresses 0..5 are hosts; then a group, broadcast, zero and a reserved address.
const ADDRESSES: number[][] = [
  ...Array.from({ length: 6 }, (_, i) => [2, 0, 0, 0, 0, i]),
  [3, 0, 0, 0, 0, 1],
  [255, 255, 255, 255, 255, 255],
  [0, 0, 0, 0, 0, 0],
  [1, 0x80, 0xc2, 0, 0, 3],
];
const isGroup = (address: number): boolean => (ADDRESSES[address]![0]! & 1) === 1;

const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant("frame" as const),
      port: fc.nat(PORTS - 1),
      source: fc.oneof({ weight: 6, arbitrary: fc.nat(5) }, { weight: 1, arbitrary: fc.nat(9) }),
      destination: fc.nat(9),
      payload: fc.constantFrom(0, 10, 500, 1460, 1461, 3000),
      gsoSize: fc.constantFrom(0, 0, 0, 7, 700, 1460, 1461),
      cuts: fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 5 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.nat(2000) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("detach" as const), port: fc.nat(PORTS - 1) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("attach" as const),
      port: fc.nat(PORTS - 1),
      plain: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("room" as const),
      port: fc.nat(PORTS - 1),
      room: fc.boolean(),
      answer: fc.constantFrom(undefined, undefined, DropReason.RX_OVERRUN),
    }),
  },
);

interface Plugged {
  readonly port: TestPort;
  readonly handle: SwitchPort;
  expected: number;
}

function checkAccounts(segment: Switch): void {
  for (const { in: into, out } of segment.snapshot().ports) {
    same(into.frames, into.forwarded + into.flooded + sum(into.dropped));
    same(out.offered, out.frames + sum(out.dropped));
  }
}

describe("Switch", () => {
  it.each(["drop", "hold"] as const)(
    "does as the model, and every frame is accounted for (%s)",
    (whenFull) => {
      holds(
        fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
          let time = 0;
          const segment = new Switch({
            name: "s",
            now: () => time,
            ageSeconds: AGE_MS / 1000,
            macsPerPort: MACS_PER_PORT,
            whenFull,
          });
          const plugged = new Map<number, Plugged>();
          // The model: address -> port and time last seen, moves within the last ten seconds.
          const learned = new Map<number, { port: number; seen: number }>();
          const attach = (i: number, plain: boolean): void => {
            const port = plain ? new TestPort(`p${i}`, NO_OFFLOADS) : new TestPort(`p${i}`);
            plugged.set(i, { port, handle: segment.attach(port), expected: 0 });
          };
          attach(0, true);
          attach(1, false);
          // The totals for the sum over all ports; a port's share is added when the port goes.
          const totals = { offered: 0, whole: 0, sent: 0 };
          const settle = (i: number): void => {
            const port = segment.snapshot().ports.find((p) => p.name === `p${i}`);
            if (port === undefined) return;
            const { in: into, out } = port;
            totals.offered += out.offered;
            totals.whole += out.offered - out.segments + out.segmentedFrames;
            totals.sent += into.forwarded + into.copies;
          };
          let copies = 0;
          let units = 0;
          let moves = 0;
          let windowStart = 0;

          for (const s of steps) {
            if (s.do === "wait") {
              time += s.ms;
              segment.tick();
              for (const [address, entry] of learned)
                if (time - entry.seen > AGE_MS) learned.delete(address);
              if (time - windowStart >= FLAP_WINDOW_MS) {
                windowStart = time;
                moves = 0;
              }
            } else if (s.do === "attach") {
              if (!plugged.has(s.port)) attach(s.port, s.plain);
            } else if (s.do === "detach") {
              settle(s.port);
              plugged.get(s.port)?.handle.detach();
              plugged.delete(s.port);
              for (const [address, entry] of learned)
                if (entry.port === s.port) learned.delete(address);
            } else if (s.do === "room") {
              const p = plugged.get(s.port);
              if (p !== undefined) Object.assign(p.port, { room: s.room, answer: s.answer });
            } else {
              const from = plugged.get(s.port);
              if (from === undefined) continue;
              // Flap damping has a test of its own. Here addresses move too seldom for it: two of
              // these windows never hold more moves than one window of the table allows.
              const known = learned.get(s.source);
              if (known !== undefined && known.port !== s.port && ++moves > FLAP_MOVES / 2)
                continue;
              const gso = s.gsoSize > 0;
              const built = buildPacket({
                source: ADDRESSES[s.source]!,
                destination: ADDRESSES[s.destination]!,
                payload: new Uint8Array(s.payload),
                checksum: gso ? "partial" : "full",
              });
              const frame = frameOf(built.bytes, s.cuts);
              if (gso) {
                Object.assign(frame, {
                  gso: Gso.TCPV4,
                  gsoSize: s.gsoSize,
                  needsCsum: true,
                  csumStart: built.l4,
                  csumOffset: 16,
                });
              }
              const verdict = from.handle.input(frame);

              // The model's result for the same frame.
              const bad = s.source > 5 || s.destination === 9 || s.gsoSize === 7;
              const target = learned.get(s.destination);
              const out = target === undefined ? undefined : plugged.get(target.port);
              const longest = gso ? Math.min(s.payload, s.gsoSize) : s.payload;
              const fits = longest <= 1460;
              if (
                whenFull === "hold" &&
                !bad &&
                out !== undefined &&
                out !== from &&
                fits &&
                !out.port.room
              ) {
                same(verdict, Verdict.HELD);
                continue;
              }
              same(verdict, Verdict.DONE);
              if (!bad) {
                const mine = [...learned.values()].filter((entry) => entry.port === s.port).length;
                const settled = known?.port === s.port;
                if (settled || mine < MACS_PER_PORT) {
                  learned.set(s.source, { port: s.port, seen: time });
                  const targets =
                    isGroup(s.destination) || out === undefined ? [...plugged.values()] : [out];
                  for (const to of targets) {
                    if (to === from) continue;
                    copies++;
                    const cut = gso && !to.port.offloads.tso4;
                    const pieces = cut && fits ? Math.max(1, Math.ceil(s.payload / s.gsoSize)) : 1;
                    units += pieces;
                    if (fits && to.port.answer === undefined) to.expected += pieces;
                  }
                }
              }
            }
            checkAccounts(segment);
            for (const p of plugged.values()) same(p.port.got.length, p.expected);
          }
          for (const [i] of plugged) settle(i);
          expect([totals.offered, totals.whole, totals.sent]).toEqual([units, copies, copies]);
        }),
        { numRuns: 300 },
      );
    },
  );
});
