/** Checks the pages of a device. A page is untrusted until its shape has been checked. */
import type { z } from "zod";
import { placeOf } from "../issue-place.ts";
import { type AddressPage, addressPage, type DeviceStatus, deviceStatus } from "./device-status.ts";

/** Maximum number of characters of a path in a page that an error message repeats. */
const MAX_PLACE_CHARS = 80;

/** A page does not have the expected shape. The message names the first place that differs. */
export class StatusError extends Error {
  override readonly name = "StatusError";
  readonly code = "STATUS_SHAPE";
}

/** Checks a page of `/status`. Throws StatusError. Unknown keys stay in the result. */
export const readStatus = (page: unknown): DeviceStatus => read(deviceStatus, page);
/** Checks a page of `/addresses`. Throws StatusError. */
export const readAddresses = (page: unknown): AddressPage => read(addressPage, page);

function read<T>(schema: z.ZodType<T>, page: unknown): T {
  const [first] = schema.safeParse(page).error?.issues ?? [];
  if (first === undefined) return page as T;
  const { message, path } = first;
  const where = placeOf(path)
    .slice(0, MAX_PLACE_CHARS)
    .replace(/[^\x20-\x7e]/g, "?");
  throw new StatusError(`${where || "the page"}: ${message.replace("Invalid input: ", "")}`);
}
