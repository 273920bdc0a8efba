/**
 * A live neighbour: two NICs on the device under attack, which send each other frames and verify
 * them (neighbour-worker.ts). Nothing that happens to another NIC may show here.
 */
import type { DeviceProcess } from "./device-process.ts";
import type { DriverName } from "./lab.ts";
import { type Child, startScript } from "./process.ts";
import { slow } from "./slowness.ts";
import { portOf, sum } from "./status.ts";

export interface DirectionCounts {
  readonly sent: number;
  readonly received: number;
  readonly missing: number;
  readonly wrong: number;
  readonly lost: number;
}

export interface NeighbourCounts {
  readonly ab: DirectionCounts;
  readonly ba: DirectionCounts;
  /** Frames of somebody else that reached the pair. */
  readonly foreign: number;
  readonly reconnects: number;
}

export class Neighbour {
  readonly child: Child;
  readonly #device: DeviceProcess;
  #tag = 0;

  private constructor(child: Child, device: DeviceProcess) {
    this.child = child;
    this.#device = device;
  }

  /** `drivers` of a and of b. */
  static async start(
    device: DeviceProcess,
    drivers: readonly [DriverName, DriverName] = ["ena", "ena"],
  ): Promise<Neighbour> {
    const child = startScript("test/support/neighbour-worker.ts", [
      ...["--connect", device.url, "--drivers", drivers.join()],
    ]);
    try {
      await child.waitForJson((value) => value["ready"] === true);
      const neighbour = new Neighbour(child, device);
      const wrong: string[] = [];
      await neighbour.#flows(await neighbour.counts(), wrong);
      if (wrong.length > 0) throw new Error(`${wrong.join()}\n${child.said()}`);
      return neighbour;
    } catch (error) {
      await child.stop();
      throw error;
    }
  }

  async counts(): Promise<NeighbourCounts> {
    return await this.#ask("counts");
  }

  /**
   * Stops the traffic until all is told, and starts it again. Every sentence says what is wrong:
   * a frame not as sent, one lost that no drop counter of the pair's ports explains, a link lost,
   * or traffic that has stopped.
   */
  async complaints(): Promise<string[]> {
    const before = await this.#ask("drain");
    const status = await this.#device.status();
    const a = portOf(status, "pair-a");
    const b = portOf(status, "pair-b");
    const wrong: string[] = [];
    const look = (name: string, d: DirectionCounts, from: typeof a, to: typeof a): void => {
      const drops =
        sum(from.lost.in) + sum(from.in.dropped) + sum(to.out.dropped) + sum(to.lost.out);
      if (d.wrong > 0) wrong.push(`${name}: ${d.wrong} frames are not as they were sent`);
      if (d.lost > drops) wrong.push(`${name}: ${d.lost} frames lost, ${drops} drops counted`);
      if (d.sent === 0) wrong.push(`${name}: nothing was sent`);
    };
    look("a to b", before.ab, a, b);
    look("b to a", before.ba, b, a);
    if (before.reconnects > 0) wrong.push(`the pair lost its links ${before.reconnects} times`);
    await this.#ask("resume");
    await this.#flows(before, wrong);
    return wrong;
  }

  async stop(): Promise<void> {
    await this.child.stop();
  }

  /** Traffic goes on, both ways. */
  async #flows(before: NeighbourCounts, wrong: string[]): Promise<void> {
    for (let look = 0; look < slow(100); look++) {
      const { ab, ba } = await this.#ask("counts");
      if (ab.received > before.ab.received && ba.received > before.ba.received) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    wrong.push("no frame arrives any more");
  }

  async #ask(word: string): Promise<NeighbourCounts> {
    const tag = ++this.#tag;
    this.child.tell(`${word} ${tag}`);
    return await this.child.waitForJson<NeighbourCounts>((value) => value["tag"] === tag);
  }
}
