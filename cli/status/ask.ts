/** Requests the status and the address table of a device, and checks the answers. */
import type { AddressEntry, DeviceStatus } from "../../shared/status/device-status.ts";
import { readAddresses, readStatus, StatusError } from "../../shared/status/read.ts";
import { getPage, notOurs, pageUrl } from "../common/device-page.ts";
import { Failure } from "../common/failure.ts";
import type { Reach } from "../common/options.ts";

/** Number of entries requested with one page of the address table; the largest allowed. */
const PAGE_LIMIT = 1024;

/** Sends GET /status. Rejects with Failure. */
export const askStatus = (device: Reach, waitMs?: number): Promise<DeviceStatus> =>
  ask(device, "/status", readStatus, waitMs);

/**
 * Reads pages of /addresses of a segment until the last, at most `mostPages`. Rejects with Failure.
 */
export async function askAddresses(
  device: Reach,
  segment: string,
  mostPages: number,
): Promise<AddressEntry[]> {
  const all: AddressEntry[] = [];
  let after = "";
  for (let page = 0; page < mostPages; page++) {
    const path = `/addresses?segment=${segment}&limit=${PAGE_LIMIT}${after}`;
    const { addresses, next } = await ask(device, path, readAddresses);
    all.push(...addresses);
    if (next === undefined) break;
    after = `&after=${encodeURIComponent(next)}`;
  }
  return all;
}

async function ask<T>(
  device: Reach,
  path: string,
  read: (page: unknown) => T,
  waitMs?: number,
): Promise<T> {
  const { value } = await getPage(device, path, waitMs);
  try {
    return read(value);
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    const { host, pathname } = pageUrl(device, path);
    if (!("segments" in value || "addresses" in value)) {
      throw notOurs(host, "its page is about something else");
    }
    throw new Failure(`the page ${pathname} of ${host} can't be read: ${error.message}`);
  }
}
