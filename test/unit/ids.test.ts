import { globSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { ROOT } from "../support/process.ts";

const PAGE = "test/IDS.md";
/** A string literal that begins with an id. Long titles are held on one line by the layout tool. */
const LITERAL =
  /(["'`])((?:property: )?(?:(?:case|attack|guest|ux|page|mutant|fault|inv)-|[EN]\d+\b)[^\n]*?)\1/g;
/** An id, with the prefix of its family or after one that has it: `fault-G4, H6`. */
const ID =
  /\b(case|attack|guest|ux|page|mutant|fault|inv)-([A-Z]?\d+[a-z]?)((?:(?:, ?|\/)[A-Z]\d+[a-z]?\b)*)/g;
const SEED = /^([EN]\d+)\b((?:(?:, ?|\/)[EN]\d+\b)*)/;

/** The ids that a title names. */
function idsOf(title: string): string[] {
  const ids: string[] = [];
  const seed = SEED.exec(title);
  if (seed !== null) ids.push(seed[1]!, ...(seed[2]!.match(/[EN]\d+/g) ?? []));
  for (const [, family, first, more] of title.matchAll(ID)) {
    for (const id of [first!, ...(more!.match(/[A-Z]\d+[a-z]?/g) ?? [])])
      ids.push(`${family}-${id}`);
  }
  return ids;
}

/** Ids in titles, each with the files that name it. */
function idsInTitles(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const file of globSync("test/**/*.test.ts", { cwd: ROOT })) {
    if (file.endsWith("ids.test.ts")) continue;
    for (const [, , title] of readFileSync(`${ROOT}/${file}`, "utf8").matchAll(LITERAL)) {
      for (const id of idsOf(title!)) found.set(id, [...(found.get(id) ?? []), file]);
    }
  }
  return found;
}

const [ROWS, EXCEPTIONS] = readFileSync(`${ROOT}/${PAGE}`, "utf8").split("\n## Not in a title\n");

/** Ids that no title has, by the page's last table. */
function idsWithoutTitle(): string[] {
  const cells = [...EXCEPTIONS!.matchAll(/^\| ([^|]+) \|/gm)].map(([, cell]) => cell!);
  return cells.flatMap((cell) => cell.match(/\b[A-Za-z]+-?[A-Z]?\d+[a-z]?\b/g) ?? []);
}

/** The first cells of the page's other tables. */
function idsOnPage(): string[] {
  const page = ROWS!;
  return [...page.matchAll(/^\| ([A-Za-z]+-?[A-Z]?\d+[a-z]?) \|/gm)].map(([, id]) => id!);
}

it("reads one or several ids at the beginning of a title", () => {
  expect(idsOf("E16 no more comes back than was taken")).toEqual(["E16"]);
  expect(idsOf("E2BIG is an error")).toEqual([]);
  expect(idsOf("fault-G4, H6: states that flap")).toEqual(["fault-G4", "fault-H6"]);
  expect(idsOf("fault-G2, XSA-391: an event storm")).toEqual(["fault-G2"]);
  expect(idsOf("attack-S2b, attack-S2c a flood")).toEqual(["attack-S2b", "attack-S2c"]);
  expect(idsOf("guest-1 a flag")).toEqual(["guest-1"]);
});

it("every id in a title stands once on the page of ids", () => {
  const page = idsOnPage();
  const unknown = [...idsInTitles()].filter(([id]) => !page.includes(id));
  expect(unknown, `missing in ${PAGE}`).toEqual([]);
  expect(
    page.filter((id, at) => page.indexOf(id) !== at),
    `twice in ${PAGE}`,
  ).toEqual([]);
});

it("every row of the page stands in a title, or among those that do not, and not in both", () => {
  const titles = idsInTitles();
  const without = idsWithoutTitle();
  const page = idsOnPage();
  expect(page.filter((id) => !titles.has(id) && !without.includes(id))).toEqual([]);
  expect(without.filter((id) => titles.has(id) || !page.includes(id))).toEqual([]);
});
