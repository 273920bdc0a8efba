/**
 * Two NICs on one switch, in one process: each has the product's own driver, link and device.
 *
 *   driver a ── link ── NIC model ── switch ── NIC model ── link ── driver b
 *
 * Time stands still, so posts that wait for company leave with another message or not at all.
 */
import { Switch } from "../../device/switch/switch.ts";
import { settle } from "./fake-host.ts";
import type { AnyPair, NicOptions } from "./pair.ts";

const MACS = [
  [2, 0, 0, 0, 0, 0xa],
  [2, 0, 0, 0, 0, 0xb],
] as const;

export class NicCouple {
  readonly a: AnyPair;
  readonly b: AnyPair;
  readonly segment: Switch;
  /** Number of messages delivered, in both directions of both links. */
  messages = 0;

  private constructor(make: (options: NicOptions) => AnyPair, whenFull: "drop" | "hold") {
    this.segment = new Switch({ name: "lan0", now: () => 1, whenFull });
    const [a, b] = MACS.map((mac, i) =>
      make({ segment: this.segment, config: { name: `nic${i}`, mac: Uint8Array.from(mac) } }),
    ) as [AnyPair, AnyPair];
    this.a = a;
    this.b = b;
  }

  /** Both NICs are up, and nothing waits. */
  static async started(
    make: (options: NicOptions) => AnyPair,
    whenFull: "drop" | "hold" = "drop",
  ): Promise<NicCouple> {
    const couple = new NicCouple(make, whenFull);
    await couple.a.start();
    await couple.b.start();
    await couple.settle();
    return couple;
  }

  /** A frame of `length` bytes from one NIC to the other. */
  frame(from: "a" | "b", length = 60, seed = 0): Uint8Array {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);
    const [source, target] = from === "a" ? MACS : [MACS[1], MACS[0]];
    bytes.set([...target, ...source, 0x88, 0xb5]);
    return bytes;
  }

  /** Delivers the messages in flight, and those that they cause. */
  async pump(): Promise<void> {
    for (let quiet = 0; quiet < 3; quiet++) {
      for (const pair of [this.a, this.b]) {
        while (pair.clock.turn() || pair.toDevice.length > 0 || pair.toDriver.length > 0) {
          quiet = 0;
          const inFlight = [...pair.toDevice.splice(0), ...pair.toDriver.splice(0)];
          this.messages += inFlight.length;
          for (const deliver of inFlight) deliver();
        }
      }
      // A device continues its turn here.
      await settle();
    }
  }

  /** As `pump`, and posts that wait for company leave too. */
  async settle(): Promise<void> {
    await this.a.settle();
    await this.b.settle();
    await this.a.settle();
  }
}
