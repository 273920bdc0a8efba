/**
 * A NIC's life at the end of a link: connects, says hello, attaches the driver, and when the link
 * goes away connects again and lets the driver recover.
 *
 *   connecting ──welcome──► attached ──link lost──► waiting ──backoff──► connecting
 *       │ refused                 │ close()             │ close(), refused for good
 *       ▼                         ▼                     ▼
 *     failed                   closed                closed
 *
 * Before the first welcome a refusal ends it. A NIC that was up comes back: it tries again while
 * another has its name or address.
 */

import { randomUUID } from "node:crypto";
import { type Clock, systemClock, type Timer } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import { LogLimit } from "../shared/log-limit.ts";
import type { SessionState } from "../shared/status/frontend-status.ts";
import { nicUrl } from "../shared/transport/address.ts";
import type { Transport } from "../shared/transport/transport.ts";
import { type DialOptions, dial } from "../shared/transport/websocket.ts";
import type { Hello, Welcome } from "../shared/wire/hello.ts";
import type { Link, LinkTap } from "../shared/wire/link.ts";
import type { LinkState } from "../shared/wire/link-state.ts";
import { CloseCode, closeOf, PROTOCOL_VERSION } from "../shared/wire/transactions.ts";
import { Hypervisor } from "./bus/hypervisor.ts";
import { PciFunction } from "./bus/pci.ts";
import { DmaSpace } from "./bus/space.ts";
import type { Driver, DriverContext } from "./driver.ts";
import { explainDial, isWorthAnotherTry, refused, SessionError } from "./session-error.ts";
import { type SessionEvents, SessionSink } from "./session-sink.ts";

export interface SessionOptions {
  /** ws, wss, http, https or HOST:PORT. */
  readonly connect: string;
  /** What the device is to call us; `agreed.name` is what it does call us. */
  readonly name: string;
  /** When the name is in use, the device may give the next free one: ena1 for ena0. */
  readonly numbered?: boolean | undefined;
  /** The name is wanted although a NIC that is alive has it: that one loses it. */
  readonly takeOver?: boolean | undefined;
  /** A device that is not there yet is waited for, without limit. Else `start` rejects. */
  readonly waitForDevice?: boolean | undefined;
  /** What the interface is called in this process; the NIC's name when not given. */
  readonly ifname?: string | undefined;
  readonly personality: string;
  /** Makes the driver, once the first device has welcomed us. */
  readonly driver: (context: DriverContext) => Driver;
  readonly mac?: string | undefined;
  /** Queue pairs wanted; 1 when absent, because one thread runs them all. */
  readonly queues?: number | undefined;
  readonly mtu?: number | undefined;
  readonly zeroMask?: boolean | undefined;
  readonly agent: string;
  readonly log: Logger;
  readonly tap?: LinkTap | undefined;
  /** Told when the link is lost, back, or given up for good. */
  readonly onState?: (state: SessionState, reason: string) => void;
  /** Called after each batch, when the driver has acted on it. */
  readonly onBatch?: () => void;
  /** Told what the device reports, also where the log has had enough of it. */
  readonly onFault?: (code: string, text: string) => void;
  /** The system's when not given. The driver and the link use the same one. */
  readonly clock?: Clock;
  /** Opens the connection; over a WebSocket when not given. */
  readonly dial?: (options: DialOptions) => Promise<Transport>;
}

const WELCOME_MS = 10_000;
/** A driver takes no longer to leave its device in good order. */
const DETACH_MS = 4000;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 2_000;
/**
 * Time for the TCP connection of a NIC that was up. SYNs leave at 0, 1 and 3 s: one that is lost is
 * better followed by a new try than by a long wait.
 */
const RECONNECT_MS = 2200;
const MAX_REPORTS = 64;
/** Lines of a kind in a second, before the rest is summed up. */
const LINES_A_SECOND = 10;

export class Session {
  readonly space: DmaSpace;
  readonly pci: PciFunction;
  readonly hypervisor = new Hypervisor();
  /** What the device said it refused or found wrong, by code. */
  readonly faults = new Map<string, number>();
  reconnects = 0;
  /** Number of the connection, as welcome says; 0 before it has. */
  epoch = 0;
  readonly #options: SessionOptions;
  readonly #clock: Clock;
  /** For what a device can cause at will. */
  readonly #lines: LogLimit;
  readonly #instance = randomUUID();
  /** Where the device is; a move changes it. */
  #url: string;
  /** Where it was before the last move, until the new device has welcomed us. */
  #cameFrom: string | undefined;
  #state: SessionState = "connecting";
  /** The connection at hand. */
  #end: SessionSink | undefined;
  /** Put on every link. */
  readonly #taps = new Set<LinkTap>();
  #driver: Driver | undefined;
  #welcome: Welcome | undefined;
  #onWelcome: ((welcome: Welcome) => void) | undefined;
  #onRefused: ((error: SessionError) => void) | undefined;
  /** The device said why there is no welcome; the link's end is on its way. */
  #refusal: SessionError | undefined;
  #ticker: Timer | undefined;
  #retry: Timer | undefined;
  /** Ends the wait before another first try. */
  #hurry: (() => void) | undefined;
  /** Why the last try failed, as far as the log has it. */
  #told = "";
  #backoffMs = BACKOFF_FIRST_MS;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const { now } = this.#clock;
    this.#lines = new LogLimit(options.log, now, LINES_A_SECOND);
    this.#url = nicUrl(options.connect);
    if (options.tap !== undefined) this.#taps.add(options.tap);
    this.space = new DmaSpace({ log: options.log, now });
    this.pci = new PciFunction(this.space, { revision: 0, hasBar2: false });
  }

  get state(): SessionState {
    return this.#state;
  }

  /** There is a driver. */
  get isStarted(): boolean {
    return this.#driver !== undefined;
  }

  get driver(): Driver {
    if (this.#driver === undefined) throw new Error("the session has not started");
    return this.#driver;
  }

  /** What the device said last. */
  get agreed(): Welcome {
    if (this.#welcome === undefined) throw new Error("the session has not started");
    return this.#welcome;
  }

  get link(): Link | undefined {
    return this.#end?.link;
  }

  /** Shows every batch of this link and of those to come. */
  addTap(tap: LinkTap): void {
    this.#taps.add(tap);
    this.link?.addTap(tap);
  }

  removeTap(tap: LinkTap): void {
    this.#taps.delete(tap);
    this.link?.removeTap(tap);
  }

  /** Tells a capture that begins now what it has missed; nothing while there is no link. */
  tellState(state: LinkState): void {
    const driver = this.#driver;
    const link = this.link;
    if (driver === undefined || link === undefined) return;
    driver.tellState(state);
    // What is posted and not sent would be told twice: by the record, and when it is sent.
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
        this.#driver?.tick();
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

  /** Connects until the device welcomes us, or refuses. Rejects with SessionError. */
  async #firstWelcome(): Promise<Welcome> {
    const { waitForDevice = false, log } = this.#options;
    for (let tries = 1; ; tries++) {
      try {
        const welcome = await this.#connect();
        if (welcome.name !== this.#options.name) {
          const { name } = this.#options;
          log.info({}, `the device has a NIC ${name} already: this one is ${welcome.name} there`);
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

  /** The log has each reason once, however often it comes. */
  #tellOnce({ code, message }: SessionError): void {
    const { log } = this.#options;
    if (message === this.#told) {
      log.debug({ code }, message);
      return;
    }
    this.#told = message;
    log.warn({ code }, `${message}; trying again`);
  }

  /** Detaches the driver, tells the device, and ends. */
  async close(reason = "the frontend stops"): Promise<void> {
    if (this.#state === "closed") return;
    this.#setState("closed", reason);
    this.#clock.clear(this.#ticker);
    this.#clock.clear(this.#retry);
    this.#hurry?.();
    // A driver waits for answers, and a device need not give any: without a link it waits no more.
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

  /** What a connection tells us. Not methods of the session, because nobody else may call them. */
  #events(): SessionEvents {
    return {
      batchApplied: () => {
        this.#driver?.batchApplied();
        this.#options.onBatch?.();
      },
      writableAgain: () => this.#driver?.writableAgain(),
      broken: (error) =>
        this.#options.log.error({ err: error }, "an error in the driver; the link is closed"),
      closed: (code, reason) => this.#closed(code, reason),
      welcomed: (welcome) => {
        this.epoch = welcome.epoch;
        const take = this.#onWelcome;
        this.#onWelcome = undefined;
        this.#onRefused = undefined;
        take?.(welcome);
      },
      refused: (code, text) => {
        this.#refusal = refused(code, `the device refused: ${text}`);
        // The session closes, because the device's close could come when there is another link already.
        this.link?.close(CloseCode.NORMAL, "refused");
      },
      faultReported: (code, text) => this.#faultReported(code, text),
      moveAsked: (url) => void this.#move(url),
    };
  }

  #faultReported(code: string, text: string): void {
    this.#options.onFault?.(code, text);
    const n = this.faults.get(code);
    if (n === undefined && this.faults.size >= MAX_REPORTS) return;
    this.faults.set(code, (n ?? 0) + 1);
    this.#lines.warn("fault", { code }, `the device reports: ${text}`);
  }

  #closed(code: number, reason: string): void {
    const end = this.#end;
    this.#end = undefined;
    end?.abandon();
    const why = reason || `connection lost (${code})`;
    if (this.#onRefused !== undefined) {
      const refusal = this.#refusal;
      this.#refusal = undefined;
      const early = closeOf(code)?.early;
      const sentence = `${this.#url}: ${why}`;
      this.#onRefused(
        refusal ??
          (early === undefined ? new SessionError("CLOSED", sentence) : refused(early, sentence)),
      );
      return;
    }
    // Also at the end: a driver that detaches waits for answers that nobody can give any more.
    this.#driver?.linkLost();
    if (this.#state === "closed") return;
    if (closeOf(code)?.again === false) {
      this.#giveUp(why);
      return;
    }
    this.#options.log.warn({ code }, `the link is gone: ${why}; connecting again`);
    this.#setState("waiting", why);
    this.#retryLater();
  }

  /** A move that fails ends where it began. */
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

  /** Asked after an await, where the compiler still believes the state from before it. */
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
    // Jitter: many frontends of one device must not all come back in the same instant.
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
    // A device that makes name and address itself may make others: the first ones stay.
    const mac = before?.mac ?? this.#options.mac;
    const name = before?.name ?? this.#options.name;
    this.epoch = 0;
    let transport: Transport;
    try {
      transport = await (this.#options.dial ?? dial)({
        url: this.#url,
        zeroMask: this.#options.zeroMask === true,
        ...(before === undefined ? {} : { connectMs: RECONNECT_MS }),
      });
    } catch (error) {
      throw explainDial(error, this.#url);
    }
    if (this.#over()) {
      // Closed while it dialled: nobody else would end this connection.
      transport.close(CloseCode.NORMAL, "the frontend stops");
      throw new SessionError("CLOSED", "stopped before it was connected");
    }
    const hello: Hello = {
      version: PROTOCOL_VERSION,
      personality,
      name,
      instance: this.#instance,
      agent,
      // Said once: two NICs that take a name from each other would do so for ever.
      ...(before === undefined && numbered === true ? { numbered } : {}),
      ...(before === undefined && takeOver === true ? { takeOver } : {}),
      ...(mac === undefined ? {} : { mac }),
      ...(queues === undefined ? {} : { queues }),
      ...(mtu === undefined ? {} : { mtu }),
    };
    let timer: Timer | undefined;
    try {
      return await new Promise<Welcome>((resolve, reject) => {
        this.#onWelcome = resolve;
        this.#onRefused = reject;
        this.#end = new SessionSink(transport, this, this.#events(), log, this.#clock);
        const { link } = this.#end;
        for (const tap of this.#taps) link.addTap(tap);
        link.post("hello", { greeting: hello });
        link.scheduleFlush();
        timer = this.#clock.setTimeout(() => {
          link.close(CloseCode.PROTOCOL, `no welcome within ${WELCOME_MS / 1000} s`);
        }, WELCOME_MS);
      });
    } finally {
      this.#clock.clear(timer);
      this.#onWelcome = undefined;
      this.#onRefused = undefined;
    }
  }

  async #move(to: string): Promise<void> {
    const link = this.link;
    const driver = this.#driver;
    if (link === undefined || driver === undefined || this.#state !== "attached") {
      this.#lines.warn("move", {}, `asked to move to ${to} before the driver is up; it stays`);
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
