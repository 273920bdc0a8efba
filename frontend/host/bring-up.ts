/** A driver's interface comes up: by itself, or under a TAP, whose state it then follows. */
import type { Logger } from "../../shared/log.ts";
import type { Tap } from "../../shared/tap/tap.ts";
import type { Driver } from "../driver.ts";
import type { Ifnet } from "../net/ifnet.ts";
import type { TapHost } from "./tap-host.ts";

/** A link that does not come up within this is reported as it is. */
const LINK_UP_MS = 5000;
const LOOK_MS = 10;

export interface BringUpHooks {
  readonly log: Logger;
  /** The kernel's side is joined; whoever ends things leaves it first. */
  joined(host: TapHost): void;
  /** The TAP was deleted from outside. */
  gone(reason: string): void;
}

/** Resolves with the link up, or as it is after a while, or the TAP being down. */
export async function bringUp(
  driver: Driver,
  tap: Tap | undefined,
  { log, joined, gone }: BringUpHooks,
): Promise<void> {
  if (tap === undefined) {
    await driver.up();
  } else {
    const { joinTap } = await import("./tap-host.ts");
    await tap.start(driver.ifnet.mac);
    const host = joinTap(tap, driver.ifnet, {
      log,
      up: () => driver.up(),
      down: () => driver.down(),
      gone: (error) => gone(error.message),
    });
    joined(host);
    // The driver follows the interface: up now, or when `ip link set up` says so.
    await host.settled();
    if (!tap.up) {
      log.warn({}, `${tap.name} is down: "sudo ip link set ${tap.name} up"`);
      return;
    }
  }
  await linkUp(driver.ifnet);
}

/** The device tells the link's state in an event of its own, soon after the queues are there. */
async function linkUp(ifnet: Ifnet): Promise<void> {
  for (let waited = 0; ifnet.linkState !== "up" && waited < LINK_UP_MS; waited += LOOK_MS) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
