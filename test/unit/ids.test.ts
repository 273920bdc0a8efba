import { expect, it } from "vitest";
import { idsOf } from "../ids.ts";

it("reads one or several ids at the beginning of a title", () => {
  expect(idsOf("E16 no more comes back than was taken")).toEqual(["E16"]);
  expect(idsOf("E2BIG is an error")).toEqual([]);
  expect(idsOf("fault-G4, H6: states that flap")).toEqual(["fault-G4", "fault-H6"]);
  expect(idsOf("fault-G2, XSA-391: an event storm")).toEqual(["fault-G2"]);
  expect(idsOf("attack-S2b, attack-S2c a flood")).toEqual(["attack-S2b", "attack-S2c"]);
  expect(idsOf("guest-1 a flag")).toEqual(["guest-1"]);
});
