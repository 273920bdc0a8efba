/** The Xen part of what `status` shows: domains, both ends' xenbus states, grants, rings. */
import type { Snapshot } from "../../device/nic.ts";
import { type Cell, countText, table } from "../common/output.ts";
import { list, num, record, text } from "./values.ts";

/** A vif in one word: its backend's xenbus state, or what is worse. */
export function vifState(model: Snapshot): string {
  if (model["disabled"] === true) return "disabled";
  if (model["stalled"] === true) return "stalled";
  return text(model["backend"]);
}

const xenOnly = (nics: readonly Snapshot[]): readonly Snapshot[] =>
  nics.filter((nic) => nic["personality"] === "xen");

/** One row a domain: where both ends stand, and what the domain has taken. */
export function domainTable(nics: readonly Snapshot[]): string[] {
  const rows = xenOnly(nics).map((nic) => {
    const model = record(nic["nic"]);
    const grants = record(model["grants"]);
    const store = record(model["store"]);
    const ports = record(model["events"]);
    return [
      text(nic["name"]),
      num(model["domid"]),
      text(model["frontend"]),
      text(model["backend"]),
      `v${text(grants["version"])}`,
      countText(num(grants["granted"])),
      countText(num(grants["mapped"])),
      countText(num(grants["inUse"])),
      num(ports["ports"]),
      num(store["nodes"]),
      num(store["watches"]),
      featuresText(model),
    ];
  });
  const heading = ["NIC", "domain", "frontend", "backend", "table", "grants", "mapped", "in use"];
  return table([...heading, "ports", "nodes", "watches", "frontend takes"], rows);
}

/** Names of `features` in the words of people, in the order they are told. */
const FEATURES: readonly (readonly [string, string])[] = [
  ["sg", "sg"],
  ["gsoTcpv4", "gso4"],
  ["gsoTcpv6", "gso6"],
  ["csumOffload", "csum4"],
  ["ipv6CsumOffload", "csum6"],
  ["multicastControl", "mcast"],
];

/** "sg gso4 csum4"; "-" before a frontend has said anything. */
function featuresText(model: Snapshot): string {
  const features = record(model["features"]);
  const told = FEATURES.filter(([key]) => features[key] === true).map(([, name]) => name);
  return told.length === 0 ? "-" : told.join(" ");
}

/** One row a ring: its indexes, the slots left to the guest, its event channel. */
export function ringTable(nics: readonly Snapshot[]): string[] {
  const rows: Cell[][] = [];
  for (const nic of xenOnly(nics)) {
    const name = text(nic["name"]);
    const model = record(nic["nic"]);
    list(model["queues"]).forEach((queue, i) => {
      const tx = record(queue["tx"]);
      const rx = record(queue["rx"]);
      // Both rings of a pair may hang at one channel, which counts for both.
      const spurious = num(queue["spuriousEvents"]);
      rows.push(
        [name, `tx ${i}`, txState(tx), ...indexes(tx, queue["txPort"]), spurious, ...flow(tx)],
        [name, `rx ${i}`, rxState(rx), ...indexes(rx, queue["rxPort"]), spurious, ...flow(rx)],
      );
    });
    const control = record(model["control"]);
    if (control["ring"] === undefined) continue;
    const counts = [countText(num(control["requests"])), countText(num(control["refused"]))];
    const spurious = num(control["spuriousEvents"]);
    rows.push([name, "ctrl", "ready", ...indexes(control, control["port"]), spurious, ...counts]);
  }
  const heading = ["NIC", "ring", "state", "req prod", "req cons", "rsp prod", "free", "port"];
  return table([...heading, "spurious", "packets", "lost"], rows, { keys: 2 });
}

function indexes(queue: Snapshot, port: Snapshot[string] | undefined): Cell[] {
  const ring = record(queue["ring"]);
  return [
    num(ring["reqProd"]),
    num(ring["reqCons"]),
    num(ring["rspProd"]),
    `${num(ring["free"])}/${num(ring["size"])}`,
    num(port),
  ];
}

const flow = (queue: Snapshot): Cell[] => [
  countText(num(queue["packets"])),
  countText(num(queue["drops"])),
];

/** "idle", "credit, 0 B left": what its packet at hand waits for; the credit, where there is a rate. */
function txState(tx: Snapshot): string {
  const credit = tx["credit"];
  const stage = text(tx["stage"]);
  return typeof credit === "number" ? `${stage}, ${countText(credit)} B left` : stage;
}

/** "ready", "3 queued", "stalled". */
function rxState(rx: Snapshot): string {
  if (rx["stalled"] === true) return "stalled";
  const queued = num(rx["queued"]);
  return queued === 0 ? "ready" : `${countText(queued)} queued`;
}
