/**
 * One guest's grants, as its transactions told them, and what is done with them here.
 *
 * The page itself lies with the guest; `grant` and `end_grant` bring its entries, `grant_use`
 * brings back who uses them. Statuses are Xen's GNTST codes: 0 or a negative number, never an
 * exception, because a guest decides what they are.
 *
 * Source: xen: xen/common/grant_table.c, xen/include/public/grant_table.h.
 */
import type { GrantVersion } from "../../shared/wire/transactions.ts";
import type { Snapshot } from "../nic.ts";

/** Takes the net change of an entry's use counts: shared/xen's record of `grant_use`. */
export type UseSink = (reference: number, readers: number, writers: number) => void;

export interface GrantTableOptions {
  /** The guest that grants. */
  readonly domid: number;
  /** Pages of the table: 512 entries of version 1 or 256 of version 2 each. */
  readonly maxFrames?: number;
  /** Mappings held at a time, by all backends together. */
  readonly maxMaptrack?: number;
  readonly use: UseSink;
}

/** What a handle of `map` stands for. `frame` is the guest's: bus address / 4096. */
export interface Mapping {
  readonly reference: number;
  readonly frame: number;
  readonly readonly: boolean;
}

export class GrantTable {
  readonly domid: number;

  constructor(options: GrantTableOptions) {
    this.domid = options.domid;
  }

  get version(): GrantVersion {
    throw new Error("not built yet");
  }

  /**
   * Changes the layout of all entries: 0, or a negated errno (EINVAL no such version, EBUSY an
   * entry is in use, ERANGE a reserved one does not fit). Entries but the first 8 become 0.
   */
  setVersion(_version: number): number {
    throw new Error("not built yet");
  }

  /** Applies `count` records of `grant` from `at`. Throws WireError naming record and reason. */
  grant(_version: GrantVersion, _view: DataView, _at: number, _count: number): void {
    throw new Error("not built yet");
  }

  /** Applies `count` records of `end_grant` from `at`. Throws WireError naming record and reason. */
  endGrant(_view: DataView, _at: number, _count: number): void {
    throw new Error("not built yet");
  }

  /**
   * Maps an entry for `caller`, a domain id; `flags` are GNTMAP flags. A handle (0 or more) or a
   * GNTST status below 0. The use lasts until `unmap` of that very handle by that very caller.
   */
  map(_reference: number, _flags: number, _caller: number): number {
    throw new Error("not built yet");
  }

  /** Ends a mapping; GNTST. */
  unmap(_handle: number, _caller: number): number {
    throw new Error("not built yet");
  }

  /** What `handle` maps, while it does. */
  mapped(_handle: number): Mapping | undefined {
    throw new Error("not built yet");
  }

  /**
   * Whether `caller` may copy `length` bytes at `offset` of the granted page; `write` is a copy
   * into it. GNTST. Length 0 is allowed whatever the reference, as in Xen.
   */
  checkCopy(
    _reference: number,
    _offset: number,
    _length: number,
    _write: boolean,
    _caller: number,
  ): number {
    throw new Error("not built yet");
  }

  /**
   * A use that outlasts a batch: the entry stays as it is until `unpin`, called as often with the
   * same `write`. GNTST; nothing is pinned unless it is 0. A copy within a batch needs no pin.
   */
  pin(_reference: number, _write: boolean): number {
    throw new Error("not built yet");
  }

  /** Throws when there is no such pin: that is our own mistake, never the guest's. */
  unpin(_reference: number, _write: boolean): void {
    throw new Error("not built yet");
  }

  /** The guest's frame that an entry grants, or -1. */
  frameOf(_reference: number): number {
    throw new Error("not built yet");
  }

  /** Tells the use counts that changed since last time, net, one call an entry. */
  flushUses(): void {
    throw new Error("not built yet");
  }

  /** The domain died: no entry, no mapping, no pin is left, and nobody is told. */
  revokeAll(): void {
    throw new Error("not built yet");
  }

  snapshot(): Snapshot {
    throw new Error("not built yet");
  }
}
