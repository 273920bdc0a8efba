/** Requests the status and the address table of a device, and checks the answers. */
import type { AddressEntry, DeviceStatus } from "../../shared/status/device-status.ts";
import { readAddresses, readStatus, StatusError } from "../../shared/status/read.ts";
import { httpUrl } from "../../shared/transport/address.ts";
import { getPage, notOurs } from "../common/device-page.ts";
import { Failure } from "../common/failure.ts";

/** Number of entries requested with one page of the address table; the largest allowed. */
const PAGE_LIMIT = 1024;

/** Sends GET /status. Rejects with Failure. */
export const askStatus = (connect: string, waitMs?: number): Promise<DeviceStatus> =>
  ask(connect, "/status", readStatus, waitMs);

/** Reads pages of /addresses until the last, at most `mostPages`. Rejects with Failure. */
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
