/**
 * One link: a transport, the batch under construction, and the checks of both (heartbeat,
 * progress, limits). Device and frontend use the same class with different sinks.
 *
 * A link is always read, even while sending is slow. Two peers that both stop reading while they
 * can't send would block each other for ever.
 */
import { type Clock, systemClock, type Timer } from "../clock.ts";
import type { Logger } from "../log.ts";
import { type Stalls, stallsOf } from "../stall.ts";
import type { Transport } from "../transport/transport.ts";
import { BatchWriter } from "./batch.ts";
import { beatsOf } from "./beats.ts";
import type { LinkControl, PostName, Sent, Sink } from "./catalogue.ts";
import { DEFAULT_DEAD_AFTER } from "./dead-after.ts";
import { applyMessage } from "./decode.ts";
import { ByteQueueLimit } from "./flow.ts";
import { CloseCode, WireError } from "./protocol.ts";
import { Reader } from "./reader.ts";

/**
 * Ticks of silence after which no more heartbeats are sent. The peer answers those that wait when it
 * runs again, and a thousand of them would be a flood.
 */
const MOST_UNHEARD = DEFAULT_DEAD_AFTER;
/** Bytes received after which progress is reported at the latest. */
const PROGRESS_BYTES = 32 * 1024;
/** Unsent bytes above which the owner should accept no more work for this peer. */
const BACKLOG_BYTES = 1 << 20;
/** Unsent bytes above which the link ends. */
const HARD_BYTES = 16 << 20;
/** Ticks after which the round trip is measured again, also if the peer has measured it meanwhile. */
const MEASURE_TICKS = 4;
/** Time of a deadline or timer that does not exist. */
const NEVER = Number.POSITIVE_INFINITY;
/** Most heartbeats that a peer may send between two ticks of this side. */
const HEARTBEAT_BURST = 32;

const NONE = new Uint8Array(0);

/** Receives every batch of a link. The bytes are valid during the call; a tap copies its data. */
export type LinkTap = (direction: "in" | "out", batch: Uint8Array) => void;

export interface LinkOwner {
  readonly sink: Sink;
  /** Called when a batch has been applied in full. */
  batchApplied(): void;
  /**
   * Called before a batch is sent, and at the deadline of `scheduleLazy`. Posts what has waited for
   * this batch.
   */
  beforeFlush?(): void;
  /** Called when there is room again after `askForRoom` or `askToWork` returned false. */
  writableAgain(): void;
  /**
   * Called with true before a batch is applied that waited while this process stood still, and with
   * false when the last such batch is being applied.
   */
  stale?(isStale: boolean): void;
  /** Called before a batch is sent. `bytes` is the total since the start, this batch included. */
  batchSent?(bytes: number): void;
  /** Called when the peer reports the bytes that it has applied since the start. */
  batchReported?(bytes: number): void;
  /** Called once a second, before the heartbeat. What it posts travels with the heartbeat. */
  tick?(): void;
  /** Called when a heartbeat came back after `ms`; at most once for each tick of this side. */
  roundTrip?(ms: number): void;
  /** Called once. `code` is a WebSocket close code. */
  closed(code: number, reason: string): void;
  /**
   * Called with an error of this program's own code, thrown while a batch was applied or
   * processed. The link closes after this call.
   */
  broken(error: unknown): void;
}

export class Link {
  readonly writer: BatchWriter;
  readonly flow = new ByteQueueLimit();
  readonly #transport: Transport;
  readonly #owner: LinkOwner;
  readonly #control: LinkControl;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #leaveBeats: () => void;
  /** The taps; most of the time there are none. */
  #taps: readonly LinkTap[] = [];
  readonly #reader = new Reader();
  /** The message that is being applied is #bytes[#at .. #at + #length). NONE between messages. */
  #bytes: Uint8Array = NONE;
  #at = 0;
  #length = 0;
  #flushDue = false;
  /** Deadline (ms of the clock) of the posts that wait for company. */
  #deadlineAt = NEVER;
  /** The timer for a deadline, and its time: that of the deadline, or earlier. */
  #lazyTimer: Timer | undefined;
  #timerAt = NEVER;
  /** True while the owner posts what has waited. */
  #gathering = false;
  #blocked = false;
  #reported = 0;
  #lastReceived = 0;
  #lastUnsent = 0;
  /** Number of heartbeats answered since the last tick. */
  #answers = 0;
  /** Number of ticks since the last heartbeat of this side. */
  #unmeasured = 0;
  /** True when a heartbeat was sent since the last echo. */
  #echoDue = false;
  readonly #stalls: Stalls;
  /** Number of stalls that this link has seen, and the heartbeat (µs) behind the last; 0: answered. */
  #seenStalls: number;
  #freshAt = 0;
  /**
   * Time (ms) spent on the peer's batches in which `restMs` was read, and the time at which the
   * present batch began.
   */
  #workedMs = 0;
  #startedMs = 0;
  #isWorking = false;
  #isRestRead = false;
  closed = false;
  /** Whole seconds without a sign of life from the peer, which sends one each second. */
  silentSeconds = 0;
  /**
   * Ticks without a byte before the peer counts as dead. For 4 that is 4 to 5 s after its last byte.
   * Infinity: never.
   */
  deadAfter = DEFAULT_DEAD_AFTER;
  /** Number of batches that were sent because posts had waited until their deadline. */
  lateBatches = 0;
  receivedBatches = 0;
  receivedBytes = 0;
  /** Smoothed round-trip time (ms); 0 before the first heartbeat came back. */
  roundTripMs = 0;

  /** `softBytes`: size at which a batch is sent before its flush. */
  constructor(
    transport: Transport,
    owner: LinkOwner,
    log: Logger,
    softBytes?: number,
    clock: Clock = systemClock,
  ) {
    this.#transport = transport;
    this.#clock = clock;
    this.#owner = owner;
    this.#log = log;
    this.writer = new BatchWriter(
      (bytes, at, length, release) => this.#send(bytes, at, length, release),
      softBytes,
    );
    this.#control = {
      heartbeat: ({ sent, echo }) => this.#heartbeat(sent, echo),
      progress: ({ bytes }) => this.#progress(bytes),
    };
    this.#stalls = stallsOf(clock);
    this.#seenStalls = this.#stalls.look(clock.now());
    transport.onMessage = (bytes, at, length) => this.#receive(bytes, at, length);
    transport.onClose = (code, reason) => this.#finish(code, reason);
    this.#leaveBeats = beatsOf(clock).join({
      beat: () => this.#tick(),
      judge: () => this.#judge(),
    });
  }

  /**
   * False while more bytes are sent and not yet acknowledged than the limit of the link, or more
   * than BACKLOG_BYTES wait in the socket. `writableAgain` is called after a false answer.
   */
  askForRoom(): boolean {
    if (!this.flow.open) {
      this.#blocked = true;
      return false;
    }
    return this.askToWork();
  }

  /**
   * False while more than BACKLOG_BYTES wait in the socket: the caller stops accepting work, and
   * `writableAgain` is called when the socket has drained.
   */
  askToWork(): boolean {
    if (this.#transport.unsentBytes < BACKLOG_BYTES) return true;
    this.#blocked = true;
    return false;
  }

  get unsentBytes(): number {
    return this.#transport.unsentBytes;
  }

  /**
   * Milliseconds of a monotonic clock that stands still while a batch of this peer is applied in
   * which the clock is read. A work budget that refills by this clock gains nothing while its own
   * work runs, however slow this machine is.
   */
  get restMs(): number {
    this.#isRestRead = true;
    return this.#now() - this.#workedMs;
  }

  /** Returns the time (ms); while a batch is applied, that at which it began. */
  #now(): number {
    return this.#isWorking ? this.#startedMs : this.#clock.now();
  }

  /** Bytes of the message that is being applied. */
  get applyingBytes(): number {
    return this.#length;
  }

  /**
   * Passes every further batch to `tap` before the batch is applied or sent. A tap that is added
   * while a batch is applied gets that batch too, because a link's name comes in its first batch.
   */
  addTap(tap: LinkTap): void {
    this.#taps = [...this.#taps, tap];
    if (this.#bytes !== NONE) tap("in", this.#message());
  }

  removeTap(tap: LinkTap): void {
    this.#taps = this.#taps.filter((other) => other !== tap);
  }

  /** Returns the message that is being applied, as an array of its own. */
  #message(): Uint8Array {
    return this.#bytes.subarray(this.#at, this.#at + this.#length);
  }

  #show(direction: "in" | "out", message: Uint8Array): void {
    for (const tap of this.#taps) tap(direction, message);
  }

  readonly #flushNow = (): void => {
    this.#flushDue = false;
    // Posts that wait for company do not leave alone.
    if (!this.writer.empty) this.flush();
  };

  /** Flushes once in this turn of the event loop, after all input that has arrived. */
  scheduleFlush(): void {
    if (this.#flushDue || this.#gathering || this.closed) return;
    this.#flushDue = true;
    this.#clock.setImmediate(this.#flushNow);
  }

  /**
   * Flushes within `ms`. Call it for posts that no peer waits for. Any other flush takes them along
   * and ends the deadline. A link has one deadline: the earliest.
   */
  scheduleLazy(ms: number): void {
    if (this.#gathering || this.closed) return;
    const at = this.#now() + ms;
    if (this.#deadlineAt <= at) return;
    this.#deadlineAt = at;
    if (this.#timerAt <= at) return;
    this.#clock.clear(this.#lazyTimer);
    this.#arm(at, ms);
  }

  /**
   * A flush does not clear the timer: on a busy link, that would cost a timer for each batch. A timer
   * that comes before the deadline is armed again.
   */
  #arm(at: number, ms: number): void {
    this.#timerAt = at;
    this.#lazyTimer = this.#clock.setTimeout(this.#onTimer, ms);
  }

  readonly #onTimer = (): void => {
    this.#timerAt = NEVER;
    if (this.#deadlineAt === NEVER) return;
    const left = this.#deadlineAt - this.#clock.now();
    if (left > 0) {
      this.#arm(this.#deadlineAt, left);
      return;
    }
    this.lateBatches++;
    this.flush();
  };

  /** Sends everything now, also posts that have waited for company. */
  flush(): void {
    if (this.closed || this.#gathering) return;
    this.#gather();
    if (this.closed) return;
    if (!this.writer.empty) this.#reportProgress();
    this.writer.flush();
  }

  /** Lets the owner post what has waited for this batch. */
  #gather(): void {
    this.#deadlineAt = NEVER;
    if (this.#owner.beforeFlush === undefined) return;
    this.#gathering = true;
    try {
      this.#owner.beforeFlush();
    } catch (error) {
      this.#broken(error);
    } finally {
      this.#gathering = false;
    }
  }

  /** Ends the link and tells the peer why. */
  close(code: CloseCode, reason: string): void {
    if (this.closed) return;
    // The last report tells the peer which frames were received.
    this.#reportProgress();
    this.flush();
    this.#transport.close(code, reason);
    this.#finish(code, reason);
  }

  /** Adds a transaction to the batch; `flush` sends it. Does nothing once the link is closed. */
  post<N extends PostName>(name: N, fields: Sent<N>): void {
    if (!this.closed) this.writer.post(name, fields);
  }

  #send(bytes: Uint8Array, at: number, length: number, release: () => void): void {
    // The transport has ended, but `onClose` was not called yet. Taps must not see unsent batches.
    if (!this.#transport.open) {
      release();
      return;
    }
    if (this.#taps.length > 0) this.#show("out", bytes.subarray(at, at + length));
    this.flow.sent(length);
    this.#owner.batchSent?.(this.flow.sentBytes);
    this.#transport.send(bytes, at, length, release);
    if (this.#transport.unsentBytes > HARD_BYTES) {
      this.giveUp(CloseCode.LIMIT, `more than ${HARD_BYTES} bytes wait for a peer that takes none`);
    }
  }

  #receive(bytes: Uint8Array, at: number, length: number): void {
    if (this.closed) return;
    this.receivedBytes += length;
    this.receivedBatches++;
    this.#bytes = bytes;
    this.#at = at;
    this.#length = length;
    if (this.#taps.length > 0) this.#show("in", this.#message());
    this.#startedMs = this.#clock.now();
    if (this.#stalls.look(this.#startedMs) !== this.#seenStalls) this.#stalled();
    this.#isWorking = true;
    this.#apply();
    this.#isWorking = false;
    if (!this.#isRestRead) return;
    this.#isRestRead = false;
    this.#workedMs += this.#clock.now() - this.#startedMs;
  }

  #apply(): void {
    try {
      this.#reader.open(this.#bytes, this.#at, this.#length);
      applyMessage(this.#reader, this.#owner.sink, this.#control);
    } catch (error) {
      // The link ended while this batch was applied, so its NIC is gone. The rest is not looked at.
      if (error instanceof WireError && this.closed) return;
      if (error instanceof WireError) {
        const { code, message } = error;
        const why = code === "MEMORY_BUDGET" ? "" : "the peer broke a rule of the wire: ";
        this.#log.warn({ code }, `${why}${message}`);
        this.close(error.close, error.message);
      } else this.#broken(error);
      return;
    } finally {
      this.#bytes = NONE;
      this.#reader.close();
    }
    if (this.closed) return;
    try {
      this.#owner.batchApplied();
    } catch (error) {
      this.#broken(error);
      return;
    }
    if (this.receivedBytes - this.#reported >= PROGRESS_BYTES) {
      this.#reportProgress();
      this.scheduleFlush();
    }
  }

  #broken(error: unknown): void {
    this.#owner.broken(error);
    this.close(CloseCode.FAILED, "an error on this side");
  }

  #reportProgress(): void {
    if (this.receivedBytes === this.#reported) return;
    this.#reported = this.receivedBytes;
    this.writer.progress(this.receivedBytes);
  }

  #progress(bytes: number): void {
    if (!this.flow.acknowledge(bytes, this.#now())) {
      throw new WireError(
        "WIRE_PROGRESS",
        `progress: ${bytes} bytes reported, ${this.writer.sentBytes} were sent`,
      );
    }
    this.#owner.batchReported?.(bytes);
    this.silentSeconds = 0;
    this.#resume();
  }

  #resume(): void {
    if (!this.#blocked || !this.askForRoom()) return;
    this.#blocked = false;
    this.#owner.writableAgain();
  }

  /** Input up to the answer to this heartbeat has waited while this process stood still. */
  #stalled(): void {
    this.#seenStalls = this.#stalls.count;
    this.#freshAt = this.#beat();
    this.scheduleFlush();
    this.#owner.stale?.(true);
  }

  /** Posts a heartbeat. Returns its time in µs. */
  #beat(): number {
    const sent = Math.max(1, Math.round(this.#clock.now() * 1000));
    this.writer.post("heartbeat", { sent, echo: 0 });
    return sent;
  }

  #heartbeat(sent: number, echo: number): void {
    if (echo !== 0) {
      if (this.#freshAt !== 0 && echo >= this.#freshAt) {
        this.#freshAt = 0;
        this.#owner.stale?.(false);
      }
      const ms = this.#clock.now() - echo / 1000;
      // An echo from the future is invented by the peer, so it is ignored.
      if (ms >= 0) {
        this.roundTripMs = this.roundTripMs === 0 ? ms : 0.75 * this.roundTripMs + 0.25 * ms;
        if (this.#echoDue) this.#owner.roundTrip?.(ms);
        this.#echoDue = false;
      }
    }
    if (sent !== 0) {
      if (++this.#answers > HEARTBEAT_BURST) {
        throw new WireError("WIRE_FLOOD", "heartbeat: too many in a second", CloseCode.LIMIT);
      }
      this.writer.post("heartbeat", { sent: 0, echo: sent });
      this.scheduleFlush();
    }
  }

  #tick(): void {
    if (this.closed) return;
    if (this.#stalls.look(this.#clock.now()) !== this.#seenStalls) this.#stalled();
    try {
      this.#owner.tick?.();
    } catch (error) {
      this.#broken(error);
    }
    if (this.closed) return;
    if (this.silentSeconds > MOST_UNHEARD) return;
    // An answer since the last tick was a sign of life, too.
    if (this.#answers === 0 || ++this.#unmeasured === MEASURE_TICKS) {
      this.#unmeasured = 0;
      this.#echoDue = true;
      this.#beat();
      this.flush();
    }
    this.#answers = 0;
  }

  #judge(): void {
    if (this.closed) return;
    const received = this.#transport.receivedBytes;
    const unsent = this.#transport.unsentBytes;
    // When the unsent bytes of this process become fewer, the peer still reads.
    const drained = unsent > 0 && unsent < this.#lastUnsent;
    this.silentSeconds = received !== this.#lastReceived || drained ? 0 : this.silentSeconds + 1;
    this.#lastReceived = received;
    this.#lastUnsent = unsent;
    if (this.silentSeconds >= this.deadAfter) {
      this.giveUp(CloseCode.DEAD_PEER, `no sign of life for ${this.silentSeconds} s`);
    }
    this.#resume();
  }

  /** Ends the link at once: sends the reason to the peer and does not wait for its answer. */
  giveUp(code: CloseCode, reason: string): void {
    if (this.closed) return;
    this.#transport.abort(code, reason);
    this.#finish(code, reason);
  }

  #finish(code: number, reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.#leaveBeats();
    this.#clock.clear(this.#lazyTimer);
    this.writer.discard();
    this.#owner.closed(code, reason);
  }
}
