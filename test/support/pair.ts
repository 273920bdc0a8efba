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
import type { Port, SwitchPort } from "../../device/switch/port.ts";
import type { DeviceLink } from "../../frontend/bus/device-link.ts";
import { Hypervisor } from "../../frontend/bus/hypervisor.ts";
import { PciFunction } from "../../frontend/bus/pci.ts";
import { createEnaDriver, type EnaDriver, type EnaOptions } from "../../frontend/ena/index.ts";
import { DevCtl, devCtlReg, Register } from "../../shared/ena/registers.ts";
import { type Logger, silentLogger } from "../../shared/log.ts";
import { RecordType, Space } from "../../shared/wire/records.ts";
import { FAULT_SEVERITY_NAMES, Limits } from "../../shared/wire/transactions.ts";
import { NicPair, SegmentEnd } from "./nic-pair.ts";
import type { TestClock } from "./test-clock.ts";

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

export class EnaPair extends NicPair<DeviceAct> {
  readonly pci: PciFunction;
  readonly driver: EnaDriver;
  readonly options: PairOptions;
  /** Reasons of the resets that the driver asked for, in order. */
  readonly resets: number[] = [];
  /** Admin commands that the driver has posted, 64 bytes each. */
  readonly commands: Uint8Array[] = [];
  #end: DeviceEnd | undefined;

  constructor(options: PairOptions = {}) {
    const log = options.log ?? silentLogger;
    super(log);
    this.options = options;
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
        clock: this.clock,
      },
      { llq: true, ...options.driver },
    );
    this.listen();
  }

  get nic(): EnaNic {
    if (this.#end === undefined) throw new Error("no device is plugged");
    return this.#end.nic;
  }

  protected get far(): DeviceEnd | undefined {
    return this.#end;
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
      revision: end.nic.pci.revision,
      hasBar2: end.nic.pci.deviceMemory,
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

  protected apply(act: DeviceAct): void {
    if (act.kind === "interrupt") this.pci.interrupt(act.vector);
    else this.space.deviceWrite(Space.BUS, act.address, act.type, act.bytes, 0, act.bytes.length);
  }
}

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
    });
  }

  endWindow(address: number): void {
    const end = this.#end;
    this.#pair.toDevice.push(() => {
      const { bytes } = end.memory.windows.remove(address);
      end.nic.windowRemoved(address, bytes.length);
    });
  }

  write(address: number, type: number, src: Uint8Array, at: number, length: number): void {
    const end = this.#end;
    const bytes = src.slice(at, at + length);
    if (type === RecordType.ENA_AQ) this.#pair.commands.push(bytes);
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
      const budget = this.#pair.options.pushBudget ?? Limits.PUSH_BYTES;
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
    this.#pair.toDevice.push(() => end.nic.pci.mmioWrite(bar, offset, bytes, 0, length));
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
        const bytes = end.nic.pci.mmioRead(bar, offset, length);
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
  readonly clock: TestClock;
  readonly nic: EnaNic;
  readonly writable = true;
  readonly backlogged = false;
  readonly roundTripMs = 0;
  port: Port | undefined;
  readonly #pair: EnaPair;

  constructor(pair: EnaPair, options: DeviceOptions, config: Partial<NicConfig>) {
    this.#pair = pair;
    this.clock = pair.clock;
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
