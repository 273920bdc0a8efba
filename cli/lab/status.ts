/** `ringwire lab status`: each part of a lab on this host, its process, its link, its peers. */
import { type Output, tableOf } from "../common/output.ts";
import type { Lab } from "./model.ts";
import { lookAround, type Sight, sightsOf } from "./peers.ts";
import { type LabPart, partsOf, planOf } from "./plan.ts";
import { type LabProcess, labProcesses } from "./processes.ts";
import type { LabState } from "./state.ts";
import { isUp } from "./up.ts";

/** Time (ms) in which peers may answer. */
const PEERS_MS = 1500;

/**
 * up: it works. waiting: it runs and has no link. changed: it runs as an earlier file says. dead: it
 * was started and has ended. missing: it was never started.
 */
type State = "up" | "waiting" | "changed" | "dead" | "missing" | "not in the file";

interface PartStatus {
  readonly part: string;
  readonly state: State;
  readonly pid: number | undefined;
  /** Of a NIC, as its driver says. */
  readonly link: string | undefined;
  readonly netns: string | undefined;
  readonly addresses: readonly string[];
  readonly peers: { readonly seen: number; readonly of: number } | undefined;
  /** Peers that do not answer. */
  readonly unseen: readonly string[];
}

/** Prints the status. Returns true when all of the lab is up, and the NICs of this host see each other. */
export async function showStatus(
  id: string,
  lab: Lab,
  host: string | undefined,
  state: LabState,
  output: Output,
): Promise<boolean> {
  const plan = planOf(lab, host);
  const running = labProcesses(id);
  const sights = sightsOf(
    lab,
    plan.nics.map(({ nic }) => nic).filter((nic) => stateOf(`nic ${nic.name}`) === "up"),
    lab.nics,
  );
  const end = performance.now() + PEERS_MS;
  await lookAround(sights, () => performance.now() > end, false);
  const parts = partsOf(plan).map((part) => statusOf(part, sights));
  const known = new Set(parts.map(({ part }) => part));
  for (const { part, pid } of running.filter((one) => !known.has(one.part))) {
    parts.push({ ...NOTHING, part, state: "not in the file", pid });
  }
  const here = new Set(plan.nics.map(({ nic }) => nic.name));
  const ok = parts.every(
    ({ state: is, unseen }) => is === "up" && !unseen.some((name) => here.has(name)),
  );
  output.value({ event: "status", lab: lab.name, host, ok, folder: state.folder, parts });
  for (const line of tableOf(parts, COLUMNS)) output.text(line);
  return ok;

  function stateOf(name: string): State {
    const part = partsOf(plan).find((one) => one.id === name)!;
    const one = processOf(part, running);
    if (one === undefined) return state.wasStarted(part.id) ? "dead" : "missing";
    if (one.key !== part.key) return "changed";
    return isUp(part, state) ? "up" : "waiting";
  }

  function statusOf(part: LabPart, all: readonly Sight[]): PartStatus {
    const { nic } = part;
    const sight = all.find((one) => one.nic === nic);
    const events = state.eventsOf(part.id);
    const is = stateOf(part.id);
    const link = events.findLast(({ event }) => event === "ready")?.["link"];
    return {
      part: part.id,
      state: is,
      pid: processOf(part, running)?.pid,
      link: nic === undefined ? undefined : is === "up" ? String(link ?? "up") : "down",
      netns: nic?.netns,
      addresses: nic?.addresses.map(({ ip, prefix }) => `${ip}/${prefix}`) ?? [],
      peers: sight && {
        seen: sight.peers.length - sight.missing.length,
        of: sight.peers.length,
      },
      unseen: sight?.missing.map(({ name }) => name) ?? [],
    };
  }
}

const NOTHING = {
  ...{ link: undefined, netns: undefined, addresses: [], peers: undefined, unseen: [] },
};

const processOf = (part: LabPart, running: readonly LabProcess[]): LabProcess | undefined =>
  running.find((one) => one.part === part.id);

const COLUMNS: Parameters<typeof tableOf<PartStatus>>[1] = [
  ["part", ({ part }) => part],
  ["state", ({ state }) => state],
  ["process", ({ pid }) => (pid === undefined ? "-" : String(pid))],
  ["link", ({ link = "" }) => link],
  ["namespace", ({ netns = "" }) => netns],
  ["addresses", ({ addresses }) => addresses.join(" ")],
  ["peers", ({ peers }) => (peers === undefined ? "" : `${peers.seen} of ${peers.of}`)],
  ["unseen", ({ unseen }) => unseen.join(" ")],
];
