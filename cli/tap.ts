/** --tap: the kernel's interface on top of a NIC. */
import type { Logger } from "../shared/log.ts";
import { parseUnicastMac } from "../shared/net/ethernet.ts";
import type { Tap } from "../shared/tap/tap.ts";
import { Failure, messageOf } from "./failure.ts";

export interface TapFlags {
  readonly mac?: string | undefined;
  readonly mtu?: number | undefined;
  /** The kernel may leave checksums and segmentation to us. */
  readonly offloads: boolean;
}

/** Opens the TAP; it gets the NIC's address once that is known. Throws Failure. */
export async function openTap(name: string, flags: TapFlags, log: Logger): Promise<Tap> {
  const { mac, mtu, offloads } = flags;
  // Only here: where there is no TAP, nothing of it is loaded.
  const { Tap } = await import("../shared/tap/tap.ts");
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
    throw new Failure(messageOf(error));
  }
}
