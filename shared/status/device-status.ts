/**
 * The status of a device: what it fills in, what `/status` prints as JSON, and what metrics,
 * `ringwire status`, the inspector and tests read.
 *
 *   DeviceStatus ─┬─ segment ── ports, left: PortStatus
 *                 ├─ nics: NicStatus ── nic: EnaStatus or XenStatus, by personality
 *                 ├─ left: totals of connections that ended
 *                 └─ captures, http, xen: what all NICs share
 *
 * Each schema is the only description of its part. A device imports the types, a reader of a page
 * the schemas too (read.ts). A name that ends in `Bytes`, `Ms` or `Seconds` is in that unit; every
 * other number is a count, an index or an identifier.
 */
import { z } from "zod";

const text = z.string();
/** Numbers by a name that is not known beforehand: a reason, a code, a status. */
export type Counts = Readonly<Record<string, number>>;
const counts = z.custom<Counts>(
  (value) =>
    z.record(z.string(), z.unknown()).safeParse(value).success &&
    Object.values(value as object).every((count) => typeof count === "number"),
  "expected numbers by name",
);

/** Stops at the first entry that is wrong, so that a page of millions of them costs no memory. */
const list = <T>(entry: z.ZodType<T>) =>
  z.array(z.unknown()).transform((entries, { issues }): T[] => {
    for (const [i, value] of entries.entries()) {
      const [first] = entry.safeParse(value).error?.issues ?? [];
      if (first === undefined) continue;
      issues.push({ ...first, path: [i, ...first.path] } as never);
      break;
    }
    return entries as T[];
  });

function fields<K extends string, T>(names: readonly K[], type: T): Record<K, T> {
  return Object.fromEntries(names.map((name) => [name, type])) as Record<K, T>;
}
const numbers = <K extends string>(...names: K[]) => fields(names, z.number());
const flags = <K extends string>(...names: K[]) => fields(names, z.boolean());

/** Frames and bytes both ways, and frames that died, by reason. device/switch/counters.ts has the sums. */
const portCounts = z.object({
  in: z.object({
    ...numbers("frames", "bytes", "forwarded", "flooded", "copies", "held"),
    dropped: counts,
  }),
  out: z.object({
    ...numbers("offered", "frames", "bytes", "segmentedFrames", "segments", "checksummed"),
    dropped: counts,
  }),
  // Died in the port itself: before the switch saw the frame, or after the port accepted it.
  lost: z.object({ in: counts, out: counts }),
});

const port = z.object({
  name: text,
  kind: text,
  // Addresses learned behind the port.
  macs: z.number(),
  ...portCounts.shape,
});

/** Totals of a port's name over the times it left. */
const leftPort = z.object({ name: text, kind: text, times: z.number(), ...portCounts.shape });

const segment = z.object({
  name: text,
  id: text,
  ports: list(port),
  left: list(leftPort),
  // Entries of the address table, and those among them that were learned.
  ...numbers("addresses", "learned"),
  ...numbers("macMoves", "macMovesDamped", "macsAged", "macTableFull", "lateFrames"),
});

/** A descriptor ring. Indexes are 16 bits wide and run freely. */
const enaRing = numbers("index", "depth", "head", "tail", "cqHead", "vector");

const ena = z.object({
  personality: z.literal("ena"),
  // "ready", "resetting" or "fatal".
  status: text,
  // Reason of the last reset, by its name in ena_regs_reset_reason_types.
  lastReset: text,
  mtu: z.number(),
  // Bits of ena_admin_aq_feature_id.
  features: z.number(),
  llq: z.boolean(),
  // Kernel and version as the driver gave them, or "unknown".
  driver: text,
  counters: z.object({
    ...numbers("txPackets", "txBytes", "rxPackets", "rxBytes"),
    ...numbers("txDrops", "rxDrops", "rxOverruns", "txReads"),
    ...numbers("aenqEvents", "aenqOverflows", "adminCommands", "resets"),
  }),
  faults: counts,
  resets: counts,
  admin: z.object({
    running: z.boolean(),
    ...numbers("waiting", "head", "tail", "events", "eventGroups"),
  }),
  interrupts: list(z.object({ ...numbers("vector", "raised"), ...flags("armed", "pending") })),
  tx: list(
    z.object({
      ...enaRing,
      placement: z.enum(["host", "device"]),
      state: text,
      ...numbers("packets", "bytes", "drops"),
    }),
  ),
  rx: list(
    z.object({ ...enaRing, state: text, ...numbers("buffers", "packets", "bytes", "overruns") }),
  ),
  roundTripMs: z.number(),
});

/** A shared ring of xen/include/public/io/ring.h. `free`: slots that the guest may fill. */
const xenRing = z.object({
  ...numbers("reference", "size", "free"),
  ...numbers("reqProd", "reqCons", "reqEvent", "rspProd", "rspProdPvt", "rspEvent"),
});

const xenQueue = z.object({
  tx: z.object({
    // What the packet at hand waits for.
    stage: text,
    ...numbers("packets", "bytes", "drops", "reads", "creditWaits", "checksumFixups"),
    // Bytes that may go now; absent without a rate.
    credit: z.number().optional(),
    ring: xenRing,
  }),
  rx: z.object({
    ...numbers("packets", "bytes", "drops", "expired", "copyErrors", "stalls"),
    stalled: z.boolean(),
    ...numbers("queued", "queuedBytes"),
    ring: xenRing,
  }),
  // Event channels, by the guest's ports; one may serve both rings.
  ...numbers("txPort", "rxPort", "spuriousEvents"),
});

/** The backend of a vif. */
const vif = z.object({
  ...flags("connected", "disabled", "stalled"),
  offloads: z.object(flags("csum", "tso4", "tso6")),
  // What the frontend said when it connected; empty before.
  features: z
    .object({
      ...flags("sg", "gsoTcpv4", "gsoTcpv6", "csumOffload", "ipv6CsumOffload"),
      ...flags("rxNotify", "multicastControl"),
    })
    .partial(),
  multicastGroups: z.number(),
  // Transmit credit: bytes in each period of `usec` microseconds.
  rate: z.object(numbers("bytes", "usec")).optional(),
  faults: counts,
  // While rings are mapped.
  queues: list(xenQueue).optional(),
  control: z
    .object({
      ...numbers("requests", "refused"),
      ring: xenRing,
      ...numbers("port", "spuriousEvents"),
    })
    .optional(),
});

const xen = z.object({
  personality: z.literal("xen"),
  domid: z.number(),
  // xenbus states of both ends.
  backend: text,
  frontend: text,
  grants: z.object({
    ...numbers("domid", "version", "frames", "maxFrames"),
    ...numbers("granted", "inUse", "readers", "writers", "mapped", "endedInUse"),
    // By GNTST status.
    refused: counts,
  }),
  ...vif.shape,
  // What the domain has of the machine; absent once it is gone.
  store: z
    .object({
      ...numbers("domid", "nodes", "watches", "transactions", "nodeBytes", "memoryBytes"),
      overSoftQuota: z.boolean(),
      ...numbers("held", "pending"),
    })
    .optional(),
  events: z.object(numbers("ports", "bound", "pending", "masked", "waiting")).optional(),
});

const nic = z.object({
  name: text,
  personality: text,
  mac: text,
  peer: text,
  // Program and version of the frontend.
  agent: text,
  // Since it connected.
  seconds: z.number(),
  link: z.object({
    ...numbers("roundTripMs", "unsentBytes", "inFlightBytes", "limitBytes"),
    ...numbers("sentBatches", "sentBytes", "receivedBatches", "receivedBytes"),
  }),
  memory: z.object({
    ...numbers("windows", "windowBytes"),
    ...numbers("pushesLive", "pushBytes", "pushMisses", "pushSearches", "reads"),
    // With `--check-windows`.
    windowBytesCompared: z.number().optional(),
  }),
  // Rules that the frontend broke, and accesses of the device that the frontend refused, by code.
  faults: counts,
  reports: counts,
  nic: z.discriminatedUnion("personality", [ena, xen]),
});

/** Totals of a NIC's name over its connections that ended. */
const leftNic = z.object({
  name: text,
  personality: text,
  connections: z.number(),
  faults: counts,
  reports: counts,
  resets: counts,
});

/** What all Xen guests share. */
const xenMachine = z.object({
  ...numbers("domains", "storeNodes", "backendPorts"),
  events: z.object({
    ...numbers("sent", "coalesced", "unbound", "turns", "spurious", "delayed"),
  }),
});

export const deviceStatus = z.object({
  agent: text,
  pid: z.number(),
  // Version of Node.
  node: text,
  // Since the device started.
  seconds: z.number(),
  memoryBytes: z.number(),
  // Of frontends, those before hello too.
  connections: z.number(),
  segment,
  nics: list(nic),
  left: z.object({
    // Names that made room for others.
    forgotten: z.number(),
    nics: list(leftNic),
  }),
  captures: z.object(numbers("running", "begun", "cutOff")),
  // `requests`, `pages` and `hellos`: connections without a whole request, with a page, before hello.
  http: z.object({ ...numbers("accepted", "requests", "pages", "hellos"), refused: counts }),
  xen: xenMachine,
});

/** An address and the port behind which it was seen. */
const address = z.object({
  mac: text,
  port: text,
  // The device put it there; it neither ages nor moves.
  static: z.boolean(),
  ...numbers("ageSeconds", "moves"),
  // The port it moved from last; "" when it never moved.
  movedFrom: text,
});

/** A page of `/addresses`. `next` is the `after` of the next page, where there is one. */
export const addressPage = z.object({
  total: z.number(),
  addresses: list(address),
  next: z.string().optional(),
});

/** @interface */
export type DeviceStatus = z.infer<typeof deviceStatus>;
/** @interface */
export type SegmentStatus = z.infer<typeof segment>;
/** @interface */
export type PortStatus = z.infer<typeof port>;
/** @interface */
export type LeftPortStatus = z.infer<typeof leftPort>;
/** @interface */
export type PortCounts = z.infer<typeof portCounts>;
/** @interface */
export type NicStatus = z.infer<typeof nic>;
/** @interface */
export type LeftNicStatus = z.infer<typeof leftNic>;
/** @interface */
export type EnaStatus = z.infer<typeof ena>;
/** @interface */
export type XenStatus = z.infer<typeof xen>;
/** @interface */
export type VifStatus = z.infer<typeof vif>;
/** @interface */
export type XenQueueStatus = z.infer<typeof xenQueue>;
/** @interface */
export type XenRingStatus = z.infer<typeof xenRing>;
/** @interface */
export type XenMachineStatus = z.infer<typeof xenMachine>;
/** @interface */
export type AddressEntry = z.infer<typeof address>;
/** @interface */
export type AddressPage = z.infer<typeof addressPage>;
