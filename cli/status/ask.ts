/** Asks a device for its status and its address table, and checks what comes. */
import type { AddressEntry, DeviceStatus } from "../../shared/status/device-status.ts";
import { readAddresses, readStatus, StatusError } from "../../shared/status/read.ts";
import { httpUrl } from "../../shared/transport/address.ts";
import { getPage, notOurs } from "../common/device-page.ts";
import { Failure } from "../common/failure.ts";

/** Entries that are asked for with one page of the address table; its largest. */
const PAGE_LIMIT = 1024;

/** GET /status. Throws Failure with a sentence. */
export const askStatus = (connect: string, waitMs?: number): Promise<DeviceStatus> =>
  ask(connect, "/status", readStatus, waitMs);

/** GET /addresses until there is no next page, or `mostPages` were read. Throws Failure. */
export async function askAddresses(connect: string, mostPages: number): Promise<AddressEntry[]> {
  const all: AddressEntry[] = [];
  let after = "";
  for (let page = 0; page < mostPages; page++) {
    const path = `/addresses?limit=${PAGE_LIMIT}${after}`;
    const { addresses, next } = await ask(connect, path, readAddresses);
    all.push(...addresses);
    if (next === undefined) break;
    after = `&after=${encodeURIComponent(next)}`;
  }
  return all;
}

async function ask<T>(
  connect: string,
  path: string,
  read: (page: unknown) => T,
  waitMs?: number,
): Promise<T> {
  const { value } = await getPage(connect, path, waitMs);
  try {
    return read(value);
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    const { host, pathname } = new URL(httpUrl(connect, path));
    if (!("segment" in value || "addresses" in value)) {
      throw notOurs(host, "its page is about something else");
    }
    throw new Failure(`the page ${pathname} of ${host} can't be read: ${error.message}`);
  }
}
