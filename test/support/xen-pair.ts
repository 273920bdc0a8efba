/**
 * netfront and the Xen device in one process, joined by two queues instead of a link.
 *
 *   driver ── bus, hypervisor ── GuestEnd ──► toDevice ──► guest domain (device/xen)
 *             deviceWrite, onEvent ...   ◄── toDriver ◄── DeviceEnd
 *
 * Nothing is delivered until `pump`, so a test decides what is under way when. `tamper` sees all
 * that the device posts and may change, drop or repeat it: how a backend misbehaves on purpose.
 * `sent` records what the driver posts, in order.
 */
import {
  DmaError,
  type GuestMemory,
  type Span,
  type Window,
} from "../../device/dma/host-memory.ts";
import { PushQueue } from "../../device/dma/push-queue.ts";
import { WindowTable } from "../../device/dma/window-table.ts";
import type { GuestHost, GuestPosts, Nic, NicConfig } from "../../device/nic.ts";
import type { Port, SwitchPort } from "../../device/switch/port.ts";
import type { GrantTable } from "../../device/xen/grant-table.ts";
import { createXenPersonality } from "../../device/xen/index.ts";
import { XenMachine } from "../../device/xen/machine.ts";
import type { XenOptions as DeviceOptions } from "../../device/xen/options.ts";
import type { DeviceLink } from "../../frontend/bus/device-link.ts";
import { HypercallError, Hypervisor, type HypervisorLink } from "../../frontend/bus/hypervisor.ts";
import { PciFunction } from "../../frontend/bus/pci.ts";
import { createXenDriver, type XenDriver, type XenOptions } from "../../frontend/xen/index.ts";
import type { NetfrontInfo } from "../../frontend/xen/info.ts";
import type { Rxq, Txq } from "../../frontend/xen/rings.ts";
import { type Logger, silentLogger } from "../../shared/log.ts";
import type { XenStatus } from "../../shared/status/device-status.ts";
import type { Sent } from "../../shared/wire/catalogue.ts";
import { Space } from "../../shared/wire/records.ts";
import {
  FAULT_SEVERITY_NAMES,
  GRANT_RECORD_BYTES,
  type GrantVersion,
  Limits,
} from "../../shared/wire/transactions.ts";
import {
  END_GRANT_RECORD_SIZE,
  GRANT_USE_RECORD_SIZE,
  grantUseRecord,
} from "../../shared/xen/grant.ts";
import { NicPair, SegmentEnd } from "./nic-pair.ts";
import type { TestClock } from "./test-clock.ts";

/** What the device posts. */
export type BackendAct =
  | {
      readonly kind: "write";
      readonly space: number;
      readonly address: number;
      readonly type: number;
      bytes: Uint8Array;
    }
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

/** What the driver posts, as far as a backend could see it. */
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

export interface XenPairOptions {
  readonly driver?: XenOptions;
  readonly device?: DeviceOptions;
  readonly queues?: number;
  readonly mtu?: number;
  readonly config?: Partial<NicConfig>;
  readonly log?: Logger;
  readonly maxGrantFrames?: number;
  readonly pushBudget?: number;
}

export class XenPair extends NicPair<BackendAct> {
  readonly hypervisor = new Hypervisor();
  readonly driver: XenDriver;
  readonly options: XenPairOptions;
  readonly sent: GuestAct[] = [];
  #end: DeviceEnd | undefined;

  constructor(options: XenPairOptions = {}) {
    const log = options.log ?? silentLogger;
    super(log);
    this.options = options;
    this.plug();
    this.driver = createXenDriver(
      {
        space: this.space,
        pci: new PciFunction(this.space, { revision: 0, hasBar2: false }),
        hypervisor: this.hypervisor,
        name: "xn0",
        queues: options.queues ?? 1,
        mtu: options.mtu ?? 1500,
        log,
        clock: this.clock,
      },
      options.driver,
    );
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

  get end(): DeviceEnd {
    if (this.#end === undefined) throw new Error("no device is plugged");
    return this.#end;
  }
  protected get far(): DeviceEnd | undefined {
    return this.#end;
  }
  /** What the device says of its guest. */
  get snapshot(): XenStatus {
    const status = this.end.nic.snapshot();
    if (status.personality !== "xen") throw new Error(`a NIC of ${status.personality}`);
    return status;
  }

  /** A device appears at the other end: a machine of its own, as another process has. */
  plug(device: DeviceOptions | undefined = this.options.device): void {
    const end = new DeviceEnd(this, device ?? {}, this.options.config ?? {});
    this.#end = end;
    const link = new GuestEnd(this, end);
    end.link = link;
    this.space.attachLink(link);
    this.hypervisor.attachLink(link);
  }

  /** The link breaks: what is under way is lost, the device is gone. */
  cut(): void {
    this.toDevice = [];
    this.toDriver = [];
    this.space.detachLink();
    this.hypervisor.detachLink();
    const end = this.#end;
    this.#end = undefined;
    end?.link?.abandon();
    end?.nic.destroy();
    this.driver.linkLost();
  }

  async reconnect(device?: DeviceOptions): Promise<void> {
    this.plug(device ?? this.options.device);
    await this.run(this.driver.linkBack());
    await this.settle();
  }

  /** The device suspends its guest, as for a move. Resolves when the guest has suspended. */
  async suspend(): Promise<void> {
    const { nic } = this.end;
    await this.run(new Promise<void>((resolve) => nic.suspend?.(resolve)));
  }

  /** A rogue backend writes into a granted page, at once. False when the driver refused it. */
  rogueWrite(reference: number, offset: number, bytes: Uint8Array): boolean {
    const address = reference * 4096 + offset;
    return this.space.deviceWrite(Space.GRANT, address, 0, bytes, 0, bytes.length);
  }

  protected apply(act: BackendAct): void {
    switch (act.kind) {
      case "write":
        this.space.deviceWrite(act.space, act.address, act.type, act.bytes, 0, act.bytes.length);
        return;
      case "event":
        this.hypervisor.onEvent(act.port);
        return;
      case "xenstore":
        this.hypervisor.onXenstore(act.bytes, 0, act.bytes.length);
        return;
      case "grantUse":
        this.hypervisor.onGrantUse(act.reference, act.readers, act.writers);
        return;
      case "hypercallReply":
        this.end.link?.hypercallReply(act.tag, act.errno, act.bytes);
    }
  }
}

interface Call {
  resolve(bytes: Uint8Array): void;
  reject(error: HypercallError): void;
}

/** What the driver posts, towards one device. */
class GuestEnd implements DeviceLink, HypervisorLink {
  readonly #pair: XenPair;
  readonly #end: DeviceEnd;
  readonly #calls = new Map<number, Call>();
  #nextTag = 1;

  constructor(pair: XenPair, end: DeviceEnd) {
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

  write(address: number, _type: number, src: Uint8Array, at: number, length: number): void {
    const end = this.#end;
    const bytes = src.slice(at, at + length);
    this.#pair.sent.push({ kind: "write", address, bytes });
    this.#pair.toDevice.push(() => {
      const window = end.memory.windows.find(address, length);
      if (window === undefined) throw new Error(`write of ${length} at ${address}: no window`);
      window.bytes.set(bytes, address - window.address);
    });
  }

  push(
    address: number,
    _type: number,
    src: Uint8Array,
    at: number,
    length: number,
    space: number = Space.BUS,
  ): void {
    if (space !== Space.GRANT) throw new Error("a push that names no grant");
    const end = this.#end;
    const bytes = src.slice(at, at + length);
    const reference = Math.floor(address / 4096);
    this.#pair.sent.push({ kind: "push", reference, offset: address % 4096, bytes });
    this.#pair.toDevice.push(() => {
      if (!end.memory.pushes.add(address, bytes, 0, length)) throw new Error("push refused");
      const budget = this.#pair.options.pushBudget ?? Limits.PUSH_BYTES;
      if (end.memory.pushes.bytes > budget) throw new Error("push budget exceeded");
    });
  }

  mmioWrite(): void {
    throw new Error("a Xen guest has no registers");
  }
  mmioWrite32(): void {
    throw new Error("a Xen guest has no registers");
  }
  mmioRead(): Promise<Uint8Array> {
    throw new Error("a Xen guest has no registers");
  }

  fault(_severity: number, code: string, text: string): void {
    this.#pair.driverFaults.push(`${code}: ${text}`);
  }

  grants(version: GrantVersion, records: Uint8Array, count: number): void {
    const copy = records.slice(0, count * GRANT_RECORD_BYTES[version]);
    this.#pair.sent.push({ kind: "grant", count });
    this.#pair.toDevice.push(() => this.#end.guest.grant({ version, records: copy }));
  }

  endGrants(records: Uint8Array, count: number): void {
    const copy = records.slice(0, count * END_GRANT_RECORD_SIZE);
    this.#pair.sent.push({ kind: "endGrant", count });
    this.#pair.toDevice.push(() => this.#end.guest.endGrant({ records: copy }));
  }

  event(port: number): void {
    this.#pair.sent.push({ kind: "event", port });
    this.#pair.toDevice.push(() => this.#end.guest.event({ port }));
  }

  hypercall(number: number, command: number, bytes: Uint8Array): Promise<Uint8Array> {
    const copy = bytes.slice();
    this.#pair.sent.push({ kind: "hypercall", number, command });
    return new Promise((resolve, reject) => {
      const tag = this.#nextTag++;
      this.#calls.set(tag, { resolve, reject });
      this.#pair.toDevice.push(() => {
        this.#end.guest.hypercall({ tag, number, command, bytes: copy });
      });
    });
  }

  hypercallReply(tag: number, errno: number, bytes: Uint8Array): void {
    const call = this.#calls.get(tag);
    if (call === undefined) throw new Error(`a reply to hypercall ${tag}, which was never made`);
    this.#calls.delete(tag);
    if (errno === 0) call.resolve(bytes);
    else call.reject(new HypercallError(errno, `errno ${errno}`));
  }

  abandon(): void {
    for (const { reject } of this.#calls.values()) reject(new HypercallError(0, "gone"));
    this.#calls.clear();
  }

  xenstore(message: Uint8Array): void {
    const bytes = message.slice();
    this.#pair.sent.push({ kind: "xenstore", bytes });
    this.#pair.toDevice.push(() => this.#end.guest.xenstore({ bytes }));
  }

  scheduleFlush(): void {}
  mark(): void {}

  get writable(): boolean {
    return this.#pair.writable;
  }
}

const viewOf = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.byteLength);

/** One incarnation of the device, and the world around it. */
export class DeviceEnd implements GuestHost {
  readonly memory: PairMemory;
  readonly config: NicConfig;
  readonly log: Logger;
  readonly clock: TestClock;
  readonly machine: XenMachine;
  readonly nic: Nic;
  readonly writable = true;
  readonly backlogged = false;
  readonly roundTripMs = 0;
  port: Port | undefined;
  link: GuestEnd | undefined;
  readonly #pair: XenPair;

  constructor(pair: XenPair, options: DeviceOptions, config: Partial<NicConfig>) {
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
    this.machine = new XenMachine(this.log, pair.clock);
    this.nic = createXenPersonality(this.machine, options)(this);
  }

  /** The guest's grants as its transactions told them. */
  get grants(): GrantTable {
    return (this.nic.guest as unknown as { readonly grants: GrantTable }).grants;
  }

  get guest() {
    const { guest } = this.nic;
    if (guest === undefined) throw new Error("the device has no guest");
    return guest;
  }

  interrupt(): void {
    throw new Error("a Xen device has no vectors");
  }
  post<N extends GuestPosts>(name: N, fields: Sent<N>): void {
    this.#posts[name](fields);
  }

  readonly #posts: { readonly [N in GuestPosts]: (fields: Sent<N>) => void } = {
    event: ({ port }) => this.#pair.post({ kind: "event", port }),
    hypercall_reply: ({ tag, errno, bytes }) =>
      this.#pair.post({ kind: "hypercallReply", tag, errno, bytes: bytes.slice() }),
    grant_use: ({ records }) => this.#grantUse(records),
    xenstore: ({ bytes }) => this.#pair.post({ kind: "xenstore", bytes: bytes.slice() }),
  };

  #grantUse(records: Uint8Array): void {
    const view = viewOf(records);
    for (let at = 0; at < records.length; at += GRANT_USE_RECORD_SIZE) {
      const reference = grantUseRecord.reference(view, at);
      const readers = grantUseRecord.readers(view, at);
      const writers = grantUseRecord.writers(view, at);
      this.#pair.post({ kind: "grantUse", reference, readers, writers });
    }
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

class PairMemory implements GuestMemory {
  readonly windows = new WindowTable();
  /** All pushes are in Space.GRANT. */
  readonly pushes = new PushQueue(64 << 20);
  outgoing = new Uint8Array(0);
  /** Reads that no push answered. */
  reads = 0;
  readonly #pair: XenPair;

  constructor(pair: XenPair) {
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

  read(address: number, length: number, space: Space = Space.BUS): Promise<Uint8Array> {
    this.reads++;
    return new Promise((resolve, reject) => {
      this.#pair.toDriver.push(() => {
        const span = this.#pair.space.deviceRead(address, length, space);
        const status = this.#pair.space.refusal;
        const bytes = span?.buffer.slice(span.at, span.at + span.length);
        this.#pair.toDevice.push(() => {
          if (bytes === undefined) reject(new DmaError("DMA_REFUSED", "refused", status));
          else resolve(bytes);
        });
      });
    });
  }

  /** The act is made when its turn comes: the caller fills `outgoing` after this returns. */
  reserve(address: number, length: number, type: number, space: Space = Space.BUS): number {
    const bytes = new Uint8Array(length);
    this.outgoing = bytes;
    this.#pair.post({ kind: "write", space, address, type, bytes });
    return 0;
  }

  write(address: number, type: number, src: Uint8Array, at: number, length: number): void {
    const bytes = src.slice(at, at + length);
    this.#pair.post({ kind: "write", space: Space.BUS, address, type, bytes });
  }

  writeGranted(
    reference: number,
    offset: number,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void {
    const bytes = src.slice(at, at + length);
    const address = reference * 4096 + offset;
    this.#pair.post({ kind: "write", space: Space.GRANT, address, type, bytes });
  }

  abandon(): void {
    this.pushes.clear();
  }
}
