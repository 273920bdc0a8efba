/**
 * Namespaces, addresses and neighbours, by the command ip(8). A namespace of a lab has the lab's name
 * as the alias of its loopback interface, so the kernel itself says whose it is.
 */
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { Failure, messageOf, systemCode } from "../common/failure.ts";
import type { LabNic } from "./model.ts";

const NAMED = "/run/netns";
/** States in which the kernel has an answer of the neighbour. */
const ANSWERED = ["REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT"];

/** Runs ip(8), with lines for its -batch. Returns its output. Rejects with Failure. */
export function ip(args: readonly string[], lines: readonly string[] = []): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn("ip", args, { stdio: ["pipe", "pipe", "pipe"] });
    let [out, said] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
    child.stdin.on("error", () => {});
    child.on("error", (error) => {
      const isMissing = systemCode(error) === "ENOENT";
      reject(
        new Failure(
          isMissing ? "the command ip is needed (package iproute2)" : `ip: ${messageOf(error)}`,
        ),
      );
    });
    child.on("close", (code) => {
      if (code === 0) resolve(out);
      else reject(new Failure(`ip ${args.join(" ")}: ${said.trim().split("\n")[0] ?? code}`));
    });
    child.stdin.end(lines.map((line) => `${line}\n`).join(""));
  });
}

const batch = (namespace: string | undefined, lines: readonly string[]): Promise<string> =>
  ip([...(namespace === undefined ? [] : ["-n", namespace]), "-batch", "-"], lines);

export const aliasOf = (lab: string): string => `ringwire lab ${lab}`;

export const namespaceExists = (name: string): boolean => existsSync(`${NAMED}/${name}`);

/** Returns the alias of a namespace's loopback interface; undefined where none can be read. */
async function aliasIn(name: string): Promise<string | undefined> {
  try {
    const text = await ip(["-n", name, "-json", "link", "show", "lo"]);
    const [lo] = JSON.parse(text) as { readonly ifalias?: string }[];
    return lo?.ifalias ?? "";
  } catch {
    return undefined;
  }
}

/**
 * Returns the namespaces of the lab among all of this host. `intended` are those that it was about to
 * make: one without an alias is one whose maker was killed in between.
 */
export async function namespacesOf(lab: string, intended: readonly string[]): Promise<string[]> {
  const names = existsSync(NAMED) ? readdirSync(NAMED) : [];
  const aliases = await Promise.all(names.map(aliasIn));
  return names.filter((name, i) => {
    const alias = aliases[i];
    return alias === aliasOf(lab) || ((alias ?? "") === "" && intended.includes(name));
  });
}

/** Makes namespaces with loopback up, marked as those of the lab. */
export async function makeNamespaces(lab: string, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  await ip(
    ["-batch", "-"],
    names.filter((name) => !namespaceExists(name)).map((name) => `netns add ${name}`),
  );
  const lines = [`link set dev lo alias "${aliasOf(lab)}"`, "link set lo up"];
  await Promise.all(names.map((name) => batch(name, lines)));
}

export async function removeNamespaces(names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  await ip(
    ["-batch", "-"],
    names.map((name) => `netns del ${name}`),
  );
}

/** Gives the TAP of a NIC its addresses and routes, and brings it up. A second call changes nothing. */
export async function configure({ tap, netns, addresses, routes }: LabNic): Promise<void> {
  if (tap === undefined || addresses.length + routes.length === 0) return;
  await batch(netns, [
    ...addresses.map((address) => {
      // The lab knows that no address is there twice, and traffic need not wait for the kernel's check.
      const check = address.family === "ipv6" ? " nodad" : "";
      return `addr replace ${address.ip}/${address.prefix} dev ${tap}${check}`;
    }),
    `link set ${tap} up`,
    ...routes.map(({ to, via }) => `route replace ${to} via ${via} dev ${tap}`),
  ]);
}

/** Asks the kernel to resolve addresses at a TAP: ARP, or neighbour discovery. */
export async function askNeighbours({ tap, netns }: LabNic, ips: readonly string[]): Promise<void> {
  await batch(
    netns,
    ips.map((address) => `neigh replace ${address} dev ${tap} nud none use`),
  );
}

/** Forgets what the kernel knows of the neighbours at a TAP, so that the next answer is a new one. */
export async function forgetNeighbours({ tap, netns }: LabNic): Promise<void> {
  await batch(netns, [`neigh flush dev ${tap}`]);
}

/** Returns the addresses whose neighbours have answered at a TAP. */
export async function answeredAt({ tap, netns }: LabNic): Promise<Set<string>> {
  const args = netns === undefined ? [] : ["-n", netns];
  const text = await ip([...args, "-json", "neigh", "show", "dev", tap!]);
  const entries = JSON.parse(text || "[]") as {
    readonly dst: string;
    readonly lladdr?: string;
    readonly state?: readonly string[];
  }[];
  const answered = entries.filter(
    ({ lladdr, state = [] }) =>
      lladdr !== undefined && state.some((word) => ANSWERED.includes(word)),
  );
  return new Set(answered.map(({ dst }) => dst));
}
