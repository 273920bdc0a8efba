/** A guest's side of a grant table: makes the records that `grant` and `end_grant` carry. */
import { GrantTable, type GrantTableOptions, type Mapping } from "../../device/xen/grant-table.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { GRANT_RECORD_BYTES, type GrantVersion } from "../../shared/wire/protocol.ts";
import {
  endGrantRecord,
  GRANT_RECORD_ENTRY,
  grantEntry,
  grantRecord,
  grantRef,
} from "../../shared/xen/grant.ts";

export type Told = Readonly<Record<"reference" | "readers" | "writers", number>>;

/** `pageOff` and `length` are set in version 2 with SUB_PAGE, else 0. */
export type GrantEntry = Readonly<
  Record<"flags" | "domid" | "frame" | "pageOff" | "length", number>
>;
export type GrantedEntry = Omit<GrantEntry, "pageOff" | "length"> & Partial<GrantEntry>;

export class GuestGrants {
  readonly table: GrantTable;
  /** Every use-count change that the table reported, in order. */
  readonly told: Told[] = [];
  /** The use counts of the guest's entries, as the guest computes them from these changes. */
  readonly readers = new Map<number, number>();
  readonly writers = new Map<number, number>();

  /** `heard` is called for each use-count change. */
  constructor(
    options: Partial<Omit<GrantTableOptions, "use">> = {},
    heard: (told: Told) => void = () => {},
  ) {
    this.table = new GrantTable({
      domid: 1,
      ...options,
      use: (reference, readers, writers) => {
        const told = { reference, readers, writers };
        this.told.push(told);
        heard(told);
        this.readers.set(reference, (this.readers.get(reference) ?? 0) + readers);
        this.writers.set(reference, (this.writers.get(reference) ?? 0) + writers);
      },
    });
  }

  /** Maps for domain 0 or another. Throws when the map fails. */
  map(reference: number, write = true, caller = 0): Mapping {
    const mapping = this.table.map(reference, write, caller);
    if (typeof mapping === "number") throw new Error(`map of ${reference}: GNTST ${mapping}`);
    return mapping;
  }

  /** Posts entries, `[reference, entry]` each, in the table's version or in `version`. */
  grant(entries: readonly [number, GrantedEntry][], version = this.table.version): void {
    const records = grantRecords(entries, version);
    // In a real message, records never begin at offset 0.
    this.table.grant(version, viewOf(Buffer.concat([Buffer.alloc(3), records])), 3, entries.length);
  }

  end(...references: number[]): void {
    const records = Buffer.concat([Buffer.alloc(5), endRecords(references)]);
    this.table.endGrant(viewOf(records), 5, references.length);
  }
}

/** The column of a `grant`. */
export function grantRecords(
  entries: readonly (readonly [reference: number, GrantedEntry])[],
  version: GrantVersion = 1,
): Buffer {
  const size = GRANT_RECORD_BYTES[version];
  const bytes = Buffer.alloc(entries.length * size);
  const view = viewOf(bytes);
  entries.forEach(([reference, { flags, domid, frame, pageOff, length }], i) => {
    const gref = grantRef(reference);
    grantRecord.write(view, i * size, version, gref, flags, domid, frame, pageOff, length);
  });
  return bytes;
}

/** The column of an `end_grant`. */
export function endRecords(references: readonly number[]): Buffer {
  const bytes = Buffer.alloc(references.length * endGrantRecord.size);
  references.forEach((reference, i) => {
    endGrantRecord.write(viewOf(bytes), i * endGrantRecord.size, grantRef(reference));
  });
  return bytes;
}

/** The entries in the column of a `grant`. */
export function grantsOf(
  records: Uint8Array,
  version: GrantVersion = 1,
): (GrantEntry & { readonly reference: number })[] {
  const view = viewOf(records);
  const size = GRANT_RECORD_BYTES[version];
  return Array.from({ length: records.length / size }, (_, i) => {
    const entry = i * size + GRANT_RECORD_ENTRY;
    return {
      reference: grantRecord.reference(view, i * size),
      flags: grantEntry.flags(view, entry),
      domid: grantEntry.domid(view, entry),
      frame: grantEntry.frame(view, entry, version),
      pageOff: version === 1 ? 0 : grantEntry.pageOff(view, entry),
      length: version === 1 ? 0 : grantEntry.length(view, entry),
    };
  });
}

/** The references of an `end_grant`. */
export function endsOf(records: Uint8Array): number[] {
  const { size, reference } = endGrantRecord;
  const view = viewOf(records);
  return Array.from({ length: records.length / size }, (_, i) => reference(view, i * size));
}
