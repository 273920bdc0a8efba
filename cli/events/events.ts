/**
 * `ringwire events`: prints what happens at a device, until a signal. When the connection breaks, the
 * command connects again and goes on behind the last event that it has.
 */
import type { IncomingMessage } from "node:http";
import { Command } from "commander";
import * as z from "zod";
import { NDJSON_TYPE } from "../../shared/status/device-events.ts";
import { whyCut } from "../capture/stream.ts";
import { begin } from "../common/begin.ts";
import { openStream, whenThere } from "../common/device-page.ts";
import {
  addConnectFlag,
  addWaitFlag,
  CommonShape,
  ConnectShape,
  completed,
  oneOf,
  type Reach,
  WaitShape,
  whole,
} from "../common/options.ts";
import { linesOf } from "./lines.ts";
import { EVENT_NAMES, eventOf, wordsOf } from "./text.ts";

/** Time (ms) without a line after which the device is gone. It sends a heartbeat each 15 s. */
const SILENT_MS = 45_000;

const Shape = z.object({
  ...CommonShape,
  ...ConnectShape,
  ...WaitShape,
  past: z.boolean().default(false),
  only: z.array(oneOf(...EVENT_NAMES)).default([]),
  count: whole(1, 999_999_999).optional(),
});
type Options = z.infer<typeof Shape>;

export function eventsCommand(): Command {
  const command = addWaitFlag(addConnectFlag(new Command("events")))
    .description("Prints NICs that join and leave, faults and drops of a device, as they happen.")
    .option("--past", "begin with the events that the device still keeps")
    .option(
      "--only <event...>",
      `print these events only (${EVENT_NAMES.join(", ")}); may be repeated`,
    )
    .option("--count <n>", "end after this many events");
  return completed(command, EXAMPLES, Shape, printEvents);
}

const EXAMPLES = `Examples:
  ringwire events                                  of the device here
  ringwire events --connect HOST:7700 --past       also what was before
  ringwire events --only joined --count 1          waits for the next NIC
  ringwire events --json | jq -c 'select(.event == "drops")'
`;

async function printEvents({ wait, past, only, count, ...options }: Options): Promise<void> {
  const { output, log, stop } = begin(options);
  let after = past ? "0" : undefined;
  let left = count ?? Number.POSITIVE_INFINITY;
  const open = () => openEvents(options, after);
  let stream: IncomingMessage | undefined;
  let isStopped = false;
  void stop.asked.then(() => {
    isStopped = true;
    stream?.destroy();
  });
  stream = wait ? await whenThere(open, stop, log) : await open();
  while (stream !== undefined) {
    const present = stream;
    let why = "the device ended the stream";
    try {
      for await (const line of linesOf(present, SILENT_MS)) {
        const event = eventOf(line);
        if (event === undefined) continue;
        after = event.id;
        if (event.event === "end") why = event.reason;
        const isWanted = only.length === 0 || only.some((name) => name === event.event);
        if (!isWanted || event.event === "heartbeat") continue;
        // The first line of a connection is news only when something was missed.
        if (event.event === "begun" && !event.missed) continue;
        output.event(wordsOf(event), event);
        if (event.event !== "begun" && event.event !== "end" && --left === 0) {
          present.destroy();
          return;
        }
      }
    } catch (error) {
      why = whyCut(error);
    }
    if (isStopped) return;
    log.warn({}, `${why}; connecting again`);
    stream = await whenThere(open, stop, log);
  }
}

function openEvents(device: Reach, after: string | undefined): Promise<IncomingMessage> {
  const query = after === undefined ? "" : `?after=${encodeURIComponent(after)}`;
  return openStream(device, `/events${query}`, NDJSON_TYPE);
}
