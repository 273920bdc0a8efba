/**
 * One incarnation of the device, from its reset to the next one: registers, admin queue, events,
 * features, queues. It corresponds to ena_com in the original (amzn-drivers:
 * kernel/fbsd/ena/ena-com/ena_com.c).
 *
 * A `Com` is never reused: a reset or a new link creates another one. After `kill`, every pending
 * wait rejects with `Abandoned`, so no step of an older incarnation reaches a newer device.
 *
 * Methods that send commands to the device return 0 or a FreeBSD errno.
 */

import {
  ACQ_BODY,
  createCq,
  createCqResp,
  createSq,
  createSqResp,
  destroyCq,
  destroySq,
  Opcode,
  Placement,
  type SqDirection,
} from "../../shared/ena/admin.ts";
import { AenqGroup } from "../../shared/ena/aenq.ts";
import {
  aenqConfig,
  Capability,
  type DeviceAttributes,
  deviceAttributes,
  FeatureId,
  featureCommand,
  type HwHints,
  hostAttr,
  hwHints,
  MAX_QUEUES_EXT_VERSION,
  maxQueues,
  maxQueuesExt,
  mtuFeature,
  SET_FEATURE_BODY,
  type StatelessOffload,
  statelessOffload,
} from "../../shared/ena/features.ts";
import { DriverFeature, ENA_SPEC_VERSION, hostInfo, OsType } from "../../shared/ena/host-info.ts";
import { LLQ_FEATURE_VERSION_1, type LlqFeature, llqFeature } from "../../shared/ena/llq.ts";
import { INTR_MASK_ALL, INTR_UNMASK_ALL, Register } from "../../shared/ena/registers.ts";
import type { Logger } from "../../shared/log.ts";
import type { LinkState } from "../../shared/wire/link-state.ts";
import { RecordType } from "../../shared/wire/records.ts";
import type { CoherentMemory } from "../bus/coherent.ts";
import { Errno } from "../bus/errno.ts";
import type { DmaSpace } from "../bus/space.ts";
import type { DriverContext } from "../driver.ts";
import { Abandoned } from "../driver-error.ts";
import { AdminQueue, type AdminReply, type AdminStats } from "./admin.ts";
import { Aenq, type AenqHandler } from "./aenq.ts";
import { chooseLlq, type LlqConfig } from "./llq.ts";
import { Registers } from "./registers.ts";
import { Waits } from "./waits.ts";

/** Features and limits of a device, as the driver reads them during probe. */
export interface DeviceFeatures {
  readonly attributes: DeviceAttributes;
  readonly offload: StatelessOffload;
  readonly hints: HwHints | undefined;
  readonly llq: LlqFeature | undefined;
  readonly aenqGroups: number;
  readonly maxTxSqNum: number;
  readonly maxTxCqNum: number;
  readonly maxRxNum: number;
  readonly maxTxSqDepth: number;
  readonly maxTxCqDepth: number;
  readonly maxRxDepth: number;
  readonly maxTxHeaderSize: number;
  readonly maxTxDescs: number;
  readonly maxRxDescs: number;
}

/** The two halves of a created queue: indexes and register offsets, as the device assigned them. */
export interface CreatedQueue {
  readonly errno: number;
  readonly cqIdx: number;
  readonly sqIdx: number;
  /** Offsets (bytes) in BAR 0. */
  readonly unmaskRegister: number;
  readonly doorbell: number;
  /** Offset (bytes) in BAR 2; LLQ only. */
  readonly llqDescriptors: number;
}

export interface QueueRequest {
  readonly direction: SqDirection;
  readonly placement: Placement;
  readonly depth: number;
  readonly vector: number;
  readonly cqAddress: number;
  readonly cqEntryBytes: number;
  /** Bus address of the SQ; unused for a queue placed in the device. */
  readonly sqAddress: number;
}

const WANTED_AENQ_GROUPS =
  (1 << AenqGroup.LINK_CHANGE) |
  (1 << AenqGroup.FATAL_ERROR) |
  (1 << AenqGroup.WARNING) |
  (1 << AenqGroup.NOTIFICATION) |
  (1 << AenqGroup.KEEP_ALIVE) |
  (1 << AenqGroup.CONF_NOTIFICATIONS) |
  (1 << AenqGroup.DEVICE_REQUEST_RESET);

export class Com {
  readonly log: Logger;
  readonly waits: Waits;
  readonly regs: Registers;
  readonly #space: DmaSpace;
  readonly #adminStats: AdminStats;
  readonly #pages = new Map<string, CoherentMemory>();
  #admin: AdminQueue | undefined;
  #aenq: Aenq | undefined;
  /** Bits 1 << FeatureId; 0 until the attributes are known. */
  supportedFeatures = 0;
  capabilities = 0;
  /** Configuration of Tx queues placed in the device, or undefined for host placement. */
  llq: LlqConfig | undefined;

  constructor({ space, pci, log, clock }: DriverContext, adminStats: AdminStats) {
    this.#space = space;
    this.log = log;
    this.waits = new Waits(clock);
    this.#adminStats = adminStats;
    this.regs = new Registers(space, pci, log, this.waits);
  }

  get alive(): boolean {
    return this.waits.gone === undefined;
  }

  /** Throws Abandoned after `kill`. Every step calls it when it resumes. */
  check(): void {
    if (this.waits.gone !== undefined) throw new Abandoned(this.waits.gone);
  }

  has(capability: number): boolean {
    return ((this.capabilities >>> capability) & 1) === 1;
  }

  supports(feature: number): boolean {
    return ((this.supportedFeatures >>> feature) & 1) === 1;
  }

  /** Ends every wait and frees the memory. The device has been reset, or is out of reach. */
  kill(why: string): void {
    if (!this.alive) return;
    this.waits.abandon(why);
    this.#admin?.free();
    this.#aenq?.free();
    this.regs.free();
    for (const page of this.#pages.values()) page.free();
    this.#pages.clear();
  }

  /**
   * Returns the page of this name, which the device reads or fills on command. The first call
   * allocates it; `kill` frees it.
   */
  allocate(bytes: number, name: string): CoherentMemory {
    this.check();
    const known = this.#pages.get(name);
    if (known !== undefined && known.bytes.length === bytes) return known;
    const memory = this.#space.allocCoherent(bytes, 4096, name);
    this.#pages.set(name, memory);
    return memory;
  }

  /** True during a reset, when the device accepts no doorbells, including those of events. */
  resetting = false;

  async reset(reason: number): Promise<number> {
    this.resetting = true;
    try {
      return await this.regs.reset(reason, this.has(Capability.EXTENDED_RESET_REASONS));
    } finally {
      this.resetting = false;
    }
  }

  // Admin queue and events.

  /** ena_com_admin_init, with the queue in polling mode and the management interrupt masked. */
  startAdmin(): void {
    this.check();
    this.#admin = new AdminQueue(this.#space, this.regs, this.log, this.waits, this.#adminStats);
    this.#aenq = new Aenq(this.#space, this.regs);
    this.regs.write(Register.INTR_MASK, INTR_MASK_ALL);
  }

  /** Ends polling: completions and events come by interrupt from now on. Needs a vector handler. */
  enableInterrupts(): void {
    this.check();
    if (this.#admin === undefined) throw new Error("ena: interrupts before the admin queue");
    this.#admin.polling = false;
    this.regs.write(Register.INTR_MASK, INTR_UNMASK_ALL);
    this.#aenq?.enable();
  }

  /** First half of the management interrupt. */
  handleAdminCompletions(): void {
    this.#admin?.handleCompletions();
    this.waits.poll();
  }

  /** Second half of the management interrupt. */
  handleEvents(handler: AenqHandler): void {
    if (this.alive) this.#aenq?.handle(handler);
  }

  get hasKeepAlive(): boolean {
    return this.alive && this.#aenq?.hasKeepAlive() === true;
  }

  /** Reports the admin rings to a capture that begins now. Returns false before they exist. */
  tellQueues(state: LinkState): boolean {
    if (!this.alive || this.#admin === undefined || this.#aenq === undefined) return false;
    this.#admin.tellQueues(state);
    this.#aenq.tellQueue(state);
    return true;
  }

  get adminRunning(): boolean {
    return this.#admin?.running === true;
  }

  get missingAdminInterrupt(): boolean {
    return this.#admin?.missingInterrupt === true;
  }

  /** Stops further commands. It is the first step of a destroy that is not graceful. */
  stopAdmin(): void {
    if (this.#admin !== undefined) this.#admin.running = false;
  }

  applyTimeouts(adminMs: number, registerReadMs: number): void {
    if (adminMs !== 0 && this.#admin !== undefined) this.#admin.timeoutMs = adminMs;
    if (registerReadMs !== 0) this.regs.readTimeoutMs = registerReadMs;
  }

  execute(write: (view: DataView, at: number) => void): Promise<AdminReply> {
    if (this.#admin === undefined) throw new Error("ena: command before the admin queue");
    return this.#admin.execute(write);
  }

  // Features.

  /**
   * GET_FEATURE. `buffer` is the control buffer of RSS features. Returns EOPNOTSUPP without a
   * command when the feature bit is missing.
   */
  getFeature(id: number, version = 0, buffer?: CoherentMemory): Promise<AdminReply> {
    if (id !== FeatureId.DEVICE_ATTRIBUTES && !this.supports(id)) return UNSUPPORTED;
    return this.execute((view, at) => {
      featureCommand.write(view, at, {
        opcode: Opcode.GET_FEATURE,
        featureId: id,
        featureVersion: version,
        ...controlOf(buffer),
      });
    });
  }

  /** SET_FEATURE, whose body `body` writes. Returns 0 or an errno. */
  async setFeature(
    id: number,
    body: (view: DataView, at: number) => void,
    buffer?: CoherentMemory,
  ): Promise<number> {
    // Host attributes are sent first, before the features of the device are known.
    if (id !== FeatureId.HOST_ATTR_CONFIG && !this.supports(id)) return Errno.EOPNOTSUPP;
    const reply = await this.execute((view, at) => {
      featureCommand.write(view, at, {
        opcode: Opcode.SET_FEATURE,
        featureId: id,
        ...controlOf(buffer),
      });
      body(view, at + SET_FEATURE_BODY);
    });
    return reply.errno;
  }

  /** Sends the identity of the driver. A refusal by the device is logged and ignored. */
  async sendHostInfo(cpus: number): Promise<void> {
    const page = this.allocate(4096, "host info");
    hostInfo.write(page.view, 0, {
      osType: OsType.FREEBSD,
      osDistStr: "ringwire",
      kernelVerStr: "ringwire",
      driverMajor: 2,
      driverMinor: 8,
      driverSubMinor: 3,
      enaSpecVersion: ENA_SPEC_VERSION,
      numCpus: cpus,
      driverSupportedFeatures:
        DriverFeature.RX_OFFSET | DriverFeature.RSS_CONFIGURABLE_FUNCTION_KEY,
    });
    page.publish(0, hostInfo.size, RecordType.ENA_HOST_INFO);
    const errno = await this.setFeature(FeatureId.HOST_ATTR_CONFIG, (view, at) => {
      hostAttr.write(view, at, { osInfoBa: page.address });
    });
    if (errno !== 0) this.log.warn({ errno }, "device did not take the host information");
  }

  /** ena_com_get_dev_attr_feat. Returns the features, or the errno of the first failed command. */
  async getFeatures(): Promise<DeviceFeatures | number> {
    const attr = await this.getFeature(FeatureId.DEVICE_ATTRIBUTES);
    if (attr.errno !== 0) return attr.errno;
    const attributes = deviceAttributes.parse(attr.view, ACQ_BODY);
    this.supportedFeatures = attributes.supportedFeatures;
    this.capabilities = attributes.capabilities;

    const queues = await this.#getQueueLimits();
    if (typeof queues === "number") return queues;
    const aenq = await this.getFeature(FeatureId.AENQ_CONFIG);
    if (aenq.errno !== 0) return aenq.errno;
    const aenqGroups = aenqConfig.parse(aenq.view, ACQ_BODY).supportedGroups;
    const offloads = await this.getFeature(FeatureId.STATELESS_OFFLOAD_CONFIG);
    if (offloads.errno !== 0) return offloads.errno;
    const offload = statelessOffload.parse(offloads.view, ACQ_BODY);
    const hint = await this.getFeature(FeatureId.HW_HINTS);
    if (hint.errno !== 0 && hint.errno !== Errno.EOPNOTSUPP) return hint.errno;
    const hints = hint.errno === 0 ? hwHints.parse(hint.view, ACQ_BODY) : undefined;
    const low = await this.getFeature(FeatureId.LLQ, LLQ_FEATURE_VERSION_1);
    if (low.errno !== 0 && low.errno !== Errno.EOPNOTSUPP) return low.errno;
    const llq = low.errno === 0 ? llqFeature.parse(low.view, ACQ_BODY) : undefined;
    return { attributes, offload, hints, llq, aenqGroups, ...queues };
  }

  async #getQueueLimits(): Promise<number | Omit<DeviceFeatures, keyof OtherFeatures>> {
    if (this.supports(FeatureId.MAX_QUEUES_EXT)) {
      const reply = await this.getFeature(FeatureId.MAX_QUEUES_EXT, MAX_QUEUES_EXT_VERSION);
      if (reply.errno !== 0) return reply.errno;
      const q = maxQueuesExt.parse(reply.view, ACQ_BODY);
      if (q.version !== MAX_QUEUES_EXT_VERSION) return Errno.EINVAL;
      return {
        maxTxSqNum: q.maxTxSqNum,
        maxTxCqNum: q.maxTxCqNum,
        maxRxNum: Math.min(q.maxRxSqNum, q.maxRxCqNum),
        maxTxSqDepth: q.maxTxSqDepth,
        maxTxCqDepth: q.maxTxCqDepth,
        maxRxDepth: Math.min(q.maxRxSqDepth, q.maxRxCqDepth),
        maxTxHeaderSize: q.maxTxHeaderSize,
        maxTxDescs: q.maxPerPacketTxDescs,
        maxRxDescs: q.maxPerPacketRxDescs,
      };
    }
    const reply = await this.getFeature(FeatureId.MAX_QUEUES_NUM);
    if (reply.errno !== 0) return reply.errno;
    const q = maxQueues.parse(reply.view, ACQ_BODY);
    return {
      maxTxSqNum: q.maxSqNum,
      maxTxCqNum: q.maxCqNum,
      maxRxNum: Math.min(q.maxSqNum, q.maxCqNum),
      maxTxSqDepth: q.maxSqDepth,
      maxTxCqDepth: q.maxCqDepth,
      maxRxDepth: Math.min(q.maxSqDepth, q.maxCqDepth),
      maxTxHeaderSize: q.maxHeaderSize,
      maxTxDescs: q.maxPacketTxDescs,
      maxRxDescs: q.maxPacketRxDescs,
    };
  }

  /**
   * ena_com_set_aenq_config: reads the supported groups again, then enables the events that driver
   * and device support. Returns the groups, or -errno.
   */
  async enableEvents(supportedGroups: number): Promise<number> {
    const groups = supportedGroups & WANTED_AENQ_GROUPS;
    const reply = await this.getFeature(FeatureId.AENQ_CONFIG);
    if (reply.errno !== 0) return -reply.errno;
    const now = aenqConfig.parse(reply.view, ACQ_BODY).supportedGroups;
    if ((now & groups) !== groups) return -Errno.EOPNOTSUPP;
    const errno = await this.setFeature(FeatureId.AENQ_CONFIG, (view, at) => {
      aenqConfig.write(view, at, { enabledGroups: groups });
    });
    return errno === 0 ? groups : -errno;
  }

  /** ena_set_queues_placement_policy: LLQ when both sides support it, otherwise host placement. */
  async placeQueues(offered: LlqFeature | undefined, hasMemoryBar: boolean): Promise<void> {
    this.llq = undefined;
    if (offered === undefined || offered.maxLlqNum === 0 || !hasMemoryBar) return;
    const config = chooseLlq(offered);
    if (config === undefined) {
      this.log.warn({ offered }, "device offers no low latency queue that fits, using host memory");
      return;
    }
    const errno = await this.setFeature(FeatureId.LLQ, (view, at) => {
      llqFeature.write(view, at, config.request);
    });
    if (errno === 0) this.llq = config;
    else this.log.warn({ errno }, "low latency queues refused, using host memory");
  }

  setMtu(mtu: number): Promise<number> {
    return this.setFeature(FeatureId.MTU, (view, at) => mtuFeature.write(view, at, { mtu }));
  }

  // Queues.

  /** ena_com_create_io_queue: creates the CQ, then the SQ. Afterwards both exist or none. */
  async createQueue(q: QueueRequest): Promise<CreatedQueue> {
    const cqReply = await this.execute((view, at) => {
      createCq.write(view, at, {
        opcode: Opcode.CREATE_CQ,
        interruptMode: true,
        entrySizeWords: q.cqEntryBytes / 4,
        cqDepth: q.depth,
        msixVector: q.vector,
        cqBa: q.cqAddress,
      });
    });
    if (cqReply.errno !== 0) return notCreated(cqReply.errno);
    const cq = createCqResp.parse(cqReply.view, 0);
    const sqReply = await this.execute((view, at) => {
      createSq.write(view, at, {
        opcode: Opcode.CREATE_SQ,
        direction: q.direction,
        placement: q.placement,
        contiguous: true,
        cqIdx: cq.cqIdx,
        sqDepth: q.depth,
        sqBa: q.placement === Placement.HOST ? q.sqAddress : 0,
      });
    });
    if (sqReply.errno !== 0) {
      await this.#destroyCq(cq.cqIdx);
      return notCreated(sqReply.errno);
    }
    const sq = createSqResp.parse(sqReply.view, 0);
    return {
      errno: 0,
      cqIdx: cq.cqIdx,
      sqIdx: sq.sqIdx,
      unmaskRegister: cq.cqInterruptUnmaskRegisterOffset,
      doorbell: sq.sqDoorbellOffset,
      llqDescriptors: sq.llqDescriptorsOffset,
    };
  }

  /** ena_com_destroy_io_queue: destroys the SQ, then the CQ. */
  async destroyQueue(direction: SqDirection, sqIdx: number, cqIdx: number): Promise<void> {
    const reply = await this.execute((view, at) => {
      destroySq.write(view, at, { opcode: Opcode.DESTROY_SQ, sqIdx, direction });
    });
    if (reply.errno !== 0) this.log.debug({ errno: reply.errno, sqIdx }, "destroy SQ failed");
    await this.#destroyCq(cqIdx);
  }

  async #destroyCq(cqIdx: number): Promise<void> {
    const reply = await this.execute((view, at) => {
      destroyCq.write(view, at, { opcode: Opcode.DESTROY_CQ, cqIdx });
    });
    if (reply.errno !== 0) this.log.debug({ errno: reply.errno, cqIdx }, "destroy CQ failed");
  }
}

type OtherFeatures = Pick<
  DeviceFeatures,
  "attributes" | "offload" | "hints" | "llq" | "aenqGroups"
>;

const UNSUPPORTED: Promise<AdminReply> = Promise.resolve({
  errno: Errno.EOPNOTSUPP,
  view: new DataView(new ArrayBuffer(64)),
});

const notCreated = (errno: number): CreatedQueue => ({
  errno,
  cqIdx: 0,
  sqIdx: 0,
  unmaskRegister: 0,
  doorbell: 0,
  llqDescriptors: 0,
});

/**
 * Returns the control buffer fields of an RSS command. Drivers mark the buffer as indirect but give
 * the address of the data itself (amzn-drivers: ena_com.c, ena_com_set_hash_function), so devices
 * expect that.
 */
function controlOf(buffer: CoherentMemory | undefined) {
  if (buffer === undefined) return {};
  return {
    ctrlDataIndirect: true,
    controlLength: buffer.bytes.length,
    controlAddress: buffer.address,
  };
}
