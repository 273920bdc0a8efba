/**
 * Records frames and batches as pcapng. A data path calls `frame`, `span` or `batch` and
 * goes on: a packet is one copy of its first bytes into a buffer, or a number counted when there is
 * no room. Nothing here waits, and nothing that happens to the output comes back to the caller.
 */
import { machine } from "node:os";
import { copyBytes } from "../bytes/copy.ts";
import { type Logger, silentLogger } from "../log.ts";
import { type Frame, Gso } from "../net/frame.ts";
import type { BlockBuffer } from "../pcapng/block-buffer.ts";
import {
  Direction,
  FLAG_CHECKSUM_NOT_READY,
  FLAG_CHECKSUM_VALID,
  FLAG_SEGMENTATION_OFFLOADED,
} from "../pcapng/layout.ts";
import {
  commentNote,
  PACKET_OVERHEAD_BYTES,
  type PacketFacts,
  PcapngWriter,
} from "../pcapng/writer.ts";
import { CaptureClock, systemTime, type TimeSource } from "./clock.ts";
import { type CaptureOutput, readerGone, type SinkError } from "./output.ts";
import { Pump, totalOf } from "./pump.ts";
import { osName, RecordedInterface } from "./recorded-interface.ts";
import type {
  CaptureInterface,
  CaptureSummary,
  FrameFilter,
  InterfaceStats,
  RecorderOptions,
} from "./recorder-types.ts";
import {
  LinkDirection,
  RING_PREFIX_BYTES,
  type RingPersonality,
  writeRingPrefix,
} from "./ring-header.ts";

/** Most bytes kept of a packet: Wireshark refuses a file with a longer one. */
export const MAX_SNAP_BYTES = 262_144;

/** Packet comment of a state record, which never crossed the link. */
const SNAPSHOT = commentNote("snapshot");
const DEFAULT_QUEUE_BYTES = 8 * 1024 * 1024;
/** A buffer fuller than this goes to the output without waiting for the rest of the burst. */
const FULL_BYTES = 480 * 1024;
/** Least time between writes that are not full, because a write costs a thread's wake-up. */
const DEFAULT_FLUSH_MS = 5;
/**
 * The clock is read for the first packet of a burst and for every eighth after it: reading it takes
 * as long as writing a packet (0.15 to 0.23 microseconds on the machine that this was measured on).
 */
const PACKETS_PER_TICK = 8;
const NO_ROOM = -1;
/** An Interface Statistics Block. */
const STATISTICS_BYTES = 24 + 7 * 12 + 4;

/**
 * Records frames and ring transactions of several interfaces in pcapng. Bounds the memory for
 * packets that wait, and counts what it drops.
 */
export class Recorder {
  readonly #ending = Promise.withResolvers<CaptureSummary>();
  /** Settles when the capture has ended, for whatever reason; never rejects. */
  readonly done = this.#ending.promise;
  ended = false;

  readonly #application: string;
  readonly #output: CaptureOutput;
  readonly #log: Logger;
  readonly #filter: FrameFilter | undefined;
  readonly #snapBytes: number;
  readonly #queueBytes: number;
  readonly #rotateBytes: number;
  readonly #rotateNs: number;
  readonly #maxPackets: number;
  readonly #flushMs: number;

  readonly #interfaces: RecordedInterface[] = [];
  readonly #time: TimeSource;
  readonly #clock: CaptureClock;
  readonly #pump: Pump;
  readonly #writer: PcapngWriter;
  #out: BlockBuffer;
  /** Packets in `#out`. */
  #outPackets = 0;
  /** Packets of the whole capture, state records not counted. */
  #packets = 0;
  /** The file that is being filled: its bytes that are no longer in `#out`, its packets. */
  #fileBytes = 0;
  #filePackets = 0;
  #fileStartNs = 0;
  #fileStartMs = 0;

  /** Packets since the clock was read; 0: it has to be read. */
  #sinceTick = 0;
  #turnAsked = false;
  readonly #endTurn = (): void => {
    this.#turnAsked = false;
    this.#sinceTick = 0;
    if (this.#flushAsked) return;
    const wait = this.#flushedAt + this.#flushMs - this.#time.monotonicMs();
    if (wait <= 0) {
      this.#flush();
    } else {
      this.#flushAsked = true;
      setTimeout(this.#flush, wait).unref();
    }
  };
  #flushAsked = false;
  #flushedAt = Number.NEGATIVE_INFINITY;
  #flushDue = false;
  readonly #flush = (): void => {
    this.#flushAsked = false;
    this.#flushedAt = this.#time.monotonicMs();
    if (this.#pump.busy) this.#flushDue = true;
    else if (this.#out.used > 0) this.#handOver(false);
  };

  readonly #facts: PacketFacts = {
    interface: 0,
    timeHigh: 0,
    timeLow: 0,
    captured: 0,
    original: 0,
    flags: 0,
    queue: -1,
    id: 0,
    drops: 0,
    note: undefined,
  };

  constructor(output: CaptureOutput, options: RecorderOptions = {}) {
    this.#application = options.application ?? "ringwire";
    this.#output = output;
    this.#log = options.log ?? silentLogger;
    this.#filter = options.filter;
    this.#snapBytes = Math.min(options.snapLength || MAX_SNAP_BYTES, MAX_SNAP_BYTES);
    this.#queueBytes = options.queueBytes ?? DEFAULT_QUEUE_BYTES;
    this.#rotateBytes = options.rotateBytes || Number.POSITIVE_INFINITY;
    this.#rotateNs = (options.rotateMs || Number.POSITIVE_INFINITY) * 1e6;
    this.#maxPackets = options.maxPackets || Number.POSITIVE_INFINITY;
    this.#flushMs = options.flushMs ?? DEFAULT_FLUSH_MS;

    this.#time = options.time ?? systemTime;
    this.#clock = new CaptureClock(this.#time);
    this.#pump = new Pump(output, (error) => this.#fail(error));
    this.#pump.onIdle = () => {
      if (!this.#flushDue) return;
      this.#flushDue = false;
      this.#flush();
    };
    this.#out = this.#pump.empty();
    this.#writer = new PcapngWriter(this.#out);
    this.#beginFile();
    this.#askFlush();
  }

  get stats(): readonly InterfaceStats[] {
    return this.#interfaces;
  }

  /** Describes an interface, at any time. Returns its number for the calls below. */
  addInterface(given: CaptureInterface): number {
    const number = this.#interfaces.length;
    const counted =
      given.layer === "ring"
        ? new RecordedInterface(number, given, MAX_SNAP_BYTES, undefined)
        : new RecordedInterface(number, given, this.#snapBytes, this.#filter?.text);
    this.#interfaces.push(counted);
    if (!this.ended) {
      this.#describe(counted);
      this.#askFlush();
    }
    return number;
  }

  /** Nothing more comes from an interface for now: its statistics are written. */
  endInterface(number: number): void {
    const counted = this.#interfaces[number]!;
    if (this.ended || counted.told === counted.received) return;
    this.#clock.tick();
    this.#writeStatistics(counted);
    this.#askFlush();
  }

  /**
   * A frame, in `direction` as its interface sees it, on `queue` (-1: none). `note` says what
   * became of it, as `packetNote` makes it. Only looks at the frame.
   */
  frame(
    number: number,
    direction: Direction,
    queue: number,
    frame: Frame,
    note?: Uint8Array,
  ): void {
    if (this.ended) return;
    const counted = this.#interfaces[number]!;
    counted.received++;
    if (this.#filter !== undefined && !this.#filter.matches(frame)) return;
    const flags = direction | offloadFlags(frame);
    const at = this.#begin(counted, flags, queue, frame.id, frame.length, note);
    if (at === NO_ROOM) return;
    frame.copyTo(this.#out.bytes, at, 0, this.#facts.captured);
    this.#after(false);
  }

  /** The same for a frame that is one run of bytes: a netmap slot, an mbuf. `id` as Frame.id. */
  span(
    number: number,
    direction: Direction,
    queue: number,
    bytes: Uint8Array,
    from: number,
    length: number,
    id: number,
    note?: Uint8Array,
  ): void {
    if (this.ended) return;
    const counted = this.#interfaces[number]!;
    counted.received++;
    if (this.#filter !== undefined && !this.#filter.matchesSpan(bytes, from, length)) return;
    const at = this.#begin(counted, direction, queue, id, length, note);
    if (at === NO_ROOM) return;
    copyBytes(bytes, from, this.#out.bytes, at, this.#facts.captured);
    this.#after(false);
  }

  /**
   * A batch as it crossed the link, on an interface of layer "ring". Directions are the NIC's, on
   * both sides of the link: a batch to the device is outbound.
   */
  batch(
    number: number,
    direction: LinkDirection,
    epoch: number,
    personality: RingPersonality,
    bytes: Uint8Array,
  ): void {
    this.#ring(number, direction, epoch, personality, bytes, false);
  }

  /** A part of the record of what a link has come to, on an interface of layer "ring". */
  state(number: number, epoch: number, personality: RingPersonality, part: Uint8Array): void {
    this.#ring(number, LinkDirection.TO_DEVICE, epoch, personality, part, true);
  }

  #ring(
    number: number,
    direction: LinkDirection,
    epoch: number,
    personality: RingPersonality,
    bytes: Uint8Array,
    isState: boolean,
  ): void {
    if (this.ended) return;
    const counted = this.#interfaces[number]!;
    counted.received++;
    const sent = direction === LinkDirection.TO_DEVICE ? Direction.OUT : Direction.IN;
    const flags = isState ? Direction.UNKNOWN : sent;
    const note = isState ? SNAPSHOT : undefined;
    const at = this.#begin(counted, flags, -1, 0, RING_PREFIX_BYTES + bytes.length, note);
    if (at === NO_ROOM) return;
    writeRingPrefix(this.#out, at, direction, epoch, personality, isState);
    const kept = this.#facts.captured - RING_PREFIX_BYTES;
    copyBytes(bytes, 0, this.#out.bytes, at + RING_PREFIX_BYTES, kept);
    this.#after(isState);
  }

  /** Ends the capture with statistics. Settles when everything that waited has been written. */
  stop(reason: string): Promise<CaptureSummary> {
    this.#end(reason);
    return this.done;
  }

  /** Decides whether a packet is kept; if so there is room for it in `#out`. */
  #room(counted: RecordedInterface, captured: number, note: Uint8Array | undefined): boolean {
    const need = PACKET_OVERHEAD_BYTES + captured + (note === undefined ? 0 : note.length);
    if (this.#pump.queuedBytes + this.#out.used + need > this.#queueBytes) {
      counted.dropped++;
      counted.recentDrops++;
      return false;
    }
    if (this.#sinceTick === 0) this.#clock.tick();
    this.#sinceTick = (this.#sinceTick + 1) % PACKETS_PER_TICK;
    if (this.#filePackets > 0) {
      const written = this.#fileBytes + this.#out.used;
      const end = written + need + this.#interfaces.length * STATISTICS_BYTES;
      const age = this.#clock.elapsedNs - this.#fileStartNs;
      if (end > this.#rotateBytes || age >= this.#rotateNs) this.#rotate();
    }
    if (this.#out.used + need > this.#out.bytes.length) this.#handOver(false);
    return true;
  }

  /**
   * Begins a packet that passed the filter, of `original` bytes. Returns where in `#out` its
   * `#facts.captured` bytes go, or NO_ROOM.
   */
  #begin(
    counted: RecordedInterface,
    flags: number,
    queue: number,
    id: number,
    original: number,
    note: Uint8Array | undefined,
  ): number {
    counted.accepted++;
    const captured = Math.min(original, counted.snapBytes);
    if (!this.#room(counted, captured, note)) return NO_ROOM;
    const facts = this.#facts;
    facts.interface = counted.number;
    facts.timeHigh = this.#clock.high;
    facts.timeLow = this.#clock.low;
    facts.captured = captured;
    facts.original = original;
    facts.flags = flags;
    facts.queue = queue;
    facts.id = id;
    facts.drops = counted.recentDrops;
    facts.note = note;
    counted.recentDrops = 0;
    counted.delivered++;
    return this.#writer.packet(facts);
  }

  /** A packet has been written. */
  #after(isState: boolean): void {
    this.#outPackets++;
    this.#filePackets++;
    // A user that asks for nine packets wants nine that crossed the link.
    if (!isState) this.#packets++;
    if (this.#packets >= this.#maxPackets) this.#end("count");
    else if (this.#out.used >= FULL_BYTES) this.#handOver(false);
    this.#askFlush();
  }

  /** Something has been written: it leaves when this turn of the event loop is over, or later. */
  #askFlush(): void {
    if (this.#turnAsked) return;
    this.#turnAsked = true;
    setImmediate(this.#endTurn);
  }

  /** Gives the output what has been written, and goes on in another buffer. */
  #handOver(last: boolean): void {
    const full = this.#out;
    this.#out = this.#pump.empty();
    this.#writer.out = this.#out;
    this.#fileBytes = last ? 0 : this.#fileBytes + full.used;
    this.#pump.give(full, this.#outPackets, last, this.#fileStartMs);
    this.#outPackets = 0;
  }

  #beginFile(): void {
    this.#fileStartNs = this.#clock.elapsedNs;
    this.#fileStartMs = this.#clock.ms;
    this.#filePackets = 0;
    this.#writer.section({
      hardware: machine(),
      os: osName(),
      application: this.#application,
    });
    for (const counted of this.#interfaces) this.#describe(counted);
  }

  #describe(counted: RecordedInterface): void {
    const { name, info } = counted;
    counted.told = -1;
    this.#writer.interface(info);
    if (info.mac !== undefined) this.#writer.names([{ mac: info.mac, name }]);
  }

  #rotate(): void {
    this.#writeAllStatistics();
    this.#handOver(true);
    this.#beginFile();
  }

  /** Of every interface that has something to tell. */
  #writeAllStatistics(): void {
    for (const counted of this.#interfaces) {
      if (counted.told !== counted.received) this.#writeStatistics(counted);
    }
  }

  #writeStatistics(counted: RecordedInterface): void {
    const { startHigh, startLow, high, low } = this.#clock;
    counted.told = counted.received;
    this.#writer.statistics(counted.number, startHigh, startLow, high, low, counted);
  }

  #end(reason: string): void {
    if (this.ended) return;
    this.ended = true;
    this.#clock.tick();
    this.#writeAllStatistics();
    this.#handOver(true);
    void this.#pump.drained().then(() => this.#finish(reason));
  }

  #fail(error: SinkError): void {
    this.ended = true;
    const { packets, bytes } = totalOf(this.#pump.files);
    const holds = `it holds ${packets} packets in ${bytes} bytes`;
    if (readerGone(error.code)) {
      this.#log.info({ capture: this.#output.name }, `capture: the reader has gone; ${holds}`);
      this.#finish("reader gone", error.code);
    } else {
      this.#log.warn(
        { capture: this.#output.name, code: error.code },
        `capture to ${this.#output.name} stopped: ${error.message}; ${holds}; traffic goes on`,
      );
      this.#finish("failed", error.code);
    }
  }

  #finish(reason: string, code?: string): void {
    this.#ending.resolve({
      reason,
      code,
      ...totalOf(this.#pump.files),
      files: this.#pump.files,
      interfaces: this.#interfaces.map(({ counts }) => counts),
    });
  }
}

/** The bits of epb_flags for a frame's offload facts. */
function offloadFlags(frame: Frame): number {
  let flags = 0;
  if (frame.needsCsum) flags |= FLAG_CHECKSUM_NOT_READY;
  else if (frame.csumValid) flags |= FLAG_CHECKSUM_VALID;
  if (frame.gso !== Gso.NONE) flags |= FLAG_SEGMENTATION_OFFLOADED;
  return flags;
}
