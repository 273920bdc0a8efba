/** Ways to find a device: without an address, by a host alone, by the name of this machine. */
import { mkdirSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Namespace, whyNoNamespaces } from "../support/netns.ts";
import { type Child, runRingwire, startRingwire } from "../support/process.ts";

const why = whyNoNamespaces();
/** `ip netns exec` replaces files of /etc by the files in this folder. */
const NETNS = "/etc/netns";
let at: Namespace;
let device: Child;
let folder = "";

beforeAll(async () => {
  if (why !== undefined) return;
  at = new Namespace("address");
  // Beyond loopback there is only IPv6, and the files know only names of 127.0.0.1.
  at.ip("link", "add", "only6", "type", "veth", "peer", "name", "peer6");
  at.ip("link", "set", "peer6", "up");
  at.ip("link", "set", "only6", "up");
  at.ip("addr", "add", "2001:db8::1/64", "dev", "only6");
  folder = `${NETNS}/${at.name}`;
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/hosts`, "127.0.0.1 localhost lab4\n2001:db8::1 lab6\n");
  writeFileSync(`${folder}/resolv.conf`, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
  device = startRingwire(["device", "--allow-host", "lab4", "--json"], { namespace: at });
  await device.waitForJson((line) => line["event"] === "listening");
});

afterAll(async () => {
  if (why !== undefined) return;
  await device?.stop();
  at?.destroy();
  try {
    rmSync(folder, { recursive: true });
    rmdirSync(NETNS);
  } catch {
    // The folder holds files that are not ours.
  }
});

const inside = (...args: string[]): Child => startRingwire(args, { namespace: at });

async function expectDone(...args: string[]): Promise<Child> {
  const child = await runRingwire(args, { namespace: at });
  expect(child.exit, child.said()).toEqual({ code: 0, signal: null });
  return child;
}

describe.skipIf(why !== undefined)(`a device found${why ? ` (${why})` : ""}`, () => {
  it("ux-S3 without --connect every command means the device of this machine", async () => {
    await using nic = inside("frontend", "--json");
    const { name } = await nic.waitForJson<{ name: string }>((line) => line["event"] === "ready");
    await using capture = inside("capture", "-c", "1", "--json");
    await capture.waitFor(/has begun/);
    await expectDone("pkt-gen", "-i", "netmap:ena7", "-f", "tx", "-n", "1");
    expect((await capture.ended()).code).toBe(0);
    const status = await expectDone("status", "--json");
    expect(status.stdout).toContain(`"${name}"`);
    const moved = await runRingwire(["migrate", "nobody", "--to", "lab6"], { namespace: at });
    expect(moved.stderr).toMatch(/nobody/);
    expect(moved.stderr).not.toMatch(/nothing listens/);
    for (const app of [
      ["lb", "-i", "netmap:ena8"],
      ["bridge", "-Li", "netmap:ena9"],
    ]) {
      await using running = inside(...app, "--json");
      await running.waitForJson((line) => line["event"] === "ready");
    }
  });

  it.each(["127.0.0.1", "ws://127.0.0.1", "http://127.0.0.1/", "localhost"])(
    "ux-S1 --connect %s means port 7700",
    async (connect) => {
      await expectDone("status", "--connect", connect);
      await using nic = inside("frontend", "--connect", connect, "--name", "s1", "--json");
      await nic.waitForJson((line) => line["event"] === "ready");
    },
  );

  it.each([["::1"], ["lab6"], ["2001:db8::1", "--insecure"]])(
    "ux-S1 --listen %s means port 7700",
    async (listen, ...more) => {
      await using other = inside("device", "--listen", listen, ...more, "--json");
      if (listen === "lab6") {
        // Other hosts can reach this address, and the error writes it as --listen does.
        expect((await other.ended()).code).toBe(2);
        expect(other.stderr).toContain("--listen lab6:7700 can be reached from other hosts");
        return;
      }
      const { url } = await other.waitForJson<{ url: string }>((l) => l["event"] === "listening");
      expect(url).toBe(`ws://[${listen}]:7700`);
      await expectDone("status", "--connect", listen);
      await expectDone("status", "--connect", `[${listen}]`);
      await using nic = inside("frontend", "--connect", listen, "--json");
      await nic.waitForJson((line) => line["event"] === "ready");
    },
  );

  it.each(["localhost:7700", "LocalHost:7700", "lab.localhost:7700", "lab4:7700"])(
    "case-W7 %s is known where only IPv6 is configured beyond loopback",
    async (connect) => {
      await expectDone("status", "--connect", connect);
      await expectDone("status", "--connect", `http://${connect}`);
      await using nic = inside("frontend", "--connect", connect, "--name", "w7", "--json");
      await nic.waitForJson((line) => line["event"] === "ready");
      await using capture = inside("capture", "--connect", connect, "-c", "1");
      await capture.waitFor(/has begun/);
    },
  );

  it.each(["localhost:0", "a.localhost:0", "lab4:0"])("case-W7 --listen %s", async (listen) => {
    await using other = inside("device", "--listen", listen, "--json");
    const { url } = await other.waitForJson<{ url: string }>((l) => l["event"] === "listening");
    expect(url).toMatch(/^ws:\/\/127\.0\.0\.1:\d+$/);
  });

  it("case-W7 a name that nobody knows is still an error", async () => {
    const child = await runRingwire(["status", "--connect", "nobody.invalid"], { namespace: at });
    expect(child.exit?.code).toBe(1);
    expect(child.stderr).toMatch(/the name in nobody\.invalid:7700 is not known/);
  });

  it("ux-C4 an address is quoted back as it is written", async () => {
    await using first = inside("device", "--listen", "[::1]:7702", "--json");
    await first.waitForJson((line) => line["event"] === "listening");
    const second = await runRingwire(["device", "--listen", "[::1]:7702"], { namespace: at });
    expect(second.exit?.code).toBe(1);
    expect(second.stderr).toMatch(/^ringwire: \[::1\]:7702 is in use/m);
  });
});
