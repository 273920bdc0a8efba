/**
 * A frame of one VLAN is never seen in another, and isolated ports never see each other, over random
 * topologies. Each frame carries the canary of its sender's VLAN.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { PortRule } from "../../device/switch/port-options.ts";
import { Switch } from "../../device/switch/switch.ts";
import { frameOf } from "../support/packets.ts";
import { sum } from "../support/status.ts";
import { NO_OFFLOADS, TestPort } from "../support/switch-port.ts";

const VLANS = [1, 2, 3, 100] as const;
const vlan = fc.constantFrom(...VLANS);

type PortKind =
  | { readonly kind: "plain" }
  | { readonly kind: "access"; readonly vlan: number }
  | {
      readonly kind: "trunk";
      readonly vlans: number[] | "all";
      readonly native: number | undefined;
    };

const kind: fc.Arbitrary<PortKind> = fc.oneof(
  fc.record({ kind: fc.constant("plain" as const) }),
  fc.record({ kind: fc.constant("access" as const), vlan }),
  fc.record({
    kind: fc.constant("trunk" as const),
    vlans: fc.oneof(fc.constant("all" as const), fc.uniqueArray(vlan, { minLength: 1 })),
    native: fc.option(vlan, { nil: undefined }),
  }),
);
const topology = fc.record({
  ports: fc.array(fc.record({ kind, isolated: fc.boolean(), nic: fc.boolean() }), {
    minLength: 2,
    maxLength: 8,
  }),
  frames: fc.array(
    fc.record({
      from: fc.nat(7),
      source: fc.nat(9),
      to: fc.oneof(fc.nat(9), fc.constant(-1)),
      tags: fc.array(
        fc.record({
          type: fc.constantFrom(0x8100, 0x8100, 0x8100, 0x88a8),
          vlan: fc.constantFrom(0, ...VLANS, 4095),
          priority: fc.nat(7),
        }),
        { maxLength: 2 },
      ),
      cut: fc.integer({ min: 1, max: 30 }),
    }),
    { minLength: 1, maxLength: 60 },
  ),
});

const ruleOf = (port: PortKind, isolated: boolean, i: number): PortRule => ({
  name: `p${i}`,
  isolated,
  ...(port.kind === "access" ? { access: port.vlan } : {}),
  ...(port.kind === "trunk"
    ? { trunk: port.vlans, ...(port.native === undefined ? {} : { native: port.native }) }
    : {}),
});
const addressOf = (i: number): number[] =>
  i < 0 ? [255, 255, 255, 255, 255, 255] : [2, 0, 0, 0, 0, i];

interface Tag {
  readonly type: number;
  readonly vlan: number;
}

/** The VLAN of a frame by the rules of 802.1Q, or undefined if the port may not send it. */
function vlanOf(port: PortKind, tags: readonly Tag[]): number | undefined {
  const [outer, inner] = tags;
  const untagged = port.kind === "plain" ? 1 : port.kind === "access" ? port.vlan : port.native;
  if (outer?.type !== 0x8100) return untagged;
  if (inner?.type === 0x8100) return undefined;
  if (outer.vlan === 0) return untagged;
  return port.kind === "trunk" && isIn(port, outer.vlan) ? outer.vlan : undefined;
}

function isIn(port: PortKind, number: number): boolean {
  if (port.kind === "plain") return number === 1;
  if (port.kind === "access") return number === port.vlan;
  return port.vlans === "all" || port.vlans.includes(number) || port.native === number;
}

describe("VLANs and isolation", () => {
  it("a frame reaches only ports of its VLAN, in their form, and a broadcast reaches them all", () => {
    let seen = 0;
    fc.assert(
      fc.property(topology, ({ ports, frames }) => {
        // One rule names a VLAN in every topology, so that the segment has VLANs.
        const rules = [
          ...ports.map(({ kind, isolated }, i) => ruleOf(kind, isolated, i)),
          { name: "none", access: 1 },
        ];
        const segment = new Switch({ name: "s", now: () => 0, rules });
        const all = ports.map((_, i) => new TestPort(`p${i}`, NO_OFFLOADS, 9018));
        const handles = all.map((port, i) =>
          segment.attach(port, ports[i]!.nic ? Uint8Array.from(addressOf(i)) : undefined),
        );
        for (const { from, source, to, tags, cut } of frames) {
          const i = from % ports.length;
          const number = vlanOf(ports[i]!.kind, tags);
          const bytes = new Uint8Array(80);
          const words = tags.flatMap((tag) => [tag.type, (tag.priority << 13) | tag.vlan]);
          const behind = [...words, 0x88b5].flatMap((word) => [word >>> 8, word & 255]);
          bytes.set([...addressOf(to), ...addressOf(source), ...behind]);
          bytes.set([0xca, 0xfe, (number ?? 0) >>> 8, (number ?? 0) & 255, i], 60);
          for (const port of all) port.got.length = 0;
          const drops = (): number => sum(segment.snapshot().ports[i]!.in.dropped);
          const before = drops();
          handles[i]!.input(frameOf(bytes, [cut, cut]));
          const isDropped = drops() > before;
          for (const [j, { got }] of all.entries()) {
            const member = number !== undefined && isIn(ports[j]!.kind, number);
            const apart = ports[i]!.isolated && ports[j]!.isolated;
            if (got.length === 0) {
              // A source of another NIC, or one of a port that is gone, may be dropped.
              const wanted = to === -1 && j !== i && member && !apart && !isDropped;
              if (wanted) throw new Error(`p${j} misses a broadcast of p${i} in VLAN ${number}`);
              continue;
            }
            seen++;
            if (j === i || !member || apart) throw new Error(`p${j} sees a frame of p${i}`);
            checkForm(ports[j]!.kind, number, got[0]!.bytes, bytes, tags);
          }
        }
      }),
      { numRuns: 400 },
    );
    expect(seen).toBeGreaterThan(100);
  });
});

/** Checks the tag of a delivered frame, and that everything behind it is as the sender wrote it. */
function checkForm(
  port: PortKind,
  number: number,
  got: Uint8Array,
  sent: Uint8Array,
  tags: readonly Tag[],
): void {
  const isNative = port.kind !== "trunk" || port.native === number;
  const type = (got[12]! << 8) | got[13]!;
  const control = (got[14]! << 8) | got[15]!;
  if (isNative === (type === 0x8100))
    throw new Error(`a wrong tag: ${type.toString(16)} ${control}`);
  if (!isNative && (control & 0xfff) !== number)
    throw new Error(`the tag of VLAN ${control & 0xfff}`);
  const inner = got.subarray(isNative ? 12 : 16);
  const wanted = sent.subarray(tags[0]?.type === 0x8100 ? 16 : 12);
  if (Buffer.compare(inner, wanted) !== 0) throw new Error("other bytes than were sent");
}
