/** NICs that netmap applications share with the kernel: bridge to host rings, partial opening. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { iperf, ping } from "../support/iperf.ts";
import { Lab, TAP } from "../support/lab.ts";
import { interrupt, startApp } from "../support/netmap-app.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { type Child, ROOT } from "../support/process.ts";

const why = whyNoNamespaces();

/**
 * Starts an application with a TAP on host 0, sets the TAP's addresses and waits for its carrier.
 */
async function onHost0(lab: Lab, words: string): Promise<Child> {
  const { namespace, underlay } = lab.host(0);
  const app = await startApp(`${words} --tap ${TAP}`, `ws://${underlay}:7700`, { namespace });
  lab.configureTap(0);
  await lab.carrier(0, true, app);
  return app;
}

/** The base of a port's name selects the driver. */
const NICS = [{ nic: "ena0" }, { nic: "xn0" }] as const;

it("ux-P8 the netmap example with a TAP that README gives is this bridge", () => {
  const page = readFileSync(join(ROOT, "README.md"), "utf8");
  const netmap = page.slice(page.indexOf("\n## netmap\n"));
  const withTap = netmap
    .split("\n")
    .filter((line) => /^\s*(sudo )?npx ringwire .*--tap/.test(line));
  expect(withTap.map((line) => line.replace(/^.*ringwire | --connect.*$/g, ""))).toEqual([
    "bridge -i netmap:ena0 --tap rw0",
  ]);
});

describe.skipIf(why !== undefined).each(NICS)(
  `bridge between $nic and host rings${why ? `: ${why}` : ""}`,
  ({ nic }) => {
    let lab: Lab;
    let app: Child;

    beforeAll(async () => {
      lab = new Lab(2);
      await lab.startDevice();
      await lab.startFrontend(1);
      app = await onHost0(lab, `bridge -i netmap:${nic} -T 100`);
    });

    afterAll(async () => {
      await app.stop();
      await lab.close();
    });

    it.each([0, 1] as const)("ux-P8 carries the kernel's pings from host %i", async (i) => {
      const { namespace: from } = lab.host(i);
      const { address } = lab.host(1 - i);
      const { sent, received, duplicates } = await ping({
        from,
        address,
        count: 50,
        intervalSeconds: 0.02,
      });
      expect({ received, duplicates }).toEqual({ received: sent, duplicates: 0 });
    });

    it("carries whole packets of the full MTU", async () => {
      const { namespace: from } = lab.host(0);
      const { address } = lab.host(1);
      const { sent, received } = await ping({
        from,
        address,
        count: 5,
        intervalSeconds: 0.02,
        wholeBytes: 1472,
      });
      expect(received).toBe(sent);
    });

    it.each([0, 1] as const)("carries the kernel's TCP from host %i", async (i) => {
      const sent = await iperf({
        from: lab.host(i).namespace,
        to: lab.host(1 - i).namespace,
        address: lab.host(1 - i).address,
      });
      expect(sent.sum_received.bits_per_second).toBeGreaterThan(0);
    });

    it("copied nothing, dropped nothing, and every frame went through it", async () => {
      const { zeroCopy } = await app.waitForJson<{ zeroCopy: boolean }>((l) => l.event === "ready");
      expect(zeroCopy).toBe(true);
      const { ways } = await interrupt<{
        ways: readonly { from: string; packets: number; drops: number }[];
      }>(app);
      for (const { packets, drops } of ways) {
        expect(packets).toBeGreaterThanOrEqual(105);
        expect(drops).toBe(0);
      }
    });
  },
);

describe.skipIf(why !== undefined).each(NICS)(
  `pkt-gen on all rings of $nic${why ? `: ${why}` : ""}`,
  ({ nic }) => {
    it("has what would be the kernel's; the TAP goes with it", async () => {
      await using lab = new Lab(2);
      await lab.startDevice();
      await lab.startFrontend(1);
      const app = await onHost0(lab, `pkt-gen -i netmap:${nic} -f rx -T 100`);
      const pings = { from: lab.host(1).namespace, address: lab.host(0).address, count: 5 };
      expect((await ping({ ...pings, intervalSeconds: 0.1 })).received).toBe(0);
      // An ARP request for host 0 is a broadcast, so it arrives too.
      const { packets, errors } = await interrupt(app);
      expect(packets).toBeGreaterThan(0);
      expect(errors).toBe(0);
      expect(lab.tap(0)).toBeUndefined();
    });
  },
);

// The emulated adapter has one ring in each direction, so it can't be opened in part.
describe.skipIf(why !== undefined)(`a port opened in part${why ? `: ${why}` : ""}`, () => {
  let lab: Lab;
  let app: Child;
  /** Addresses of host 0, so different that almost no hash key sends all of them to one ring. */
  const addresses = Array.from({ length: 16 }, (_, bit) => {
    const last = (1 << bit) | 0x40_00;
    return `10.203.${last >> 8}.${last & 0xff}`;
  });

  beforeAll(async () => {
    lab = new Lab(2);
    await lab.startDevice();
    await lab.startFrontend(1);
    app = await onHost0(lab, "pkt-gen -i netmap:ena0-1/R -f rx --queues 2 -T 100");
    const [host0, host1] = [lab.host(0).namespace, lab.host(1).namespace];
    for (const host of [host0, host1])
      host.run("sysctl", "-qw", `net.ipv6.conf.${TAP}.disable_ipv6=1`);
    host1.ip("addr", "add", "10.203.0.1/16", "dev", TAP);
    const [mac0, mac1] = [host0.link(TAP)!.address, host1.link(TAP)!.address];
    const neighbour = ["dev", TAP, "nud", "permanent"];
    host0.ip("neigh", "replace", "10.203.0.1", "lladdr", mac1, ...neighbour);
    for (const address of addresses) {
      host0.ip("addr", "add", `${address}/16`, "dev", TAP);
      host1.ip("neigh", "replace", address, "lladdr", mac0, ...neighbour);
    }
  });

  afterAll(async () => {
    await app.stop();
    await lab.close();
  });

  it("leaves the other ring to the kernel: a flow belongs to one of the two", async () => {
    const { namespace: from } = lab.host(1);
    const results = await Promise.all(
      addresses.map((address) => ping({ from, address, count: 3, intervalSeconds: 0.05 })),
    );
    const answered = results.filter(({ received }) => received === 3).length;
    const taken = results.filter(({ received }) => received === 0).length;
    expect(answered + taken).toBe(addresses.length);
    expect(answered).toBeGreaterThan(0);
    expect(taken).toBeGreaterThan(0);
    const { packets } = await interrupt(app);
    expect(packets).toBeGreaterThanOrEqual(3 * taken);
  });
});
