/**
 * What a link has come to when a ring capture begins in the middle of its life, as batches that
 * were never sent: windows, what is in them, grants, and queues. Whoever reads the capture starts
 * from there, as the peers started from zeroes.
 */
import { BatchWriter } from "../wire/batch.ts";
import { Op } from "../wire/catalogue.ts";
import type { GrantState, QueueState } from "../wire/queue-state.ts";
import { RecordType, Space } from "../wire/records.ts";
import { GRANT_RECORD_BYTES } from "../wire/transactions.ts";
import { GRANT_USE_RECORD_SIZE } from "../xen/grant.ts";
import { LinkDirection } from "./ring-header.ts";
import { tellEnaQueues } from "./snapshot-ena.ts";
import { tellXenQueues } from "./snapshot-xen.ts";

export interface RingState {
  readonly windows: Iterable<{ readonly address: number; readonly bytes: Uint8Array }>;
  readonly grants: GrantState | undefined;
  /** Undefined while there are none, and from who does not know them. */
  readonly queues: QueueState | undefined;
}

/** Memory is looked through, and told, by pieces of this size: most rings are mostly zeroes. */
const PIECE_BYTES = 4096;
/** Most bytes of windows that are told; the recorder's queue takes twice as many. */
const MAX_TOLD_BYTES = 4 * 1024 * 1024;
/** Records of grants in one transaction. */
const GRANTS_AT_ONCE = 2048;

/** Calls `show` with each batch. The bytes are good during the call. */
export function ringSnapshot(
  { windows, grants, queues }: RingState,
  show: (direction: LinkDirection, batch: Uint8Array) => void,
): void {
  const to = (direction: LinkDirection) =>
    new BatchWriter((batch, release) => {
      show(direction, batch);
      release();
    });
  const toDevice = to(LinkDirection.TO_DEVICE);
  const all = [...windows];
  for (const { address, bytes } of all) toDevice.post("window", { address, length: bytes.length });
  let left = MAX_TOLD_BYTES;
  for (const { address, bytes } of all) left -= contents(toDevice, address, bytes, left);
  if (grants !== undefined) {
    const { version, records } = grants;
    for (const part of parts(records, GRANT_RECORD_BYTES[version])) {
      toDevice.post("grant", { version, records: part });
    }
  }
  toDevice.flush();
  const toFrontend = to(LinkDirection.TO_FRONTEND);
  if (grants !== undefined) {
    for (const part of parts(grants.uses, GRANT_USE_RECORD_SIZE)) {
      toFrontend.post("grant_use", { records: part });
    }
    toFrontend.flush();
  }
  if (queues?.personality === "ena") tellEnaQueues(queues, toDevice, toFrontend);
  else if (queues?.personality === "xen") tellXenQueues(queues, toDevice);
  toDevice.flush();
}

/** Writes what is not zero, up to `most` bytes. Returns how many were written. */
function contents(writer: BatchWriter, address: number, bytes: Uint8Array, most: number): number {
  let told = 0;
  for (let at = 0; at < bytes.length && told < most; at += PIECE_BYTES) {
    const end = Math.min(at + PIECE_BYTES, bytes.length);
    if (!bytes.subarray(at, end).some((byte) => byte !== 0)) continue;
    writer.column(Op.WRITE, Space.BUS, address + at, RecordType.RAW, bytes, at, end - at);
    told += end - at;
  }
  return told;
}

function* parts(records: Uint8Array, size: number): Generator<Uint8Array> {
  const step = GRANTS_AT_ONCE * size;
  for (let at = 0; at < records.length; at += step) {
    yield records.subarray(at, Math.min(at + step, records.length));
  }
}
