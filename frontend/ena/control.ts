/**
 * One incarnation of the device, from its reset to the next one: registers, admin queue, events,
 * features, queues. It corresponds to ena_com in the original (amzn-drivers:
 * kernel/fbsd/ena/ena-com/ena_com.c).
 *
 * A `Com` is never reused: a reset or a new link creates another one. After `kill`, every pending
 * wait rejects with `Abandoned`, so no step of an older incarnation reaches a newer device.
 *
 * Methods that send commands to the device reject with DeviceError.
 */

import type { Parsed } from "../../shared/bytes/struct.ts";
import {
  ACQ_BODY,
  createCq,
  createCqResp,
  createSq,
  createSqResp,
  destroyCq,
  destroySq,
  Opcode,
  type SqDirection,
} from "../../shared/ena/admin.ts";
import { AENQ_GROUPS } from "../../shared/ena/aenq.ts";
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
import type { QueueId } from "../../shared/net/frame.ts";
import { NO_ADDRESS, RecordType } from "../../shared/wire/records.ts";
import type { CoherentMemory } from "../bus/coherent.ts";
import { Errno } from "../bus/errno.ts";
import type { DmaSpace } from "../bus/space.ts";
import type { DriverContext } from "../driver.ts";
import { AdminQueue } from "./admin.ts";
import { Aenq } from "./aenq.ts";
import type { AdminStats } from "./counters.ts";
import { DeviceError, errnoOf, ifSupported } from "./device-error.ts";
import { chooseLlq, type LlqConfig } from "./llq.ts";
import type { IoCq, IoSq } from "./memory.ts";
import { Registers } from "./registers.ts";
import { Waits } from "./waits.ts";

/** Features and limits of a device, as the driver reads them during probe. */
export interface DeviceFeatures {
  readonly attributes: DeviceAttributes;
  readonly offload: StatelessOffload;
  readonly hints: HwHints | undefined;
  readonly llq: LlqFeature | undefined;
  readonly aenqGroups: number;
  readonly queues: QueueLimits;
}

/** In the terms of MAX_QUEUES_EXT, also of a device that has MAX_QUEUES_NUM only. */
export type QueueLimits = Omit<Parsed<typeof maxQueuesExt>, "version">;

export class Com {
  readonly log: Logger;
  readonly waits: Waits;
  readonly regs: Registers;
  readonly #space: DmaSpace;
  readonly #adminStats: AdminStats;
  readonly #pages = new Map<string, CoherentMemory>();
  /** Admin queue and events, from `startAdmin` on. */
  admin: AdminQueue | undefined;
  aenq: Aenq | undefined;
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
    this.waits.check();
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
    this.admin?.free();
    this.aenq?.free();
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

  async reset(reason: number): Promise<void> {
    this.resetting = true;
    try {
      await this.regs.reset(reason, this.has(Capability.EXTENDED_RESET_REASONS));
    } finally {
      this.resetting = false;
    }
  }

  // Admin queue and events.

  /** ena_com_admin_init, with the queue in polling mode and the management interrupt masked. */
  startAdmin(): void {
    this.check();
    this.admin = new AdminQueue(this.#space, this.regs, this.log, this.waits, this.#adminStats);
    this.aenq = new Aenq(this.#space, this.regs);
    this.regs.write(Register.INTR_MASK, INTR_MASK_ALL);
  }

  /** Ends polling: completions and events come by interrupt from now on. Needs a vector handler. */
  enableInterrupts(): void {
    this.check();
    if (this.admin === undefined) throw new Error("ena: interrupts before the admin queue");
    this.admin.polling = false;
    this.regs.write(Register.INTR_MASK, INTR_UNMASK_ALL);
    this.aenq?.enable();
  }

  applyTimeouts(adminMs: number, registerReadMs: number): void {
    if (adminMs !== 0 && this.admin !== undefined) this.admin.timeoutMs = adminMs;
    if (registerReadMs !== 0) this.regs.readTimeoutMs = registerReadMs;
  }

  execute(write: (view: DataView, at: number) => void): Promise<DataView> {
    if (this.admin === undefined) throw new Error("ena: command before the admin queue");
    return this.admin.execute(write);
  }

  // Features.

  /** GET_FEATURE. `buffer` is the control buffer of RSS features. */
  getFeature(id: number, version = 0, buffer?: CoherentMemory): Promise<DataView> {
    return this.#feature(Opcode.GET_FEATURE, id, version, buffer, () => {});
  }

  /** SET_FEATURE, whose body `body` writes. Sends the contents of `buffer` before. */
  async setFeature(
    id: number,
    body: (view: DataView, at: number) => void,
    buffer?: CoherentMemory,
  ): Promise<void> {
    buffer?.publish(0, buffer.bytes.length, RecordType.ENA_CONTROL);
    await this.#feature(Opcode.SET_FEATURE, id, 0, buffer, body);
  }

  /**
   * Rejects with EOPNOTSUPP without a command when the feature bit is missing. Drivers mark the
   * control buffer as indirect but give the address of the data itself (amzn-drivers: ena_com.c,
   * ena_com_set_hash_function), so devices expect that.
   */
  async #feature(
    opcode: number,
    featureId: number,
    featureVersion: number,
    buffer: CoherentMemory | undefined,
    body: (view: DataView, at: number) => void,
  ): Promise<DataView> {
    // These two come before the features of the device are known.
    const isEarly =
      featureId === FeatureId.DEVICE_ATTRIBUTES || featureId === FeatureId.HOST_ATTR_CONFIG;
    if (!isEarly && !this.supports(featureId)) throw new DeviceError(Errno.EOPNOTSUPP);
    return this.execute((view, at) => {
      featureCommand.write(view, at, {
        opcode,
        featureId,
        featureVersion,
        ctrlDataIndirect: buffer !== undefined,
        controlLength: buffer?.bytes.length ?? 0,
        controlAddress: buffer?.address ?? NO_ADDRESS,
      });
      body(view, at + SET_FEATURE_BODY);
    });
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
    const errno = await errnoOf(
      this.setFeature(FeatureId.HOST_ATTR_CONFIG, (view, at) => {
        hostAttr.write(view, at, { osInfoBa: page.address });
      }),
    );
    if (errno !== 0) this.log.warn({ errno }, "device did not take the host information");
  }

  /** ena_com_get_dev_attr_feat. */
  async getFeatures(): Promise<DeviceFeatures> {
    const attr = await this.getFeature(FeatureId.DEVICE_ATTRIBUTES);
    const attributes = deviceAttributes.parse(attr, ACQ_BODY);
    this.supportedFeatures = attributes.supportedFeatures;
    this.capabilities = attributes.capabilities;

    const queues = await this.#getQueueLimits();
    const aenqGroups = await this.#getEventGroups();
    const offloads = await this.getFeature(FeatureId.STATELESS_OFFLOAD_CONFIG);
    const offload = statelessOffload.parse(offloads, ACQ_BODY);
    const hint = await ifSupported(this.getFeature(FeatureId.HW_HINTS));
    const hints = hint && hwHints.parse(hint, ACQ_BODY);
    const low = await ifSupported(this.getFeature(FeatureId.LLQ, LLQ_FEATURE_VERSION_1));
    const llq = low && llqFeature.parse(low, ACQ_BODY);
    return { attributes, offload, hints, llq, aenqGroups, queues };
  }

  async #getQueueLimits(): Promise<QueueLimits> {
    if (this.supports(FeatureId.MAX_QUEUES_EXT)) {
      const reply = await this.getFeature(FeatureId.MAX_QUEUES_EXT, MAX_QUEUES_EXT_VERSION);
      const limits = maxQueuesExt.parse(reply, ACQ_BODY);
      if (limits.version !== MAX_QUEUES_EXT_VERSION) throw new DeviceError(Errno.EINVAL);
      return limits;
    }
    const q = maxQueues.parse(await this.getFeature(FeatureId.MAX_QUEUES_NUM), ACQ_BODY);
    return {
      maxTxSqNum: q.maxSqNum,
      maxTxCqNum: q.maxCqNum,
      maxRxSqNum: q.maxSqNum,
      maxRxCqNum: q.maxCqNum,
      maxTxSqDepth: q.maxSqDepth,
      maxTxCqDepth: q.maxCqDepth,
      maxRxSqDepth: q.maxSqDepth,
      maxRxCqDepth: q.maxCqDepth,
      maxTxHeaderSize: q.maxHeaderSize,
      maxPerPacketTxDescs: q.maxPacketTxDescs,
      maxPerPacketRxDescs: q.maxPacketRxDescs,
    };
  }

  async #getEventGroups(): Promise<number> {
    const reply = await this.getFeature(FeatureId.AENQ_CONFIG);
    return aenqConfig.parse(reply, ACQ_BODY).supportedGroups;
  }

  /**
   * ena_com_set_aenq_config: reads the supported groups again, then enables the events that driver
   * and device support. Returns the groups.
   */
  async enableEvents(supportedGroups: number): Promise<number> {
    const groups = supportedGroups & AENQ_GROUPS;
    const now = await this.#getEventGroups();
    if ((now & groups) !== groups) throw new DeviceError(Errno.EOPNOTSUPP);
    await this.setFeature(FeatureId.AENQ_CONFIG, (view, at) => {
      aenqConfig.write(view, at, { enabledGroups: groups });
    });
    return groups;
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
    const errno = await errnoOf(
      this.setFeature(FeatureId.LLQ, (view, at) => llqFeature.write(view, at, config.request)),
    );
    if (errno === 0) this.llq = config;
    else this.log.warn({ errno }, "low latency queues refused, using host memory");
  }

  setMtu(mtu: number): Promise<void> {
    return this.setFeature(FeatureId.MTU, (view, at) => mtuFeature.write(view, at, { mtu }));
  }

  // Queues.

  /** ena_com_create_io_queue: creates the CQ, then the SQ. Afterwards both exist or none. */
  async createQueue(direction: SqDirection, sq: IoSq, cq: IoCq, vector: number): Promise<void> {
    const reply = await this.execute((view, at) => {
      createCq.write(view, at, {
        opcode: Opcode.CREATE_CQ,
        interruptMode: true,
        entrySizeWords: cq.entryBytes / 4,
        cqDepth: cq.depth,
        msixVector: vector,
        cqBa: cq.memory.address,
      });
    });
    const { cqIdx, cqInterruptUnmaskRegisterOffset } = createCqResp.parse(reply, 0);
    try {
      const sqReply = await this.execute((view, at) => {
        createSq.write(view, at, {
          opcode: Opcode.CREATE_SQ,
          direction,
          placement: sq.placement,
          contiguous: true,
          cqIdx,
          sqDepth: sq.depth,
          sqBa: sq.memory?.address ?? NO_ADDRESS,
        });
      });
      const created = createSqResp.parse(sqReply, 0);
      cq.idx = cqIdx;
      cq.unmaskRegister = cqInterruptUnmaskRegisterOffset;
      sq.idx = created.sqIdx;
      sq.doorbell = created.sqDoorbellOffset;
      sq.llqDescriptors = created.llqDescriptorsOffset;
    } catch (error) {
      await this.#destroyCq(cqIdx);
      throw error;
    }
  }

  /** ena_com_destroy_io_queue: destroys the SQ, then the CQ. */
  async destroyQueue(direction: SqDirection, sqIdx: QueueId, cqIdx: QueueId): Promise<void> {
    const errno = await errnoOf(
      this.execute((view, at) => {
        destroySq.write(view, at, { opcode: Opcode.DESTROY_SQ, sqIdx, direction });
      }),
    );
    if (errno !== 0) this.log.debug({ errno, sqIdx }, "destroy SQ failed");
    await this.#destroyCq(cqIdx);
  }

  async #destroyCq(cqIdx: QueueId): Promise<void> {
    const errno = await errnoOf(
      this.execute((view, at) => destroyCq.write(view, at, { opcode: Opcode.DESTROY_CQ, cqIdx })),
    );
    if (errno !== 0) this.log.debug({ errno, cqIdx }, "destroy CQ failed");
  }
}
