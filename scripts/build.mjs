// Compiles the program to dist/. A script, not a line of shell, so that it works on Windows too.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, rmSync } from "node:fs";

process.chdir(new URL("..", import.meta.url).pathname.replace(/^\/([A-Za-z]:)/, "$1"));
rmSync("dist", { recursive: true, force: true });

const tsc = "node_modules/typescript/bin/tsc";
const { status } = spawnSync(process.execPath, [tsc, "-p", "tsconfig.build.json"], {
  stdio: "inherit",
});
if (status !== 0) process.exit(status ?? 1);

const bin = "dist/cli/ringwire.js";
if (existsSync(bin)) chmodSync(bin, 0o755);

// For Wireshark as they are: the dissector, the program for its extcap folder, and its help page.
const wireshark = "shared/capture/wireshark";
cpSync(wireshark, `dist/${wireshark}`, {
  recursive: true,
  filter: (path) => !/\.[a-z]+$/.test(path) || /\.(lua|md)$/.test(path),
});
chmodSync(`dist/${wireshark}/ringwire-extcap`, 0o755);
