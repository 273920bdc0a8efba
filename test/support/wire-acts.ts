/** The transactions of a batch as values that tests read, change and encode again. */
import { BatchWriter } from "../../shared/wire/batch.ts";
import {
  catalogue,
  entryOfOp,
  type GrantRecords,
  type Handlers,
  type PackedRecords,
  type PostName,
  type Sent,
} from "../../shared/wire/catalogue.ts";
import { applyBatch } from "../../shared/wire/decode.ts";
import { GRANT_RECORD_BYTES } from "../../shared/wire/protocol.ts";
import type { BusAddress, MemoryAccess } from "../../shared/wire/records.ts";
import { END_GRANT_RECORD_SIZE } from "../../shared/xen/grant.ts";

/** One transaction, or one record of a column. */
export type Act =
  | {
      readonly kind: "write" | "push" | "mmio_write";
      readonly space: number;
      readonly address: BusAddress;
      readonly type: number;
      readonly bytes: Uint8Array;
    }
  | { readonly kind: "interrupt"; readonly vector: number }
  | { [N in PostName]: { readonly kind: N } & Sent<N> }[PostName];

/** A handler's argument as the fields of an act. */
function fieldsOf(told: number | MemoryAccess | GrantRecords | PackedRecords | object): object {
  if (typeof told === "number") return { vector: told };
  if ("view" in told) {
    const { view, at, count, ...version } = told;
    const bytes = "version" in told ? GRANT_RECORD_BYTES[told.version] : END_GRANT_RECORD_SIZE;
    const records = new Uint8Array(view.buffer, view.byteOffset + at, count * bytes);
    return { ...version, records };
  }
  if (!("src" in told)) return told;
  const { space, address, type, src, at, length } = told;
  return { space, address, type, bytes: src.subarray(at, at + length) };
}

/** Handlers of both ends that pass each transaction to `tell`. Bytes are views into the message. */
export function everyHandler(tell: (act: Act) => void): Handlers {
  const handlers = Object.values(catalogue).map(({ op }) => {
    const { name, method } = entryOfOp(op)!;
    const handler = (told: number | MemoryAccess | object) =>
      tell({ kind: name, ...fieldsOf(told) } as Act);
    return [method, handler];
  });
  return Object.fromEntries(handlers) as Handlers;
}

/** The acts of a batch, with bytes of their own. */
export function actsOf(batch: Uint8Array): Act[] {
  const acts: Act[] = [];
  const sink = everyHandler((act) => acts.push(act));
  applyBatch(Uint8Array.from(batch), sink, sink);
  return acts;
}

/** The batches that `build` makes with the product's own writer. */
function batchesBy(build: (writer: BatchWriter) => void): Uint8Array[] {
  const batches: Uint8Array[] = [];
  const writer = new BatchWriter((bytes, at, length, release) => {
    batches.push(Uint8Array.from(bytes.subarray(at, at + length)));
    release();
  });
  build(writer);
  writer.flush();
  return batches;
}

/** The only batch that `build` makes. */
export function batchOf(build: (writer: BatchWriter) => void): Uint8Array {
  const [only, ...more] = batchesBy(build);
  if (only === undefined || more.length > 0) throw new Error("not one batch");
  return only;
}

/** The batches that carry `acts`: one, or more when they do not fit into one. */
export const batchesOf = (acts: readonly Act[]): Uint8Array[] =>
  batchesBy((writer) => {
    for (const act of acts) {
      if (act.kind === "interrupt") writer.interrupt(act.vector);
      else if ("type" in act) {
        const { kind, space, address, type, bytes } = act;
        writer.column(catalogue[kind].op, space, address, type, bytes, 0, bytes.length);
      } else writer.post(act.kind, act);
    }
  });

/** The ring entries of one type that a batch carries, `size` bytes each. */
export function entriesOf(batch: Uint8Array, wanted: number, size: number): DataView[] {
  return actsOf(batch).flatMap((act) => {
    if (act.kind !== "write" || act.type !== wanted) return [];
    const { buffer, byteOffset, length } = act.bytes;
    const entry = (_: unknown, i: number) => new DataView(buffer, byteOffset + i * size, size);
    return Array.from({ length: length / size }, entry);
  });
}
