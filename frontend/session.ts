/**
 * The life of a NIC at the end of a link. The session connects, sends hello and attaches the
 * driver. When the link is lost, the session connects again and lets the driver recover.
 *
 *   connecting ──welcome──► attached ──link lost──► waiting ──backoff──► connecting
 *       │ refused                 │ close()             │ close(), refused for good
 *       ▼                         ▼                     ▼
 *     failed                   closed                closed
 *
 * Before the first welcome, a refusal ends the session. A NIC that was up before keeps trying, also
 * while another NIC has its name or address.
 */

import { randomUUID } from "node:crypto";
import { type Clock, systemClock, type Timer } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import { LogLimit } from "../shared/log-limit.ts";
import type { SessionState } from "../shared/status/frontend-status.ts";
import { nicUrl } from "../shared/transport/address.ts";
import type { Transport } from "../shared/transport/transport.ts";
import { type DialOptions, dial } from "../shared/transport/websocket.ts";
import {
  agreedSeconds,
  checkedDeadAfter,
  DEFAULT_DEAD_AFTER,
  type DeadAfter,
  deadAfterField,
} from "../shared/wire/dead-after.ts";
import type { Hello, Welcome } from "../shared/wire/hello.ts";
import type { Link, LinkTap } from "../shared/wire/link.ts";
import type { LinkState } from "../shared/wire/link-state.ts";
import { CloseCode, closeOf, PROTOCOL_VERSION } from "../shared/wire/protocol.ts";
import { Hypervisor } from "./bus/hypervisor.ts";
import { PciFunction } from "./bus/pci.ts";
import { DmaSpace } from "./bus/space.ts";
import type { Driver, DriverContext } from "./driver.ts";
import type { NicOptions } from "./nic.ts";
import { explainDial, isWorthAnotherTry, refused, SessionError } from "./session-error.ts";
import { type SessionEvents, SessionSink } from "./session-sink.ts";

export interface SessionOptions
  extends Pick<
    NicOptions,
    | "connect"
    | "credentials"
    | "takeOver"
    | "waitForDevice"
    | "ifname"
    | "mac"
    | "queues"
    | "mtu"
    | "zeroMask"
    | "deadAfter"
  > {
  /** Name of the NIC that the device is asked for. `agreed.name` is the name that it gave. */
  readonly name: string;
  /** When the name is in use, the device may give the next free name: ena1 for ena0. */
  readonly numbered?: boolean | undefined;
  readonly personality: string;
  /** Creates the driver, after the first device has sent its welcome. */
  readonly driver: (context: DriverContext) => Driver;
  readonly agent: string;
  readonly log: Logger;
  readonly tap?: LinkTap | undefined;
  /** Called when the link is lost, is back, or is given up for good. */
  readonly onState?: (state: SessionState, reason: string) => void;
  /** Called after each batch, when the driver has acted on it. */
  readonly onBatch?: () => void;
  /** Called for every fault that the device reports, also for those that the log suppresses. */
  readonly onFault?: (code: string, text: string) => void;
  /** Default: the system's clock. The driver and the link use the same clock. */
  readonly clock?: Clock;
  /** Opens the connection. Default: over a WebSocket. */
  readonly dial?: (options: DialOptions) => Promise<Transport>;
}

const WELCOME_MS = 10_000;
/** Time (ms) that a driver may use to detach from its device in good order. */
const DETACH_MS = 4000;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 2_000;
/**
 * Time (ms) for the TCP connection of a NIC that was up. SYNs leave at 0, 1 and 3 s. After a lost
 * SYN, a new try is better than a long wait.
 */
const RECONNECT_MS = 2200;
/** Silence (s) of a device during which the watchdogs of the driver wait. */
const PAUSED_SECONDS = 2;
const MAX_REPORTS = 64;
/** Log lines of one kind in a second. Further lines are summed up. */
const LINES_A_SECOND = 10;

export class Session {
  readonly space: DmaSpace;
  readonly pci: PciFunction;
  readonly hypervisor = new Hypervisor();
  /** Number of faults that the device reported, by code. */
  readonly faults = new Map<string, number>();
  reconnects = 0;
  /** Number of the connection, from the device's welcome; 0 before the welcome. */
  epoch = 0;
  readonly #options: SessionOptions;
  readonly #clock: Clock;
  /** Limits the log lines that a device can cause at will. */
  readonly #lines: LogLimit;
  readonly #instance = randomUUID();
  readonly #deadAfter: DeadAfter;
  /** Address of the device. A move changes it. */
  #url: string;
  /** Address before the last move, until the new device has sent its welcome. */
  #cameFrom: string | undefined;
  #state: SessionState = "connecting";
  /** The current connection. */
  #end: SessionSink | undefined;
  /** Taps that are added to every link. */
  readonly #taps = new Set<LinkTap>();
  #driver: Driver | undefined;
  #welcome: Welcome | undefined;
  /** The welcome that the current connection waits for. */
  #greeting: PromiseWithResolvers<Welcome> | undefined;
  /** The device's refusal, until the link has closed. */
  #refusal: SessionError | undefined;
  /** True when the batch that is being applied is the last that waited for this process. */
  #freshNext = false;
  #ticker: Timer | undefined;
  #retry: Timer | undefined;
  /** Ends the wait before the next try of the first connection. */
  #hurry: (() => void) | undefined;
  /** Reason of the last failed try that the log reported. */
  #told = "";
  #backoffMs = BACKOFF_FIRST_MS;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const { now } = this.#clock;
    this.#lines = new LogLimit(options.log, now, LINES_A_SECOND);
    this.#url = nicUrl(options.connect);
    this.#deadAfter = checkedDeadAfter(options.deadAfter);
    if (options.tap !== undefined) this.#taps.add(options.tap);
    this.space = new DmaSpace({ log: options.log, now });
    this.pci = new PciFunction(this.space);
  }

  get state(): SessionState {
    return this.#state;
  }

  /** True when the driver exists. */
  get isStarted(): boolean {
    return this.#driver !== undefined;
  }

  get driver(): Driver {
    if (this.#driver === undefined) throw new Error("the session has not started");
    return this.#driver;
  }

  /** The device's last welcome. Throws before the first. */
  get agreed(): Welcome {
    if (this.#welcome === undefined) throw new Error("the session has not started");
    return this.#welcome;
  }

  get link(): Link | undefined {
    return this.#end?.link;
  }

  /** Calls `tap` for every batch of this link and of later links. */
  addTap(tap: LinkTap): void {
    this.#taps.add(tap);
    this.link?.addTap(tap);
  }

  removeTap(tap: LinkTap): void {
    this.#taps.delete(tap);
    this.link?.removeTap(tap);
  }

  /** Reports the current state to a capture that begins now. Does nothing without a link. */
  tellState(state: LinkState): void {
    const driver = this.#driver;
    const link = this.link;
    if (driver === undefined || link === undefined) return;
    driver.tellState(state);
    // Anything posted and not yet sent would be captured twice: in this state, and when it is sent.
    link.flush();
    for (const { address, bytes } of this.space.windows) state.window(address, bytes);
    state.flush();
  }

  /** Connects for the first time and attaches the driver. Rejects with SessionError. */
  async start(): Promise<void> {
    try {
      this.#welcome = await this.#firstWelcome();
      const { queues = 1, mtu = 1500, log } = this.#options;
      this.#driver = this.#options.driver({
        space: this.space,
        pci: this.pci,
        hypervisor: this.hypervisor,
        name: this.#options.ifname ?? this.#welcome.name,
        queues: Math.min(queues, this.#welcome.queues),
        mtu,
        log,
        clock: this.#clock,
      });
      this.#ticker = this.#clock.setInterval(() => {
        this.#lines.tick();
        this.space.tick();
        // A silent device may be paused. What the driver misses is no fault of its hardware.
        if ((this.link?.silentSeconds ?? 0) < PAUSED_SECONDS) this.#driver?.tick();
      }, 1000);
      await this.#driver.attach();
      this.#setState("attached", "");
    } catch (error) {
      const failure =
        error instanceof SessionError
          ? error
          : new SessionError("ATTACH", `the driver could not attach: ${messageOf(error)}`);
      await this.close(failure.message);
      throw failure;
    }
  }

  /** Connects until the device accepts or refuses the NIC. Rejects with SessionError. */
  async #firstWelcome(): Promise<Welcome> {
    const { waitForDevice = false, log } = this.#options;
    for (let tries = 1; ; tries++) {
      try {
        const welcome = await this.#connect();
        if (welcome.name !== this.#options.name) {
          const { name } = this.#options;
          log.info(
            {},
            `the device has a NIC ${name} already, so this one is ${welcome.name} there`,
          );
        }
        this.#backoffMs = BACKOFF_FIRST_MS;
        return welcome;
      } catch (error) {
        const failure = error as SessionError;
        if (this.#over() || !isWorthAnotherTry(failure, tries, waitForDevice)) throw failure;
        this.#tellOnce(failure);
        await new Promise<void>((resolve) => {
          this.#hurry = resolve;
          this.#retry = this.#clock.setTimeout(resolve, this.#nextWait(failure.retryAfterMs));
        });
        if (this.#over()) throw new SessionError("CLOSED", "stopped before it was connected");
      }
    }
  }

  /** Warns about a reason once while it repeats. Repetitions go to the debug log. */
  #tellOnce({ code, message }: SessionError): void {
    const { log } = this.#options;
    if (message === this.#told) {
      log.debug({ code }, message);
      return;
    }
    this.#told = message;
    log.warn({ code }, `${message}; trying again`);
  }

  /** Detaches the driver, closes the link with `reason`, and ends the session. */
  async close(reason = "the frontend stops"): Promise<void> {
    if (this.#state === "closed") return;
    this.#setState("closed", reason);
    this.#clock.clear(this.#ticker);
    this.#clock.clear(this.#retry);
    this.#hurry?.();
    // The driver waits for answers that a device may never send. Closing the link ends its waits.
    const late = this.#clock.setTimeout(
      () => this.link?.close(CloseCode.NORMAL, reason),
      DETACH_MS,
    );
    try {
      await this.#driver?.detach();
    } finally {
      this.#clock.clear(late);
      this.link?.close(CloseCode.NORMAL, reason);
    }
  }

  /** Handlers of a connection's events. Not methods of the session: no other caller is allowed. */
  #events(): SessionEvents {
    return {
      batchApplied: () => {
        this.#driver?.batchApplied();
        if (this.#freshNext) this.#setStale(false);
        this.#options.onBatch?.();
      },
      beforeFlush: () => this.#driver?.beforeFlush(),
      writableAgain: () => this.#driver?.writableAgain(),
      stale: (isStale) => {
        if (isStale) this.#setStale(true);
        this.#freshNext = !isStale;
      },
      broken: (error) =>
        this.#options.log.error({ err: error }, "an error in the driver; the link is closed"),
      closed: (code, reason) => this.#closed(code, reason),
      welcomed: (welcome) => {
        this.link!.deadAfter = agreedSeconds(this.#deadAfter, welcome.deadAfter);
        this.epoch = welcome.epoch;
        this.#greeting?.resolve(welcome);
        this.#greeting = undefined;
      },
      refused: (code, text) => {
        this.#refusal = refused(code, `the device refused: ${text}`);
        // The session closes the link itself: the device's close could arrive during the next link.
        this.link?.close(CloseCode.NORMAL, "refused");
      },
      faultReported: (code, text) => this.#faultReported(code, text),
      moveAsked: (url) => void this.#move(url),
    };
  }

  #setStale(isStale: boolean): void {
    this.#freshNext = false;
    if (this.#driver !== undefined) this.#driver.ifnet.stale = isStale;
  }

  #faultReported(code: string, text: string): void {
    this.#options.onFault?.(code, text);
    const n = this.faults.get(code);
    if (n === undefined && this.faults.size >= MAX_REPORTS) return;
    this.faults.set(code, (n ?? 0) + 1);
    this.#lines.of("fault").warn({ code }, `the device reports: ${text}`);
  }

  #closed(code: number, reason: string): void {
    const end = this.#end;
    this.#end = undefined;
    end?.abandon();
    const why = reason || `connection lost (${code})`;
    if (this.#greeting !== undefined) {
      const early = closeOf(code)?.early;
      const sentence = `${this.#url}: ${why}`;
      const closed =
        early === undefined ? new SessionError("CLOSED", sentence) : refused(early, sentence);
      this.#greeting.reject(this.#refusal ?? closed);
      this.#refusal = undefined;
      return;
    }
    // Also while closing: a detaching driver would wait for answers that can't arrive any more.
    this.#driver?.linkLost();
    this.#setStale(false);
    if (this.#state === "closed") return;
    if (closeOf(code)?.again === false) {
      this.#giveUp(why);
      return;
    }
    this.#options.log.warn({ code }, `the link is gone: ${why}; connecting again`);
    this.#setState("waiting", why);
    this.#retryLater();
  }

  /** After a failed move, returns to the old device. Returns false when there was no move. */
  #goBack(failure: SessionError): boolean {
    const from = this.#cameFrom;
    if (from === undefined) return false;
    this.#options.log.error(
      { code: failure.code },
      `could not move to ${this.#url}: ${failure.message}; going back to ${from}`,
    );
    this.#url = from;
    this.#cameFrom = undefined;
    this.#setState("waiting", failure.message);
    this.#retryLater();
    return true;
  }

  #giveUp(reason: string): void {
    this.#options.log.error({}, reason);
    this.#clock.clear(this.#ticker);
    this.#clock.clear(this.#retry);
    this.#setState("closed", reason);
  }

  /** Reads the state again after an await, across which TypeScript keeps the narrowed type. */
  #over(): boolean {
    return this.#state === "closed";
  }

  #setState(state: SessionState, reason: string): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.onState?.(state, reason);
  }

  #retryLater(leastMs = 0): void {
    this.#retry = this.#clock.setTimeout(() => void this.#reconnect(), this.#nextWait(leastMs));
  }

  #nextWait(leastMs: number): number {
    // Jitter: the frontends of one device must not all reconnect at the same instant.
    const ms = this.#backoffMs * (0.5 + Math.random() / 2);
    this.#backoffMs = Math.min(BACKOFF_MAX_MS, this.#backoffMs * 2);
    return Math.max(leastMs, ms);
  }

  async #reconnect(): Promise<void> {
    this.#setState("connecting", "");
    try {
      const welcome = await this.#connect();
      if (this.#over()) return;
      this.#welcome = welcome;
      this.#told = "";
      this.#cameFrom = undefined;
      this.reconnects++;
    } catch (error) {
      if (this.#over()) return;
      const failure = error as SessionError;
      if (this.#goBack(failure)) return;
      if (failure.again === "never") {
        this.#giveUp(failure.message);
        return;
      }
      this.#tellOnce(failure);
      this.#setState("waiting", failure.message);
      this.#retryLater(failure.retryAfterMs);
      return;
    }
    const link = this.link;
    try {
      await this.#driver?.linkBack();
      if (this.link !== link || this.#over()) return;
      this.#backoffMs = BACKOFF_FIRST_MS;
      this.#options.log.info({}, `the link is back: ${this.#url}, segment ${this.agreed.segment}`);
      this.#setState("attached", "");
    } catch (error) {
      this.#options.log.error({ err: error }, `the driver could not recover: ${messageOf(error)}`);
      if (this.link === link) link?.close(CloseCode.FAILED, "the driver could not recover");
    }
  }

  async #connect(): Promise<Welcome> {
    const { personality, queues, mtu, agent, log, numbered, takeOver } = this.#options;
    const before = this.#welcome;
    // A device that assigns name and address could assign others now, so ask for the first ones.
    const mac = before?.mac ?? this.#options.mac;
    const name = before?.name ?? this.#options.name;
    this.epoch = 0;
    let transport: Transport;
    try {
      transport = await (this.#options.dial ?? dial)({
        url: this.#url,
        zeroMask: this.#options.zeroMask === true,
        credentials: this.#options.credentials,
        ...(before === undefined ? {} : { connectMs: RECONNECT_MS }),
      });
    } catch (error) {
      throw explainDial(error, this.#url);
    }
    if (this.#over()) {
      // The session was closed while it dialled. No other code would close this connection.
      transport.close(CloseCode.NORMAL, "the frontend stops");
      throw new SessionError("CLOSED", "stopped before it was connected");
    }
    const hello: Hello = {
      version: PROTOCOL_VERSION,
      personality,
      name,
      instance: this.#instance,
      agent,
      // Sent once only: two NICs would otherwise take the name from each other for ever.
      ...(before === undefined && numbered === true ? { numbered } : {}),
      ...(before === undefined && takeOver === true ? { takeOver } : {}),
      ...(mac === undefined ? {} : { mac }),
      ...(queues === undefined ? {} : { queues }),
      ...(mtu === undefined ? {} : { mtu }),
      ...(this.#deadAfter === DEFAULT_DEAD_AFTER
        ? {}
        : { deadAfter: deadAfterField(this.#deadAfter) }),
    };
    this.#greeting = Promise.withResolvers<Welcome>();
    const { promise } = this.#greeting;
    this.#end = new SessionSink(transport, this, this.#events(), log, this.#clock);
    const { link } = this.#end;
    for (const tap of this.#taps) link.addTap(tap);
    link.post("hello", { greeting: hello });
    link.scheduleFlush();
    const timer = this.#clock.setTimeout(() => {
      link.close(CloseCode.PROTOCOL, `no welcome within ${WELCOME_MS / 1000} s`);
    }, WELCOME_MS);
    try {
      return await promise;
    } finally {
      this.#clock.clear(timer);
      this.#greeting = undefined;
    }
  }

  async #move(to: string): Promise<void> {
    const link = this.link;
    const driver = this.#driver;
    if (link === undefined || driver === undefined || this.#state !== "attached") {
      this.#lines.of("move").warn({}, `asked to move to ${to} before the driver is up; it stays`);
      return;
    }
    this.#options.log.info({}, `moving to ${to}`);
    try {
      await driver.suspend();
    } catch (error) {
      this.#options.log.warn({ err: error }, `the driver could not suspend: ${messageOf(error)}`);
    }
    if (this.link !== link || this.#over()) return;
    this.#cameFrom = this.#url;
    this.#url = to;
    this.#backoffMs = BACKOFF_FIRST_MS;
    link.close(CloseCode.MOVED, `moved to ${to}`);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
