#!/usr/bin/env node
/**
 * The `ringwire` command. First a look at the Node that runs it; everything else, which an old
 * Node could not even parse, is loaded after that.
 */
import { tooOld } from "./common/node-version.ts";

const sentence = tooOld(process.versions.node);
if (sentence !== undefined) {
  process.stderr.write(`${sentence}\n`);
  process.exitCode = 1;
} else if (process.argv[2] === "extcap") {
  // Not a command for people, and one that Wireshark waits for: see there.
  const { extcap } = await import("./wireshark/extcap.ts");
  await extcap(process.argv.slice(3));
} else {
  const { main } = await import("./main.ts");
  await main(process.argv);
}
