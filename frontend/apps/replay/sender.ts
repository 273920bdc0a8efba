/**
 * Hands mbufs to an interface: in bursts, at a rate, at the file's pace, and no faster than the
 * driver takes them.
 */
import { setImmediate, setTimeout } from "node:timers/promises";
import type { Ifnet } from "../../net/ifnet.ts";
import type { Mbuf } from "../../net/mbuf.ts";
import { type Control, type Counts, LOOK_MS } from "../app.ts";
import { Pacer } from "../pkt-gen/pacer.ts";
import type { Outgoing } from "./outgoing.ts";
import type { Timetable } from "./timetable.ts";

/** Packets handed over before the link gets its turn. */
const BURST = 64;
/** How long a stopped replay waits for the device to take what the driver has. */
const LEAVE_MS = 1000;

export interface SenderOptions {
  readonly counts: Counts;
  readonly control: Control;
  /** Packets a second; 0 for no limit. */
  readonly rate: number;
  readonly timetable: Timetable | undefined;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
}

/** The interface's onTransmitReady is its own until `leave`. */
export class Sender {
  readonly #ifnet: Ifnet;
  readonly #counts: Counts;
  readonly #control: Control;
  readonly #pacer: Pacer;
  readonly #timetable: Timetable | undefined;
  readonly #look: NodeJS.Timeout;
  #wake: (() => void) | undefined;
  /** Packets that may still leave in this burst; packets and bytes that have left. */
  #due = 0;
  #packets = 0;
  #bytes = 0;

  constructor(ifnet: Ifnet, { counts, control, rate, timetable, now }: SenderOptions) {
    this.#ifnet = ifnet;
    this.#counts = counts;
    this.#control = control;
    this.#pacer = new Pacer(rate, BURST, control, now);
    this.#timetable = timetable;
    ifnet.onTransmitReady = () => this.#wake?.();
    // Whoever waits for room also has to see that he is to stop.
    this.#look = setInterval(() => this.#wake?.(), LOOK_MS);
  }

  /** The packet at hand may leave now; else wait for `due`, and look again. */
  get isDue(): boolean {
    return this.#due > 0 && this.#timetable?.isEarly !== true;
  }

  async due(): Promise<void> {
    this.endBurst();
    await this.#timetable?.due();
    this.#due = await this.#pacer.due();
    await setImmediate();
  }

  /** A packet that is not sent takes its place in the burst all the same: others get a turn. */
  skipped(): void {
    this.#due--;
  }

  /** ifnet.transmit. */
  transmit(m: Mbuf): number {
    const bytes = m.pktLength;
    const errno = this.#ifnet.transmit(m);
    if (errno !== 0) return errno;
    this.#due--;
    this.#packets++;
    this.#bytes += bytes;
    this.#pacer.gave(1);
    return errno;
  }

  /** After ENOBUFS: resolves when there may be room, or it is time to look around. */
  async room(): Promise<void> {
    this.endBurst();
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Counts what has left since the last call. */
  endBurst(): void {
    if (this.#packets > 0) this.#counts.add(this.#packets, this.#bytes);
    this.#packets = 0;
    this.#bytes = 0;
  }

  /** Resolves when the driver has given back every mbuf, or soon after a stop. */
  async leave(outgoing: Outgoing): Promise<void> {
    this.endBurst();
    for (let waited = 0; outgoing.inUse > 0; waited++) {
      if (!this.#control.isStopped) waited = 0;
      else if (waited >= LEAVE_MS) break;
      await setTimeout(1);
    }
    clearInterval(this.#look);
    this.#ifnet.onTransmitReady = () => {};
  }
}
