/** Loaded before the tests of every file: what our own writers send must be what a receiver accepts. */
import { inspectBatches } from "../../shared/wire/batch.ts";
import { catalogue, entryOf, type Handlers, type Name } from "../../shared/wire/catalogue.ts";
import { applyBatch } from "../../shared/wire/decode.ts";

const accept = (): void => {};
const sink = Object.fromEntries(
  (Object.keys(catalogue) as Name[]).map((name) => [entryOf(name).method, accept]),
) as unknown as Handlers;

inspectBatches((batch) => applyBatch(batch, sink, sink));
