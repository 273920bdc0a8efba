/** The examples of two hosts, and of an ENA and a Xen NIC side by side. Hosts are machines. */
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readCaptureFile } from "../../shared/capture/index.ts";
import { Machine } from "../support/machine.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { ROOT } from "../support/process.ts";

const why = whyNoNamespaces();

describe.skipIf(why !== undefined)(`examples${why ? `: ${why}` : ""}`, () => {
  let folder: string;
  let machines: Machine[];

  const machine = async (): Promise<Machine> => {
    const one = await Machine.start();
    machines.push(one);
    return one;
  };
  /** Copies an example into the folder, so that its files lie beside it. */
  const example = (name: string): string => {
    const file = join(folder, name);
    copyFileSync(join(ROOT, "examples", name), file);
    return file;
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "ringwire-examples-"));
    machines = [];
  });
  afterEach(async () => {
    for (const one of machines) await one[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Takes a lab of two hosts up and down again. */
  async function twoHosts(file: string): Promise<void> {
    const [a, b] = [await machine(), await machine()];
    Machine.join(a, "192.0.2.1/24", b, "192.0.2.2/24");
    // Host b may come first: its NIC waits for the device.
    const [first] = await Promise.all([
      b.done(["lab", "up", file, "--host", "b", "--everywhere"]),
      a.done(["lab", "up", file, "--host", "a", "--everywhere"]),
    ]);
    expect(first?.stdout).toContain("1 pairs of peers see each other");
    expect(b.sh("ping -c 2 -i 0.2 -W 20 10.77.0.1")).toContain("2 received");
    expect(a.sh("ping -c 2 -i 0.2 -W 20 10.77.0.2")).toContain("2 received");
    const status = await b.done(["lab", "status", file, "--host", "b"]);
    expect(status.stdout).toMatch(/nic bob +up +\d+ +up +10\.77\.0\.2\/24 +1 of 1/);
    await b.done(["lab", "down", file, "--host", "b"]);
    // Only what belongs to host b is down.
    expect(a.processes).toHaveLength(2);
    await a.done(["lab", "down", file, "--host", "a"]);
    expect([...a.leftovers, ...b.leftovers]).toEqual([]);
  }

  it("two hosts", async () => {
    await twoHosts(example("two-hosts.toml"));
  });

  it("two hosts with TLS and tokens, made by the commands in the file", async () => {
    const file = example("two-hosts-tls.toml");
    const program = join(ROOT, "node_modules/.bin/ringwire");
    const commands = [...readFileSync(file, "utf8").matchAll(/^# {3}(ringwire .*)$/gm)];
    expect(commands).toHaveLength(4);
    for (const [, command = ""] of commands) {
      execFileSync("sh", ["-c", command.replace(/^ringwire/, program)], { cwd: folder });
    }
    await twoHosts(file);
    // Without its token a NIC does not come up, and the reason is in the error.
    const other = join(folder, "stranger.toml");
    writeFileSync(other, readFileSync(file, "utf8").replace("@bob.token", "@wrong.token"));
    writeFileSync(join(folder, "wrong.token"), "rw_bob_wrong\n");
    chmodSync(join(folder, "wrong.token"), 0o600);
    const [a, b] = [await machine(), await machine()];
    Machine.join(a, "192.0.2.1/24", b, "192.0.2.2/24");
    await a.done(["lab", "up", other, "--host", "a"]);
    const refused = await b.done(["lab", "up", other, "--host", "b"], 1);
    expect(refused.stderr).toMatch(/nic bob ended with 1; its log is \S+\n.*token/);
    await b.done(["lab", "down", other, "--host", "b"]);
    expect(b.leftovers).toEqual([]);
  });

  it("an ENA and a Xen NIC side by side, captured", async () => {
    const file = example("ena-and-xen.toml");
    const host = await machine();
    await host.done(["lab", "up", file]);
    expect(host.sh("ip netns exec ena ping -c 2 -i 0.2 -W 20 10.77.0.2")).toContain("2 received");
    expect(host.sh("ip -n xen link show eth0")).toContain("02:00:00:00:00:02");
    // A changed entry is started again, a removed one ends, and the rest stays.
    const text = readFileSync(file, "utf8");
    writeFileSync(
      file,
      text.replace("queues = 4", "queues = 2").replace(/^\[\[capture[\s\S]*/m, ""),
    );
    const again = await host.done(["lab", "up", file]);
    expect(again.stdout).toContain("ended     nic ena0 (changed in the file)");
    expect(again.stdout).toContain("ended     capture ena-and-xen.pcapng (not in the file)");
    expect(again.stdout).toContain("1 started, 2 ran already");
    const names = new Set<string>();
    for await (const packet of readCaptureFile(join(folder, "ena-and-xen.pcapng"))) {
      names.add(packet.interface.name ?? "");
    }
    expect([...names]).toEqual(expect.arrayContaining(["switch", "ena0:ring", "xn0:ring"]));
    // The file may be wrong by then, and the state torn.
    writeFileSync(file, "[[nic");
    host.sh('echo "[" > /run/ringwire/ena-and-xen/namespaces.json; rm /run/ringwire/*/*.events');
    await host.done(["lab", "down", file]);
    expect(host.leftovers).toEqual([]);
  });

  it("a namespace, a lab and a file of others stay untouched", async () => {
    const file = example("ena-and-xen.toml");
    const host = await machine();
    host.sh("ip netns add xen");
    const foreign = await host.done(["lab", "up", file], 1);
    expect(foreign.stderr).toContain("there is a network namespace xen, and it is not of this lab");
    await host.done(["lab", "down", file]);
    expect(host.sh("ip netns list")).toBe("xen\n");
    host.sh("ip netns del xen");
    await host.done(["lab", "up", file]);
    const namesake = join(folder, "other.toml");
    writeFileSync(namesake, 'name = "ena-and-xen"\n[device]\n');
    const refused = await host.done(["lab", "up", namesake], 1);
    expect(refused.stderr).toContain(`a lab ena-and-xen is up from another file, ${file}`);
    await host.done(["lab", "down", file]);
    expect(host.leftovers).toEqual([]);
  });
});
