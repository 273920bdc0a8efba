/**
 * The status of a device. The device fills it in, and `/status` prints it as JSON. Metrics,
 * `ringwire status`, the inspector and tests read it.
 *
 *   DeviceStatus ─┬─ segments ── ports, left: PortStatus
 *                 ├─ nics: NicStatus ── nic: EnaStatus or XenStatus, by personality
 *                 ├─ left: totals of connections that ended
 *                 └─ captures, http, xen: shared by all NICs
 *
 * Each schema is the only description of its part. A device imports the types. A reader of a page
 * imports the schemas too (read.ts). A field whose name ends in `Bytes`, `Ms` or `Seconds` is in
 * that unit. Every other number is a count, an index or an identifier.
 */
import * as z from "zod";

const text = z.string();
/** Numbers by a name that is not known in advance: a reason, a code or a status. */
export type Counts = Readonly<Record<string, number>>;
const counts = z.custom<Counts>(
  (value) =>
    z.record(z.string(), z.unknown()).safeParse(value).success &&
    Object.values(value as object).every((count) => typeof count === "number"),
  "expected numbers by name",
);

/** Reports only the first wrong entry, so that a page with millions of them costs no memory. */
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

/**
 * Frames and bytes in both directions, and lost frames by reason. The file
 * device/switch/counters.ts lists the equations that the counts satisfy.
 */
const portCounts = z.object({
  in: z.object({
    ...numbers("frames", "bytes", "forwarded", "flooded", "copies", "held"),
    dropped: counts,
  }),
  out: z.object({
    ...numbers("offered", "frames", "bytes", "segmentedFrames", "segments", "checksummed"),
    dropped: counts,
  }),
  // Frames lost in the port: before the switch saw them, or after the port accepted them.
  lost: z.object({ in: counts, out: counts }),
});

const port = z.object({
  name: text,
  kind: text,
  // Number of addresses learned behind the port.
  macs: z.number(),
  // Options that the rules of the segment give to the port. Absent without any.
  rules: z.record(z.string(), z.unknown()).optional(),
  ...portCounts.shape,
});

/** Totals of all ports with one name that have left, and how many they were. */
const leftPort = z.object({ name: text, kind: text, times: z.number(), ...portCounts.shape });

/** The DHCP server of a segment. `pool` and `reserved` count addresses. */
const dhcp = z.object({
  ...numbers("pool", "reserved"),
  // Leases by their state. `list` has the first ones only.
  ...numbers("leases", "offers", "declined"),
  list: list(
    z.object({
      address: text,
      mac: text,
      // Name of the NIC with that MAC; "" for another host.
      nic: text,
      state: z.enum(["offered", "bound", "declined"]),
      seconds: z.number(),
    }),
  ),
});

/** The host that serves a segment. An address that it does not have is "". */
const services = z.object({
  mac: text,
  address: text,
  address6: text,
  linkLocal: text,
  // Number of requests that wait for their turn.
  queued: z.number(),
  // Answers by service, and requests without an answer by reason.
  answers: counts,
  unanswered: counts,
  dhcp: dhcp.optional(),
});

const segment = z.object({
  name: text,
  id: text,
  ports: list(port),
  left: list(leftPort),
  // Frames a second that a NIC may flood, by kind. A kind without a limit is absent.
  storm: counts,
  // Number of entries of the address table, and number of learned ones among them.
  ...numbers("addresses", "learned"),
  ...numbers("macMoves", "macMovesDamped", "macsAged", "macTableFull", "lateFrames"),
  // Absent without services.
  services: services.optional(),
});

/**
 * A descriptor ring. Its indexes are free-running and 16 bits wide. `kept`: completions that wait
 * for the next message to the driver.
 */
const enaRing = numbers("index", "depth", "head", "tail", "cqHead", "kept", "vector");

const ena = z.object({
  personality: z.literal("ena"),
  // "ready", "resetting" or "fatal".
  status: text,
  // Reason of the last reset: a name of ena_regs_reset_reason_types.
  lastReset: text,
  mtu: z.number(),
  // Bits of ena_admin_aq_feature_id.
  features: z.number(),
  llq: z.boolean(),
  // Kernel and version that the driver reported, or "unknown".
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
  interrupts: list(
    z.object({
      ...numbers("vector", "raised"),
      ...flags("armed", "pending"),
      // Moderation delays in microseconds, as the driver set them.
      ...numbers("rxDelay", "txDelay"),
    }),
  ),
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

/** A ring of xen/include/public/io/ring.h. `free`: number of slots that the guest may fill. */
const xenRing = z.object({
  ...numbers("reference", "size", "free"),
  ...numbers("reqProd", "reqCons", "reqEvent", "rspProd", "rspProdPvt", "rspEvent"),
});

const xenQueue = z.object({
  tx: z.object({
    // The step for which the current packet waits.
    stage: text,
    ...numbers("packets", "bytes", "drops", "reads", "creditWaits", "checksumFixups"),
    // Bytes that may be sent now. Absent without a rate limit.
    credit: z.number().optional(),
    ring: xenRing,
  }),
  rx: z.object({
    ...numbers("packets", "bytes", "drops", "expired", "copyErrors", "stalls"),
    stalled: z.boolean(),
    ...numbers("queued", "queuedBytes"),
    ring: xenRing,
  }),
  // The guest's ports of the event channels. One channel may serve both rings.
  ...numbers("txPort", "rxPort", "spuriousEvents"),
});

/** The backend of a vif. */
const vif = z.object({
  ...flags("connected", "disabled", "stalled"),
  offloads: z.object(flags("csum", "tso4", "tso6")),
  // Features that the frontend announced when it connected. Empty before.
  features: z
    .object({
      ...flags("sg", "gsoTcpv4", "gsoTcpv6", "csumOffload", "ipv6CsumOffload"),
      ...flags("rxNotify", "multicastControl"),
    })
    .partial(),
  multicastGroups: z.number(),
  // Transmit credit: bytes per period of `usec` microseconds.
  rate: z.object(numbers("bytes", "usec")).optional(),
  faults: counts,
  // Present while rings are mapped.
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
  // The xenbus states of both ends.
  backend: text,
  frontend: text,
  grants: z.object({
    ...numbers("domid", "version", "frames", "maxFrames"),
    ...numbers("granted", "inUse", "readers", "writers", "mapped", "endedInUse"),
    // Refused operations by GNTST status.
    refused: counts,
  }),
  ...vif.shape,
  // Resources of the machine that the domain uses. Absent when the domain is gone.
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
  // Name of its segment. Names of NICs are unique in a segment.
  segment: text,
  personality: text,
  mac: text,
  peer: text,
  // Program and version of the frontend.
  agent: text,
  // Time since the frontend connected.
  seconds: z.number(),
  link: z.object({
    ...numbers("roundTripMs", "unsentBytes", "inFlightBytes", "limitBytes"),
    ...numbers("sentBatches", "sentBytes", "receivedBatches", "receivedBytes"),
    // Batches that were sent because posts had waited for another batch until their deadline.
    lateBatches: z.number(),
  }),
  memory: z.object({
    ...numbers("windows", "windowBytes"),
    ...numbers("pushesLive", "pushBytes", "pushMisses", "pushSearches", "reads"),
    // Present with `--check-windows`.
    windowBytesCompared: z.number().optional(),
  }),
  // `faults`: rules that the frontend broke, by code. `reports`: accesses of the device that the
  // frontend refused, by code.
  faults: counts,
  reports: counts,
  nic: z.discriminatedUnion("personality", [ena, xen]),
});

/** Totals of all connections of one NIC name that have ended. */
const leftNic = z.object({
  name: text,
  segment: text,
  personality: text,
  connections: z.number(),
  faults: counts,
  reports: counts,
  resets: counts,
});

/** The machine that all Xen guests share. */
const xenMachine = z.object({
  ...numbers("domains", "storeNodes", "backendPorts"),
  events: z.object({
    ...numbers("sent", "coalesced", "unbound", "turns", "spurious", "delayed"),
  }),
});

/**
 * Memory for all NICs together and its limit. `messageBytes`: parts of messages that are not complete
 * yet. `refused`: number of refusals, by what was asked for.
 */
const nicMemory = z.object({
  ...numbers("limitBytes", "windowBytes", "pushBytes", "messageBytes"),
  refused: counts,
});

export const deviceStatus = z.object({
  agent: text,
  pid: z.number(),
  // Version of Node.js.
  node: text,
  // Time since the device started.
  seconds: z.number(),
  // Resident memory of the process.
  memoryBytes: z.number(),
  // The wait for the sockets of NICs and uplinks: "reactor" or "libuv". `whyLibuv` is empty with the
  // reactor. Turns are measured with the reactor only, by their length: `turns` counts them by the
  // upper bound of their class in ms, `longestTurnMs` is since the start.
  dataPath: z.object({
    waits: text,
    whyLibuv: text,
    turns: counts,
    ...numbers("longestTurnMs", "turnSeconds"),
  }),
  nicMemory,
  // Number of connections of frontends, including those before hello.
  connections: z.number(),
  segments: list(segment),
  nics: list(nic),
  left: z.object({
    // Number of names that were removed to make room for others.
    forgotten: z.number(),
    nics: list(leftNic),
  }),
  captures: z.object(numbers("running", "begun", "cutOff")),
  // Uplinks by name. `up`: the far end is there; once gone, it is gone for good.
  uplinks: list(z.object({ name: text, segment: text, up: z.boolean() })),
  // Readers of /events now, events so far, readers that were cut because they took nothing.
  events: z.object(numbers("readers", "published", "cutOff")),
  // Numbers of connections. `requests`: their request is not complete yet. `pages`: they get a
  // page. `hellos`: the frontend has not sent its hello yet.
  http: z.object({ ...numbers("accepted", "requests", "pages", "hellos"), refused: counts }),
  xen: xenMachine,
});

/** An address and the port behind which it was seen. */
const address = z.object({
  mac: text,
  // VLAN in which the address was seen. Absent without VLANs, and for a static entry.
  vlan: z.number().optional(),
  port: text,
  // True for an entry of the device itself. It neither ages nor moves.
  static: z.boolean(),
  ...numbers("ageSeconds", "moves"),
  // The port from which the address moved last; "" when it never moved.
  movedFrom: text,
});

/** A page of `/addresses`. `next` is the `after` of the next page; absent on the last page. */
export const addressPage = z.object({
  total: z.number(),
  addresses: list(address),
  next: z.string().optional(),
});

/** @interface */
export type DeviceStatus = z.infer<typeof deviceStatus>;
/** @interface */
export type NicMemoryStatus = z.infer<typeof nicMemory>;
/** @interface */
export type SegmentStatus = z.infer<typeof segment>;
/** @interface */
export type ServicesStatus = z.infer<typeof services>;
/** @interface */
export type DhcpStatus = z.infer<typeof dhcp>;
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
