/**
 * The page `/status` of a frontend: the process, and its NIC as the driver sees it. The schema is the
 * only description of the page; `FrontendStatus` describes the part that a program gets, too.
 */
import * as z from "zod";
import type { CounterTree, FrontendStatus } from "./frontend-status.ts";

const text = z.string();
const count = z.number();
const counts = z.record(text, count);

/** Deepest tree of a driver's counters. A tree of a stranger may have any depth. */
const MAX_DEPTH = 8;

const tree = z.custom<CounterTree>(
  (value) => isTree(value, MAX_DEPTH),
  "expected counters by name",
);

function isTree(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.values(value).every(
    (entry) =>
      typeof entry === "number" ||
      typeof entry === "string" ||
      (depth > 1 && isTree(entry, depth - 1)),
  );
}

const ifnet = z.object({
  ...{ ipackets: count, ibytes: count, opackets: count, obytes: count },
  ...{ ierrors: count, oerrors: count, iqdrops: count, oqdrops: count },
});

const tap = z.object({
  ...{ rxFrames: count, rxBytes: count, rxMalformed: count, rxTruncated: count, rxStalls: count },
  ...{ txFrames: count, txBytes: count, txErrors: counts },
  host: counts,
});

const nic = z.object({
  name: text,
  driver: z.enum(["ena", "xen"]),
  state: z.enum(["connecting", "attached", "waiting", "closed"]),
  mac: text,
  mtu: count,
  waits: z.enum(["reactor", "libuv"]),
  queues: count,
  segment: text,
  epoch: count,
  deviceMemory: z.boolean(),
  link: z.enum(["unknown", "down", "up"]),
  reconnects: count,
  faults: counts,
  counters: z.object({
    ifnet,
    driver: tree,
    frames: z.object({ rxReaderFull: count, rxMalformed: count }).exactOptional(),
    tap: tap.exactOptional(),
  }),
}) satisfies z.ZodType<FrontendStatus>;

export const frontendPage = z.object({
  // Program and version.
  agent: text,
  pid: count,
  // Version of Node.js.
  node: text,
  // Time since the process started.
  seconds: count,
  // Resident memory of the process.
  memoryBytes: count,
  // Absent before the first device has let the NIC in.
  nic: nic.exactOptional(),
  // Connections of the pages: open ones, and those refused by reason.
  http: z.object({ connections: count, refused: counts }),
});

/** @interface */
export type FrontendPage = z.infer<typeof frontendPage>;
