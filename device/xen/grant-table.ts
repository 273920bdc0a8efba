/**
 * One guest's grants, as its transactions reported them, and their uses in this process.
 *
 *   grant, end_grant ──► entries ◄── map, checkCopy, pin ── netback
 *   grant_use        ◄── counts  ◄── unmap, unpin
 *
 * The guest owns the entries, and this side owns the counts. The guest ends or changes an entry by
 * the counts that it knows, and may cross with a use that begins here. The entry then becomes what
 * the guest says. No new use begins under the old entry, and uses that have begun stay counted until
 * they end. Results are Xen's GNTST codes, 0 or a negative number, and never exceptions, because the
 * guest decides them. The guest checks each access again where its memory is.
 *
 * Source: xen: xen/common/grant_table.c, xen/include/public/grant_table.h.
 */

import type { XenStatus } from "../../shared/status/device-status.ts";
import type { LinkState } from "../../shared/wire/link-state.ts";
import {
  GRANT_RECORD_BYTES,
  type GrantVersion,
  Limits,
  WireError,
} from "../../shared/wire/protocol.ts";
import {
  endGrantRecord,
  GNTTAB_NR_RESERVED_ENTRIES,
  Gntst,
  GRANT_ENTRY_V1_SIZE,
  GRANT_ENTRY_V2_SIZE,
  GRANT_PAGE_BYTES,
  GRANT_RECORD_ENTRY,
  GrantFlag,
  grantEntry,
  grantRecord,
  grantRef,
} from "../../shared/xen/grant.ts";
import { XenErrno } from "../../shared/xen/hypercall.ts";
import { GrantEntries, MAX_USES } from "./grant-entries.ts";

/** References in one page of the table. */
const PER_FRAME = {
  1: GRANT_PAGE_BYTES / GRANT_ENTRY_V1_SIZE,
  2: GRANT_PAGE_BYTES / GRANT_ENTRY_V2_SIZE,
} as const;
/** Status words of version 2 in one page. */
const STATUS_PER_FRAME = GRANT_PAGE_BYTES / 2;
/** Highest frame number that has a bus address. */
const MAX_FRAME = Math.floor(Limits.ADDRESS / GRANT_PAGE_BYTES);
/** Highest frame number of an entry of version 1. */
const MAX_FRAME_V1 = 0xffffffff;

/** Names of the GNTST codes by their negated value, for counters. */
const STATUS_NAMES: string[] = [];
for (const [name, code] of Object.entries(Gntst)) STATUS_NAMES[-code] = name.toLowerCase();

/** Receives the net change of an entry's use counts, as the record of `grant_use` in shared/xen. */
export type UseSink = (reference: number, readers: number, writers: number) => void;

export interface GrantTableOptions {
  /** The guest that grants. */
  readonly domid: number;
  /** Most pages of the table. A page holds 512 entries of version 1 or 256 of version 2. */
  readonly maxFrames?: number;
  /** Most mappings at a time, for all backends together. */
  readonly maxMappings?: number;
  /** A use that may write counts as a reader and as a writer: Xen sets both bits. */
  readonly use: UseSink;
}

/** A mapping of an entry, from `map` to `unmap`. Only the table changes it. */
export interface Mapping {
  readonly reference: number;
  readonly write: boolean;
  /** The guest's frame number: bus address / 4096. */
  readonly frame: number;
  /** The `lives` of the entry when it was mapped. */
  readonly life: number;
  ended: boolean;
}

export class GrantTable {
  readonly domid: number;
  readonly maxFrames: number;
  readonly #use: UseSink;
  readonly #maxMappings: number;
  #mappings = 0;
  version: GrantVersion = 1;
  /** Pages in use: requested by the guest, or reached by its grants. */
  frames = 1;
  #entries = new GrantEntries();
  /** References below this have an entry: number of frames times entries in a frame. */
  #limit = 0;
  #dead = false;
  /** Number of entries that the guest ended or changed while they were in use here. */
  #endedInUse = 0;
  /** Number of refusals, by negated status. */
  readonly #refused = new Float64Array(STATUS_NAMES.length);

  constructor({ domid, maxFrames = 64, maxMappings = 1024, use }: GrantTableOptions) {
    this.domid = domid;
    this.maxFrames = maxFrames;
    this.#use = use;
    this.#maxMappings = maxMappings;
    this.#setFrames(1);
  }

  /** Pages of status words for them. Version 1 has none. */
  get statusFrames(): number {
    return this.version === 1 ? 0 : Math.ceil((this.frames * PER_FRAME[2]) / STATUS_PER_FRAME);
  }

  /** Grows the table to `frames` pages. It never shrinks. Returns false for too many. */
  setup(frames: number): boolean {
    if (frames > this.maxFrames) return false;
    if (frames > this.frames) this.#setFrames(frames);
    return true;
  }

  #setFrames(frames: number): void {
    this.frames = frames;
    this.#limit = frames * PER_FRAME[this.version];
    this.#entries.grow(this.#limit);
  }

  /**
   * Changes the layout of all entries. Returns 0 or a negated errno: EINVAL for an unknown version,
   * EBUSY while an entry is in use, ERANGE when a reserved entry does not fit. The first 8 entries,
   * reserved by the toolstack for console and xenstore, stay. All others become 0.
   */
  setVersion(version: number): number {
    if (version !== 1 && version !== 2) return -XenErrno.EINVAL;
    if (version === this.version) return 0;
    const entries = this.#entries;
    if (entries.anyUsedFrom(GNTTAB_NR_RESERVED_ENTRIES)) return -XenErrno.EBUSY;
    if (version === 1) {
      // An entry of version 1 has no room for a long frame number, nor for a part of a page.
      for (let i = 0; i < GNTTAB_NR_RESERVED_ENTRIES; i++) {
        if (!entries.permits(i)) continue;
        if (entries.frame[i]! > MAX_FRAME_V1 || entries.isSubPage(i)) return -XenErrno.ERANGE;
      }
    }
    for (let i = 0; i < GNTTAB_NR_RESERVED_ENTRIES; i++) {
      if (!entries.permits(i)) entries.set(i, 0, 0, 0, 0, 0);
      // Version 1 does not say which part: grant none until the guest writes the entry again.
      else if (entries.isSubPage(i)) entries.end[i] = entries.start[i]!;
    }
    entries.clearFrom(GNTTAB_NR_RESERVED_ENTRIES);
    this.version = version;
    this.#setFrames(this.frames);
    return 0;
  }

  /** Applies `count` records of `grant` from `at`. Throws WireError naming record and reason. */
  grant(version: GrantVersion, view: DataView, at: number, count: number): void {
    if (version !== this.version) {
      throw new WireError(
        "GRANT_VERSION",
        `grant: records of version ${version}, the table has version ${this.version}`,
      );
    }
    const size = GRANT_RECORD_BYTES[version];
    const entries = this.#entries;
    for (let i = 0; i < count; i++, at += size) {
      const reference = grantRecord.reference(view, at);
      if (reference >= this.#limit) this.#reach(reference, i);
      this.#leave(reference);
      const entry = at + GRANT_RECORD_ENTRY;
      const flags = grantEntry.flags(view, entry);
      const domid = grantEntry.domid(view, entry);
      const frame = grantEntry.frame(view, entry, version);
      const isSubPage = version === 2 && (flags & GrantFlag.SUB_PAGE) !== 0;
      const start = isSubPage ? grantEntry.pageOff(view, entry) : 0;
      const length = isSubPage ? grantEntry.length(view, entry) : GRANT_PAGE_BYTES;
      entries.set(reference, flags, domid, frame, start, start + length);
    }
  }

  /** Grows the table to the page of `reference`, which record `record` grants. */
  #reach(reference: number, record: number): void {
    this.#checkChange("grant", reference, record);
    this.#setFrames(Math.floor(reference / PER_FRAME[this.version]) + 1);
  }

  /** Applies `count` records of `end_grant` from `at`. Throws WireError naming record and reason. */
  endGrant(view: DataView, at: number, count: number): void {
    for (let i = 0; i < count; i++, at += endGrantRecord.size) {
      const reference = endGrantRecord.reference(view, at);
      if (reference >= this.#limit) {
        this.#checkChange("end_grant", reference, i);
        continue;
      }
      this.#leave(reference);
      // Nobody looks at the other fields of an entry without flags.
      this.#entries.flags[reference] = 0;
    }
  }

  /** Tells what is granted, and what of it is in use, to a capture that begins now. */
  tellState(state: LinkState): void {
    const entries = this.#entries;
    for (let reference = 0; reference < this.#limit; reference++) {
      const flags = entries.flags[reference]!;
      if (flags === 0) continue;
      const [domid, frame] = [entries.domid[reference]!, entries.frame[reference]!];
      const isPart = entries.isSubPage(reference);
      const start = isPart ? entries.start[reference]! : 0;
      const length = isPart ? entries.end[reference]! - start : 0;
      state.grant(this.version, grantRef(reference), flags, domid, frame, start, length);
    }
    for (let reference = 0; reference < this.#limit; reference++) {
      const uses = entries.uses(reference);
      // A use that writes reads too.
      if (uses !== 0) state.grantUse(grantRef(reference), uses, entries.writable[reference]!);
    }
  }

  /** Called before an entry changes. Mappings of the old entry no longer reach its page. */
  #leave(reference: number): void {
    const entries = this.#entries;
    if (entries.uses(reference) === 0 || entries.flags[reference] === 0) return;
    entries.lives[reference]!++;
    this.#endedInUse++;
  }

  #checkChange(what: string, reference: number, record: number): void {
    const limit = this.maxFrames * PER_FRAME[this.version];
    if (reference >= limit) {
      throw new WireError(
        "GRANT_REFERENCE",
        `${what}: record ${record}: reference ${reference}, the table ends at ${limit}`,
      );
    }
  }

  /**
   * Maps an entry for the domain `caller`, for reading or also for writing. Returns the mapping, or a
   * negative GNTST status. The use lasts until `unmap`.
   */
  map(reference: number, write: boolean, caller: number): Mapping | number {
    if (this.#mappings === this.#maxMappings) return this.#refuse(Gntst.NO_SPACE);
    const status = this.#check(reference, write, caller);
    if (status !== Gntst.OKAY) return this.#refuse(status);
    const entries = this.#entries;
    // A part of a page can't be mapped: a mapping would expose the rest of the page.
    if (entries.isSubPage(reference) || entries.uses(reference) === MAX_USES) {
      return this.#refuse(Gntst.GENERAL_ERROR);
    }
    entries.begin(reference, write);
    this.#mappings++;
    const frame = entries.frame[reference]!;
    return { reference, write, frame, life: entries.lives[reference]!, ended: false };
  }

  /** Ends a mapping. Returns a GNTST status: a mapping ends once, or with its domain (XSA-224). */
  unmap(mapping: Mapping): number {
    if (this.#dead || mapping.ended) return this.#refuse(Gntst.BAD_HANDLE);
    mapping.ended = true;
    this.#mappings--;
    this.unpin(mapping.reference, mapping.write);
    return Gntst.OKAY;
  }

  /**
   * Whether the guest still grants the page by the entry that was mapped. When it does not, nothing
   * may be written under the reference, because it may grant another page by now. The mapping must
   * still be ended.
   */
  reaches({ reference, life, ended }: Mapping): boolean {
    return !ended && this.#entries.lives[reference] === life;
  }

  /**
   * Checks whether `caller` may copy `length` bytes at `offset` of the granted page. `write` is a
   * copy into the page. Returns a GNTST status. As in Xen, length 0 passes for every reference.
   */
  checkCopy(
    reference: number,
    offset: number,
    length: number,
    write: boolean,
    caller: number,
  ): number {
    if (length === 0) return Gntst.OKAY;
    const status = this.#check(reference, write, caller);
    if (status !== Gntst.OKAY) return this.#refuse(status);
    const end = offset + length;
    if (end > GRANT_PAGE_BYTES) return this.#refuse(Gntst.BAD_COPY_ARG);
    if (offset < this.#entries.start[reference]! || end > this.#entries.end[reference]!) {
      return this.#refuse(Gntst.GENERAL_ERROR);
    }
    return Gntst.OKAY;
  }

  /** The checks that mapping and copying share: reference, type, domain, mode, frame. */
  #check(reference: number, write: boolean, caller: number): number {
    // This form of the comparison also refuses NaN.
    if (!(reference < this.#limit)) return Gntst.BAD_GNTREF;
    const entries = this.#entries;
    if (!entries.permits(reference)) return Gntst.GENERAL_ERROR;
    if (entries.domid[reference] !== caller) return Gntst.GENERAL_ERROR;
    if (write && entries.isReadOnly(reference)) return Gntst.GENERAL_ERROR;
    if (entries.frame[reference]! > MAX_FRAME) return Gntst.BAD_PAGE;
    return Gntst.OKAY;
  }

  /**
   * Begins a use that outlasts a batch. A guest that knows of it does not end the entry before
   * `unpin`, which must be called as often and with the same `write`. Returns a GNTST status; only 0
   * pins. The caller has called `checkCopy`. A copy within a batch needs no pin.
   */
  pin(reference: number, write: boolean): number {
    if (!(reference < this.#limit)) return this.#refuse(Gntst.BAD_GNTREF);
    const entries = this.#entries;
    if (
      !entries.permits(reference) ||
      (write && entries.isReadOnly(reference)) ||
      entries.uses(reference) === MAX_USES
    ) {
      return this.#refuse(Gntst.GENERAL_ERROR);
    }
    entries.begin(reference, write);
    return Gntst.OKAY;
  }

  /** Ends a use. Throws when there is none: that is a fault of this program, never of the guest. */
  unpin(reference: number, write: boolean): void {
    // The counts of a dead domain are gone. The holder of a use may still end it later.
    if (this.#dead || this.#entries.finish(reference, write)) return;
    throw new Error(`grant ${reference} of domain ${this.domid}: a use ends that never began`);
  }

  /** The guest's frame that an entry grants; -1 without a grant. */
  frameOf(reference: number): number {
    if (!(reference < this.#limit) || !this.#entries.permits(reference)) return -1;
    return this.#entries.frame[reference]!;
  }

  /** The use counts that the guest is told. Its in-use bits are set where a count is above 0. */
  usesOf(reference: number): { readonly readers: number; readonly writers: number } {
    const writers = this.#entries.writable[reference] ?? 0;
    return { readers: (this.#entries.readOnly[reference] ?? 0) + writers, writers };
  }

  /** Reports the net changes of use counts since the last call, one call of `tell` for each entry. */
  flushUses(): void {
    this.#entries.flush(this.#use);
  }

  /**
   * The domain died. Removes every entry, mapping and pin without a report. `unpin` of an earlier pin
   * does nothing.
   */
  revokeAll(): void {
    this.#dead = true;
    this.#limit = 0;
    this.#entries = new GrantEntries();
    this.#mappings = 0;
  }

  #refuse(status: number): number {
    this.#refused[-status]!++;
    return status;
  }

  snapshot(): XenStatus["grants"] {
    const entries = this.#entries;
    let granted = 0;
    let inUse = 0;
    let readers = 0;
    let writers = 0;
    for (let i = 0; i < this.#limit; i++) {
      if (entries.permits(i)) granted++;
      if (entries.uses(i) !== 0) inUse++;
      readers += entries.uses(i);
      writers += entries.writable[i]!;
    }
    const refused: Record<string, number> = {};
    this.#refused.forEach((count, i) => {
      if (count > 0) refused[STATUS_NAMES[i]!] = count;
    });
    return {
      domid: this.domid,
      version: this.version,
      frames: this.frames,
      maxFrames: this.maxFrames,
      granted,
      inUse,
      readers,
      writers,
      mapped: this.#mappings,
      endedInUse: this.#endedInUse,
      refused,
    };
  }
}
