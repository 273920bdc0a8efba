/**
 * GET /addresses: the address table in pages, in the order of the addresses.
 *
 *   after=MAC   only addresses above this one, which is the `next` of the page before
 *   limit=N     most entries of a page, 1 to 1024 (default 256)
 */
import { macKey, parseMac } from "../../shared/net/ethernet.ts";
import type { AddressEntry, AddressPage } from "../../shared/status/device-status.ts";
import type { AddressTable } from "../switch/switch.ts";

const MAX_LIMIT = 1024;
const DEFAULT_LIMIT = 256;
/** Most characters of a wrong word that an error message repeats. */
const MAX_WORD_CHARS = 40;

/** Returns the page that `query` asks for, or a sentence that names the mistake in `query`. */
export function addressPage({ keys, entry }: AddressTable, query: string): AddressPage | string {
  const asked = new URLSearchParams(query);
  let after = -1;
  let limit = DEFAULT_LIMIT;
  for (const [name, value] of asked) {
    if (name !== "after" && name !== "limit") {
      return `${quoted(name)} is unknown; there is after, limit`;
    }
    if (asked.getAll(name).length > 1) return `"${name}" is given twice`;
    if (name === "limit") {
      limit = /^\d{1,4}$/.test(value) ? Number(value) : 0;
      if (limit < 1 || limit > MAX_LIMIT) {
        return `"limit" takes a whole number from 1 to ${MAX_LIMIT}, not ${quoted(value)}`;
      }
      continue;
    }
    try {
      after = macKey(parseMac(value), 0);
    } catch {
      return `"after" takes a MAC address, not ${quoted(value)}`;
    }
  }
  let at = keys.findIndex((key) => key > after);
  if (at < 0) at = keys.length;
  const addresses: AddressEntry[] = [];
  for (; at < keys.length && addresses.length < limit; at++) {
    const found = entry(keys[at]!);
    if (found !== undefined) addresses.push(found);
  }
  const next = at < keys.length ? addresses.at(-1)?.mac : undefined;
  return { total: keys.length, addresses, next };
}

const quoted = (text: string): string => JSON.stringify(text.slice(0, MAX_WORD_CHARS));
