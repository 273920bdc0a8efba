/**
 * `ringwire migrate`: asks a device to suspend a NIC and to name the next device to it, then
 * watches where the NIC arrives. The first device only sees that its NIC left. Success shows at
 * the other device, and failure by the return of the NIC.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import * as z from "zod";
import type { DeviceStatus, NicStatus } from "../shared/status/device-status.ts";
import { httpUrl } from "../shared/transport/address.ts";
import { postPage } from "./common/device-page.ts";
import { ExitCode, Failure, messageOf } from "./common/failure.ts";
import { createLog } from "./common/log.ts";
import {
  addConnectFlag,
  CommonShape,
  ConnectShape,
  completed,
  logOptions,
  nicName,
  type Reach,
  target,
  whole,
} from "./common/options.ts";
import { Output } from "./common/output.ts";
import { askStatus } from "./status/ask.ts";
import { nicState } from "./status/text.ts";

/** Time (ms) for the driver to suspend and the connection to end. A busy device needs seconds. */
const MOVE_MS = 20_000;
/** Default of --wait. A frontend waits 5 s to connect and 10 s for a welcome before it returns. */
const SEEN_SECONDS = 20;
const MAX_SECONDS = 3600;
const LOOK_MS = 100;
/** Time (ms) for one answer. The other device may be unreachable; both are asked at once. */
const ANSWER_MS = 2000;

const Shape = z.object({
  ...CommonShape,
  ...ConnectShape,
  to: target,
  wait: whole(0, MAX_SECONDS).default(SEEN_SECONDS),
});
type Options = z.infer<typeof Shape>;

export function migrateCommand(): Command {
  const command = addConnectFlag(new Command("migrate"))
    .description("Moves a running NIC, ENA or Xen, to another device.")
    .argument("<nic>", "name of the NIC, as status shows it")
    .option("--to <device>", "the device that gets the NIC, as the NIC's frontend can reach it")
    .option(
      "--wait <s>",
      `seconds to watch for the NIC's arrival; 0: do not watch (${SEEN_SECONDS})`,
    );
  return completed(command, EXAMPLES, Shape, async (options, nic = "") => {
    if (!nicName.safeParse(nic).success) {
      throw new Failure(`"${nic}" is no name of a NIC`, ExitCode.USAGE);
    }
    await runMigrate(nic, options);
  });
}

const EXAMPLES = `Examples:
  ringwire migrate xn0 --to OTHER:7700        from the device on this machine
  ringwire migrate ena0 --connect HOST:7700 --to OTHER:7700
  ringwire migrate xn0 --to 10.0.0.7:7700 --wait 0
      to where only the frontend can look
`;

async function runMigrate(nic: string, options: Options): Promise<void> {
  const { to, wait } = options;
  const output = new Output(options.json);
  const log = createLog(logOptions(options));
  const tell = (words: string, outcome: Outcome): void => {
    output.event(words, { event: "moved", nic, to, ...outcome });
  };
  const [before, there] = await Promise.all([
    look(options, nic),
    look({ ...options, connect: to }, nic),
  ]);
  // If the NIC is not here, the request below is refused by the device.
  if (before.nic !== undefined) {
    if (there.connection !== undefined && there.connection === before.connection) {
      throw new Failure(`${nic} is at ${hostOf(to)} already`);
    }
    // Names are unique on a device, so the other device would refuse the arriving NIC.
    if (there.nic !== undefined) {
      throw new Failure(
        `${hostOf(to)} has another NIC ${nic} already: stop that one, or start this one with another --name`,
      );
    }
    if (there.id !== "" && before.id !== "" && there.id !== before.id) {
      log.warn(
        {},
        `${hostOf(to)} is on a segment of its own (${there.segment}): unless uplinks join it to the segment here (${before.segment}), ${nic} loses its neighbours. Devices that are joined say so by one --segment-id`,
      );
    }
    if (there.problem !== undefined && wait > 0) {
      log.warn({}, `${there.problem}: whether ${nic} arrives may not be seen from here`);
    }
  }
  const { status, value } = await postPage(options, "/migrate", { nic, to }, MOVE_MS);
  if (status !== 200) throw new Failure(reasonOf(value));
  if (wait === 0) {
    tell(`${nic} left for ${to}`, { outcome: "left" });
    return;
  }
  log.info({}, `${nic} left; looking for it at ${to}`);
  const found = await whereabouts(nic, before, options);
  if (found.outcome === "arrived") {
    tell(`${nic} is at ${to} now, segment ${found.segment}, state ${found.state}`, found);
    return;
  }
  output.value({ event: "moved", nic, to, ...found });
  const failure = new Failure(found.reason ?? found.outcome);
  failure.isTold = true;
  throw failure;
}

const reasonOf = (value: object): string =>
  "error" in value && typeof value.error === "string" ? value.error : "the device refused";

const hostOf = (written: string): string => new URL(httpUrl(written, "/")).host;

/** Outcome of a move, as printed with --json. */
interface Outcome {
  readonly outcome: "arrived" | "came-back" | "not-seen" | "left";
  /** Name of the segment where the NIC arrived. */
  readonly segment?: string;
  readonly state?: string;
  /** Sentence that says why the NIC did not arrive, or may not have arrived. */
  readonly reason?: string;
}

/** State of a NIC according to a device's page. */
interface Sight {
  /** Undefined when the NIC is not on the device. */
  readonly nic?: NicStatus;
  readonly segment: string;
  /** Id of the segment; "" when unknown. */
  readonly id: string;
  /** Identifies one connection of the NIC to one device. */
  readonly connection?: string;
  /** Reason for which the page could not be read. */
  readonly problem?: string;
}

const NOWHERE: Sight = { segment: "", id: "" };
const NO_SEGMENT = { id: "", name: "" };

/** Reads the state of NIC `name` from a device's page. Never rejects. */
async function look(device: Reach, name: string): Promise<Sight> {
  let page: DeviceStatus;
  try {
    page = await askStatus(device, ANSWER_MS);
  } catch (error) {
    // The advice behind the semicolon does not help a user who moves a NIC.
    return { ...NOWHERE, problem: messageOf(error).split(";")[0] ?? "" };
  }
  const nic = page.nics.find(
    (candidate) => candidate.name === name || `${candidate.segment}/${candidate.name}` === name,
  );
  // Without a segment of its own name a NIC joins the first one.
  const { id, name: segment } =
    page.segments.find((one) => one.name === nic?.segment) ?? page.segments[0] ?? NO_SEGMENT;
  if (nic === undefined) return { segment, id };
  return { nic, segment, id, connection: `${page.pid} ${nic.peer}` };
}

/**
 * Polls both devices until the NIC works on one of them, or the time is over. `before` is the state
 * of the NIC before the move.
 */
async function whereabouts(nic: string, before: Sight, options: Options): Promise<Outcome> {
  const { connect, to, wait } = options;
  const other = { ...options, connect: to };
  const end = performance.now() + wait * 1000;
  for (;;) {
    const [there, here] = await Promise.all([look(other, nic), look(options, nic)]);
    const { segment } = there;
    const came = there.connection === before.connection ? undefined : there.nic;
    const state = came === undefined ? "" : nicState(came);
    if (came !== undefined && isAtWork(came, before.nic)) {
      return { outcome: "arrived", segment, state };
    }
    if (came === undefined && here.nic !== undefined) {
      const reason = `${nic} came back to ${hostOf(connect)}: it could not go on at ${to}; why is in its frontend's log`;
      return { outcome: "came-back", reason };
    }
    if (performance.now() > end) {
      const where =
        came !== undefined
          ? `is at ${to}, but its state is ${state}`
          : there.problem === undefined
            ? `is not at ${to}`
            : `did not come back, but can't be seen from here: ${there.problem}`;
      const reason = `${nic} left ${hostOf(connect)} and ${where}; more is in its frontend's log`;
      return { outcome: "not-seen", ...(came === undefined ? {} : { segment, state }), reason };
    }
    await sleep(LOOK_MS);
  }
}

/** Returns true when the NIC passes frames, or has the state that it had before the move. */
function isAtWork(nic: NicStatus, before: NicStatus | undefined): boolean {
  const state = nicState(nic);
  const known = ["connected", "ready", before === undefined ? "" : nicState(before)];
  if (!known.includes(state)) return false;
  // An ENA function is ready before its driver has created queues. An interface that is down has
  // no queues.
  const queues = (of: NicStatus | undefined): number =>
    of?.nic.personality === "ena" ? of.nic.tx.length : 0;
  return queues(nic) > 0 || queues(before) === 0;
}
