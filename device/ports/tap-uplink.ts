/**
 * A switch port that is a kernel interface: the uplink `tap:NAME`.
 *
 *   kernel ──► Tap.receive ──► SwitchPort.input      a frame stays in its slot while HELD
 *   kernel ◄── Tap.send    ◄── deliver               copied into a slot, shown at flush
 */
import type { Logger } from "../../shared/log.ts";
import { Frame } from "../../shared/net/frame.ts";
import { Tap, type TapEnd, type TapLink } from "../../shared/tap/tap.ts";
import { DropReason, type Port, type SwitchPort, Verdict } from "../switch/port.ts";
import type { Uplink, UplinkOptions } from "./uplinks.ts";

/** Frames handed on before others get a turn. */
const BURST = 64;
const NO_TOKEN = -1;
/** Ethernet header with one VLAN tag. */
const HEADER_BYTES = 14 + 4;

/**
 * Opens the TAP and plugs it in. Rejects with TapError. Closing the uplink removes a TAP that this
 * process created.
 */
export async function openTapUplink(options: UplinkOptions): Promise<Uplink> {
  const { name, log } = options;
  return new TapUplink(await Tap.open({ name, log, offloads: true }), options);
}

export class TapUplink implements Uplink, Port {
  readonly tap: TapEnd;
  readonly name: string;
  readonly kind = "tap";
  readonly offloads = { csum: true, tso4: true, tso6: true };
  readonly #log: Logger;
  readonly #onGone: ((error: Error) => void) | undefined;
  readonly #switchPort: SwitchPort;
  readonly #frame = new Frame();
  /** The slot of the frame that the switch told us to keep; #frame still describes it. */
  #held = NO_TOKEN;
  #malformedSeen = 0;
  #pumping = false;
  #turnAsked = false;
  #closed = false;
  readonly #nextTurn = (): void => {
    this.#turnAsked = false;
    this.#pump();
  };

  /** Plugs in a TAP that is open already. */
  constructor(tap: TapEnd, options: Omit<UplinkOptions, "name">) {
    this.tap = tap;
    this.name = tap.name;
    this.#log = options.log;
    this.#onGone = options.onGone;
    this.#switchPort = options.segment.attach(this);
    this.#switchPort.onReady = () => this.#pump();
    tap.onFrames = () => this.#pump();
    tap.onDrain = () => this.#switchPort.roomAgain();
    tap.onLinkChange = (link) => this.#linkChanged(link);
    tap.onGone = (error) => {
      this.#log.error({ port: this.name, code: error.code }, error.message);
      void this.close().then(() => this.#onGone?.(error));
    };
    tap.setCarrier(true);
    this.#pump();
  }

  /** Follows the kernel's MTU. */
  get maxFrameBytes(): number {
    return this.tap.mtu + HEADER_BYTES;
  }

  deliver(frame: Frame): DropReason | undefined {
    if (!this.tap.up) return DropReason.PORT_DOWN;
    return this.tap.send(frame) ? undefined : DropReason.QUEUE_FULL;
  }

  /**
   * A super-frame is one frame here, so it is never asked for more than one. A port that is down
   * says yes: `deliver` then drops, where holding would last for ever.
   */
  ready(): boolean {
    return !this.tap.up || this.tap.pending() > 0;
  }

  flush(): void {
    this.tap.flush();
  }

  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.tap.onFrames = undefined;
      this.tap.onDrain = undefined;
      this.tap.onLinkChange = undefined;
      this.tap.onGone = undefined;
      this.#switchPort.onReady = undefined;
      this.#switchPort.detach();
    }
    await this.tap.close();
  }

  /** One burst from the kernel to the segment. */
  #pump(): void {
    // Room may be announced from inside `input`, in the middle of a burst that goes on anyway.
    if (this.#turnAsked || this.#pumping) return;
    this.#pumping = true;
    let moved = 0;
    while (moved < BURST && !this.#closed) {
      const token = this.#held === NO_TOKEN ? this.tap.receive(this.#frame) : this.#held;
      if (token === NO_TOKEN) break;
      if (this.#switchPort.input(this.#frame) === Verdict.HELD) {
        this.#held = token;
        break;
      }
      this.#held = NO_TOKEN;
      this.tap.release(token);
      moved++;
    }
    this.#pumping = false;
    if (this.#closed) return;
    this.#countMalformed();
    if (moved > 0) this.#switchPort.flush();
    if (moved === BURST) this.#askTurn();
  }

  #askTurn(): void {
    this.#turnAsked = true;
    setImmediate(this.#nextTurn);
  }

  #countMalformed(): void {
    const seen = this.tap.rxMalformed;
    if (seen === this.#malformedSeen) return;
    this.#switchPort.drop(DropReason.MALFORMED_OFFLOAD, "in", seen - this.#malformedSeen);
    this.#malformedSeen = seen;
  }

  #linkChanged(link: TapLink): void {
    this.#log.info({ port: this.name, ...link }, "the kernel changed the uplink");
    // Whoever holds a frame for this port may let go of it, or deliver it now.
    this.#switchPort.roomAgain();
  }
}
