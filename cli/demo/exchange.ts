/**
 * `ringwire exchange`, not listed in the help: a frontend of the demo. It prints one JSON object a
 * line ("up", "ready", "quiet", "report"). It begins when its stdin delivers anything, and ends
 * when its stdin closes, so that it never outlives the process that started it.
 */
import { Command } from "commander";
import * as z from "zod";
import { PERSONALITIES } from "../../shared/wire/personality.ts";
import { createLog } from "../common/log.ts";
import { newNic, opened } from "../common/nic.ts";
import { nicName, oneOf, readOptions, target, whole } from "../common/options.ts";
import { Output } from "../common/output.ts";
import { onStop, stdinEnd, stdinSays } from "../common/signals.ts";

const Shape = z.object({
  connect: target,
  driver: oneOf(...PERSONALITIES).default("ena"),
  name: nicName,
  seconds: whole(1, 3600),
});
/** Time (ms) to wait for the acknowledgement of the last frame. */
const QUIET_MS = 5000;

export function exchangeCommand(): Command {
  return new Command("exchange")
    .description("One side of the demo's traffic.")
    .option("--connect <url>", "the device")
    .option("--name <name>", "name of the NIC")
    .option("--driver <ena|xen>", "ena or xen")
    .option("--seconds <n>", "how long to send")
    .action(async (_flags: unknown, self: Command) => runExchange(readOptions(self, Shape)));
}

async function runExchange(options: z.infer<typeof Shape>): Promise<void> {
  const output = new Output(true);
  const log = createLog({ level: "warn", form: "text" });
  const stop = onStop();
  const { Exchange } = await import("../../frontend/apps/exchange.ts");
  const nic = await opened(await newNic(options, log), options.connect);
  await nic.settled();
  output.value({ event: "up", name: options.name });
  // Both NICs must be up before the first frame, otherwise the switch drops it.
  const first = await Promise.race([stop.asked, stdinEnd(), stdinSays()]);
  const exchange = new Exchange(nic.ifnet);
  let since = 0;
  let seconds = 0;
  let timer: NodeJS.Timeout | undefined;
  exchange.onReady = () => {
    output.value({ event: "ready", name: options.name });
    since = performance.now();
    exchange.startData();
    timer = setTimeout(() => {
      seconds = (performance.now() - since) / 1000;
      timer = setTimeout(() => quiet(), QUIET_MS);
      exchange.stopData();
    }, options.seconds * 1000);
  };
  let told = false;
  const quiet = () => {
    if (told) return;
    told = true;
    clearTimeout(timer);
    output.value({ event: "quiet", name: options.name });
  };
  exchange.onQuiet = quiet;
  if (first === "go") {
    exchange.start();
    await Promise.race([stop.asked, stdinEnd()]);
  }
  clearTimeout(timer);
  exchange.close();
  output.value({
    event: "report",
    name: options.name,
    seconds,
    ...exchange.report,
    ifnet: nic.counters().ifnet,
  });
  await nic.close();
  process.stdin.destroy();
}
