/** Counts kept of NICs whose connections have ended: sums by name, within bounds. */
import { expect, test } from "vitest";
import { LeftNics } from "../../device/left-nics.ts";
import type { Counts, NicStatus } from "../../shared/status/device-status.ts";
import { statusWith } from "../support/status.ts";

const gone = (name: string, faults: Counts): NicStatus => {
  const [ena] = statusWith({ nics: [{ nic: { resets: { KEEP_ALIVE: 2 } } }] }).nics;
  return { ...ena!, name, faults, reports: { READ: 1 } };
};

test("attack-S9 a name's faults, reports and resets add up over its connections", () => {
  const left = new LeftNics();
  left.add(gone("ena0", { A: 1 }));
  left.add(gone("ena0", { A: 2, B: 3 }));
  expect(left.snapshot()).toEqual({
    forgotten: 0,
    nics: [
      {
        name: "ena0",
        segment: "lan0",
        personality: "ena",
        connections: 2,
        faults: { A: 3, B: 3 },
        reports: { READ: 2 },
        resets: { KEEP_ALIVE: 4 },
      },
    ],
  });
});

test("attack-S9 of many names those that left last are kept, and the others are counted", () => {
  const left = new LeftNics();
  left.add(gone("ena0", {}));
  for (let i = 0; i < 255; i++) left.add(gone(`stranger${i}`, {}));
  left.add(gone("ena0", {}));
  left.add(gone("last", {}));
  const { forgotten, nics } = left.snapshot();
  expect([forgotten, nics.length]).toEqual([1, 256]);
  expect(nics.slice(-2)).toMatchObject([
    { name: "ena0", connections: 2 },
    { name: "last", connections: 1 },
  ]);
});

test("attack-S9 kinds of one name are bounded, and known ones go on counting", () => {
  const left = new LeftNics();
  left.add(gone("ena0", Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`K${i}`, 1]))));
  left.add(gone("ena0", { K0: 1, more: 1 }));
  const { faults } = left.snapshot().nics[0]!;
  expect(Object.keys(faults)).toHaveLength(256);
  expect(faults["K0"]).toBe(2);
});
