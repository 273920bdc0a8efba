/** TAPs that exist before the frontend, users without rights, and error messages. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ping } from "../support/iperf.ts";
import { Lab, TAP } from "../support/lab.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { type Child, eventually } from "../support/process.ts";
import { allPorts, type DeviceStatus } from "../support/status.ts";

const why = whyNoNamespaces();
/** The user that `unprivileged` children run as. */
const NOBODY = "65534";

describe.skipIf(why !== undefined)(`a persistent TAP of a user${why ? `: ${why}` : ""}`, () => {
  let lab: Lab;

  beforeAll(async () => {
    lab = new Lab(2);
    const { namespace } = lab.host(0);
    namespace.ip("tuntap", "add", "mode", "tap", "user", NOBODY, "name", TAP);
    lab.configureTap(0);
    await lab.startDevice();
    await lab.startFrontend(1);
  });

  afterAll(async () => {
    await lab.close();
  });

  /** Addresses that a person set on the TAP; link-local ones are the kernel's. */
  const addresses = () => {
    const text = lab.host(0).namespace.ip("-json", "addr", "show", "dev", TAP);
    const links = JSON.parse(text) as { addr_info: { local: string; scope: string }[] }[];
    return links[0]?.addr_info.filter((info) => info.scope === "global").map((info) => info.local);
  };

  const reaches = async () => {
    const { address } = lab.host(1);
    const from = lab.host(0).namespace;
    const { sent, received } = await ping({ from, address, count: 20, intervalSeconds: 0.02 });
    expect(received).toBe(sent);
  };

  it.each(["SIGKILL", "SIGTERM", "SIGINT"] as const)(
    "works without root and stays as it was after %s",
    async (signal) => {
      const before = { index: lab.tap(0)?.ifindex, addresses: addresses() };
      const frontend = lab.launchFrontend(0, { unprivileged: true });
      await lab.carrier(0, true, frontend);
      await reaches();
      expect({ index: lab.tap(0)?.ifindex, addresses: addresses() }).toEqual(before);

      frontend.signal(signal);
      const exit = await frontend.ended();
      expect(exit).toEqual(
        signal === "SIGKILL" ? { code: null, signal } : { code: 0, signal: null },
      );
      await lab.carrier(0, false);
      expect({ index: lab.tap(0)?.ifindex, addresses: addresses() }).toEqual(before);
    },
  );

  it("follows the MTU that ip gives it", async () => {
    const frontend = lab.launchFrontend(0, { unprivileged: true, args: ["--mtu", "1500"] });
    await lab.carrier(0, true, frontend);
    lab.host(0).namespace.ip("link", "set", TAP, "mtu", "1400");
    const whole = () =>
      ping({
        from: lab.host(0).namespace,
        address: lab.host(1).address,
        count: 3,
        intervalSeconds: 0.05,
        wholeBytes: 1400 - 28,
      });
    await eventually(
      "the smaller MTU to work",
      async () => (await whole()).received === 3 || undefined,
    );
    expect(lab.tap(0)?.mtu).toBe(1400);
    await frontend.stop();
  });
});

describe.skipIf(why !== undefined)(`a TAP that can't be had${why ? `: ${why}` : ""}`, () => {
  let lab: Lab;
  let owner: Child;

  beforeAll(async () => {
    lab = new Lab(2);
    await lab.startDevice();
    owner = await lab.startFrontend(0);
  });

  afterAll(async () => {
    await lab.close();
  });

  /** Waits for the end of a frontend that can't work, and checks the rules for every such end. */
  const refusal = async (frontend: Child, code = 1): Promise<string> => {
    const exit = await frontend.ended();
    expect(exit.code, frontend.said()).toBe(code);
    // The error is a sentence for a person, without a stack trace.
    expect(frontend.stderr).not.toMatch(/^\s+at /m);
    return frontend.stderr;
  };

  it("says so when the name is taken by a running frontend", async () => {
    const said = await refusal(lab.launchFrontend(0, { name: "other" }));
    expect(said).toMatch(/ring0/);
    expect(said).toMatch(/use|busy|taken/i);
    expect(owner.exit).toBeUndefined();
  });

  it("says so when the user may not create one, with the command that helps", async () => {
    const said = await refusal(lab.launchFrontend(1, { unprivileged: true }));
    expect(said).toMatch(/ip tuntap add mode tap user \S+ name ring0/);
  });

  it("says so when the name is another kind of interface", async () => {
    const said = await refusal(lab.launchFrontend(1, { tap: "link0" }));
    expect(said).toMatch(/link0/);
  });

  it("says so when the name is none", async () => {
    const said = await refusal(lab.launchFrontend(1, { tap: "a name that is too long" }), 2);
    expect(said).toMatch(/a name that is too long/);
  });

  it("says so when there is no /dev/net/tun", async () => {
    const said = await refusal(lab.launchFrontend(1, { tun: "missing" }));
    expect(said).toMatch(/\/dev\/net\/tun/);
  });

  it("leaves nothing of the failed ones on the device", async () => {
    await eventually("the failed frontends' ports to go", async () => {
      const ports = allPorts(await lab.status<DeviceStatus>());
      return ports.every((port) => port.name === "host0") || undefined;
    });
  });
});
