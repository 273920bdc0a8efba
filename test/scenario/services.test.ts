/** Services of a segment with the clients that people use: dhclient, getent, dig, the kernel. */
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Device, openDevice } from "../../device/index.ts";
import { DhcpClient, withResolver } from "../support/dhclient.ts";
import { missingProgram } from "../support/installed.ts";
import { ping } from "../support/iperf.ts";
import { Lab, TAP } from "../support/lab.ts";
import { joinByVeth, Namespace, whyNoNamespaces } from "../support/netns.ts";
import { eventually, ROOT, run, runRingwire } from "../support/process.ts";
import type { DeviceStatus } from "../support/status.ts";

const why =
  whyNoNamespaces() ??
  missingProgram("dhclient", "dig", "getent", "ping") ??
  (existsSync("/etc/resolv.conf") ? undefined : "needs a file /etc/resolv.conf to cover");
const suffix = why === undefined ? "" : `: ${why}`;

const SERVER = "10.99.0.1";
const SERVER6 = "fd00:99::1";

/** The kernel checks its IPv6 addresses again, as it does outside of this lab. */
function detectDuplicates(namespace: Namespace): void {
  const keys = ["accept_dad=1", "dad_transmits=1"];
  namespace.run("sysctl", "-qw", ...keys.map((key) => `net.ipv6.conf.default.${key}`));
}

async function startHost(lab: Lab, i: number): Promise<void> {
  detectDuplicates(lab.host(i).namespace);
  const frontend = lab.launchFrontend(i);
  await frontend.waitForJson((line) => line["event"] === "ready");
  lab.host(i).namespace.ip("link", "set", TAP, "up");
  await lab.carrier(i, true, frontend);
}

/** All addresses of a family on the TAP, without link-local ones. */
function addressesOf(namespace: Namespace, family: "inet" | "inet6"): string[] {
  const text = namespace.ip("-json", "addr", "show", "dev", TAP);
  const [link] = JSON.parse(text) as {
    addr_info: { family: string; local: string; scope: string; tentative?: boolean }[];
  }[];
  return link!.addr_info
    .filter((info) => info.family === family && info.scope === "global" && !info.tentative)
    .map((info) => info.local);
}

/** The output of a client. The device runs in this process, so the wait for a client can't block. */
async function output(namespace: Namespace, ...argv: string[]): Promise<string> {
  return (await run(argv, { namespace })).stdout;
}

const dig = (namespace: Namespace, ...args: string[]): Promise<string> =>
  output(namespace, "dig", `@${SERVER}`, "+noall", "+answer", "+comments", ...args);

describe.skipIf(why !== undefined)(`services, two hosts with dhclient${suffix}`, () => {
  let lab: Lab;
  let device: Device;
  let clients: DhcpClient[];
  const folder = mkdtempSync(join(tmpdir(), "ringwire-services-"));
  const resolvConf = join(folder, "resolv.conf");

  const services = () => device.status().segments[0]!.services!;
  const withNames = (i: number, ...argv: string[]): Promise<string> =>
    output(lab.host(i).namespace, ...withResolver(resolvConf, argv));

  beforeAll(async () => {
    lab = new Lab(2, ["ena", "xen"]);
    using _inside = lab.device.enter();
    device = await openDevice({
      listen: { host: "0.0.0.0", port: 7700 },
      segments: {
        services: {
          address: `${SERVER}/24`,
          address6: `${SERVER6}/64`,
          icmp: true,
          dhcp: {
            from: "10.99.0.100",
            to: "10.99.0.110",
            lease: 10,
            reserve: { host1: "10.99.0.5" },
          },
          dns: { domain: "lab" },
          ra: true,
        },
      },
    });
    writeFileSync(resolvConf, `nameserver ${SERVER}\nsearch lab\n`);
    await Promise.all([startHost(lab, 0), startHost(lab, 1)]);
    clients = [0, 1].map((i) => new DhcpClient(lab.host(i).namespace, TAP));
  });

  afterAll(async () => {
    for (const client of clients ?? []) await client[Symbol.asyncDispose]();
    await device?.close();
    await lab?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it("give each client a lease of its own, and a NIC its reservation", async () => {
    for (const client of clients) client.start();
    const [first, second] = await Promise.all(clients.map((client) => client.event("BOUND")));
    expect(first).toMatchObject({
      address: expect.stringMatching(/^10\.99\.0\.1(0\d|10)$/),
      mask: "255.255.255.0",
      lease: "10",
      servers: SERVER,
      domain: "lab",
      host: "host0",
      routers: "",
    });
    expect(second).toMatchObject({ address: "10.99.0.5", host: "host1" });
    expect(services().dhcp).toMatchObject({ pool: 11, reserved: 1, leases: 2 });
    const names = services().dhcp!.list.map(({ nic, state }) => `${nic} ${state}`);
    expect(names.sort()).toEqual(["host0 bound", "host1 bound"]);
  });

  it("renew a lease for the same address, again and again", async () => {
    const { address } = await clients[0]!.event("BOUND");
    const renewed = await clients[0]!.event("RENEW", 2);
    expect(renewed).toMatchObject({ address, lease: "10" });
    const lost = clients[0]!.events().filter(({ reason }) => /EXPIRE|FAIL|NBI/.test(reason));
    expect(lost).toEqual([]);
  });

  it("answer pings of both addresses", async () => {
    for (const address of [SERVER, SERVER6]) {
      const from = lab.host(0).namespace;
      if (address === SERVER6) {
        await eventually("an IPv6 address", () => addressesOf(from, "inet6")[0]);
      }
      const { sent, received, duplicates } = await ping({ from, address, count: 5 });
      expect({ received, duplicates }, address).toEqual({ received: sent, duplicates: 0 });
    }
  });

  it("let the kernel make an address of the prefix, and name it", async () => {
    for (const i of [0, 1]) {
      const { namespace } = lab.host(i);
      const address = await eventually(
        "a global address",
        () => addressesOf(namespace, "inet6")[0],
      );
      expect(address).toMatch(/^fd00:99::/);
      const found = await eventually(`host${i} with an IPv6 address`, async () => {
        const text = await dig(namespace, `host${i}.lab`, "AAAA");
        return text.includes(address) || undefined;
      });
      expect(found).toBe(true);
      expect(await dig(namespace, "-x", address)).toContain(`host${i}.lab.`);
      // The advertisement names no default router: nothing here forwards.
      expect(namespace.ip("-6", "route", "show", "default", "dev", TAP)).toBe("");
    }
  });

  it("resolve the names of NICs for getent and ping", async () => {
    const { address } = await clients[0]!.event("BOUND");
    expect(await withNames(1, "getent", "ahostsv4", "host0")).toContain(address);
    expect(await withNames(1, "getent", "ahostsv4", "host0.lab")).toContain(address);
    expect(await withNames(0, "getent", "hosts", "10.99.0.5")).toMatch(
      /^10\.99\.0\.5\s+host1\.lab/,
    );
    expect(await withNames(0, "getent", "hosts", "services")).toMatch(/services\.lab/);
    expect(await withNames(0, "ping", "-4", "-c", "1", "-W", "10", "host1")).toContain(
      "1 received",
    );
    expect(await withNames(0, "ping", "-6", "-c", "1", "-W", "10", "host1")).toContain(
      "1 received",
    );
    expect(await withNames(0, "getent", "ahosts", "nobody")).toBe("");
  });

  it("answer dig with the codes of RFC 1035 and 2308", async () => {
    const { namespace } = lab.host(0);
    expect(await dig(namespace, "host1.lab", "A")).toMatch(
      /NOERROR[\s\S]*host1\.lab\.\s+30\s+IN\s+A\s+10\.99\.0\.5/,
    );
    expect(await dig(namespace, "HOST1.LAB", "TXT")).toMatch(
      /NOERROR[\s\S]*ANSWER: 0, AUTHORITY: 1/,
    );
    expect(await dig(namespace, "nobody.lab")).toMatch(/NXDOMAIN[\s\S]*AUTHORITY: 1/);
    expect(await dig(namespace, "example.org")).toContain("REFUSED");
    expect(await dig(namespace, "-x", "10.99.0.77")).toContain("NXDOMAIN");
    expect(await dig(namespace, "-x", "192.0.2.1")).toContain("REFUSED");
    expect(await dig(namespace, "+noedns", "host1.lab")).not.toContain("EDNS");
  });

  it("take a lease back, and its name is gone", async () => {
    await clients[0]!.release();
    await clients[0]!.event("RELEASE");
    await eventually("the lease to end", () => services().dhcp!.leases === 1 || undefined);
    expect(await dig(lab.host(1).namespace, "host0.lab", "A")).toMatch(/NOERROR[\s\S]*ANSWER: 0/);
  });
});

describe.skipIf(why !== undefined || missingProgram("nft") !== undefined)(
  `services of --dhcp and --gateway${suffix || (missingProgram("nft") ?? "")}`,
  () => {
    let lab: Lab;
    let outside: Namespace;
    let client: DhcpClient;

    beforeAll(async () => {
      lab = new Lab(1);
      outside = new Namespace("outside");
      // The host of the device has another network. Nothing there knows a way to the segment.
      joinByVeth(
        { namespace: lab.device, device: "wan0", address: "198.51.100.1/24" },
        { namespace: outside, device: "wan0", address: "198.51.100.2/24" },
      );
      const device = await lab.startDevice(["--dhcp", `${SERVER}/24`, "--gateway", "gw0"]);
      await device.waitFor(/masquerade/);
      const commands = device.stdout
        .split("\n")
        .filter((line) => line.includes('"event":"gateway"'))
        .map((line) => (JSON.parse(line) as { command: string }).command);
      for (const command of commands) lab.device.run("sh", "-c", command);
      await startHost(lab, 0);
      client = new DhcpClient(lab.host(0).namespace, TAP);
    });

    afterAll(async () => {
      await client?.[Symbol.asyncDispose]();
      await lab?.close();
      outside?.destroy();
    });

    it("lead a client to the host's network by the printed commands", async () => {
      client.start();
      expect(await client.event("BOUND")).toMatchObject({
        address: expect.stringMatching(/^10\.99\.0\.(1[2-9]\d|2[0-4]\d|25[0-3])$/),
        lease: "3600",
        routers: "10.99.0.254",
        servers: SERVER,
      });
      const from = lab.host(0).namespace;
      for (const address of [SERVER, "10.99.0.254", "198.51.100.2"]) {
        const { sent, received } = await ping({ from, address, count: 3 });
        expect(received, address).toBe(sent);
      }
      expect(await dig(from, "gateway.lab")).toContain("10.99.0.254");
      const [segment] = (await lab.status<DeviceStatus>()).segments;
      expect(segment!.services).toMatchObject({ dhcp: { leases: 1 } });
      expect(segment!.ports.map(({ kind }) => kind).sort()).toEqual(["ena", "services", "tap"]);
    });
  },
);

/** A port of loopback that nobody used a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

describe.skipIf(why !== undefined)(`examples/services.toml${suffix}`, () => {
  it("gives three hosts addresses and names", async () => {
    await using open = new AsyncDisposableStack();
    const folder = mkdtempSync(join(tmpdir(), "ringwire-services-"));
    open.defer(() => rmSync(folder, { recursive: true, force: true }));
    // Its port, its name and its namespaces would meet those of a user's lab.
    const name = `rw${process.pid}-pc`;
    const file = join(folder, `rw${process.pid}.toml`);
    const text = readFileSync(join(ROOT, "examples/services.toml"), "utf8")
      .replaceAll("pc{n}", `${name}{n}`)
      .replaceAll("pc1", `${name}1`)
      .replace(":7721", `:${await freePort()}`);
    writeFileSync(file, text);
    open.defer(async () => {
      const down = await runRingwire(["lab", "down", file]);
      expect(down.exit, down.said()).toEqual({ code: 0, signal: null });
    });
    const up = await runRingwire(["lab", "up", file]);
    expect(up.exit, up.said()).toEqual({ code: 0, signal: null });

    const hosts = [1, 2, 3].map((n) => ({
      inside: (argv: readonly string[]) => ["ip", "netns", "exec", `${name}${n}`, ...argv],
    }));
    const clients = hosts.map((host) => open.use(new DhcpClient(host, "eth0")));
    for (const client of clients) client.start();
    const leases = await Promise.all(clients.map((client) => client.event("BOUND")));
    expect(leases[0]).toMatchObject({ address: "10.88.0.5" });
    expect(new Set(leases.map(({ address }) => address)).size).toBe(3);
    for (const [i, { address }] of leases.entries()) {
      const argv = ["dig", "+short", "@10.88.0.1", `${name}${i + 1}.lab`];
      const found = await run(hosts[(i + 1) % 3]!.inside(argv));
      expect(found.stdout.trim(), found.said()).toBe(address);
    }
  });
});
