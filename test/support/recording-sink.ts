/** A sink for both ends at once that writes down what it is told. */
import { catalogue, entryOfOp, type Handlers } from "../../shared/wire/catalogue.ts";
import { everyHandler } from "./wire-acts.ts";

/** Name of the handler, then the fields in the order of the wire; of a column, one record. */
export type Told = readonly [name: string, ...fields: unknown[]];

export interface RecordingSink extends Handlers {
  readonly told: Told[];
}

/** Bytes are written down as arrays of numbers. */
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
