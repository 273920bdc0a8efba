/**
 * The entries of one guest's grant table and how often each is used, by reference.
 *
 * One array a field, grown by whole frames as the guest reaches further, so that looking an entry
 * up neither allocates nor hashes. A use counts once: as READ, or as WRITE, which reads too. Uses
 * of both kinds come from mappings and from pins; nothing here knows which.
 *
 *   reference ──► flags domid frame | start end | lives | readOnly writable | told change, in `dirty`
 *
 * Source: xen: xen/common/grant_table.c, "struct active_grant_entry".
 */
import { GrantFlag, GrantType, GTF_TYPE_MASK } from "../../shared/xen/grant.ts";

/** Uses of one entry at a time; their number is told in signed 16 bits. */
export const MAX_USES = 0x7fff;

export class GrantEntries {
  /** As the guest wrote them. READING and WRITING among them mean nothing: the counts do. */
  flags = new Uint16Array(0);
  domid = new Uint16Array(0);
  frame = new Float64Array(0);
  /** The part of the page that is granted: [start, end). */
  start = new Uint16Array(0);
  end = new Uint32Array(0);
  /** How often the entry was ended or changed while in use: tells a use of it from one before. */
  lives = new Uint32Array(0);
  /** Uses that only read, and uses that may write. Both kinds are READING as Xen has it. */
  readOnly = new Uint16Array(0);
  writable = new Uint16Array(0);
  /** Changes of READING and WRITING counts that nobody was told yet. */
  #readers = new Int16Array(0);
  #writers = new Int16Array(0);
  #isDirty = new Uint8Array(0);
  #dirty = new Uint32Array(0);
  #dirtyCount = 0;
  /** Uses of all entries. */
  #uses = 0;
  /** No entry at or above it was ever set since they were forgotten. */
  #reached = 0;

  /** References that have an entry. */
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

  /** Is any entry from `first` on in use? Asked as often as a guest likes, so no walk over all. */
  anyUsedFrom(first: number): boolean {
    let below = 0;
    for (let reference = 0; reference < first; reference++) below += this.uses(reference);
    return this.#uses > below;
  }

  /** Forgets entries from `first` on, which nobody may use. */
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

  /** A grant of memory, the one type that is served. */
  permits(reference: number): boolean {
    return (this.flags[reference]! & GTF_TYPE_MASK) === GrantType.PERMIT_ACCESS;
  }

  isReadOnly(reference: number): boolean {
    return (this.flags[reference]! & GrantFlag.READONLY) !== 0;
  }

  /** Part of a page, and not to be mapped. */
  isSubPage(reference: number): boolean {
    return (this.flags[reference]! & GrantFlag.SUB_PAGE) !== 0;
  }

  uses(reference: number): number {
    return this.readOnly[reference]! + this.writable[reference]!;
  }

  /** Counts one use more. The caller has seen that `uses` is below MAX_USES. */
  begin(reference: number, write: boolean): void {
    if (write) this.writable[reference]!++;
    else this.readOnly[reference]!++;
    this.#uses++;
    this.#change(reference, 1, write);
  }

  /** Counts one use less; false when there was none of the kind. */
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

  /** Tells and forgets the net changes; an entry that is back where it was is passed over. */
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
