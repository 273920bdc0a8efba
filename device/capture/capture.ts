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
  /** Name of the NIC's segment. */
  readonly segment: string;
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
   * Names of ports, alone or as SEGMENT/NAME. "any" stands for every port, including later ones.
   * "switch" stands for the switch itself. If only switches are sources, their rings are those of
   * all NICs.
   */
  readonly sources: readonly string[];
  /** Names of the segments to capture. Default: all. */
  readonly segments?: readonly string[] | undefined;
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
  /** Interface numbers of the switches, by the name of their segment. */
  readonly #switches = new Map<string, number>();
  readonly #request: CaptureRequest;
  readonly #sources: ReadonlySet<string>;
  readonly #log: Logger;
  readonly #hasSeveral: boolean;
  /** Interface numbers by name, layer, description and MAC address. */
  readonly #numbers = new Map<string, number>();
  readonly #rings: RingTap[] = [];
  #full = false;

  /** `hasSeveral` is true if the device has several segments. */
  constructor(
    output: CaptureOutput,
    request: CaptureRequest,
    hasSeveral: boolean,
    agent: string,
    log: Logger,
  ) {
    this.output = output;
    this.#hasSeveral = hasSeveral;
    this.#request = request;
    this.#sources = new Set(request.sources);
    this.#log = log;
    this.recorder = new Recorder(output, { ...request, application: agent, log });
  }

  /** True if the capture covers a segment. */
  covers(segment: string): boolean {
    return this.#request.segments?.includes(segment) ?? true;
  }

  wantsSwitch(segment: string): boolean {
    return this.#request.frames && this.covers(segment) && this.#has(segment, "switch");
  }

  switchInterface(segment: string): number {
    return this.#switches.get(segment) ?? NO_INTERFACE;
  }

  /** True while the capture runs and records frames. */
  get seesFrames(): boolean {
    return this.#request.frames && !this.recorder.ended;
  }

  wantsFrames(segment: string, port: string): boolean {
    return this.#request.frames && this.covers(segment) && this.#wants(segment, port);
  }

  wantsRing({ segment, name }: RingSource): boolean {
    if (!this.#request.ring || !this.covers(segment)) return false;
    return this.#wants(segment, name) || (this.#onlySwitches && this.#has(segment, "switch"));
  }

  #wants(segment: string, port: string): boolean {
    return this.#has(segment, "any") || this.#has(segment, port);
  }

  #has(segment: string, source: string): boolean {
    return this.#sources.has(source) || this.#sources.has(`${segment}/${source}`);
  }

  get #onlySwitches(): boolean {
    return this.#request.sources.every((source) => /^(?:.*\/)?switch$/.test(source));
  }

  addSwitch(segment: string): void {
    const description = `every frame once, as it enters segment ${segment}`;
    const name = this.#nameOf(segment, "switch");
    this.#switches.set(segment, this.#interface({ name, description, layer: "frame" }));
  }

  /** Returns the name of an interface. Only a device of several segments needs theirs. */
  #nameOf(segment: string, name: string): string {
    return this.#hasSeveral ? `${segment}/${name}` : name;
  }

  /** Returns the interface number for a port's frames. "Out" means from the port to the segment. */
  portInterface(segment: string, { name, kind }: Port, mac: Uint8Array | undefined): number {
    const description = mac === undefined ? `${kind} uplink` : `${kind} NIC`;
    return this.#interface({ name: this.#nameOf(segment, name), description, mac, layer: "frame" });
  }

  /** Records the batches of a link from now on. With `hasPast`, the link's state comes first. */
  tapRing(link: RingSource, hasPast: boolean): void {
    const { mac, personality, epoch, segment } = link;
    const name = this.#nameOf(segment, link.name);
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
