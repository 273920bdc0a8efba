/**
 * One link: a transport, the batch under construction, and what keeps both honest (heartbeat,
 * progress, limits). Device and frontend use the same class with different sinks.
 *
 * A link is always read: nothing here stops reading because sending is slow. Two peers that pause
 * reading while they can't send stay stuck for ever.
 */
import { type Clock, systemClock, type Timer } from "../clock.ts";
import type { Logger } from "../log.ts";
import type { Transport } from "../transport/transport.ts";
import { BatchWriter } from "./batch.ts";
import type { LinkControl, PostName, Sent, Sink } from "./catalogue.ts";
import { applyBatch } from "./decode.ts";
import { ByteQueueLimit } from "./flow.ts";
import { CloseCode, WireError } from "./transactions.ts";

export const HEARTBEAT_MS = 1000;
/** Seconds without a sign of life before a peer is dead: noticed 4 to 5 s after its last byte. */
const MISSED_HEARTBEATS = 4;
/** Progress is reported at least this often, in bytes received. */
const PROGRESS_BYTES = 32 * 1024;
/** More unsent than this and the owner should take no more work for this peer. */
const BACKLOG_BYTES = 1 << 20;
/** More unsent than this and the peer is given up. */
const HARD_BYTES = 16 << 20;
/** A peer may ask for this many heartbeat answers between two of our own ticks. */
const HEARTBEAT_BURST = 32;

/** A tap sees every batch with its bytes; it must copy what it keeps. */
export type LinkTap = (direction: "in" | "out", batch: Uint8Array) => void;

export interface LinkOwner {
  readonly sink: Sink;
  /** A batch has been applied in full. */
  batchApplied(): void;
  /** There is room again after `askForRoom` or `askToWork` answered false. */
  writableAgain(): void;
  /** A batch leaves; `bytes` is what was sent since the start, with it. */
  batchSent?(bytes: number): void;
  /** The peer has applied so many bytes since the start. */
  batchReported?(bytes: number): void;
  /** A heartbeat came back after `ms`; at most one for each that was sent. */
  roundTrip?(ms: number): void;
  /** Called once. `code` is a WebSocket close code. */
  closed(code: number, reason: string): void;
  /**
   * Something broke while our own code applied what the peer sent, or worked on it. The link is
   * ended after this.
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
  readonly #timer: Timer;
  /** Nobody looks, most of the time. */
  #taps: readonly LinkTap[] = [];
  /** The message that is being applied. */
  #applying: Uint8Array | undefined;
  #flushDue = false;
  #closed = false;
  #blocked = false;
  #reported = 0;
  #lastReceived = 0;
  #lastUnsent = 0;
  #missed = 0;
  #answers = 0;
  /** A heartbeat was sent since the last echo. */
  #echoDue = false;
  /** Milliseconds spent on the peer's batches, and when the one at hand began. */
  #workedMs = 0;
  #startedMs = 0;
  #working = false;
  receivedBatches = 0;
  receivedBytes = 0;
  /** Smoothed round trip in ms; 0 before the first heartbeat came back. */
  roundTripMs = 0;

  /** `softBytes`: a batch that reaches this leaves by itself. */
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
    this.writer = new BatchWriter((message, release) => this.#send(message, release), softBytes);
    this.#control = {
      heartbeat: ({ sent, echo }) => this.#heartbeat(sent, echo),
      progress: ({ bytes }) => this.#progress(bytes),
    };
    transport.onMessage = (message) => this.#receive(message);
    transport.onClose = (code, reason) => this.#onClose(code, reason);
    this.#timer = clock.setInterval(() => this.#tick(), HEARTBEAT_MS);
  }

  get closed(): boolean {
    return this.#closed;
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

  /** Whole seconds without a sign of life from the peer, which sends one each second. */
  get silentSeconds(): number {
    return this.#missed;
  }

  /**
   * Milliseconds of a monotonic clock that stands still while a batch of this peer is applied. A
   * budget that refills with it is not refilled by the very work that it bounds, however slow that
   * is here.
   */
  get restMs(): number {
    return (this.#working ? this.#startedMs : this.#clock.now()) - this.#workedMs;
  }

  /**
   * Shows every batch to `tap` from now on, before it is applied or sent. One that is added while a
   * batch is applied sees that batch too: a link's name comes with its first.
   */
  addTap(tap: LinkTap): void {
    this.#taps = [...this.#taps, tap];
    if (this.#applying !== undefined) tap("in", this.#applying);
  }

  removeTap(tap: LinkTap): void {
    this.#taps = this.#taps.filter((other) => other !== tap);
  }

  #show(direction: "in" | "out", message: Uint8Array): void {
    for (const tap of this.#taps) tap(direction, message);
  }

  /** One flush per turn of the event loop, after everything that arrived has been looked at. */
  scheduleFlush(): void {
    if (this.#flushDue || this.#closed) return;
    this.#flushDue = true;
    this.#clock.setImmediate(() => {
      this.#flushDue = false;
      this.flush();
    });
  }

  flush(): void {
    if (this.#closed) return;
    if (!this.writer.empty) this.#reportProgress();
    this.#transport.cork();
    this.writer.flush();
    this.#transport.uncork();
  }

  /** Ends the link and tells the peer why. */
  close(code: CloseCode, reason: string): void {
    if (this.#closed) return;
    // The last report says which frames were received.
    this.#reportProgress();
    this.flush();
    this.#transport.close(code, reason);
    this.#finish(code, reason);
  }

  /** Adds a transaction to the batch; `flush` sends it. Does nothing once the link is closed. */
  post<N extends PostName>(name: N, fields: Sent<N>): void {
    if (!this.#closed) this.writer.post(name, fields);
  }

  #send(message: Uint8Array, release: () => void): void {
    // The peer has said goodbye, and we have yet to hear so: a tap sees nothing that was never sent.
    if (!this.#transport.open) {
      release();
      return;
    }
    if (this.#taps.length > 0) this.#show("out", message);
    this.flow.sent(message.byteLength);
    this.#owner.batchSent?.(this.flow.sentBytes);
    this.#transport.send(message, release);
    if (this.#transport.unsentBytes > HARD_BYTES) {
      this.giveUp(CloseCode.LIMIT, `more than ${HARD_BYTES} bytes wait for a peer that takes none`);
    }
  }

  #receive(message: Uint8Array): void {
    if (this.#closed) return;
    this.receivedBytes += message.byteLength;
    this.receivedBatches++;
    if (this.#taps.length > 0) this.#show("in", message);
    this.#startedMs = this.#clock.now();
    this.#working = true;
    this.#apply(message);
    this.#working = false;
    this.#workedMs += this.#clock.now() - this.#startedMs;
  }

  #apply(message: Uint8Array): void {
    this.#applying = message;
    try {
      applyBatch(message, this.#owner.sink, this.#control);
    } catch (error) {
      if (error instanceof WireError) {
        this.#log.warn({ code: error.code }, `the peer broke a rule of the wire: ${error.message}`);
        this.close(error.close, error.message);
      } else this.#broken(error);
      return;
    } finally {
      this.#applying = undefined;
    }
    if (this.#closed) return;
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
    this.writer.post("progress", { bytes: this.receivedBytes });
  }

  #progress(bytes: number): void {
    if (!this.flow.acknowledge(bytes, this.#clock.now())) {
      throw new WireError(
        "WIRE_PROGRESS",
        `progress: ${bytes} bytes reported, ${this.writer.sentBytes} were sent`,
      );
    }
    this.#owner.batchReported?.(bytes);
    this.#missed = 0;
    if (this.#blocked && this.askForRoom()) {
      this.#blocked = false;
      this.#owner.writableAgain();
    }
  }

  #heartbeat(sent: number, echo: number): void {
    if (echo !== 0) {
      const ms = this.#clock.now() - echo / 1000;
      // A future echo is a peer's invention: it measures nothing.
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
    if (this.#closed) return;
    this.#answers = 0;
    this.#echoDue = true;
    const sent = Math.max(1, Math.round(this.#clock.now() * 1000));
    this.writer.post("heartbeat", { sent, echo: 0 });
    this.flush();
    // Timers run before the sockets are read. What already arrived must count, or our own stall
    // would look like the peer's death.
    this.#clock.setImmediate(() => this.#judge());
  }

  #judge(): void {
    if (this.#closed) return;
    const received = this.#transport.receivedBytes;
    const unsent = this.#transport.unsentBytes;
    // Bytes that wait in this process and get fewer are taken by somebody alive.
    const drained = unsent > 0 && unsent < this.#lastUnsent;
    this.#missed = received !== this.#lastReceived || drained ? 0 : this.#missed + 1;
    this.#lastReceived = received;
    this.#lastUnsent = unsent;
    if (this.#missed >= MISSED_HEARTBEATS) {
      this.giveUp(CloseCode.DEAD_PEER, `no sign of life for ${MISSED_HEARTBEATS} s`);
    }
    if (this.#blocked && this.askForRoom()) {
      this.#blocked = false;
      this.#owner.writableAgain();
    }
  }

  /** Ends the link at once: the peer is told why, and its answer is not waited for. */
  giveUp(code: CloseCode, reason: string): void {
    if (this.#closed) return;
    this.#transport.close(code, reason);
    this.#transport.terminate();
    this.#finish(code, reason);
  }

  #onClose(code: number, reason: string): void {
    if (this.#closed) return;
    this.#finish(code, reason);
  }

  #finish(code: number, reason: string): void {
    this.#closed = true;
    this.#clock.clear(this.#timer);
    this.writer.discard();
    this.#owner.closed(code, reason);
  }
}
