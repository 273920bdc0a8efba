/** A NIC for a command: made of its flags, and opened with failures that name them. */
import type { Nic, NicOptions } from "../../frontend/nic.ts";
import type { Logger } from "../../shared/log.ts";
import { TapError } from "../../shared/tap/errors.ts";
import { sentenceOf } from "./advice.ts";
import { Failure } from "./failure.ts";
import { tapFailure } from "./tap.ts";
import { AGENT } from "./version.ts";

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
    if (error instanceof TapError) throw tapFailure("--tap", error);
    throw Failure.from(error, sentenceOf(error, connect));
  }
}
