/**
 * Describes a part of a state record, a line for each entry: the state of the link at the start of
 * a capture that begins late. It never throws, because a file may hold any bytes.
 *
 *   state WINDOW 2 records: address=0x10000 length=4096; address=0x20000 length=4096
 *   state ENA_RING 3 records: AQ 0 address=0x10000 depth=32 entryBytes=64 head=9; ...
 */
import { nameOf } from "../../shared/bytes/names.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import {
  EnaRingKind,
  enaRingState,
  STATE_RECORDS,
  StateKind,
  stateEntries,
  XenRingKind,
} from "../../shared/wire/link-state.ts";
import { describeAdminCommand, fieldsOf } from "./ena.ts";
import { describeGrant, describeGrantUse } from "./wire-xen.ts";
import { describeRingIndexes } from "./xen.ts";

/** Number of records printed of an entry. Only the number of the others is printed. */
const MAX_TOLD = 4;

type Fields = Readonly<Record<string, number | boolean>>;

const enaRing = ({ ring, index, ...rest }: Fields): string =>
  `${nameOf(EnaRingKind, Number(ring))} ${index} ${fieldsOf(rest)}`;

/** Descriptions of records that are more than a list of fields. */
const TELL = new Map<number, (fields: Fields, tail: Uint8Array) => string>([
  [StateKind.MEMORY, (fields, tail) => `${fieldsOf(fields)} bytes=${tail.length}`],
  [StateKind.GRANT_V1, (_, tail) => describeGrant(1, tail)],
  [StateKind.GRANT_V2, (_, tail) => describeGrant(2, tail)],
  [StateKind.GRANT_USE, (_, tail) => describeGrantUse(tail)],
  [StateKind.ENA_RING, enaRing],
  [StateKind.ENA_REQUEST, enaRing],
  [StateKind.ENA_COMMAND, (_, tail) => describeAdminCommand(tail)],
  [
    StateKind.XEN_RING,
    ({ ring, queue, ...rest }, tail) =>
      `${nameOf(XenRingKind, Number(ring))} ${queue} ${fieldsOf(rest)} ${describeRingIndexes(0, tail)}`,
  ],
]);

/** Returns the lines. Calls `name` with each register of BAR 0 that belongs to a queue. */
export function describeState(
  part: Uint8Array,
  name: (offset: number, what: string) => void,
): string[] {
  const lines: string[] = [];
  for (const entry of stateEntries(part)) {
    if (entry === undefined) {
      lines.push("state ! an entry ends behind the record");
      break;
    }
    const { kind, records, rest } = entry;
    if (kind === StateKind.ENA_RING) for (const record of records) nameRegisters(record, name);
    const told = records.slice(0, MAX_TOLD).map((record) => describe(kind, record));
    if (records.length > MAX_TOLD) told.push(`${records.length - MAX_TOLD} more`);
    if (rest > 0) told.push(`${rest} bytes are no record`);
    const count = `${records.length} ${records.length === 1 ? "record" : "records"}`;
    lines.push(`state ${nameOf(StateKind, kind)} ${count}: ${told.join("; ")}`);
  }
  return lines;
}

function describe(kind: number, record: Uint8Array): string {
  const { fields } = STATE_RECORDS.get(kind)!;
  const value = fields.parse(viewOf(record), 0) as Fields;
  const tail = record.subarray(fields.size);
  return TELL.get(kind)?.(value, tail) ?? fieldsOf(value);
}

function nameRegisters(record: Uint8Array, name: (offset: number, what: string) => void): void {
  const { ring, index, register, numaRegister } = enaRingState.parse(viewOf(record), 0);
  if (ring === EnaRingKind.TX_SQ) name(register, `doorbell of tx SQ ${index}`);
  else if (ring === EnaRingKind.RX_SQ) name(register, `doorbell of rx SQ ${index}`);
  else if (ring === EnaRingKind.CQ) {
    if (register !== 0) name(register, `unmask of CQ ${index}`);
    if (numaRegister !== 0) name(numaRegister, `numa node of CQ ${index}`);
  }
}
