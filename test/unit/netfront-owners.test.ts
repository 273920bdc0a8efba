/**
 * What stands in the place of the original's locks: each field of netfront's queues and of its
 * interface has owners, named above its group, and is written by nobody else.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const ROOM = join(import.meta.dirname, "../../frontend/xen");
const FILE = /[a-z-]+\.ts\b/g;

const files = new Map(
  readdirSync(ROOM)
    .filter((name) => name.endsWith(".ts"))
    .map((name) => [name, readFileSync(join(ROOM, name), "utf8")]),
);

interface Field {
  readonly owners: readonly string[];
  /** Never assigned after the constructor, and no array whose elements could be. */
  readonly constant: boolean;
}

/** Fields of a class as it is written: a heading `// a.ts, b.ts` holds until the next one. */
function fieldsOf(file: string, className: string): Map<string, Field> {
  const text = files.get(file)!;
  const from = text.indexOf(`export class ${className} `);
  const body = text.slice(from, text.indexOf("\n  constructor(", from));
  const fields = new Map<string, Field>();
  let owners: readonly string[] = [];
  let inHeading = false;
  for (const line of body.split("\n")) {
    if (line.startsWith("  // ")) {
      owners = [...(inHeading ? owners : []), ...(line.match(FILE) ?? [])];
      inHeading = true;
      continue;
    }
    inHeading = false;
    const [, readonly, name] = /^ {2}(readonly )?(\w+)(?::| =)/.exec(line) ?? [];
    if (name === undefined) continue;
    const constant = readonly !== undefined && !/\[\]|Array/.test(line);
    fields.set(name, { owners, constant });
  }
  return fields;
}

/** The methods of a class: what its constructor sets is nobody's yet. */
function methodsOf(file: string, className: string): string {
  const text = files.get(file)!;
  const made = text.indexOf("\n  constructor(", text.indexOf(`export class ${className} `));
  return text.slice(text.indexOf("\n  }\n", made), text.indexOf("\n}\n", made));
}

/** Assignments to fields of `variable`, or to elements of them. */
function assigned(text: string, variable: string): string[] {
  const place = `\\b${variable}\\.(\\w+)(?:\\[[^\\]]*\\])?!?`;
  const after = new RegExp(`${place}\\s*(?:\\?\\?=|[-+|&]?=(?![=>])|\\+\\+|--)`, "g");
  const before = new RegExp(`(?:\\+\\+|--)${place}`, "g");
  return [...text.matchAll(after), ...text.matchAll(before)].map(([, field]) => field!);
}

test.each([
  ["rings.ts", "Rxq", "rxq"],
  ["rings.ts", "Txq", "txq"],
  ["info.ts", "NetfrontInfo", "info"],
])("%s: every field of %s has owners, and nobody else writes it", (file, className, variable) => {
  const fields = fieldsOf(file, className);
  const writes = [...files].flatMap(([from, text]) =>
    assigned(text, variable).map((f) => [f, from]),
  );
  writes.push(...assigned(methodsOf(file, className), "this").map((f) => [f, file]));
  expect(writes.length).toBeGreaterThan(10);
  for (const [name, { owners, constant }] of fields) {
    if (!constant) expect([name, owners.length > 0]).toEqual([name, true]);
    for (const owner of owners) expect([name, files.has(owner)]).toEqual([name, true]);
  }
  const strangers = writes.filter(
    ([field, writer]) => fields.get(field!)?.owners.includes(writer!) !== true,
  );
  expect(strangers).toEqual([]);
});

test("a ring's indexes are written by the data path of its queue, and by the ring", () => {
  const writers = (index: string) =>
    [...files]
      .filter(([, text]) => new RegExp(`\\b(?:ring|this)\\.${index} = `).test(text))
      .map(([file]) => file);
  expect(writers("rspCons")).toEqual(["datapath-rx.ts", "datapath-tx.ts", "memory.ts"]);
  expect(writers("reqProdPvt")).toEqual(["memory.ts"]);
});
