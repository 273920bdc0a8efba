/**
 * One connection of a frontend: the handshake, then a NIC model on one side and a link on the
 * other. Whatever a peer does wrong ends here, and ends this connection only.
 */
import { type Clock, systemClock, type Timer } from "../shared/clock.ts";
import { type Logger, withFields } from "../shared/log.ts";
import type { LogLimit } from "../shared/log-limit.ts";
import { formatMac } from "../shared/net/ethernet.ts";
import type { NicStatus } from "../shared/status/device-status.ts";
import type { Transport } from "../shared/transport/transport.ts";
import { type Hello, parseHello, type Welcome } from "../shared/wire/hello.ts";
import type { LinkTap } from "../shared/wire/link.ts";
import type { LinkState } from "../shared/wire/link-state.ts";
import { Space } from "../shared/wire/records.ts";
import {
  CloseCode,
  FaultSeverity,
  Limits,
  PROTOCOL_VERSION,
  WireError,
} from "../shared/wire/transactions.ts";
import { Refusal } from "./admission.ts";
import type { RingSource } from "./capture/capture.ts";
import { type ConnectionEvents, ConnectionSink } from "./connection-sink.ts";
import { Deliveries } from "./deliveries.ts";
import { type Divergence, type Mirror, MirrorCheck } from "./dma/mirror-check.ts";
import { type HostOwner, LinkHost } from "./link-host.ts";
import type { GuestHost, Nic, NicConfig, NicEvent, NicLevers } from "./nic.ts";
import { DropReason } from "./switch/port.ts";
import type { SpoofNotice } from "./switch/switch.ts";

/** What a connection asks of the server. */
export interface ConnectionOwner extends HostOwner {
  readonly log: Logger;
  /** For what any peer can cause: shared by all connections, and written at a bounded rate. */
  readonly lines: LogLimit;
  readonly agent: string;
  readonly segment: string;
  readonly pushBytes: number;
  /** Compare both copies of coherent memory, once a second. */
  readonly checkWindows: boolean;
  /** Decides about a hello. Throws Refusal. */
  admit(connection: Connection, hello: Hello): { config: NicConfig; epoch: number };
  create(personality: string, host: GuestHost): Nic;
  /** It has a name; its NIC is not made yet. The hello's batch is still to be seen by taps. */
  named(connection: Connection): void;
  /** A NIC was welcomed; later, why it left. */
  joined(nic: NicEvent): void;
  left(nic: NicEvent): void;
  /** The last snapshot of a NIC whose connection has ended. */
  totals(last: NicStatus): void;
  /** A heartbeat came back. */
  roundTrip(ms: number): void;
  /** Called once, when all that the connection held is free. */
  gone(connection: Connection): void;
}

/** Time for a peer to say hello. */
const HELLO_MS = 10_000;
/** Kinds of reports kept of what a frontend says that it refused. */
const MAX_REPORTS = 64;
/** Time for a driver to suspend. */
const SUSPEND_MS = 5_000;

export class Connection implements RingSource {
  /** Number of the connection, as welcome says; 0 before. */
  epoch = 0;
  readonly reachedAt: string;
  /** HOST:PORT of the frontend's end. */
  readonly peer: string;
  readonly #owner: ConnectionOwner;
  readonly #end: ConnectionSink;
  readonly #deliveries = new Deliveries();
  readonly #mirrors: MirrorCheck | undefined;
  readonly #clock: Clock;
  readonly #helloTimer: Timer;
  readonly #since: number;
  /** Faults that the frontend reported to us, by code. */
  readonly #reports = new Map<string, number>();
  #hello: Hello | undefined;
  #host: LinkHost | undefined;
  #nic: Nic | undefined;
  /** Told how the connection ended, once a move has begun. */
  #moved: ((moved: boolean) => void) | undefined;

  /** `reachedAt`: the device's end of it, an IP address. */
  constructor(transport: Transport, peer: string, reachedAt: string, owner: ConnectionOwner) {
    this.#owner = owner;
    this.reachedAt = reachedAt;
    this.peer = peer;
    this.#clock = owner.clock ?? systemClock;
    this.#since = this.#clock.now();
    this.#end = new ConnectionSink(
      transport,
      this.#events(),
      owner.lines.of("wire"),
      owner.pushBytes,
      this.#clock,
    );
    if (owner.checkWindows) {
      this.#mirrors = new MirrorCheck(
        (space, address, length) => this.#end.memory.ask(space, address, length),
        () => this.#nic?.sharedRings?.() ?? this.#windows(),
        (where) => this.#windowDiverged(where),
      );
    }
    this.#helloTimer = this.#clock.setTimeout(() => {
      this.#end.link.close(CloseCode.PROTOCOL, `no hello within ${HELLO_MS / 1000} s`);
    }, HELLO_MS);
  }

  /** Empty before hello. */
  get name(): string {
    return this.#host?.config.name ?? "";
  }

  get mac(): Uint8Array | undefined {
    return this.#host?.config.mac;
  }

  get personality(): string {
    return this.#hello?.personality ?? "";
  }

  /** Seconds without a sign of life from the frontend. */
  get silentSeconds(): number {
    return this.#end.link.silentSeconds;
  }

  /** What a test of a driver can do to the NIC; nothing before welcome. */
  get levers(): NicLevers | undefined {
    return this.#nic?.levers;
  }

  // What a capture asks of it.

  addTap(tap: LinkTap): void {
    this.#end.link.addTap(tap);
  }

  removeTap(tap: LinkTap): void {
    this.#end.link.removeTap(tap);
  }

  tellState(state: LinkState): void {
    // What is written and not sent would be told twice: by the record, and when it is sent.
    this.#end.link.flush();
    for (const { address, bytes } of this.#end.memory.windows.all) state.window(address, bytes);
    this.#nic?.tellState(state);
    state.flush();
  }

  /** Ends the connection and says why. */
  close(code: CloseCode, reason: string): void {
    this.#end.link.close(code, reason);
  }

  /** As `close`, for a connection whose place is wanted now. */
  cut(code: CloseCode, reason: string): void {
    this.#end.link.giveUp(code, reason);
  }

  /** Once a second. */
  tick(): void {
    this.#host?.faults.tick();
    this.#nic?.tick();
    void this.#mirrors?.tick();
  }

  /** Memory that the driver of a PCI function shares with the model. */
  #windows(): readonly Mirror[] {
    const { all } = this.#end.memory.windows;
    return all.map(({ address, bytes }) => ({ space: Space.BUS, address, bytes }));
  }

  /** The frontend connects again and tells all of its memory anew: so the copies are one again. */
  #windowDiverged({ space, address, ours, theirs }: Divergence): void {
    const where = `${space === Space.BUS ? "bus address" : "grant"} 0x${address.toString(16)}`;
    const text = `both copies of coherent memory differ at ${where}: the frontend has ${theirs}, the device ${ours}`;
    this.#host?.fault(FaultSeverity.DEVICE, "WINDOW_DIVERGED", text);
    this.close(CloseCode.FAILED, text);
  }

  /** What the link tells us. Not methods of the connection, because nobody else may call them. */
  #events(): ConnectionEvents {
    const owner = this.#owner;
    return {
      batchApplied: () => {
        this.#nic?.batchEnd();
        this.#end.memory.settle();
      },
      batchSent: (bytes) => this.#deliveries.sent(bytes, this.#posted),
      batchReported: (bytes) => this.#deliveries.reported(bytes),
      writableAgain: () => this.#nic?.writableAgain(),
      roundTrip: (ms) => owner.roundTrip(ms),
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

  /** Frames for the driver that are in a batch, sent or not. */
  get #posted(): number {
    return (this.#host?.port?.taken ?? 0) - (this.#nic?.rxQueued ?? 0);
  }

  #closed(code: number, reason: string): void {
    this.#clock.clear(this.#helloTimer);
    const nic = this.#nic;
    if (nic !== undefined) this.#last();
    this.#nic = undefined;
    this.#end.serve(undefined);
    nic?.destroy();
    this.#end.memory.abandon();
    if (nic !== undefined) {
      this.#owner.lines.info(
        "left",
        { nic: this.name, code },
        `${this.name} left: ${reason || "connection lost"}`,
      );
      this.#owner.left({ ...this.#event(), reason: reason || "connection lost" });
    }
    this.#owner.gone(this);
    this.#moved?.(code === CloseCode.MOVED);
  }

  /** Counts what is lost with the link, and leaves the NIC's totals behind. */
  #last(): void {
    const lost = this.#posted - this.#deliveries.arrived;
    if (lost > 0) this.#host?.port?.drop(DropReason.LINK_LOST, "out", lost);
    const last = this.snapshot();
    if (last !== undefined) this.#owner.totals(last);
  }

  /** The frontend refused one of our accesses. */
  #faultReported(code: string, text: string): void {
    const n = this.#reports.get(code);
    if (n === undefined) {
      if (this.#reports.size >= MAX_REPORTS) return;
      this.#owner.lines.warn("reports", { nic: this.name, code }, `${this.name} reports: ${text}`);
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
      this.#owner.lines.warn(
        "refused",
        { peer: this.peer, code: error.code },
        `refused a frontend: ${error.message}`,
      );
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
    const { config, epoch } = this.#owner.admit(this, hello);
    this.#hello = hello;
    const log = withFields(this.#owner.log, { nic: config.name });
    this.#host = new LinkHost(this.#end.link, this.#end.memory, config, log, this.#owner);
    this.epoch = epoch;
    this.#owner.named(this);
    this.#nic = this.#owner.create(hello.personality, this.#host);
    this.#end.serve(this.#nic, hello.personality);
    const welcome: Welcome = {
      version: PROTOCOL_VERSION,
      agent: this.#owner.agent,
      name: config.name,
      mac: formatMac(config.mac),
      segment: this.#owner.segment,
      epoch,
      queues: config.queues,
      maxMtu: config.maxMtu,
      pushBytes: this.#owner.pushBytes,
      revision: this.#nic.pci?.revision ?? 0,
      deviceMemory: this.#nic.pci?.deviceMemory ?? false,
    };
    this.#end.link.post("welcome", { greeting: welcome });
    this.#end.link.scheduleFlush();
    this.#owner.lines.info(
      "joined",
      { nic: config.name, mac: welcome.mac, peer: this.peer, personality: hello.personality },
      `${config.name} joined`,
    );
    this.#owner.joined(this.#event());
  }

  #event(): NicEvent {
    const { mac } = this;
    return {
      name: this.name,
      mac: mac === undefined ? "" : formatMac(mac),
      peer: this.peer,
    };
  }

  /**
   * Has the driver suspend and then connect to the device at `url` instead. Resolves when the
   * connection has ended, to whether it was for that.
   */
  migrate(url: string): Promise<boolean> {
    const nic = this.#nic;
    if (nic === undefined || this.#moved !== undefined) return Promise.resolve(false);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#moved = resolve;
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
      // A driver that does not answer is told all the same.
      this.#clock.setTimeout(tell, SUSPEND_MS).unref();
    }
    return promise;
  }

  /** Frames of this NIC had the address of another: told to its frontend and in the log. */
  spoofed({ mac, owner, frames }: SpoofNotice): void {
    this.#host?.fault(
      FaultSeverity.NOTE,
      "MAC_SPOOF",
      `${this.name} sent ${frames} frames with the source ${mac}, which is the address of ${owner}: dropped`,
    );
  }

  /** The driver did not leave in time: it stays, and may be asked again. */
  giveUpMove(): void {
    this.#moved = undefined;
  }

  /** Undefined before hello. */
  snapshot(): NicStatus | undefined {
    const nic = this.#nic?.snapshot();
    if (nic === undefined) return undefined;
    const link = this.#end.link;
    const { windows, pushes } = this.#end.memory;
    return {
      name: this.name,
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
      },
      memory: {
        windows: windows.count,
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
