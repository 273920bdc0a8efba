/**
 * A systemd of a test: process 1 of namespaces of its own, with the units of deploy/systemd. It sees
 * the machine's files, read-only, and no other process, network or host name.
 *
 *   test ──► unshare ──► systemd (pid 1) ──► ringwire-device.service, ringwire-frontend@a.service
 *     └── nsenter ──► systemctl start, show ...
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type Child, eventually, ROOT, start } from "./process.ts";

const SYSTEMD = "/lib/systemd/systemd";
const UNSHARE = "/usr/bin/unshare";
const NSENTER = "/usr/bin/nsenter";
const UNITS = join(ROOT, "deploy/systemd");
const NAMESPACES = ["--pid", "--mount", "--uts", "--ipc", "--cgroup", "--net"];
/** Where the program is installed according to the units. */
const INSTALLED = "/usr/local/bin/ringwire";
let made = 0;

/** Why a test can't have a systemd; undefined when it can. */
export function whyNoSystemd(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  if (!existsSync(SYSTEMD)) return "needs systemd (Debian: systemd)";
  const tries = "mount -t cgroup2 none /mnt && mkdir /mnt/rw-probe && rmdir /mnt/rw-probe";
  const { status } = spawnSync(UNSHARE, [...NAMESPACES, "--fork", "sh", "-c", tries]);
  return status === 0 ? undefined : "needs namespaces, and a cgroup of version 2";
}

/** The units with the program of this checkout, changed by `change`, in `folder`. */
export function placeUnits(
  folder: string,
  program: string,
  change: (text: string) => string = (text) => text,
): string[] {
  return readdirSync(UNITS).map((name) => {
    const text = readFileSync(join(UNITS, name), "utf8").replaceAll(INSTALLED, program);
    const path = join(folder, name);
    writeFileSync(path, change(text));
    return path;
  });
}

export class Systemd {
  readonly #outer: Child;
  readonly #cgroup: string;
  readonly #pid: string;

  private constructor(outer: Child, cgroup: string, pid: string) {
    this.#outer = outer;
    this.#cgroup = cgroup;
    this.#pid = pid;
  }

  /** Boots a systemd. Everything in `folder` is in /run/lab there, its units in /run/systemd/system. */
  static async boot(folder: string): Promise<Systemd> {
    const cgroup = `ringwire-test-${process.pid}-${made++}`;
    const script = `set -e
mount --make-rprivate /
mount -t proc proc /proc
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/${cgroup}
echo 1 > /sys/fs/cgroup/${cgroup}/cgroup.procs
mkdir -p /mnt
mount -t tmpfs tmpfs /mnt
mkdir /mnt/tree /mnt/lab
mount --bind "${ROOT}" /mnt/tree
mount --bind "${folder}" /mnt/lab
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/tree /run/lab
mount --move /mnt/tree /run/tree
mount --move /mnt/lab /run/lab
umount /mnt
cp -r /run/lab/units/. /run/systemd/system
# As udev makes it.
mount -t tmpfs tmpfs /dev/net
mknod -m 666 /dev/net/tun c 10 200
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
# Services get credentials by mounts, which systemd passes on only below a shared root.
mount --make-rshared /
container=ringwire-test exec ${SYSTEMD} --system --unit=basic.target --show-status=false`;
    const outer = start([UNSHARE, ...NAMESPACES, "--fork", "--kill-child", "sh", "-c", script]);
    const pid = await eventually(
      () => `the first process\n${outer.said()}`,
      () => {
        if (outer.exit !== undefined) throw new Error(outer.said());
        const children = `/proc/${outer.pid}/task/${outer.pid}/children`;
        return readFileSync(children, "utf8").trim() || undefined;
      },
    );
    const systemd = new Systemd(outer, cgroup, pid);
    try {
      await eventually("the end of the boot", () =>
        systemd.inside("systemctl", "list-jobs").code === 0 ? true : undefined,
      );
      return systemd;
    } catch (error) {
      await systemd[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs a command beside the services. */
  inside(...argv: string[]): { code: number | null; text: string } {
    const enter = ["-t", this.#pid, ...NAMESPACES, ...argv];
    const { status, stdout, stderr } = spawnSync(NSENTER, enter, { encoding: "utf8" });
    return { code: status, text: `${stdout}${stderr}` };
  }

  /** systemctl, which must succeed. Throws with what it and the service said. */
  systemctl(...args: string[]): string {
    const { code, text } = this.inside("systemctl", ...args);
    if (code === 0) return text.trim();
    const unit = args.at(-1)!;
    const { text: status } = this.inside("systemctl", "status", "--no-pager", unit);
    throw new Error(`systemctl ${args.join(" ")}: ${text}\n${status}\n${this.log()}`);
  }

  property(unit: string, name: string): string {
    return this.systemctl("show", "--value", "--property", name, unit);
  }

  /** What all services have printed. */
  log(): string {
    return this.inside("cat", "/run/services.log").text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // --kill-child ends systemd with unshare, and the kernel ends all others of its namespace.
    this.#outer.signal("SIGKILL");
    await this.#outer.exited;
    const tidy = `mount -t cgroup2 none /mnt; for i in 1 2 3 4 5; do
find /mnt/${this.#cgroup} -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.2; done`;
    spawnSync(UNSHARE, ["--mount", "sh", "-c", tidy]);
  }
}
