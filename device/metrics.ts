/**
 * The device's numbers for Prometheus (text exposition format 0.0.4). Each scrape is made from one
 * status, so no value is counted twice, and a NIC that left is gone here too.
 *
 *   status ──► rows: labels and a part of the status ──► columns: name, help, value ──► families
 *
 * The number of labels is bounded: names of ports and NICs that hello allows, one driver and one
 * address for each NIC, reasons and codes from our own source. No label is an address of a frame.
 *
 * The text is made in slices. A device with hundreds of NICs has tens of thousands of values, and
 * the frames of all NICs wait while a slice is made.
 *
 * Source: https://prometheus.io/docs/instrumenting/exposition_formats/
 */
import { collectDefaultMetrics, Histogram, Registry } from "prom-client";
import { slice } from "../shared/slices.ts";
import type {
  Counts,
  DeviceStatus,
  EnaStatus,
  LeftNicStatus,
  NicStatus,
  PortCounts,
  SegmentStatus,
  XenQueueStatus,
  XenStatus,
} from "../shared/status/device-status.ts";
import { PROTOCOL_VERSION } from "../shared/wire/protocol.ts";

export interface MetricsText {
  /** Content-Type of the page. */
  readonly type: string;
  readonly text: string;
}

/** Most characters of a label that a frontend chose. */
const MAX_LABEL_CHARS = 64;

/**
 * Metrics of this process: event loop, memory and the like. All devices in it show the same values.
 * The first scrape starts them.
 */
let processMetrics: Registry | undefined;

/**
 * Histogram of the round trips of all links, which heartbeats measure. The values gather here first:
 * counted one by one, they were a twentieth of the work of an idle device.
 */
export class RoundTrips {
  readonly #registry = new Registry();
  readonly #histogram = new Histogram({
    name: "ringwire_link_round_trip_seconds",
    help: "Round trips of the heartbeats of all links.",
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
    registers: [this.#registry],
  });
  readonly #waiting = new Float64Array(1000);
  #count = 0;

  observe(ms: number): void {
    this.#waiting[this.#count++] = ms / 1000;
    if (this.#count === this.#waiting.length) this.#settle();
  }

  /** The registry, with all values that were observed. */
  get registry(): Registry {
    this.#settle();
    return this.#registry;
  }

  #settle(): void {
    for (let i = 0; i < this.#count; i++) this.#histogram.observe(this.#waiting[i]!);
    this.#count = 0;
  }
}

type Labels = Readonly<Record<string, string>>;

/**
 * A metric of one value in the status. A name that ends in `_total` is a counter, every other name
 * a gauge. Counts by name need a label for the name. Undefined means that there is no value.
 */
type Column<T> = readonly [
  name: string,
  help: string,
  value: (of: T) => number | Counts | undefined,
  label?: string,
];

const DEVICE: readonly Column<DeviceStatus>[] = [
  ["connections", "Connections of frontends, those before hello too.", (d) => d.connections],
  ["uptime_seconds", "Since the device started.", (d) => d.seconds],
  [
    "turns_total",
    "Turns of the data path, by the upper bound of their length in ms.",
    (d) => d.dataPath.turns,
    "ms",
  ],
  ["turns_seconds_total", "Sum of all turns of the data path.", (d) => d.dataPath.turnSeconds],
  [
    "turn_longest_seconds",
    "The longest turn of the data path since the start.",
    (d) => d.dataPath.longestTurnMs / 1000,
  ],
  ["nic_memory_limit_bytes", "Most memory for all NICs together.", (d) => d.nicMemory.limitBytes],
  [
    "nic_memory_bytes",
    "Memory that is held for all NICs together, by kind.",
    ({ nicMemory: { windowBytes: windows, pushBytes: pushes, messageBytes: messages } }) => ({
      windows,
      pushes,
      messages,
    }),
    "kind",
  ],
  [
    "nic_memory_refused_total",
    "Times that a NIC was refused memory, by kind.",
    (d) => d.nicMemory.refused,
    "kind",
  ],
  ["captures_running", "Captures that run.", (d) => d.captures.running],
  ["captures_total", "Captures that began.", (d) => d.captures.begun],
  [
    "captures_cut_off_total",
    "Captures ended because their reader took nothing.",
    (d) => d.captures.cutOff,
  ],
  ["event_readers", "Readers of the event stream.", (d) => d.events.readers],
  ["events_total", "Events of the stream.", (d) => d.events.published],
  [
    "event_readers_cut_off_total",
    "Readers of the event stream cut because they took nothing.",
    (d) => d.events.cutOff,
  ],
  [
    "http_connections",
    "Connections that are no NICs: without a whole request, with a page, before hello.",
    ({ http: { requests, pages, hellos } }) => ({ requests, pages, hellos }),
    "state",
  ],
  ["http_accepted_total", "Connections accepted.", (d) => d.http.accepted],
  [
    "http_refused_total",
    "Connections and requests refused, by reason.",
    (d) => d.http.refused,
    "reason",
  ],
  ["xen_domains", "Guest domains.", (d) => d.xen.domains],
  ["xen_machine_store_nodes", "Nodes of the store.", (d) => d.xen.storeNodes],
  ["xen_backend_ports", "Event channels of domain 0.", (d) => d.xen.backendPorts],
  ["xen_events_sent_total", "Notifications sent.", (d) => d.xen.events.sent],
  [
    "xen_events_delayed_total",
    "Turns of a backend put off because the one before found no work.",
    (d) => d.xen.events.delayed,
  ],
];

const SEGMENT: readonly Column<SegmentStatus>[] = [
  ["fdb_entries", "Learned addresses.", (s) => s.learned],
  ["fdb_moves_total", "Addresses that moved from one port to another.", (s) => s.macMoves],
  ["dhcp_pool", "Addresses that the DHCP server may lease.", (s) => s.services?.dhcp?.pool],
  ["dhcp_leases", "Leases that clients have.", (s) => s.services?.dhcp?.leases],
  ["dhcp_declined", "Addresses that a client found in use.", (s) => s.services?.dhcp?.declined],
  [
    "service_answers_total",
    "Answers of the services of a segment.",
    (s) => s.services?.answers,
    "service",
  ],
  [
    "service_drops_total",
    "Requests to services that got no answer, by reason.",
    (s) => s.services?.unanswered,
    "reason",
  ],
];

const PORT: readonly Column<Pick<PortCounts["in"], "frames" | "bytes" | "dropped"> & Lost>[] = [
  [
    "port_frames_total",
    "Frames: in, handed to the switch by the port; out, taken by the port.",
    (p) => p.frames,
  ],
  ["port_bytes_total", "Bytes of those frames.", (p) => p.bytes],
  // A frame is dropped once: in the switch, or in the port before or after it. Reasons may repeat.
  ["port_drops_total", "Frames dropped, by reason.", (p) => p.dropped, "reason"],
  ["port_drops_total", "Frames dropped, by reason.", (p) => p.lost, "reason"],
];
interface Lost {
  readonly lost: Counts;
}

const INFO_HELP = "1, with what the NIC is in the labels.";
const UP_HELP = "1 while the NIC is connected, 0 for one that left.";
const PORT_UP_HELP = "1 while the port is on the segment, 0 for one that left.";
const UPLINK_UP_HELP = "1 while the uplink works, 0 when its far end is gone for good.";
const FAULTS_HELP = "Rules broken and accesses refused, by who found it.";
const RESETS_HELP = "Resets that the driver asked for, by its reason.";

const NIC: readonly Column<NicStatus>[] = [
  [
    "nic_ready",
    "1 while the driver has queues, and no reset is under way.",
    ({ nic }) =>
      Number(
        nic.personality === "xen" ? nic.connected : nic.status === "ready" && nic.tx.length > 0,
      ),
  ],
  [
    "nic_link_round_trip_seconds",
    "Smoothed round trip of the heartbeat; 0 before the first.",
    (n) => n.link.roundTripMs * 0.001,
  ],
  ["nic_unsent_bytes", "Bytes that wait in this process.", (n) => n.link.unsentBytes],
  ["nic_in_flight_bytes", "Bytes sent and not yet acknowledged.", (n) => n.link.inFlightBytes],
  [
    "nic_batches_total",
    "Messages on the link.",
    ({ link }) => ({ out: link.sentBatches, in: link.receivedBatches }),
    "direction",
  ],
  [
    "nic_late_batches_total",
    "Messages to the frontend that left because posts had waited for another until their deadline.",
    (n) => n.link.lateBatches,
  ],
  [
    "nic_link_bytes_total",
    "Bytes of those messages.",
    ({ link }) => ({ out: link.sentBytes, in: link.receivedBytes }),
    "direction",
  ],
  [
    "nic_push_misses_total",
    "Reads of the frontend's memory that no push answered.",
    (n) => n.memory.pushMisses,
  ],
];

const ENA: readonly Column<EnaStatus>[] = [
  ["ena_admin_commands_total", "Commands on the admin queue.", (n) => n.counters.adminCommands],
  ["ena_tx_packets_total", "Packets taken from submission queues.", (n) => n.counters.txPackets],
  ["ena_rx_packets_total", "Packets put into receive buffers.", (n) => n.counters.rxPackets],
  ["ena_rx_overruns_total", "Packets that found no receive buffer.", (n) => n.counters.rxOverruns],
  ["ena_aenq_events_total", "Asynchronous events posted.", (n) => n.counters.aenqEvents],
  [
    "ena_interrupts_total",
    "MSI-X messages sent.",
    (n) => Object.fromEntries(n.interrupts.map(({ vector, raised }) => [vector, raised])),
    "vector",
  ],
];

const XEN: readonly Column<XenStatus>[] = [
  ["xen_grants", "Entries that grant a page.", (n) => n.grants.granted],
  ["xen_grants_in_use", "Those that are mapped or pinned.", (n) => n.grants.inUse],
  ["xen_connected", "1 while the vif's rings are mapped.", (n) => Number(n.connected)],
  ["xen_store_nodes", "Nodes of the store that the domain owns.", (n) => n.store?.nodes],
  ["xen_store_bytes", "What the store keeps for the domain.", (n) => n.store?.memoryBytes],
  [
    "xen_grant_refusals_total",
    "Maps and copies refused, by GNTST status.",
    (n) => n.grants.refused,
    "status",
  ],
];

const XEN_QUEUE: readonly Column<XenQueueStatus>[] = [
  ["xen_tx_packets_total", "Packets taken from tx rings.", (q) => q.tx.packets],
  ["xen_tx_lost_total", "Packets of tx rings that were answered with an error.", (q) => q.tx.drops],
  ["xen_tx_reads_total", "Packets whose bytes had to be asked for.", (q) => q.tx.reads],
  [
    "xen_tx_credit_waits_total",
    "Packets that had to wait for transmit credit.",
    (q) => q.tx.creditWaits,
  ],
  ["xen_rx_packets_total", "Packets put into pages granted for receiving.", (q) => q.rx.packets],
  [
    "xen_rx_lost_total",
    "Packets that found no room in an rx ring or its queue.",
    (q) => q.rx.drops,
  ],
  [
    "xen_rx_expired_total",
    "Packets that waited too long for receive requests.",
    (q) => q.rx.expired,
  ],
  [
    "xen_rx_copy_errors_total",
    "Copies that the guest's grants did not allow.",
    (q) => q.rx.copyErrors,
  ],
  ["xen_rx_stalls_total", "Times that a guest took nothing for a minute.", (q) => q.rx.stalls],
  ["xen_spurious_events_total", "Events without work.", (q) => q.spuriousEvents],
  ["xen_rx_queued_bytes", "Frames that wait for requests.", (q) => q.rx.queuedBytes],
];

/** Returns the status as a page for a scraper. */
export async function metricsText(
  status: DeviceStatus,
  roundTrips?: RoundTrips,
): Promise<MetricsText> {
  if (processMetrics === undefined) {
    processMetrics = new Registry();
    collectDefaultMetrics({ register: processMetrics });
  }
  const page = new Page();
  const { segments, nics, left } = status;
  const version = status.agent.replace(/^[^/]*\//, "");
  const build = { version, wire: String(PROTOCOL_VERSION), node: status.node };
  page.set("build_info", "1, with what runs in the labels.", build, 1);
  for (const segment of segments) await addSegment(page, segment);
  for (const { segment, name: uplink, up } of status.uplinks) {
    page.set("uplink_up", UPLINK_UP_HELP, { segment, uplink }, Number(up));
  }
  for (const nic of nics) {
    addNic(page, nic);
    await slice();
  }
  for (const nic of left.nics) {
    page.set("nic_up", UP_HELP, labelsOf(nic), 0);
    addTotals(page, nic, nic.resets);
    await slice();
  }
  page.add({}, status, DEVICE);
  const texts: string[] = [];
  for (const family of page.families()) {
    texts.push(family);
    await slice();
  }
  for (const registry of [roundTrips?.registry ?? [], processMetrics].flat()) {
    for (const { name } of registry.getMetricsAsArray()) {
      texts.push(`${await registry.getSingleMetricAsString(name)}\n`);
      await slice();
    }
  }
  return { type: Registry.PROMETHEUS_CONTENT_TYPE, text: texts.join("\n") };
}

async function addSegment(page: Page, segment: SegmentStatus): Promise<void> {
  page.add({ segment: segment.name }, segment, SEGMENT);
  // A port that comes back continues its totals, so the total of a name never decreases.
  for (const port of [...segment.ports, ...segment.left]) {
    for (const direction of ["in", "out"] as const) {
      const labels = { segment: segment.name, port: port.name, direction };
      page.add(labels, { ...port[direction], lost: port.lost[direction] }, PORT);
    }
    await slice();
  }
  const ups = [
    [segment.ports, 1],
    [segment.left, 0],
  ] as const;
  for (const [ports, up] of ups) {
    for (const { name: port } of ports) {
      page.set("port_up", PORT_UP_HELP, { segment: segment.name, port }, up);
    }
  }
}

/** The labels that name a NIC. */
const labelsOf = ({ name, segment }: NicStatus | LeftNicStatus): Labels => ({ segment, nic: name });

function addNic(page: Page, status: NicStatus): void {
  const { personality, agent, peer, mac, nic } = status;
  const driver = nic.personality === "ena" ? nic.driver : agent;
  const labels = labelsOf(status);
  const info = {
    ...labels,
    personality,
    driver: labelOf(driver),
    agent: labelOf(agent),
    // The label omits the TCP port, so that a frontend that comes back keeps its label.
    peer: peer.replace(/:\d+$/, ""),
    mac,
  };
  page.set("nic_info", INFO_HELP, info, 1);
  page.set("nic_up", UP_HELP, labels, 1);
  page.add(labels, status, NIC);
  addTotals(page, status, nic.personality === "ena" ? nic.resets : {});
  if (nic.personality === "ena") {
    page.add(labels, nic, ENA);
    return;
  }
  page.add(labels, nic, XEN);
  nic.queues?.forEach((queue, i) => {
    page.add({ ...labels, queue: String(i) }, queue, XEN_QUEUE);
  });
}

/** The text of a peer as a label: printable, and of bounded length. */
const labelOf = (text: string): string =>
  text.replace(/[^\x20-\x7e]/g, "?").slice(0, MAX_LABEL_CHARS);

/** Counters that continue when a NIC of the same name comes back. */
function addTotals(page: Page, nic: NicStatus | LeftNicStatus, resets: Counts): void {
  const { faults, reports } = nic;
  const labels = labelsOf(nic);
  page.set("faults_total", FAULTS_HELP, { ...labels, side: "device" }, faults, "code");
  page.set("faults_total", FAULTS_HELP, { ...labels, side: "frontend" }, reports, "code");
  page.set("ena_resets_total", RESETS_HELP, labels, resets, "reason");
}

/** Values of one metric, by their labels. */
interface Family {
  readonly help: string;
  readonly values: Map<string, number>;
}

/** The metrics of one scrape. The first value of a metric creates it. */
class Page {
  readonly #families = new Map<string, Family>();

  add<T>(labels: Labels, of: T, columns: readonly Column<T>[]): void {
    const prefix = labelTexts(labels);
    for (const [name, help, value, label] of columns) {
      const found = value(of);
      if (found !== undefined) this.#put(name, help, prefix, found, label);
    }
  }

  set(name: string, help: string, labels: Labels, value: number | Counts, label?: string): void {
    this.#put(name, help, labelTexts(labels), value, label);
  }

  /** Adds values. Counters add up. A gauge keeps its first value, and present NICs come first. */
  #put(name: string, help: string, labels: string, value: number | Counts, label = ""): void {
    if (typeof value !== "number") {
      for (const [of, count] of Object.entries(value)) {
        const own = labelTexts({ [label]: of });
        this.#put(name, help, labels === "" ? own : `${labels},${own}`, count);
      }
      return;
    }
    let family = this.#families.get(name);
    if (family === undefined) {
      family = { help, values: new Map() };
      this.#families.set(name, family);
    }
    const before = family.values.get(labels);
    if (before === undefined) family.values.set(labels, value);
    else if (name.endsWith("_total")) family.values.set(labels, before + value);
  }

  /** Yields the text of each metric, with a line feed at its end. */
  *families(): Generator<string> {
    for (const [name, { help, values }] of this.#families) {
      const full = `ringwire_${name}`;
      const lines = [
        `# HELP ${full} ${help}`,
        `# TYPE ${full} ${name.endsWith("_total") ? "counter" : "gauge"}`,
      ];
      for (const [labels, value] of values) {
        lines.push(`${full}${labels === "" ? "" : `{${labels}}`} ${value}`);
      }
      yield `${lines.join("\n")}\n`;
    }
  }
}

const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", '"': '\\"', "\n": "\\n" };

const labelTexts = (labels: Labels): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}="${value.replace(/[\\"\n]/g, (c) => ESCAPES[c]!)}"`)
    .join(",");
