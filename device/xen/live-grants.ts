/** A grant table as the records that would make it, for a capture that begins in the middle. */
import type { GrantState } from "../../shared/wire/queue-state.ts";
import { GRANT_RECORD_BYTES, type GrantVersion } from "../../shared/wire/transactions.ts";
import { grantUseRecord, writeGrantRecord } from "../../shared/xen/grant.ts";
import type { GrantEntries } from "./grant-entries.ts";

/** Of the entries below `limit`. */
export function liveGrants(
  entries: GrantEntries,
  version: GrantVersion,
  limit: number,
): GrantState {
  const granted: number[] = [];
  const used: number[] = [];
  for (let reference = 0; reference < limit; reference++) {
    if (entries.flags[reference] !== 0) granted.push(reference);
    if (entries.uses(reference) !== 0) used.push(reference);
  }
  const records = new DataView(new ArrayBuffer(granted.length * GRANT_RECORD_BYTES[version]));
  for (const [i, reference] of granted.entries()) {
    const flags = entries.flags[reference]!;
    const domid = entries.domid[reference]!;
    const frame = entries.frame[reference]!;
    const isPart = entries.isSubPage(reference);
    const start = isPart ? entries.start[reference]! : 0;
    const length = isPart ? entries.end[reference]! - start : 0;
    writeGrantRecord(records, i, version, reference, flags, domid, frame, start, length);
  }
  const uses = new DataView(new ArrayBuffer(used.length * grantUseRecord.size));
  for (const [i, reference] of used.entries()) {
    const at = i * grantUseRecord.size;
    // A use that writes reads too.
    grantUseRecord.write(
      uses,
      at,
      reference,
      entries.uses(reference),
      entries.writable[reference]!,
    );
  }
  return { version, records: new Uint8Array(records.buffer), uses: new Uint8Array(uses.buffer) };
}
