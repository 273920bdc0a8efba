/**
 * Changes of the grant table on their way to the device: packed records, in order. A column holds
 * changes of one kind, so a change of the other kind sends what has gathered; so does a full one.
 */

import type { GrantVersion } from "../../shared/wire/transactions.ts";
import {
  END_GRANT_RECORD_SIZE,
  endGrantRecord,
  GRANT_RECORD_V2_SIZE,
  writeGrantRecord,
} from "../../shared/xen/grant.ts";
import type { Hypervisor } from "../bus/hypervisor.ts";

const RECORDS = 512;

export class GrantPosts {
  readonly #hypervisor: Hypervisor;
  readonly #version: GrantVersion;
  readonly #records = new Uint8Array(RECORDS * GRANT_RECORD_V2_SIZE);
  readonly #view = new DataView(this.#records.buffer);
  #count = 0;
  /** What the gathered records are; only while there are some. */
  #ends = false;

  constructor(hypervisor: Hypervisor, version: GrantVersion) {
    this.#hypervisor = hypervisor;
    this.#version = version;
  }

  /** `frame` is the bus address in pages, up to 36 bits; `start` and `length` count in version 2. */
  grant(
    reference: number,
    flags: number,
    domid: number,
    frame: number,
    start: number,
    length: number,
  ): void {
    if (this.#ends || this.#count === RECORDS) this.send();
    const version = this.#version;
    const i = this.#count++;
    writeGrantRecord(this.#view, i, version, reference, flags, domid, frame, start, length);
  }

  end(reference: number): void {
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

  /** Forgets what has gathered. */
  drop(): void {
    this.#count = 0;
    this.#ends = false;
  }
}
