/** npm in a checkout whose program is running, and the packed files. */
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { missingProgram } from "../support/installed.ts";
import { NODE, ROOT, run } from "../support/process.ts";

/** The files that a build reads. */
const SOURCES = [
  "cli",
  "device",
  "dist",
  "frontend",
  "scripts",
  "shared",
  ".npmrc",
  "package.json",
  "tsconfig.json",
  "tsconfig.build.json",
];
const COMMAND = "dist/cli/ringwire.js";
/** A file that only this dist/ has, because no build writes it. */
const MARK = "dist/mark";

const REPLACE = `
  const { replaceFolder } = await import(${JSON.stringify(join(ROOT, "scripts/replace-folder.mjs"))});
  replaceFolder(...process.argv.slice(1));
`;

const withoutNpm = missingProgram("npm", "npx");
const withoutUsers =
  missingProgram("setpriv") ?? (process.getuid?.() === 0 ? undefined : "(needs root)");

/** A checkout of its own, with links to the tools of this one. */
class Checkout implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "ringwire checkout-"));
  /** An empty home directory: npx was never used here. */
  readonly home = mkdtempSync(join(tmpdir(), "ringwire-home-"));

  constructor() {
    chmodSync(this.folder, 0o755);
    for (const name of SOURCES)
      cpSync(join(ROOT, name), join(this.folder, name), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(this.folder, "node_modules"));
    writeFileSync(join(this.folder, MARK), "");
  }

  /** Runs a program there, without the variables that an `npm run` above this test sets for npm. */
  run(...argv: string[]) {
    const env = {
      HOME: this.home,
      npm_config_cache: join(this.home, ".npm"),
      npm_config_offline: "true",
      npm_config_update_notifier: "false",
    };
    const there = ["env", "--unset=npm_config_loglevel", `--chdir=${this.folder}`];
    return run([...there, ...argv], { env }, 120_000);
  }

  /** All folders named dist*, and leftovers of a build. */
  get builds(): string[] {
    return readdirSync(this.folder).filter((name) => name.startsWith("dist"));
  }

  get isMarked(): boolean {
    return readdirSync(join(this.folder, "dist")).includes("mark");
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
    rmSync(this.home, { recursive: true, force: true });
  }
}

it.skipIf(withoutNpm)("ux-S4 npx in a checkout says nothing of the system's Node", async () => {
  using checkout = new Checkout();
  const path = join(checkout.folder, "package.json");
  const manifest = JSON.parse(readFileSync(path, "utf8")) as object;
  writeFileSync(path, JSON.stringify({ ...manifest, engines: { node: ">=99" } }));
  const npx = await checkout.run("npx", "ringwire", "--version");
  expect({ code: npx.exit?.code, err: npx.stderr }).toEqual({ code: 0, err: "" });
});

describe("ux-P3 a folder that is replaced", () => {
  const folder = mkdtempSync(join(tmpdir(), "ringwire-replace-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const replace = (...names: [old: string, fresh: string, retired: string]) => {
    const paths = names.map((name) => join(folder, name));
    return run([NODE, "--input-type=module", "-e", REPLACE, ...paths]);
  };

  it("is back when the new one can't get there, whatever the reason", async () => {
    mkdirSync(join(folder, "dist/old"), { recursive: true });
    const absent = await replace("dist", "no-such", "retired");
    expect(absent.stderr).toContain("ENOENT");
    expect(readdirSync(folder)).toEqual(["dist"]);
    // A folder can't move into itself.
    const inside = await replace("dist", ".", "retired");
    expect(inside.stderr).toMatch(/EBUSY|EINVAL/);
    expect(readdirSync(folder)).toEqual(["dist"]);
    expect(readdirSync(join(folder, "dist"))).toEqual(["old"]);
  });
});

describe("ux-P3 a dist that runs", () => {
  let checkout: Checkout;
  beforeEach(() => {
    checkout = new Checkout();
  });
  afterEach(() => checkout[Symbol.dispose]());

  it.skipIf(withoutNpm)("stays under npx of a new user, and under npm pack", async () => {
    let isOver = false;
    const codes = new Set<number | null | undefined>();
    const loop = async () => {
      do codes.add((await checkout.run(NODE, COMMAND, "--version")).exit?.code);
      while (!isOver);
    };
    const running = loop();
    const npx = await checkout.run("npx", "ringwire", "--version");
    const pack = await checkout.run("npm", "pack", "--dry-run");
    isOver = true;
    await running;

    expect(npx.exit?.code, npx.said()).toBe(0);
    expect(pack.exit?.code, pack.said()).toBe(0);
    expect([...codes]).toEqual([0]);
    expect(checkout.isMarked).toBe(true);
    expect(checkout.builds).toEqual(["dist"]);
  });

  it("stays when a build fails", async () => {
    writeFileSync(join(checkout.folder, "cli/ringwire.ts"), "this is no TypeScript\n");
    const build = await checkout.run(NODE, "scripts/build.mjs");

    expect(build.exit?.code).not.toBe(0);
    expect(build.stdout).toContain("cli/ringwire.ts");
    expect(checkout.isMarked).toBe(true);
    expect(checkout.builds).toEqual(["dist"]);
  });

  it("is replaced whole by builds, also by two at once", async () => {
    const build = () => checkout.run(NODE, "scripts/build.mjs");
    const both = await Promise.all([build(), build()]);

    expect(both.map(({ exit, stderr }) => ({ code: exit?.code, stderr }))).toEqual([
      { code: 0, stderr: "" },
      { code: 0, stderr: "" },
    ]);
    expect(checkout.isMarked).toBe(false);
    expect(checkout.builds).toEqual(["dist"]);
    expect((await checkout.run(NODE, COMMAND, "--version")).exit?.code).toBe(0);
  });

  it("is built where there is none, and what killed builds left is swept away after a while", async () => {
    const old = ["dist.new-killed", "dist.old-killed"].map((name) => join(checkout.folder, name));
    const young = join(checkout.folder, "dist.new-at-work");
    for (const folder of [...old, young]) mkdirSync(folder);
    const before = Date.now() / 1000 - 2 * 3600;
    for (const folder of old) utimesSync(folder, before, before);
    rmSync(join(checkout.folder, "dist"), { recursive: true });
    const build = await checkout.run(NODE, "scripts/build.mjs");

    expect({ code: build.exit?.code, err: build.stderr }).toEqual({ code: 0, err: "" });
    expect(checkout.builds.sort()).toEqual(["dist", "dist.new-at-work"]);
  });

  it.skipIf(withoutUsers)("can be used, and not be built, by who may not write there", async () => {
    const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const version = await checkout.run(...nobody, NODE, COMMAND, "--version");
    const build = await checkout.run(...nobody, NODE, "scripts/build.mjs");

    expect(version.exit?.code).toBe(0);
    expect(build.exit?.code).toBe(1);
    expect(build.stderr.split("\n")).toEqual([
      expect.stringContaining(`may not write to ${checkout.folder}`),
      "",
    ]);
    expect(checkout.isMarked).toBe(true);
  });
});

interface Manifest {
  readonly scripts: Readonly<Record<string, string>>;
  readonly bin: Readonly<Record<string, string>>;
  readonly man: readonly string[];
}

describe.skipIf(withoutNpm)("ux-S20 the package", () => {
  const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;
  let files: string[];

  beforeAll(async () => {
    const pack = await run(["npm", "pack", "--dry-run", "--json"]);
    const [packed] = JSON.parse(pack.stdout) as { files: { path: string }[] }[];
    files = packed!.files.map((file) => file.path);
  });

  it("has no script that an installation runs", () => {
    const atInstall = [
      "preinstall",
      "install",
      "postinstall",
      "preprepare",
      "prepare",
      "postprepare",
    ];
    expect(Object.keys(manifest.scripts).filter((name) => atInstall.includes(name))).toEqual([]);
    expect(files).not.toContain("binding.gyp");
  });

  it("has no source map without its sources, and no word of one", () => {
    expect(files.filter((file) => file.endsWith(".map"))).toEqual([]);
    const scripts = files.filter((file) => file.endsWith(".js"));
    const read = (file: string) => readFileSync(join(ROOT, file), "utf8");
    expect(scripts.filter((file) => read(file).includes("sourceMappingURL"))).toEqual([]);
  });

  it("has its programs, and every document that its documents link to", () => {
    expect(files).toEqual(
      expect.arrayContaining([...Object.values(manifest.bin), ...manifest.man]),
    );
    expect(files).toEqual(expect.arrayContaining(["README.md", "CHANGELOG.md", "LICENSE"]));
    const dangling: string[] = [];
    for (const page of files.filter((file) => file.endsWith(".md"))) {
      const text = readFileSync(join(ROOT, page), "utf8");
      for (const [, link] of text.matchAll(/\]\((?!\w+:|#)([^)#\s]+)/g)) {
        const target = normalize(join(dirname(page), link!));
        if (!files.includes(target)) dangling.push(`${page}: ${link}`);
      }
    }
    expect(dangling).toEqual([]);
  });
});
