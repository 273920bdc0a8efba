/**
 * Runs one flood of floods.ts until SIGTERM.
 *
 *   node flood-worker.ts PORT NAME [STANDING]
 *
 * STANDING is a Standing in JSON, by default that of a stranger on this machine.
 * Prints {"flooding":true} when it begins. A line with a tag on stdin is answered with the
 * cuts and the processor time so far.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { Attacker, FLOODS, type Flood, type FloodName, type Standing } from "./floods.ts";

const [port = "", name = "", standing = "{}"] = process.argv.slice(2);
const flood: Flood = FLOODS[name as FloodName];
const attacker = new Attacker(Number(port), JSON.parse(standing) as Standing);

process.on("unhandledRejection", (error) => attacker.cut(String(error)));
process.once("SIGTERM", () => process.exit(0));
createInterface({ input: process.stdin }).on("line", (tag) => {
  const { user, system } = process.cpuUsage();
  const answer = { tag: Number(tag), cuts: attacker.cuts, cpuMs: (user + system) / 1000 };
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
process.stdout.write('{"flooding":true}\n');
await flood.run(attacker);
