/**
 * Compares the ids in the titles of tests with test/IDS.md, the page that explains them. A stage of
 * `npm run check`; exits 1 when they differ.
 */
import { globSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { ROOT } from "./support/process.ts";

const PAGE = "test/IDS.md";
/** A string literal that begins with an id. biome keeps long titles on one line. */
const LITERAL =
  /(["'`])((?:property: )?(?:(?:case|attack|guest|ux|page|mutant|fault|inv)-|[EN]\d+\b)[^\n]*?)\1/g;
/** An id with the prefix of its family, or further ids after it: `fault-G4, H6`. */
const ID =
  /\b(case|attack|guest|ux|page|mutant|fault|inv)-([A-Z]?\d+[a-z]?)((?:(?:, ?|\/)[A-Z]\d+[a-z]?\b)*)/g;
const SEED = /^([EN]\d+)\b((?:(?:, ?|\/)[EN]\d+\b)*)/;

/** The ids in a title. */
export function idsOf(title: string): string[] {
  const ids: string[] = [];
  const seed = SEED.exec(title);
  if (seed !== null) ids.push(seed[1]!, ...(seed[2]!.match(/[EN]\d+/g) ?? []));
  for (const [, family, first, more] of title.matchAll(ID)) {
    for (const id of [first!, ...(more!.match(/[A-Z]\d+[a-z]?/g) ?? [])])
      ids.push(`${family}-${id}`);
  }
  return ids;
}

/** Ids in titles, with the files of each. */
function idsInTitles(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const file of globSync("test/**/*.test.ts", { cwd: ROOT })) {
    // The titles in the test of this file are invented.
    if (file.endsWith("ids.test.ts")) continue;
    for (const [, , title] of readFileSync(`${ROOT}/${file}`, "utf8").matchAll(LITERAL)) {
      for (const id of idsOf(title!)) found.set(id, [...(found.get(id) ?? []), file]);
    }
  }
  return found;
}

const [ROWS, EXCEPTIONS] = readFileSync(`${ROOT}/${PAGE}`, "utf8").split("\n## Not in a title\n");

/** Ids without a title, from the page's last table. */
function idsWithoutTitle(): string[] {
  const cells = [...EXCEPTIONS!.matchAll(/^\| ([^|]+) \|/gm)].map(([, cell]) => cell!);
  return cells.flatMap((cell) => cell.match(/\b[A-Za-z]+-?[A-Z]?\d+[a-z]?\b/g) ?? []);
}

/** The first cells of the page's other tables. */
function idsOnPage(): string[] {
  const page = ROWS!;
  return [...page.matchAll(/^\| ([A-Za-z]+-?[A-Z]?\d+[a-z]?) \|/gm)].map(([, id]) => id!);
}

/** One line for each difference. */
function differences(): string[] {
  const titles = idsInTitles();
  const without = idsWithoutTitle();
  const page = idsOnPage();
  return [
    ...[...titles]
      .filter(([id]) => !page.includes(id))
      .map(([id, files]) => `${id} of ${files.join(", ")} has no row on the page`),
    ...page
      .filter((id, at) => page.indexOf(id) !== at)
      .map((id) => `${id} has two rows on the page`),
    ...page
      .filter((id) => !titles.has(id) && !without.includes(id))
      .map((id) => `${id} is in no title, and the page gives no reason`),
    ...without
      .filter((id) => titles.has(id))
      .map((id) => `${id} is in a title, and the page says that it is in none`),
    ...without
      .filter((id) => !page.includes(id))
      .map((id) => `${id} has a reason on the page, and no row`),
  ];
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const lines = differences();
  for (const line of lines) console.error(`${PAGE}: ${line}`);
  process.exitCode = lines.length === 0 ? 0 : 1;
}
