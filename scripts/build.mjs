// Compiles the program to dist/. A script, not a line of shell, so that it works on Windows too.
//
// dist/ may be running, so it is never changed in place: the build grows beside it, and two
// renames put it in place. A build that fails or is interrupted leaves dist/ as it was.
//
// --if-missing builds only where no dist/ is. `npm pack` uses it.
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { replaceFolder } from "./replace-folder.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const DIST = "dist";
const FRESH = `${DIST}.new-`;
const RETIRED = `${DIST}.old-`;
/** Leftovers of a killed build are removed after this time. No build takes that long. */
const STALE_MS = 3600_000;

/** A program that the build ran has failed, and has said why. */
class BuildFailure extends Error {
  constructor(status) {
    super(`exit code ${status}`);
    this.status = status;
  }
}

process.chdir(ROOT);
if (process.argv.includes("--if-missing") && existsSync(join(DIST, "cli", "ringwire.js"))) {
  process.exit(0);
}

const fresh = FRESH + randomUUID();
try {
  mkdirSync(fresh);
  sweep();
  build(fresh);
  replaceFolder(DIST, fresh, RETIRED + randomUUID());
  placeCommand();
} catch (error) {
  rmSync(fresh, { recursive: true, force: true });
  if (error instanceof BuildFailure) process.exit(error.status);
  if (error.code === undefined) throw error;
  const stays =
    error.keptAt === undefined
      ? "The dist/ that is there is unchanged."
      : `The dist/ that was there is ${error.keptAt}/ now: rename it to dist.`;
  const mayNot = ["EACCES", "EPERM", "EROFS"].includes(error.code);
  console.error(
    mayNot
      ? `ringwire can't be built: user ${userInfo().username} may not write to ${ROOT} (${error.code}). ` +
          `Build as the owner of that folder. ${stays}`
      : `ringwire can't be built: ${error.message}. ${stays}`,
  );
  process.exit(1);
}

/** Fills an empty folder with everything that dist/ holds. */
function build(out) {
  node("node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json", "--outDir", out);
  mkdirSync(`${out}/man`);
  node("scripts/man.mjs", out);
  node("scripts/bundle.mjs", out);
  chmodSync(`${out}/cli/ringwire.js`, 0o755);

  // For Wireshark as they are: the dissector, the program for its extcap folder, and its help page.
  const wireshark = "cli/wireshark/plugin";
  cpSync(wireshark, `${out}/${wireshark}`, {
    recursive: true,
    filter: (path) => !/\.[a-z]+$/.test(path) || /\.(lua|md)$/.test(path),
  });
  chmodSync(`${out}/${wireshark}/ringwire-extcap`, 0o755);
}

/**
 * The command beside the tools: node_modules/.bin/ringwire starts without npx, for every user, and
 * by the Node of this checkout. A comfort: a build is whole without it.
 */
function placeCommand() {
  if (process.platform === "win32") return;
  const script = `#!/bin/sh
bin=$(dirname "$(readlink -f "$0")")
exec "$bin/node" "$bin/../../${DIST}/cli/ringwire.js" "$@"
`;
  try {
    const path = "node_modules/.bin/ringwire";
    rmSync(path, { force: true });
    writeFileSync(path, script, { mode: 0o755 });
  } catch {
    // node_modules is somebody else's.
  }
}

/** Runs a program of node's to its end. A failure has been explained on stderr by then. */
function node(...args) {
  const { status } = spawnSync(process.execPath, args, { stdio: "inherit" });
  if (status !== 0) throw new BuildFailure(status ?? 1);
}

/** Removes what killed builds left behind. */
function sweep() {
  for (const name of readdirSync(".")) {
    if (!name.startsWith(FRESH) && !name.startsWith(RETIRED)) continue;
    const { mtimeMs } = statSync(name, { throwIfNoEntry: false }) ?? { mtimeMs: Date.now() };
    if (Date.now() - mtimeMs <= STALE_MS) continue;
    try {
      rmSync(name, { recursive: true, force: true });
    } catch {
      // It is another user's, and in nobody's way.
    }
  }
}
