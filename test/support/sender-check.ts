/** Loaded before the tests of every file: a receiver must accept every batch of our own writers. */
import { inspectBatches } from "../../shared/wire/batch.ts";
import { applyBatch } from "../../shared/wire/decode.ts";
import { everyHandler } from "./wire-acts.ts";

const sink = everyHandler(() => {});
inspectBatches((batch) => applyBatch(batch, sink, sink));
