/** What `status` and the ends of commands show to people, from a device's snapshot. */
import type { Snapshot } from "../../device/nic.ts";
import { bold, bytesText, type Cell, countText, msText, table } from "../common/output.ts";
import { list, num, record, text } from "./values.ts";
import { domainTable, ringTable, vifState } from "./xen.ts";

/** The whole page: NICs, queues, ports, drops, addresses, faults. */
export function statusLines(status: Snapshot): string[] {
  const nics = list(status["nics"]).toSorted(byName);
  const segment = record(status["segment"]);
  const lines = [
    `${text(status["agent"])}, process ${text(status["pid"])}, up ${durationText(num(status["seconds"]))}, ` +
      `segment ${text(segment["name"])}, ${nics.length} ${nics.length === 1 ? "NIC" : "NICs"}`,
  ];
  const section = (title: string, part: readonly string[]) => {
    if (part.length > 0) lines.push("", bold(title), ...part);
  };
  section("NICs", nicTable(nics));
  section("Queues", queueTable(nics));
  section("Xen domains", domainTable(nics));
  section("Xen rings", ringTable(nics));
  lines.push("", ...segmentTable(status));
  section("MAC table", macTable(list(status["addresses"]), num(segment["addresses"])));
  section("Faults", faultTable(nics));
  section("Connections that ended", leftTable(list(record(status["left"])["nics"])));
  return lines;
}

/** A NIC in one word: its backend's xenbus state, or its function's status; or what is worse. */
export function nicState(nic: Snapshot): string {
  const model = record(nic["nic"]);
  return nic["personality"] === "xen" ? vifState(model) : text(model["status"]);
}

/** ena2 before ena10. */
const byName = (a: Snapshot, b: Snapshot): number =>
  text(a["name"]).localeCompare(text(b["name"]), "en", { numeric: true });

/** A driver of ENA begins with a reset; what counts are those that come later. */
function laterResets(model: Snapshot): number {
  const resets = num(record(model["counters"])["resets"]);
  return Math.max(0, resets - (model["personality"] === "ena" ? 1 : 0));
}

function nicTable(nics: readonly Snapshot[]): string[] {
  return table(
    ["NIC", "kind", "state", "MAC", "peer", "age", "round trip", "in flight", "unsent", "resets"],
    nics.map((nic) => {
      const link = record(nic["link"]);
      const model = record(nic["nic"]);
      return [
        text(nic["name"]),
        text(nic["personality"]),
        nicState(nic),
        text(nic["mac"]),
        text(nic["peer"]),
        durationText(num(nic["seconds"])),
        num(link["roundTripMs"]) > 0 ? msText(num(link["roundTripMs"])) : "-",
        bytesText(num(link["inFlightBytes"])),
        bytesText(num(link["unsentBytes"])),
        laterResets(model),
      ];
    }),
  );
}

function queueTable(nics: readonly Snapshot[]): string[] {
  const rows: Cell[][] = [];
  for (const nic of nics) {
    const model = record(nic["nic"]);
    for (const way of ["tx", "rx"] as const) {
      for (const queue of list(model[way])) {
        rows.push([
          text(nic["name"]),
          `${way} ${text(queue["index"])}`,
          text(queue["state"]),
          text(queue["depth"]),
          text(queue["head"]),
          text(queue["tail"]),
          countText(num(queue["packets"])),
          countText(num(queue["drops"] ?? queue["overruns"])),
        ]);
      }
    }
  }
  const heading = ["NIC", "queue", "state", "depth", "head", "tail", "packets", "lost"];
  return table(heading, rows, { keys: 2 });
}

/** Ports and their drops by reason; also the last words of a device. */
export function segmentTable(status: Snapshot): string[] {
  const { ports, left } = record(status["segment"]);
  const now = list(ports);
  const lines = now.length === 0 ? ["no ports"] : [bold("Ports"), ...portTable(now)];
  const gone = list(left);
  return gone.length === 0 ? lines : [...lines, "", bold("Ports that left"), ...portTable(gone)];
}

function portTable(ports: readonly Snapshot[]): string[] {
  const rows = ports.toSorted(byName).map((port) => {
    const into = record(port["in"]);
    const out = record(port["out"]);
    return [
      text(port["name"]),
      text(port["kind"]),
      countText(num(into["frames"])),
      bytesText(num(into["bytes"])),
      countText(num(out["frames"])),
      bytesText(num(out["bytes"])),
      dropsText(port),
    ];
  });
  const heading = ["port", "kind", "in frames", "in bytes", "out frames", "out bytes", "drops"];
  return table(heading, rows);
}

/** "rx_overrun 12, mac_limit 1"; "-" when nothing was dropped. */
function dropsText(port: Snapshot): string {
  const reasons = dropsOf(port);
  const parts = Object.entries(reasons).map(([reason, n]) => `${reason} ${countText(n)}`);
  return parts.length === 0 ? "-" : parts.join(", ");
}

/** Frames dropped at a port, both ways, by reason. */
export function dropsOf(port: Snapshot): Record<string, number> {
  const lost = record(port["lost"]);
  const sums: Record<string, number> = {};
  for (const reasons of [
    record(record(port["in"])["dropped"]),
    record(record(port["out"])["dropped"]),
    record(lost["in"]),
    record(lost["out"]),
  ]) {
    for (const [reason, n] of Object.entries(reasons)) {
      sums[reason] = (sums[reason] ?? 0) + num(n);
    }
  }
  return sums;
}

/** `total` addresses, of which `entries` are known. */
function macTable(entries: readonly Snapshot[], total: number): string[] {
  const lines = table(
    ["MAC", "port", "age", "moves"],
    entries.map((entry) => [
      text(entry["mac"]),
      text(entry["port"]),
      entry["static"] === true ? "static" : durationText(num(entry["ageSeconds"])),
      num(entry["moves"]),
    ]),
  );
  const more = total - entries.length;
  return more > 0 && entries.length > 0 ? [...lines, `... and ${more} more`] : lines;
}

function faultTable(nics: readonly Snapshot[]): string[] {
  const rows: Cell[][] = [];
  for (const nic of nics) {
    for (const [finder, faults] of [
      ["device", nic["faults"]],
      ["frontend", nic["reports"]],
    ] as const) {
      for (const [code, count] of Object.entries(record(faults))) {
        rows.push([text(nic["name"]), finder, code, num(count)]);
      }
    }
  }
  return table(["NIC", "found by", "code", "times"], rows);
}

/** Totals of NICs, by name, over the connections that have ended. */
function leftTable(nics: readonly Snapshot[]): string[] {
  const counts = (of: Snapshot): string => {
    const parts = Object.entries(of).map(([what, n]) => `${what} ${countText(num(n))}`);
    return parts.length === 0 ? "-" : parts.join(", ");
  };
  return table(
    ["NIC", "kind", "connections", "resets", "faults"],
    nics.map((nic) => [
      text(nic["name"]),
      text(nic["personality"]),
      num(nic["connections"]),
      counts(record(nic["resets"])),
      counts(record(nic["faults"])),
    ]),
  );
}

/** A frontend's last words. */
export function countersLines(name: string, counters: object): string[] {
  const entries = Object.entries(counters).filter(
    (entry): entry is [string, number] => typeof entry[1] === "number",
  );
  return [`${name}: ${entries.map(([key, n]) => `${key} ${countText(n)}`).join(", ")}`];
}

function durationText(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}
