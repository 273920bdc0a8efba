/** A guest's side of a grant table: makes the records that `grant` and `end_grant` carry. */
import { GrantTable, type GrantTableOptions, type Mapping } from "../../device/xen/grant-table.ts";
import { endGrantRecord, grantRecordV1, grantRecordV2, grantRef } from "../../shared/xen/grant.ts";

export interface Told {
  readonly reference: number;
  readonly readers: number;
  readonly writers: number;
}

export interface GrantedEntry {
  readonly flags: number;
  readonly domid: number;
  readonly frame: number;
  /** Version 2 with SUB_PAGE. */
  readonly pageOff?: number;
  readonly length?: number;
}

export class GuestGrants {
  readonly table: GrantTable;
  /** Every call of the sink, in order. */
  readonly told: Told[] = [];
  /** The guest's own view of its entries' use: the sum of what it was told. */
  readonly readers = new Map<number, number>();
  readonly writers = new Map<number, number>();

  constructor(options: Partial<Omit<GrantTableOptions, "use">> = {}) {
    this.table = new GrantTable({
      domid: 1,
      ...options,
      use: (reference, readers, writers) => {
        this.told.push({ reference, readers, writers });
        this.readers.set(reference, (this.readers.get(reference) ?? 0) + readers);
        this.writers.set(reference, (this.writers.get(reference) ?? 0) + writers);
      },
    });
  }

  /** Maps for domain 0, or for another, and expects that to succeed. */
  map(reference: number, write = true, caller = 0): Mapping {
    const mapping = this.table.map(reference, write, caller);
    if (typeof mapping === "number") throw new Error(`map of ${reference}: GNTST ${mapping}`);
    return mapping;
  }

  /** Posts entries, `[reference, entry]` each, in the table's version or in `version`. */
  grant(entries: readonly [number, GrantedEntry][], version = this.table.version): void {
    const size = version === 1 ? grantRecordV1.size : grantRecordV2.size;
    // Records never begin at the front of their message.
    const at = 3;
    const view = new DataView(new ArrayBuffer(at + entries.length * size));
    entries.forEach(([reference, e], i) => {
      const here = at + i * size;
      if (version === 1)
        grantRecordV1.write(view, here, grantRef(reference), e.flags, e.domid, e.frame);
      else {
        const { pageOff = 0, length = 0 } = e;
        grantRecordV2.write(
          view,
          here,
          grantRef(reference),
          e.flags,
          e.domid,
          pageOff,
          length,
          e.frame,
        );
      }
    });
    this.table.grant(version, view, at, entries.length);
  }

  end(...references: number[]): void {
    const at = 5;
    const view = new DataView(new ArrayBuffer(at + references.length * endGrantRecord.size));
    references.forEach((reference, i) => {
      endGrantRecord.write(view, at + i * endGrantRecord.size, grantRef(reference));
    });
    this.table.endGrant(view, at, references.length);
  }
}
