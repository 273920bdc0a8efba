/** `ringwire status`: prints the status of a device once, or each second. */
import { Command } from "commander";
import * as z from "zod";
import type { AddressEntry } from "../../shared/status/device-status.ts";
import { ABSENT } from "../../shared/transport/unreachable.ts";
import { whenThere } from "../common/device-page.ts";
import { Failure } from "../common/failure.ts";
import { createLog } from "../common/log.ts";
import {
  addConnectFlag,
  addWaitFlag,
  CommonShape,
  ConnectShape,
  completed,
  logOptions,
  type Reach,
  WaitShape,
} from "../common/options.ts";
import { Output, topOf } from "../common/output.ts";
import { onStop } from "../common/signals.ts";
import { askAddresses, askStatus } from "./ask.ts";
import { type StatusPage, statusLines } from "./text.ts";

const WATCH_MS = 1000;
/** Most pages of the address table to read. A device's table has fewer. */
const MAX_PAGES = 64;
/** Moves the cursor home and clears to the end of the screen (ECMA-48). */
const CLEAR = "\x1b[H\x1b[J";

const Shape = z.object({
  ...CommonShape,
  ...ConnectShape,
  ...WaitShape,
  watch: z.boolean().default(false),
});
type Options = z.infer<typeof Shape>;

export function statusCommand(): Command {
  const command = addWaitFlag(addConnectFlag(new Command("status")))
    .description("Shows NICs, queues, ports, drops and faults of a device.")
    .option("--watch", "print the status each second, until Ctrl-C");
  return completed(command, EXAMPLES, Shape, async (options) => {
    const output = new Output(options.json);
    await (options.watch ? watch(options, output) : once(options, output));
  });
}

const EXAMPLES = `Examples:
  ringwire status                                 the device on this machine
  ringwire status --connect HOST:7700 --watch     another one, each second
  ringwire status --json | jq .segments        for programs
`;

async function once({ wait, ...options }: Options, output: Output): Promise<void> {
  const asking = () => ask(options);
  const status = wait
    ? await whenThere(asking, onStop(), createLog(logOptions(options)))
    : await asking();
  if (status !== undefined) show(status, output, false);
}

/** Runs until a signal. Waits for a device that was there and left, since it may be restarting. */
async function watch({ wait, ...options }: Options, output: Output): Promise<void> {
  const log = createLog(logOptions(options));
  const stop = onStop();
  const stopped = stop.asked.then(() => undefined);
  const clear = process.stdout.isTTY === true && !output.json;
  let seen = false;
  let trouble = "";
  for (;;) {
    const status = await Promise.race([stopped, ask(options, 1).catch((error: Failure) => error)]);
    if (status === undefined) return;
    if (!(status instanceof Error)) {
      show(status, output, clear);
      seen = true;
      trouble = "";
    } else if (!(status instanceof Failure) || !(seen || (wait && ABSENT.has(status.code)))) {
      throw status;
    } else if (status.message !== trouble) {
      trouble = status.message;
      log.warn({}, `${trouble}; looking again each second`);
    }
    const pause = Promise.withResolvers<string>();
    const timer = setTimeout(() => pause.resolve("again"), WATCH_MS);
    const over = (await Promise.race([stopped, pause.promise])) === undefined;
    clearTimeout(timer);
    if (over) return;
  }
}

function show(status: StatusPage, output: Output, clear: boolean): void {
  if (clear) process.stdout.write(CLEAR);
  const lines = statusLines(status);
  output.event((clear ? topOf(lines, process.stdout.rows) : lines).join("\n"), status);
}

/** Returns the device's status, with the address tables as `addresses`. Rejects with Failure. */
async function ask(device: Reach, mostPages = MAX_PAGES): Promise<StatusPage> {
  const status = await askStatus(device);
  const addresses: Record<string, AddressEntry[]> = {};
  for (const { name } of status.segments) {
    addresses[name] = await askAddresses(device, name, mostPages);
  }
  return { ...status, addresses };
}
