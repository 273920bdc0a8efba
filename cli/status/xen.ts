/** The Xen part of the status page: domains, xenbus states of both ends, grants, rings. */
import type { NicStatus, XenQueueStatus, XenStatus } from "../../shared/status/device-status.ts";
import { type Columns, countText, tableOf } from "../common/output.ts";

/** Returns the state of a vif in a word: the backend's xenbus state, or a worse condition. */
export function vifState({ disabled, stalled, backend }: XenStatus): string {
  return disabled ? "disabled" : stalled ? "stalled" : backend;
}

interface Vif {
  readonly name: string;
  readonly xen: XenStatus;
}

const vifsOf = (nics: readonly NicStatus[]): Vif[] =>
  nics.flatMap(({ name, nic }) => (nic.personality === "xen" ? [{ name, xen: nic }] : []));

const DOMAINS: Columns<Vif> = [
  ["NIC", (vif) => vif.name],
  ["domain", ({ xen }) => xen.domid],
  ["frontend", ({ xen }) => xen.frontend],
  ["backend", ({ xen }) => xen.backend],
  ["table", ({ xen }) => `v${xen.grants.version}`],
  ["grants", ({ xen }) => countText(xen.grants.granted)],
  ["mapped", ({ xen }) => countText(xen.grants.mapped)],
  ["in use", ({ xen }) => countText(xen.grants.inUse)],
  ["ports", ({ xen }) => xen.events?.ports ?? 0],
  ["nodes", ({ xen }) => xen.store?.nodes ?? 0],
  ["watches", ({ xen }) => xen.store?.watches ?? 0],
  ["frontend takes", ({ xen }) => featuresText(xen.features)],
];

/** Formats one row a domain: the states of both ends, and the resources of the domain. */
export const domainTable = (nics: readonly NicStatus[]): string[] => tableOf(vifsOf(nics), DOMAINS);

/** Short names of features, in the order of output. */
const FEATURES = {
  sg: "sg",
  gsoTcpv4: "gso4",
  gsoTcpv6: "gso6",
  csumOffload: "csum4",
  ipv6CsumOffload: "csum6",
  multicastControl: "mcast",
} as const satisfies { [name in keyof XenStatus["features"]]: string };

/** Formats "sg gso4 csum4"; "-" before a frontend has announced any feature. */
function featuresText(features: XenStatus["features"]): string {
  const names = Object.keys(FEATURES) as (keyof typeof FEATURES)[];
  const told = names.filter((name) => features[name] === true);
  return told.map((name) => FEATURES[name]).join(" ") || "-";
}

const RINGS: Columns<ReturnType<typeof ringsOf>[number]> = [
  ["NIC", (row) => row.nic],
  ["ring", (row) => row.name],
  ["state", (row) => row.state],
  ["req prod", ({ ring }) => ring.reqProd],
  ["req cons", ({ ring }) => ring.reqCons],
  ["rsp prod", ({ ring }) => ring.rspProd],
  ["free", ({ ring }) => `${ring.free}/${ring.size}`],
  ["port", (row) => row.port],
  ["spurious", (row) => row.spurious],
  ["packets", (row) => countText(row.packets)],
  ["lost", (row) => countText(row.lost)],
];

/** Formats one row a ring: its indexes, the slots left to the guest, its event channel. */
export const ringTable = (nics: readonly NicStatus[]): string[] =>
  tableOf(vifsOf(nics).flatMap(ringsOf), RINGS, { keys: 2 });

function ringsOf({ name: nic, xen: { queues = [], control } }: Vif) {
  const rings = queues.flatMap(({ tx, rx, txPort, rxPort, spuriousEvents: spurious }, i) => [
    // Both rings of a pair may share one event channel. Its spurious events count for both.
    { ...flow(tx), nic, name: `tx ${i}`, state: txState(tx), port: txPort, spurious },
    { ...flow(rx), nic, name: `rx ${i}`, state: rxState(rx), port: rxPort, spurious },
  ]);
  if (control === undefined) return rings;
  const { ring, port, spuriousEvents: spurious, requests: packets, refused: lost } = control;
  return [...rings, { nic, name: "ctrl", state: "ready", ring, port, spurious, packets, lost }];
}

const flow = ({ ring, packets, drops: lost }: XenQueueStatus["tx" | "rx"]) => ({
  ring,
  packets,
  lost,
});

/** Formats what the current packet waits for: "idle", or with a rate "credit, 0 B left". */
const txState = ({ stage, credit }: XenQueueStatus["tx"]): string =>
  credit === undefined ? stage : `${stage}, ${countText(credit)} B left`;

/** Formats "ready", "3 queued" or "stalled". */
function rxState({ stalled, queued }: XenQueueStatus["rx"]): string {
  if (stalled) return "stalled";
  return queued === 0 ? "ready" : `${countText(queued)} queued`;
}
