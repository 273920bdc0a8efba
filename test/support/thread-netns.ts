/**
 * Network namespaces for the thread that runs a test: no names, nothing to clean up but a
 * descriptor, gone with the process at the latest. Threads and processes started while inside
 * belong to the namespace too.
 */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from "node:child_process";
import koffi from "koffi";
import * as sys from "../../shared/tap/sys.ts";

const THIS_THREAD = "/proc/thread-self/ns/net";

/** Why namespaces can't be made here, or undefined when they can. */
export function noNamespaces(): string | undefined {
  if (process.platform !== "linux") return "needs Linux";
  if (process.getuid?.() !== 0) return "needs root";
  const fd = sys.open("/dev/net/tun", sys.O_RDWR | sys.O_CLOEXEC);
  if (fd < 0) return "needs /dev/net/tun";
  sys.close(fd);
  return undefined;
}

const unshare = koffi.load(null).func("int unshare(int flags)") as unknown as (n: number) => number;

export class ThreadNetns implements Disposable {
  /** Of this process; `/proc/PID/fd/FD` names the namespace to others. */
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** A new, empty namespace with its loopback up. The thread stays where it is. */
  static make(): ThreadNetns {
    const home = openHere();
    try {
      if (unshare(sys.CLONE_NEWNET) !== 0) throw new Error(`unshare: errno ${sys.errno()}`);
      const made = new ThreadNetns(openHere());
      made.run("ip", "link", "set", "lo", "up");
      return made;
    } finally {
      go(home);
      sys.close(home);
    }
  }

  /** Runs `work` with the thread inside. What it starts synchronously starts inside too. */
  inside<T>(work: () => T): T {
    const back = openHere();
    go(this.fd);
    try {
      return work();
    } finally {
      go(back);
      sys.close(back);
    }
  }

  /** Runs a command inside and returns its output. Throws when it fails. */
  run(command: string, ...args: string[]): string {
    const result = this.inside(() => spawnSync(command, args, { encoding: "utf8" }));
    if (result.error !== undefined) throw result.error;
    if (result.status !== 0) {
      throw new Error(`${command} ${args.join(" ")}: ${result.stderr}${result.stdout}`);
    }
    return result.stdout;
  }

  /** Starts a command inside and returns at once; it is the caller's to end. */
  start(command: string, ...args: string[]): ChildProcessWithoutNullStreams {
    return this.inside(() => spawn(command, args));
  }

  [Symbol.dispose](): void {
    sys.close(this.fd);
  }
}

function openHere(): number {
  const fd = sys.open(THIS_THREAD, sys.O_CLOEXEC);
  if (fd < 0) throw new Error(`${THIS_THREAD}: errno ${sys.errno()}`);
  return fd;
}

function go(fd: number): void {
  if (sys.setns(fd, sys.CLONE_NEWNET) !== 0) throw new Error(`setns: errno ${sys.errno()}`);
}
