/**
 * A live neighbour: two NICs on the device under attack, which send each other frames and verify
 * them (neighbour-worker.ts). An attack by another NIC must not affect them.
 */
import type { DeviceProcess } from "./device-process.ts";
import type { DriverName } from "./lab.ts";
import { type Child, eventually, startScript } from "./process.ts";
import { portOf, sum } from "./status.ts";

/**
 * Frames that one NIC has sent to the other, and frames that arrived. A frame is wrong when its bytes
 * or its length are not as sent, or when its number was seen before. It is old when it took more than
 * a second.
 */
export type DirectionCounts = Record<"sent" | "received" | "wrong" | "old", number>;

/** Rate and one-way latency of both directions, from the begin of the traffic to its stop. */
export type NeighbourFigures = Record<"framesPerSecond" | "p99Ms" | "oldestMs", number>;

export interface NeighbourCounts {
  readonly ab: DirectionCounts;
  readonly ba: DirectionCounts;
  /** Frames of others that reached the pair. */
  readonly foreign: number;
  readonly reconnects: number;
  /** Present when the traffic was stopped. */
  readonly figures?: NeighbourFigures;
}

/** The device of a pair. */
type Stage = Pick<DeviceProcess, "url" | "status">;

export class Neighbour {
  readonly child: Child;
  readonly #device: Stage;
  #tag = 0;

  private constructor(child: Child, device: Stage) {
    this.child = child;
    this.#device = device;
  }

  /** `drivers` of NICs a and b. `token`: shown to the device. */
  static async start(
    device: Stage,
    drivers: readonly [DriverName, DriverName],
    token?: string,
  ): Promise<Neighbour> {
    const args = [device.url, ...drivers, ...(token === undefined ? [] : [token])];
    const child = startScript("test/support/neighbour-worker.ts", args);
    try {
      await child.waitForJson((value) => value["ready"] === true);
      const neighbour = new Neighbour(child, device);
      await neighbour.flows();
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
   * Stops the traffic, collects complaints, and starts the traffic again. A complaint is a
   * sentence: a frame not as sent, a lost frame that no drop counter of the pair's ports explains,
   * a lost link, or traffic that has stopped.
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
      const lost = d.sent - d.received;
      if (lost > drops) wrong.push(`${name}: ${lost} frames lost, ${drops} drops counted`);
      if (d.sent === 0) wrong.push(`${name}: nothing was sent`);
    };
    look("a to b", before.ab, a, b);
    look("b to a", before.ba, b, a);
    if (before.reconnects > 0) wrong.push(`the pair lost its links ${before.reconnects} times`);
    await this.#ask("resume");
    await this.flows(before).catch((error) => wrong.push(String(error)));
    if (wrong.length > 0) wrong.push(`figures of the pair: ${JSON.stringify(before.figures)}`);
    return wrong;
  }

  async stop(): Promise<void> {
    await this.child.stop();
  }

  /** Waits until more frames than `since` have arrived, both ways. */
  async flows(since?: NeighbourCounts): Promise<void> {
    const before = since ?? (await this.counts());
    await eventually(
      () => `frames of the neighbour\n${this.child.said()}`,
      async () => {
        const { ab, ba } = await this.counts();
        const goesOn = ab.received > before.ab.received && ba.received > before.ba.received;
        return goesOn || undefined;
      },
      5000,
    );
  }

  async #ask(word: string): Promise<NeighbourCounts> {
    const tag = ++this.#tag;
    this.child.tell(`${word} ${tag}`);
    return await this.child.waitForJson<NeighbourCounts>((value) => value["tag"] === tag);
  }
}
