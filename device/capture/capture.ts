/** One capture: what it was asked for, its recorder, and the number of each interface in it. */
import type { CaptureOutput } from "../../shared/capture/output.ts";
import { Recorder } from "../../shared/capture/recorder.ts";
import type { CaptureInterface, FrameFilter } from "../../shared/capture/recorder-types.ts";
import { LinkDirection, ringPersonality } from "../../shared/capture/ring-header.ts";
import type { Logger } from "../../shared/log.ts";
import type { LinkTap } from "../../shared/wire/link.ts";
import { LinkState } from "../../shared/wire/link-state.ts";
import type { Port } from "../switch/port.ts";

/** A link whose batches can be captured: what captures need of a connection. */
export interface RingSource {
  readonly name: string;
  readonly mac: Uint8Array | undefined;
  readonly personality: string;
  /** Number of the connection. */
  readonly epoch: number;
  addTap(tap: LinkTap): void;
  removeTap(tap: LinkTap): void;
  /** Tells what the link has come to. */
  tellState(state: LinkState): void;
}

export interface CaptureRequest {
  /**
   * Names of ports; "any" is every port, those to come too, "switch" the switch itself. The rings of
   * "switch" alone are those of every NIC.
   */
  readonly sources: readonly string[];
  readonly frames: boolean;
  readonly ring: boolean;
  readonly filter?: FrameFilter;
  /** Most bytes kept of a frame; 0: all. */
  readonly snapLength?: number;
  /** The capture ends after so many packets; 0: never. */
  readonly maxPackets?: number;
}

/** Interfaces that one capture may come to have: NICs with ever new names must not fill memory. */
const MAX_INTERFACES = 1024;
/** Given to what has no interface for want of room: its packets go nowhere. */
const NO_INTERFACE = -1;

interface RingTap {
  readonly link: RingSource;
  readonly tap: LinkTap;
  readonly number: number;
}

export class Capture {
  readonly recorder: Recorder;
  readonly output: CaptureOutput;
  readonly wantsSwitch: boolean;
  switchInterface = NO_INTERFACE;
  readonly #request: CaptureRequest;
  readonly #sources: ReadonlySet<string>;
  readonly #log: Logger;
  /** Interface numbers by what they are of. */
  readonly #numbers = new Map<string, number>();
  readonly #rings: RingTap[] = [];
  #full = false;

  constructor(output: CaptureOutput, request: CaptureRequest, agent: string, log: Logger) {
    this.output = output;
    this.#request = request;
    this.#sources = new Set(request.sources);
    this.#log = log;
    this.wantsSwitch = request.frames && this.#sources.has("switch");
    const { filter, snapLength, maxPackets } = request;
    this.recorder = new Recorder(output, {
      application: agent,
      log,
      ...(filter === undefined ? {} : { filter }),
      ...(snapLength === undefined ? {} : { snapLength }),
      ...(maxPackets === undefined ? {} : { maxPackets }),
    });
  }

  /** There is a port whose frames it may see. */
  get seesFrames(): boolean {
    return this.#request.frames && !this.recorder.ended;
  }

  wantsFrames(port: string): boolean {
    return this.#request.frames && this.#wants(port);
  }

  wantsRing(port: string): boolean {
    if (!this.#request.ring) return false;
    return this.#wants(port) || (this.#sources.size === 1 && this.#sources.has("switch"));
  }

  #wants(port: string): boolean {
    return this.#sources.has("any") || this.#sources.has(port);
  }

  addSwitch(segment: string): void {
    const description = `every frame once, as it enters segment ${segment}`;
    this.switchInterface = this.#interface({ name: "switch", description, layer: "frame" });
  }

  /** Frames of a port: out is what it sends into the segment. */
  portInterface({ name, kind }: Port, mac: Uint8Array | undefined): number {
    const description = mac === undefined ? `${kind} uplink` : `${kind} NIC`;
    const own = mac === undefined ? {} : { mac };
    return this.#interface({ name, description, layer: "frame", ...own });
  }

  /** Batches of a link from now on, behind its state where it has a past. */
  tapRing(link: RingSource, hasPast: boolean): void {
    const { name, mac, personality, epoch } = link;
    const description = `ring traffic of ${name}: ${personality}`;
    const own = mac === undefined ? {} : { mac };
    const number = this.#interface({ name: `${name}:ring`, description, layer: "ring", ...own });
    const { recorder } = this;
    if (number === NO_INTERFACE) return;
    const kind = ringPersonality(personality);
    const tap: LinkTap = (direction, batch) => {
      const to = direction === "in" ? LinkDirection.TO_DEVICE : LinkDirection.TO_FRONTEND;
      recorder.batch(number, to, epoch, kind, batch);
    };
    if (hasPast) {
      link.tellState(new LinkState((part) => recorder.state(number, epoch, kind, part)));
    }
    link.addTap(tap);
    this.#rings.push({ link, tap, number });
  }

  ringGone(link: RingSource): void {
    const at = this.#rings.findIndex((ring) => ring.link === link);
    if (at < 0) return;
    const [ring] = this.#rings.splice(at, 1);
    this.recorder.endInterface(ring!.number);
  }

  /** The capture has ended: its links go on without it. */
  untap(): void {
    for (const { link, tap } of this.#rings.splice(0)) link.removeTap(tap);
  }

  /** A NIC that comes again as it was gets the number that it had. */
  #interface(given: CaptureInterface): number {
    const key = [given.name, given.layer, given.description, String(given.mac)].join(" ");
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    if (this.#numbers.size >= MAX_INTERFACES) {
      if (!this.#full) {
        this.#log.warn({}, `a capture has ${MAX_INTERFACES} interfaces; it takes no more`);
      }
      this.#full = true;
      return NO_INTERFACE;
    }
    const number = this.recorder.addInterface(given);
    this.#numbers.set(key, number);
    return number;
  }
}
