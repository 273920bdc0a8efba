/** --tap: the kernel's interface on top of a NIC. */
import type { Logger } from "../../shared/log.ts";
import { parseUnicastMac } from "../../shared/net/ethernet.ts";
import type { Tap } from "../../shared/tap/tap.ts";
import { ExitCode, Failure, messageOf, systemCode } from "./failure.ts";

export interface TapFlags {
  readonly mac?: string | undefined;
  readonly mtu?: number | undefined;
  /** The kernel may leave checksums and segmentation to us. */
  readonly offloads: boolean;
}

/** A name, an address or an MTU that cannot be is a wrong call; all else depends on the machine. */
const WRONG_CALLS = new Set(["TAP_BAD_NAME", "TAP_BAD_MAC", "TAP_BAD_MTU"]);

/** Why the interface named by `flag` can't be opened. */
export function tapFailure(flag: string, error: unknown): Failure {
  const isUsage = WRONG_CALLS.has(systemCode(error) ?? "");
  const message = `${flag}: ${messageOf(error)}`;
  return new Failure(message, isUsage ? ExitCode.USAGE : ExitCode.FAILED);
}

/** Opens the TAP; it gets the NIC's address once that is known. Throws Failure. */
export async function openTap(name: string, flags: TapFlags, log: Logger): Promise<Tap> {
  const { mac, mtu, offloads } = flags;
  // Only here: where there is no TAP, nothing of it is loaded.
  const { Tap } = await import("../../shared/tap/tap.ts");
  try {
    return await Tap.open({
      name,
      offloads,
      bringUp: false,
      log,
      ...(mac === undefined ? {} : { mac: parseUnicastMac(mac) }),
      ...(mtu === undefined ? {} : { mtu }),
    });
  } catch (error) {
    throw tapFailure("--tap", error);
  }
}
