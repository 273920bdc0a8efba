/**
 * GET /addresses: the address table in pages, in the order of the addresses.
 *
 *   after=MAC   only addresses above this one, which is the `next` of the page before (MAC/VLAN in
 *               a segment with VLANs)
 *   segment=NAME   the segment; default the first that the client may see
 *   limit=N     most entries of a page, 1 to 1024 (default 256)
 */
import { macKey, parseMac } from "../../shared/net/ethernet.ts";
import type { AddressEntry, AddressPage } from "../../shared/status/device-status.ts";
import { tableKey } from "../switch/mac-table.ts";
import { MAX_VLAN } from "../switch/port-options.ts";
import type { AddressTable } from "../switch/switch.ts";

const MAX_LIMIT = 1024;
const DEFAULT_LIMIT = 256;
/** Most characters of a wrong word that an error message repeats. */
const MAX_WORD_CHARS = 40;

/** Returns the page that `query` asks for, or a sentence that names the mistake in `query`. */
export function addressPage(
  { keys, entry }: AddressTable,
  asked: URLSearchParams,
): AddressPage | string {
  let after = -1n;
  let limit = DEFAULT_LIMIT;
  for (const [name, value] of asked) {
    if (name !== "after" && name !== "limit" && name !== "segment") {
      return `${quoted(name)} is unknown; there is after, limit, segment`;
    }
    if (asked.getAll(name).length > 1) return `"${name}" is given twice`;
    // The caller has chosen the table by it.
    if (name === "segment") continue;
    if (name === "limit") {
      limit = /^\d{1,4}$/.test(value) ? Number(value) : 0;
      if (limit < 1 || limit > MAX_LIMIT) {
        return `"limit" takes a whole number from 1 to ${MAX_LIMIT}, not ${quoted(value)}`;
      }
      continue;
    }
    try {
      after = afterOf(value);
    } catch {
      return `"after" takes a MAC address, or MAC/VLAN, not ${quoted(value)}`;
    }
  }
  let at = keys.findIndex((key) => key > after);
  if (at < 0) at = keys.length;
  const addresses: AddressEntry[] = [];
  for (; at < keys.length && addresses.length < limit; at++) {
    const found = entry(keys[at]!);
    if (found !== undefined) addresses.push(found);
  }
  const last = addresses.at(-1);
  const next = at < keys.length && last !== undefined ? textOf(last) : undefined;
  return { total: keys.length, addresses, next };
}

const textOf = ({ mac, vlan }: AddressEntry): string =>
  vlan === undefined ? mac : `${mac}/${vlan}`;

/** Returns the key of an address that `textOf` wrote. Throws for another text. */
function afterOf(text: string): bigint {
  const [mac = "", vlan = "0", ...rest] = text.split("/");
  if (rest.length > 0 || !/^\d{1,4}$/.test(vlan) || Number(vlan) > MAX_VLAN) throw new TypeError();
  return tableKey(macKey(parseMac(mac), 0), Number(vlan));
}

const quoted = (text: string): string => JSON.stringify(text.slice(0, MAX_WORD_CHARS));
