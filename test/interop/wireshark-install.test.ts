/**
 * `ringwire wireshark`: the files it installs, that a real tshark finds them, and what it keeps.
 */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { RingFile } from "../support/dissector.ts";
import { EXTCAP_PROGRAM, WiresharkHome } from "../support/extcap.ts";
import { missingProgram } from "../support/installed.ts";
import { NODE, ROOT, runRingwire } from "../support/process.ts";
import { batchOf } from "../support/wire-acts.ts";

const why = missingProgram("tshark");
const COMPILED = join(ROOT, "dist/cli/ringwire.js");
const NOBODY = "127.0.0.1:1009";

const plugins = (home: WiresharkHome) => join(home.folder, "plugins");
/** Runs the command with the variable that a user of the extcap program has set. */
const wireshark = (home: WiresharkHome, ...args: string[]) =>
  runRingwire(["wireshark", "--plugins", plugins(home), "--extcap", home.extcap, ...args], {
    env: { RINGWIRE_DEVICES: NOBODY },
  });

it.skipIf(why)(
  "after --install a tshark without the shell's variables has both; --uninstall",
  async () => {
    using home = new WiresharkHome();
    const ringwire = [NODE, COMPILED, "wireshark"];
    const bare = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
    const file = join(home.folder, "rings.pcapng");
    const ring = new RingFile();
    ring.toDevice(batchOf((writer) => writer.post("window", { address: 0x1000, length: 8 })));
    writeFileSync(file, ring.bytes());
    const info = async () => {
      const read = await home.run(
        ["tshark", "-r", file, "-T", "fields", "-e", "ringwire.op"],
        bare,
      );
      return read.exit?.code === 0;
    };

    expect(await info()).toBe(false);
    const installed = await home.run([...ringwire, "--install", "--devices", NOBODY], bare);
    expect(installed.exit?.code, installed.said()).toBe(0);
    expect(installed.stdout).toContain(
      `dissector: installed: ${home.folder}/.local/lib/wireshark/`,
    );
    expect(await info()).toBe(true);
    const listed = await home.run(["tshark", "-D"], bare);
    expect(listed.stdout).toContain(
      `ringwire:switch@${NOBODY} (ringwire: nothing listens at ${NOBODY})`,
    );

    const removed = await home.run([...ringwire, "--uninstall"], bare);
    expect(removed.exit?.code, removed.said()).toBe(0);
    expect(readdirSync(home.extcap)).toEqual([]);
    expect(await info()).toBe(false);
  },
);

/** A tshark with one folder for extcap programs, as before 4.2. */
function withOneFolder(home: WiresharkHome, extcap: string): Record<string, string> {
  const bin = join(home.folder, "bin");
  mkdirSync(bin, { recursive: true });
  const lines = [`Personal Lua Plugins:\\t${plugins(home)}`, `Extcap path:\\t${extcap}`];
  const script = `#!/bin/sh\nprintf '${lines.join("\\n")}\\n'\n`;
  writeFileSync(join(bin, "tshark"), script, { mode: 0o755 });
  return { HOME: home.folder, PATH: `${bin}:${process.env["PATH"]}` };
}

it("ux-S12 says that a file leaves HOME before it does; a user reads what he will not see", async () => {
  using home = new WiresharkHome();
  using other = new WiresharkHome();
  const install = (extcap: string) =>
    runRingwire(["wireshark", "--install"], { env: withOneFolder(home, extcap) });
  const shared = await install(other.extcap);
  expect(shared.stdout.split("\n")[0], shared.said()).toBe(
    `note: this Wireshark has one folder for extcap programs, that of all users: ${other.extcap}; --extcap DIR chooses another`,
  );
  expect(existsSync(join(other.extcap, "ringwire-extcap"))).toBe(true);
  expect((await install(home.extcap)).stdout).not.toContain("note:");
  const closed = await install(join(other.folder, "nothing"));
  expect(closed.stdout.split("\n")[0], closed.said()).toMatch(
    /^note: .* only: install as root, or .*\. Until then tshark -D lists no ringwire interface$/,
  );
});

it("tells what is there; a second --install and --uninstall are no mistake", async () => {
  using home = new WiresharkHome();
  const did = async (...args: string[]) => {
    const child = await wireshark(home, "--json", ...args);
    expect(child.exit?.code, child.said()).toBe(0);
    return child.stdout
      .split("\n")
      .slice(0, -1)
      .map((line) => (JSON.parse(line) as { did: string }).did);
  };
  expect(await did()).toEqual(["not there", "not there"]);
  expect(await did("--install")).toEqual(["installed", "installed"]);
  expect(realpathSync(join(plugins(home), "ringwire"))).toBe(join(EXTCAP_PROGRAM, ".."));
  expect(lstatSync(join(home.extcap, "ringwire-extcap")).mode & 0o777).toBe(0o755);
  expect(await did("--install", "--devices", "h1:1", "h2:2")).toEqual(["installed", "installed"]);
  expect(readFileSync(join(home.extcap, "ringwire-extcap"), "utf8")).toContain("'h1:1,h2:2'");
  expect(await did()).toEqual(["is there", "is there"]);
  expect(await did("--uninstall")).toEqual(["removed", "removed"]);
  expect(await did("--uninstall")).toEqual(["not there", "not there"]);
});

it("takes a link made by hand for its own", async () => {
  using home = new WiresharkHome();
  symlinkSync(EXTCAP_PROGRAM, join(home.extcap, "ringwire-extcap"));
  const child = await wireshark(home, "--install");
  expect(child.exit?.code, child.said()).toBe(0);
  // The link is replaced; its old target is unchanged.
  expect(lstatSync(join(home.extcap, "ringwire-extcap")).isSymbolicLink()).toBe(false);
  expect(readFileSync(EXTCAP_PROGRAM, "utf8")).not.toContain("Made by");
});

it("replaces the link of an older version, whose folder had another name", async () => {
  using home = new WiresharkHome();
  const link = join(plugins(home), "ringwire");
  mkdirSync(plugins(home));
  symlinkSync("/opt/ringwire/dist/shared/capture/wireshark", link);
  const child = await wireshark(home, "--install");
  expect(child.exit?.code, child.said()).toBe(0);
  expect(readlinkSync(link)).toMatch(/wireshark\/plugin$/);
});

it.each([
  ["extcap/ringwire-extcap", /not made by ringwire/],
  ["plugins/ringwire", /not a link to a dissector/],
  ["plugins/ringwire.lua", /a copy of the dissector/],
] as const)("leaves alone what is not its own: %s", async (path, sentence) => {
  for (const flag of ["--install", "--uninstall"]) {
    using home = new WiresharkHome();
    mkdirSync(plugins(home));
    writeFileSync(join(home.folder, path), "somebody's");
    const child = await wireshark(home, flag);
    expect(child.exit?.code).toBe(1);
    expect(child.stderr).toMatch(sentence);
    expect(readFileSync(join(home.folder, path), "utf8")).toBe("somebody's");
  }
});

it.each([
  [["--install", "--uninstall"], /not both/],
  [["--devices", "h:1"], /goes with --install/],
  [["--install", "--devices", "ftp://h"], /--devices takes an address/],
] as const)("wrong usage: %j", async (args, sentence) => {
  using home = new WiresharkHome();
  const child = await wireshark(home, ...args);
  expect(child.exit?.code).toBe(2);
  expect(child.stderr).toMatch(sentence);
  expect(existsSync(plugins(home))).toBe(false);
});
