/** A persistent TAP that an earlier program used: what it left there must not concern us. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ping } from "../support/iperf.ts";
import { Lab, TAP } from "../support/lab.ts";
import { type Namespace, whyNoNamespaces } from "../support/netns.ts";
import { startScript } from "../support/process.ts";

const why = whyNoNamespaces();
const UPLINK = "lab0";
const ADDRESS = "10.202.0.200";

async function leave(namespace: Namespace, tap: string, what: string, ...look: string[]) {
  const program = startScript("test/support/tap-leftovers-worker.ts", [tap, what, ...look], {
    namespace,
  });
  expect(await program.ended(), program.said()).toEqual({ code: 0, signal: null });
  return program.stdout;
}

describe.skipIf(why !== undefined)(`a persistent TAP with a past${why ? `: ${why}` : ""}`, () => {
  let lab: Lab;

  beforeEach(() => {
    lab = new Lab(2);
  });

  afterEach(async () => {
    await lab.close();
  });

  it.each(["tx-filter", "classic-bpf", "ebpf"])(
    "case-W11 %s of an earlier program stops no frame: frontend and uplink",
    async (what) => {
      const { namespace } = lab.host(0);
      namespace.ip("tuntap", "add", "mode", "tap", "name", TAP);
      await leave(namespace, TAP, what);
      lab.device.ip("tuntap", "add", "mode", "tap", "name", UPLINK);
      await leave(lab.device, UPLINK, what);

      const device = await lab.startDevice(["--uplink", `tap:${UPLINK}`]);
      lab.device.ip("link", "set", UPLINK, "up");
      lab.device.ip("addr", "add", `${ADDRESS}/24`, "dev", UPLINK);
      lab.configureTap(0);
      await lab.carrier(0, true, await lab.startFrontend(0));
      await lab.startFrontend(1);
      const reached = async (from: Namespace, address: string) => {
        const { sent, received } = await ping({ from, address, count: 5, intervalSeconds: 0.05 });
        expect(received, device.said()).toBe(sent);
      };
      await reached(namespace, lab.host(1).address);
      await reached(lab.device, lab.host(1).address);
    },
  );

  it.each(["send-buffer", "link-type"])("case-W11 %s is that of a new TAP", async (what) => {
    const { namespace } = lab.host(0);
    namespace.ip("tuntap", "add", "mode", "tap", "name", TAP);
    const found = JSON.parse(await leave(namespace, TAP, what, "look"));
    expect(found).toEqual({ sendBuffer: 0x7fff_ffff, linkType: 1 });
  });

  it("case-W11 a link type that can't be set back is a sentence", async () => {
    const { namespace } = lab.host(0);
    namespace.ip("tuntap", "add", "mode", "tap", "name", TAP);
    await leave(namespace, TAP, "link-type");
    // The kernel changes the type of no interface that is up.
    namespace.ip("link", "set", TAP, "up");
    await lab.startDevice();
    const frontend = lab.launchFrontend(0);
    expect(await frontend.ended()).toEqual({ code: 1, signal: null });
    expect(frontend.stderr).toMatch(/ring0 to a link type that is not Ethernet: make it anew/);
  });
});
