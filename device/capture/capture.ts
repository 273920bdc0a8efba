/** One capture: its request, its recorder, and the number of each of its interfaces. */
import type { CaptureOutput } from "../../shared/capture/output.ts";
import { Recorder } from "../../shared/capture/recorder.ts";
import type { CaptureInterface, FrameFilter } from "../../shared/capture/recorder-types.ts";
import { LinkDirection, ringPersonality } from "../../shared/capture/ring-header.ts";
import type { Logger } from "../../shared/log.ts";
import type { LinkTap } from "../../shared/wire/link.ts";
import { LinkState } from "../../shared/wire/link-state.ts";
import type { Port } from "../switch/port.ts";

/** The parts of a connection that a capture of its link needs. */
export interface RingSource {
  readonly name: string;
  readonly mac: Uint8Array | undefined;
  readonly personality: string;
  /** Sequence number of the connection. */
  readonly epoch: number;
  addTap(tap: LinkTap): void;
  removeTap(tap: LinkTap): void;
  /** Writes the present state of the link into `state`. */
  tellState(state: LinkState): void;
}

/** A capture that a program asks the device for: sources, filter and limits. */
export interface CaptureRequest {
  /**
   * Names of ports. "any" stands for every port, including later ones. "switch" stands for the
   * switch itself. If "switch" is the only source, its rings are those of all NICs.
   */
  readonly sources: readonly string[];
  readonly frames: boolean;
  readonly ring: boolean;
  readonly filter?: FrameFilter;
  /** Most bytes recorded of a frame; 0 for all. */
  readonly snapLength?: number;
  /** Number of packets after which the capture ends; 0 for no limit. */
  readonly maxPackets?: number;
}

/** Most interfaces of one capture, so that NICs with ever new names can't fill memory. */
const MAX_INTERFACES = 1024;
/** Number of a port or link beyond MAX_INTERFACES. Its packets are not recorded. */
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
  /** Interface numbers by name, layer, description and MAC address. */
  readonly #numbers = new Map<string, number>();
  readonly #rings: RingTap[] = [];
  #full = false;

  constructor(output: CaptureOutput, request: CaptureRequest, agent: string, log: Logger) {
    this.output = output;
    this.#request = request;
    this.#sources = new Set(request.sources);
    this.#log = log;
    this.wantsSwitch = request.frames && this.#sources.has("switch");
    this.recorder = new Recorder(output, { ...request, application: agent, log });
  }

  /** True while the capture runs and records frames. */
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

  /** Returns the interface number for a port's frames. "Out" means from the port to the segment. */
  portInterface({ name, kind }: Port, mac: Uint8Array | undefined): number {
    const description = mac === undefined ? `${kind} uplink` : `${kind} NIC`;
    return this.#interface({ name, description, mac, layer: "frame" });
  }

  /** Records the batches of a link from now on. With `hasPast`, the link's state comes first. */
  tapRing(link: RingSource, hasPast: boolean): void {
    const { name, mac, personality, epoch } = link;
    const description = `ring traffic of ${name}: ${personality}`;
    const number = this.#interface({ name: `${name}:ring`, description, mac, layer: "ring" });
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

  /** Removes the taps from all links. Called when the capture has ended. */
  untap(): void {
    for (const { link, tap } of this.#rings.splice(0)) link.removeTap(tap);
  }

  /** Returns the number of an interface. A NIC that returns unchanged gets its former number. */
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
