/**
 * Metrics of a frontend for Prometheus. Names begin with `ringwire_frontend_`, so that they differ
 * from those of the device, which counts the same NIC at the other end of the link. All labels are
 * names of our own source, but for the NIC's name, address and segment, of which there is one each.
 */
import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { FrontendPage } from "../../shared/status/frontend-page.ts";
import type { CounterTree, FrontendStatus } from "../../shared/status/frontend-status.ts";
import { PROTOCOL_VERSION } from "../../shared/wire/protocol.ts";

type Labels = Readonly<Record<string, string>>;
type Row = readonly [labels: Labels, value: number];

/** Metrics of this process: event loop, memory and the like. The first scrape starts them. */
let processMetrics: Registry | undefined;

/** Returns the status as a page for a scraper. */
export async function metricsText(page: FrontendPage): Promise<{ type: string; text: string }> {
  if (processMetrics === undefined) {
    processMetrics = new Registry();
    collectDefaultMetrics({ register: processMetrics });
  }
  const registry = new Registry();
  const gauges = (name: string, help: string, rows: readonly Row[]): void => {
    const labelNames = Object.keys(rows[0]?.[0] ?? {});
    const gauge = new Gauge({ name: `ringwire_${name}`, help, labelNames, registers: [registry] });
    for (const [labels, value] of rows) gauge.set(labels, value);
  };
  const counters = (name: string, help: string, rows: readonly Row[]): void => {
    const labelNames = Object.keys(rows[0]?.[0] ?? {});
    const counter = new Counter({
      name: `ringwire_${name}`,
      help,
      labelNames,
      registers: [registry],
    });
    for (const [labels, value] of rows) counter.inc(labels, value);
  };

  const { agent, node, nic, http } = page;
  const version = agent.replace(/^[^/]*\//, "");
  const build = { version, wire: String(PROTOCOL_VERSION), node };
  gauges("build_info", "1, with what runs in the labels.", [[build, 1]]);
  gauges("frontend_uptime_seconds", "Since the frontend started.", [[{}, page.seconds]]);
  gauges("frontend_http_connections", "Connections of the pages.", [[{}, http.connections]]);
  counters(
    "frontend_http_refused_total",
    "Connections and requests refused, by reason.",
    Object.entries(http.refused).map(([reason, count]) => [{ reason }, count]),
  );
  const isUp = nic?.state === "attached";
  gauges("frontend_up", "1 while the NIC is attached to a device.", [[{}, Number(isUp)]]);
  gauges("frontend_link_up", "1 while the interface's link is up.", [
    [{}, Number(isUp && nic.link === "up")],
  ]);
  if (nic !== undefined) addNic(nic, gauges, counters);
  const text = [await registry.metrics(), await processMetrics.metrics()].join("\n");
  return { type: Registry.PROMETHEUS_CONTENT_TYPE, text };
}

type Add = (name: string, help: string, rows: readonly Row[]) => void;

function addNic(nic: FrontendStatus, gauges: Add, counters: Add): void {
  const { name, driver, mac, segment, reconnects, faults } = nic;
  const { ifnet, tap, frames, driver: tree } = nic.counters;
  gauges("frontend_nic_info", "1, with what the NIC is in the labels.", [
    [{ nic: name, driver, mac, segment }, 1],
  ]);
  counters("frontend_reconnects_total", "Times that the link came back.", [[{}, reconnects]]);
  counters(
    "frontend_faults_total",
    "Faults that the device reported, by code.",
    byName("code", faults),
  );
  const ways = (input: number, output: number): Row[] => [
    [{ direction: "in" }, input],
    [{ direction: "out" }, output],
  ];
  counters(
    "frontend_frames_total",
    "Frames of the interface.",
    ways(ifnet.ipackets, ifnet.opackets),
  );
  counters("frontend_bytes_total", "Bytes of those frames.", ways(ifnet.ibytes, ifnet.obytes));
  counters("frontend_errors_total", "Bad frames.", ways(ifnet.ierrors, ifnet.oerrors));
  counters("frontend_drops_total", "Good frames dropped.", ways(ifnet.iqdrops, ifnet.oqdrops));
  // Some entries of the tree go up and down, so all are gauges.
  gauges(
    "frontend_driver",
    "Counters of the driver, under the names of FreeBSD's sysctl tree.",
    leavesOf(tree, "").map(([counter, value]) => [{ counter }, value]),
  );
  if (frames !== undefined) {
    counters(
      "frontend_reader_drops_total",
      "Frames that the program lost.",
      byName("reason", frames),
    );
  }
  if (tap === undefined) return;
  counters("frontend_tap_frames_total", "Frames of the TAP.", ways(tap.rxFrames, tap.txFrames));
  counters("frontend_tap_bytes_total", "Bytes of those frames.", ways(tap.rxBytes, tap.txBytes));
  counters("frontend_tap_events_total", "Drops and software work between TAP and driver.", [
    ...byName("reason", { ...tap.host }),
    ...byName("reason", {
      rxMalformed: tap.rxMalformed,
      rxTruncated: tap.rxTruncated,
      rxStalls: tap.rxStalls,
    }),
    ...byName("reason", tap.txErrors),
  ]);
}

const byName = (label: string, counts: object): Row[] =>
  Object.entries(counts as Record<string, number>).map(([name, count]) => [
    { [label]: name },
    count,
  ]);

/** The numbers of a tree, by their path: "queue0.tx_ring.cnt". */
function leavesOf(tree: CounterTree, path: string): [name: string, value: number][] {
  return Object.entries(tree).flatMap(([key, value]): [string, number][] => {
    const name = path === "" ? key : `${path}.${key}`;
    if (typeof value === "number") return [[name, value]];
    return typeof value === "string" ? [] : leavesOf(value, name);
  });
}
