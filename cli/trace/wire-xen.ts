/**
 * Describes the transactions of the personality `xen` for trace.ts: grants, hypercalls, events,
 * xenstore.
 *
 *   -> grant v1 2 records: 9 PERMIT_ACCESS dom=0 frame=0x12; 10 PERMIT_ACCESS dom=0 frame=0x13
 *   -> hypercall tag=1 event_channel_op ALLOC_UNBOUND dom=SELF remoteDom=0
 *   <- grant_use 1 record: 9 readers+1
 */

import { viewOf } from "../../shared/bytes/words.ts";
import type { Received } from "../../shared/wire/catalogue.ts";
import { GRANT_RECORD_BYTES, Limits } from "../../shared/wire/protocol.ts";
import {
  END_GRANT_RECORD_SIZE,
  endGrantRecord,
  GRANT_RECORD_ENTRY,
  GRANT_USE_RECORD_SIZE,
  grantUseRecord,
} from "../../shared/xen/grant.ts";
import { describeErrno, describeGrantEntry, describeHypercall, describeXsMessage } from "./xen.ts";

/** Number of records printed one by one, as grants come by the hundred. The others are counted. */
const MAX_TOLD = 4;

type XenName = "grant" | "end_grant" | "grant_use" | "hypercall" | "hypercall_reply" | "xenstore";

/** Returns descriptions for one link. A reply is read with the hypercall that it answers. */
export function xenDescriptions(): { readonly [N in XenName]: (fields: Received<N>) => string } {
  /** Hypercalls without a reply, by tag. */
  const calls = new Map<number, { readonly number: number; readonly command: number }>();
  return {
    grant: ({ version, records }) => {
      const size = GRANT_RECORD_BYTES[version];
      return `v${version} ${packed(records, size, (record) => describeGrant(version, record))}`;
    },
    end_grant: ({ records }) =>
      packed(
        records,
        END_GRANT_RECORD_SIZE,
        (record) => `${endGrantRecord.reference(viewOf(record), 0)}`,
      ),
    grant_use: ({ records }) => packed(records, GRANT_USE_RECORD_SIZE, describeGrantUse),
    hypercall: ({ tag, number, command, bytes }) => {
      if (calls.size < Limits.HYPERCALLS) calls.set(tag, { number, command });
      return `tag=${tag} ${describeHypercall(number, command, bytes)}`;
    },
    hypercall_reply: ({ tag, errno, bytes }) => {
      const outcome = `tag=${tag} ${describeErrno(errno)}`;
      const call = calls.get(tag);
      calls.delete(tag);
      if (call === undefined || bytes.length === 0) return `${outcome} bytes=${bytes.length}`;
      return `${outcome} ${describeHypercall(call.number, call.command, bytes)}`;
    },
    xenstore: ({ bytes }) => describeXsMessage(bytes),
  };
}

/** Describes one record of `grant`: "9 PERMIT_ACCESS dom=0 frame=0x12". */
export function describeGrant(version: 1 | 2, record: Uint8Array): string {
  const entry = record.subarray(GRANT_RECORD_ENTRY);
  return `${endGrantRecord.reference(viewOf(record), 0)} ${describeGrantEntry(version, entry)}`;
}

/** Describes one record of `grant_use`: "9 readers+1". */
export function describeGrantUse(record: Uint8Array): string {
  const view = viewOf(record);
  const readers = change("readers", grantUseRecord.readers(view, 0));
  const writers = change("writers", grantUseRecord.writers(view, 0));
  return `${grantUseRecord.reference(view, 0)}${readers}${writers}`;
}

/** Returns " readers+1", " writers-2"; "" without a change. */
const change = (what: string, by: number): string =>
  by === 0 ? "" : ` ${what}${by > 0 ? "+" : ""}${by}`;

/** Describes packed records: the first few one by one, and the number of the others. */
export function packed(
  bytes: Uint8Array,
  size: number,
  tell: (record: Uint8Array) => string,
): string {
  const count = Math.floor(bytes.length / size);
  const told: string[] = [];
  for (let i = 0; i < count && i < MAX_TOLD; i++) {
    told.push(tell(bytes.subarray(i * size, (i + 1) * size)));
  }
  if (count > MAX_TOLD) told.push(`${count - MAX_TOLD} more`);
  return `${count} ${count === 1 ? "record" : "records"}: ${told.join("; ")}`;
}
