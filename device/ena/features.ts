/**
 * GET_FEATURE, SET_FEATURE and GET_STATS.
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_com.c (ena_com_get_dev_attr_feat and the
 * setters below it); structures in shared/ena.
 *
 *   offered      1 2 3 4(llq) 7 10 11 12 14 18 20 26 27 28; statistics basic and ENI
 *   not offered  extra properties (5, 6), fragment bypass (8), PHC (29), flow steering (30),
 *                timestamps (31), SRD and customer metrics: UNSUPPORTED_OPCODE; drivers
 *                continue without the feature
 *
 * RSS commands set the "indirect" flag but contain the address of the data itself. So the control
 * buffer's address is always treated as that of the data.
 */
import { ACQ_BODY, AdminStatus } from "../../shared/ena/admin.ts";
import {
  aenqConfig,
  Capability,
  deviceAttributes,
  type FeatureCommand,
  FeatureId,
  hostAttr,
  hwHints,
  intrModeration,
  LinkSpeed,
  linkConfig,
  MAX_QUEUES_EXT_VERSION,
  maxQueues,
  maxQueuesExt,
  mtuFeature,
  RxOffload,
  SET_FEATURE_BODY,
  statelessOffload,
  TxOffload,
} from "../../shared/ena/features.ts";
import { type HostInfo, hostInfo } from "../../shared/ena/host-info.ts";
import {
  AccelMode,
  LLQ_FEATURE_VERSION_1,
  LlqDescsBeforeHeader,
  LlqEntrySize,
  LlqHeaderLocation,
  LlqStride,
  llqEntryBytes,
  llqFeature,
} from "../../shared/ena/llq.ts";
import { nameOf } from "../../shared/ena/names.ts";
import {
  HASH_PROTO_NUM,
  RSS_IND_ENTRY_SIZE,
  RSS_INLINE_INDEX_NONE,
  RSS_KEY_OFFSET,
  RSS_KEY_PARTS,
  RSS_KEY_SIZE,
  rssHashFields,
  rssHashFunction,
  rssHashInput,
  rssHashKey,
  rssIndEntry,
  rssIndTable,
} from "../../shared/ena/rss.ts";
import { basicStats, eniStats, type GetStats, StatsType } from "../../shared/ena/stats.ts";
import { RecordType, Space } from "../../shared/wire/records.ts";
import { Limits } from "../../shared/wire/transactions.ts";
import type { EventQueue } from "./aenq.ts";
import { AENQ_GROUPS } from "./aenq.ts";
import {
  ADDRESS_END,
  type EnaContext,
  MAX_DEPTH,
  MAX_LLQ_DEPTH,
  MAX_PACKET_DESCS,
  MIN_MTU,
} from "./context.ts";
import { hintsFor, slackMs } from "./hints.ts";
import { fetchBytes } from "./memory.ts";
import { RSS_FUNCTIONS, RSS_MAX_SIZE_LOG2, RSS_MIN_SIZE_LOG2, type Rss } from "./rss.ts";

export type Outcome = AdminStatus | Promise<AdminStatus>;

/** The driver's choices for its low latency queues. */
export class LlqConfig {
  enabled = false;
  entryBytes = 128;
  descsBeforeHeader = 2;
  stride: number = LlqStride.MULTIPLE_DESCS_PER_ENTRY;
  metaCachingDisabled = false;

  reset(): void {
    this.enabled = false;
    this.metaCachingDisabled = false;
  }
}

/** Bytes of header that fit after two descriptors in the smallest LLQ entry. */
const MAX_TX_HEADER_BYTES = 96;
const ADDRESS_BITS = 48;
const LINK_MBIT = 25_000;
const INTR_RESOLUTION_US = 1;
const MAX_FEATURE_VERSION = 1;

const TX_OFFLOADS =
  TxOffload.L3_CSUM_IPV4 |
  TxOffload.L4_IPV4_CSUM_PART |
  TxOffload.L4_IPV4_CSUM_FULL |
  TxOffload.L4_IPV6_CSUM_PART |
  TxOffload.L4_IPV6_CSUM_FULL |
  TxOffload.TSO_IPV4 |
  TxOffload.TSO_IPV6;
const RX_OFFLOADS =
  RxOffload.L3_CSUM_IPV4 | RxOffload.L4_IPV4_CSUM | RxOffload.L4_IPV6_CSUM | RxOffload.HASH;
const CAPABILITIES =
  (1 << Capability.ENI_STATS) |
  (1 << Capability.EXTENDED_RESET_REASONS) |
  (1 << Capability.CDESC_MBZ);
const LLQ_ENTRY_SIZES = LlqEntrySize.SIZE_128B | LlqEntrySize.SIZE_256B;
const LLQ_DESCS_BEFORE = LlqDescsBeforeHeader.ONE | LlqDescsBeforeHeader.TWO;
const LLQ_STRIDES = LlqStride.SINGLE_DESC_PER_ENTRY | LlqStride.MULTIPLE_DESCS_PER_ENTRY;

export class Features {
  /** The driver's host information page; undefined until it was read. */
  host: HostInfo | undefined;
  rxOffloads = RX_OFFLOADS;
  /** Slack (ms) of the hints that the driver received last. */
  toldSlackMs = 0;
  readonly llq = new LlqConfig();
  readonly #context: EnaContext;
  readonly #rss: Rss;
  readonly #events: EventQueue;
  readonly #hasRxQueue: (index: number) => boolean;

  constructor(
    context: EnaContext,
    rss: Rss,
    events: EventQueue,
    hasRxQueue: (index: number) => boolean,
  ) {
    this.#context = context;
    this.#rss = rss;
    this.#events = events;
    this.#hasRxQueue = hasRxQueue;
  }

  /** Bitmap of the feature ids that GET and SET support. */
  get supported(): number {
    let ids = 0;
    for (const id of OFFERED) if (id !== FeatureId.LLQ || this.#context.llq) ids |= 1 << id;
    return ids >>> 0;
  }

  reset(): void {
    this.host = undefined;
    this.rxOffloads = RX_OFFLOADS;
    this.toldSlackMs = 0;
    this.llq.reset();
    this.#rss.reset();
    this.#context.mtu = this.#context.host.config.maxMtu;
  }

  /** Writes the body of the answer. */
  get(cmd: FeatureCommand, response: DataView): Outcome {
    const { maxMtu, mac, queues } = this.#context.host.config;
    const at = ACQ_BODY;
    if (cmd.featureVersion > MAX_FEATURE_VERSION) return this.#unsupported("GET_FEATURE", cmd);
    if (cmd.featureId === FeatureId.LLQ && !this.#context.llq) {
      return this.#unsupported("GET_FEATURE", cmd);
    }
    switch (cmd.featureId) {
      case FeatureId.DEVICE_ATTRIBUTES:
        deviceAttributes.write(response, at, {
          implId: 1,
          deviceVersion: 1,
          supportedFeatures: this.supported,
          capabilities: CAPABILITIES,
          physAddrWidthBits: ADDRESS_BITS,
          virtAddrWidthBits: ADDRESS_BITS,
          macAddr: mac,
          maxMtu,
        });
        return AdminStatus.SUCCESS;
      case FeatureId.MAX_QUEUES_NUM:
        maxQueues.write(response, at, {
          maxSqNum: queues,
          maxSqDepth: MAX_DEPTH,
          maxCqNum: queues,
          maxCqDepth: MAX_DEPTH,
          maxHeaderSize: MAX_TX_HEADER_BYTES,
          maxPacketTxDescs: MAX_PACKET_DESCS,
          maxPacketRxDescs: MAX_PACKET_DESCS,
        });
        return AdminStatus.SUCCESS;
      case FeatureId.MAX_QUEUES_EXT:
        maxQueuesExt.write(response, at, {
          version: MAX_QUEUES_EXT_VERSION,
          maxTxSqNum: queues,
          maxTxCqNum: queues,
          maxRxSqNum: queues,
          maxRxCqNum: queues,
          maxTxSqDepth: MAX_DEPTH,
          maxTxCqDepth: MAX_DEPTH,
          maxRxSqDepth: MAX_DEPTH,
          maxRxCqDepth: MAX_DEPTH,
          maxTxHeaderSize: MAX_TX_HEADER_BYTES,
          maxPerPacketTxDescs: MAX_PACKET_DESCS,
          maxPerPacketRxDescs: MAX_PACKET_DESCS,
        });
        return AdminStatus.SUCCESS;
      case FeatureId.HW_HINTS:
        this.toldSlackMs = slackMs(this.#context.host.roundTripMs);
        hwHints.write(response, at, hintsFor(this.toldSlackMs));
        return AdminStatus.SUCCESS;
      case FeatureId.LLQ:
        this.#getLlq(response, at);
        return AdminStatus.SUCCESS;
      case FeatureId.RSS_HASH_FUNCTION:
        return this.#getHashFunction(cmd, response, at);
      case FeatureId.STATELESS_OFFLOAD_CONFIG:
        statelessOffload.write(response, at, {
          tx: TX_OFFLOADS,
          rxSupported: RX_OFFLOADS,
          rxEnabled: this.rxOffloads,
        });
        return AdminStatus.SUCCESS;
      case FeatureId.RSS_INDIRECTION_TABLE_CONFIG:
        return this.#getIndirection(cmd, response, at);
      case FeatureId.MTU:
        mtuFeature.write(response, at, { mtu: this.#context.mtu });
        return AdminStatus.SUCCESS;
      case FeatureId.RSS_HASH_INPUT:
        return this.#getHashInput(cmd, response, at);
      case FeatureId.INTERRUPT_MODERATION:
        intrModeration.write(response, at, { intrDelayResolutionUs: INTR_RESOLUTION_US });
        return AdminStatus.SUCCESS;
      case FeatureId.AENQ_CONFIG:
        aenqConfig.write(response, at, {
          supportedGroups: AENQ_GROUPS,
          enabledGroups: this.#events.enabledGroups,
        });
        return AdminStatus.SUCCESS;
      case FeatureId.LINK_CONFIG:
        linkConfig.write(response, at, {
          speedMbit: LINK_MBIT,
          supported: LinkSpeed.SPEED_25G,
          autoneg: false,
          fullDuplex: true,
        });
        return AdminStatus.SUCCESS;
      default:
        return this.#unsupported("GET_FEATURE", cmd);
    }
  }

  /** Reads the body of the command entry `view`. */
  set(cmd: FeatureCommand, view: DataView): Outcome {
    const at = SET_FEATURE_BODY;
    if (cmd.featureVersion > MAX_FEATURE_VERSION) return this.#unsupported("SET_FEATURE", cmd);
    if (cmd.featureId === FeatureId.LLQ && !this.#context.llq) {
      return this.#unsupported("SET_FEATURE", cmd);
    }
    switch (cmd.featureId) {
      case FeatureId.LLQ:
        return this.#setLlq(view, at);
      case FeatureId.RSS_HASH_FUNCTION:
        return this.#setHashFunction(cmd, view, at);
      case FeatureId.STATELESS_OFFLOAD_CONFIG: {
        const { rxEnabled } = statelessOffload.parse(view, at);
        if ((rxEnabled & ~RX_OFFLOADS) !== 0) return this.#refuse("offload that is not supported");
        this.rxOffloads = rxEnabled;
        return AdminStatus.SUCCESS;
      }
      case FeatureId.RSS_INDIRECTION_TABLE_CONFIG:
        return this.#setIndirection(cmd, view, at);
      case FeatureId.MTU:
        return this.#setMtu(mtuFeature.parse(view, at).mtu);
      case FeatureId.RSS_HASH_INPUT:
        return this.#setHashInput(cmd);
      case FeatureId.AENQ_CONFIG:
        return this.#setAenq(aenqConfig.parse(view, at).enabledGroups);
      case FeatureId.HOST_ATTR_CONFIG:
        return this.#setHostAttr(view, at);
      default:
        return this.#unsupported("SET_FEATURE", cmd);
    }
  }

  stats(cmd: GetStats, response: DataView): Outcome {
    // Drivers leave scope and queue 0 and expect the device's totals, although the names differ.
    switch (cmd.type) {
      case StatsType.BASIC: {
        const c = this.#context.counters;
        basicStats.write(response, ACQ_BODY, {
          txBytes: c.txBytes,
          txPkts: c.txPackets,
          rxBytes: c.rxBytes,
          rxPkts: c.rxPackets,
          rxDrops: c.rxDrops,
          txDrops: c.txDrops,
          rxOverruns: c.rxOverruns,
        });
        return AdminStatus.SUCCESS;
      }
      case StatsType.ENI:
        // This device enforces no allowances, so none is ever exceeded.
        eniStats.write(response, ACQ_BODY, {});
        return AdminStatus.SUCCESS;
      default:
        this.#context.note(
          "ADMIN_STATS_UNSUPPORTED",
          `GET_STATS of type ${nameOf(StatsType, cmd.type)}`,
        );
        return AdminStatus.UNSUPPORTED_OPCODE;
    }
  }

  #getLlq(response: DataView, at: number): void {
    const { llq } = this;
    llqFeature.write(response, at, {
      maxLlqNum: this.#context.host.config.queues,
      maxLlqDepth: MAX_LLQ_DEPTH,
      headerLocationSupported: LlqHeaderLocation.INLINE,
      headerLocationEnabled: llq.enabled ? LlqHeaderLocation.INLINE : 0,
      entrySizeSupported: LLQ_ENTRY_SIZES,
      descsBeforeHeaderSupported: LLQ_DESCS_BEFORE,
      strideSupported: LLQ_STRIDES,
      featureVersion: LLQ_FEATURE_VERSION_1,
      entrySizeRecommended: LlqEntrySize.SIZE_128B,
      maxWideLlqDepth: MAX_LLQ_DEPTH,
      accelFlags: this.#accelOffered,
    });
  }

  get #accelOffered(): number {
    return this.#context.disableMetaCaching ? AccelMode.DISABLE_META_CACHING : 0;
  }

  #setLlq(view: DataView, at: number): AdminStatus {
    const asked = llqFeature.parse(view, at);
    const entryBytes = llqEntryBytes(asked.entrySizeEnabled);
    if (asked.headerLocationEnabled !== LlqHeaderLocation.INLINE) {
      return this.#refuse(`LLQ header location ${asked.headerLocationEnabled}`);
    }
    if (entryBytes === 0 || (asked.entrySizeEnabled & LLQ_ENTRY_SIZES) === 0) {
      return this.#refuse(`LLQ entry size ${asked.entrySizeEnabled}`);
    }
    if (!oneOf(asked.descsBeforeHeaderEnabled, LLQ_DESCS_BEFORE)) {
      return this.#refuse(`${asked.descsBeforeHeaderEnabled} LLQ descriptors before the header`);
    }
    if (!oneOf(asked.strideEnabled, LLQ_STRIDES)) {
      return this.#refuse(`LLQ stride ${asked.strideEnabled}`);
    }
    // ena_com_set_llq asks for every acceleration it supports, and uses those that were offered.
    const accel = asked.accelFlags & this.#accelOffered;
    const { llq } = this;
    llq.enabled = true;
    llq.entryBytes = entryBytes;
    llq.descsBeforeHeader = asked.descsBeforeHeaderEnabled;
    llq.stride = asked.strideEnabled;
    llq.metaCachingDisabled = (accel & AccelMode.DISABLE_META_CACHING) !== 0;
    return AdminStatus.SUCCESS;
  }

  #getHashFunction(cmd: FeatureCommand, response: DataView, at: number): AdminStatus {
    const rss = this.#rss;
    const bytes = new Uint8Array(rssHashKey.size);
    rssHashKey.write(new DataView(bytes.buffer), 0, { keyParts: RSS_KEY_PARTS });
    bytes.set(rss.key, RSS_KEY_OFFSET);
    rssHashFunction.write(response, at, {
      supportedFunc: RSS_FUNCTIONS,
      selectedFunc: rss.selectedFunction,
      initVal: rss.initVal,
    });
    return this.#answerControl(cmd, bytes);
  }

  #setHashFunction(cmd: FeatureCommand, view: DataView, at: number): Outcome {
    const asked = rssHashFunction.parse(view, at);
    if (asked.selectedFunc !== RSS_FUNCTIONS) {
      return this.#refuse(
        `RSS hash functions 0x${asked.selectedFunc.toString(16)}: one of 0x2 (Toeplitz)`,
      );
    }
    return this.#control(cmd, rssHashKey.size, (bytes, control) => {
      const { keyParts } = rssHashKey.parse(control, 0);
      if (keyParts !== RSS_KEY_PARTS) {
        return this.#refuse(`an RSS key of ${keyParts} words, not ${RSS_KEY_PARTS}`);
      }
      this.#rss.selectedFunction = asked.selectedFunc;
      this.#rss.initVal = asked.initVal;
      this.#rss.setKey(bytes.subarray(RSS_KEY_OFFSET, RSS_KEY_OFFSET + RSS_KEY_SIZE));
      return AdminStatus.SUCCESS;
    });
  }

  #getIndirection(cmd: FeatureCommand, response: DataView, at: number): AdminStatus {
    const { table } = this.#rss;
    const bytes = new Uint8Array(table.length * RSS_IND_ENTRY_SIZE);
    const view = new DataView(bytes.buffer);
    table.forEach((cqIdx, i) => {
      rssIndEntry.write(view, i * RSS_IND_ENTRY_SIZE, { cqIdx });
    });
    rssIndTable.write(response, at, {
      minSizeLog2: RSS_MIN_SIZE_LOG2,
      maxSizeLog2: RSS_MAX_SIZE_LOG2,
      sizeLog2: table.length === 0 ? 0 : Math.log2(table.length),
      inlineIndex: RSS_INLINE_INDEX_NONE,
    });
    return table.length === 0 ? AdminStatus.SUCCESS : this.#answerControl(cmd, bytes);
  }

  #setIndirection(cmd: FeatureCommand, view: DataView, at: number): Outcome {
    const { sizeLog2, inlineIndex } = rssIndTable.parse(view, at);
    if (inlineIndex !== RSS_INLINE_INDEX_NONE) return this.#refuse("an inline RSS table entry");
    if (sizeLog2 < RSS_MIN_SIZE_LOG2 || sizeLog2 > RSS_MAX_SIZE_LOG2) {
      return this.#refuse(`an RSS table of 2^${sizeLog2} entries`);
    }
    const length = 2 ** sizeLog2;
    return this.#control(cmd, length * RSS_IND_ENTRY_SIZE, (_bytes, control) => {
      const table = new Uint16Array(length);
      for (let i = 0; i < length; i++) {
        const { cqIdx } = rssIndEntry.parse(control, i * RSS_IND_ENTRY_SIZE);
        if (!this.#hasRxQueue(cqIdx)) {
          return this.#refuse(`RSS table entry ${i} names rx queue ${cqIdx}, which does not exist`);
        }
        table[i] = cqIdx;
      }
      this.#rss.table = table;
      return AdminStatus.SUCCESS;
    });
  }

  #getHashInput(cmd: FeatureCommand, response: DataView, at: number): AdminStatus {
    const rss = this.#rss;
    const bytes = new Uint8Array(rssHashFields.size);
    rssHashFields.write(new DataView(bytes.buffer), 0, {
      supported: rss.supportedFields,
      selected: Array.from({ length: HASH_PROTO_NUM }, (_, p) => rss.fields(p)),
    });
    rssHashInput.write(response, at, {});
    return this.#answerControl(cmd, bytes);
  }

  #setHashInput(cmd: FeatureCommand): Outcome {
    return this.#control(cmd, rssHashFields.size, (_bytes, control) => {
      const { selected } = rssHashFields.parse(control, 0);
      for (let p = 0; p < HASH_PROTO_NUM; p++) {
        if ((selected[p]! & ~this.#rss.supportedFields[p]!) !== 0) {
          return this.#refuse(`RSS fields 0x${selected[p]!.toString(16)} of protocol ${p}`);
        }
      }
      for (let p = 0; p < HASH_PROTO_NUM; p++) this.#rss.setFields(p, selected[p]!);
      return AdminStatus.SUCCESS;
    });
  }

  #setMtu(mtu: number): AdminStatus {
    const { maxMtu } = this.#context.host.config;
    if (mtu < MIN_MTU || mtu > maxMtu) {
      return this.#refuse(`MTU ${mtu} is not within ${MIN_MTU} to ${maxMtu}`);
    }
    this.#context.mtu = mtu;
    return AdminStatus.SUCCESS;
  }

  #setAenq(groups: number): AdminStatus {
    if (this.#events.ring === undefined) {
      return this.#refuse("AENQ groups before the event ring: write AENQ_BASE and AENQ_CAPS first");
    }
    if ((groups & ~AENQ_GROUPS) !== 0) {
      return this.#refuse(
        `AENQ groups 0x${groups.toString(16)}, of which 0x${AENQ_GROUPS.toString(16)} exist`,
      );
    }
    this.#events.enable(groups);
    return AdminStatus.SUCCESS;
  }

  #setHostAttr(view: DataView, at: number): Outcome {
    const { osInfoBa } = hostAttr.parse(view, at);
    return this.#fetch(osInfoBa, hostInfo.size, (_bytes, page) => {
      this.host = hostInfo.parse(page, 0);
      const { osType, kernelVerStr, driverMajor, driverMinor, driverSubMinor } = this.host;
      const driver = `${driverMajor}.${driverMinor}.${driverSubMinor}`;
      this.#context.lines.debug(
        "host information",
        { osType, kernel: kernelVerStr, driver },
        "ena: host information",
      );
      return AdminStatus.SUCCESS;
    });
  }

  /** Writes the control buffer of a GET, if the driver provided one. */
  #answerControl(cmd: FeatureCommand, bytes: Uint8Array): AdminStatus {
    const { controlAddress, controlLength } = cmd;
    if (controlAddress === 0) return AdminStatus.SUCCESS;
    if (controlLength < bytes.length || controlAddress + bytes.length > ADDRESS_END) {
      return this.#refuse(
        `a control buffer of ${controlLength} bytes, where ${bytes.length} are needed`,
      );
    }
    const { memory } = this.#context.host;
    memory.write(Space.BUS, controlAddress, RecordType.ENA_CONTROL, bytes, 0, bytes.length);
    return AdminStatus.SUCCESS;
  }

  /** Reads the control buffer of a SET. */
  #control(cmd: FeatureCommand, length: number, use: UseBytes): Outcome {
    if (cmd.controlLength < length) {
      return this.#refuse(
        `a control buffer of ${cmd.controlLength} bytes, where ${length} are needed`,
      );
    }
    return this.#fetch(cmd.controlAddress, length, use);
  }

  #fetch(address: number, length: number, use: UseBytes): Outcome {
    if (address === 0 || address + length > ADDRESS_END || length > Limits.READ_BYTES) {
      return this.#refuse(`a buffer at 0x${address.toString(16)}`);
    }
    const { generation } = this.#context;
    const bytes = fetchBytes(this.#context.host.memory, address, length);
    if (bytes instanceof Uint8Array) return use(bytes, viewOf(bytes));
    return bytes.then(
      (got) => {
        if (this.#context.generation !== generation) return AdminStatus.UNKNOWN_ERROR;
        return got.length < length
          ? this.#refuse("a buffer of which only a part could be read")
          : use(got, viewOf(got));
      },
      () =>
        // The frontend did not refuse a read that a reset abandoned.
        this.#context.generation === generation
          ? this.#refuse(`the frontend refused ${length} bytes at 0x${address.toString(16)}`)
          : AdminStatus.UNKNOWN_ERROR,
    );
  }

  #refuse(text: string): AdminStatus {
    this.#context.note("ADMIN_ILLEGAL_PARAMETER", text);
    return AdminStatus.ILLEGAL_PARAMETER;
  }

  #unsupported(opcode: string, cmd: FeatureCommand): AdminStatus {
    this.#context.note(
      "ADMIN_FEATURE_UNSUPPORTED",
      `${opcode} of ${nameOf(FeatureId, cmd.featureId)}, version ${cmd.featureVersion}`,
    );
    return AdminStatus.UNSUPPORTED_OPCODE;
  }
}

type UseBytes = (bytes: Uint8Array, view: DataView) => AdminStatus;

const OFFERED: readonly FeatureId[] = [
  FeatureId.DEVICE_ATTRIBUTES,
  FeatureId.MAX_QUEUES_NUM,
  FeatureId.HW_HINTS,
  FeatureId.LLQ,
  FeatureId.MAX_QUEUES_EXT,
  FeatureId.RSS_HASH_FUNCTION,
  FeatureId.STATELESS_OFFLOAD_CONFIG,
  FeatureId.RSS_INDIRECTION_TABLE_CONFIG,
  FeatureId.MTU,
  FeatureId.RSS_HASH_INPUT,
  FeatureId.INTERRUPT_MODERATION,
  FeatureId.AENQ_CONFIG,
  FeatureId.LINK_CONFIG,
  FeatureId.HOST_ATTR_CONFIG,
];

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Returns true if exactly one bit is set and it is a supported one. */
const oneOf = (value: number, supported: number): boolean =>
  value !== 0 && (value & (value - 1)) === 0 && (value & ~supported) === 0;
