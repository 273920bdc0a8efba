/**
 * Network namespaces of our own making, joined by veth pairs, for tests and benches that need a
 * real kernel at both ends.
 *
 * Names are `rw<pid>-<n>-<label>`: the pid says whose they are, so that a later run can remove
 * what a killed one left, and never touches anybody else's. Nothing here changes the namespace
 * that the test runs in.
 */
import { existsSync } from "node:fs";
import process from "node:process";
import * as sys from "../../shared/tap/sys.ts";
import { missingProgram, outputOf } from "./installed.ts";

const ip = (...args: string[]): string => outputOf("ip", args).toString();

/** Empty when namespaces can be used, undefined before it was asked. */
let reason: string | undefined;

/** Why namespaces can't be used here, as a sentence for a skipped test; undefined when they can. */
export function whyNoNamespaces(): string | undefined {
  reason ??= findReason() ?? "";
  return reason || undefined;
}

function findReason(): string | undefined {
  if (process.platform !== "linux") return "needs Linux network namespaces";
  if (process.getuid?.() !== 0) return "needs root for network namespaces";
  if (missingProgram("ip")) return "needs the command ip (Debian package iproute2)";
  if (!existsSync("/dev/net/tun")) return "needs /dev/net/tun";
  // What earlier runs left whose process is gone.
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

/** Nobody but the run that made the namespace put processes into it. Its own thread may be inside. */
function removeNamespace(name: string): void {
  const script = 'ip netns pids "$1" | grep -vx "$2" | xargs -r kill -9; ip netns del "$1"; true';
  outputOf("sh", ["-c", script, "sh", name, String(process.pid)]);
}

const alive = new Set<Namespace>();
let serial = 0;

process.on("exit", () => {
  for (const namespace of [...alive]) namespace.destroy();
});

/** An interface as `ip -json -s link` prints it. Directions are the kernel's: rx came from the wire. */
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
    // An IPv6 address that is still being probed refuses traffic: tests would wait for nothing.
    for (const key of ["accept_dad", "dad_transmits"]) {
      const conf = ["all", "default"].map((of) => `net.ipv6.conf.${of}.${key}=0`);
      this.run("sysctl", "-qw", ...conf);
    }
  }

  /** The same command, run inside. `ip netns exec` becomes the command, so the pid is its own. */
  inside(argv: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.name, ...argv];
  }

  /** Runs a short command inside to its end and returns its stdout. Throws when it fails. */
  run(...argv: string[]): string {
    return ip("netns", "exec", this.name, ...argv);
  }

  /** `ip` in this namespace: ns.ip("addr", "add", ...). */
  ip(...args: string[]): string {
    return ip("-n", this.name, ...args);
  }

  /**
   * Moves the thread that runs the test inside, until it disposes of the result. Sockets that it
   * opens meanwhile, threads and processes that it starts belong to the namespace too.
   */
  enter(): Disposable {
    const home = openNamespace("/proc/thread-self/ns/net");
    const there = openNamespace(`/run/netns/${this.name}`);
    moveTo(there);
    return { [Symbol.dispose]: () => moveTo(home) };
  }

  /** Undefined when there is no such interface. */
  link(device: string): Link | undefined {
    const links = JSON.parse(this.ip("-json", "-s", "link")) as Link[];
    return links.find((link) => link.ifname === device);
  }

  /** Ends what still runs inside and removes the namespace. A second call does nothing. */
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
    end.namespace.ip("addr", "add", end.address, "dev", end.device);
    end.namespace.ip("link", "set", end.device, "up");
  }
}
