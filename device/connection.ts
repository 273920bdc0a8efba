/**
 * One connection of a frontend: the handshake, then a NIC model on one side and a link on the
 * other. An error of a peer ends its own connection and no other.
 */
import type { Clock, Timer } from "../shared/clock.ts";
import { type Logger, withFields } from "../shared/log.ts";
import type { LogLimit } from "../shared/log-limit.ts";
import type { MemoryAccount } from "../shared/memory-budget.ts";
import { formatMac } from "../shared/net/ethernet.ts";
import type { NicStatus } from "../shared/status/device-status.ts";
import type { Transport } from "../shared/transport/transport.ts";
import { agreedSeconds, DEFAULT_DEAD_AFTER, type DeadAfter } from "../shared/wire/dead-after.ts";
import { type Hello, parseHello, type Welcome } from "../shared/wire/hello.ts";
import type { LinkTap } from "../shared/wire/link.ts";
import type { LinkState } from "../shared/wire/link-state.ts";
import {
  CloseCode,
  FaultSeverity,
  Limits,
  PROTOCOL_VERSION,
  WireError,
} from "../shared/wire/protocol.ts";
import { Space } from "../shared/wire/records.ts";
import type { Identity } from "./access/gate.ts";
import { Refusal } from "./admission.ts";
import type { RingSource } from "./capture/capture.ts";
import { type ConnectionEvents, ConnectionSink } from "./connection-sink.ts";
import { Deliveries } from "./deliveries.ts";
import { type Divergence, type Mirror, MirrorCheck } from "./dma/mirror-check.ts";
import { type HostOwner, LinkHost } from "./link-host.ts";
import type { RoundTrips } from "./metrics.ts";
import type { GuestHost, Nic, NicConfig, NicEvent, NicLevers } from "./nic.ts";
import { DropReason } from "./switch/port.ts";
import type { Switch } from "./switch/switch.ts";

/** Services of the server for a connection. */
export interface ConnectionOwner extends HostOwner {
  readonly log: Logger;
  /** Log of events that any peer can cause. All connections share it, and its rate is bounded. */
  readonly lines: LogLimit;
  readonly agent: string;
  /** Silence of a frontend after which it counts as dead. */
  readonly deadAfter: DeadAfter;
  /** True: compare both copies of coherent memory once a second. */
  readonly checkWindows: boolean;
  readonly roundTrips: Pick<RoundTrips, "observe">;
  /** Decides about a hello. Throws Refusal. */
  admit(connection: Connection, hello: Hello): Admitted;
  /** Creates the NIC of a connection that got its name. Taps have not seen hello yet. */
  create(connection: Connection, host: GuestHost): Nic;
  /**
   * Called once, when the connection has released everything. `last` is the last snapshot of its
   * NIC, if it had one.
   */
  gone(connection: Connection, last: NicStatus | undefined): void;
}

/** What the device gives to a frontend that may join. */
export interface Admitted {
  readonly config: NicConfig;
  /** The switch of the NIC's segment. */
  readonly segment: Pick<Switch, "attach">;
  readonly epoch: number;
}

/** Time (ms) within which a peer must send hello. */
const HELLO_MS = 10_000;
/** Most kinds of reports that are counted for one frontend. */
const MAX_REPORTS = 64;
/** Time (ms) within which a driver should suspend. */
const SUSPEND_MS = 5_000;
/** Time (ms) for a NIC to suspend and leave. */
export const MOVE_MS = 15_000;

/** The other end of a connection. */
export interface Origin {
  /** HOST:PORT. */
  readonly name: string;
  readonly identity: Identity;
  /** IP address of the device's end. */
  readonly reachedAt: string;
}

export class Connection implements RingSource {
  /** Number of the connection, which welcome carries; 0 before welcome. */
  epoch = 0;
  readonly reachedAt: string;
  /** HOST:PORT of the frontend's end. */
  readonly peer: string;
  readonly identity: Identity;
  readonly #owner: ConnectionOwner;
  readonly #end: ConnectionSink;
  readonly #account: MemoryAccount;
  readonly #deliveries = new Deliveries();
  readonly #mirrors: MirrorCheck | undefined;
  readonly #clock: Clock;
  readonly #helloTimer: Timer;
  /** Takes this connection off the list of its identity. */
  readonly #forget: () => void;
  readonly #since: number;
  /** Number of faults that the frontend reported, by code. */
  readonly #reports = new Map<string, number>();
  #hello: Hello | undefined;
  #host: LinkHost | undefined;
  #nic: Nic | undefined;
  /** True when the batch that is being applied is the last that waited for this process. */
  #freshNext = false;
  /** Set while a move is under way. Called with true if the connection ended by the move. */
  #moved: ((moved: boolean | undefined) => void) | undefined;

  /** The connection closes `account` at its end. */
  constructor(
    transport: Transport,
    { name: peer, identity, reachedAt }: Origin,
    owner: ConnectionOwner,
    account: MemoryAccount,
  ) {
    this.#owner = owner;
    this.identity = identity;
    this.#account = account;
    this.reachedAt = reachedAt;
    this.peer = peer;
    this.#clock = owner.clock;
    this.#since = this.#clock.now();
    this.#end = new ConnectionSink(
      transport,
      this.#events(),
      owner.lines.of("wire"),
      owner.pushBytes,
      this.#clock,
      account,
    );
    if (owner.checkWindows) {
      this.#mirrors = new MirrorCheck(
        (space, address, length) => this.#end.memory.ask(space, address, length),
        () => this.#nic?.sharedRings?.() ?? this.#windows(),
        (where) => this.#windowDiverged(where),
      );
    }
    this.#forget = identity.use((why) => this.cut(CloseCode.REFUSED, why));
    this.#helloTimer = this.#clock.setTimeout(() => {
      this.#end.link.close(CloseCode.PROTOCOL, `no hello within ${HELLO_MS / 1000} s`);
    }, HELLO_MS);
  }

  /** Name of the NIC; empty before hello. */
  get name(): string {
    return this.#host?.config.name ?? "";
  }

  /** Name of the NIC's segment; empty before hello. */
  get segment(): string {
    return this.#host?.config.segment ?? "";
  }

  get mac(): Uint8Array | undefined {
    return this.#host?.config.mac;
  }

  get personality(): string {
    return this.#hello?.personality ?? "";
  }

  /** Time (s) without a sign of life from the frontend. */
  get silentSeconds(): number {
    return this.#end.link.silentSeconds;
  }

  /** Time (s) of silence after which the frontend counts as dead; Infinity for never. */
  get deadAfter(): number {
    return this.#end.link.deadAfter;
  }

  /** Levers for tests of a driver; undefined before welcome. */
  get levers(): NicLevers | undefined {
    return this.#nic?.levers;
  }

  // Services for a capture.

  addTap(tap: LinkTap): void {
    this.#end.link.addTap(tap);
  }

  removeTap(tap: LinkTap): void {
    this.#end.link.removeTap(tap);
  }

  tellState(state: LinkState): void {
    // Unsent data would appear twice in the capture: in the state record, and when it is sent.
    this.#end.link.flush();
    for (const { address, bytes } of this.#end.memory.windows.all) state.window(address, bytes);
    this.#nic?.tellState(state);
    state.flush();
  }

  /** Ends the connection. The peer receives code and reason. */
  close(code: CloseCode, reason: string): void {
    this.#end.link.close(code, reason);
  }

  /** Ends the connection as `close` does, but at once, because another one needs its place. */
  cut(code: CloseCode, reason: string): void {
    this.#end.link.giveUp(code, reason);
  }

  /** Yields all windows: the memory that the driver of a PCI function shares with the model. */
  #windows(): readonly Mirror[] {
    const { all } = this.#end.memory.windows;
    return all.map(({ address, bytes }) => ({ space: Space.BUS, address, bytes }));
  }

  /** Ends the link. The frontend connects again and sends all its memory, so the copies agree. */
  #windowDiverged({ space, address, ours, theirs }: Divergence): void {
    const where = `${space === Space.BUS ? "bus address" : "grant"} 0x${address.toString(16)}`;
    const text = `both copies of coherent memory differ at ${where}: the frontend has ${theirs}, the device ${ours}`;
    this.#host?.fault(FaultSeverity.DEVICE, "WINDOW_DIVERGED", text);
    this.close(CloseCode.FAILED, text);
  }

  /** Returns the handlers of the link's events. Not methods: only the link may call them. */
  #events(): ConnectionEvents {
    const owner = this.#owner;
    return {
      batchApplied: () => {
        this.#nic?.batchEnd();
        this.#end.settle();
        if (this.#freshNext && this.#host?.port !== undefined) this.#host.port.stale = false;
        this.#freshNext = false;
      },
      stale: (isStale) => {
        if (isStale && this.#host?.port !== undefined) this.#host.port.stale = true;
        this.#freshNext = !isStale;
      },
      beforeFlush: () => this.#nic?.beforeFlush(),
      batchSent: (bytes) => this.#deliveries.sent(bytes, this.#posted()),
      batchReported: (bytes) => this.#deliveries.reported(bytes),
      writableAgain: () => this.#nic?.writableAgain(),
      tick: () => {
        this.#host?.faults.tick();
        this.#nic?.tick();
        void this.#mirrors?.tick();
      },
      roundTrip: (ms) => owner.roundTrips.observe(ms),
      closed: (code, reason) => this.#closed(code, reason),
      broken: (error) =>
        owner.log.error(
          { err: error, nic: this.name },
          "an error in the device model; this NIC is stopped",
        ),
      hello: (value) => this.#greet(value),
      faultReported: (code, text) => this.#faultReported(code, text),
    };
  }

  /** Number of frames for the driver that are in a batch, sent or not. */
  #posted(): number {
    return (this.#host?.port?.taken ?? 0) - (this.#nic?.rxQueued ?? 0);
  }

  #closed(code: number, reason: string): void {
    this.#clock.clear(this.#helloTimer);
    const nic = this.#nic;
    const last = nic === undefined ? undefined : this.#last();
    this.#nic = undefined;
    this.#end.serve(undefined);
    nic?.destroy();
    this.#end.memory.abandon();
    this.#account.close();
    this.#forget();
    this.#owner.gone(this, last);
    if (nic !== undefined) {
      const why = reason || "connection lost";
      this.#owner.lines.of("left").info({ nic: this.name, code }, `${this.name} left: ${why}`);
      this.#owner.events.emit("left", { ...this.#event(), reason: why });
    } else if (code === CloseCode.NO_MEMORY) {
      this.#owner.lines.of("refused").warn({ peer: this.peer, code }, `refused a peer: ${reason}`);
    }
    this.#moved?.(code === CloseCode.MOVED);
  }

  /** Counts the frames that are lost with the link. Returns the NIC's last totals. */
  #last(): NicStatus | undefined {
    const lost = this.#posted() - this.#deliveries.arrived;
    if (lost > 0) this.#host?.port?.drop(DropReason.LINK_LOST, "out", lost);
    return this.snapshot();
  }

  /** Counts an access of the device that the frontend refused. Logs the first of each code. */
  #faultReported(code: string, text: string): void {
    const n = this.#reports.get(code);
    if (n === undefined) {
      if (this.#reports.size >= MAX_REPORTS) return;
      this.#owner.lines
        .of("reports")
        .warn({ nic: this.name, code }, `${this.name} reports: ${text}`);
    }
    this.#reports.set(code, (n ?? 0) + 1);
  }

  // The handshake.

  #greet(value: unknown): void {
    this.#clock.clear(this.#helloTimer);
    try {
      this.#welcome(parseHello(value));
    } catch (error) {
      if (!(error instanceof Refusal || error instanceof WireError)) throw error;
      this.#owner.lines
        .of("refused")
        .warn({ peer: this.peer, code: error.code }, `refused a frontend: ${error.message}`);
      this.#end.link.post("refuse", {
        code: error.code,
        text: error.message.slice(0, Limits.TEXT_BYTES / 4),
      });
      this.#end.link.close(CloseCode.REFUSED, error.message);
    }
  }

  #welcome(hello: Hello): void {
    if (hello.version !== PROTOCOL_VERSION) {
      throw new Refusal(
        "VERSION",
        `this device speaks version ${PROTOCOL_VERSION} of the protocol, the frontend version ${hello.version}; use the same release of ringwire on both sides`,
      );
    }
    const { config, segment, epoch } = this.#owner.admit(this, hello);
    this.#hello = hello;
    const log = withFields(this.#owner.log, { nic: config.name, segment: config.segment });
    const { link, memory } = this.#end;
    this.#host = new LinkHost(link, memory, config, segment, log, this.#owner);
    this.epoch = epoch;
    this.#nic = this.#owner.create(this, this.#host);
    this.#end.serve(this.#nic, hello.personality);
    link.deadAfter = agreedSeconds(this.#owner.deadAfter, hello.deadAfter);
    const welcome: Welcome = {
      version: PROTOCOL_VERSION,
      agent: this.#owner.agent,
      name: config.name,
      mac: formatMac(config.mac),
      segment: config.segment,
      epoch,
      queues: config.queues,
      maxMtu: config.maxMtu,
      pushBytes: this.#owner.pushBytes,
      revision: this.#nic.pci?.revision ?? 0,
      deviceMemory: this.#nic.pci?.deviceMemory ?? false,
      ...(link.deadAfter === DEFAULT_DEAD_AFTER
        ? {}
        : { deadAfter: Number.isFinite(link.deadAfter) ? link.deadAfter : 0 }),
    };
    this.#end.link.post("welcome", { greeting: welcome });
    this.#end.link.scheduleFlush();
    this.#owner.lines.of("joined").info(
      {
        nic: config.name,
        segment: config.segment,
        mac: welcome.mac,
        peer: this.peer,
        personality: hello.personality,
      },
      `${config.name} joined`,
    );
    this.#owner.events.emit("joined", this.#event());
  }

  #event(): NicEvent {
    const { mac } = this;
    return {
      name: this.name,
      segment: this.segment,
      mac: mac === undefined ? "" : formatMac(mac),
      peer: this.peer,
    };
  }

  /**
   * Lets the driver suspend, then tells the frontend to connect to the device at `url`. Resolves
   * when the connection has ended: true if it ended by this move. Resolves to undefined after
   * MOVE_MS: the NIC stays, and a new move may begin.
   */
  async migrate(url: string): Promise<boolean | undefined> {
    const nic = this.#nic;
    if (nic === undefined || this.#moved !== undefined) return false;
    const { promise, resolve } = Promise.withResolvers<boolean | undefined>();
    this.#moved = resolve;
    const late = this.#clock.setTimeout(() => {
      this.#moved = undefined;
      resolve(undefined);
    }, MOVE_MS);
    let told = false;
    const tell = (): void => {
      if (told || this.#end.link.closed) return;
      told = true;
      this.#end.link.post("move", { url });
      this.#end.link.scheduleFlush();
    };
    if (nic.suspend === undefined) tell();
    else {
      nic.suspend(tell);
      // If the driver has not suspended within SUSPEND_MS, the frontend is told to move anyway.
      this.#clock.setTimeout(tell, SUSPEND_MS).unref();
    }
    return promise.finally(() => this.#clock.clear(late));
  }

  /** Reports a broken rule of the segment, to the frontend and in the log. */
  notice(code: string, text: string): void {
    this.#host?.fault(FaultSeverity.NOTE, code, text);
  }

  /** Returns the NIC's status, or undefined before hello. */
  snapshot(): NicStatus | undefined {
    const nic = this.#nic?.snapshot();
    if (nic === undefined) return undefined;
    const link = this.#end.link;
    const { windows, pushes } = this.#end.memory;
    return {
      name: this.name,
      segment: this.segment,
      personality: this.#hello?.personality ?? "",
      mac: this.mac === undefined ? "" : formatMac(this.mac),
      peer: this.peer,
      agent: this.#hello?.agent ?? "",
      seconds: Math.round((this.#clock.now() - this.#since) / 1000),
      link: {
        roundTripMs: Math.round(link.roundTripMs * 1000) / 1000,
        unsentBytes: link.unsentBytes,
        inFlightBytes: link.flow.inFlight,
        limitBytes: Math.round(link.flow.limit),
        sentBatches: link.writer.sentBatches,
        sentBytes: link.writer.sentBytes,
        receivedBatches: link.receivedBatches,
        receivedBytes: link.receivedBytes,
        lateBatches: link.lateBatches,
      },
      memory: {
        windows: windows.all.length,
        windowBytes: windows.bytes,
        pushesLive: pushes.live,
        pushBytes: pushes.bytes,
        pushMisses: pushes.misses,
        pushSearches: pushes.searches,
        reads: this.#end.memory.readCount,
        ...(this.#mirrors === undefined ? {} : { windowBytesCompared: this.#mirrors.compared }),
      },
      faults: Object.fromEntries(this.#host?.faults.counts ?? []),
      reports: Object.fromEntries(this.#reports),
      nic,
    };
  }
}
