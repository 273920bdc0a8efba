/** Loaded before the tests of every file: what our own writers send must be what a receiver accepts. */
import { inspectBatches } from "../../shared/wire/batch.ts";
import { catalogue, entryOfOp, type Handlers } from "../../shared/wire/catalogue.ts";
import { applyBatch } from "../../shared/wire/decode.ts";

const accept = (): void => {};
const sink = Object.fromEntries(
  Object.values(catalogue).map(({ op }) => [entryOfOp(op)!.method, accept]),
) as unknown as Handlers;

inspectBatches((batch) => applyBatch(batch, sink, sink));
