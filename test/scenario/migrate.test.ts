/**
 * A NIC that moves between two devices while its kernel has a TCP connection open.
 *
 *   host 0 ── xen ──► device A ── TAP ──┐
 *        └┄┄┄┄┄┄┄┄┄┄► device B ── TAP ──┴ kernel bridge
 *   host 1 ── ena ──► device A
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SOAK } from "../support/counts.ts";
import { iperf, ping } from "../support/iperf.ts";
import { Lab } from "../support/lab.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { type Child, eventually, runRingwire, startRingwire } from "../support/process.ts";
import { type DeviceStatus, portsOf } from "../support/status.ts";
import { TcpPeer } from "../support/tcp-peer.ts";

const why = whyNoNamespaces();
const PORTS = [7700, 7710] as const;
const MOVES = SOAK ? 1000 : 40;
/** The counts are compared after this many moves. */
const EVERY = 10;

describe.skipIf(why !== undefined)(`a NIC that moves${why ? `: ${why}` : ""}`, () => {
  let lab: Lab;
  const devices: Child[] = [];
  let frontend: Child;
  let peer: TcpPeer;
  let inside: Disposable;

  /** The URL of device `i`, as a host reaches it. */
  const url = (i: number, host = 0): string => `ws://${lab.host(host).underlay}:${PORTS[i]}`;
  const migrate = (from: number, to: string, nic = "host0") =>
    runRingwire(
      ["migrate", nic, "--connect", `http://127.0.0.1:${PORTS[from]}`, "--to", to, "--json"],
      { namespace: lab.device },
    );
  /** A page of device `i`, as the commands fetch it, but without a process for each. */
  const page = (i: number, path: string, init?: RequestInit) =>
    fetch(`http://127.0.0.1:${PORTS[i]}${path}`, init);
  const status = async (i: number) => (await (await page(i, "/status")).json()) as DeviceStatus;
  const goesOn = async (): Promise<void> => {
    const before = peer.echoed;
    await eventually(
      () => `the connection to go on\n${frontend.said()}`,
      () => {
        expect(peer.state).toBe("open");
        return peer.echoed > before || undefined;
      },
    );
  };

  beforeAll(async () => {
    lab = new Lab(2, ["xen", "ena"]);
    lab.device.ip("link", "add", "br0", "type", "bridge");
    lab.device.ip("link", "set", "br0", "up");
    for (const [i, port] of PORTS.entries()) {
      const device = startRingwire(
        [
          ...["device", "--listen", `0.0.0.0:${port}`, "--insecure", "--json"],
          // Two segments would give one name two addresses; a NIC that moves has to keep the first.
          ...["--uplink", `tap:up${i}`, "--segment", `lan${i}`],
        ],
        { namespace: lab.device },
      );
      devices.push(device);
      await device.waitForJson((line) => line.event === "listening");
      lab.device.ip("link", "set", `up${i}`, "master", "br0");
    }
    [frontend] = await Promise.all([lab.startFrontend(0), lab.startFrontend(1)]);
    peer = await TcpPeer.open(lab.host(0), lab.host(1));
    // The devices' pages are on the loopback of their namespace.
    inside = lab.device.enter();
  });

  afterAll(async () => {
    inside?.[Symbol.dispose]();
    peer?.close();
    for (const device of devices) await device.stop();
    await lab.close();
  });

  it(`keeps its interface and its connection, ${MOVES} times under load`, async () => {
    const link = lab.tap(0);
    await goesOn();
    const load = iperf({
      from: lab.host(0).namespace,
      to: lab.host(1).namespace,
      address: lab.host(1).address,
      seconds: 5,
    });
    let first: unknown;
    for (let n = 1; n <= MOVES; n++) {
      const from = (n - 1) % 2;
      if (n <= 2) {
        const moved = await migrate(from, url(1 - from));
        expect(moved.exit?.code, moved.said()).toBe(0);
      } else {
        const moved = await page(from, "/migrate", {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ nic: "host0", to: url(1 - from) }),
        });
        expect(moved.status, await moved.text()).toBe(200);
      }
      await eventually(
        () => `host0 on device ${1 - from}\n${frontend.said()}`,
        async () => portsOf(await status(1 - from)).includes("host0") || undefined,
      );
      if (n % EVERY !== 0) continue;
      await goesOn();
      // The number of moves is even, so the NIC is back where it began.
      const counts = await eventually("quiet counts", async () => {
        const nic = (await status(0)).nics.find(({ name }) => name === "host0");
        if (nic === undefined) return undefined;
        const { memory, nic: model } = nic as unknown as {
          memory: { windows: number; windowBytes: number };
          nic: { backend: string; frontend: string };
        };
        return {
          windows: memory.windows,
          windowBytes: memory.windowBytes,
          states: [model.backend, model.frontend],
          left: (await status(1)).nics.length,
        };
      });
      first ??= counts;
      expect(counts).toEqual(first);
    }
    expect((await load).sum_received.bits_per_second).toBeGreaterThan(0);
    expect(lab.tap(0)?.ifindex).toBe(link?.ifindex);
    expect(frontend.exit).toBeUndefined();
  });

  it("pings without loss afterwards", async () => {
    const { sent, received, duplicates } = await ping({
      from: lab.host(0).namespace,
      address: lab.host(1).address,
      count: 50,
      intervalSeconds: 0.02,
    });
    expect({ received, duplicates }).toEqual({ received: sent, duplicates: 0 });
  });

  it("ux-S11 may be an ENA NIC as well: its driver resets and restores", async () => {
    const link = lab.tap(1);
    const moved = await migrate(0, url(1, 1), "host1");
    expect(moved.exit?.code, moved.said()).toBe(0);
    await eventually(
      "host1 on device 1",
      async () => portsOf(await status(1)).includes("host1") || undefined,
    );
    await goesOn();
    expect(lab.tap(1)?.ifindex).toBe(link?.ifindex);
  });

  it("goes back when nobody is where it should go", async () => {
    const moved = await migrate(MOVES % 2, `ws://${lab.host(0).underlay}:7720`);
    expect(moved.exit?.code, moved.said()).toBe(1);
    expect(moved.stdout).toContain('"outcome":"came-back"');
    await eventually(
      () => `host0 to be back\n${frontend.said()}`,
      async () => portsOf(await status(MOVES % 2)).includes("host0") || undefined,
    );
    await goesOn();
  });

  it.each([
    ["a NIC that is not there", "nobody", "ws://127.0.0.1:1", /no NIC "nobody"/],
    ["a place that is no URL", "host0", "ftp://somewhere", /--to/],
  ])("refuses %s", async (_what, nic, to, says) => {
    const refused = await migrate(MOVES % 2, to, nic);
    expect(refused.exit?.code).not.toBe(0);
    expect(refused.said()).toMatch(says);
  });
});
