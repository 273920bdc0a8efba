/**
 * The guest's grant table: the pages of the guest, the domain that may reach each page, and how.
 *
 *   entry by reference                            access of the device
 *   flags domid page start end                    reference*4096 + offset ─► check ─► page + offset
 *   readers writers: reported by the device       then the bus space checks what is mapped there
 *
 * The guest owns the table, and this file checks every access of the device against it. The device
 * has only a copy. Packed records update the copy before any message that lets the device use them.
 * The device reports use counts. They decide, as Xen's in-use bits do, whether access can be ended,
 * and also whether a reference may be granted again. Messages take time: a device may begin to use
 * a reference while the end of its grant is on the way. Each such access is refused. The use is
 * counted all the same, so that later reports of the device still add up.
 *
 * Source: freebsd-src: sys/dev/xen/grant_table/grant_table.c; xen: xen/common/grant_table.c.
 */
import type { Logger } from "../../shared/log.ts";
import type { LinkState } from "../../shared/wire/link-state.ts";
import type { GrantVersion } from "../../shared/wire/protocol.ts";
import {
  type BusAddress,
  type BusAddresses,
  beyond,
  busAddresses,
} from "../../shared/wire/records.ts";
import {
  Gntst,
  GRANT_ENTRY_V1_SIZE,
  GRANT_ENTRY_V2_SIZE,
  GRANT_PAGE_BYTES,
  GrantFlag,
  type GrantRef,
  GrantType,
  GTF_TYPE_MASK,
  grantRef,
} from "../../shared/xen/grant.ts";
import type { Hypervisor } from "../bus/hypervisor.ts";
import { type DmaSpace, type GrantAccess, REFUSED } from "../bus/space.ts";
import { GrantPosts } from "./grant-posts.ts";
import { GrantMisuse, ReferencePool } from "./grant-references.ts";

export type { FreeCallback } from "./grant-references.ts";

export interface GrantTableOptions {
  readonly hypervisor: Hypervisor;
  readonly space: DmaSpace;
  readonly log: Logger;
  /** Maximum size of the table, in frames of 4096 bytes. */
  readonly maxFrames?: number;
  /** 2 only after GNTTABOP_set_version. */
  readonly version?: GrantVersion;
}

/** The domain at the other end of the link: the backend. */
const PEER_DOMID = 0;
/** Maximum of a use count: far more uses of one page than an honest device has at a time. */
const MAX_USES = 0x7fff;

export class GrantTable extends ReferencePool implements GrantAccess {
  readonly version: GrantVersion;
  /** Negated GNTST status of the last refused access. */
  refusal: number = -Gntst.GENERAL_ERROR;

  readonly #space: DmaSpace;
  readonly #log: Logger;
  readonly #posts: GrantPosts;
  /** Flags by reference; 0 for a reference that grants nothing. */
  readonly #flags: Uint16Array;
  readonly #domids: Uint16Array;
  /** Bus address of the page, including its generation. */
  readonly #pages: BusAddresses;
  /** The part of the page that is granted: [start, end). */
  readonly #starts: Uint16Array;
  readonly #ends: Uint16Array;
  readonly #readers: Uint16Array;
  readonly #writers: Uint16Array;
  readonly #quarantine = new Map<GrantRef, (() => void) | undefined>();
  #live = 0;

  constructor({ hypervisor, space, log, maxFrames = 64, version = 1 }: GrantTableOptions) {
    const perFrame = GRANT_PAGE_BYTES / (version === 1 ? GRANT_ENTRY_V1_SIZE : GRANT_ENTRY_V2_SIZE);
    const entries = perFrame * maxFrames;
    super(perFrame, maxFrames);
    this.version = version;
    this.#space = space;
    this.#log = log;
    this.#posts = new GrantPosts(hypervisor, version);
    this.#flags = new Uint16Array(entries);
    this.#domids = new Uint16Array(entries);
    this.#pages = busAddresses(entries);
    this.#starts = new Uint16Array(entries);
    this.#ends = new Uint16Array(entries);
    this.#readers = new Uint16Array(entries);
    this.#writers = new Uint16Array(entries);
    hypervisor.beforeNotice(() => this.#posts.send());
    hypervisor.onGrantUse = (reference, readers, writers) => this.#use(reference, readers, writers);
  }

  /** Number of entries that grant something. */
  get liveCount(): number {
    return this.#live;
  }

  /** Number of references whose owner gave them up while the device still used the page. */
  get quarantined(): number {
    return this.#quarantine.size;
  }

  /**
   * Prepares an owned reference, which grants nothing, for a new grant. Returns the same reference.
   * Returns another in its place when the device's use, which crossed with the end of access, still
   * keeps the old one. Returns -1 (ENOSPC) and changes nothing when no other is free.
   */
  renew(reference: GrantRef): GrantRef {
    this.needOwned(reference);
    this.#needNotLive(reference);
    if (this.queryForeignAccess(reference) === 0) return reference;
    const other = this.allocGrantReference();
    if (other >= 0) this.give(reference);
    return other;
  }

  /** gnttab_free_grant_reference. Access by `reference` must have ended. */
  freeGrantReference(reference: GrantRef): void {
    this.needOwned(reference);
    this.#needNotLive(reference);
    this.give(reference);
  }

  /**
   * gnttab_grant_foreign_access_ref: grants `domid` the mapped bytes of the 4096-byte page around
   * `busAddress`. `reference` must have been allocated or renewed in this turn.
   */
  grantForeignAccessRef(
    reference: GrantRef,
    domid: number,
    busAddress: BusAddress,
    readonly: boolean,
  ): void {
    const flags = GrantType.PERMIT_ACCESS | (readonly ? GrantFlag.READONLY : 0);
    this.#grant(reference, flags, domid, busAddress, 0, GRANT_PAGE_BYTES);
  }

  /** As grantForeignAccessRef, for `length` bytes from `busAddress` in one page. Version 2 only. */
  grantForeignAccessSubPage(
    reference: GrantRef,
    domid: number,
    busAddress: BusAddress,
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
    this.#grant(reference, flags, domid, busAddress, offset, offset + length);
  }

  override queryForeignAccess(reference: GrantRef): number {
    return this.#readers[reference]! + this.#writers[reference]!;
  }

  /** gnttab_end_foreign_access_ref: false, and nothing changed, while the device uses it. */
  endForeignAccessRef(reference: GrantRef): boolean {
    this.needOwned(reference);
    this.#needLive(reference);
    if (this.queryForeignAccess(reference) !== 0) return false;
    this.#end(reference);
    return true;
  }

  /**
   * Gives up a reference that is still in use. Reference and page stay unused until the device's
   * use ends or the link is gone. Then access ends, the reference becomes free, and `released` is
   * called. All this happens at once when the reference is not in use. XSA-396.
   */
  quarantine(reference: GrantRef, released?: () => void): void {
    this.#needLive(reference);
    this.setQuarantined(reference);
    this.#quarantine.set(reference, released);
    if (this.queryForeignAccess(reference) === 0) {
      this.#leaveQuarantine(reference);
      return;
    }
    // A backend may keep all pages at once, so only each doubling of the number is logged.
    const quarantined = this.#quarantine.size;
    if ((quarantined & (quarantined - 1)) !== 0) return;
    this.#log.warn(
      { reference, quarantined },
      "the backend still uses a granted page: kept, with its reference, until it ends",
    );
  }

  /**
   * Sends the gathered changes. The hypervisor does so before everything that it posts. A driver
   * that publishes a ring index by a write of its own memory calls this first.
   */
  post(): void {
    this.#posts.send();
  }

  /** Forgets all uses, because the link is gone. Quarantined references become free. */
  linkGone(): void {
    this.#readers.fill(0);
    this.#writers.fill(0);
    this.usesEnded();
    for (const reference of [...this.#quarantine.keys()]) this.#leaveQuarantine(reference);
    this.#posts.drop();
  }

  /**
   * Starts on a new link, directly after the hypervisor: no page is in use. Sends every live entry
   * to the device, which knows none. So ends of grants before that are not sent.
   */
  resume(): void {
    this.linkGone();
    this.#tellAll(this.#posts);
    this.#posts.send();
  }

  /** Reports all grants and their uses to a capture that begins now. */
  tellState(state: LinkState): void {
    const to: Pick<GrantPosts, "grant"> = {
      grant: (...entry) => state.grant(this.version, ...entry),
    };
    this.#tellAll(to);
    for (let reference = 0; reference < this.end; reference++) {
      const [readers, writers] = [this.#readers[reference]!, this.#writers[reference]!];
      if (readers + writers !== 0) state.grantUse(grantRef(reference), readers, writers);
    }
  }

  addressOf(reference: GrantRef, offset: number, length: number, writes: boolean): BusAddress {
    const status = this.#check(reference, offset, length, writes);
    if (status !== Gntst.OKAY) {
      this.refusal = -status;
      return REFUSED;
    }
    // The status in case the bus refuses the page after this check.
    this.refusal = -Gntst.GENERAL_ERROR;
    return beyond(this.#pages[reference]!, offset);
  }

  /** Checks an access by Xen's rules for a grant copy, in Xen's order. */
  #check(reference: GrantRef, offset: number, length: number, writes: boolean): Gntst {
    if (!(reference >= 0 && reference < this.end)) return Gntst.BAD_GNTREF;
    const flags = this.#flags[reference]!;
    const granted = (flags & GTF_TYPE_MASK) === GrantType.PERMIT_ACCESS;
    if (!granted || this.#domids[reference] !== PEER_DOMID) return Gntst.GENERAL_ERROR;
    if (writes && (flags & GrantFlag.READONLY) !== 0) return Gntst.GENERAL_ERROR;
    if (offset + length > GRANT_PAGE_BYTES) return Gntst.BAD_COPY_ARG;
    const inside = offset >= this.#starts[reference]! && offset + length <= this.#ends[reference]!;
    return inside ? Gntst.OKAY : Gntst.GENERAL_ERROR;
  }

  /**
   * Handles a report of the device about its uses. Counts belong to the reference, whatever its
   * entry is now: an entry may have ended while the report was on the way, and the end of that use
   * comes later. A use that the entry does not grant is a fault all the same, because a false
   * report looks the same. An impossible report (counts out of bounds, references never allocated)
   * changes nothing.
   */
  #use(reference: GrantRef, readers: number, writers: number): void {
    const r = (this.#readers[reference] ?? 0) + readers;
    const w = (this.#writers[reference] ?? 0) + writers;
    const counts = r >= 0 && w >= 0 && r <= MAX_USES && w <= MAX_USES;
    if (!counts || !this.isKnown(reference)) {
      this.#space.refuseGrant(reference, "use that cannot be, of a grant");
      return;
    }
    const flags = this.#flags[reference]!;
    const writesReadonly = writers > 0 && (flags & GrantFlag.READONLY) !== 0;
    if (writesReadonly || (flags === 0 && (readers > 0 || writers > 0))) {
      this.#space.refuseGrant(reference, "use of what is not granted");
    }
    this.#readers[reference] = r;
    this.#writers[reference] = w;
    if (r + w === 0 && this.#quarantine.has(reference)) this.#leaveQuarantine(reference);
    else this.useChanged(reference);
  }

  #leaveQuarantine(reference: GrantRef): void {
    const released = this.#quarantine.get(reference);
    this.#quarantine.delete(reference);
    this.#end(reference);
    this.give(reference);
    released?.();
  }

  #grant(
    reference: GrantRef,
    flags: number,
    domid: number,
    busAddress: BusAddress,
    start: number,
    end: number,
  ): void {
    this.needOwned(reference);
    this.#needNotLive(reference);
    if (this.queryForeignAccess(reference) !== 0) {
      throw new GrantMisuse("GRANT_IN_USE", `grant reference ${reference} was not renewed`);
    }
    this.#pages[reference] = beyond(busAddress, -(busAddress & (GRANT_PAGE_BYTES - 1)));
    this.#domids[reference] = domid;
    this.#starts[reference] = start;
    this.#ends[reference] = end;
    this.#flags[reference] = flags;
    this.#live++;
    this.#tell(reference);
  }

  #tellAll(to: Pick<GrantPosts, "grant">): void {
    for (let reference = 0; reference < this.end; reference++) {
      if (this.#flags[reference] !== 0) this.#tell(grantRef(reference), to);
    }
  }

  #tell(reference: GrantRef, to: Pick<GrantPosts, "grant"> = this.#posts): void {
    const flags = this.#flags[reference]!;
    const start = this.#starts[reference]!;
    // Offset and length have no meaning in the entry of a whole page.
    const length = (flags & GrantFlag.SUB_PAGE) === 0 ? 0 : this.#ends[reference]! - start;
    const frame = this.#pages[reference]! / GRANT_PAGE_BYTES;
    to.grant(reference, flags, this.#domids[reference]!, frame, start, length);
  }

  #end(reference: GrantRef): void {
    this.#flags[reference] = 0;
    this.#live--;
    this.#posts.end(reference);
  }

  #needLive(reference: GrantRef): void {
    if (this.#flags[reference]) return;
    throw new GrantMisuse("GRANT_NOT_LIVE", `grant reference ${reference} grants nothing`);
  }

  #needNotLive(reference: GrantRef): void {
    if (!this.#flags[reference]) return;
    throw new GrantMisuse("GRANT_LIVE", `grant reference ${reference} grants a page still`);
  }
}
