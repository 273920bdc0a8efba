/**
 * A driver and a device in one process. Both ends are the product's own: a Session and a Connection.
 *
 *   driver ── bus ── Session ── loopback ── Connection ── NIC model ── segment
 *              ▲
 *              tamper: what arrives for the driver can be changed, dropped or repeated
 *
 * Nothing is delivered until `pump`, and time stands still, so a test decides what is under way when.
 */

import { EventEmitter } from "node:events";
import { Connection, type ConnectionOwner } from "../../device/connection.ts";
import type { LinkMemory } from "../../device/dma/link-memory.ts";
import {
  createEnaNic,
  type EnaOptions as EnaDeviceOptions,
  type EnaNic,
} from "../../device/ena/index.ts";
import type { DeviceEvents } from "../../device/index.ts";
import type { GuestCalls, GuestHost, Nic, NicConfig } from "../../device/nic.ts";
import type { DropReason, Port, SwitchPort } from "../../device/switch/port.ts";
import type { GrantTable } from "../../device/xen/grant-table.ts";
import { createXenPersonality } from "../../device/xen/index.ts";
import { XenMachine } from "../../device/xen/machine.ts";
import type { XenOptions as XenDeviceOptions } from "../../device/xen/options.ts";
import type { Hypervisor } from "../../frontend/bus/hypervisor.ts";
import type { PciFunction } from "../../frontend/bus/pci.ts";
import type { DmaSpace } from "../../frontend/bus/space.ts";
import type { Driver, DriverContext } from "../../frontend/driver.ts";
import type { EnaOptions } from "../../frontend/ena/adapter.ts";
import { EnaDriver } from "../../frontend/ena/index.ts";
import type { Ifnet } from "../../frontend/net/ifnet.ts";
import { Mbuf } from "../../frontend/net/mbuf.ts";
import type { Netmap } from "../../frontend/netmap/netmap.ts";
import { Session } from "../../frontend/session.ts";
import type { SessionLink } from "../../frontend/session-link.ts";
import { XenDriver } from "../../frontend/xen/index.ts";
import type { NetfrontInfo, XenOptions } from "../../frontend/xen/info.ts";
import type { Rxq, Txq } from "../../frontend/xen/rings.ts";
import { DevCtl, devCtlReg, Register } from "../../shared/ena/registers.ts";
import { type Logger, silentLogger } from "../../shared/log.ts";
import { LogLimit } from "../../shared/log-limit.ts";
import { Frame } from "../../shared/net/frame.ts";
import type { XenStatus } from "../../shared/status/device-status.ts";
import { FAULT_SEVERITY_NAMES, Limits } from "../../shared/wire/protocol.ts";
import { type BusAddress, busAddress, RecordType, Space } from "../../shared/wire/records.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { FakeSwitchPort, NIC } from "./fake-host.ts";
import { type LoopbackEnd, loopbackPair } from "./loopback.ts";
import { PairClock } from "./test-clock.ts";

/** What arrives for the driver. */
export type DeviceAct =
  | {
      readonly kind: "write";
      readonly space: number;
      readonly address: BusAddress;
      readonly type: number;
      bytes: Uint8Array;
    }
  | { readonly kind: "interrupt"; readonly vector: number }
  | { readonly kind: "event"; readonly port: number }
  | { readonly kind: "xenstore"; readonly bytes: Uint8Array }
  | {
      readonly kind: "grantUse";
      readonly reference: number;
      readonly readers: number;
      readonly writers: number;
    }
  | {
      readonly kind: "hypercallReply";
      readonly tag: number;
      readonly errno: number;
      readonly bytes: Uint8Array;
    };

/** Returns what reaches the driver in the place of `act`: nothing, it, or more. */
export type Tamper = (act: DeviceAct) => readonly DeviceAct[];

/** What netfront posts, as far as a backend could see it. */
export type GuestAct =
  | { readonly kind: "write"; readonly address: number; readonly bytes: Uint8Array }
  | {
      readonly kind: "push";
      readonly reference: number;
      readonly offset: number;
      readonly bytes: Uint8Array;
    }
  | { readonly kind: "grant"; readonly count: number }
  | { readonly kind: "endGrant"; readonly count: number }
  | { readonly kind: "event"; readonly port: number }
  | { readonly kind: "hypercall"; readonly number: number; readonly command: number }
  | { readonly kind: "xenstore"; readonly bytes: Uint8Array };

/** A packet as the stack got it. */
export interface Input
  extends Pick<
    Mbuf,
    | "csumFlags"
    | "csumStart"
    | "csumOffset"
    | "headerLength"
    | "isIp6"
    | "tsoSegsz"
    | "flowId"
    | "hashType"
  > {
  readonly bytes: Uint8Array;
  readonly pieces: number;
}

export interface PairOptions<DriverOptions = object, DeviceOptions = object> {
  readonly driver?: DriverOptions | undefined;
  readonly device?: DeviceOptions | undefined;
  readonly queues?: number | undefined;
  readonly mtu?: number | undefined;
  readonly config?: Partial<NicConfig> | undefined;
  readonly log?: Logger | undefined;
  /** Bytes of pushes that the device holds for the NIC. */
  readonly pushBudget?: number | undefined;
  /** Bytes of them that the driver may use. Default: all. */
  readonly pushBytes?: number | undefined;
}
export type EnaPairOptions = PairOptions<EnaOptions, EnaDeviceOptions>;
export type XenPairOptions = PairOptions<XenOptions, XenDeviceOptions>;

/** The common part of both personalities. `D` is the driver, `N` the NIC model, `O` its options. */
export abstract class NicPair<D extends Driver, N extends Nic, O extends object> {
  abstract readonly driver: D;
  readonly options: PairOptions<object, O>;
  readonly clock = new PairClock();
  readonly session: Session;
  /** The segment behind every device that is plugged: takes each frame. */
  readonly switchPort = new FakeSwitchPort();
  /** What the driver sent, as it arrived in the segment. */
  readonly segment = this.switchPort.frames;
  /** What the stack above the driver got. */
  readonly inputs: Input[] = [];
  readonly deviceFaults: string[] = [];
  readonly driverFaults: string[] = [];
  linkStates: boolean[] = [];
  readyCalls = 0;
  inputDones = 0;
  /** What DeviceLink.askForRoom answers. */
  writable = true;
  tamper: Tamper | undefined;
  /** What the stack does with a packet, beside being recorded. */
  onInput: ((m: Mbuf) => void) | undefined;
  /** Mbufs handed to transmit and not freed yet. */
  outstanding = 0;
  /** Messages under way. */
  toDevice: (() => void)[] = [];
  toDriver: (() => void)[] = [];
  readonly #log: Logger;
  readonly #netmap: Netmap | undefined;
  #end: DeviceEnd<N> | undefined;
  /** A session waits for a device to appear. */
  #dialled: ((end: LoopbackEnd) => void) | undefined;
  #link: SessionLink | undefined;
  #started: Promise<void> | undefined;
  /** Lets the driver attach that the session has been given. */
  #mayAttach: (() => void) | undefined;
  #attachError: unknown;
  /** An act is on its way to the driver, past `tamper`. */
  #applying = false;
  /** An error of the driver or the device, to be thrown at the test. */
  #error: Error | undefined;

  constructor(options: PairOptions<object, O>, personality: "ena" | "xen", netmap?: Netmap) {
    this.options = options;
    this.#netmap = netmap;
    const log = options.log ?? silentLogger;
    this.#log = {
      debug: (fields, message) => log.debug(fields, message),
      info: (fields, message) => log.info(fields, message),
      warn: (fields, message) => log.warn(fields, message),
      error: (fields, message) => {
        if ("err" in fields) this.#error ??= fields.err as Error;
        log.error(fields, message);
      },
    };
    this.session = new Session({
      connect: "ws://device:1",
      name: "nic0",
      personality,
      agent: "test",
      log: this.#log,
      clock: this.clock,
      driver: () => this.#held(),
      dial: () =>
        new Promise((resolve) => {
          this.#dialled = resolve;
          if (this.#end !== undefined) this.#connect(this.#end);
        }),
    });
    this.plug();
  }

  protected abstract create(host: GuestHost, options: O | undefined): N;
  protected abstract watch(link: SessionLink): void;

  /** The device makes the driver begin anew, with the link in place. */
  abstract resetByDevice(): Promise<void>;
  /** As before a move: what was sent is finished, nothing more is sent. */
  abstract suspend(): Promise<void>;
  /** Packets of each queue, out and in. */
  abstract queueCounts(): { readonly tx: readonly number[]; readonly rx: readonly number[] };
  /** Frames that came while the interface was down and that the driver dropped. */
  abstract readonly droppedDown: number;
  /** What the driver, and the device for it, hold: all 0 once it is detached. */
  abstract held(): Readonly<Record<string, number>>;

  get ifnet(): Ifnet {
    return this.driver.ifnet;
  }
  get space(): DmaSpace {
    return this.session.space;
  }
  get pci(): PciFunction {
    return this.session.pci;
  }
  get hypervisor(): Hypervisor {
    return this.session.hypervisor;
  }
  /** Bus space ever taken. */
  get busGranules(): number {
    return this.space.granules.end;
  }
  /** What either side says that the other one broke. */
  get faults(): readonly string[] {
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

  /** The driver, its first attach held back until `attach`. A session attaches its driver once. */
  #held(): D {
    let isFirst = true;
    intercept(this.driver as Driver, "attach", (attach) => async () => {
      if (isFirst) {
        isFirst = false;
        await new Promise<void>((resolve) => {
          this.#mayAttach = resolve;
        });
      }
      try {
        await attach();
      } catch (error) {
        this.#attachError = error;
        throw error;
      }
    });
    return this.driver;
  }

  /** What a Session gives its driver. */
  protected context(name: string): DriverContext {
    const { queues = 1, mtu = 1500 } = this.options;
    const { space, pci, hypervisor, clock } = this;
    return { space, pci, hypervisor, name, queues, mtu, log: this.#log, clock };
  }

  /** Takes the stack's place on top of the driver. */
  protected listen(): void {
    this.#divertMachine();
    const { ifnet } = this.driver;
    ifnet.onLinkState = (up) => this.linkStates.push(up);
    ifnet.onTransmitReady = () => this.readyCalls++;
    ifnet.inputDone = () => this.inputDones++;
    ifnet.input = (m) => {
      this.inputs.push(inputOf(m));
      if (this.onInput !== undefined) this.onInput(m);
      else m.free();
    };
  }

  /** A device appears at the other end; a session that waits for one connects to it. */
  plug(device = this.options.device, config = this.options.config): void {
    const end = new DeviceEnd<N>(this, this.#log, config ?? {}, (host) =>
      this.create(host, device),
    );
    this.#end = end;
    if (this.#dialled !== undefined) this.#connect(end);
  }

  #connect(end: DeviceEnd<N>): void {
    const dialled = this.#dialled;
    this.#dialled = undefined;
    dialled?.(end.connect());
  }

  /** The link breaks: what is under way is lost, the device is gone. */
  cut(): void {
    this.toDevice = [];
    this.toDriver = [];
    const end = this.#end;
    this.#end = undefined;
    end?.lose();
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
    await this.until(() => this.#mayAttach !== undefined);
  }

  /**
   * Attaches the driver, connected before or not, or again after a detach. Rejects with the driver's
   * error.
   */
  async attach(): Promise<void> {
    if (this.#started === undefined) await this.connect();
    const attached = this.#mayAttach === undefined ? this.driver.attach() : this.#started!;
    this.#mayAttach?.();
    this.#mayAttach = undefined;
    await this.run(attached).catch((error: unknown) => {
      throw this.#attachError ?? error;
    });
    // As openNic does: an interface that has no ports of its own gets the emulated adapter.
    if (this.#netmap?.hasInterface(this.ifnet.name) === false) {
      this.#netmap.addInterface(this.ifnet);
    }
    await this.settle();
  }
  up(): Promise<void> {
    return this.#done(this.driver.up());
  }
  down(): Promise<void> {
    return this.#done(this.driver.down());
  }
  detach(): Promise<void> {
    return this.#done(this.driver.detach());
  }
  /** Attach, up, link up. */
  async start(): Promise<void> {
    await this.attach();
    await this.up();
  }

  async #done(step: Promise<void>): Promise<void> {
    await this.run(step);
    await this.settle();
  }

  /** Delivers all waiting messages and those that they cause, in one turn. Returns whether there were any. */
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

  /** Delivers what the driver has posted. */
  pumpDown(): void {
    this.clock.turn();
    this.session.link?.flush();
    this.#deliver(this.toDevice.splice(0));
  }

  /** Delivers what the device has posted. */
  pumpUp(): void {
    this.clock.turn();
    this.#deliver(this.toDriver.splice(0));
  }

  /** Delivers the oldest message of one direction, or else of the other. */
  deliverOne(): void {
    this.clock.turn();
    const deliver = this.toDevice.shift() ?? this.toDriver.shift();
    if (deliver !== undefined) this.#deliver([deliver]);
  }

  /** Throws the error that ended the link, if any, before the errors that follow from that end. */
  #deliver(steps: readonly (() => void)[]): void {
    try {
      for (const deliver of steps) deliver();
    } finally {
      this.#rethrow();
    }
  }

  /** Pumps until nothing has moved for a few turns of the event loop. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 4; ) {
      quiet = this.pump() ? 0 : quiet + 1;
      await turn();
    }
  }

  /** Pumps until the promise settles; when nothing is under way, until the next timer runs. */
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
      await turn();
    }
  }

  /** One second passes on both sides. */
  async second(): Promise<void> {
    this.clock.advance(1000);
    this.#end?.connection?.tick();
    this.pump();
    this.clock.tick();
    await this.settle();
  }

  /** Whether the link has room for more. */
  setRoom(hasRoom: boolean): void {
    this.writable = hasRoom;
    if (hasRoom) this.driver.writableAgain();
  }

  /** A frame from the segment to the NIC. Answers why it was not taken. */
  inject(bytes: Uint8Array, facts: Partial<Frame> = {}): DropReason | undefined {
    const port = this.#end?.port;
    if (port === undefined) throw new Error("the NIC has no port");
    const frame = new Frame();
    frame.push(bytes, 0, bytes.length);
    Object.assign(frame, facts);
    return port.deliver(frame);
  }

  flushPort(): void {
    this.#end?.port?.flush();
  }

  /** An mbuf over these pieces that counts itself in `outstanding`. */
  mbuf(...pieces: Uint8Array[]): Mbuf {
    let head: Mbuf | undefined;
    let last: Mbuf | undefined;
    let length = 0;
    for (const piece of pieces) {
      const m = new Mbuf();
      m.attach(piece, 0, piece.length, last === undefined ? this.#release : undefined);
      if (last !== undefined) last.next = m;
      head ??= m;
      last = m;
      length += piece.length;
    }
    if (head === undefined) throw new Error("an mbuf without pieces");
    head.pktLength = length;
    this.outstanding++;
    return head;
  }

  /** Sends; frees what is refused. Returns transmit's answer. */
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

  /** Queues an act as the device's, to be delivered as a batch of its own. */
  post(act: DeviceAct): void {
    this.toDriver.push(() => {
      this.#arrive(act);
      if (this.plugged) this.driver.batchApplied();
    });
  }

  readonly #release = (): void => {
    this.outstanding--;
  };

  #rethrow(): void {
    const error = this.#error;
    this.#error = undefined;
    if (error !== undefined) throw error;
  }

  /** Brings an act to the driver, or what `tamper` makes of it. False when the driver refused a write. */
  #arrive(act: DeviceAct): boolean {
    let taken = true;
    for (const one of this.tamper?.(act) ?? [act]) taken = this.#apply(one) && taken;
    return taken;
  }

  #apply(act: DeviceAct): boolean {
    const { space, pci, hypervisor } = this;
    this.#applying = true;
    switch (act.kind) {
      case "write":
        return space.deviceWrite(act.space, act.address, act.type, act.bytes, 0, act.bytes.length);
      case "interrupt":
        pci.interrupt(act.vector);
        break;
      case "event":
        hypervisor.onEvent(act.port);
        break;
      case "xenstore":
        hypervisor.onXenstore(act.bytes, 0, act.bytes.length);
        break;
      case "grantUse":
        hypervisor.onGrantUse(grantRef(act.reference), act.readers, act.writers);
        break;
      case "hypercallReply":
        this.#link?.hypercallReply(act);
    }
    return true;
  }

  /** What a Session brings to its driver goes by `tamper` instead. */
  #divert<T extends object, K extends keyof T>(
    target: T,
    name: K,
    actOf: (...args: Args<T, K>) => DeviceAct,
  ): void {
    intercept(target, name, (original) => (...args) => {
      if (this.tamper !== undefined && !this.#applying) return this.#arrive(actOf(...args));
      this.#applying = false;
      return original(...args);
    });
  }

  #divertMachine(): void {
    const { space, pci, hypervisor } = this;
    this.#divert(space, "deviceWrite", (to, address, type, src, at, length) => {
      return { kind: "write", space: to, address, type, bytes: src.slice(at, at + length) };
    });
    this.#divert(pci, "interrupt", (vector) => ({ kind: "interrupt", vector }));
    this.#divert(hypervisor, "onEvent", (port) => ({ kind: "event", port }));
    this.#divert(hypervisor, "onXenstore", (src, at, length) => {
      return { kind: "xenstore", bytes: src.slice(at, at + length) };
    });
    this.#divert(hypervisor, "onGrantUse", (reference, readers, writers) => {
      return { kind: "grantUse", reference, readers, writers };
    });
    intercept(space, "attachLink", (attach) => (link) => {
      // The session has just set what the welcome says.
      space.pushBytes = Math.min(space.pushBytes, this.options.pushBytes ?? space.pushBytes);
      this.#link = link as SessionLink;
      this.#divert(this.#link, "hypercallReply", ({ tag, errno, bytes }) => {
        return { kind: "hypercallReply", tag, errno, bytes: bytes.slice() };
      });
      observe(this.#link, "fault", (_severity, code, text) => {
        this.driverFaults.push(`${code}: ${text}`);
      });
      Object.assign(link, { askForRoom: () => this.writable });
      this.watch(this.#link);
      attach(link);
    });
  }
}

type Args<T, K extends keyof T> = T[K] extends (...args: infer A) => unknown ? A : never;
type Method<T, K extends keyof T> = (...args: Args<T, K>) => unknown;

/** Puts what `wrap` makes of it in the place of a method. */
function intercept<T extends object, K extends keyof T>(
  target: T,
  name: K,
  wrap: (original: Method<T, K>) => Method<T, K>,
): void {
  const method = target[name] as Method<T, K>;
  Object.assign(target, { [name]: wrap(method.bind(target)) });
}

/** Shows each call of a method to `see`, before it is made. */
function observe<T extends object, K extends keyof T>(target: T, name: K, see: Method<T, K>): void {
  intercept(target, name, (original) => (...args) => {
    see(...args);
    return original(...args);
  });
}

/** What a device needs of its pair. */
interface Surroundings
  extends Pick<EnaPair, "clock" | "switchPort" | "deviceFaults" | "toDevice" | "toDriver"> {
  readonly options: PairOptions;
}

/** One incarnation of the device, and the world around it. */
export class DeviceEnd<N extends Nic> implements ConnectionOwner {
  readonly log: Logger;
  readonly lines: LogLimit;
  readonly clock: PairClock;
  readonly agent = "test";
  readonly segment = {
    name: "lan0",
    attach: (port: Port): SwitchPort => {
      this.port = port;
      return this.#pair.switchPort;
    },
  };
  readonly events = new EventEmitter<DeviceEvents>();
  readonly roundTrips = { observe: () => {} };
  readonly pushBytes: number;
  readonly checkWindows = false;
  readonly config: NicConfig;
  port: Port | undefined;
  connection: Connection | undefined;
  readonly #pair: Surroundings;
  readonly #make: (host: GuestHost) => N;
  #host: GuestHost | undefined;
  #nic: N | undefined;
  #transport: LoopbackEnd | undefined;

  constructor(
    pair: Surroundings,
    log: Logger,
    config: Partial<NicConfig>,
    make: (host: GuestHost) => N,
  ) {
    this.#pair = pair;
    this.#make = make;
    this.log = log;
    this.clock = pair.clock;
    this.lines = new LogLimit(log, pair.clock.now, 1000);
    this.pushBytes = pair.options.pushBudget ?? Limits.PUSH_BYTES;
    this.events.on("fault", ({ severity, code, text }) => {
      pair.deviceFaults.push(`${FAULT_SEVERITY_NAMES[severity]} ${code}: ${text}`);
    });
    this.config = {
      ...NIC,
      queues: pair.options.queues ?? 1,
      ...config,
    };
  }

  /** The session's end of a connection to this device. */
  connect(): LoopbackEnd {
    const [front, back] = loopbackPair(
      (deliver) => this.#pair.toDevice.push(deliver),
      (deliver) => this.#pair.toDriver.push(deliver),
    );
    this.#transport = back;
    this.connection = new Connection(back, "driver:1", "127.0.0.1", this);
    return front;
  }

  /** The connection is gone at once. */
  lose(): void {
    this.#transport?.end(1006, "");
  }

  get nic(): N {
    if (this.#nic === undefined) throw new Error("the device has no NIC yet");
    return this.#nic;
  }
  get memory(): LinkMemory {
    return this.#host!.memory as LinkMemory;
  }

  admit() {
    return { config: this.config, epoch: 1 };
  }
  create(_connection: Connection, host: GuestHost): Nic {
    this.#host = host;
    this.#nic = this.#make(host);
    return this.#nic;
  }
  gone(): void {}
}

function inputOf(m: Mbuf): Input {
  const parts: Uint8Array[] = [];
  for (let piece: Mbuf | undefined = m; piece !== undefined; piece = piece.next) {
    parts.push(piece.buffer.subarray(piece.at, piece.at + piece.length));
  }
  const bytes = new Uint8Array(Buffer.concat(parts));
  if (bytes.length !== m.pktLength) throw new Error(`${bytes.length} bytes, says ${m.pktLength}`);
  const { csumFlags, csumStart, csumOffset, headerLength, isIp6, tsoSegsz, flowId, hashType } = m;
  return {
    bytes,
    pieces: parts.length,
    csumFlags,
    csumStart,
    csumOffset,
    headerLength,
    isIp6,
    tsoSegsz,
    flowId,
    hashType,
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class EnaPair extends NicPair<EnaDriver, EnaNic, EnaDeviceOptions> {
  readonly driver: EnaDriver;
  /** Reasons of the resets that the driver asked for, in order. */
  readonly resets: number[] = [];
  /** Admin commands that the driver has posted, 64 bytes each. */
  readonly commands: Uint8Array[] = [];
  readonly droppedDown = 0;

  constructor(options: EnaPairOptions = {}, netmap?: Netmap) {
    super(options, "ena", netmap);
    this.driver = new EnaDriver(this.context("ena0"), { llq: true, netmap, ...options.driver });
    this.listen();
  }

  protected create(host: GuestHost, options: EnaDeviceOptions = {}): EnaNic {
    return createEnaNic(host, options);
  }

  protected watch(link: SessionLink): void {
    observe(link, "write", (_address, type, src, at, length) => {
      if (type === RecordType.ENA_AQ) this.commands.push(src.slice(at, at + length));
    });
    observe(link, "mmioWrite32", (bar, offset, value) => {
      if (bar === 0 && offset === Register.DEV_CTL && (value & DevCtl.DEV_RESET) !== 0) {
        this.resets.push(devCtlReg.reason(value));
      }
    });
  }

  /** The event of ENA_ADMIN_DEVICE_REQUEST_RESET; the driver's watchdog heeds it. */
  async resetByDevice(): Promise<void> {
    if (!this.nic.levers.requestReset()) throw new Error("the event queue is full");
    this.pump();
    await this.second();
  }

  async suspend(): Promise<void> {
    await this.run(this.driver.suspend());
  }

  queueCounts() {
    const { queues } = this.driver.adapter;
    const count = (ring: string) => queues.map((_, q) => this.counter(`queue${q}`, ring, "count"));
    return { tx: count("tx_ring"), rx: count("rx_ring") };
  }

  held() {
    return {
      mbufs: this.outstanding,
      rxMbufs: this.counter("rx_mbufs_in_use"),
      pushedBytes: this.counter("pushed_bytes"),
      pushes: this.driver.adapter.gate.pushes,
    };
  }
}

/** The guest's domain. */
type GuestDomain = GuestCalls & { readonly grants: GrantTable };

/** The backend's directory of the one vif there is. */
const BACKEND_STATE = "/local/domain/0/backend/vif/1/0/state";
const INITIALISING = "1";
const CLOSING = "5";

export class XenPair extends NicPair<XenDriver, Nic, XenDeviceOptions> {
  readonly driver: XenDriver;
  /** What the driver has posted, in order. */
  readonly sent: GuestAct[] = [];
  /** The machine of the device that is there now, or was there last. */
  machine!: XenMachine;

  constructor(options: XenPairOptions = {}, netmap?: Netmap) {
    super(options, "xen", netmap);
    this.driver = new XenDriver(this.context("xn0"), { netmap, ...options.driver });
    this.listen();
  }

  /** A driver that is attached, up, and connected. */
  static async started(options: XenPairOptions = {}): Promise<XenPair> {
    const pair = new XenPair(options);
    await pair.start();
    return pair;
  }

  get info(): NetfrontInfo {
    return this.driver.info;
  }
  rxq(i = 0): Rxq {
    return this.info.rxqs[i]!;
  }
  txq(i = 0): Txq {
    return this.info.txqs[i]!;
  }
  /** What the device says of its guest. */
  get snapshot(): XenStatus {
    const status = this.nic.snapshot();
    if (status.personality !== "xen") throw new Error(`a NIC of ${status.personality}`);
    return status;
  }
  /** The guest's grants as its transactions told them. */
  get grants(): GrantTable {
    return (this.nic.guest as GuestDomain).grants;
  }

  /** Each device has a machine of its own, as another process has. */
  protected create(host: GuestHost, options: XenDeviceOptions | undefined): Nic {
    this.machine = new XenMachine(host.log, this.clock);
    return createXenPersonality(this.machine, options)(host);
  }

  protected watch(link: SessionLink): void {
    const { sent } = this;
    observe(link, "write", (address, _type, src, at, length) => {
      sent.push({ kind: "write", address, bytes: src.slice(at, at + length) });
    });
    observe(link, "push", (space, address, _type, src, at, length) => {
      if (space !== Space.GRANT) throw new Error("a push that names no grant");
      const [reference, offset] = [Math.floor(address / 4096), address % 4096];
      sent.push({ kind: "push", reference, offset, bytes: src.slice(at, at + length) });
    });
    observe(link, "grants", (_version, _records, count) => sent.push({ kind: "grant", count }));
    observe(link, "endGrants", (_records, count) => sent.push({ kind: "endGrant", count }));
    observe(link, "event", (port) => sent.push({ kind: "event", port }));
    observe(link, "hypercall", (number, command) => {
      sent.push({ kind: "hypercall", number, command });
    });
    observe(link, "xenstore", (message) => {
      sent.push({ kind: "xenstore", bytes: message.slice() });
    });
  }

  /** A hostile backend writes into a granted page, at once. False when the driver refused it. */
  hostileWrite(reference: number, offset: number, bytes: Uint8Array): boolean {
    const address = busAddress(reference * 4096 + offset);
    return this.space.deviceWrite(Space.GRANT, address, RecordType.RAW, bytes, 0, bytes.length);
  }

  /** The toolstack closes the backend, and offers it again; not more often than once a second. */
  async resetByDevice(): Promise<void> {
    for (const state of [CLOSING, INITIALISING]) {
      this.machine.store.write(BACKEND_STATE, state);
      this.machine.settle();
      await this.settle();
    }
    await this.second();
  }

  async suspend(): Promise<void> {
    const { nic } = this;
    await this.run(new Promise<void>((resolve) => nic.suspend?.(resolve)));
  }

  queueCounts() {
    const count = (side: string) =>
      this.info.txqs.map((_, q) => this.counter(`queue${q}`, side, "count"));
    return { tx: count("tx"), rx: count("rx") };
  }

  get droppedDown(): number {
    return this.counter("queue0", "rx", "dropped_down");
  }

  held() {
    const { grants, gate } = this.info;
    const granted = this.plugged ? this.grants.snapshot() : undefined;
    return {
      mbufs: this.outstanding,
      rxMbufs: this.counter("rx_mbufs_in_use"),
      pushedBytes: this.counter("pushed_bytes"),
      pushes: gate.pushes,
      grants: grants.liveCount,
      references: grants.capacity - grants.availableCount,
      quarantined: grants.quarantined,
      granted: (granted?.["granted"] ?? 0) as number,
      used: (granted?.["readers"] ?? 0) as number,
    };
  }
}

/** Any pair, for what holds of both personalities. */
export type AnyPair = EnaPair | XenPair;

export interface NicOptions {
  readonly queues?: number;
  readonly mtu?: number;
  /** Where the NIC's ports are to be opened. */
  readonly netmap?: Netmap;
  /** Bytes of pushes that the device holds for the NIC; more of them end the link. */
  readonly pushBytes?: number;
}

const pairOptions = ({ queues, mtu, pushBytes }: NicOptions) => ({
  queues,
  mtu,
  // A device offers no less; a driver may use less of it.
  pushBudget: Math.max(pushBytes ?? Limits.PUSH_BYTES, Limits.PUSH_BYTES_MIN),
  pushBytes,
});

/** Both personalities, for the contract suites. */
export const NICS: readonly { kind: "ena" | "xen"; make(options?: NicOptions): AnyPair }[] = [
  { kind: "ena", make: (options = {}) => new EnaPair(pairOptions(options), options.netmap) },
  { kind: "xen", make: (options = {}) => new XenPair(pairOptions(options), options.netmap) },
];
