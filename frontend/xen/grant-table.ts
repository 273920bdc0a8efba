/**
 * The guest's grant table: which page of ours which domain may reach, and how.
 *
 *   entry by reference                            access of the device
 *   flags domid page start end                    reference*4096 + offset ─► check ─► page + offset
 *   readers writers: what the device told         then the bus space checks what is mapped there
 *
 * The table is ours, and every access of the device is decided by it here, whatever the device
 * thinks it was granted. The device holds a copy, told by packed records before anything that lets
 * it act on them. Use counts are the device's word, and decide two things: whether access can be
 * ended, as Xen's in-use bits do, and whether a reference may be granted anew. In between lies the
 * time of a message: a device that begins to use a reference while its end is on the way is refused
 * each access, and its use is counted all the same, so that what it tells later still adds up.
 *
 * Source: freebsd-src: sys/dev/xen/grant_table/grant_table.c; xen: xen/common/grant_table.c.
 */
import type { Logger } from "../../shared/log.ts";
import type { LinkState } from "../../shared/wire/link-state.ts";
import type { GrantVersion } from "../../shared/wire/transactions.ts";
import {
  Gntst,
  GRANT_ENTRY_V1_SIZE,
  GRANT_ENTRY_V2_SIZE,
  GRANT_PAGE_BYTES,
  GrantFlag,
  GrantType,
  GTF_TYPE_MASK,
} from "../../shared/xen/grant.ts";
import type { Hypervisor } from "../bus/hypervisor.ts";
import type { DmaSpace, GrantAccess, Span } from "../bus/space.ts";
import { GrantPosts } from "./grant-posts.ts";
import {
  type FreeCallback,
  GrantMisuse,
  type GrantReferences,
  Owner,
  ReferencePool,
} from "./grant-references.ts";

export { type FreeCallback, GrantMisuse, type GrantReferences } from "./grant-references.ts";

export interface GrantTableOptions {
  readonly hypervisor: Hypervisor;
  readonly space: DmaSpace;
  readonly log: Logger;
  /** Most frames of 4096 bytes that the table may have. */
  readonly maxFrames?: number;
  /** 2 only after GNTTABOP_set_version. */
  readonly version?: GrantVersion;
}

const FRAME_BYTES = 4096;
/** The domain at the other end of the link: the backend. */
const PEER_DOMID = 0;
/** Far more uses at a time than an honest device has of one page. */
const MAX_USES = 0x7fff;

export class GrantTable implements GrantAccess {
  readonly version: GrantVersion;
  /** Negated GNTST status of the access that was refused last. */
  refusal: number = -Gntst.GENERAL_ERROR;

  readonly #space: DmaSpace;
  readonly #log: Logger;
  readonly #pool: ReferencePool;
  readonly #posts: GrantPosts;
  /** 0 where nothing is granted. */
  readonly #flags: Uint16Array;
  readonly #domids: Uint16Array;
  /** Bus address of the page, with its generation. */
  readonly #pages: Float64Array;
  /** The part of the page that is granted: [start, end). */
  readonly #starts: Uint16Array;
  readonly #ends: Uint16Array;
  readonly #readers: Uint16Array;
  readonly #writers: Uint16Array;
  readonly #quarantine = new Map<number, (() => void) | undefined>();
  #live = 0;

  constructor({ hypervisor, space, log, maxFrames = 64, version = 1 }: GrantTableOptions) {
    const perFrame = FRAME_BYTES / (version === 1 ? GRANT_ENTRY_V1_SIZE : GRANT_ENTRY_V2_SIZE);
    const entries = perFrame * maxFrames;
    this.version = version;
    this.#space = space;
    this.#log = log;
    this.#posts = new GrantPosts(hypervisor, version);
    this.#flags = new Uint16Array(entries);
    this.#domids = new Uint16Array(entries);
    this.#pages = new Float64Array(entries);
    this.#starts = new Uint16Array(entries);
    this.#ends = new Uint16Array(entries);
    this.#readers = new Uint16Array(entries);
    this.#writers = new Uint16Array(entries);
    this.#pool = new ReferencePool(perFrame, maxFrames, (r) => this.queryForeignAccess(r) !== 0);
    hypervisor.beforeNotice(() => this.#posts.send());
    hypervisor.onGrantUse = (reference, readers, writers) => this.#use(reference, readers, writers);
  }

  /** Frames that the table has grown to. */
  get frames(): number {
    return this.#pool.frames;
  }

  /** References on the free list now; the table may still grow. */
  get freeCount(): number {
    return this.#pool.free;
  }

  /** Free references, and those that growth would add: constant but for those that someone has. */
  get availableCount(): number {
    return this.#pool.available;
  }

  /** Most references that can ever be free. */
  get capacity(): number {
    return this.#pool.most;
  }

  /** Entries that grant something. */
  get liveCount(): number {
    return this.#live;
  }

  /** References given up by their owner while the device still used the page. */
  get quarantined(): number {
    return this.#quarantine.size;
  }

  /** References that grant nothing, would be free, and are used by the device all the same. */
  get heldCount(): number {
    return this.#pool.held;
  }

  /** gnttab_alloc_grant_references: `count` of them, or undefined (ENOSPC). */
  allocGrantReferences(count: number): GrantReferences | undefined {
    return this.#pool.alloc(count);
  }

  /** gnttab_claim_grant_reference: one of the list, or -1 when it has none that is not in use. */
  claim(list: GrantReferences): number {
    return this.#pool.claim(list);
  }

  /** gnttab_release_grant_reference: back to the list. Access to it has ended. */
  release(list: GrantReferences, reference: number): void {
    this.#needNotLive(reference);
    this.#pool.release(list, reference);
  }

  /** gnttab_free_grant_references: what is left of the list goes to the free list. */
  freeGrantReferences(list: GrantReferences): void {
    this.#pool.freeList(list);
  }

  /** True when `count` references are free now, for as many allocGrantReference calls. */
  reserve(count: number): boolean {
    return this.#pool.reserve(count);
  }

  /** One reference, or -1 (ENOSPC). */
  allocGrantReference(): number {
    return this.#pool.take();
  }

  /**
   * The owner of `reference`, which grants nothing, wants to grant. The same one, or another in its
   * place when a use of the device that crossed with the end of access keeps it; -1 (ENOSPC), and
   * nothing changed, when there is no other.
   */
  renew(reference: number): number {
    this.#pool.needOwned(reference);
    this.#needNotLive(reference);
    if (this.queryForeignAccess(reference) === 0) return reference;
    const other = this.#pool.take();
    if (other >= 0) this.#pool.give(reference);
    return other;
  }

  /** gnttab_free_grant_reference. Access to it has ended. */
  freeGrantReference(reference: number): void {
    this.#pool.needOwned(reference);
    this.#needNotLive(reference);
    this.#pool.give(reference);
  }

  /**
   * gnttab_grant_foreign_access_ref: `domid` may reach the page of 4096 bytes around `busAddress`,
   * as far as something is mapped there. `reference` was taken, or renewed, in this turn.
   */
  grantForeignAccessRef(
    reference: number,
    domid: number,
    busAddress: number,
    readonly: boolean,
  ): void {
    const offset = busAddress % GRANT_PAGE_BYTES;
    const flags = GrantType.PERMIT_ACCESS | (readonly ? GrantFlag.READONLY : 0);
    this.#grant(reference, flags, domid, busAddress - offset, 0, GRANT_PAGE_BYTES);
  }

  /** As grantForeignAccessRef, of `length` bytes from `busAddress` on within its page; version 2. */
  grantForeignAccessSubPage(
    reference: number,
    domid: number,
    busAddress: number,
    length: number,
    readonly: boolean,
  ): void {
    const offset = busAddress % GRANT_PAGE_BYTES;
    if (this.version !== 2 || !(length > 0 && offset + length <= GRANT_PAGE_BYTES)) {
      throw new GrantMisuse(
        "GRANT_VERSION",
        `${length} bytes of a page from ${offset}, version ${this.version}`,
      );
    }
    const mode = readonly ? GrantFlag.READONLY : 0;
    const flags = GrantType.PERMIT_ACCESS | GrantFlag.SUB_PAGE | mode;
    this.#grant(reference, flags, domid, busAddress - offset, offset, offset + length);
  }

  /** gnttab_query_foreign_access: uses that the device told; at 0 access can be ended. */
  queryForeignAccess(reference: number): number {
    return this.#readers[reference]! + this.#writers[reference]!;
  }

  /** gnttab_end_foreign_access_ref: false, and nothing changed, while the device uses it. */
  endForeignAccessRef(reference: number): boolean {
    this.#pool.needOwned(reference);
    this.#needLive(reference);
    if (this.queryForeignAccess(reference) !== 0) return false;
    this.#end(reference);
    return true;
  }

  /**
   * The owner gives a reference up that is still in use: nobody uses it, or its page, until the
   * device's use ends or the link is gone. Then access ends, the reference is free, and `released`
   * is called; at once when the reference is not in use. XSA-396.
   */
  quarantine(reference: number, released?: () => void): void {
    this.#needLive(reference);
    this.#pool.quarantine(reference);
    this.#quarantine.set(reference, released);
    if (this.queryForeignAccess(reference) === 0) {
      this.#leaveQuarantine(reference);
      return;
    }
    // A backend may do it to all of them at once: a line whenever there are twice as many.
    const quarantined = this.#quarantine.size;
    if ((quarantined & (quarantined - 1)) !== 0) return;
    this.#log.warn(
      { reference, quarantined },
      "the backend still uses a granted page: kept, with its reference, until it ends",
    );
  }

  /**
   * gnttab_request_free_callback: runs `callback` once, in a turn of its own, when `count` are
   * free. Callbacks run in the order of the requests.
   */
  requestFreeCallback(callback: () => void, count: number): FreeCallback {
    return this.#pool.request(callback, count);
  }

  cancelFreeCallback(wish: FreeCallback): void {
    this.#pool.cancel(wish);
  }

  /**
   * Sends the changes that have gathered. The hypervisor does so before all that it posts; who
   * publishes a ring index by a window write calls this before.
   */
  post(): void {
    this.#posts.send();
  }

  /** The link is gone, and with it every use: what was quarantined is free. */
  linkGone(): void {
    this.#readers.fill(0);
    this.#writers.fill(0);
    this.#pool.usesEnded();
    for (const reference of [...this.#quarantine.keys()]) this.#leaveQuarantine(reference);
    this.#posts.drop();
  }

  /**
   * A new link, right after the hypervisor has it: no page is in use, and the device is told every
   * live entry. It knows none: one that ended meanwhile is not mentioned.
   */
  resume(): void {
    this.linkGone();
    for (let reference = 0; reference < this.#pool.end; reference++) {
      if (this.#flags[reference] !== 0) this.#tell(reference);
    }
    this.#posts.send();
  }

  /** Tells what is granted, and what of it is in use, to a capture that begins now. */
  tellState(state: LinkState): void {
    const to: Pick<GrantPosts, "grant"> = {
      grant: (...entry) => state.grant(this.version, ...entry),
    };
    for (let reference = 0; reference < this.#pool.end; reference++) {
      if (this.#flags[reference] !== 0) this.#tell(reference, to);
    }
    for (let reference = 0; reference < this.#pool.end; reference++) {
      const [readers, writers] = [this.#readers[reference]!, this.#writers[reference]!];
      if (readers + writers !== 0) state.grantUse(reference, readers, writers);
    }
  }

  deviceWrite(
    reference: number,
    offset: number,
    _type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): boolean {
    if (length === 0) return true;
    const status = this.#check(reference, offset, length, true);
    if (status !== Gntst.OKAY) {
      this.#refuse(status, reference, offset, length, "device write refused");
      return false;
    }
    if (this.#space.busWrite(this.#pages[reference]! + offset, src, at, length)) return true;
    this.refusal = -Gntst.GENERAL_ERROR;
    return false;
  }

  deviceRead(reference: number, offset: number, length: number): Span | undefined {
    const status = length === 0 ? Gntst.OKAY : this.#check(reference, offset, length, false);
    if (status !== Gntst.OKAY) {
      this.#refuse(status, reference, offset, length, "device read refused");
      return undefined;
    }
    if (length === 0) return NOTHING;
    const span = this.#space.busRead(this.#pages[reference]! + offset, length);
    if (span === undefined) this.refusal = -Gntst.GENERAL_ERROR;
    return span;
  }

  /** Xen's rules for a grant copy, in Xen's order. */
  #check(reference: number, offset: number, length: number, writes: boolean): Gntst {
    if (!(reference >= 0 && reference < this.#pool.end)) return Gntst.BAD_GNTREF;
    const flags = this.#flags[reference]!;
    const granted = (flags & GTF_TYPE_MASK) === GrantType.PERMIT_ACCESS;
    if (!granted || this.#domids[reference] !== PEER_DOMID) return Gntst.GENERAL_ERROR;
    if (writes && (flags & GrantFlag.READONLY) !== 0) return Gntst.GENERAL_ERROR;
    if (offset + length > GRANT_PAGE_BYTES) return Gntst.BAD_COPY_ARG;
    const inside = offset >= this.#starts[reference]! && offset + length <= this.#ends[reference]!;
    return inside ? Gntst.OKAY : Gntst.GENERAL_ERROR;
  }

  #refuse(status: Gntst, reference: number, offset: number, length: number, what: string): void {
    this.refusal = -status;
    this.#space.refuseGrant(reference, offset, length, what);
  }

  /**
   * What the device says of its uses. Counts go by reference, whatever the entry is by now: an
   * entry may have ended while the device told of its use, and the end of that use comes later. A
   * use of what grants no such thing is a fault all the same, for a lie looks just like it. What
   * can't be even so (counts out of bounds, references never given out) changes nothing.
   */
  #use(reference: number, readers: number, writers: number): void {
    const r = (this.#readers[reference] ?? 0) + readers;
    const w = (this.#writers[reference] ?? 0) + writers;
    const counts = r >= 0 && w >= 0 && r <= MAX_USES && w <= MAX_USES;
    if (!counts || this.#pool.ownerOf(reference) === Owner.NOBODY) {
      this.#space.refuseGrant(reference, 0, 0, "use that cannot be, of a grant");
      return;
    }
    const flags = this.#flags[reference]!;
    const writesReadonly = writers > 0 && (flags & GrantFlag.READONLY) !== 0;
    if (writesReadonly || (flags === 0 && (readers > 0 || writers > 0))) {
      this.#space.refuseGrant(reference, 0, 0, "use of what is not granted");
    }
    this.#readers[reference] = r;
    this.#writers[reference] = w;
    if (r + w === 0 && this.#quarantine.has(reference)) this.#leaveQuarantine(reference);
    else this.#pool.useChanged(reference);
  }

  #leaveQuarantine(reference: number): void {
    const released = this.#quarantine.get(reference);
    this.#quarantine.delete(reference);
    this.#end(reference);
    this.#pool.give(reference);
    released?.();
  }

  #grant(
    reference: number,
    flags: number,
    domid: number,
    page: number,
    start: number,
    end: number,
  ): void {
    this.#pool.needOwned(reference);
    this.#needNotLive(reference);
    if (this.queryForeignAccess(reference) !== 0) {
      throw new GrantMisuse("GRANT_IN_USE", `grant reference ${reference} was not renewed`);
    }
    this.#pages[reference] = page;
    this.#domids[reference] = domid;
    this.#starts[reference] = start;
    this.#ends[reference] = end;
    this.#flags[reference] = flags;
    this.#live++;
    this.#tell(reference);
  }

  #tell(reference: number, to: Pick<GrantPosts, "grant"> = this.#posts): void {
    const flags = this.#flags[reference]!;
    const start = this.#starts[reference]!;
    // Offset and length mean nothing in the entry of a whole page.
    const length = (flags & GrantFlag.SUB_PAGE) === 0 ? 0 : this.#ends[reference]! - start;
    const frame = this.#pages[reference]! / GRANT_PAGE_BYTES;
    to.grant(reference, flags, this.#domids[reference]!, frame, start, length);
  }

  #end(reference: number): void {
    this.#flags[reference] = 0;
    this.#live--;
    this.#posts.end(reference);
  }

  #needLive(reference: number): void {
    if (this.#flags[reference]) return;
    throw new GrantMisuse("GRANT_NOT_LIVE", `grant reference ${reference} grants nothing`);
  }

  #needNotLive(reference: number): void {
    if (!this.#flags[reference]) return;
    throw new GrantMisuse("GRANT_LIVE", `grant reference ${reference} grants a page still`);
  }
}

const NOTHING: Span = { buffer: new Uint8Array(0), at: 0, length: 0 };
