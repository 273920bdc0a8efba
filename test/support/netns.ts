/**
 * Network namespaces joined by veth pairs, for tests and benches that need a real kernel at both
 * ends.
 *
 * A name is `rw<pid>-<n>-<label>`. The pid is that of the owner, so that a later run can remove the
 * namespaces of a killed run and no others. Nothing here changes the namespace in which the test
 * was started.
 */
import { existsSync } from "node:fs";
import process from "node:process";
import * as sys from "../../shared/reactor/sys.ts";
import { missingProgram, outputOf } from "./installed.ts";

const ip = (...args: string[]): string => outputOf("ip", args).toString();

/** Why namespaces can't be used: empty when they can, undefined before the first check. */
let reason: string | undefined;

/** Why this machine has no namespaces, as a sentence for a skipped test; undefined when it has. */
export function whyNoNamespaces(): string | undefined {
  reason ??= findReason() ?? "";
  return reason || undefined;
}

function findReason(): string | undefined {
  if (process.platform !== "linux") return "needs Linux network namespaces";
  if (process.getuid?.() !== 0) return "needs root for network namespaces";
  if (missingProgram("ip")) return "needs the command ip (Debian package iproute2)";
  if (!existsSync("/dev/net/tun")) return "needs /dev/net/tun";
  // Removes the namespaces of earlier runs whose process is gone.
  for (const [name, owner] of ip("netns", "list").matchAll(/^rw(\d+)-\S+/gm)) {
    if (!existsSync(`/proc/${owner}`)) removeNamespace(name);
  }
  try {
    new Namespace("probe").destroy();
    return undefined;
  } catch {
    return "may not create network namespaces here";
  }
}

/**
 * All processes inside were started by the run that made the namespace, so they may be ended. The
 * test's own thread may be inside too.
 */
function removeNamespace(name: string): void {
  const script = 'ip netns pids "$1" | grep -vx "$2" | xargs -r kill -9; ip netns del "$1"; true';
  outputOf("sh", ["-c", script, "sh", name, String(process.pid)]);
}

const alive = new Set<Namespace>();
let serial = 0;

process.on("exit", () => {
  for (const namespace of [...alive]) namespace.destroy();
});

/**
 * An interface as `ip -json -s link` prints it. Directions are the kernel's: rx comes from the
 * wire.
 */
export interface Link {
  readonly ifname: string;
  readonly ifindex: number;
  readonly mtu: number;
  readonly address: string;
  readonly flags: readonly string[];
  readonly stats64: Readonly<Record<"rx" | "tx", { packets: number; bytes: number }>>;
}

/** A fresh namespace with loopback up and duplicate address detection off. */
export class Namespace {
  readonly name: string;

  constructor(label: string) {
    this.name = `rw${process.pid}-${serial++}-${label}`;
    ip("netns", "add", this.name);
    alive.add(this);
    this.ip("link", "set", "lo", "up");
    // An IPv6 address refuses traffic while the kernel checks it for duplicates, so tests would
    // wait.
    for (const key of ["accept_dad", "dad_transmits"]) {
      const conf = ["all", "default"].map((of) => `net.ipv6.conf.${of}.${key}=0`);
      this.run("sysctl", "-qw", ...conf);
    }
  }

  /**
   * The command line that runs `argv` inside. `ip netns exec` executes the command in its own
   * process, so the pid stays the same.
   */
  inside(argv: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.name, ...argv];
  }

  /** Runs a short command inside and returns its stdout. Throws when it fails. */
  run(...argv: string[]): string {
    return ip("netns", "exec", this.name, ...argv);
  }

  /** `ip` in this namespace: ns.ip("addr", "add", ...). */
  ip(...args: string[]): string {
    return ip("-n", this.name, ...args);
  }

  /**
   * Moves the thread of the test inside, until the result is disposed. Sockets, threads and
   * processes that it creates meanwhile belong to the namespace too.
   */
  enter(): Disposable {
    const home = openNamespace("/proc/thread-self/ns/net");
    const there = openNamespace(`/run/netns/${this.name}`);
    moveTo(there);
    return { [Symbol.dispose]: () => moveTo(home) };
  }

  /** Undefined when the interface does not exist. */
  link(device: string): Link | undefined {
    const links = JSON.parse(this.ip("-json", "-s", "link")) as Link[];
    return links.find((link) => link.ifname === device);
  }

  /** Ends the processes inside and removes the namespace. A second call does nothing. */
  destroy(): void {
    if (alive.delete(this)) removeNamespace(this.name);
  }
}

function openNamespace(path: string): number {
  const fd = sys.open(path, sys.O_CLOEXEC);
  if (fd < 0) throw new Error(`${path}: errno ${sys.errno()}`);
  return fd;
}

/** Moves this thread and closes the descriptor. */
function moveTo(fd: number): void {
  if (sys.setns(fd, sys.CLONE_NEWNET) !== 0) throw new Error(`setns: errno ${sys.errno()}`);
  sys.close(fd);
}

/** One end of a veth pair: its namespace, its name there, its address with prefix length. */
export interface VethEnd {
  readonly namespace: Namespace;
  readonly device: string;
  readonly address: string;
}

/**
 * Joins two namespaces by a veth pair and sets both ends up. Offloads keep the kernel's defaults.
 */
export function joinByVeth(a: VethEnd, b: VethEnd): void {
  // Both ends are created inside their namespaces, so that neither name ever appears outside.
  a.namespace.ip(
    ...["link", "add", a.device, "type", "veth"],
    ...["peer", "name", b.device, "netns", b.namespace.name],
  );
  for (const end of [a, b]) {
    end.namespace.ip("addr", "add", end.address, "dev", end.device);
    end.namespace.ip("link", "set", end.device, "up");
  }
}
