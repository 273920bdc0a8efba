/**
 * A driver and a device in one process. Both ends are the product's own: a Session and a
 * Connection.
 *
 *   driver ── bus ── Session ── loopback ── Connection ── NIC model ── segment
 *              ▲
 *              tamper: changes, drops or repeats what arrives for the driver
 *
 * Nothing is delivered until `pump`, and time stands still, so a test decides the order of events.
 */

import { EventEmitter } from "node:events";
import { Identity } from "../../device/access/gate.ts";
import { Connection } from "../../device/connection.ts";
import type { LinkMemory } from "../../device/dma/link-memory.ts";
import {
  createEnaNic,
  type EnaOptions as EnaDeviceOptions,
  type EnaNic,
} from "../../device/ena/index.ts";
import type { DeviceEvents } from "../../device/index.ts";
import type { GuestHost, Nic, NicConfig } from "../../device/nic.ts";
import type { DropReason, Port, SwitchPort } from "../../device/switch/port.ts";
import type { Switch } from "../../device/switch/switch.ts";
import type { GrantTable } from "../../device/xen/grant-table.ts";
import { createXenPersonality, type XenGuest } from "../../device/xen/index.ts";
import { XenMachine } from "../../device/xen/machine.ts";
import type { XenOptions as XenDeviceOptions } from "../../device/xen/options.ts";
import type { Driver, DriverContext } from "../../frontend/driver.ts";
import type { EnaOptions } from "../../frontend/ena/adapter.ts";
import { EnaDriver } from "../../frontend/ena/index.ts";
import { type Mbuf, mLength } from "../../frontend/net/mbuf.ts";
import type { Netmap } from "../../frontend/netmap/netmap.ts";
import { Session } from "../../frontend/session.ts";
import { XenDriver } from "../../frontend/xen/index.ts";
import type { NetfrontInfo, XenOptions } from "../../frontend/xen/info.ts";
import type { Rxq, Txq } from "../../frontend/xen/rings.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { DevCtl, devCtlReg, Register } from "../../shared/ena/registers.ts";
import { type Logger, loggerOf, silentLogger } from "../../shared/log.ts";
import { LogLimit } from "../../shared/log-limit.ts";
import { MemoryAccount, MemoryBudget } from "../../shared/memory-budget.ts";
import type { Frame } from "../../shared/net/frame.ts";
import { DEFAULT_DEAD_AFTER } from "../../shared/wire/dead-after.ts";
import { FAULT_SEVERITY_NAMES, Limits } from "../../shared/wire/protocol.ts";
import { busAddress, Space } from "../../shared/wire/records.ts";
import { FakeSwitchPort, NIC, settle } from "./fake-host.ts";
import { bytesOf, mbufOf } from "./fake-netmap-adapter.ts";
import { type LoopbackEnd, loopbackPair } from "./loopback.ts";
import { frameOf } from "./packets.ts";
import { PairClock } from "./test-clock.ts";
import { type Act, actsOf, batchesOf } from "./wire-acts.ts";

/** Transactions that reach the driver's machine, by way of `tamper`; others are the link's own. */
const TO_MACHINE = /^(write|interrupt|event|xenstore|grant_use|hypercall_reply)$/;
/** Time (ms) for which posts wait for company. No other timer has this length. */
export const LAZY_MS = 30;
/** A batch without transactions. */
const EMPTY_BATCH = Uint8Array.of(0x90);

/**
 * Returns the transactions that reach the driver in place of `act`: none, `act` itself, or more.
 */
export type Tamper = (act: Act) => readonly Act[];

export interface NicOptions {
  readonly queues?: number;
  readonly mtu?: number;
  /**
   * Bytes of pushes that the device holds for the NIC. A frontend that sends more loses its link.
   */
  readonly pushBytes?: number;
  /** Opens the NIC's ports in this netmap instance. */
  readonly netmap?: Netmap;
  readonly config?: Partial<NicConfig>;
  /** The segment behind the device. Default: one that accepts each frame. */
  readonly segment?: Switch;
  readonly log?: Logger;
}

export interface PairOptions<DriverOptions, DeviceOptions> extends NicOptions {
  readonly driver?: DriverOptions;
  readonly device?: DeviceOptions;
}
export type EnaPairOptions = PairOptions<EnaOptions, EnaDeviceOptions>;
export type XenPairOptions = PairOptions<XenOptions, XenDeviceOptions>;

/** The common part of both personalities. `D` is the driver, `N` the NIC model, `O` its options. */
export abstract class NicPair<D extends Driver, N extends Nic, O extends object> {
  abstract readonly driver: D;
  readonly options: PairOptions<object, O>;
  readonly clock = new PairClock();
  readonly session: Session;
  /** The segment behind every plugged device: accepts each frame. */
  readonly switchPort = new FakeSwitchPort();
  /** The driver's frames, as they arrived in the segment. */
  readonly segment = this.switchPort.frames;
  /** Packets that reached the stack above the driver. */
  readonly inputs: Input[] = [];
  readonly deviceFaults: string[] = [];
  readonly linkStates: boolean[] = [];
  readyCalls = 0;
  inputDones = 0;
  /** The result of DeviceLink.askForRoom. */
  writable = true;
  tamper: Tamper | undefined;
  /** Called for each packet that reaches the stack, which is recorded in any case. */
  onInput: ((m: Mbuf) => void) | undefined;
  /** Mbufs handed to transmit and not freed yet. */
  outstanding = 0;
  /** Messages in flight. */
  toDevice: (() => void)[] = [];
  toDriver: (() => void)[] = [];
  readonly #log: Logger;
  #end: DeviceEnd<N> | undefined;
  /** Resolves the session's dial while no device is plugged. */
  #dialled: ((end: LoopbackEnd) => void) | undefined;
  /** The session's first attach, until `attach` has let it begin. */
  #started: Promise<void> | undefined;
  readonly #mayAttach = Promise.withResolvers<void>();
  #attachError: unknown;
  /** An error of the driver or the device, to be thrown in the test. */
  #error: Error | undefined;
  readonly #sent: Act[] = [];
  /** Batches of the driver that are not decoded into `sent` yet. */
  readonly #batches: Uint8Array[] = [];

  constructor(options: PairOptions<object, O>, personality: "ena" | "xen") {
    this.options = options;
    const { log = silentLogger } = options;
    this.#log = loggerOf((level, fields, message) => {
      if (level === "error" && "err" in fields) this.#error ??= fields.err as Error;
      log[level](fields, message);
    });
    this.session = new Session({
      connect: "ws://device:1",
      name: "nic0",
      personality,
      agent: "test",
      log: this.#log,
      clock: this.clock,
      driver: () => this.driver,
      tap: (direction, batch) => {
        if (direction === "out") this.#batches.push(Uint8Array.from(batch));
      },
      dial: () =>
        new Promise((resolve) => {
          this.#dialled = resolve;
          this.#connect();
        }),
    });
    this.plug();
  }

  protected abstract create(host: GuestHost, options: O | undefined): N;

  /** Suspends as before a migration: packets in flight complete, and no new ones are sent. */
  abstract suspend(): Promise<void>;

  get ifnet() {
    return this.driver.ifnet;
  }
  get space() {
    return this.session.space;
  }
  get hypervisor() {
    return this.session.hypervisor;
  }
  /** The driver's transactions in order, without those of the link. A test may empty the list. */
  get sent(): Act[] {
    this.session.link?.flush();
    const acts = this.#batches.splice(0).flatMap(actsOf);
    for (const act of acts) {
      if (act.kind !== "progress" && act.kind !== "heartbeat") this.#sent.push(act);
    }
    return this.#sent;
  }
  get driverFaults(): string[] {
    return this.sent.flatMap((act) => (act.kind === "fault" ? `${act.code}: ${act.text}` : []));
  }
  /** Faults that either side reported about the other. */
  get faults(): string[] {
    return [...this.deviceFaults, ...this.driverFaults];
  }

  get plugged(): boolean {
    return this.#end !== undefined;
  }
  get end(): DeviceEnd<N> {
    if (this.#end === undefined) throw new Error("no device is plugged");
    return this.#end;
  }
  get nic(): N {
    return this.end.nic;
  }

  /** The context that a Session gives its driver. */
  protected context(name: string): DriverContext {
    const { queues = 1, mtu = 1500 } = this.options;
    const { space, pci, hypervisor } = this.session;
    const { clock } = this;
    return { space, pci, hypervisor, name, queues, mtu, log: this.#log, clock };
  }

  /** Stands in for the stack above the driver. */
  protected listen(): void {
    const { ifnet } = this.driver;
    ifnet.onLinkState = (up) => this.linkStates.push(up);
    ifnet.onTransmitReady = () => this.readyCalls++;
    ifnet.inputDone = () => this.inputDones++;
    ifnet.input = (m) => {
      this.inputs.push(inputOf(m));
      if (this.onInput !== undefined) this.onInput(m);
      else m.free();
    };
    const driver: Driver = this.driver;
    const attach = driver.attach.bind(driver);
    driver.attach = async () => {
      await this.#mayAttach.promise;
      await attach().catch((error: unknown) => {
        this.#attachError = error;
        throw error;
      });
    };
  }

  /** A device appears at the other end; a session that waits for a device connects to it. */
  plug(device = this.options.device, config = this.options.config): void {
    this.#end = new DeviceEnd<N>(this, this.#log, config, (host) => {
      // The frontend's end of the link exists since its hello.
      Object.assign(this.session.link!, { askForRoom: () => this.writable });
      return this.create(host, device);
    });
    this.#connect();
  }

  #connect(): void {
    const { front } = this.#end ?? {};
    if (front === undefined || this.#dialled === undefined) return;
    front.arriving = (batch) => this.#tampered(batch);
    this.#dialled(front);
    this.#dialled = undefined;
  }

  /** The link breaks: messages in flight are lost, and the device is gone. */
  cut(): void {
    this.toDevice = [];
    this.toDriver = [];
    const end = this.#end;
    this.#end = undefined;
    end?.back.end(1006, "");
    this.#rethrow();
  }

  /** Another device appears, and the driver recovers. */
  async reconnect(device?: O, config?: Partial<NicConfig>): Promise<void> {
    this.plug(device ?? this.options.device, config ?? this.options.config);
    const before = this.session.reconnects;
    await this.until(() => this.session.reconnects > before && this.session.state !== "connecting");
    await this.settle();
  }

  /** Connects the session: the device has a NIC, and the driver waits for `attach`. */
  async connect(): Promise<void> {
    this.#started = this.session.start();
    this.#started.catch(() => {});
    await this.until(() => this.session.isStarted);
    const { pushBytes = Limits.PUSH_BYTES } = this.options;
    this.space.pushBytes = Math.min(this.space.pushBytes, pushBytes);
  }

  /**
   * Attaches the driver, connected or not, or again after a detach. Rejects with the driver's
   * error.
   */
  async attach(): Promise<void> {
    if (!this.session.isStarted) await this.connect();
    const attached = this.#started ?? this.driver.attach();
    this.#started = undefined;
    this.#mayAttach.resolve();
    await this.run(attached).catch((error: unknown) => {
      throw this.#attachError ?? error;
    });
    // As in openNic, an interface without ports of its own gets the emulated adapter.
    const { netmap } = this.options;
    if (netmap?.hasInterface(this.ifnet.name) === false) netmap.addInterface(this.ifnet);
    await this.settle();
  }
  up = (): Promise<void> => this.#done(this.driver.up());
  down = (): Promise<void> => this.#done(this.driver.down());
  detach = (): Promise<void> => this.#done(this.driver.detach());
  /** Attaches the driver and brings it up. */
  async start(): Promise<void> {
    await this.attach();
    await this.up();
  }

  async #done(step: Promise<void>): Promise<void> {
    await this.run(step);
    await this.settle();
  }

  /** Delivers all messages in flight and those that they cause. Returns whether there were any. */
  pump(): boolean {
    let any = false;
    this.session.link?.flush();
    while (this.clock.turn() || this.toDevice.length > 0 || this.toDriver.length > 0) {
      any = true;
      this.pumpDown();
      this.pumpUp();
    }
    return any;
  }

  /** Delivers the driver's messages. */
  pumpDown(): void {
    this.clock.turn();
    this.session.link?.flush();
    this.#deliver(this.toDevice.splice(0));
  }

  /** Delivers the device's messages. */
  pumpUp(): void {
    this.clock.turn();
    this.#deliver(this.toDriver.splice(0));
  }

  /** Delivers the driver's oldest message, else the device's. */
  deliverOne(): void {
    this.clock.turn();
    const deliver = this.toDevice.shift() ?? this.toDriver.shift();
    if (deliver !== undefined) this.#deliver([deliver]);
  }

  /** The error that ended the link is thrown before errors that only follow from that end. */
  #deliver(steps: readonly (() => void)[]): void {
    try {
      for (const deliver of steps) deliver();
    } finally {
      this.#rethrow();
    }
  }

  /**
   * Pumps until nothing moves for a few turns of the event loop. Posts that wait for company do not
   * wait for their deadline.
   */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 4; ) {
      quiet = this.pump() || this.clock.hurry(LAZY_MS) ? 0 : quiet + 1;
      await settle();
    }
  }

  /**
   * Pumps until the promise settles. With nothing in flight, advances the clock to the next timer.
   */
  async run<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const mark = (): void => {
      done = true;
    };
    promise.then(mark, mark);
    await this.until(() => done);
    return promise;
  }

  async until(done: () => boolean): Promise<void> {
    for (let quiet = 0; !done(); quiet++) {
      if (this.pump()) quiet = 0;
      if (quiet > 8) this.clock.advanceToNext();
      await settle();
    }
  }

  /** One second passes on both sides. */
  async second(): Promise<void> {
    this.clock.advance(1000);
    this.pump();
    this.clock.tick();
    await this.settle();
  }

  /** Sends a frame from the segment to the NIC. Returns the drop reason when it was refused. */
  inject(bytes: Uint8Array, facts: Partial<Frame> = {}): DropReason | undefined {
    const port = this.#end?.port;
    if (port === undefined) throw new Error("the NIC has no port");
    return port.deliver(Object.assign(frameOf(bytes), facts));
  }

  /** Ends a burst of `inject`. With `now` its message leaves in this call. */
  flushPort(now?: boolean): void {
    this.#end?.port?.flush(now);
  }

  /** An mbuf over these pieces, counted in `outstanding` until it is freed. */
  mbuf(...pieces: Uint8Array[]): Mbuf {
    const chain = pieces.map((piece) => mbufOf(piece));
    const [head] = chain;
    if (head === undefined) throw new Error("an mbuf without pieces");
    for (const [i, m] of chain.entries()) m.next = chain[i + 1];
    head.pktLength = mLength(head);
    head.release = () => this.outstanding--;
    this.outstanding++;
    return head;
  }

  /** Sends a packet, and frees it when it was refused. Returns transmit's result. */
  send(...pieces: Uint8Array[]): number {
    return this.sendMbuf(this.mbuf(...pieces));
  }

  sendMbuf(m: Mbuf): number {
    const errno = this.ifnet.send(m);
    if (errno !== 0) m.free();
    return errno;
  }

  /** A counter by path: `counter("queue0", "tx_ring", "count")`. */
  counter(...path: string[]): number {
    let at: unknown = this.driver.counters();
    for (const name of path) at = (at as Record<string, unknown>)[name];
    if (typeof at !== "number") throw new Error(`no counter ${path.join(".")}`);
    return at;
  }

  /** Queues a transaction of the device, to be delivered as a batch of its own. */
  post(act: Act): void {
    this.toDriver.push(() => {
      const batches = batchesOf([act]);
      this.#uncount(batches, 0);
      for (const batch of batches) this.#end?.front.onMessage(batch, 0, batch.length);
    });
  }

  /** Resources that the driver holds, and the device for it: all 0 after a detach. */
  held(): Record<string, number> {
    return {
      mbufs: this.outstanding,
      rxMbufs: this.counter("rx_mbufs_in_use"),
      pushedBytes: this.counter("pushed_bytes"),
    };
  }

  #rethrow(): void {
    const error = this.#error;
    this.#error = undefined;
    if (error !== undefined) throw error;
  }

  /** The batches that reach the driver in place of a batch of the device. */
  #tampered(batch: Uint8Array): readonly Uint8Array[] {
    const { tamper } = this;
    if (tamper === undefined) return [batch];
    const acts = actsOf(batch).flatMap((act) => (TO_MACHINE.test(act.kind) ? tamper(act) : [act]));
    const batches = acts.length === 0 ? [EMPTY_BATCH] : batchesOf(acts);
    this.#uncount(batches, batch.length);
    return batches;
  }

  /** Corrects the driver's progress to the bytes that the honest device has sent. */
  #uncount(batches: readonly Uint8Array[], honest: number): void {
    const { link } = this.session;
    for (const { length } of batches) link!.receivedBytes -= length;
    link!.receivedBytes += honest;
  }
}

/** One incarnation of the device, and its surroundings. */
export class DeviceEnd<N extends Nic> {
  readonly config: NicConfig;
  /** The session's end of the connection, and the device's. */
  readonly front: LoopbackEnd;
  readonly back: LoopbackEnd;
  readonly connection: Connection;
  port: Port | undefined;
  memory!: LinkMemory;
  nic!: N;

  constructor(
    pair: NicPair<Driver, N, object>,
    log: Logger,
    config: Partial<NicConfig> | undefined,
    make: (host: GuestHost) => N,
  ) {
    const { clock, options } = pair;
    const { queues = 1, pushBytes = Limits.PUSH_BYTES } = options;
    this.config = { ...NIC, queues, ...config };
    [this.front, this.back] = loopbackPair(
      (deliver) => pair.toDevice.push(deliver),
      (deliver) => pair.toDriver.push(deliver),
    );
    const events = new EventEmitter<DeviceEvents>();
    events.on("fault", ({ severity, code, text }) => {
      pair.deviceFaults.push(`${FAULT_SEVERITY_NAMES[severity]} ${code}: ${text}`);
    });
    const attach = (port: Port): SwitchPort => {
      this.port = port;
      return options.segment?.attach(port, this.config.mac) ?? pair.switchPort;
    };
    this.connection = new Connection(
      this.back,
      { name: "driver:1", identity: new Identity(undefined), reachedAt: "127.0.0.1" },
      {
        log,
        lines: new LogLimit(log, clock.now, 1000),
        clock,
        agent: "test",
        segment: { name: "lan0", attach },
        events,
        roundTrips: { observe() {} },
        // A device never offers less than the protocol's minimum. The driver may use less of it.
        pushBytes: Math.max(pushBytes, Limits.PUSH_BYTES_MIN),
        checkWindows: false,
        deadAfter: DEFAULT_DEAD_AFTER,
        admit: () => ({ config: this.config, epoch: 1 }),
        create: (_connection, host) => {
          this.memory = host.memory as LinkMemory;
          this.nic = make(host);
          return this.nic;
        },
        gone() {},
      },
      new MemoryAccount(new MemoryBudget(Number.POSITIVE_INFINITY)),
    );
  }
}

/** A packet as the stack received it: its header, and its bytes. */
export type Input = ReturnType<typeof inputOf>;

function inputOf(m: Mbuf) {
  const bytes = Uint8Array.from(bytesOf(m));
  if (bytes.length !== m.pktLength) throw new Error(`${bytes.length} bytes, says ${m.pktLength}`);
  let pieces = 0;
  for (let piece: Mbuf | undefined = m; piece !== undefined; piece = piece.next) pieces++;
  return { ...m, bytes, pieces };
}

export class EnaPair extends NicPair<EnaDriver, EnaNic, EnaDeviceOptions> {
  readonly driver: EnaDriver;

  constructor(options: EnaPairOptions = {}) {
    super(options, "ena");
    const { netmap, driver } = options;
    this.driver = new EnaDriver(this.context("ena0"), { llq: true, netmap, ...driver });
    this.listen();
  }

  protected create(host: GuestHost, options: EnaDeviceOptions = {}): EnaNic {
    return createEnaNic(host, options);
  }

  /** Reasons of the resets that the driver asked for, in order. */
  get resets(): number[] {
    return this.sent.flatMap((act) => {
      if (act.kind !== "mmio_write" || act.space !== 0 || act.address !== Register.DEV_CTL)
        return [];
      const value = viewOf(act.bytes).getUint32(0, true);
      return (value & DevCtl.DEV_RESET) === 0 ? [] : devCtlReg.reason(value);
    });
  }

  async suspend(): Promise<void> {
    await this.run(this.driver.suspend());
  }

  override held() {
    return { ...super.held(), pushes: this.driver.adapter.gate.pushes };
  }
}

/** The backend's directory of the only vif. */
const BACKEND = "/local/domain/0/backend/vif/1/0";

export class XenPair extends NicPair<XenDriver, XenGuest, XenDeviceOptions> {
  readonly driver: XenDriver;
  /** The machine of the plugged device, or of the last one. */
  machine!: XenMachine;

  constructor(options: XenPairOptions = {}) {
    super(options, "xen");
    const { netmap, driver } = options;
    this.driver = new XenDriver(this.context("xn0"), { netmap, ...driver });
    this.listen();
  }

  /** An attached driver that is up and connected. */
  static async started(options: XenPairOptions = {}): Promise<XenPair> {
    const pair = new XenPair(options);
    await pair.start();
    return pair;
  }

  get info(): NetfrontInfo {
    return this.driver.info;
  }
  rxq = (): Rxq => this.info.rxqs[0]!;
  txq = (): Txq => this.info.txqs[0]!;
  /** The guest's grants, as its transactions posted them. */
  get grants(): GrantTable {
    return this.nic.guest.grants;
  }

  /** Each device has a Xen machine of its own, like a real device process. */
  protected create(host: GuestHost, options: XenDeviceOptions | undefined): XenGuest {
    this.machine = new XenMachine(host.log, this.clock);
    return createXenPersonality(this.machine, options)(host);
  }

  /** A hostile backend writes into a granted page. Returns false when the write was refused. */
  hostileWrite(reference: number, offset: number, bytes: Uint8Array): boolean {
    const address = busAddress(reference * 4096 + offset);
    return this.space.deviceWrite(Space.GRANT, address, bytes, 0, bytes.length);
  }

  /** Writes a key of the backend's directory, as the toolstack or a backend may at any time. */
  async backendSays(key: string, value: string): Promise<void> {
    this.machine.store.write(`${BACKEND}/${key}`, value);
    this.machine.settle();
    await this.settle();
  }

  async suspend(): Promise<void> {
    const { nic } = this;
    await this.run(new Promise<void>((resolve) => nic.suspend(resolve)));
  }

  override held() {
    const { grants, gate } = this.info;
    const granted = this.plugged ? this.grants.snapshot() : undefined;
    return {
      ...super.held(),
      pushes: gate.pushes,
      grants: grants.liveCount,
      references: grants.capacity - grants.availableCount,
      quarantined: grants.quarantined,
      granted: (granted?.["granted"] ?? 0) as number,
      used: (granted?.["readers"] ?? 0) as number,
    };
  }
}

/** A pair of either personality. */
export type AnyPair = EnaPair | XenPair;

/** Both personalities, for the contract suites. */
export const NICS: readonly { kind: "ena" | "xen"; make(options?: NicOptions): AnyPair }[] = [
  { kind: "ena", make: (options) => new EnaPair(options) },
  { kind: "xen", make: (options) => new XenPair(options) },
];
