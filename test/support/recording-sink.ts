/** Sinks for both ends at once, made from the catalogue. */
import { catalogue, entryOfOp, type Handlers, type Op } from "../../shared/wire/catalogue.ts";
import type { MemoryAccess } from "../../shared/wire/records.ts";

/** Name of the handler, then the fields in the order of the wire; of a column, one record. */
export type Told = readonly [name: string, ...fields: unknown[]];

const isColumn = (op: number): boolean =>
  ([catalogue.write.op, catalogue.push.op, catalogue.mmio_write.op] as Op[]).includes(op as Op);

/** Handlers that pass on each transaction as `Told`. Bytes are still views into the message. */
export function everyHandler(tell: (told: Told) => void): Handlers {
  const handlers: Record<string, (fields: unknown) => void> = {};
  for (const { op } of Object.values(catalogue)) {
    const { method } = entryOfOp(op)!;
    handlers[method] = isColumn(op)
      ? (access) => {
          const { space, address, type, src, at, length } = access as MemoryAccess;
          tell([method, space, address, type, src.subarray(at, at + length)]);
        }
      : (fields) =>
          tell([method, ...(typeof fields === "object" ? Object.values(fields!) : [fields])]);
  }
  return handlers as unknown as Handlers;
}

export interface RecordingSink extends Handlers {
  readonly told: Told[];
}

/** Writes down what it is told, bytes as arrays of numbers. */
export const RecordingSink = class {
  readonly told: Told[] = [];
  constructor() {
    const plain = (field: unknown) => (field instanceof Uint8Array ? [...field] : field);
    Object.assign(
      this,
      everyHandler(([name, ...fields]) => void this.told.push([name, ...fields.map(plain)])),
    );
  }
} as unknown as new () => RecordingSink;
