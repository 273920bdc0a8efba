/**
 * A paravirtual guest's pages, and the device's copies of those that are windows.
 *
 *   pages   the guest's memory        windows   the device's copies
 *   posted  everything sent to the guest, in order
 *
 * A write by grant reaches the guest's page when the guest's own grant entry allows it. Any other
 * write is recorded in `violations` and changes nothing.
 */
import { viewOf } from "../../shared/bytes/words.ts";
import { busAddress, type RecordType, Space } from "../../shared/wire/records.ts";
import { type DmaWrite, FakeDma } from "./fake-host.ts";

export const PAGE = 4096;

/** One thing sent to the guest. */
export type Posted =
  | { readonly kind: "write"; readonly type: RecordType }
  | { readonly kind: "read" | "use" }
  | { readonly kind: "event"; readonly port: number };

export class FakeGuestMemory extends FakeDma {
  readonly pages = new Map<number, Uint8Array>();
  /** The guest's own grant entries, by reference. */
  readonly entries = new Map<number, { readonly frame: number; readonly readonly: boolean }>();
  readonly posted: Posted[] = [];
  readonly violations: string[] = [];
  protected readonly space = Space.GRANT;

  page(frame: number): Uint8Array {
    const page = this.pages.get(frame) ?? new Uint8Array(PAGE);
    this.pages.set(frame, page);
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
