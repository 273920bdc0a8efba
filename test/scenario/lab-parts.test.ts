/** Labs of users without rights, marks that others forge, logs without end, and `--config` in TOML. */
import { chownSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MAX_LOG_BYTES } from "../../cli/lab/bounded.ts";
import { Machine } from "../support/machine.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { NODE, ROOT, run, startRingwire } from "../support/process.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-parts-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const written = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

it("the log of a part stays below its bound, and keeps the last lines", async () => {
  const [out, log] = [join(folder, "out"), join(folder, "log")];
  const script = `exec "$1" --no-warnings test/support/log-worker.ts 5 >> "${out}" 2>> "${log}"`;
  const child = await run(["sh", "-c", script, "sh", NODE]);
  expect(child.exit?.code, child.said()).toBe(0);
  for (const path of [out, log]) {
    expect(statSync(path).size).toBeLessThanOrEqual(MAX_LOG_BYTES);
    expect(statSync(path).size).toBeGreaterThan(0);
    expect(readFileSync(path, "utf8")).toMatch(/^(x{99}\n)+(last\n)?$/);
  }
  expect(readFileSync(out, "utf8").endsWith("\nlast\n")).toBe(true);
});

it("a device has the segment of its file, and refuses a second description of it", async () => {
  const file = written(
    "device.toml",
    '[device]\nlisten = "127.0.0.1:0"\n[[segment]]\nname = "red"\nwhen-full = "hold"\n[[nic]]\nname = "a"\n',
  );
  await using device = startRingwire(["device", "--config", file, "--json"]);
  const { url } = await device.waitForJson<{ url: string }>(({ event }) => event === "listening");
  const status = await (await fetch(`${url.replace(/^ws/, "http")}/status`)).json();
  expect(status).toMatchObject({ segments: [{ name: "red" }] });
  const twice = await run([
    NODE,
    "dist/cli/ringwire.js",
    "device",
    "--config",
    file,
    "--segment",
    "x",
  ]);
  expect(twice.stderr).toMatch(/--segment describes segments, and so does the config file/);
  expect(twice.exit?.code).toBe(2);
});

const why = whyNoNamespaces();

describe.skipIf(why !== undefined)(`in a machine${why ? `: ${why}` : ""}`, () => {
  let machine: Machine;
  beforeAll(async () => {
    machine = await Machine.start();
  });
  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  it("a lab without namespaces and addresses needs no root", async () => {
    const own = mkdtempSync(join(tmpdir(), "ringwire-nobody-"));
    try {
      chownSync(own, 65534, 65534);
      const file = written("nobody.toml", '[device]\n[[nic]]\ncount = 2\nname = "n{n}"\n');
      const lab = async (action: string, path = file) => {
        const user = "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs".split(" ");
        const program = [NODE, join(ROOT, "dist/cli/ringwire.js"), "lab", action, path];
        return await run(
          machine.inside([...user, "env", `XDG_RUNTIME_DIR=${own}`, ...program]),
          {},
          120_000,
        );
      };
      // The folder of a test is for its user alone.
      await run(["chmod", "755", folder]);
      const up = await lab("up");
      expect(up.exit?.code, up.said()).toBe(0);
      expect(up.stdout).toContain("3 parts (3 started, 0 ran already)");
      expect((await lab("status")).stdout).toMatch(/nic n2 +up/);
      const key = written("key.toml", '[[nic]]\nname = "a"\ntap = "t"\nnetns = "a"\n');
      const refused = await lab("up", key);
      expect(refused.stderr).toContain("the key netns of a NIC needs root");
      expect((await lab("down")).stdout).toContain("3 processes ended, 0 namespaces removed");
      // What root has taken up shows nothing to others, and they are told.
      await machine.done(["lab", "up", file]);
      expect((await lab("status")).stderr).toContain(`root has taken up a lab nobody: sudo`);
      expect((await lab("down")).stderr).toContain(`sudo ringwire lab down ${file}`);
      await machine.done(["lab", "down", file]);
      expect(machine.leftovers).toEqual([]);
    } finally {
      rmSync(own, { recursive: true, force: true });
    }
  });

  it("NICs of one name in two segments see their own segment, and its services", async () => {
    const file = written(
      "segments.toml",
      `[device]
[[segment]]
name = "red"
[segment.services]
address = "10.0.0.1/24"
icmp = true
[[segment]]
name = "blue"
[[segment.port]]
name = "g*"
isolated = true
[frontend]
tap = "eth0"
[[nic]]
count = 2
name = "h{n}"
segment = "red"
netns = "red{n}"
addresses = ["10.0.0.{n+10}/24"]
[[nic]]
count = 2
name = "h{n}"
segment = "blue"
netns = "blue{n}"
addresses = ["10.0.0.{n+10}/24"]
[[nic]]
count = 2
name = "g{n}"
segment = "blue"
netns = "guest{n}"
addresses = ["10.0.0.{n+20}/24"]
`,
    );
    const up = await machine.done(["lab", "up", file]);
    // Two in red; in blue all but the two guests.
    expect(up.stdout).toContain("7 parts (7 started, 0 ran already), 12 pairs");
    const received = (netns: string, address: string) =>
      machine.sh(`ip netns exec ${netns} ping -c 1 -W 3 ${address} | grep -c "1 received" || true`);
    expect(received("red1", "10.0.0.1")).toBe("1\n");
    expect(received("blue1", "10.0.0.22")).toBe("1\n");
    expect(received("guest1", "10.0.0.22")).toBe("0\n");
    expect((await machine.done(["lab", "status", file])).stdout).toMatch(/nic blue\/h2 +up/);
    await machine.done(["lab", "down", file]);
    expect(machine.leftovers).toEqual([]);
  });

  it("a part that fails ends the wait for all others, and says why", async () => {
    const file = written(
      "fails.toml",
      `[device]
[[nic]]
name = "late"
connect = "127.0.0.1:1"
[[nic]]
name = "wrong"
tap = "lo"
`,
    );
    const up = await machine.done(["lab", "up", file], 1);
    expect(up.stderr).toMatch(
      /ringwire: nic wrong ended with 1; its log is \S+\n.*lo belongs to an/,
    );
    const late = await machine.done(["lab", "up", file, "--timeout", "1"], 1);
    expect(late.stderr).toMatch(/nic (late|wrong) (is not up after 1 s|ended)/);
    await machine.done(["lab", "down", file]);
    expect(machine.leftovers).toEqual([]);
  });

  it("a TAP in a namespace that is not there, or that a user may not enter", async () => {
    const args = ["frontend", "--wait", "--tap", "t0", "--netns"];
    const missing = await machine.done([...args, "nowhere"], 1);
    expect(missing.stderr).toContain(
      '--tap: there is no network namespace nowhere: make it with "sudo ip netns add nowhere"',
    );
    machine.sh("ip netns add there");
    const user = "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs".split(" ");
    const program = [NODE, join(ROOT, "dist/cli/ringwire.js"), ...args, "there"];
    const refused = await run(machine.inside([...user, ...program]));
    expect(refused.stderr).toContain("the network namespace there can't be entered (EPERM)");
    machine.sh("ip netns del there");
    const alone = await machine.done(["frontend", "--netns", "there"], 2);
    expect(alone.stderr).toContain("--netns goes with --tap");
  });

  it("processes with a mark of another user, or a broken one, are not of the lab", async () => {
    const file = written("marks.toml", '[device]\nlisten = "127.0.0.1:7711"\n');
    const mark = JSON.stringify({ lab: "marks", part: "device", key: "", file });
    const sleep = (user: string, text: string) =>
      machine.sh(`RINGWIRE_LAB='${text}' setsid ${user} sleep 1000 >/dev/null 2>&1 & true`);
    sleep("setpriv --reuid=65534 --clear-groups", mark);
    sleep("", "{");
    sleep("", '{"lab":"marks","part":7}');
    sleep("", JSON.stringify({ lab: "other", part: "device", key: "", file }));
    const up = await machine.done(["lab", "up", file]);
    expect(up.stdout).toContain("1 parts (1 started, 0 ran already)");
    const down = await machine.done(["lab", "down", file]);
    expect(down.stdout).toContain("1 processes ended");
    expect(machine.processes.filter((line) => line.endsWith("sleep 1000"))).toHaveLength(4);
    // The mark alone makes a process one of the lab, whatever its name.
    sleep("", mark);
    const again = await machine.done(["lab", "down", file]);
    expect(again.stdout).toContain("1 processes ended");
  });

  it("a place where namespaces have no name for others is refused", async () => {
    const file = written(
      "nested.toml",
      '[device]\n[[nic]]\nname = "a"\ntap = "t"\nnetns = "inner"\n',
    );
    machine.sh("ip netns add outer");
    const command = [NODE, join(ROOT, "dist/cli/ringwire.js"), "lab", "up", file];
    const up = await run(machine.inside(["ip", "netns", "exec", "outer", ...command]));
    expect(up.stderr).toContain("enter with nsenter --net=/run/netns/NAME instead");
    machine.sh("ip -n outer link set lo up");
    const entered = machine.inside(["nsenter", "--net=/run/netns/outer", ...command]);
    expect((await run(entered)).exit?.code).toBe(0);
    await machine.done(["lab", "down", file]);
    expect(machine.sh("ip netns list")).toMatch(/^outer/);
  });
});
