/** How the segments of a device share its places for NICs. (fault-L5) */
import { expect, it } from "vitest";
import { Refusal } from "../../device/admission.ts";
import type { Member } from "../../device/roster.ts";
import { Segments } from "../../device/segments/segments.ts";
import { Switch } from "../../device/switch/switch.ts";
import { parseHello } from "../../shared/wire/hello.ts";

const member = (): Member => ({ silentSeconds: 0, close: () => {} });

function segmentsOf(most: number, ...names: string[]): Segments<Member> {
  const switches = names.map((name) => new Switch({ name, now: () => 0, macsPerPort: 1024 }));
  return new Segments(switches, most);
}

let names = 0;

/** Lets NICs into a segment until one is refused. Returns their number. */
function fill(segments: Segments<Member>, segment: string): number {
  const { nics } = segments.get(segment)!;
  for (let n = 0; ; n++) {
    const name = `nic${++names}`;
    try {
      nics.admit(
        member(),
        parseHello({ version: 1, personality: "ena", name, instance: `process of ${name}` }),
      );
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      expect(error.code).toBe("NO_PLACE");
      expect(error.message).toContain(`no place for another in segment ${segment}`);
      return n;
    }
  }
}

it("fault-L5 a segment that is full keeps no NIC out of another one", () => {
  const segments = segmentsOf(64, "red", "blue", "green", "grey");
  // Of 64 places, 32 are kept: 8 for each segment.
  expect(fill(segments, "blue")).toBe(40);
  expect(fill(segments, "red")).toBe(8);
  expect(fill(segments, "green")).toBe(8);
  expect(fill(segments, "grey")).toBe(8);
  expect(segments.nicCount).toBe(64);
  for (const { name } of segments.all) expect(fill(segments, name)).toBe(0);
});

it("a segment without others has all places", () => {
  expect(fill(segmentsOf(64, "lan0"), "lan0")).toBe(64);
});

it("places that are free are there again for all", () => {
  const segments = segmentsOf(8, "red", "blue");
  expect(fill(segments, "blue")).toBe(6);
  expect(fill(segments, "red")).toBe(2);
  const { nics } = segments.get("blue")!;
  for (const one of nics.all) nics.remove(one);
  expect(fill(segments, "red")).toBe(4);
  expect(fill(segments, "blue")).toBe(2);
});

it("a device of more segments than places keeps none", () => {
  const many = Array.from({ length: 9 }, (_, n) => `s${n}`);
  expect(fill(segmentsOf(8, ...many), "s3")).toBe(8);
});
