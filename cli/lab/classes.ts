/**
 * A class of NICs: one entry with `count`. In each text of it {n} is the number of the NIC, from 1.
 *
 *   name = "pc{n}"                      pc1, pc2 ... pc20
 *   name = "pc{nn}"                     pc01, pc02 ... pc20
 *   addresses = ["10.77.0.{n+10}/24"]   10.77.0.11/24, 10.77.0.12/24 ... 10.77.0.30/24
 */
import type { Table } from "../config/toml.ts";

const NUMBER = /\{(n{1,4})(?:\+(\d{1,6}))?\}/g;

/** Returns the entry with the texts of NIC number `n`. */
export function numbered(entry: Table, n: number): Table {
  return Object.fromEntries(
    Object.entries(entry)
      .filter(([key]) => key !== "count")
      .map(([key, value]) => [key, withNumber(value, n)]),
  );
}

function withNumber(value: unknown, n: number): unknown {
  if (Array.isArray(value)) return value.map((item) => withNumber(item, n));
  if (typeof value !== "string") return value;
  return value.replace(NUMBER, (_, places: string, offset = "0") =>
    String(n + Number(offset)).padStart(places.length, "0"),
  );
}

/** True for a value with {n} in a text. */
export const hasNumber = (value: unknown): boolean =>
  [value].flat().some((text) => typeof text === "string" && text.search(NUMBER) >= 0);
