/**
 * The guest's grant table: which page of ours which domain may reach, and how.
 */
import type { Logger } from "../../shared/log.ts";
import type { GrantVersion } from "../../shared/wire/transactions.ts";
import type { Hypervisor } from "../bus/hypervisor.ts";
import type { DmaSpace, GrantAccess, Span } from "../bus/space.ts";

export interface GrantTableOptions {
  readonly hypervisor: Hypervisor;
  readonly space: DmaSpace;
  readonly log: Logger;
  /** Most frames of 4096 bytes that the table may have. */
  readonly maxFrames?: number;
  readonly version?: GrantVersion;
}

/** References taken out of the free list together, to be claimed one by one. */
export interface GrantReferences {
  readonly count: number;
}

/** A wish for free references that is not fulfilled yet. */
export interface FreeCallback {
  readonly pending: boolean;
}

export class GrantTable implements GrantAccess {
  readonly version: GrantVersion = 1;
  /** Negated GNTST status of the read that was refused last. */
  refusal = 1;

  constructor(_options: GrantTableOptions) {}

  /** References on the free list; the table may still grow by `growable`. */
  get freeCount(): number {
    throw new Error("not built yet");
  }

  /** References whose page the peer still uses although their owner gave them up. */
  get quarantined(): number {
    throw new Error("not built yet");
  }

  /** gnttab_alloc_grant_references: `count` of them, or undefined (ENOSPC). */
  allocGrantReferences(_count: number): GrantReferences | undefined {
    throw new Error("not built yet");
  }

  /** gnttab_claim_grant_reference: one of the list, or -1 when it is empty. */
  claim(_list: GrantReferences): number {
    throw new Error("not built yet");
  }

  /** gnttab_release_grant_reference: back to the list. */
  release(_list: GrantReferences, _reference: number): void {
    throw new Error("not built yet");
  }

  /** gnttab_free_grant_references: what is left of the list goes to the free list. */
  freeGrantReferences(_list: GrantReferences): void {
    throw new Error("not built yet");
  }

  /** One reference, or -1 (ENOSPC). */
  allocGrantReference(): number {
    throw new Error("not built yet");
  }

  freeGrantReference(_reference: number): void {
    throw new Error("not built yet");
  }

  /** gnttab_grant_foreign_access_ref: `domid` may reach the page of bus address `busAddress`. */
  grantForeignAccessRef(
    _reference: number,
    _domid: number,
    _busAddress: number,
    _readonly: boolean,
  ): void {
    throw new Error("not built yet");
  }

  /** gnttab_query_foreign_access: uses that the peer told; 0 means that access may be ended. */
  queryForeignAccess(_reference: number): number {
    throw new Error("not built yet");
  }

  /** gnttab_end_foreign_access_ref: false, and nothing changed, while the peer uses it. */
  endForeignAccessRef(_reference: number): boolean {
    throw new Error("not built yet");
  }

  /**
   * The owner gives a busy reference up: nobody uses it, or its page, until the peer's use ends or
   * the link is gone. Then access ends, the reference is free, and `released` is called.
   */
  quarantine(_reference: number, _released?: () => void): void {
    throw new Error("not built yet");
  }

  /** gnttab_request_free_callback: runs `callback` once, in a later turn, when `count` are free. */
  requestFreeCallback(_callback: () => void, _count: number): FreeCallback {
    throw new Error("not built yet");
  }

  cancelFreeCallback(_wish: FreeCallback): void {
    throw new Error("not built yet");
  }

  /** Sends the changes that have gathered: before a ring index is published. */
  post(): void {
    throw new Error("not built yet");
  }

  /** The link is gone, and with it every use: what was quarantined is free. */
  linkGone(): void {
    throw new Error("not built yet");
  }

  /** A new link, right after the hypervisor has it: its device is told every live entry. */
  resume(): void {
    throw new Error("not built yet");
  }

  deviceWrite(
    _reference: number,
    _offset: number,
    _type: number,
    _src: Uint8Array,
    _at: number,
    _length: number,
  ): boolean {
    throw new Error("not built yet");
  }

  deviceRead(_reference: number, _offset: number, _length: number): Span | undefined {
    throw new Error("not built yet");
  }
}
