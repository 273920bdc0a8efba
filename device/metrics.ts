/**
 * The device's numbers for Prometheus (text exposition format 0.0.4), made from one snapshot for
 * each scrape: nothing is counted twice, and what is gone (a NIC that left) is gone here too.
 *
 * Labels are bounded: names of ports and NICs as hello allows them, one driver and one address for
 * each NIC, reasons and codes from our own source. Never an address of a frame.
 *
 * The text is made in slices. A device with hundreds of NICs has tens of thousands of values, and
 * the frames of all NICs wait in the meantime.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { PROTOCOL_VERSION } from "../shared/wire/transactions.ts";
import type { Snapshot } from "./nic.ts";

export interface MetricsText {
  /** The Content-Type. */
  readonly type: string;
  readonly text: string;
}

/** Longest time of work before other events of the process have their turn, ms. */
const SLICE_MS = 5;
/** Most characters of a text that a frontend chose. */
const MAX_LABEL_CHARS = 64;

/** Event loop, memory and the like of this process; begun by the first scrape. */
let processMetrics: Registry | undefined;

/** Round trips of all links, as their heartbeats measure them. */
export class RoundTrips {
  readonly histogram = new Histogram({
    name: "ringwire_link_round_trip_seconds",
    help: "Round trips of the heartbeats of all links.",
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
    registers: [],
  });

  observe(ms: number): void {
    this.histogram.observe(ms / 1000);
  }
}

/** Lets other events run when this much work was done without. */
class Slices {
  #since = performance.now();

  async turn(): Promise<void> {
    if (performance.now() - this.#since < SLICE_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#since = performance.now();
  }
}

/** Everything in `snapshot` (of DeviceServer) as a page for a scraper. */
export async function metricsText(
  snapshot: Snapshot,
  roundTrips?: RoundTrips,
): Promise<MetricsText> {
  if (processMetrics === undefined) {
    processMetrics = new Registry();
    collectDefaultMetrics({ register: processMetrics });
  }
  const own = new Registry();
  const page = new Page(own);
  const slices = new Slices();
  page.build(snapshot);
  const segment = record(snapshot["segment"]);
  page.segment(segment);
  // A port that comes back goes on where it left: a total of a name never goes backwards.
  for (const port of [...list(segment["ports"]), ...list(segment["left"])]) {
    page.port(text(segment["name"]), port);
    await slices.turn();
  }
  for (const nic of list(snapshot["nics"])) {
    page.nic(nic);
    await slices.turn();
  }
  for (const nic of list(record(snapshot["left"])["nics"])) {
    page.leftNic(nic);
    await slices.turn();
  }
  page.xenMachine(record(snapshot["xen"]));
  page.captures(record(snapshot["captures"]));
  page.http(record(snapshot["http"]));
  page.gauge("ringwire_connections", "Connections of frontends, those before hello too.", {}, [
    snapshot["connections"],
  ]);
  page.gauge("ringwire_uptime_seconds", "Since the device started.", {}, [snapshot["seconds"]]);
  if (roundTrips !== undefined) own.registerMetric(roundTrips.histogram);
  const texts: string[] = [];
  for (const registry of [own, processMetrics]) {
    for (const { name } of registry.getMetricsAsArray()) {
      texts.push(`${await registry.getSingleMetricAsString(name)}\n`);
      await slices.turn();
    }
  }
  return { type: own.contentType, text: texts.join("\n") };
}

type Labels = Readonly<Record<string, string>>;
type Value = Snapshot[string] | undefined;

const UP_HELP = "1 while the NIC is connected, 0 for one that left.";

/** Metrics of one scrape, each made when first needed. */
class Page {
  readonly #connected = new Set<string>();
  readonly #registry: Registry;
  readonly #gauges = new Map<string, Gauge>();
  readonly #counters = new Map<string, Counter>();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Adds what is a number among `values`. */
  gauge(name: string, help: string, labels: Labels, values: readonly Value[], unit = 1): void {
    for (const value of values) {
      if (typeof value !== "number") continue;
      let metric = this.#gauges.get(name);
      if (metric === undefined) {
        metric = new Gauge({
          name,
          help,
          labelNames: Object.keys(labels),
          registers: [this.#registry],
        });
        this.#gauges.set(name, metric);
      }
      metric.set(labels, value * unit);
    }
  }

  counter(name: string, help: string, labels: Labels, value: Value): void {
    if (typeof value !== "number") return;
    let metric = this.#counters.get(name);
    if (metric === undefined) {
      metric = new Counter({
        name,
        help,
        labelNames: Object.keys(labels),
        registers: [this.#registry],
      });
      this.#counters.set(name, metric);
    }
    metric.inc(labels, value);
  }

  /** What runs here. */
  build(s: Snapshot): void {
    const version = text(s["agent"]).replace(/^[^/]*\//, "");
    const labels = { version, wire: String(PROTOCOL_VERSION), node: text(s["node"]) };
    this.gauge("ringwire_build_info", "1, with what runs in the labels.", labels, [1]);
  }

  segment(s: Snapshot): void {
    const segment = text(s["name"]);
    this.gauge("ringwire_fdb_entries", "Learned addresses.", { segment }, [s["learned"]]);
    this.counter(
      "ringwire_fdb_moves_total",
      "Addresses that moved from one port to another.",
      { segment },
      s["macMoves"],
    );
  }

  port(segment: string, port: Snapshot): void {
    const lost = record(port["lost"]);
    for (const direction of ["in", "out"] as const) {
      const counts = record(port[direction]);
      const labels = { segment, port: text(port["name"]), direction };
      this.counter(
        "ringwire_port_frames_total",
        "Frames: in, handed to the switch by the port; out, taken by the port.",
        labels,
        counts["frames"],
      );
      this.counter("ringwire_port_bytes_total", "Bytes of those frames.", labels, counts["bytes"]);
      // A frame dies once: in the switch, or in the port before or after it. Reasons may be shared.
      const dropped = new Map<string, number>();
      for (const reasons of [record(counts["dropped"]), record(lost[direction])]) {
        for (const [reason, frames] of Object.entries(reasons)) {
          if (typeof frames === "number") {
            dropped.set(reason, (dropped.get(reason) ?? 0) + frames);
          }
        }
      }
      for (const [reason, frames] of dropped) {
        this.counter(
          "ringwire_port_drops_total",
          "Frames dropped, by reason.",
          { ...labels, reason },
          frames,
        );
      }
    }
  }

  /** What all Xen guests share. */
  xenMachine(xen: Snapshot): void {
    this.gauge("ringwire_xen_domains", "Guest domains.", {}, [xen["domains"]]);
    this.gauge("ringwire_xen_machine_store_nodes", "Nodes of the store.", {}, [xen["storeNodes"]]);
    this.gauge("ringwire_xen_backend_ports", "Event channels of domain 0.", {}, [
      xen["backendPorts"],
    ]);
    const events = record(xen["events"]);
    this.counter("ringwire_xen_events_sent_total", "Notifications sent.", {}, events["sent"]);
    this.counter(
      "ringwire_xen_events_delayed_total",
      "Turns of a backend put off because the one before found no work.",
      {},
      events["delayed"],
    );
  }

  captures(c: Snapshot): void {
    this.gauge("ringwire_captures_running", "Captures that run.", {}, [c["running"]]);
    this.counter("ringwire_captures_total", "Captures that began.", {}, c["begun"]);
    this.counter(
      "ringwire_captures_cut_off_total",
      "Captures ended because their reader took nothing.",
      {},
      c["cutOff"],
    );
  }

  /** Connections to the port of the device, and those that were refused. */
  http(h: Snapshot): void {
    for (const state of ["requests", "pages", "hellos"]) {
      this.gauge(
        "ringwire_http_connections",
        "Connections that are no NICs: without a whole request, with a page, before hello.",
        { state },
        [h[state]],
      );
    }
    this.counter("ringwire_http_accepted_total", "Connections accepted.", {}, h["accepted"]);
    for (const [reason, count] of Object.entries(record(h["refused"]))) {
      this.counter(
        "ringwire_http_refused_total",
        "Connections and requests refused, by reason.",
        { reason },
        count,
      );
    }
  }

  nic(n: Snapshot): void {
    const labels = { nic: text(n["name"]) };
    const link = record(n["link"]);
    const memory = record(n["memory"]);
    this.#state(labels, n);
    this.gauge(
      "ringwire_nic_link_round_trip_seconds",
      "Smoothed round trip of the heartbeat; 0 before the first.",
      labels,
      [link["roundTripMs"]],
      0.001,
    );
    this.gauge("ringwire_nic_unsent_bytes", "Bytes that wait in this process.", labels, [
      link["unsentBytes"],
    ]);
    this.gauge("ringwire_nic_in_flight_bytes", "Bytes sent and not yet acknowledged.", labels, [
      link["inFlightBytes"],
    ]);
    for (const [direction, name] of [
      ["out", "sent"],
      ["in", "received"],
    ] as const) {
      const way = { ...labels, direction };
      this.counter(
        "ringwire_nic_batches_total",
        "Messages on the link.",
        way,
        link[`${name}Batches`],
      );
      this.counter(
        "ringwire_nic_link_bytes_total",
        "Bytes of those messages.",
        way,
        link[`${name}Bytes`],
      );
    }
    this.counter(
      "ringwire_nic_push_misses_total",
      "Reads of the frontend's memory that no push answered.",
      labels,
      memory["pushMisses"],
    );
    this.#faults(labels, n);
    const model = record(n["nic"]);
    this.#resets(labels, record(model["resets"]));
    if (n["personality"] === "ena") this.#ena(labels, model);
    if (n["personality"] === "xen") this.#xen(labels, model);
  }

  /** What earlier connections of a name counted. */
  leftNic(n: Snapshot): void {
    const labels = { nic: text(n["name"]) };
    if (!this.#connected.has(labels.nic)) {
      this.gauge("ringwire_nic_up", UP_HELP, labels, [0]);
    }
    this.#faults(labels, n);
    this.#resets(labels, record(n["resets"]));
  }

  #faults(labels: Labels, n: Snapshot): void {
    for (const [side, faults] of [
      ["device", n["faults"]],
      ["frontend", n["reports"]],
    ] as const) {
      for (const [code, count] of Object.entries(record(faults))) {
        this.counter(
          "ringwire_faults_total",
          "Rules broken and accesses refused, by who found it.",
          { ...labels, side, code },
          count,
        );
      }
    }
  }

  #resets(labels: Labels, resets: Snapshot): void {
    for (const [reason, count] of Object.entries(resets)) {
      this.counter(
        "ringwire_ena_resets_total",
        "Resets that the driver asked for, by its reason.",
        { ...labels, reason },
        count,
      );
    }
  }

  /** What the NIC is, and whether its driver works. */
  #state(labels: { readonly nic: string }, n: Snapshot): void {
    const model = record(n["nic"]);
    const info = {
      ...labels,
      personality: text(n["personality"]),
      driver: printable(model["driver"] ?? n["agent"]),
      // Without the port: a frontend that comes back is the same one.
      peer: text(n["peer"]).replace(/:\d+$/, ""),
      mac: text(n["mac"]),
    };
    this.gauge("ringwire_nic_info", "1, with what the NIC is in the labels.", info, [1]);
    this.#connected.add(labels.nic);
    this.gauge("ringwire_nic_up", UP_HELP, labels, [1]);
    const ready =
      n["personality"] === "xen"
        ? model["connected"] === true
        : model["status"] === "ready" && list(model["tx"]).length > 0;
    this.gauge(
      "ringwire_nic_ready",
      "1 while the driver has queues, and no reset is under way.",
      labels,
      [ready ? 1 : 0],
    );
  }

  #xen(labels: Labels, nic: Snapshot): void {
    const grants = record(nic["grants"]);
    this.gauge("ringwire_xen_grants", "Entries that grant a page.", labels, [grants["granted"]]);
    this.gauge("ringwire_xen_grants_in_use", "Those that are mapped or pinned.", labels, [
      grants["inUse"],
    ]);
    this.gauge("ringwire_xen_connected", "1 while the vif's rings are mapped.", labels, [
      nic["connected"] === true ? 1 : 0,
    ]);
    const store = record(nic["store"]);
    this.gauge("ringwire_xen_store_nodes", "Nodes of the store that the domain owns.", labels, [
      store["nodes"],
    ]);
    this.gauge("ringwire_xen_store_bytes", "What the store keeps for the domain.", labels, [
      store["memoryBytes"],
    ]);
    for (const [status, count] of Object.entries(record(grants["refused"]))) {
      this.counter(
        "ringwire_xen_grant_refusals_total",
        "Maps and copies refused, by GNTST status.",
        { ...labels, status },
        count,
      );
    }
    list(nic["queues"]).forEach((queue, i) => {
      const own = { ...labels, queue: String(i) };
      const tx = record(queue["tx"]);
      const rx = record(queue["rx"]);
      for (const [name, help, key] of XEN_TX_COUNTERS) {
        this.counter(`ringwire_xen_${name}_total`, help, own, tx[key]);
      }
      for (const [name, help, key] of XEN_RX_COUNTERS) {
        this.counter(`ringwire_xen_${name}_total`, help, own, rx[key]);
      }
      this.counter(
        "ringwire_xen_spurious_events_total",
        "Events without work.",
        own,
        queue["spuriousEvents"],
      );
      this.gauge("ringwire_xen_rx_queued_bytes", "Frames that wait for requests.", own, [
        rx["queuedBytes"],
      ]);
    });
  }

  #ena(labels: Labels, nic: Snapshot): void {
    const counters = record(nic["counters"]);
    for (const [name, help, key] of ENA_COUNTERS) {
      this.counter(`ringwire_ena_${name}_total`, help, labels, counters[key]);
    }
    for (const { vector, raised } of list(nic["interrupts"])) {
      this.counter(
        "ringwire_ena_interrupts_total",
        "MSI-X messages sent.",
        { ...labels, vector: text(vector) },
        raised,
      );
    }
  }
}

/** Name of the metric, help, name in a queue's part of the snapshot. */
const XEN_TX_COUNTERS = [
  ["tx_packets", "Packets taken from tx rings.", "packets"],
  ["tx_lost", "Packets of tx rings that were answered with an error.", "drops"],
  ["tx_reads", "Packets whose bytes had to be asked for.", "reads"],
  ["tx_credit_waits", "Packets that had to wait for transmit credit.", "creditWaits"],
] as const;

const XEN_RX_COUNTERS = [
  ["rx_packets", "Packets put into pages granted for receiving.", "packets"],
  ["rx_lost", "Packets that found no room in an rx ring or its queue.", "drops"],
  ["rx_expired", "Packets that waited too long for receive requests.", "expired"],
  ["rx_copy_errors", "Copies that the guest's grants did not allow.", "copyErrors"],
  ["rx_stalls", "Times that a guest took nothing for a minute.", "stalls"],
] as const;

/** Name of the metric, help, name in the snapshot. */
const ENA_COUNTERS = [
  ["admin_commands", "Commands on the admin queue.", "adminCommands"],
  ["doorbells", "Writes to submission queue doorbells.", "doorbells"],
  ["tx_packets", "Packets taken from submission queues.", "txPackets"],
  ["rx_packets", "Packets put into receive buffers.", "rxPackets"],
  ["rx_overruns", "Packets that found no receive buffer.", "rxOverruns"],
  ["aenq_events", "Asynchronous events posted.", "aenqEvents"],
] as const;

const text = (value: Value): string => String(value ?? "");

/** A text that a frontend chose, as a label. */
const printable = (value: Value): string =>
  text(value)
    .replace(/[^\x20-\x7e]/g, "?")
    .slice(0, MAX_LABEL_CHARS);

const record = (value: Value): Snapshot =>
  typeof value === "object" && !Array.isArray(value) ? value : {};

const list = (value: Value): readonly Snapshot[] => (Array.isArray(value) ? value : []);
