/**
 * A lab of four hosts in network namespaces: the device on one, ENA and Xen NICs with TAPs on the
 * others, two segments, TLS and tokens. Clients and servers are those that people use. Lines are cut,
 * the device is killed, a token is revoked and the certificate is renewed under open connections.
 */
import { once } from "node:events";
import { renameSync, writeFileSync } from "node:fs";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DhcpClient } from "../support/dhclient.ts";
import { missingProgram } from "../support/installed.ts";
import { iperf, ping } from "../support/iperf.ts";
import { Lab, TAP } from "../support/lab.ts";
import { LabFiles } from "../support/lab-files.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { type Child, eventually, start } from "../support/process.ts";
import { TcpPeer } from "../support/tcp-peer.ts";

const why = whyNoNamespaces() ?? missingProgram("dhclient", "dnsmasq", "nft", "iperf3");
const OFFICE_TAP = "office0";
/** A link that is cut for this time (ms) is lost, and its TCP connections are not. */
const CUT_MS = 8000;
/** Time (ms) within which a frontend finds that nothing arrives. */
const FOUND_MS = 15_000;

const LAB = `
[[segment]]
name = "lab"
[segment.services]
address = "10.202.0.250/24"
icmp = true
dhcp = { from = "10.202.0.200", to = "10.202.0.220" }

[[segment]]
name = "office"
`;

describe.skipIf(why !== undefined)(`four hosts behind a lock${why ? `: ${why}` : ""}`, () => {
  const files = new LabFiles();
  const tokens: string[] = [];
  const clients: DhcpClient[] = [];
  let lab: Lab;
  let device: Child;
  const frontends: Child[] = [];
  let peer: TcpPeer;

  const certificate = (name: string) =>
    files.certificate(name, "--host", ...lab.hosts.map(({ underlay }) => underlay));
  const startDevice = () =>
    lab.startDevice([
      ...files.deviceTls,
      ...["--tokens", files.tokens, "--config", files.path("lab.toml")],
    ]);
  const credentials = (i: number) => [...files.ca, "--token", tokens[i]!];
  const goesOn = async (what: string): Promise<void> => {
    const before = peer.echoed;
    await eventually(
      () => `TCP to go on ${what}: ${peer.state}, ${peer.echoed - before} more\n${device.said()}`,
      () => peer.echoed > before + 20 || undefined,
      30_000,
    );
    expect(peer.state).toBe("open");
  };

  beforeAll(async () => {
    lab = new Lab(3, ["ena", "xen", "ena"]);
    lab.scheme = "wss";
    await files.certificate("ca");
    await certificate("device");
    writeFileSync(files.path("lab.toml"), LAB);
    for (const i of [0, 1, 2]) {
      tokens.push(await files.token(`client${i}`, "--names", `host${i}`, `office${i}`));
    }
    device = await startDevice();
    for (const i of [0, 1, 2]) {
      frontends.push(await lab.startFrontend(i, { args: credentials(i) }));
    }
    peer = await TcpPeer.open(lab.host(0), lab.host(1));
  }, 60_000);

  afterAll(async () => {
    peer?.close();
    for (const client of clients) await client[Symbol.asyncDispose]();
    await lab?.close();
    files[Symbol.dispose]();
  });

  it("carries TCP and UDP between ENA and Xen, both ways", async () => {
    const [from, to] = [lab.host(0).namespace, lab.host(1).namespace];
    const { address } = lab.host(1);
    for (const args of [[], ["-R"]]) {
      const { sum_received: received } = await iperf({ from, to, address, args });
      expect(received.bits_per_second).toBeGreaterThan(1e6);
    }
    const { sum } = await iperf({ from, to, address, args: ["-u", "-b", "5M"] });
    expect(sum.packets - sum.lost_packets).toBeGreaterThan(100);
  });

  it("finds neighbours by IPv6", async () => {
    for (const [i, j] of [
      [0, 1],
      [1, 2],
      [2, 0],
    ] as const) {
      const { namespace: from } = lab.host(i);
      from.ip("-6", "neigh", "flush", "dev", TAP);
      const { address6 } = lab.host(j);
      const { sent, received } = await ping({ from, address: address6, count: 5 });
      expect(received).toBe(sent);
      const mac = lab.tap(j)!.address;
      expect(from.ip("-6", "neigh", "show", address6, "dev", TAP)).toContain(`lladdr ${mac}`);
    }
  });

  it("gets addresses from the service of its segment", async () => {
    const own = [0, 1].map((i) => new DhcpClient(lab.host(i).namespace, TAP));
    clients.push(...own);
    for (const client of own) client.start();
    const leases = await Promise.all(own.map((client) => client.event("BOUND")));
    const [first, second] = leases.map((lease) => lease["address"]);
    for (const address of [first, second]) expect(address).toMatch(/^10\.202\.0\.2[012]\d$/);
    expect(first).not.toBe(second);
    for (const [i, client] of own.entries()) {
      await client.release();
      // The client has removed all addresses.
      lab.configureTap(i);
    }
  });

  it("gets addresses from a server of another host, in another segment", async () => {
    const { namespace: server } = lab.host(2);
    for (const i of [0, 1, 2]) {
      const child = lab.launchFrontend(i, {
        name: `office${i}`,
        tap: OFFICE_TAP,
        args: [...credentials(i), "--segment", "office"],
      });
      const { segment } = await child.waitForJson<{ segment: string }>(
        (line) => line["event"] === "ready",
      );
      expect(segment).toBe("office");
      lab.host(i).namespace.ip("link", "set", OFFICE_TAP, "up");
    }
    server.ip("addr", "add", "10.44.0.1/24", "dev", OFFICE_TAP);
    await using dnsmasq = start(
      [
        ...["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0"],
        ...["--user=root", "--pid-file=", "--bind-interfaces", `--interface=${OFFICE_TAP}`],
        ...["--dhcp-range=10.44.0.50,10.44.0.60,2m", `--dhcp-leasefile=${files.path("leases")}`],
        "--log-facility=-",
      ],
      { namespace: server },
    );
    await eventually("dnsmasq", () => (/DHCP, IP range/.test(dnsmasq.said()) ? true : undefined));
    const own = [0, 1].map((i) => new DhcpClient(lab.host(i).namespace, OFFICE_TAP));
    clients.push(...own);
    for (const client of own) client.start();
    const leases = await Promise.all(own.map((client) => client.event("BOUND")));
    for (const { address } of leases) expect(address).toMatch(/^10\.44\.0\.(5\d|60)$/);
    const { sent, received } = await ping({
      from: lab.host(0).namespace,
      address: leases[1]!["address"]!,
      count: 3,
    });
    expect(received).toBe(sent);
    // Neither server is heard in the other segment.
    expect(dnsmasq.said()).not.toContain("10.202.");
    for (const client of own) await client.release();
  });

  it("fault-K1 keeps TCP when the device is killed and started again", async () => {
    await goesOn("before");
    device.signal("SIGKILL");
    await device.exited;
    for (const i of [0, 1, 2]) await lab.carrier(i, false);
    device = await startDevice();
    for (const i of [0, 1, 2]) await lab.carrier(i, true);
    await goesOn("after the device is back");
  });

  it("fault-K4 keeps TCP over a line that is cut for 8 s", async () => {
    const { namespace } = lab.host(0);
    namespace.ip("link", "set", "link0", "down");
    const cut = performance.now();
    await lab.carrier(0, false);
    await eventually(
      "the time of the cut to be over",
      () => performance.now() - cut > CUT_MS || undefined,
      CUT_MS + 10_000,
    );
    namespace.ip("link", "set", "link0", "up");
    await lab.carrier(0, true);
    await goesOn("after the cut");
    expect(frontends[0]!.exit).toBeUndefined();
  });

  it.each([
    ["to the device", "input"],
    ["from the device", "output"],
  ])("fault-K4 finds a line that is cut %s only, and comes back", async (_, hook) => {
    const { underlay } = lab.host(1);
    const other = underlay.replace(/\.1$/, ".2");
    const end = hook === "input" ? "saddr" : "daddr";
    lab.device.run("nft", "add", "table", "inet", "cut");
    const chain = `add chain inet cut ${hook} { type filter hook ${hook} priority 0; }`;
    lab.device.run("nft", chain);
    lab.device.run("nft", "add", "rule", "inet", "cut", hook, "ip", end, other, "drop");
    await eventually(
      "the carrier to go",
      () => (lab.tap(1)?.flags.includes("LOWER_UP") === false ? true : undefined),
      FOUND_MS,
    );
    // The others notice nothing.
    const { sent, received } = await ping({
      from: lab.host(0).namespace,
      address: lab.host(2).address,
      count: 3,
    });
    expect(received).toBe(sent);
    lab.device.run("nft", "delete", "table", "inet", "cut");
    await lab.carrier(1, true);
    await goesOn("after the cut");
  });

  it("fault-L11 a revoked token ends its connections, and no other", async () => {
    await files.revoke("client2");
    const left = await device.waitForJson<{ name: string; reason: string }>(
      (line) => line["event"] === "left" && String(line["reason"]).includes("revoked"),
    );
    expect(left.name).toMatch(/^(host|office)2$/);
    // Its frontend ends, and its TAP with it.
    expect((await frontends[2]!.ended()).code).toBe(1);
    expect(frontends[2]!.stderr).toContain("client2: it was revoked");
    await goesOn("without the third host");
    const again = lab.launchFrontend(2, { name: "host2", tap: "other0", args: credentials(2) });
    expect((await again.ended()).code).toBe(1);
    expect(again.stderr).toMatch(/the token is not one of this device/);
  });

  it("shows a renewed certificate to those who come, and keeps those who are there", async () => {
    const serial = async (): Promise<string> => {
      const { underlay: host, namespace } = lab.host(0);
      using _inside = namespace.enter();
      const socket = connectTls({ host, port: 7700, ca: files.text("ca.pem") });
      await once(socket, "secureConnect");
      const { serialNumber } = socket.getPeerCertificate();
      socket.destroy();
      return serialNumber;
    };
    const before = await serial();
    await certificate("next");
    for (const end of [".pem", "-key.pem"]) {
      renameSync(files.path(`next${end}`), files.path(`device${end}`));
    }
    device.signal("SIGHUP");
    await eventually("the new certificate", async () => (await serial()) !== before || undefined);
    await goesOn("on connections of before");
    // The next connection uses it.
    frontends[0]!.signal("SIGTERM");
    await frontends[0]!.ended();
    const again = await lab.startFrontend(0, { args: credentials(0) });
    expect(again.exit).toBeUndefined();
    await goesOn("on a connection of after");
  });
});
