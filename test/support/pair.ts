/**
 * ENA driver and ENA device in one process, joined by two queues instead of a link.
 *
 *   driver ── bus ── PairLink ──► toDevice ──► nic (device/ena)
 *                    deviceWrite ◄── toDriver ◄── PairHost
 *
 * Nothing is delivered until `pump`, so a test decides what is under way when. `tamper` sees all
 * that the device posts and may change, drop or repeat it: how a device misbehaves on purpose.
 */

import { DmaError, type HostMemory, type Span, type Window } from "../../device/dma/host-memory.ts";
import { PushQueue } from "../../device/dma/push-queue.ts";
import { WindowTable } from "../../device/dma/window-table.ts";
import {
  createEnaNic,
  type EnaOptions as DeviceOptions,
  type EnaNic,
} from "../../device/ena/index.ts";
import type { NicConfig, NicHost } from "../../device/nic.ts";
import { type DropReason, type Port, type SwitchPort, Verdict } from "../../device/switch/port.ts";
import type { DeviceLink } from "../../frontend/bus/device-link.ts";
import { Hypervisor } from "../../frontend/bus/hypervisor.ts";
import { PciFunction } from "../../frontend/bus/pci.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import { createEnaDriver, type EnaDriver, type EnaOptions } from "../../frontend/ena/index.ts";
import { Mbuf } from "../../frontend/net/mbuf.ts";
import { DevCtl, devCtlReg, Register } from "../../shared/ena/registers.ts";
import { type Logger, silentLogger } from "../../shared/log.ts";
import { Frame } from "../../shared/net/frame.ts";
import { RecordType, Space } from "../../shared/wire/records.ts";
import { FAULT_SEVERITY_NAMES } from "../../shared/wire/transactions.ts";

/** What the device posts: a DMA write, or an interrupt. */
export type DeviceAct =
  | { readonly kind: "write"; readonly address: number; readonly type: number; bytes: Uint8Array }
  | { readonly kind: "interrupt"; readonly vector: number };

/** Returns what reaches the driver in the place of `act`: nothing, it, or more. */
export type Tamper = (act: DeviceAct) => readonly DeviceAct[];

export interface PairOptions {
  readonly driver?: EnaOptions;
  readonly device?: DeviceOptions;
  readonly queues?: number;
  readonly mtu?: number;
  readonly config?: Partial<NicConfig>;
  readonly log?: Logger;
  readonly pushBudget?: number;
}

/** A frame as the segment got it: bytes copied, facts kept. */
export interface Delivered {
  readonly bytes: Uint8Array;
  readonly needsCsum: boolean;
  readonly csumStart: number;
  readonly csumOffset: number;
  readonly csumValid: boolean;
  readonly gso: number;
  readonly gsoSize: number;
}

/** A packet as the stack got it. */
export interface Input {
  readonly bytes: Uint8Array;
  readonly csumFlags: number;
  readonly tsoSegsz: number;
  readonly pieces: number;
  readonly flowId: number;
  readonly hashType: number;
}

export class EnaPair {
  readonly space: DmaSpace;
  readonly pci: PciFunction;
  readonly driver: EnaDriver;
  readonly options: PairOptions;
  /** What the driver sent, as it arrived in the segment. */
  readonly segment: Delivered[] = [];
  /** What the stack above the driver got. */
  readonly inputs: Input[] = [];
  readonly deviceFaults: string[] = [];
  readonly driverFaults: string[] = [];
  linkStates: boolean[] = [];
  readyCalls = 0;
  inputDones = 0;
  clock = 1000;
  /** As DeviceLink.writable. */
  writable = true;
  tamper: Tamper | undefined;
  /** Reasons of the resets that the driver asked for, in order. */
  readonly resets: number[] = [];
  /** Mbufs handed to transmit and not freed yet. */
  outstanding = 0;
  toDevice: (() => void)[] = [];
  toDriver: (() => void)[] = [];
  #end: DeviceEnd | undefined;

  constructor(options: PairOptions = {}) {
    this.options = options;
    const log = options.log ?? silentLogger;
    this.space = new DmaSpace({ log, now: () => this.clock });
    this.pci = new PciFunction(this.space, { revision: 0, hasBar2: false });
    this.plug();
    this.driver = createEnaDriver(
      {
        space: this.space,
        pci: this.pci,
        hypervisor: new Hypervisor(),
        name: "ena0",
        queues: options.queues ?? 1,
        mtu: options.mtu ?? 1500,
        log,
        now: () => this.clock,
      },
      { llq: true, ...options.driver },
    );
    const { ifnet } = this.driver;
    ifnet.onLinkState = (up) => this.linkStates.push(up);
    ifnet.onTransmitReady = () => this.readyCalls++;
    ifnet.inputDone = () => this.inputDones++;
    ifnet.input = (m) => {
      this.inputs.push(inputOf(m));
      m.free();
    };
  }

  get nic(): EnaNic {
    if (this.#end === undefined) throw new Error("no device is plugged");
    return this.#end.nic;
  }

  get plugged(): boolean {
    return this.#end !== undefined;
  }

  /** Delivers the oldest step of one direction, or else of the other. */
  deliverOne(): void {
    const step = this.toDevice.shift() ?? this.toDriver.shift();
    step?.();
    this.driver.batchApplied();
  }

  /** A device appears at the other end. */
  plug(
    device: DeviceOptions | undefined = this.options.device,
    config = this.options.config,
  ): void {
    const end = new DeviceEnd(this, device ?? {}, config ?? {});
    this.#end = end;
    this.pci.configure({
      revision: end.nic.revision,
      hasBar2: end.nic.deviceMemory,
    });
    this.space.attachLink(new PairLink(this, end));
  }

  /** The link breaks: what is under way is lost, the device is gone. */
  cut(): void {
    this.toDevice = [];
    this.toDriver = [];
    this.space.detachLink();
    const end = this.#end;
    this.#end = undefined;
    end?.nic.destroy();
    this.driver.linkLost();
  }

  async reconnect(device?: DeviceOptions, config?: Partial<NicConfig>): Promise<void> {
    this.plug(device ?? this.options.device, config ?? this.options.config);
    await this.run(this.driver.linkBack());
  }

  /** Attach, up, link up. */
  async start(): Promise<void> {
    await this.run(this.driver.attach());
    await this.run(this.driver.up());
    await this.settle();
  }

  /** Delivers everything there is and what comes of it, in one turn. True when there was any. */
  pump(): boolean {
    let any = false;
    while (this.toDevice.length > 0 || this.toDriver.length > 0) {
      any = true;
      const down = this.toDevice;
      this.toDevice = [];
      for (const step of down) step();
      this.#end?.nic.batchEnd();
      const up = this.toDriver;
      this.toDriver = [];
      for (const step of up) step();
      this.driver.batchApplied();
    }
    return any;
  }

  /** Pumps until nothing has moved for a few turns of the event loop. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 4; ) {
      quiet = this.pump() ? 0 : quiet + 1;
      await turn();
    }
  }

  /** Pumps until the promise settles. */
  async run<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const mark = (): void => {
      done = true;
    };
    promise.then(mark, mark);
    while (!done) {
      this.pump();
      await turn();
    }
    return promise;
  }

  /** One second passes on both sides. */
  async second(): Promise<void> {
    this.clock += 1000;
    this.#end?.nic.tick();
    this.pump();
    this.driver.tick();
    await this.settle();
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
    const m = this.mbuf(...pieces);
    const errno = this.driver.ifnet.transmit(m);
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

  /** Queues what the device posts, tampered with. */
  post(act: DeviceAct): void {
    const acts = this.tamper === undefined ? [act] : this.tamper(act);
    for (const one of acts) this.toDriver.push(() => this.#apply(one));
  }

  readonly #release = (): void => {
    this.outstanding--;
  };

  #apply(act: DeviceAct): void {
    if (act.kind === "interrupt") this.pci.interrupt(act.vector);
    else this.space.deviceWrite(Space.BUS, act.address, act.type, act.bytes, 0, act.bytes.length);
  }
}

function inputOf(m: Mbuf): Input {
  const parts: Uint8Array[] = [];
  for (let piece: Mbuf | undefined = m; piece !== undefined; piece = piece.next) {
    parts.push(piece.buffer.subarray(piece.at, piece.at + piece.length));
  }
  const bytes = new Uint8Array(Buffer.concat(parts));
  if (bytes.length !== m.pktLength) throw new Error(`${bytes.length} bytes, says ${m.pktLength}`);
  const { csumFlags, tsoSegsz, flowId, hashType } = m;
  return { bytes, csumFlags, tsoSegsz, pieces: parts.length, flowId, hashType };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What the driver posts, towards one device. */
class PairLink implements DeviceLink {
  readonly #pair: EnaPair;
  readonly #end: DeviceEnd;

  constructor(pair: EnaPair, end: DeviceEnd) {
    this.#pair = pair;
    this.#end = end;
  }

  window(address: number, length: number): void {
    const end = this.#end;
    this.#pair.toDevice.push(() => {
      end.memory.windows.add(address, length);
      end.nic.windowAdded(address, length);
    });
  }

  endWindow(address: number): void {
    const end = this.#end;
    this.#pair.toDevice.push(() => {
      const { bytes } = end.memory.windows.remove(address);
      end.nic.windowRemoved(address, bytes.length);
    });
  }

  write(address: number, _type: number, src: Uint8Array, at: number, length: number): void {
    const end = this.#end;
    const bytes = src.slice(at, at + length);
    this.#pair.toDevice.push(() => {
      const window = end.memory.windows.find(address, length);
      if (window === undefined) throw new Error(`write of ${length} at ${address}: no window`);
      window.bytes.set(bytes, address - window.address);
    });
  }

  push(address: number, _type: number, src: Uint8Array, at: number, length: number): void {
    const end = this.#end;
    const bytes = src.slice(at, at + length);
    this.#pair.toDevice.push(() => {
      if (!end.memory.pushes.add(address, bytes, 0, length)) throw new Error("push refused");
      const budget = this.#pair.options.pushBudget ?? 16 << 20;
      if (end.memory.pushes.bytes > budget) throw new Error("push budget exceeded");
    });
  }

  mmioWrite(
    bar: number,
    offset: number,
    _type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void {
    const end = this.#end;
    const bytes = src.slice(at, at + length);
    this.#pair.toDevice.push(() => end.nic.mmioWrite(bar, offset, bytes, 0, length));
  }

  mmioWrite32(bar: number, offset: number, value: number): void {
    if (bar === 0 && offset === Register.DEV_CTL && (value & DevCtl.DEV_RESET) !== 0) {
      this.#pair.resets.push(devCtlReg.reason(value));
    }
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.mmioWrite(bar, offset, RecordType.REGISTER, bytes, 0, 4);
  }

  mmioRead(bar: number, offset: number, length: number): Promise<Uint8Array> {
    const end = this.#end;
    return new Promise((resolve) => {
      this.#pair.toDevice.push(() => {
        const bytes = end.nic.mmioRead(bar, offset, length);
        this.#pair.toDriver.push(() => resolve(bytes));
      });
    });
  }

  fault(_severity: number, code: string, text: string): void {
    this.#pair.driverFaults.push(`${code}: ${text}`);
  }

  scheduleFlush(): void {}
  mark(): void {}

  get writable(): boolean {
    return this.#pair.writable;
  }
}

/** One incarnation of the device, and the world around it. */
class DeviceEnd implements NicHost {
  readonly memory: PairMemory;
  readonly config: NicConfig;
  readonly log: Logger;
  readonly nic: EnaNic;
  readonly writable = true;
  readonly backlogged = false;
  readonly roundTripMs = 0;
  port: Port | undefined;
  readonly #pair: EnaPair;

  constructor(pair: EnaPair, options: DeviceOptions, config: Partial<NicConfig>) {
    this.#pair = pair;
    this.log = pair.options.log ?? silentLogger;
    this.memory = new PairMemory(pair);
    this.config = {
      name: "nic0",
      mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
      queues: pair.options.queues ?? 1,
      maxMtu: 9216,
      ...config,
    };
    this.nic = createEnaNic(this, options);
  }

  interrupt(vector: number): void {
    this.#pair.post({ kind: "interrupt", vector });
  }

  fault(severity: number, code: string, text: string): void {
    this.#pair.deviceFaults.push(`${FAULT_SEVERITY_NAMES[severity]} ${code}: ${text}`);
  }

  plug(port: Port): SwitchPort {
    this.port = port;
    return new SegmentEnd(this.#pair);
  }

  scheduleFlush(): void {}

  now(): number {
    return this.#pair.clock;
  }
}

class SegmentEnd implements SwitchPort {
  readonly #pair: EnaPair;
  onReady: (() => void) | undefined;

  constructor(pair: EnaPair) {
    this.#pair = pair;
  }

  input(frame: Frame): Verdict {
    const bytes = new Uint8Array(frame.length);
    frame.copyTo(bytes, 0, 0, frame.length);
    const { needsCsum, csumStart, csumOffset, csumValid, gso, gsoSize } = frame;
    this.#pair.segment.push({ bytes, needsCsum, csumStart, csumOffset, csumValid, gso, gsoSize });
    return Verdict.DONE;
  }

  flush(): void {}
  roomAgain(): void {}
  drop(): void {}
  detach(): void {}
}

class PairMemory implements HostMemory {
  readonly windows = new WindowTable();
  readonly pushes = new PushQueue(64 << 20);
  outgoing = new Uint8Array(0);
  readonly #pair: EnaPair;

  constructor(pair: EnaPair) {
    this.#pair = pair;
  }

  window(address: number, length: number): Window | undefined {
    return this.windows.find(address, length);
  }

  pushed(address: number, length: number, out: Span): boolean {
    return this.pushes.find(address, length, out);
  }

  releasePushed(address: number): void {
    this.pushes.release(address);
  }

  read(address: number, length: number): Promise<Uint8Array> {
    const window = this.windows.find(address, length);
    if (window !== undefined) {
      const at = address - window.address;
      return Promise.resolve(window.bytes.slice(at, at + length));
    }
    return new Promise((resolve, reject) => {
      this.#pair.toDriver.push(() => {
        const span = this.#pair.space.deviceRead(address, length);
        const bytes = span?.buffer.slice(span.at, span.at + span.length);
        this.#pair.toDevice.push(() => {
          if (bytes === undefined) reject(new DmaError("DMA_REFUSED", "refused"));
          else resolve(bytes);
        });
      });
    });
  }

  /** The act is made when its turn comes: the caller fills `outgoing` after this returns. */
  reserve(address: number, length: number, type: RecordType): number {
    const bytes = new Uint8Array(length);
    this.outgoing = bytes;
    this.#pair.post({ kind: "write", address, type, bytes });
    return 0;
  }

  write(address: number, type: RecordType, src: Uint8Array, at: number, length: number): void {
    const bytes = src.slice(at, at + length);
    this.windows.find(address, length)?.bytes.set(bytes, address - this.#windowBase(address));
    this.#pair.post({ kind: "write", address, type, bytes });
  }

  abandon(): void {
    this.pushes.clear();
  }

  #windowBase(address: number): number {
    return this.windows.find(address, 1)?.address ?? address;
  }
}
