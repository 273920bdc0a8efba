/**
 * The transactions of the personality `xen` in words, for trace.ts: grants, hypercalls, events,
 * xenstore.
 *
 *   -> grant v1 2 records: 9 PERMIT_ACCESS dom=0 frame=0x12; 10 PERMIT_ACCESS dom=0 frame=0x13
 *   -> hypercall tag=1 event_channel_op ALLOC_UNBOUND dom=SELF remoteDom=0
 *   <- grant_use 1 record: 9 readers+1
 */

import type { Reader } from "../../shared/wire/reader.ts";
import { Limits, Op } from "../../shared/wire/transactions.ts";
import {
  END_GRANT_RECORD_SIZE,
  endGrantRecord,
  GRANT_RECORD_ENTRY,
  GRANT_RECORD_V1_SIZE,
  GRANT_RECORD_V2_SIZE,
  GRANT_USE_RECORD_SIZE,
  grantUseRecord,
} from "../../shared/xen/grant.ts";
import { describeErrno, describeGrantEntry, describeHypercall, describeXsMessage } from "./xen.ts";

/** Records told one by one; of the rest only the number. Grants come by the hundred. */
const MAX_TOLD = 4;

/** What a reply has to be read with: the call it answers. */
interface Call {
  readonly number: number;
  readonly command: number;
}

/** Remembers the hypercalls of one link that have no reply yet. */
export class XenTracer {
  readonly #calls = new Map<number, Call>();

  /**
   * The rest of the transaction in words; the reader stands behind the opcode. undefined for an
   * opcode that is not Xen's. Throws WireError where the bytes stop making sense.
   */
  trace(r: Reader, op: number, name: string): string | undefined {
    const uint = (what: string): number => r.uint(`${name}: ${what}`, Number.MAX_SAFE_INTEGER);
    const bin = (what: string): Uint8Array => {
      r.bin(`${name}: ${what}`, Limits.MESSAGE_BYTES);
      return r.bytes.subarray(r.binAt, r.binAt + r.binLength);
    };
    switch (op) {
      case Op.GRANT: {
        const version = uint("version");
        const size = version === 1 ? GRANT_RECORD_V1_SIZE : GRANT_RECORD_V2_SIZE;
        const told = records(bin("records"), size, (record) => {
          const reference = endGrantRecord.reference(record, 0);
          const entry = new Uint8Array(
            record.buffer,
            record.byteOffset + GRANT_RECORD_ENTRY,
            size - GRANT_RECORD_ENTRY,
          );
          return `${reference} ${describeGrantEntry(version, entry)}`;
        });
        return `v${version} ${told}`;
      }
      case Op.END_GRANT:
        return records(
          bin("records"),
          END_GRANT_RECORD_SIZE,
          (record) => `${endGrantRecord.reference(record, 0)}`,
        );
      case Op.GRANT_USE:
        return records(bin("records"), GRANT_USE_RECORD_SIZE, (record) => {
          const readers = change("readers", grantUseRecord.readers(record, 0));
          const writers = change("writers", grantUseRecord.writers(record, 0));
          return `${grantUseRecord.reference(record, 0)}${readers}${writers}`;
        });
      case Op.HYPERCALL: {
        const tag = uint("tag");
        const call = { number: uint("number"), command: uint("command") };
        if (this.#calls.size < Limits.HYPERCALLS) this.#calls.set(tag, call);
        return `tag=${tag} ${describeHypercall(call.number, call.command, bin("bytes"))}`;
      }
      case Op.HYPERCALL_REPLY: {
        const tag = uint("tag");
        const outcome = `tag=${tag} ${describeErrno(uint("errno"))}`;
        const bytes = bin("bytes");
        const call = this.#calls.get(tag);
        this.#calls.delete(tag);
        if (call === undefined || bytes.length === 0) return `${outcome} bytes=${bytes.length}`;
        return `${outcome} ${describeHypercall(call.number, call.command, bytes)}`;
      }
      case Op.EVENT:
        return `port=${uint("port")}`;
      case Op.XENSTORE:
        return describeXsMessage(bin("bytes"));
      default:
        return undefined;
    }
  }
}

/** " readers+1", " writers-2"; nothing for no change. */
const change = (what: string, by: number): string =>
  by === 0 ? "" : ` ${what}${by > 0 ? "+" : ""}${by}`;

function records(bytes: Uint8Array, size: number, tell: (record: DataView) => string): string {
  const count = Math.floor(bytes.length / size);
  const told: string[] = [];
  for (let i = 0; i < count && i < MAX_TOLD; i++) {
    told.push(tell(new DataView(bytes.buffer, bytes.byteOffset + i * size, size)));
  }
  if (count > MAX_TOLD) told.push(`${count - MAX_TOLD} more`);
  const behind = bytes.length - count * size;
  if (behind !== 0) told.push(`! ${behind} bytes behind the records`);
  return `${count} ${count === 1 ? "record" : "records"}: ${told.join("; ")}`;
}
