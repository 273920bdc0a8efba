/** Persistent TAPs, users without rights, and every way in which a TAP can't be had. */
import { type ChildProcess, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { noNamespaces, ThreadNetns } from "../support/thread-netns.ts";

const why = noNamespaces();
const describeKernel = describe.skipIf(why !== undefined);
const suffix = why === undefined ? "" : `: ${why}`;

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const CHILD = join(ROOT, "test/support/tap-child-worker.ts");
const NOBODY = "65534";
const MAC = [2, 0, 0, 0, 0, 0xc];
const MAC_TEXT = "02:00:00:00:00:0c";

interface Said {
  readonly opened?: { existing: boolean; mtu: number; up: boolean; mac: number[] };
  readonly refused?: { code: string; message: string };
  readonly warnings?: string[];
}

let ns: ThreadNetns;
const children: ChildProcess[] = [];

beforeEach(() => {
  if (why === undefined) ns = ThreadNetns.make();
});

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  ns?.[Symbol.dispose]();
});

interface Start {
  /** Runs as a user without any right. */
  readonly user?: boolean;
  /** /dev/net/tun: as most systems have it, closed to users, or not there. */
  readonly tun?: "open" | "closed" | "missing";
  readonly command?: readonly string[];
}

/** A child in the namespace, with a /dev/net of its own. */
function start(wish: object, { user = false, tun = "open", command = [] }: Start = {}) {
  const mode = tun === "open" ? "666" : "600";
  const device = `mknod -m ${mode} /dev/net/tun c 10 200`;
  const script = [
    "mount -t tmpfs tmpfs /dev/net",
    ...(tun === "missing" ? [] : [device]),
    'exec "$@"',
  ].join(" && ");
  const program = command.length > 0 ? command : [process.execPath, CHILD];
  const drop = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
  const argv = [...(user ? drop : []), ...program, JSON.stringify(wish)];
  const child = ns.start("unshare", "-m", "sh", "-c", script, "sh", ...argv);
  children.push(child);
  let problems = "";
  child.stderr.on("data", (piece) => {
    problems += piece;
  });
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) =>
    child.once("exit", (code, signal) => resolve({ code, signal })),
  );
  const said = new Promise<Said>((resolve, reject) => {
    createInterface(child.stdout).once("line", (line) => resolve(JSON.parse(line) as Said));
    child.once("close", () => reject(new Error(`the child said nothing: ${problems}`)));
  });
  const end = (word: string) => {
    child.stdin.end(word);
    return ended;
  };
  return { child, said, ended, end, problems: () => problems };
}

const refusalOf = async (wish: object, options?: Start) => {
  const child = start(wish, options);
  const { refused } = await child.said;
  // A refused opening leaves nothing behind that keeps the process.
  expect(await child.end("")).toEqual({ code: 0, signal: null });
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
      const child = start({ name: "rw0" }, { user: true });
      expect((await child.said).opened).toMatchObject({ existing: true, mtu: 1500, up: true });
      expect(await child.end("close")).toEqual({ code: 0, signal: null });
      expect(shown()).toContain("10.201.8.1/24");
      expect(shown()).toContain("NO-CARRIER");
    },
  );

  test("stays with its addresses after kill -9, and is opened again", async () => {
    persistent("user", NOBODY);
    const first = start({ name: "rw0" }, { user: true });
    expect((await first.said).opened?.existing).toBe(true);
    // The shell and setpriv have become the child itself.
    first.child.kill("SIGKILL");
    expect(await first.ended).toEqual({ code: null, signal: "SIGKILL" });
    expect(shown()).toContain("10.201.8.1/24");
    const second = start({ name: "rw0" }, { user: true });
    expect((await second.said).opened?.existing).toBe(true);
    await second.end("close");
  });

  test("its owner sets the MAC without root", async () => {
    persistent("user", NOBODY);
    const child = start({ name: "rw0", mac: MAC }, { user: true });
    expect((await child.said).opened?.mac).toEqual(MAC);
    expect(shown()).toContain(MAC_TEXT);
    await child.end("close");
    expect(shown()).toContain("10.201.8.1/24");
  });

  test("an MTU that its owner may not set is told with the command that works", async () => {
    persistent("user", NOBODY);
    const child = start({ name: "rw0", mtu: 9000 }, { user: true });
    const { opened, warnings } = await child.said;
    expect(opened?.mtu).toBe(1500);
    expect(warnings?.join()).toContain("sudo ip link set dev rw0 mtu 9000");
    await child.end("close");
  });

  test("root sets MAC and MTU of an existing one", async () => {
    persistent();
    const child = start({ name: "rw0", mac: MAC, mtu: 9000 });
    expect((await child.said).opened).toMatchObject({ existing: true, mtu: 9000, mac: MAC });
    await child.end("close");
  });

  test("one that is down stays down: its owner brings it up", async () => {
    persistent();
    ns.run("ip", "link", "set", "rw0", "down");
    const child = start({ name: "rw0" });
    expect((await child.said).opened?.up).toBe(false);
    await child.end("close");
  });

  test("another user's is refused with what to do", async () => {
    persistent("user", "1234");
    const refused = await refusalOf({ name: "rw0" }, { user: true });
    expect(refused?.code).toBe("TAP_NO_PERMISSION");
    expect(refused?.message).toContain("belongs to another user");
    expect(refused?.message).toContain("ip tuntap add mode tap user nobody name rw0");
  });
});

describeKernel(`a TAP that can't be had${suffix}`, () => {
  test("creating one without root names the line for root", async () => {
    const refused = await refusalOf({ name: "rw0" }, { user: true });
    expect(refused?.code).toBe("TAP_NO_PERMISSION");
    expect(refused?.message).toContain('"sudo ip tuntap add mode tap user nobody name rw0"');
  });

  test("a closed /dev/net/tun is told as such", async () => {
    const refused = await refusalOf({ name: "rw0" }, { user: true, tun: "closed" });
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
    expect((await owner.said).opened?.existing).toBe(false);
    const refused = await refusalOf({ name: "rw0" });
    expect(refused?.code).toBe("TAP_BUSY");
    await owner.end("close");
    expect(linkNames()).toEqual(["lo"]);
  });

  test.each([
    ["a bridge", ["ip", "link", "add", "rw0", "type", "bridge"]],
    ["a veth", ["ip", "link", "add", "rw0", "type", "veth", "peer", "rw1"]],
    ["a TUN, not a TAP", ["ip", "tuntap", "add", "mode", "tun", "name", "rw0"]],
  ])("a name that belongs to %s", async (_what, [command = "", ...args]) => {
    ns.run(command, ...args);
    for (const user of [false, true]) {
      const refused = await refusalOf({ name: "rw0" }, { user });
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
    expect((await child.said).opened?.existing).toBe(false);
    expect(linkNames()).toEqual(["lo", "rw0"]);
    expect(await child.end(word)).toEqual(expected);
    expect(linkNames()).toEqual(["lo"]);
  });

  test.each(["SIGINT", "SIGTERM", "SIGKILL"] as const)("by %s: gone", async (signal) => {
    const child = start({ name: "rw0" });
    await child.said;
    child.child.kill(signal);
    expect(await child.ended).toEqual({ code: null, signal });
    expect(linkNames()).toEqual(["lo"]);
  });
});

describeKernel(`the worker starts however the program is run${suffix}`, () => {
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
      files: [join(ROOT, "shared/tap/tap.ts"), join(ROOT, "shared/tap/tap-worker.ts")],
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
    ["sources, by Node", () => ({ wish: {}, command: [process.execPath, CHILD] })],
    [
      "sources, by tsx",
      () => ({ wish: {}, command: [process.execPath, "--import", "tsx", CHILD] }),
    ],
    [
      "compiled",
      () => ({
        wish: { from: join(compiled, "shared/tap/tap.js") },
        command: [process.execPath, CHILD],
      }),
    ],
  ])("%s", async (_name, how) => {
    const { wish, command } = how();
    const child = start({ name: "rw0", ...wish }, { command });
    expect((await child.said).opened).toMatchObject({ existing: false, up: true });
    expect(await child.end("close")).toEqual({ code: 0, signal: null });
    expect(child.problems()).toBe("");
  });
});
