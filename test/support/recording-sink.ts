/** A sink for both ends at once that records each transaction. */
import { catalogue, entryOfOp, type Handlers } from "../../shared/wire/catalogue.ts";
import { everyHandler } from "./wire-acts.ts";

/**
 * Name of the handler, then the fields in wire order. One record of a column counts as one call.
 */
export type Told = readonly [name: string, ...fields: unknown[]];

export interface RecordingSink extends Handlers {
  readonly told: Told[];
}

/** Bytes are recorded as arrays of numbers. */
export const RecordingSink = class {
  readonly told: Told[] = [];
  constructor() {
    const plain = (field: unknown) => (field instanceof Uint8Array ? [...field] : field);
    const handlers = everyHandler(({ kind, ...fields }) => {
      const { method } = entryOfOp(catalogue[kind].op)!;
      this.told.push([method, ...Object.values(fields).map(plain)]);
    });
    Object.assign(this, handlers);
  }
} as unknown as new () => RecordingSink;
