/** A command as a process: signals, help, streams, pages of the device, layers of options. */

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { tooOld } from "../../cli/common/node-version.ts";
import { runInside } from "../support/inside.ts";
import {
  NODE,
  ROOT,
  run,
  runRingwire,
  type StartOptions,
  start,
  startRingwire,
} from "../support/process.ts";

/** A sample of the text exposition format. */
const METRIC = /^[a-z_0-9]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [-+0-9.eNaInf]+$/;

async function startDevice(args: readonly string[] = [], options?: StartOptions) {
  const child = startRingwire(["device", "--listen", "127.0.0.1:0", "--json", ...args], options);
  const { port, pid, url } = await child.waitForJson<{ port: number; pid: number; url: string }>(
    (line) => line.event === "listening",
  );
  return { child, port, pid, url };
}

const startFrontend = async (port: number, args: readonly string[] = []) => {
  const child = startRingwire(["frontend", "--connect", `127.0.0.1:${port}`, "--json", ...args]);
  const ready = await child.waitForJson<Record<string, unknown>>((line) => line.event === "ready");
  return { child, ready };
};

it("ux-C2 a process is called as its command, ux-C3 and a join is one line of its log", async () => {
  const { child: device, port, pid } = await startDevice();
  await using _device = device;
  const { child: frontend } = await startFrontend(port, ["--name", "nic7"]);
  await using _frontend = frontend;
  await device.waitFor(/nic7 joined/);
  // Linux keeps 15 letters of the name.
  expect(readFileSync(`/proc/${pid}/comm`, "utf8")).toBe("ringwire device\n");
  const lines = device.stderr.split("\n").filter((line) => line.includes("nic7"));
  expect(lines).toEqual([expect.stringContaining("nic7 joined")]);
});

describe("signals", () => {
  it.each(["SIGINT", "SIGTERM"] as const)(
    "%s ends a device and a frontend in good order",
    async (signal) => {
      const { child: device, port, pid } = await startDevice();
      await using _device = device;
      // The started process itself does the work, without a child.
      expect(pid).toBe(device.pid);
      const { child: frontend, ready } = await startFrontend(port, ["--name", "nic7"]);
      await using _frontend = frontend;
      expect(ready).toMatchObject({ name: "nic7", link: "up", pid: frontend.pid });
      await device.waitForJson((line) => line.event === "joined" && line.name === "nic7");

      frontend.signal(signal);
      expect(await frontend.ended()).toEqual({ code: 0, signal: null });
      const last = await frontend.waitForJson<{ ifnet: object; driver: object }>(
        (line) => line.event === "stopped",
      );
      expect(last.ifnet).toHaveProperty("ipackets");
      expect(last.driver).toHaveProperty("admin_stats");
      await device.waitForJson((line) => line.event === "left" && line.name === "nic7");

      device.signal(signal);
      expect(await device.ended()).toEqual({ code: 0, signal: null });
      const stopped = await device.waitForJson<{ segments: { name: string }[] }>(
        (line) => line.event === "stopped",
      );
      expect(stopped.segments[0]?.name).toBe("lan0");
    },
  );

  it.each([
    [[], 1],
    [["--untrusted"], 0],
  ])("a Xen frontend with %j trusts its device: %d", async (flags, trusted) => {
    const { child: device, port } = await startDevice();
    await using _device = device;
    const { child: frontend } = await startFrontend(port, ["--driver", "xen", ...flags]);
    await using _frontend = frontend;
    frontend.signal("SIGTERM");
    const last = await frontend.waitForJson<{ driver: object }>((line) => line.event === "stopped");
    expect(last.driver).toHaveProperty("trusted", trusted);
    expect(await frontend.ended()).toEqual({ code: 0, signal: null });
  });

  it("a device that stops tells its frontends, and they try again", async () => {
    const { child: device, port } = await startDevice();
    await using _device = device;
    const { child: frontend } = await startFrontend(port);
    await using _frontend = frontend;
    device.signal("SIGTERM");
    expect(await device.ended()).toEqual({ code: 0, signal: null });
    const lost = await frontend.waitForJson<{ reason: string }>((l) => l.event === "link-lost");
    expect(lost.reason).toMatch(/the device stops/);

    const again = startRingwire(["device", "--listen", `127.0.0.1:${port}`, "--json"]);
    await using _again = again;
    await frontend.waitForJson((line) => line.event === "link-back");
    frontend.signal("SIGINT");
    expect(await frontend.ended()).toEqual({ code: 0, signal: null });
    const stopped = await frontend.waitForJson<{ reconnects: number }>(
      (line) => line.event === "stopped",
    );
    expect(stopped.reconnects).toBe(1);
  });

  it.concurrent.each([
    ["frontend"],
    ["pkt-gen", "-i", "netmap:ena0"],
    ["capture", "-w", "/dev/null"],
  ])("%s that still waits for its device ends in good order", async (...words) => {
    const called = Promise.withResolvers<void>();
    const server = createServer(() => called.resolve());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    await using child = startRingwire([...words, "--connect", `127.0.0.1:${port}`]);
    await called.promise;
    child.signal("SIGINT");
    expect(await child.ended()).toEqual({ code: 0, signal: null });
    expect(child.stderr).toBe("");
    server.close();
  });

  it("fault-K12: a second signal ends at once", async () => {
    // The device is stopped (SIGSTOP), so a frontend that is asked to end waits for answers.
    const { child: device, port } = await startDevice();
    const { child: frontend } = await startFrontend(port);
    await using _frontend = frontend;
    try {
      device.signal("SIGSTOP");
      frontend.signal("SIGINT");
      await frontend.waitForJson((line) => line.event === "stopped");
      frontend.signal("SIGINT");
      const exit = await frontend.ended();
      // The frontend may have ended its wait just before.
      if (exit.code !== 0) expect(frontend.stderr).toMatch(/stopped at once by a second signal/);
      expect([0, 1]).toContain(exit.code);
    } finally {
      device.signal("SIGCONT");
      await device.stop();
    }
  });
});

describe("help", () => {
  it.each([
    ...["--help", "-h", "help", "demo --help", "help device", "frontend -h", "pkt-gen --help"],
    ...["bridge --help", "lb --help", "replay --help", "status --help", "capture --help"],
    ...["wireshark --help", "migrate --help"],
  ])("ringwire %s begins with examples and fits 80 columns", async (words) => {
    const child = await runInside(words.split(" "));
    expect(child.exit?.code).toBe(0);
    expect(child.stderr).toBe("");
    expect(child.stdout).toMatch(/^Examples:\n {2}(sudo )?ringwire /);
    expect(child.stdout).toContain("Usage: ringwire");
    expect(child.stdout).not.toContain("end-with-stdin");
    expect(child.stdout).not.toMatch(/^ {2}exchange/m);
    expect(child.stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
  });

  it("without a command the help goes to stderr, and the exit code is 2", async () => {
    const child = await runRingwire([]);
    expect(child.exit?.code).toBe(2);
    expect(child.stdout).toBe("");
    expect(child.stderr).toMatch(/^Examples:/);
  });

  it("ux-S11 migrate names both kinds of NIC; ux-S13 the form of the file of --config is shown", async () => {
    const { stdout: migrate } = await runInside(["migrate", "--help"]);
    expect(migrate).toMatch(/a running NIC, ENA or Xen, to another device/);
    const { stdout: help } = await runInside(["--help"]);
    const [file = ""] = /^ {2}\{ "device": .*\}$/m.exec(help) ?? [];
    expect(Object.keys(JSON.parse(file).device)).toEqual(["when-full", "uplink"]);
    expect(help).toMatch(/This is ringwire \d+\.\d+\.\d+ with version 1 of the wire, on Node \d+/);
  });

  it.skipIf(process.platform !== "linux")(
    "ux-C2 a process has the title of its command",
    async () => {
      const { child: device } = await startDevice(["--segment", "titled"]);
      await using _device = device;
      // ps and top show the name, cut to 15 bytes, and the arguments.
      expect(readFileSync(`/proc/${device.pid}/comm`, "utf8")).toBe("ringwire device\n");
      const args = readFileSync(`/proc/${device.pid}/cmdline`, "utf8");
      expect(args).toMatch(/^ringwire device --listen 127\.0\.0\.1:0 --json --segment titled/);
    },
  );

  it("--version is that of package.json", async () => {
    const child = await runRingwire(["--version"]);
    expect(child.exit?.code).toBe(0);
    expect(child.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe("streams", () => {
  it("data on stdout, talk on stderr; --quiet says nothing", async () => {
    const { child: device, port } = await startDevice();
    await using _device = device;
    const { child: frontend } = await startFrontend(port, ["--quiet"]);
    await using _frontend = frontend;
    frontend.signal("SIGTERM");
    await frontend.ended();
    expect(frontend.stderr).toBe("");
    await device.waitFor(/info {2}ena0 left/);
    for (const line of device.stdout.trimEnd().split("\n"))
      expect(() => JSON.parse(line)).not.toThrow();
    expect(device.stderr).toMatch(/info {2}ena0 joined/);
  });

  it("fault-K8: a log that nobody reads stops no work; a full disk for data is a failure", async () => {
    const { child: device, port } = await startDevice();
    await using _device = device;
    const connect = ["--connect", `127.0.0.1:${port}`];
    // The reader of the log ends at once, while the trace goes on writing.
    const script = '"$@" 2>&1 >&3 3>&- | head -n 1 >&2';
    const program = [NODE, join(ROOT, "dist/cli/ringwire.js"), "frontend", ...connect];
    await using frontend = start([
      ...["bash", "-c", `exec 3>&1; ${script}`, "bash", ...program, "--trace", "--json"],
    ]);
    const { pid } = await frontend.waitForJson<{ pid: number }>((line) => line.event === "ready");
    process.kill(pid, "SIGTERM");
    await frontend.waitForJson((line) => line.event === "stopped");
    await device.waitForJson((line) => line.event === "left" && line.reason !== "connection lost");

    const status = ["status", ...connect];
    for (const words of [status, ["--help"]]) {
      const full = ["bash", "-c", '"$@" > /dev/full', "bash", NODE, program[1]!, ...words];
      const child = await run(full);
      expect(child.exit?.code, child.said()).toBe(1);
      expect(child.stderr).toMatch(/^ringwire: standard output can't be written: ENOSPC.*\n$/);
    }
  });

  it("--log json makes every line of the log JSON", async () => {
    const { child: device, port } = await startDevice(["--log", "json"]);
    await using _device = device;
    const { child: frontend } = await startFrontend(port);
    await using _frontend = frontend;
    frontend.signal("SIGTERM");
    await device.waitFor(/ena0 left/);
    const lines = device.stderr.trimEnd().split("\n");
    expect(lines.length).toBeGreaterThan(1);
    for (const line of lines) expect(JSON.parse(line)).toHaveProperty("msg");
  });

  it("colours only where they are wanted, and never with NO_COLOR", async () => {
    const { child: device, port } = await startDevice();
    await using _device = device;
    const { child: frontend } = await startFrontend(port);
    await using _frontend = frontend;
    const status = (env: Record<string, string>) =>
      runInside(["status", "--connect", `127.0.0.1:${port}`], env);
    const esc = String.fromCharCode(27);
    expect((await status({ NO_COLOR: "1" })).stdout).not.toContain(esc);
    expect((await status({ NO_COLOR: "", FORCE_COLOR: "1" })).stdout).toContain(esc);
  });

  it("--trace shows transactions by name, on both sides, and only on stderr", async () => {
    const { child: device, port } = await startDevice(["--trace"]);
    await using _device = device;
    const { child: frontend } = await startFrontend(port, ["--trace"]);
    await using _frontend = frontend;
    await device.waitFor(/ena0 <- mmio_write \d+ records?: .*DEV_CTL = DEV_RESET reason=NORMAL/);
    await device.waitFor(/ena0 -> write \d+ records?: ENA_ACQ 0x[0-9a-f]+ SUCCESS id=\d+/);
    await frontend.waitFor(/ena0 -> hello \{"version":1/);
    await frontend.waitFor(/ena0 <- write .*ENA_AENQ 0x[0-9a-f]+ LINK_CHANGE up/);
    await frontend.waitFor(/ena0 -> .*GET_FEATURE DEVICE_ATTRIBUTES/);
    expect(device.stdout + frontend.stdout).not.toContain("mmio_write");
  });
});

describe("a NIC of Xen", () => {
  it("--trace shows grants, hypercalls, events and the store in words", async () => {
    const { child: device, port } = await startDevice();
    await using _device = device;
    const { child: frontend } = await startFrontend(port, ["--driver", "xen", "--trace"]);
    await using _frontend = frontend;
    await frontend.waitFor(
      /xn0 -> grant v1 \d+ records?: \d+ PERMIT_ACCESS dom=0 frame=0x[0-9a-f]+/,
    );
    await frontend.waitFor(/xn0 -> hypercall tag=\d+ event_channel_op ALLOC_UNBOUND dom=SELF/);
    await frontend.waitFor(
      /xn0 <- hypercall_reply tag=\d+ ok event_channel_op ALLOC_UNBOUND .*port=1/,
    );
    await frontend.waitFor(/xn0 -> xenstore WRITE .*device\/vif\/0\/state" "4"/);
    await frontend.waitFor(/xn0 <- xenstore WATCH_EVENT .*backend\/vif\/1\/0\/state/);
    await frontend.waitFor(/xn0 <- grant_use \d+ records?: \d+ readers\+1 writers\+1/);
    await frontend.waitFor(/xn0 -> event port=1/);
    expect(frontend.stdout).not.toContain("PERMIT_ACCESS");
  });

  it("status and /metrics show its domain, its rings and what all guests share", async () => {
    const { child: device, port } = await startDevice();
    await using _device = device;
    const flags = ["--driver", "xen", "--queues", "2"];
    const { child: frontend } = await startFrontend(port, flags);
    await using _frontend = frontend;
    const connect = ["--connect", `127.0.0.1:${port}`];
    const { stdout } = await runInside(["status", ...connect]);
    expect(stdout).toMatch(/xn0 +xen +connected +[0-9a-f:]{17}/);
    expect(stdout).toMatch(/xn0 +1 +connected +connected +v1 +516 +4 +4 +2 /);
    expect(stdout).toMatch(/xn0 +rx 1 +ready +256 +0 +0 +0\/256 +2 /);
    const json = await runInside(["status", ...connect, "--json"]);
    expect(JSON.parse(json.stdout)).toMatchObject({ xen: { domains: 1, backendPorts: 2 } });
    const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    expect(metrics).toContain('ringwire_xen_connected{segment="lan0",nic="xn0"} 1');
    expect(metrics).toContain(
      'ringwire_xen_tx_packets_total{segment="lan0",nic="xn0",queue="1"} 0',
    );
    for (const line of metrics.split("\n").filter((l) => l !== "" && !l.startsWith("#"))) {
      expect(line).toMatch(METRIC);
    }
    frontend.signal("SIGTERM");
    await frontend.ended();
    await using watch = startRingwire(["status", ...connect, "--watch"]);
    await watch.waitFor(/0 NICs/);
    watch.signal("SIGINT");
    expect(await watch.ended()).toEqual({ code: 0, signal: null });
  });
});

describe("the device's port", () => {
  it("answers /livez, /readyz, /status and /metrics, and nothing else", async () => {
    const { child: device, port } = await startDevice(["--segment", "lab1"]);
    await using _device = device;
    const { child: frontend } = await startFrontend(port, ["--name", "a"]);
    await using _frontend = frontend;
    const get = (path: string) => fetch(`http://127.0.0.1:${port}${path}`);
    expect(await (await get("/livez")).json()).toEqual({ ok: true });
    expect(await (await get("/readyz")).json()).toEqual({ ok: true, reasons: [] });
    expect((await get("/")).status).toBe(404);
    expect((await get("/nic")).status).toBe(426);
    expect((await fetch(`http://127.0.0.1:${port}/status`, { method: "POST" })).status).toBe(405);

    const status = (await (await get("/status")).json()) as { nics: { name: string }[] };
    expect(status.nics.map((nic) => nic.name)).toEqual(["a"]);

    const response = await get("/metrics");
    expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    expect(text).toContain('ringwire_port_frames_total{segment="lab1",port="a",direction="in"} 0');
    expect(text).toContain('ringwire_ena_resets_total{segment="lab1",nic="a",reason="NORMAL"} 1');
    expect(text).toMatch(/ringwire_ena_admin_commands_total\{segment="lab1",nic="a"\} [1-9]/);
    expect(text).toContain('ringwire_fdb_entries{segment="lab1"} 0');
    expect(text).toContain("process_cpu_seconds_total");
    // The whole page has the form that a scraper accepts.
    for (const line of text.split("\n").filter((l) => l !== "" && !l.startsWith("#"))) {
      expect(line).toMatch(METRIC);
    }
    const names = text.split("\n").filter((l) => l.startsWith("# TYPE"));
    expect(new Set(names).size).toBe(names.length);
  });

  it("status shows NICs, queues and ports; --json is the page itself; --watch goes on", async () => {
    const { child: device, port } = await startDevice();
    await using _device = device;
    const { child: frontend } = await startFrontend(port, ["--queues", "2"]);
    await using _frontend = frontend;
    const connect = ["--connect", `127.0.0.1:${port}`];
    const text = await runInside(["status", ...connect]);
    expect(text.exit?.code).toBe(0);
    expect(text.stdout).toMatch(/ena0 +ena +ready +[0-9a-f:]{17}/);
    expect(text.stdout).toMatch(/ena0 +tx 1 /);
    expect(text.stdout).not.toMatch(/ena0 +tx 2 /);
    const json = await runInside(["status", ...connect, "--json"]);
    expect(JSON.parse(json.stdout)).toHaveProperty("segments.0.ports");
    await using watch = startRingwire(["status", ...connect, "--json", "--watch"]);
    await watch.waitFor(/\n\{.*\n/s);
    // The command also survives a restart of the device.
    device.signal("SIGTERM");
    await watch.waitFor(/warn .*nothing listens at .*; looking again each second/);
    await using again = startRingwire(["device", "--listen", `127.0.0.1:${port}`, "--json"]);
    await watch.waitForJson((line) => line.pid === again.pid);
    watch.signal("SIGINT");
    expect(await watch.ended()).toEqual({ code: 0, signal: null });
  });
});

describe("options", () => {
  it("a flag beats the environment, which beats the file, which beats the default", async () => {
    const folder = mkdtempSync(join(tmpdir(), "ringwire-cli-"));
    const config = join(folder, "ringwire.json");
    const section = { segment: "from-file", queues: 3, mtu: 2000 };
    writeFileSync(config, JSON.stringify({ device: section, frontend: { name: "no" } }));
    try {
      const { child: device, port } = await startDevice(["--mtu", "4000"], {
        env: { RINGWIRE_CONFIG: config, RINGWIRE_QUEUES: "5", RINGWIRE_MTU: "3000" },
      });
      await using _device = device;
      await using frontend = startRingwire(
        ["frontend", "--connect", `127.0.0.1:${port}`, "--trace"],
        { env: { RINGWIRE_NAME: "from-env" } },
      );
      const welcome = await frontend.waitFor(/welcome (\{.*\})/);
      expect(JSON.parse(welcome[1] ?? "")).toMatchObject({
        segment: "from-file",
        queues: 5,
        maxMtu: 4000,
        name: "from-env",
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("what the device does not offer is said, and the rest works", async () => {
    const { child: device, port } = await startDevice(["--queues", "2"]);
    await using _device = device;
    const { child: frontend, ready } = await startFrontend(port, [
      ...["--queues", "3", "--driver", "xen", "--llq"],
    ]);
    await using _frontend = frontend;
    expect(ready).toMatchObject({ queues: 2 });
    expect(frontend.stderr).toMatch(/warn .*the device offers 2 queue pairs, not 3/);
    expect(frontend.stderr).toMatch(/warn .*--llq: this NIC has no device memory/);
    // Without a capture the signal ends nothing.
    for (const child of [device, frontend]) {
      child.signal("SIGUSR2");
      await child.waitFor(/warn .*SIGUSR2: nothing to begin or end without --capture/);
      expect(child.exit).toBeUndefined();
    }
  });

  it("a port that browsers keep clear of is one like any other", async () => {
    // 10080 is a blocked port of the Fetch standard; another process may use it.
    const device = startRingwire(["device", "--listen", "127.0.0.1:10080", "--json"]);
    await using _device = device;
    const mine = await device.waitForJson((line) => line.event === "listening").catch(() => {});
    if (mine === undefined) expect(device.stderr).toMatch(/is in use/);
    const status = await runInside(["status", "--connect", "127.0.0.1:10080"]);
    expect(status.said()).not.toContain("bad port");
    if (mine !== undefined) expect(status.exit?.code, status.said()).toBe(0);
  });

  it("fault-L9 an address that others reach warns, and works, with --insecure", async () => {
    await using device = startRingwire(["device", "--listen", "0.0.0.0:0", "--insecure", "--json"]);
    await device.waitForJson((line) => line.event === "listening");
    expect(device.stderr).toMatch(/warn .*--insecure: whoever reaches this port/);
  });

  it("IPv6 loopback needs no more than IPv4's", async () => {
    await using device = startRingwire(["device", "--listen", "[::1]:0", "--json"]);
    const { url } = await device.waitForJson<{ url: string }>((l) => l.event === "listening");
    const status = await runInside(["status", "--connect", url]);
    expect(status.exit?.code, status.said()).toBe(0);
  });
});

describe("an old Node", () => {
  // The system's own Node is too old on many machines. The compiled program must say so instead of
  // failing to load.
  const node = "/usr/bin/node";
  const program = join(ROOT, "dist/cli/ringwire.js");
  const version = existsSync(node)
    ? spawnSync(node, ["-p", "process.versions.node"], { encoding: "utf8" }).stdout.trim()
    : "";

  it("is told apart", () => {
    expect(tooOld("20.20.2")).toMatch(/needs Node 22\.12 or newer, and this is Node 20\.20\.2/);
    expect(tooOld("22.11.0")).toBeDefined();
    expect(tooOld("22.12.0")).toBeUndefined();
    expect(tooOld("24.0.0")).toBeUndefined();
    expect(tooOld("100.0.0-nightly")).toBeUndefined();
  });

  const compiled = process.env.RINGWIRE_TEST_FROM !== "source" && existsSync(program);
  if (version !== "" && tooOld(version) !== undefined && compiled) {
    it(`gets one sentence and exit code 1 (Node ${version})`, async () => {
      const child = await run([node, program, "device"]);
      expect(child.exit).toEqual({ code: 1, signal: null });
      expect(child.stderr.trimEnd()).toBe(tooOld(version));
      expect(child.stdout).toBe("");
    });
  }
});
