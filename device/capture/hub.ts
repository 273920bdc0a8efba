/**
 * The running captures of one device, with the ports and links that each of them records.
 *
 *   Switch ── PortTap ──┐                       ┌─► Recorder ─► an answer over HTTP
 *                       ├──► interface numbers ─┤
 *   Link ──── LinkTap ──┘                       └─► Recorder ─► a file
 *
 * A NIC that joins is added to the captures that want it. It gets a new interface, or its former
 * one if it was captured before. A port or link that no capture wants has no tap.
 */
import { FilterCompiler } from "../../shared/capture/filter-compiler.ts";
import { nextFrameId } from "../../shared/capture/frame-id.ts";
import type { CaptureOutput } from "../../shared/capture/output.ts";
import type { Recorder } from "../../shared/capture/recorder.ts";
import { StreamOutput } from "../../shared/capture/stream-output.ts";
import type { Logger } from "../../shared/log.ts";
import type { Frame } from "../../shared/net/frame.ts";
import { Direction } from "../../shared/pcapng/layout.ts";
import { packetNote, Verdict } from "../../shared/pcapng/writer.ts";
import { slice } from "../../shared/slices.ts";
import { keptPlaces } from "../segments/shares.ts";
import { DropReason, type Port } from "../switch/port.ts";
import type { Switch } from "../switch/switch.ts";
import type { PortTap } from "../switch/tap.ts";
import { Capture, type CaptureRequest, type RingSource } from "./capture.ts";

export interface CaptureHubOptions {
  /** The switches of all segments. */
  readonly segments: readonly Switch[];
  /** Program and version, for the header of the capture file. */
  readonly agent: string;
  readonly log: Logger;
  /** Returns the time in ms. The default is performance.now. */
  readonly now?: () => number;
}

/** Most captures at the same time. Each may keep a queue of 8 MiB. */
export const MAX_CAPTURES = 16;
/**
 * Time (ms) for which a reader may accept no data before its capture is cut off. A person may use a
 * pager or a paused Wireshark, so the time is minutes. When all places are taken and a new capture
 * needs one, the time is seconds (CROWDED_STALL_MS).
 */
export const STALL_MS = 600_000;
export const CROWDED_STALL_MS = 10_000;

/** Reason why a capture is not started: an HTTP status and a sentence. */
export class CaptureRefusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = "CaptureRefusal";
    this.status = status;
  }
}

export class CaptureHub {
  readonly #options: CaptureHubOptions;
  readonly #captures = new Set<Capture>();
  /** Links by segment and name. */
  readonly #links = new Map<string, RingSource>();
  readonly #now: () => number;
  /** Compiles the filters of the clients of this device. */
  readonly filters = new FilterCompiler();
  #begun = 0;
  #cutOff = 0;

  constructor(options: CaptureHubOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Names of all segments. */
  get segments(): readonly string[] {
    return this.#options.segments.map(({ name }) => name);
  }

  /** Counts for the status page: captures that run, that ever began, and that were cut off. */
  snapshot(): { running: number; begun: number; cutOff: number } {
    return { running: this.#captures.size, begun: this.#begun, cutOff: this.#cutOff };
  }

  /** Cuts off captures whose reader has stalled for STALL_MS. Call it regularly. */
  tick(): void {
    for (const capture of this.#captures) {
      if (this.#stalledMs(capture) >= STALL_MS) this.#end(capture);
    }
  }

  /**
   * Starts a capture. The record of each ring begins with its state. With many rings, those at the
   * end of the list are recorded a few turns of the event loop later. Throws CaptureRefusal:
   * 503 when too many captures run, 404 when a source does not exist.
   */
  start(output: CaptureOutput, request: CaptureRequest): Recorder {
    this.check(request);
    const { segments, agent, log } = this.#options;
    const capture = new Capture(output, request, segments.length > 1, agent, log);
    this.#captures.add(capture);
    this.#begun++;
    for (const { name } of segments) if (capture.wantsSwitch(name)) capture.addSwitch(name);
    this.#watchPorts();
    void this.#tapLinks(capture);
    void capture.recorder.done.then(({ reason, packets, bytes }) => {
      this.#remove(capture);
      log.info({ capture: output.name, packets, bytes }, `a capture ended: ${reason}`);
    });
    log.info({ capture: output.name }, `a capture of ${request.sources.join(", ")} began`);
    return capture.recorder;
  }

  /** Records the links that are there, each from its present state on. */
  async #tapLinks(capture: Capture): Promise<void> {
    for (const link of [...this.#links.values()]) {
      if (!capture.wantsRing(link)) continue;
      // Without a wait, the first links are recorded before `start` returns.
      const later = slice();
      if (later !== undefined) await later;
      if (!this.#captures.has(capture)) return;
      if (this.#links.get(keyOf(link)) === link) capture.tapRing(link, true);
    }
  }

  /** Throws CaptureRefusal as `start` does. Call it before the answer of the request begins. */
  check({ sources, segments: covered }: Pick<CaptureRequest, "sources" | "segments">): void {
    if (!this.#hasPlace(covered)) this.#makePlace(covered);
    if (!this.#hasPlace(covered)) {
      throw new CaptureRefusal(503, `${this.#captures.size} captures run already`);
    }
    const all = this.#options.segments;
    const segments = all.filter(({ name }) => covered?.includes(name) ?? true);
    const ports = segments.map((segment) => [segment.name, segment.portNames()] as const);
    const known = new Set(
      ports.flatMap(([segment, names]) =>
        ["any", "switch", ...names].flatMap((name) => [name, keyOf({ segment, name })]),
      ),
    );
    for (const source of sources) {
      if (known.has(source)) continue;
      const names = ports.flatMap(([segment, own]) =>
        own.map((name) => (all.length > 1 ? keyOf({ segment, name }) : name)),
      );
      const those = names.length === 0 ? "there is none yet" : `there is ${names.join(", ")}`;
      throw new CaptureRefusal(404, `this device has no NIC or uplink "${source}"; ${those}`);
    }
  }

  /** Adds a link. Called when its frontend has sent its name, before its NIC is made. */
  linkJoined(link: RingSource): void {
    this.#links.set(keyOf(link), link);
    for (const capture of this.#captures) {
      if (capture.wantsRing(link)) capture.tapRing(link, false);
    }
  }

  linkLeft(link: RingSource): void {
    if (this.#links.get(keyOf(link)) === link) this.#links.delete(keyOf(link));
    for (const capture of this.#captures) capture.ringGone(link);
  }

  /** Ends every capture. Each capture writes its statistics first. */
  async close(reason: string): Promise<void> {
    await Promise.all([...this.#captures].map(({ recorder }) => recorder.stop(reason)));
  }

  /** True if a capture of the segments `covered` (undefined: all) leaves enough places to others. */
  #hasPlace(covered: readonly string[] | undefined): boolean {
    const { segments } = this;
    const captures = [...this.#captures];
    const others = segments.filter((name) => covered?.includes(name) === false);
    const used = others.map((name) => captures.filter((capture) => capture.covers(name)).length);
    return captures.length + keptPlaces(MAX_CAPTURES, segments.length, used) < MAX_CAPTURES;
  }

  /**
   * Cuts off the capture whose reader has stalled longest, if that is CROWDED_STALL_MS or more. One
   * that covers other segments than `covered` (undefined: all) is not the newcomer's to end.
   */
  #makePlace(covered: readonly string[] | undefined): void {
    const others = this.segments.filter((name) => covered?.includes(name) === false);
    const stalled = [...this.#captures].filter(
      (capture) =>
        this.#stalledMs(capture) >= CROWDED_STALL_MS &&
        !others.some((name) => capture.covers(name)),
    );
    const [longest] = stalled.sort((a, b) => this.#stalledMs(b) - this.#stalledMs(a));
    if (longest !== undefined) this.#end(longest);
  }

  /** Returns the time (ms) for which data has waited and the reader has accepted none. */
  #stalledMs({ output }: Capture): number {
    if (!(output instanceof StreamOutput) || output.waitingSince === undefined) return 0;
    return this.#now() - output.waitingSince;
  }

  /** Cuts off a stalled capture. No statistics are sent: they would wait behind the unread data. */
  #end(capture: Capture): void {
    const { output } = capture;
    if (!(output instanceof StreamOutput)) return;
    this.#cutOff++;
    const seconds = Math.round(this.#stalledMs(capture) / 1000);
    this.#remove(capture);
    output.cutOff(`its reader has taken nothing for ${seconds} s`);
  }

  #remove(capture: Capture): void {
    if (!this.#captures.delete(capture)) return;
    capture.untap();
    this.#watchPorts();
  }

  /** Sets the taps of the ports again. Called when a capture was added or removed. */
  #watchPorts(): void {
    const watching = [...this.#captures].filter((capture) => capture.seesFrames);
    for (const segment of this.#options.segments) {
      const wanted = watching.some((capture) => capture.covers(segment.name));
      segment.setTap(wanted ? (port) => this.#watchPort(segment.name, port) : undefined);
    }
  }

  #watchPort(segment: string, port: Port): PortTap | undefined {
    const captures = [...this.#captures].filter((capture) => !capture.recorder.ended);
    const own = captures.filter((capture) => capture.wantsFrames(segment, port.name));
    const atSwitch = captures.filter((capture) => capture.wantsSwitch(segment));
    if (own.length === 0 && atSwitch.length === 0) return undefined;
    const mac = this.#links.get(keyOf({ segment, name: port.name }))?.mac;
    const places = own
      .map((capture) => ({
        recorder: capture.recorder,
        number: capture.portInterface(segment, port, mac),
      }))
      .filter(({ number }) => number >= 0);
    return new PortWatch(
      places,
      atSwitch.map((capture) => ({
        recorder: capture.recorder,
        number: capture.switchInterface(segment),
      })),
    );
  }
}

/** No name has a slash. */
const keyOf = ({ segment, name }: { readonly segment: string; readonly name: string }): string =>
  `${segment}/${name}`;

/** Packet options of a dropped frame, by reason. */
const NOTES = Object.fromEntries(
  Object.values(DropReason).map((reason) => [
    reason,
    packetNote(Verdict.DROPPED, `dropped: ${reason}`),
  ]),
) as Readonly<Record<DropReason, Uint8Array>>;

const noteOf = (reason: DropReason | undefined): Uint8Array | undefined =>
  reason === undefined ? undefined : NOTES[reason];

/** A recorder, and the number of an interface in it. */
interface Place {
  readonly recorder: Recorder;
  readonly number: number;
}

/** Records one port's frames in all captures of the port or of the switch. */
class PortWatch implements PortTap {
  readonly #places: readonly Place[];
  readonly #atSwitch: readonly Place[];

  constructor(places: readonly Place[], atSwitch: readonly Place[]) {
    this.#places = places;
    this.#atSwitch = atSwitch;
  }

  entered(frame: Frame, reason: DropReason | undefined): void {
    // The frame is captured for the first time here. Its copies and its segments carry the same id.
    if (frame.id === 0) frame.id = nextFrameId();
    const note = noteOf(reason);
    for (let i = 0; i < this.#places.length; i++) {
      const { recorder, number } = this.#places[i]!;
      recorder.frame(number, Direction.OUT, frame.queue, frame, note);
    }
    for (let i = 0; i < this.#atSwitch.length; i++) {
      const { recorder, number } = this.#atSwitch[i]!;
      recorder.frame(number, Direction.IN, -1, frame, note);
    }
  }

  delivered(frame: Frame, reason: DropReason | undefined): void {
    const note = noteOf(reason);
    for (let i = 0; i < this.#places.length; i++) {
      const { recorder, number } = this.#places[i]!;
      recorder.frame(number, Direction.IN, frame.queue, frame, note);
    }
  }

  detached(): void {
    for (const { recorder, number } of this.#places) recorder.endInterface(number);
  }
}
