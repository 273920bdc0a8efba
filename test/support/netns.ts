/**
 * Network namespaces of our own making, joined by veth pairs, for tests and benches that need a
 * real kernel at both ends.
 *
 * Names are `rw<pid>-<n>-<label>`: the pid says whose they are, so that a later run can remove
 * what a killed one left, and never touches anybody else's. Nothing here changes the namespace
 * that the test runs in.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import process from "node:process";

/** A command that failed, with what it said. */
export class CommandError extends Error {
  readonly code: number;
  constructor(argv: readonly string[], code: number, stderr: string) {
    super(`${argv.join(" ")} ended with ${code}: ${stderr.trim()}`);
    this.name = "CommandError";
    this.code = code;
  }
}

/** Runs a short set-up command to its end and returns its stdout. Throws CommandError. */
export function runNow(argv: readonly string[]): string {
  const [file, ...rest] = argv;
  if (file === undefined) throw new Error("runNow needs a command");
  try {
    return execFileSync(file, rest, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    const failed = error as { status?: number | null; stderr?: string; message: string };
    throw new CommandError(argv, failed.status ?? -1, failed.stderr || failed.message);
  }
}

function succeeds(argv: readonly string[]): boolean {
  try {
    runNow(argv);
    return true;
  } catch {
    return false;
  }
}

let reason: string | undefined | null = null;

/** Why namespaces can't be used here, as a sentence for a skipped test; undefined when they can. */
export function whyNoNamespaces(): string | undefined {
  if (reason === null) reason = findReason();
  return reason;
}

function findReason(): string | undefined {
  if (process.platform !== "linux") return "needs Linux network namespaces";
  if (process.getuid?.() !== 0) return "needs root for network namespaces";
  if (!succeeds(["ip", "-V"])) return "needs the command ip (Debian package iproute2)";
  if (!existsSync("/dev/net/tun")) return "needs /dev/net/tun";
  removeLeftovers();
  const probe = `rw${process.pid}-probe`;
  if (!succeeds(["ip", "netns", "add", probe])) return "may not create network namespaces here";
  runNow(["ip", "netns", "del", probe]);
  return undefined;
}

/** Removes namespaces of earlier runs whose process is gone, with the processes left in them. */
function removeLeftovers(): void {
  for (const line of runNow(["ip", "netns", "list"]).split("\n")) {
    const name = line.split(" ")[0] ?? "";
    const owner = /^rw(\d+)-/.exec(name)?.[1];
    if (owner === undefined || existsSync(`/proc/${owner}`)) continue;
    removeNamespace(name);
  }
}

function removeNamespace(name: string): void {
  // Nobody but the run that made the namespace put processes into it.
  for (const pid of pidsIn(name)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended by itself between the listing and here.
    }
  }
  succeeds(["ip", "netns", "del", name]);
}

function pidsIn(name: string): number[] {
  try {
    return runNow(["ip", "netns", "pids", name]).split("\n").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

const alive = new Map<string, Namespace>();
let serial = 0;

process.on("exit", () => {
  for (const namespace of [...alive.values()]) namespace.destroy();
});

/** The kernel's counters of one interface. Directions are the kernel's: rx came from the wire. */
export interface LinkCounters {
  readonly rxPackets: number;
  readonly rxBytes: number;
  readonly txPackets: number;
  readonly txBytes: number;
}

export interface LinkState {
  readonly index: number;
  readonly mtu: number;
  readonly mac: string;
  readonly carrier: boolean;
  readonly counters: LinkCounters;
}

/** What `ip -json -s link` prints, as far as it is read here. */
interface IpLink {
  ifindex: number;
  mtu: number;
  address: string;
  flags: string[];
  stats64: Record<"rx" | "tx", { packets: number; bytes: number }>;
}

export class Namespace {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  /** The same command, run inside. `ip netns exec` becomes the command, so the pid is its own. */
  inside(argv: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.name, ...argv];
  }

  /** Runs a short command inside to its end and returns its stdout. Throws CommandError. */
  run(...argv: string[]): string {
    return runNow(this.inside(argv));
  }

  /** `ip` in this namespace: ns.ip("addr", "add", ...). */
  ip(...args: string[]): string {
    return runNow(["ip", "-n", this.name, ...args]);
  }

  sysctl(key: string, value: string | number): void {
    this.run("sysctl", "-q", "-w", `${key}=${value}`);
  }

  addAddress(device: string, address: string): void {
    const family = address.includes(":") ? "-6" : "-4";
    this.ip(family, "addr", "add", address, "dev", device);
  }

  /** Undefined when there is no such interface. */
  link(device: string): LinkState | undefined {
    let text: string;
    try {
      text = this.ip("-json", "-s", "link", "show", "dev", device);
    } catch {
      return undefined;
    }
    const link = (JSON.parse(text) as IpLink[])[0];
    if (link === undefined) return undefined;
    const { rx, tx } = link.stats64;
    return {
      index: link.ifindex,
      mtu: link.mtu,
      mac: link.address,
      carrier: link.flags.includes("LOWER_UP"),
      counters: {
        rxPackets: rx.packets,
        rxBytes: rx.bytes,
        txPackets: tx.packets,
        txBytes: tx.bytes,
      },
    };
  }

  /** Ends what still runs inside and removes the namespace. A second call does nothing. */
  destroy(): void {
    if (!alive.delete(this.name)) return;
    removeNamespace(this.name);
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

/** A fresh namespace with loopback up and duplicate address detection off. */
export function createNamespace(label: string): Namespace {
  const name = `rw${process.pid}-${serial++}-${label}`;
  runNow(["ip", "netns", "add", name]);
  const namespace = new Namespace(name);
  alive.set(name, namespace);
  namespace.ip("link", "set", "lo", "up");
  // An IPv6 address that is still being probed refuses traffic: tests would wait for nothing.
  for (const scope of ["all", "default"]) {
    namespace.sysctl(`net.ipv6.conf.${scope}.accept_dad`, 0);
    namespace.sysctl(`net.ipv6.conf.${scope}.dad_transmits`, 0);
  }
  return namespace;
}

/** One end of a veth pair: where it goes, its name there, its address with prefix length. */
export interface VethEnd {
  readonly namespace: Namespace;
  readonly device: string;
  readonly address: string;
}

/** Joins two namespaces by a veth pair with offloads as the kernel sets them, both ends up. */
export function joinByVeth(a: VethEnd, b: VethEnd): void {
  // Both ends are born in their namespaces: no name of ours ever shows up outside.
  a.namespace.ip(
    ...["link", "add", a.device, "type", "veth"],
    ...["peer", "name", b.device, "netns", b.namespace.name],
  );
  for (const end of [a, b]) {
    end.namespace.addAddress(end.device, end.address);
    end.namespace.ip("link", "set", end.device, "up");
  }
}
