/** A grant table as the records that would make it, for whoever begins to look at its link now. */
import type { GrantState } from "../../shared/wire/queue-state.ts";
import type { GrantVersion } from "../../shared/wire/transactions.ts";
import {
  GRANT_RECORD_V1_SIZE,
  GRANT_RECORD_V2_SIZE,
  GRANT_USE_RECORD_SIZE,
  grantUseRecord,
} from "../../shared/xen/grant.ts";
import { writeGrantRecord } from "./grant-posts.ts";

export class LiveGrants implements GrantState {
  readonly version: GrantVersion;
  readonly #records: DataView;
  readonly #uses: DataView;
  #granted = 0;
  #used = 0;

  /** For tables of up to `most` entries that are granted or in use. */
  constructor(version: GrantVersion, most: number) {
    const recordBytes = version === 1 ? GRANT_RECORD_V1_SIZE : GRANT_RECORD_V2_SIZE;
    this.version = version;
    this.#records = new DataView(new ArrayBuffer(most * recordBytes));
    this.#uses = new DataView(new ArrayBuffer(most * GRANT_USE_RECORD_SIZE));
  }

  get records(): Uint8Array {
    const recordBytes = this.version === 1 ? GRANT_RECORD_V1_SIZE : GRANT_RECORD_V2_SIZE;
    return new Uint8Array(this.#records.buffer, 0, this.#granted * recordBytes);
  }

  get uses(): Uint8Array {
    return new Uint8Array(this.#uses.buffer, 0, this.#used * GRANT_USE_RECORD_SIZE);
  }

  grant(
    reference: number,
    flags: number,
    domid: number,
    frame: number,
    start: number,
    length: number,
  ): void {
    const [version, i] = [this.version, this.#granted++];
    writeGrantRecord(this.#records, i, version, reference, flags, domid, frame, start, length);
  }

  use(reference: number, readers: number, writers: number): void {
    const at = this.#used++ * GRANT_USE_RECORD_SIZE;
    grantUseRecord.write(this.#uses, at, reference, readers, writers);
  }
}
