/** The lab of examples/class.toml: twenty NICs, killed parts, and what is left of it. */
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Machine } from "../support/machine.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { eventually, ROOT } from "../support/process.ts";
import { slow } from "../support/slowness.ts";

const why = whyNoNamespaces();
const NICS = 20;

interface Status {
  readonly ok: boolean;
  readonly parts: readonly { readonly part: string; readonly state: string }[];
}

describe.skipIf(why !== undefined)(`a class of twenty${why ? `: ${why}` : ""}`, () => {
  let machine: Machine;
  const folder = mkdtempSync(join(tmpdir(), "ringwire-class-"));
  const file = join(folder, "class.toml");
  copyFileSync(join(ROOT, "examples/class.toml"), file);

  beforeAll(async () => {
    machine = await Machine.start();
  });
  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  const lab = (action: string, code = 0) => machine.done(["lab", action, file, "--json"], code);
  const eventsOf = async (action: string, code = 0): Promise<Record<string, unknown>[]> =>
    (await lab(action, code)).stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  const last = async (action: string) => (await eventsOf(action)).at(-1);
  const status = async (code = 0): Promise<Status> =>
    (await eventsOf("status", code))[0] as unknown as Status;
  const stateOf = ({ parts }: Status, name: string) =>
    parts.find(({ part }) => part === name)?.state;

  it("is up when each NIC sees all others", async () => {
    const up = await last("up");
    expect(up).toMatchObject({
      ...{ event: "up", lab: "class", parts: NICS + 1, started: NICS + 1, kept: 0 },
      pairs: NICS * (NICS - 1),
    });
    // The promise is 20 s on two idle cores.
    expect(up?.["seconds"]).toBeLessThan(slow(20));
    // All at once, as a class does: every machine pings the next one.
    const pings = Array.from({ length: NICS }, (_, i) => {
      const next = ((i + 1) % NICS) + 1;
      return `ip netns exec pc${i + 1} ping -c 2 -i 0.2 -W 20 10.77.0.${next} >/dev/null || echo pc${i + 1} &`;
    });
    expect(machine.sh(`${pings.join("\n")}\nwait`)).toBe("");
    expect(machine.sh("ip netns exec pc1 ping -6 -c 1 -W 20 fd00:77::20")).toContain("1 received");
    expect((await status()).ok).toBe(true);
  });

  it("starts nothing that runs", async () => {
    expect(await eventsOf("up")).toEqual([
      expect.objectContaining({ event: "up", started: 0, ended: 0, kept: NICS + 1 }),
    ]);
  });

  it("starts again what was killed, and nothing else", async () => {
    await machine.kill("--name=pc7");
    await machine.kill("ringwire device");
    const before = await status(1);
    expect(before.ok).toBe(false);
    expect(stateOf(before, "device")).toBe("dead");
    expect(stateOf(before, "nic pc7")).toBe("dead");
    const events = await eventsOf("up");
    const started = events.filter(({ event }) => event === "started").map(({ part }) => part);
    expect(started).toEqual(["device", "nic pc7"]);
    expect(events.at(-1)).toMatchObject({ event: "up", kept: NICS - 1, pairs: NICS * (NICS - 1) });
  });

  it("leaves nothing behind", async () => {
    expect(await last("down")).toEqual({
      ...{ event: "down", lab: "class", ended: NICS + 1, namespaces: NICS },
    });
    expect(machine.leftovers).toEqual([]);
    expect(await last("down")).toMatchObject({ ended: 0, namespaces: 0 });
    expect(machine.leftovers).toEqual([]);
  });

  it("leaves nothing behind of an up that was killed in the middle", async () => {
    const up = machine.ringwire(["lab", "up", file, "--json"]);
    await up.waitForJson(({ part }) => part === "nic pc3");
    // A second one must not begin meanwhile, nor take down what the first takes up.
    const refused = await lab("down", 1);
    expect(refused.stderr).toContain("another ringwire lab is at work on this lab");
    await machine.kill(`lab up ${file}`);
    await up.ended();
    await last("down");
    expect(machine.leftovers).toEqual([]);
  });

  it("leaves nothing behind after every process was killed, and the state was lost", async () => {
    const up = machine.ringwire(["lab", "up", file, "--json"]);
    await up.waitForJson(({ part }) => part === "nic pc5");
    await machine.kill("ringwire");
    await up.ended();
    machine.sh("rm -r /run/ringwire");
    await eventually("the end of all", () => (machine.processes.length === 0 ? true : undefined));
    await last("down");
    expect(machine.leftovers).toEqual([]);
  });
});
