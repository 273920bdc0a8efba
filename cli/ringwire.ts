#!/usr/bin/env node
/**
 * The `ringwire` command. First a look at the Node that runs it; everything else, which an old
 * Node could not even parse, is loaded after that.
 */
import { tooOld } from "./node-version.ts";

const sentence = tooOld(process.versions.node);
if (sentence === undefined) {
  const { main } = await import("./main.ts");
  await main(process.argv);
} else {
  process.stderr.write(`${sentence}\n`);
  process.exitCode = 1;
}
