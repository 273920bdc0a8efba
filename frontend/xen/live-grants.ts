/** A grant table as the records that would make it, for whoever begins to look at its link now. */
import type { GrantState } from "../../shared/wire/queue-state.ts";
import { GRANT_RECORD_BYTES, type GrantVersion } from "../../shared/wire/transactions.ts";
import { GRANT_USE_RECORD_SIZE, grantUseRecord, writeGrantRecord } from "../../shared/xen/grant.ts";

export class LiveGrants implements GrantState {
  readonly version: GrantVersion;
  readonly #records: DataView;
  readonly #uses: DataView;
  #granted = 0;
  #used = 0;

  /** For tables of up to `most` entries that are granted or in use. */
  constructor(version: GrantVersion, most: number) {
    this.version = version;
    this.#records = new DataView(new ArrayBuffer(most * GRANT_RECORD_BYTES[version]));
    this.#uses = new DataView(new ArrayBuffer(most * GRANT_USE_RECORD_SIZE));
  }

  get records(): Uint8Array {
    const bytes = this.#granted * GRANT_RECORD_BYTES[this.version];
    return new Uint8Array(this.#records.buffer, 0, bytes);
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
