import { describe, expect, it } from "vitest";
import { statusLines } from "../../cli/status/text.ts";
import { addressPage } from "../../device/http/address-page.ts";
import { MacTable } from "../../device/switch/mac-table.ts";
import { Switch } from "../../device/switch/switch.ts";
import { statusWith } from "../support/status.ts";

const macOf = (n: number): string => `02:00:00:00:${hex(n >> 8)}:${hex(n)}`;
const hex = (n: number): string => (n & 0xff).toString(16).padStart(2, "0");

/** A table of `count` addresses behind port 0, learned in a random-looking order. */
function tableOf(count: number) {
  const macs = new MacTable({ ageMs: 1e6, perPort: 2 ** 16 });
  for (let i = 0; i < count; i++) macs.learn(0x0200, (i * 7919) % count, 0, 0);
  return {
    keys: macs.keys(0),
    entry: (key: bigint) => {
      const found = macs.entry(key, 0);
      if (found === undefined) return undefined;
      return { mac: found.mac, port: "p", static: false, ageSeconds: 0, moves: 0, movedFrom: "" };
    },
    forget: (n: number) => macs.forget(0x0200, n),
  };
}

function pageOf(table: ReturnType<typeof tableOf>, query: string) {
  const page = addressPage(table, new URLSearchParams(query));
  if (typeof page === "string") throw new Error(page);
  return page;
}

describe("GET /addresses", () => {
  it.each([1, 100, 256, 1024])(
    "attack-S1: pages of %i are the table, once and in order",
    (limit) => {
      const table = tableOf(3000);
      const macs: string[] = [];
      let after = "";
      let pages = 0;
      for (;;) {
        const { total, addresses, next } = pageOf(table, `limit=${limit}${after}`);
        pages++;
        if (total !== 3000 || addresses.length > limit) throw new Error(`page ${pages}: ${total}`);
        macs.push(...addresses.map(({ mac }) => mac));
        if (next === undefined) break;
        after = `&after=${next}`;
      }
      expect(pages).toBe(Math.ceil(3000 / limit));
      expect(macs.join()).toBe(Array.from({ length: 3000 }, (_, n) => macOf(n)).join());
    },
  );

  it("has 256 entries unless told otherwise, and none of an empty table", () => {
    expect(pageOf(tableOf(300), "").addresses.length).toBe(256);
    expect(pageOf(tableOf(300), "").next).toBe(macOf(255));
    expect(pageOf(tableOf(0), "")).toEqual({ total: 0, addresses: [] });
    expect(pageOf(tableOf(5), "after=ff-ff-ff-ff-ff-ff").addresses).toEqual([]);
  });

  it("leaves out what is gone since the keys were read", () => {
    const table = tableOf(10);
    for (const n of [2, 3, 9]) table.forget(n);
    const { addresses, next } = pageOf(table, "limit=5");
    expect(addresses.map(({ mac }) => mac)).toEqual([0, 1, 4, 5, 6].map(macOf));
    expect(pageOf(table, `limit=5&after=${next}`).addresses.map(({ mac }) => mac)).toEqual(
      [7, 8].map(macOf),
    );
  });

  it.each([
    ["limit=0", /1 to 1024/],
    ["limit=1025", /1 to 1024/],
    ["limit=1e2", /1 to 1024/],
    ["limit=", /1 to 1024/],
    ["after=", /takes a MAC/],
    ["after=zz", /takes a MAC/],
    ["after=02:00:00:00:00:01&after=02:00:00:00:00:02", /given twice/],
    ["page=2", /"page" is unknown; there is after, limit/],
    ["constructor=1", /unknown/],
  ])("%s is refused with a sentence", (query, says) => {
    expect(addressPage(tableOf(5), new URLSearchParams(query))).toMatch(says);
  });

  it("attack-S1: the snapshot of a switch has the number of its addresses, and no list", () => {
    const segment = new Switch({ name: "s", now: () => 0 });
    expect(segment.snapshot().addresses).toBe(0);
    expect(JSON.stringify(segment.snapshot())).not.toContain('"mac"');
  });
});

it("attack-S1: status shows the entries that it was given, and how many more there are", () => {
  const entry = { mac: "02:00:00:00:00:01", port: "a", ageSeconds: 3, moves: 0, movedFrom: "" };
  const lines = statusLines({
    ...statusWith({
      segments: [{ ports: [], left: [], addresses: 7 }],
      nics: [],
      left: { nics: [] },
    }),
    addresses: {
      lan0: [
        { ...entry, static: false },
        { ...entry, mac: "02:00:00:00:00:02", static: true },
      ],
    },
  });
  expect(lines.join("\n")).toMatch(/02:00:00:00:00:01 +a +3 s.*\n02:00:00:00:00:02 +a +static/);
  expect(lines.at(-1)).toBe("... and 5 more");
});
