/**
 * Gathers changes of the grant table for the device: packed records, in order. A column contains
 * changes of one kind. So a change of the other kind sends the gathered records first, and so does
 * a full column.
 */

import { GRANT_RECORD_BYTES, type GrantVersion } from "../../shared/wire/protocol.ts";
import {
  END_GRANT_RECORD_SIZE,
  endGrantRecord,
  type GrantRef,
  grantRecord,
} from "../../shared/xen/grant.ts";
import type { Hypervisor } from "../bus/hypervisor.ts";

const RECORDS = 512;

export class GrantPosts {
  readonly #hypervisor: Hypervisor;
  readonly #version: GrantVersion;
  readonly #records = new Uint8Array(RECORDS * GRANT_RECORD_BYTES[2]);
  readonly #view = new DataView(this.#records.buffer);
  #count = 0;
  /** True when the gathered records are ends of grants. Meaningful while `#count` is not 0. */
  #ends = false;

  constructor(hypervisor: Hypervisor, version: GrantVersion) {
    this.#hypervisor = hypervisor;
    this.#version = version;
  }

  /** `frame`: bus address in pages, up to 36 bits. Only version 2 uses `start` and `length`. */
  grant(
    reference: GrantRef,
    flags: number,
    domid: number,
    frame: number,
    start: number,
    length: number,
  ): void {
    if (this.#ends || this.#count === RECORDS) this.send();
    const version = this.#version;
    const at = this.#count++ * GRANT_RECORD_BYTES[version];
    grantRecord.write(this.#view, at, version, reference, flags, domid, frame, start, length);
  }

  end(reference: GrantRef): void {
    if ((!this.#ends && this.#count > 0) || this.#count === RECORDS) this.send();
    this.#ends = true;
    endGrantRecord.write(this.#view, this.#count++ * END_GRANT_RECORD_SIZE, reference);
  }

  send(): void {
    const count = this.#count;
    const ends = this.#ends;
    this.drop();
    if (count === 0) return;
    if (ends) this.#hypervisor.endGrants(this.#records, count);
    else this.#hypervisor.grants(this.#version, this.#records, count);
  }

  /** Discards the gathered records. */
  drop(): void {
    this.#count = 0;
    this.#ends = false;
  }
}
