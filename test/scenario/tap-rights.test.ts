/** Persistent TAPs, users without rights, and every reason for which a TAP can't be opened. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Namespace, whyNoNamespaces } from "../support/netns.ts";
import {
  type Child,
  type Exit,
  NODE,
  ROOT,
  type StartOptions,
  start as startProgram,
} from "../support/process.ts";

const why = whyNoNamespaces();
const describeKernel = describe.skipIf(why !== undefined);
const suffix = why === undefined ? "" : `: ${why}`;

const CHILD = join(ROOT, "test/support/tap-child-worker.ts");
const NOBODY = "65534";
const MAC = [2, 0, 0, 0, 0, 0xc];
const MAC_TEXT = "02:00:00:00:00:0c";

interface Said {
  readonly opened?: { existing: boolean; mtu: number; up: boolean; mac: number[] };
  readonly refused?: { code: string; message: string };
  readonly warnings?: string[];
}

let ns: Namespace;
const children: Child[] = [];

beforeEach(() => {
  if (why === undefined) ns = new Namespace("rights");
});

afterEach(() => {
  for (const child of children.splice(0)) child.signal("SIGKILL");
  ns?.destroy();
});

/** How the child starts; by default with the Node and the rights of the test. */
type Start = Pick<StartOptions, "unprivileged" | "tun"> & { readonly command?: readonly string[] };

const USER: Start = { unprivileged: true };

/** A child in the namespace, with a /dev/net of its own. */
function start(wish: object, { command = [NODE, CHILD], ...options }: Start = {}): Child {
  const child = startProgram([...command, JSON.stringify(wish)], {
    namespace: ns,
    tun: "open",
    ...options,
  });
  children.push(child);
  return child;
}

const saidBy = (child: Child): Promise<Said> => child.waitForJson<Said>(() => true);

/** Writes a last word and waits for the end. */
function end(child: Child, word: string): Promise<Exit> {
  child.stdin.end(word);
  return child.ended();
}

const refusalOf = async (wish: object, options?: Start) => {
  const child = start(wish, options);
  const { refused } = await saidBy(child);
  // After a refused opening, nothing keeps the process alive.
  expect(await end(child, "")).toEqual({ code: 0, signal: null });
  return refused;
};

const linkNames = (): string[] =>
  (JSON.parse(ns.run("ip", "-json", "link")) as { ifname: string }[]).map((link) => link.ifname);

const shown = (): string => ns.run("ip", "-d", "addr", "show", "dev", "rw0");

describeKernel(`a persistent TAP${suffix}`, () => {
  const persistent = (...more: string[]) => {
    ns.run("ip", "tuntap", "add", "mode", "tap", "name", "rw0", ...more);
    ns.run("ip", "addr", "add", "10.201.8.1/24", "dev", "rw0");
    ns.run("ip", "link", "set", "rw0", "up");
  };

  test.each([[[]], [["vnet_hdr"]], [["multi_queue"]], [["multi_queue", "vnet_hdr", "one_queue"]]])(
    "made with flags %j is opened and stays, with its addresses",
    async (flags) => {
      persistent("user", NOBODY, ...flags);
      const child = start({ name: "rw0" }, USER);
      expect((await saidBy(child)).opened).toMatchObject({ existing: true, mtu: 1500, up: true });
      expect(await end(child, "close")).toEqual({ code: 0, signal: null });
      expect(shown()).toContain("10.201.8.1/24");
      expect(shown()).toContain("NO-CARRIER");
    },
  );

  test("stays with its addresses after kill -9, and is opened again", async () => {
    persistent("user", NOBODY);
    const first = start({ name: "rw0" }, USER);
    expect((await saidBy(first)).opened?.existing).toBe(true);
    // The shell and setpriv have executed the child in their own process.
    first.signal("SIGKILL");
    expect(await first.ended()).toEqual({ code: null, signal: "SIGKILL" });
    expect(shown()).toContain("10.201.8.1/24");
    const second = start({ name: "rw0" }, USER);
    expect((await saidBy(second)).opened?.existing).toBe(true);
    await end(second, "close");
  });

  test("its owner sets the MAC without root", async () => {
    persistent("user", NOBODY);
    const child = start({ name: "rw0", mac: MAC }, USER);
    expect((await saidBy(child)).opened?.mac).toEqual(MAC);
    expect(shown()).toContain(MAC_TEXT);
    await end(child, "close");
    expect(shown()).toContain("10.201.8.1/24");
  });

  test("an MTU that its owner may not set is told with the command that works", async () => {
    persistent("user", NOBODY);
    const child = start({ name: "rw0", mtu: 9000 }, USER);
    const { opened, warnings } = await saidBy(child);
    expect(opened?.mtu).toBe(1500);
    expect(warnings?.join()).toContain("sudo ip link set dev rw0 mtu 9000");
    await end(child, "close");
  });

  test("root sets MAC and MTU of an existing one", async () => {
    persistent();
    const child = start({ name: "rw0", mac: MAC, mtu: 9000 });
    expect((await saidBy(child)).opened).toMatchObject({ existing: true, mtu: 9000, mac: MAC });
    await end(child, "close");
  });

  test("one that is down stays down: its owner brings it up", async () => {
    persistent();
    ns.run("ip", "link", "set", "rw0", "down");
    const child = start({ name: "rw0" });
    expect((await saidBy(child)).opened?.up).toBe(false);
    await end(child, "close");
  });

  test("another user's is refused with what to do", async () => {
    persistent("user", "1234");
    const refused = await refusalOf({ name: "rw0" }, USER);
    expect(refused?.code).toBe("TAP_NO_PERMISSION");
    expect(refused?.message).toContain("belongs to another user");
    expect(refused?.message).toContain("ip tuntap add mode tap user nobody name rw0");
  });
});

describeKernel(`a TAP that can't be had${suffix}`, () => {
  test("creating one without root names the line for root", async () => {
    const refused = await refusalOf({ name: "rw0" }, USER);
    expect(refused?.code).toBe("TAP_NO_PERMISSION");
    expect(refused?.message).toContain('"sudo ip tuntap add mode tap user nobody name rw0"');
  });

  test("a closed /dev/net/tun is told as such", async () => {
    const refused = await refusalOf({ name: "rw0" }, { unprivileged: true, tun: "closed" });
    expect(refused?.code).toBe("TAP_NO_PERMISSION");
    expect(refused?.message).toContain("chmod 0666 /dev/net/tun");
  });

  test("a missing /dev/net/tun names the module and the container's option", async () => {
    const refused = await refusalOf({ name: "rw0" }, { tun: "missing" });
    expect(refused?.code).toBe("TAP_NO_DEVICE");
    expect(refused?.message).toContain("modprobe tun");
    expect(refused?.message).toContain("--device /dev/net/tun");
  });

  test("a name that another process uses", async () => {
    const owner = start({ name: "rw0" });
    expect((await saidBy(owner)).opened?.existing).toBe(false);
    const refused = await refusalOf({ name: "rw0" });
    expect(refused?.code).toBe("TAP_BUSY");
    await end(owner, "close");
    expect(linkNames()).toEqual(["lo"]);
  });

  test.each([
    ["a bridge", ["ip", "link", "add", "rw0", "type", "bridge"]],
    ["a veth", ["ip", "link", "add", "rw0", "type", "veth", "peer", "rw1"]],
    ["a TUN, not a TAP", ["ip", "tuntap", "add", "mode", "tun", "name", "rw0"]],
  ])("a name that belongs to %s", async (_what, [command = "", ...args]) => {
    ns.run(command, ...args);
    for (const unprivileged of [false, true]) {
      const refused = await refusalOf({ name: "rw0" }, { unprivileged });
      expect(refused?.code).toBe("TAP_WRONG_KIND");
    }
    expect(linkNames()).toContain("rw0");
  });

  test("a MAC that is a group address leaves no interface behind", async () => {
    const refused = await refusalOf({ name: "rw0", mac: [1, 0, 0, 0, 0, 1] });
    expect(refused?.code).toBe("TAP_BAD_MAC");
    expect(linkNames()).toEqual(["lo"]);
  });

  test("an MTU out of range leaves no interface behind", async () => {
    const refused = await refusalOf({ name: "rw0", mtu: 70_000 });
    expect(refused?.code).toBe("TAP_BAD_MTU");
    expect(linkNames()).toEqual(["lo"]);
  });
});

describeKernel(`the end of a process with a TAP it made${suffix}`, () => {
  test.each([
    ["closes it", "close", { code: 0, signal: null }],
    ["calls process.exit", "exit", { code: 3, signal: null }],
    ["dies of an exception", "throw", { code: 1, signal: null }],
  ])("%s: ends promptly, and the interface is gone", async (_name, word, expected) => {
    const child = start({ name: "rw0" });
    expect((await saidBy(child)).opened?.existing).toBe(false);
    expect(linkNames()).toEqual(["lo", "rw0"]);
    expect(await end(child, word)).toEqual(expected);
    expect(linkNames()).toEqual(["lo"]);
  });

  test.each(["SIGINT", "SIGTERM", "SIGKILL"] as const)("by %s: gone", async (signal) => {
    const child = start({ name: "rw0" });
    await saidBy(child);
    child.signal(signal);
    expect(await child.ended()).toEqual({ code: null, signal });
    expect(linkNames()).toEqual(["lo"]);
  });
});

describeKernel(`a TAP opens however the program is run${suffix}`, () => {
  let compiled = "";

  beforeAll(() => {
    compiled = mkdtempSync(join(tmpdir(), "ringwire-tap-"));
    const config = {
      extends: join(ROOT, "tsconfig.build.json"),
      compilerOptions: {
        rootDir: ROOT,
        outDir: compiled,
        typeRoots: [join(ROOT, "node_modules/@types")],
      },
      include: [],
      files: ["tap/tap.ts", "reactor/wait-worker.ts"].map((file) => join(ROOT, "shared", file)),
    };
    writeFileSync(join(compiled, "tsconfig.json"), JSON.stringify(config));
    writeFileSync(join(compiled, "package.json"), JSON.stringify({ type: "module" }));
    symlinkSync(join(ROOT, "node_modules"), join(compiled, "node_modules"));
    const tsc = join(ROOT, "node_modules/.bin/tsc");
    const result = spawnSync(tsc, ["-p", compiled], { encoding: "utf8" });
    if (result.status !== 0) throw new Error(result.stdout);
  });

  afterAll(() => {
    if (compiled !== "") rmSync(compiled, { recursive: true });
  });

  test.each([
    ["sources, by Node", () => ({ wish: {}, command: [NODE, CHILD] })],
    ["sources, by tsx", () => ({ wish: {}, command: [NODE, "--import", "tsx", CHILD] })],
    [
      "compiled",
      () => ({
        wish: { from: join(compiled, "shared/tap/tap.js") },
        command: [NODE, CHILD],
      }),
    ],
  ])("%s", async (_name, how) => {
    const { wish, command } = how();
    const child = start({ name: "rw0", ...wish }, { command });
    expect((await saidBy(child)).opened).toMatchObject({ existing: false, up: true });
    expect(await end(child, "close")).toEqual({ code: 0, signal: null });
    expect(child.stderr).toBe("");
  });
});
