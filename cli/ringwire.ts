#!/usr/bin/env node
/**
 * The `ringwire` command. It first checks the version of Node. All other modules are loaded after
 * that, because an old Node could not even parse them.
 */
import { tooOld } from "./common/node-version.ts";

const sentence = tooOld(process.versions.node);
if (sentence !== undefined) {
  process.stderr.write(`${sentence}\n`);
  process.exitCode = 1;
} else if (process.argv[2] === "extcap") {
  // Wireshark calls this command and waits for it, so it has its own fast start (see extcap.ts).
  const { extcap } = await import("./wireshark/extcap.ts");
  await extcap(process.argv.slice(3));
} else {
  const { tuneV8 } = await import("./common/compiler.ts");
  tuneV8();
  const { main } = await import("./main.ts");
  await main(process.argv);
}
