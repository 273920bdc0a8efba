/** Loaded before the tests of every file: what our own writers send must be what a receiver accepts. */
import { inspectBatches } from "../../shared/wire/batch.ts";
import { applyBatch } from "../../shared/wire/decode.ts";
import { everyHandler } from "./wire-acts.ts";

const sink = everyHandler(() => {});
inspectBatches((batch) => applyBatch(batch, sink, sink));
