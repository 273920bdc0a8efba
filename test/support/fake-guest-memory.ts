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
import { busAddress, type RecordType, Space } from "../../shared/wire/records.ts";
import { type DmaWrite, FakeDma } from "./fake-host.ts";

export const PAGE = 4096;

/** One thing that the guest was sent. */
export type Posted =
  | { readonly kind: "write"; readonly type: RecordType }
  | { readonly kind: "read" | "use" }
  | { readonly kind: "event"; readonly port: number };

export class FakeGuestMemory extends FakeDma {
  readonly pages = new Map<number, Uint8Array>();
  /** What the guest's own table says of a reference. */
  readonly entries = new Map<number, { readonly frame: number; readonly readonly: boolean }>();
  readonly posted: Posted[] = [];
  readonly violations: string[] = [];
  protected readonly space = Space.GRANT;

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
    const reference = Math.floor(address / PAGE);
    const offset = address % PAGE;
    const entry = this.entries.get(reference);
    const allowed = entry !== undefined && offset + length <= PAGE;
    if (allowed && (access === "read" || !entry.readonly)) {
      return this.page(entry.frame).subarray(offset, offset + length);
    }
    if (access === "write") this.violations.push(`${length} bytes to ${reference}+${offset}`);
    return undefined;
  }

  protected note(access: DmaWrite | "read"): void {
    this.posted.push(access === "read" ? { kind: "read" } : { kind: "write", type: access.type });
  }
}
