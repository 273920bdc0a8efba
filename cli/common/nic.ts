/** A NIC for a command: its flags, the NIC made of them, and failures that name them. */
import type { Command } from "commander";
import { z } from "zod";
import type { Nic, NicOptions } from "../../frontend/nic.ts";
import type { Logger } from "../../shared/log.ts";
import { PERSONALITIES } from "../../shared/wire/personality.ts";
import { sentenceOf } from "./advice.ts";
import { Failure, systemCode } from "./failure.ts";
import {
  addConnectFlag,
  addWaitFlag,
  ConnectShape,
  nicName,
  oneOf,
  unicastMac,
  WaitShape,
  whole,
} from "./options.ts";
import { tapFailure } from "./tap.ts";
import { AGENT } from "./version.ts";

export const driverName = oneOf(...PERSONALITIES);

/** The flags of addNicFlags. */
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
};

/** What a flag changes in a command. A command without `queues` or `tap` has no such flag. */
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
  command.option("--mtu <bytes>", "largest packet, its Ethernet header not counted (1500)");
  if (texts.tap !== undefined) command.option("--tap <interface>", texts.tap);
  return command
    .option(
      "--zero-mask",
      "do not hide what is sent from proxies on the way (less work): for loopback and TLS only",
    )
    .option(
      "--take-over",
      "take the name even from a NIC that is alive; that NIC waits until the name is free",
    );
}

/** Not open yet. */
export async function newNic(
  { wait, ...options }: Omit<NicOptions, "log"> & { readonly wait?: boolean },
  log: Logger,
): Promise<Nic> {
  // Only here: a command that shows its help loads no driver.
  const { Nic } = await import("../../frontend/nic.ts");
  return new Nic({ ...options, waitForDevice: wait, agent: AGENT, log });
}

/** Opens it. Throws Failure. */
export async function opened(nic: Nic, connect: string): Promise<Nic> {
  try {
    await nic.open();
    return nic;
  } catch (error) {
    if (error instanceof Failure) throw error;
    // By its code: where there is no TAP, nothing of it is loaded.
    if (systemCode(error)?.startsWith("TAP_")) throw tapFailure("--tap", error);
    throw Failure.from(error, sentenceOf(error, connect));
  }
}
