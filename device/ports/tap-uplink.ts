/**
 * The uplink `tap:NAME`: a switch port whose far end is a kernel interface.
 *
 *   kernel ──► Tap.receive ──► SwitchPort.input      a frame stays in its slot while HELD
 *   kernel ◄── Tap.send    ◄── deliver               written at once
 */

import { systemClock } from "../../shared/clock.ts";
import type { Logger } from "../../shared/log.ts";
import { L2_BYTES } from "../../shared/net/ethernet.ts";
import type { Frame } from "../../shared/net/frame.ts";
import { stallsOf } from "../../shared/stall.ts";
import type { TapLink } from "../../shared/tap/open.ts";
import { NO_TOKEN, type PumpUser, TapPump } from "../../shared/tap/pump.ts";
import { openTap, type TapEnd } from "../../shared/tap/tap.ts";
import { DropReason, type Port, type SwitchPort, Verdict } from "../switch/port.ts";
import type { Uplink, UplinkOptions } from "./uplinks.ts";

/** Work (in frames) of a burst, after which others have their turn: floods have many copies. */
const BURST_WORK = 256;

/**
 * Opens the TAP and attaches it to the switch. Rejects with TapError. Closing the uplink removes a
 * TAP that this process created.
 */
export async function openTapUplink(options: UplinkOptions): Promise<Uplink> {
  const { name, log } = options;
  return new TapUplink(await openTap({ name, log, offloads: true }), options);
}

export class TapUplink implements Uplink, Port, PumpUser {
  readonly tap: TapEnd;
  readonly name: string;
  readonly kind = "tap";
  readonly offloads = { csum: true, tso4: true, tso6: true };
  readonly #log: Logger;
  readonly #onGone: ((error: Error) => void) | undefined;
  readonly #switchPort: SwitchPort;
  readonly #pump: TapPump;
  /** The frame for which the switch returned HELD, and in `#heldToken` its slot. */
  #held: Frame | undefined;
  #heldToken = NO_TOKEN;
  /** True when the segment has received frames since the last flush. */
  #unflushed = false;
  #malformedSeen = 0;
  /** Work of this burst, in frames. */
  #work = 0;
  readonly #stalls = stallsOf(systemClock);
  #seenStalls = this.#stalls.count;
  #closed = false;

  /** Attaches a TAP that is already open. */
  constructor(tap: TapEnd, options: Omit<UplinkOptions, "name">) {
    this.tap = tap;
    this.name = tap.name;
    this.#log = options.log;
    this.#onGone = options.onGone;
    this.#switchPort = options.segment.attach(this);
    this.#pump = new TapPump(tap, this);
    this.#switchPort.onReady = () => this.#pump.run();
    tap.onDrain = () => this.#switchPort.roomAgain();
    tap.onLinkChange = (link) => this.#linkChanged(link);
    tap.onGone = (error) => {
      this.#log.error({ port: this.name, code: error.code }, error.message);
      void this.close().then(() => this.#onGone?.(error));
    };
    tap.setCarrier(true);
    this.#pump.run();
  }

  /** Bytes of the longest frame, from the kernel's present MTU. */
  get maxFrameBytes(): number {
    return this.tap.mtu + L2_BYTES;
  }

  deliver(frame: Frame): DropReason | undefined {
    if (!this.tap.up) return DropReason.PORT_DOWN;
    return this.tap.send(frame) ? undefined : DropReason.QUEUE_FULL;
  }

  /**
   * Returns whether the kernel accepts a frame. A super-frame is one frame here, so the switch never asks
   * for more. A port that is down returns true, so that `deliver` drops the frame. Otherwise the
   * sender would hold it for ever.
   */
  ready(): boolean {
    return !this.tap.up || this.tap.hasRoom();
  }

  /** Nothing to do at the end of a burst: `deliver` has passed every frame to the kernel. */
  flush(): void {}

  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#pump.stop();
      this.tap.onDrain = undefined;
      this.tap.onLinkChange = undefined;
      this.tap.onGone = undefined;
      this.#switchPort.onReady = undefined;
      this.#switchPort.detach();
    }
    await this.tap.close();
  }

  /**
   * Offers the held frame again. `#held` is the pump's scratch frame, which is still valid because
   * nothing was received since.
   */
  resume(): boolean {
    return this.#held === undefined || this.take(this.#held, this.#heldToken);
  }

  take(frame: Frame, token: number): boolean {
    if (!this.#unflushed) this.#lookForStall();
    const isHeld = this.#switchPort.input(frame) === Verdict.HELD;
    this.#held = isHeld ? frame : undefined;
    this.#heldToken = token;
    if (isHeld) return false;
    this.tap.release(token);
    this.#unflushed = true;
    this.#work += this.#switchPort.work;
    return this.#work < BURST_WORK;
  }

  /** After a stall, the frames in the TAP are old until it has been read empty. */
  #lookForStall(): void {
    const stalls = this.#stalls.look(systemClock.now());
    if (stalls !== this.#seenStalls) this.#switchPort.stale = true;
    this.#seenStalls = stalls;
  }

  burstOver(drained: boolean): boolean {
    this.#countMalformed();
    if (drained) this.#switchPort.stale = false;
    if (this.#unflushed) this.#switchPort.flush();
    this.#unflushed = false;
    if (this.#work >= BURST_WORK) setImmediate(() => this.#pump.run());
    this.#work = 0;
    return true;
  }

  #countMalformed(): void {
    const seen = this.tap.rxMalformed;
    if (seen === this.#malformedSeen) return;
    this.#switchPort.drop(DropReason.MALFORMED_OFFLOAD, "in", seen - this.#malformedSeen);
    this.#malformedSeen = seen;
  }

  #linkChanged(link: TapLink): void {
    this.#log.info({ port: this.name, ...link }, "the kernel changed the uplink");
    // Senders that hold a frame for this port can now deliver it, or have it dropped.
    this.#switchPort.roomAgain();
  }
}
