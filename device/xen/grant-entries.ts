/**
 * The entries of one guest's grant table, and the use counts of each, by reference.
 *
 * Each field is one array. The arrays grow by whole frames as the guest uses higher references, so
 * a look-up neither allocates nor hashes. A use counts once: as READ, or as WRITE, which includes
 * reading. Mappings and pins both count as uses.
 *
 *   reference ──► flags domid frame | start end | lives | readOnly writable | told change, in `dirty`
 *
 * Source: xen: xen/common/grant_table.c, "struct active_grant_entry".
 */
import { GrantFlag, GrantType, GTF_TYPE_MASK } from "../../shared/xen/grant.ts";

/** Highest number of uses of one entry. The wire carries changes of it in signed 16 bits. */
export const MAX_USES = 0x7fff;

export class GrantEntries {
  /** Flags as the guest wrote them. Their READING and WRITING bits are ignored: the counts hold. */
  flags = new Uint16Array(0);
  domid = new Uint16Array(0);
  frame = new Float64Array(0);
  /** The granted part of the page: bytes [start, end). */
  start = new Uint16Array(0);
  end = new Uint32Array(0);
  /** How often the entry was ended or changed while in use. Tells a current use from an earlier one. */
  lives = new Uint32Array(0);
  /** Number of uses that only read, and of uses that may write. Both set READING, as in Xen. */
  readOnly = new Uint16Array(0);
  writable = new Uint16Array(0);
  /** Changes of the READING and WRITING counts that the guest does not know yet. */
  #readers = new Int16Array(0);
  #writers = new Int16Array(0);
  #isDirty = new Uint8Array(0);
  #dirty = new Uint32Array(0);
  #dirtyCount = 0;
  /** Number of uses of all entries. */
  #uses = 0;
  /** All entries from this reference on are unset since the last `forget`. */
  #reached = 0;

  /** Number of references with an entry. */
  get length(): number {
    return this.flags.length;
  }

  /** Makes room for `length` references; new entries are 0. */
  grow(length: number): void {
    if (length <= this.length) return;
    this.flags = enlarge(this.flags, new Uint16Array(length));
    this.domid = enlarge(this.domid, new Uint16Array(length));
    this.frame = enlarge(this.frame, new Float64Array(length));
    this.start = enlarge(this.start, new Uint16Array(length));
    this.end = enlarge(this.end, new Uint32Array(length));
    this.lives = enlarge(this.lives, new Uint32Array(length));
    this.readOnly = enlarge(this.readOnly, new Uint16Array(length));
    this.writable = enlarge(this.writable, new Uint16Array(length));
    this.#readers = enlarge(this.#readers, new Int16Array(length));
    this.#writers = enlarge(this.#writers, new Int16Array(length));
    this.#isDirty = enlarge(this.#isDirty, new Uint8Array(length));
    this.#dirty = enlarge(this.#dirty, new Uint32Array(length));
  }

  /** Whether any entry from `first` on is in use. A guest may ask often, so this does not walk all. */
  anyUsedFrom(first: number): boolean {
    let below = 0;
    for (let reference = 0; reference < first; reference++) below += this.uses(reference);
    return this.#uses > below;
  }

  /** Forgets entries from `first` on. None of them may be in use. */
  clearFrom(first: number): void {
    const end = this.#reached;
    if (end <= first) return;
    this.flags.fill(0, first, end);
    this.domid.fill(0, first, end);
    this.frame.fill(0, first, end);
    this.start.fill(0, first, end);
    this.end.fill(0, first, end);
    this.#reached = first;
  }

  set(
    reference: number,
    flags: number,
    domid: number,
    frame: number,
    start: number,
    end: number,
  ): void {
    if (reference >= this.#reached) this.#reached = reference + 1;
    this.flags[reference] = flags;
    this.domid[reference] = domid;
    this.frame[reference] = frame;
    this.start[reference] = start;
    this.end[reference] = end;
  }

  /** Whether the entry grants memory, the only type that is served. */
  permits(reference: number): boolean {
    return (this.flags[reference]! & GTF_TYPE_MASK) === GrantType.PERMIT_ACCESS;
  }

  isReadOnly(reference: number): boolean {
    return (this.flags[reference]! & GrantFlag.READONLY) !== 0;
  }

  /** Whether the entry grants part of a page, which can't be mapped. */
  isSubPage(reference: number): boolean {
    return (this.flags[reference]! & GrantFlag.SUB_PAGE) !== 0;
  }

  uses(reference: number): number {
    return this.readOnly[reference]! + this.writable[reference]!;
  }

  /** Counts one more use. The caller has checked that `uses` is below MAX_USES. */
  begin(reference: number, write: boolean): void {
    if (write) this.writable[reference]!++;
    else this.readOnly[reference]!++;
    this.#uses++;
    this.#change(reference, 1, write);
  }

  /** Counts one use less. Returns false when there was none of that kind. */
  finish(reference: number, write: boolean): boolean {
    const kind = write ? this.writable : this.readOnly;
    const count = kind[reference];
    if (count === undefined || count === 0) return false;
    kind[reference] = count - 1;
    this.#uses--;
    this.#change(reference, -1, write);
    return true;
  }

  #change(reference: number, by: number, write: boolean): void {
    this.#readers[reference]! += by;
    if (write) this.#writers[reference]! += by;
    if (this.#isDirty[reference] !== 0) return;
    this.#isDirty[reference] = 1;
    this.#dirty[this.#dirtyCount++] = reference;
  }

  /** Reports the net changes and forgets them. An entry without a net change is skipped. */
  flush(use: (reference: number, readers: number, writers: number) => void): void {
    const count = this.#dirtyCount;
    this.#dirtyCount = 0;
    for (let i = 0; i < count; i++) {
      const reference = this.#dirty[i]!;
      const readers = this.#readers[reference]!;
      const writers = this.#writers[reference]!;
      this.#isDirty[reference] = 0;
      this.#readers[reference] = 0;
      this.#writers[reference] = 0;
      if (readers !== 0 || writers !== 0) use(reference, readers, writers);
    }
  }
}

function enlarge<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
