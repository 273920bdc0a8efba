/** A NIC for a command: its flags, the NIC created from them, and failures that name a flag. */
import type { Command } from "commander";
import * as z from "zod";
import type { Nic, NicOptions } from "../../frontend/nic.ts";
import type { Logger } from "../../shared/log.ts";
import { PERSONALITIES } from "../../shared/wire/personality.ts";
import { sentenceOf } from "./advice.ts";
import { readCredentials } from "./credentials.ts";
import { Failure, systemCode } from "./failure.ts";
import {
  addConnectFlag,
  addWaitFlag,
  ConnectShape,
  deadAfter,
  nicName,
  oneOf,
  type Reach,
  unicastMac,
  WaitShape,
  whole,
} from "./options.ts";
import { tapFailure } from "./tap.ts";
import { AGENT } from "./version.ts";

export const driverName = oneOf(...PERSONALITIES);

/** Values of the flags of addNicFlags. */
export const NicShape = {
  ...ConnectShape,
  ...WaitShape,
  driver: driverName.optional(),
  name: nicName.optional(),
  mac: unicastMac.optional(),
  queues: whole(1, 128).optional(),
  mtu: whole(128, 9216).optional(),
  tap: z.string().optional(),
  zeroMask: z.boolean().default(false),
  takeOver: z.boolean().default(false),
  deadAfter: deadAfter().optional(),
};

/** Descriptions of the flags in one command. Without `queues` or `tap` that flag does not exist. */
interface NicFlagTexts {
  readonly driver: string;
  readonly name: string;
  readonly mac?: string;
  readonly queues?: string;
  readonly tap?: string;
}

export function addNicFlags(command: Command, texts: NicFlagTexts): Command {
  addWaitFlag(addConnectFlag(command))
    .option("--driver <ena|xen>", texts.driver)
    .option("--name <name>", texts.name)
    .option("--mac <address>", texts.mac ?? "MAC address of the NIC (made from name and segment)");
  if (texts.queues !== undefined) command.option("--queues <n>", texts.queues);
  command.option("--mtu <bytes>", "largest packet, without its Ethernet header (1500)");
  if (texts.tap !== undefined) command.option("--tap <interface>", texts.tap);
  return command
    .option(
      "--zero-mask",
      "send data unscrambled, which saves work; proxies could misread it, so only for loopback and TLS",
    )
    .option(
      "--take-over",
      "take the name even from a NIC that is connected; that NIC waits until the name is free",
    )
    .option(
      "--dead-after <seconds|off>",
      "silence after which the device counts as dead, and this NIC for the device; for paused processes and breakpoints (4)",
    );
}

/** Creates a NIC from flags, without opening it. */
export async function newNic(
  {
    wait,
    ...options
  }: Omit<NicOptions, "log" | "credentials"> & Reach & { readonly wait?: boolean },
  log: Logger,
): Promise<Nic> {
  // Wrong files are an error of the command now, and a reason to try again later.
  readCredentials(options);
  const credentials = () => readCredentials(options);
  // Imported here, so that a command that prints its help loads no driver.
  const { Nic } = await import("../../frontend/nic.ts");
  return new Nic({ ...options, credentials, waitForDevice: wait, agent: AGENT, log });
}

/** Opens the NIC and returns it. Rejects with Failure. */
export async function opened(nic: Nic, connect: string): Promise<Nic> {
  try {
    await nic.open();
    return nic;
  } catch (error) {
    if (error instanceof Failure) throw error;
    // The check reads the code, because a command without a TAP does not load the error's class.
    if (systemCode(error)?.startsWith("TAP_")) throw tapFailure("--tap", error);
    throw Failure.from(error, sentenceOf(error, connect));
  }
}
