/**
 * A machine for commands that name things of the whole host: network namespaces, files below /run,
 * processes. It has namespaces of its own for the network, mounts and processes, and an empty /run.
 * The kernel ends and removes everything in it when its first process ends.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { outputOf } from "./installed.ts";
import { type Child, eventually, NODE, ROOT, run, type StartOptions, start } from "./process.ts";

/** The first process waits until its stdin closes, and has no zombies of others as children. */
const FIRST = `
mount -t tmpfs none /run && ip link set lo up && echo ready
exec "$0" -e '
  process.stdin.on("end", () => process.exit()).resume();
'`;

export class Machine implements AsyncDisposable {
  readonly #child: ChildProcess;
  /** Pid of the first process, outside. */
  readonly #pid: number;

  private constructor(child: ChildProcess, pid: number) {
    this.#child = child;
    this.#pid = pid;
  }

  static async start(): Promise<Machine> {
    const flags = ["--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"];
    const child = spawn("unshare", [...flags, "sh", "-c", FIRST, NODE], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await new Promise<void>((resolve, reject) => {
      child.stdout.once("data", () => resolve());
      child.once("exit", (code) => reject(new Error(`unshare ended with ${code}`)));
    });
    const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8");
    return new Machine(child, Number(children.trim()));
  }

  inside(argv: readonly string[]): string[] {
    return ["nsenter", `--target=${this.#pid}`, "--mount", "--net", "--pid", ...argv];
  }

  /** Runs a short command inside and returns its stdout. Throws when it fails. */
  sh(script: string): string {
    const [program = "", ...args] = this.inside(["sh", "-c", script]);
    return outputOf(program, args).toString();
  }

  /** Starts a `ringwire` command, compiled. */
  ringwire(args: readonly string[], options?: StartOptions): Child {
    return start(this.inside([NODE, `${ROOT}/dist/cli/ringwire.js`, ...args]), options);
  }

  /** Runs a `ringwire` command to its end, and expects the exit code. */
  async done(args: readonly string[], code = 0): Promise<Child> {
    const argv = this.inside([NODE, `${ROOT}/dist/cli/ringwire.js`, ...args]);
    const child = await run(argv, {}, 120_000);
    if (child.exit?.code !== code) throw new Error(`exit ${child.exit?.code}\n${child.said()}`);
    return child;
  }

  /** Ends every process whose command line fits, by its pid, until there is none. */
  async kill(pattern: string): Promise<void> {
    const pids = () =>
      this.#processes().flatMap(({ pid, line }) => (line.includes(pattern) ? [pid] : []));
    if (pids().length === 0) throw new Error(`no process with ${pattern}`);
    await eventually(`the end of ${pattern}`, () => {
      // One that is killed may just have started another.
      const left = pids();
      if (left.length > 0) this.sh(`kill -9 ${left.join(" ")} 2>/dev/null || true`);
      return left.length === 0 ? true : undefined;
    });
  }

  /** Command lines of the processes inside, without the first one. */
  get processes(): string[] {
    return this.#processes().map(({ line }) => line);
  }

  #processes(): { readonly pid: string; readonly line: string }[] {
    return this.sh("ps -e -o pid=,stat=,args=")
      .split("\n")
      .map((text) => /^\s*(\d+)\s+(\S+)\s+(.*)$/.exec(text))
      .filter((found) => found !== null && !found[2]!.startsWith("Z"))
      .map((found) => ({ pid: found![1]!, line: found![3]! }))
      .filter(({ pid, line }) => pid !== "1" && !/^(ps|sh) /.test(line));
  }

  /** What a lab may leave behind: processes, namespaces, interfaces, files below /run. */
  get leftovers(): string[] {
    const links = JSON.parse(this.sh("ip -json link")) as { readonly ifname: string }[];
    return [
      ...this.processes,
      ...this.sh("ls /run/netns 2>/dev/null || true").split("\n").filter(Boolean),
      ...links.map(({ ifname }) => ifname).filter((name) => !/^(lo|veth|link0)/.test(name)),
      ...this.sh("find /run -type f").split("\n").filter(Boolean),
      ...this.sh("find /run/ringwire -mindepth 1 2>/dev/null || true").split("\n").filter(Boolean),
    ];
  }

  /** Joins two machines by a veth pair with these addresses. */
  static join(a: Machine, addressA: string, b: Machine, addressB: string): void {
    const args = ["link", "add", "link0", "netns", String(a.#pid), "type", "veth"];
    outputOf("ip", [...args, "peer", "name", "link0", "netns", String(b.#pid)]);
    for (const [machine, address] of [
      [a, addressA],
      [b, addressB],
    ] as const) {
      machine.sh(`ip addr add ${address} dev link0 && ip link set link0 up`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }
}
