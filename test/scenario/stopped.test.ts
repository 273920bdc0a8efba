/** A device that the system stopped for a while (SIGSTOP, a debugger, a suspended machine). */
import { expect, it } from "vitest";
import { DeviceProcess } from "../support/device-process.ts";
import { Neighbour } from "../support/neighbour.ts";
import { eventually, sleep } from "../support/process.ts";
import { portsAndLeft } from "../support/status.ts";

/** More frames than an application of the pair may have waiting outside of its NIC. */
const WAITING = 64;

it.concurrent.each([
  ["ena", "2.5 s: its links stay", 2500, 0],
  ["xen", "2.5 s: its links stay", 2500, 0],
  ["ena", "6 s: its links are made anew", 6000, 2],
  ["xen", "6 s: its links are made anew", 6000, 2],
] as const)(
  "fault-K3, attack-S12 of %s NICs for %s, and no burst of old frames arrives",
  async (driver, _what, ms, resets) => {
    await using device = await DeviceProcess.start();
    const pair = await Neighbour.start(device, [driver, driver]);
    try {
      device.child.signal("SIGSTOP");
      await sleep(ms);
      device.child.signal("SIGCONT");
      await eventually("the links", async () => {
        const { reconnects } = await pair.counts();
        return reconnects === resets || undefined;
      });
      await pair.flows();
      const { ab, ba, reconnects } = await pair.counts();
      expect(reconnects).toBe(resets);
      expect([ab.wrong, ba.wrong]).toEqual([0, 0]);
      expect(ab.old + ba.old).toBeLessThan(WAITING);
      const stale = portsAndLeft(await device.status()).map(
        (port) => port.in.dropped["stale"] ?? 0,
      );
      if (resets === 0) {
        expect(Math.min(...stale)).toBeGreaterThan(WAITING);
        expect(await pair.complaints()).toEqual([]);
      }
    } finally {
      device.child.signal("SIGCONT");
      await pair.stop();
    }
  },
);
