/**
 * Hands mbufs to an interface in batches, at a rate or with the gaps of the file, and no faster
 * than the driver accepts them.
 */
import { setImmediate, setTimeout } from "node:timers/promises";
import { Errno } from "../../bus/errno.ts";
import type { Ifnet } from "../../net/ifnet.ts";
import type { Mbuf } from "../../net/mbuf.ts";
import { type Control, type Counts, LOOK_MS } from "../app.ts";
import type { Pacer } from "../pkt-gen/pacer.ts";
import type { Account } from "./account.ts";
import type { Outgoing } from "./outgoing.ts";
import type { Timetable } from "./timetable.ts";

/** Number of packets handed over before the link gets its turn. */
export const BURST = 64;
/** Time (about ms) that a stopped replay waits for the device to finish the driver's packets. */
const LEAVE_MS = 1000;

export interface SenderParts {
  readonly ifnet: Ifnet;
  readonly counts: Counts;
  readonly account: Account;
  readonly control: Control;
  readonly pacer: Pacer;
  readonly timetable: Timetable | undefined;
}

/** Sends packets. Uses the interface's onTransmitReady until `leave`. */
export class Sender {
  readonly #with: SenderParts;
  readonly #look: NodeJS.Timeout;
  #wake: (() => void) | undefined;
  /** Packets that are not yet given to the driver. */
  readonly #batch: Mbuf[] = [];
  /** Packets that may still leave in this burst. */
  #due = 0;

  constructor(parts: SenderParts) {
    this.#with = parts;
    parts.ifnet.onTransmitReady = () => this.#wake?.();
    // Also wakes a wait for room when the replay is to stop.
    this.#look = setInterval(() => this.#wake?.(), LOOK_MS);
  }

  /** True when the current packet may leave now. If not, wait for `due` and check again. */
  get isDue(): boolean {
    return this.#due > 0 && this.#with.timetable?.isEarly !== true;
  }

  async due(): Promise<void> {
    await this.flush();
    await this.#with.timetable?.due();
    this.#due = await this.#with.pacer.due();
    await setImmediate();
  }

  /** Counts a skipped packet against the burst, so that other work gets a turn. */
  skipped(): void {
    this.#due--;
  }

  /** Adds the packet to the batch. Returns true when `flush` is due. */
  add(m: Mbuf): boolean {
    this.#due--;
    return this.#batch.push(m) === BURST;
  }

  /** True when every packet added so far is accounted for. */
  get isEmpty(): boolean {
    return this.#batch.length === 0;
  }

  /**
   * Gives the batch to the driver. Resolves when the driver has accepted or finally refused all
   * packets. If the replay is stopped meanwhile, packets that still wait count as never read.
   */
  async flush(): Promise<void> {
    const batch = this.#batch;
    const { ifnet, account, control } = this.#with;
    while (batch.length > 0) {
      this.#accepted(ifnet.transmit(batch, batch.length));
      if (batch.length === 0) return;
      if (ifnet.transmitErrno !== Errno.ENOBUFS) {
        batch.shift()!.free();
        account.refused();
      } else if (control.isStopped) {
        for (const m of batch) m.free();
        batch.length = 0;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  /** Accounts for the first `sent` packets, now the driver's. A driver does not change cookies. */
  #accepted(sent: number): void {
    let bytes = 0;
    for (const m of this.#batch.splice(0, sent)) {
      bytes += m.pktLength;
      this.#with.account.sent(m.cookie);
    }
    if (sent === 0) return;
    this.#with.counts.add(sent, bytes);
    this.#with.pacer.gave(sent);
  }

  /** Sends the batch. Resolves when the driver has freed every mbuf, or soon after a stop. */
  async leave(outgoing: Outgoing): Promise<void> {
    await this.flush();
    for (let waited = 0; outgoing.inUse > 0; waited++) {
      if (!this.#with.control.isStopped) waited = 0;
      else if (waited >= LEAVE_MS) break;
      await setTimeout(1);
    }
    clearInterval(this.#look);
    this.#with.ifnet.onTransmitReady = () => {};
  }
}
