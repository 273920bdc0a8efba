/**
 * A paravirtual guest's pages, and the device's copies of those that are windows.
 *
 *   pages   what the guest has        windows   what the device has of it
 *   posted  everything that went to the guest, in its order
 *
 * A write by grant lands in the guest's page when the guest's own entry allows it; one that it
 * does not allow is kept in `violations`, and lands nowhere.
 */
import { viewOf } from "../../shared/bytes/words.ts";
import { busAddress, Space } from "../../shared/wire/records.ts";
import { type DmaWrite, FakeDma } from "./fake-host.ts";
import type { Told } from "./guest-grants.ts";

export const PAGE = 4096;

/** One thing that the guest was sent. */
export type Posted =
  | ({ readonly kind: "write"; readonly reference: number; readonly offset: number } & Pick<
      DmaWrite,
      "length" | "type"
    >)
  | ({ readonly kind: "use" } & Told)
  | { readonly kind: "read"; readonly reference: number }
  | { readonly kind: "event"; readonly port: number };

/** What the guest's own table says of a reference. */
export interface OwnEntry {
  readonly frame: number;
  readonly readonly: boolean;
}

export class FakeGuestMemory extends FakeDma {
  readonly pages = new Map<number, Uint8Array>();
  readonly entries = new Map<number, OwnEntry>();
  readonly posted: Posted[] = [];
  readonly violations: string[] = [];

  constructor() {
    super(Space.GRANT);
  }

  page(frame: number): Uint8Array {
    let page = this.pages.get(frame);
    if (page === undefined) {
      page = new Uint8Array(PAGE);
      this.pages.set(frame, page);
    }
    return page;
  }

  addWindow(frame: number): void {
    const bytes = this.page(frame).slice();
    this.windows.push({ address: busAddress(frame * PAGE), bytes, view: viewOf(bytes) });
  }

  protected find(
    address: number,
    length: number,
    access: "read" | "write",
  ): Uint8Array | undefined {
    const [reference, offset] = splitAddress(address);
    const entry = this.entries.get(reference);
    const allowed = entry !== undefined && offset + length <= PAGE;
    if (allowed && (access === "read" || !entry.readonly)) {
      return this.page(entry.frame).subarray(offset, offset + length);
    }
    if (access === "write") this.violations.push(`${length} bytes to ${reference}+${offset}`);
    return undefined;
  }

  protected note(access: DmaWrite | "read", address: number): void {
    const [reference, offset] = splitAddress(address);
    if (access === "read") this.posted.push({ kind: "read", reference });
    else {
      const { length, type } = access;
      this.posted.push({ kind: "write", reference, offset, length, type });
    }
  }
}

const splitAddress = (address: number): [reference: number, offset: number] => [
  Math.floor(address / PAGE),
  address % PAGE,
];
