/** Texts for users: the output of `status`, and the last lines of other commands. */

import { printable } from "../../shared/pcapng/text.ts";
import type {
  AddressEntry,
  Counts,
  DeviceStatus,
  DhcpStatus,
  LeftNicStatus,
  LeftPortStatus,
  NicStatus,
  PortStatus,
  ServicesStatus,
} from "../../shared/status/device-status.ts";
import { bold, bytesText, type Columns, countText, msText, tableOf } from "../common/output.ts";
import { domainTable, ringTable, vifState } from "./xen.ts";

/** A device's status with the entries read of its address tables, by segment. */
export interface StatusPage extends DeviceStatus {
  readonly addresses: Readonly<Record<string, readonly AddressEntry[]>>;
}

/** Returns the whole page: NICs, queues, ports, drops, addresses, faults. */
export function statusLines(status: StatusPage): string[] {
  const nics = status.nics.toSorted(byName);
  const { agent, pid, seconds, segments, addresses, left, dataPath, nicMemory } = status;
  const held = nicMemory.windowBytes + nicMemory.pushBytes + nicMemory.messageBytes;
  const lines = [
    printable(
      `${agent}, process ${pid}, up ${durationText(seconds)}, ` +
        `${segments.length === 1 ? "segment" : "segments"} ${segments.map(({ name }) => name).join(", ")}, ${nics.length} ${nics.length === 1 ? "NIC" : "NICs"} ` +
        `with ${bytesText(held)} of ${bytesText(nicMemory.limitBytes)}, ${waitText(dataPath)}`,
    ),
  ];
  const section = (title: string, part: readonly string[]) => {
    if (part.length > 0) lines.push("", bold(title), ...part);
  };
  section("NICs", tableOf(nics, NICS));
  section("Queues", tableOf(nics.flatMap(queuesOf), QUEUES, { keys: 2 }));
  section("Xen domains", domainTable(nics));
  section("Xen rings", ringTable(nics));
  lines.push("", ...segmentTable(status));
  for (const segment of segments) {
    const of = segments.length === 1 ? "" : ` of ${printable(segment.name)}`;
    const { services } = segment;
    section(`Services${of}`, services === undefined ? [] : servicesTable(services));
    section(`MAC table${of}`, macTable(addresses[segment.name] ?? [], segment.addresses));
  }
  section("Faults", tableOf(nics.flatMap(faultsOf), FAULTS));
  section("Connections that ended", tableOf(left.nics, LEFT_NICS));
  return lines;
}

/** Names the wait of the data path, and its longest turn where turns are measured. */
const waitText = ({ waits, whyLibuv, longestTurnMs }: DeviceStatus["dataPath"]): string =>
  waits === "reactor"
    ? `reactor, longest turn ${msText(longestTurnMs)}`
    : `libuv waits: ${whyLibuv}`;

/** Returns the state of a NIC in a word: xenbus state, ENA's status, or a worse condition. */
export const nicState = ({ nic }: NicStatus): string =>
  nic.personality === "xen" ? vifState(nic) : nic.status;

/** Sorts ena2 before ena10. */
const byName = (a: { readonly name: string }, b: { readonly name: string }): number =>
  a.name.localeCompare(b.name, "en", { numeric: true });

/** Returns the number of resets without the first, with which every ENA driver begins. */
const laterResets = ({ nic }: NicStatus): number =>
  nic.personality === "ena" ? Math.max(0, nic.counters.resets - 1) : 0;

const NICS: Columns<NicStatus> = [
  ["NIC", (nic) => nic.name],
  ["kind", (nic) => nic.personality],
  ["state", nicState],
  ["MAC", (nic) => nic.mac],
  ["peer", (nic) => nic.peer],
  ["age", (nic) => durationText(nic.seconds)],
  ["round trip", ({ link }) => (link.roundTripMs > 0 ? msText(link.roundTripMs) : "-")],
  ["in flight", ({ link }) => bytesText(link.inFlightBytes)],
  ["unsent", ({ link }) => bytesText(link.unsentBytes)],
  ["resets", laterResets],
];

const QUEUES: Columns<ReturnType<typeof queuesOf>[number]> = [
  ["NIC", (queue) => queue.nic],
  ["queue", (queue) => `${queue.way} ${queue.index}`],
  ["state", (queue) => queue.state],
  ["depth", (queue) => String(queue.depth)],
  ["head", (queue) => String(queue.head)],
  ["tail", (queue) => String(queue.tail)],
  ["packets", (queue) => countText(queue.packets)],
  ["lost", (queue) => countText(queue.lost)],
];

function queuesOf({ name, nic }: NicStatus) {
  if (nic.personality !== "ena") return [];
  return [
    ...nic.tx.map((queue) => ({ ...queue, nic: name, way: "tx", lost: queue.drops })),
    ...nic.rx.map((queue) => ({ ...queue, nic: name, way: "rx", lost: queue.overruns })),
  ];
}

type AnyPort = PortStatus | LeftPortStatus;

/** Formats ports and their drops by reason. A device also prints this at its end. */
export function segmentTable({ segments }: DeviceStatus): string[] {
  const tableOfPorts = (title: string, ports: readonly AnyPort[]) =>
    ports.length === 0 ? [] : [bold(title), ...tableOf(ports.toSorted(byName), PORTS)];
  return segments.flatMap(({ name, ports, left }, i) => {
    const of = segments.length === 1 ? "" : ` of ${printable(name)}`;
    const now = tableOfPorts(`Ports${of}`, ports);
    const gone = tableOfPorts(`Ports that left${of}`, left);
    return [
      ...(i === 0 ? [] : [""]),
      ...(now.length === 0 ? [`no ports${of}`] : now),
      ...(gone.length === 0 ? [] : ["", ...gone]),
    ];
  });
}

/** Formats the services of a segment, and their leases. */
function servicesTable(services: ServicesStatus): string[] {
  const { address, address6, answers, unanswered, dhcp } = services;
  const lines = tableOf(
    [services],
    [
      ["address", () => [address, address6].filter((text) => text !== "").join(", ")],
      ["answers", () => countsText(nonZero(answers))],
      ["no answer", () => countsText(unanswered)],
    ],
  );
  if (dhcp === undefined) return lines;
  const more = dhcp.leases + dhcp.offers + dhcp.declined - dhcp.list.length;
  return [
    ...lines,
    `${dhcp.leases} leases, ${dhcp.pool} addresses in the pool, ${dhcp.reserved} reserved`,
    ...tableOf(dhcp.list, LEASES),
    ...(more > 0 ? [`... and ${more} more`] : []),
  ];
}

const LEASES: Columns<DhcpStatus["list"][number]> = [
  ["lease", (lease) => lease.address],
  ["NIC", (lease) => lease.nic || "-"],
  ["MAC", (lease) => lease.mac],
  ["state", (lease) => lease.state],
  ["ends in", (lease) => durationText(lease.seconds)],
];

const nonZero = (counts: Counts): Counts =>
  Object.fromEntries(Object.entries(counts).filter(([, n]) => n > 0));

const PORTS: Columns<AnyPort> = [
  ["port", (port) => port.name],
  ["kind", (port) => port.kind],
  ["in frames", (port) => countText(port.in.frames)],
  ["in bytes", (port) => bytesText(port.in.bytes)],
  ["out frames", (port) => countText(port.out.frames)],
  ["out bytes", (port) => bytesText(port.out.bytes)],
  ["drops", (port) => countsText(dropsOf(port))],
];

/** Returns the frames dropped at a port in both directions, by reason. */
export const dropsOf = ({ in: into, out, lost }: AnyPort): Counts =>
  sumOf([into.dropped, out.dropped, lost.in, lost.out]);

/** Adds `counts` by name. */
export function sumOf(counts: readonly Counts[]): Counts {
  const sums: Record<string, number> = {};
  for (const [name, n] of counts.flatMap(Object.entries<number>))
    sums[name] = (sums[name] ?? 0) + n;
  return sums;
}

/** Formats "rx_overrun 12, mac_limit 1"; "-" without any. */
function countsText(counts: Counts): string {
  const parts = Object.entries(counts).map(([name, n]) => `${name} ${countText(n)}`);
  return parts.join(", ") || "-";
}

const ADDRESSES: Columns<AddressEntry> = [
  ["MAC", (entry) => (entry.vlan === undefined ? entry.mac : `${entry.mac} VLAN ${entry.vlan}`)],
  ["port", (entry) => entry.port],
  ["age", (entry) => (entry.static ? "static" : durationText(entry.ageSeconds))],
  ["moves", (entry) => entry.moves],
];

/** Formats `entries`, and the number of the others out of `total`. */
function macTable(entries: readonly AddressEntry[], total: number): string[] {
  const lines = tableOf(entries, ADDRESSES);
  const more = total - entries.length;
  return more > 0 && entries.length > 0 ? [...lines, `... and ${more} more`] : lines;
}

const FAULTS: Columns<ReturnType<typeof faultsOf>[number]> = [
  ["NIC", (fault) => fault.nic],
  ["found by", (fault) => fault.finder],
  ["code", (fault) => fault.code],
  ["times", (fault) => fault.times],
];

const faultsOf = ({ name: nic, faults: device, reports: frontend }: NicStatus) =>
  Object.entries({ device, frontend }).flatMap(([finder, counts]) =>
    Object.entries(counts).map(([code, times]) => ({ nic, finder, code, times })),
  );

/** Columns for NICs whose connections have ended: totals by name. */
const LEFT_NICS: Columns<LeftNicStatus> = [
  ["NIC", (nic) => nic.name],
  ["kind", (nic) => nic.personality],
  ["connections", (nic) => nic.connections],
  ["resets", (nic) => countsText(nic.resets)],
  ["faults", (nic) => countsText(nic.faults)],
];

/** Returns the last line of a frontend. */
export const countersLine = (name: string, counters: Counts): string =>
  `${name}: ${countsText(counters)}`;

function durationText(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}
