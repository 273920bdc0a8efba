/**
 * Writes what is derived from the catalogue of the wire: tables of the protocol page and the tables
 * of the Wireshark dissector. Also the JSON Schema of lab files, from the options of the commands.
 * `npm run generate`; a test fails when a file is stale.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { labJsonSchema } from "../cli/lab/schema.ts";
import { catalogue, type Field, type Name } from "../shared/wire/catalogue.ts";
import { closes, FAULT_SEVERITY_NAMES, refusals } from "../shared/wire/protocol.ts";
import { recordTypes } from "../shared/wire/records.ts";

const PAGE = "shared/wire/README.md";
const LUA = "cli/wireshark/plugin/ringwire/catalogue.lua";
const LAB_SCHEMA = "schema/lab.schema.json";
const COMMAND = "npm run generate";

const names = Object.keys(catalogue) as Name[];
const fieldsOf = (name: Name): [string, Field][] => Object.entries(catalogue[name].fields);
const isColumn = (name: Name): boolean => fieldsOf(name).some(([field]) => field === "data");

const table = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");

const DIRECTION = { device: "F→D", frontend: "D→F", both: "both", link: "both" } as const;
const number = (n: number): string => n.toLocaleString("en-US");

/** Largest values that the text of the page explains by their width. */
const WIDTHS = new Map([
  [0xff, "u8"],
  [0xffff, "u16"],
  [0xffff_ffff, "u32"],
  [2 ** 48 - 1, "u48"],
  [Number.MAX_SAFE_INTEGER, "u53"],
]);

/** `tag u32`, `space 0 to 1`, `code text(64)`, `bytes bin(65,536)`. */
function fieldText(name: string, { kind, min, max, recordBytes }: Field): string {
  switch (kind) {
    case "uint":
      return `${name} ${WIDTHS.get(max) ?? `${min} to ${number(max)}`}`;
    case "packed": {
      const sizes = typeof recordBytes === "number" ? [recordBytes] : Object.values(recordBytes!);
      return `${name} of ${sizes.join(" or ")} bytes`;
    }
    case "map":
      return "map";
    default:
      return `${name} ${kind}(${number(max)})`;
  }
}

const transactions = (): string =>
  table(
    ["op", "name", "fields", "direction", "answered by", "meaning"],
    names.map((name) => {
      const declared: { op: number; to: keyof typeof DIRECTION; reply?: Name; says: string } =
        catalogue[name];
      const fields = isColumn(name)
        ? "column"
        : fieldsOf(name)
            .map(([field, spec]) => fieldText(field, spec))
            .join(", ");
      const reply = declared.reply === undefined ? "" : `\`${declared.reply}\``;
      return [declared.op, `\`${name}\``, fields, DIRECTION[declared.to], reply, declared.says];
    }),
  );

const AGAIN = {
  never: "gives up",
  "once up": "tries again if its NIC was up",
  always: "tries again",
};

/** By the name of their region in the page. */
const REGIONS: Readonly<Record<string, () => string>> = {
  "record types": () =>
    table(
      ["type", "bytes"],
      Object.values(recordTypes).map(({ type, says }) => [type, says]),
    ),
  transactions,
  refusals: () =>
    table(
      ["code", "meaning", "a frontend then"],
      Object.entries(refusals).map(([code, { again, says }]) => [
        `\`${code}\``,
        says,
        AGAIN[again],
      ]),
    ),
  "close codes": () =>
    table(
      ["code", "meaning", "a frontend then"],
      Object.entries(closes).map(([name, { code, says, again }]) => [
        code,
        says,
        name === "MOVED" ? "connects there" : again ? "connects again" : "gives up",
      ]),
    ),
};

function page(text: string): string {
  return text.replace(
    /(<!-- generated: (.*?) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_, head: string, region: string, end: string) => `${head}${REGIONS[region]!()}\n${end}`,
  );
}

/** The narrowest type of the dissector that holds the value. */
function luaType(max: number): string {
  if (max <= 0xff) return "u8";
  if (max <= 0xffff) return "u16";
  return max <= 0xffff_ffff ? "u32" : "u64";
}

function luaField(name: string, { kind, max, hex }: Field): string {
  if (kind === "map") return "";
  if (kind !== "uint") return `, { "${name}", "${kind === "packed" ? "bin" : kind}" }`;
  return `, { "${name}", "uint", "${luaType(max)}"${hex === true ? ", hex = true" : ""} }`;
}

function lua(): string {
  const list = (items: readonly string[]): string => items.map((item) => `    ${item},\n`).join("");
  const rows = (items: readonly string[]): string[] =>
    Array.from({ length: Math.ceil(items.length / 4) }, (_, row) =>
      items.slice(4 * row, 4 * row + 4).join(", "),
    );
  return `-- Made from shared/wire/catalogue.ts by \`${COMMAND}\`.
return function(rw)
  --- By opcode: name, then the fields: name, kind, type of a number.
  rw.TRANSACTIONS = {
${list(
  names.map((name) => {
    const fields = fieldsOf(name).map(([field, spec]) => luaField(field, spec));
    return `[${catalogue[name].op}] = { "${name}"${fields.join("")} }`;
  }),
)}  }
  --- Types of records.
  rw.RECORD_TYPES = {
${list(rows(Object.entries(recordTypes).map(([name, { type }]) => `[${type}] = "${name}"`)))}  }
  rw.SEVERITIES = { ${FAULT_SEVERITY_NAMES.map((name, n) => `[${n}] = "${name}"`).join(", ")} }
end
`;
}

/** The generated files as they should be, by path from the project's root. */
export function generated(root: URL): ReadonlyMap<string, string> {
  return new Map([
    [PAGE, page(readFileSync(new URL(PAGE, root), "utf8"))],
    [LUA, lua()],
    [LAB_SCHEMA, labJsonSchema()],
  ]);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const root = new URL("..", import.meta.url);
  for (const [path, text] of generated(root)) writeFileSync(new URL(path, root), text);
}
