/** `ringwire status`: asks a device once, or each second. */
import { Command } from "commander";
import { z } from "zod";
import type { Snapshot } from "../device/nic.ts";
import { httpUrl } from "../shared/transport/websocket.ts";
import { Failure, messageOf, systemCode } from "./failure.ts";
import { addCommonFlags, CommonShape, readOptions, target } from "./options.ts";
import { Output } from "./output.ts";
import { onStop } from "./signals.ts";
import { statusLines } from "./status-text.ts";

const ANSWER_MS = 5000;
const WATCH_MS = 1000;
/** A device's page is far smaller; a stranger's may not be. */
const MAX_CHARS = 64 << 20;
/** Cursor home, and clear to the end of the screen (ECMA-48). */
const CLEAR = "\x1b[H\x1b[J";

const Shape = z.object({
  ...CommonShape,
  connect: target.default("http://127.0.0.1:7700"),
  watch: z.boolean().default(false),
});

export function statusCommand(): Command {
  const command = new Command("status")
    .description("NICs, queues, ports, drops and faults of a device.")
    .option("--connect <url>", "the device: http://HOST:PORT, ws or HOST:PORT (127.0.0.1:7700)")
    .option("--watch", "again each second, until Ctrl-C");
  return addCommonFlags(command)
    .addHelpText("before", EXAMPLES)
    .action(async (_flags: unknown, self: Command) => {
      const options = readOptions(self, Shape);
      const output = new Output(options.json);
      if (options.watch) await watch(options.connect, output);
      else show(await ask(options.connect), output, false);
    });
}

const EXAMPLES = `Examples:
  ringwire status                                      the device on this machine
  ringwire status --connect http://HOST:7700 --watch   another one, each second
  ringwire status --json | jq .segment.ports           for programs
`;

async function watch(connect: string, output: Output): Promise<void> {
  const stop = onStop();
  const stopped = stop.asked.then(() => true);
  const clear = process.stdout.isTTY === true && !output.json;
  for (;;) {
    show(await ask(connect), output, clear);
    const pause = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => pause.resolve(false), WATCH_MS);
    const over = await Promise.race([stopped, pause.promise]);
    clearTimeout(timer);
    if (over) return;
  }
}

function show(status: Snapshot, output: Output, clear: boolean): void {
  if (clear) process.stdout.write(CLEAR);
  output.event(statusLines(status).join("\n"), status);
}

/** GET /status. Throws Failure with a sentence. */
async function ask(connect: string): Promise<Snapshot> {
  const url = httpUrl(connect, "/status");
  const { host, protocol } = new URL(url);
  let body: string;
  try {
    const response = await fetch(url, {
      redirect: "error",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    body = await response.text();
    if (!response.ok) throw notOurs(host, `it answers HTTP ${response.status}`);
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(sentence(error, host, protocol));
  }
  if (body.length > MAX_CHARS) throw notOurs(host, "its page has no end");
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw notOurs(host, "its page is not JSON");
  }
  if (typeof value !== "object" || value === null || !("segment" in value) || !("nics" in value)) {
    throw notOurs(host, "its page is about something else");
  }
  return value as Snapshot;
}

const notOurs = (host: string, why: string): Failure =>
  new Failure(`${host} is not a ringwire device's port: ${why}`);

/** fetch hides the system's error in `cause`. */
function sentence(error: unknown, host: string, protocol: string): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  switch (systemCode(cause)) {
    case "ECONNREFUSED":
      return `nothing listens at ${host}; start one there: ringwire device --listen ${host}`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the name in ${host} is not known; check the address after --connect`;
    case "ETIMEDOUT":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "UND_ERR_CONNECT_TIMEOUT":
      return `${host} can't be reached; check the address and the firewalls between`;
    default:
  }
  if (error instanceof Error && error.name === "TimeoutError") {
    return `${host} accepted the connection but did not answer; it is not a ringwire device's port`;
  }
  if (protocol === "https:" && /ssl|tls/i.test(messageOf(cause))) {
    return `${host} does not speak TLS; use http://${host}`;
  }
  return `${host} is not a ringwire device's port: ${messageOf(cause)}`;
}
