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

import { nameOf } from "../../shared/bytes/names.ts";
import { ACQ_BODY, AdminStatus } from "../../shared/ena/admin.ts";
import { AENQ_GROUPS } from "../../shared/ena/aenq.ts";
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
  llqDescsPerEntry,
  llqEntryBytes,
  llqFeature,
  llqHeaderAt,
  llqHeaderRoom,
} from "../../shared/ena/llq.ts";
import {
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
import { Limits } from "../../shared/wire/protocol.ts";
import { type BusAddress, RecordType, Space } from "../../shared/wire/records.ts";
import type { EventQueue } from "./aenq.ts";
import {
  ADDRESS_END,
  AdminRefusal,
  type EnaContext,
  MAX_DEPTH,
  MAX_LLQ_DEPTH,
  MAX_PACKET_DESCS,
  MIN_MTU,
} from "./context.ts";
import type { Datapath } from "./datapath.ts";
import { hintsFor, slackMs } from "./hints.ts";
import { fetchBytes } from "./memory.ts";
import { INTR_RESOLUTION_US } from "./notify.ts";
import {
  RSS_FIELDS,
  RSS_FUNCTIONS,
  RSS_MAX_SIZE_LOG2,
  RSS_MIN_SIZE_LOG2,
  type Rss,
} from "./rss.ts";

/** Undefined: the command is done. Else it waits for bytes of the driver's memory. */
export type Pending = Promise<void> | undefined;

interface Feature {
  /** Writes the body of the answer, at ACQ_BODY of `response`. Throws AdminRefusal. */
  readonly get?: (response: DataView, cmd: FeatureCommand) => void;
  /** Applies the body at SET_FEATURE_BODY of `view`. Throws AdminRefusal, or rejects with it. */
  readonly set?: (view: DataView, cmd: FeatureCommand) => Pending;
}

/** The driver's choices for its low latency queues. */
export interface LlqConfig {
  readonly entryBytes: number;
  readonly descsBeforeHeader: number;
  readonly descsPerEntry: number;
  readonly headerAt: number;
  readonly headerRoom: number;
  /** True if meta caching is off: every packet begins with a meta descriptor. */
  readonly metaRequired: boolean;
}

/** Bytes of header that fit after two descriptors in the smallest LLQ entry. */
const MAX_TX_HEADER_BYTES = 96;
const ADDRESS_BITS = 48;
const LINK_MBIT = 25_000;
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
  /** Undefined until the driver sets up low latency queues. */
  llq: LlqConfig | undefined;
  readonly #context: EnaContext;
  readonly #rss: Rss;
  readonly #datapath: Datapath;
  readonly #table: Readonly<Record<number, Feature | undefined>>;

  constructor(context: EnaContext, rss: Rss, events: EventQueue, datapath: Datapath) {
    this.#context = context;
    this.#rss = rss;
    this.#datapath = datapath;
    const { mac, maxMtu, queues } = context.host.config;
    this.#table = {
      [FeatureId.DEVICE_ATTRIBUTES]: {
        get: (response) =>
          deviceAttributes.write(response, ACQ_BODY, {
            implId: 1,
            deviceVersion: 1,
            supportedFeatures: this.supported,
            capabilities: CAPABILITIES,
            physAddrWidthBits: ADDRESS_BITS,
            virtAddrWidthBits: ADDRESS_BITS,
            macAddr: mac,
            maxMtu,
          }),
      },
      [FeatureId.MAX_QUEUES_NUM]: {
        get: (response) =>
          maxQueues.write(response, ACQ_BODY, {
            maxSqNum: queues,
            maxSqDepth: MAX_DEPTH,
            maxCqNum: queues,
            maxCqDepth: MAX_DEPTH,
            maxHeaderSize: MAX_TX_HEADER_BYTES,
            maxPacketTxDescs: MAX_PACKET_DESCS,
            maxPacketRxDescs: MAX_PACKET_DESCS,
          }),
      },
      [FeatureId.HW_HINTS]: {
        get: (response) => {
          this.toldSlackMs = slackMs(context.host.roundTripMs);
          hwHints.write(response, ACQ_BODY, hintsFor(this.toldSlackMs));
        },
      },
      [FeatureId.LLQ]: context.llq
        ? { get: (response) => this.#getLlq(response), set: (view) => this.#setLlq(view) }
        : undefined,
      [FeatureId.MAX_QUEUES_EXT]: {
        get: (response) =>
          maxQueuesExt.write(response, ACQ_BODY, {
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
          }),
      },
      [FeatureId.RSS_HASH_FUNCTION]: {
        get: (response, cmd) => this.#getHashFunction(cmd, response),
        set: (view, cmd) => this.#setHashFunction(cmd, view),
      },
      [FeatureId.STATELESS_OFFLOAD_CONFIG]: {
        get: (response) =>
          statelessOffload.write(response, ACQ_BODY, {
            tx: TX_OFFLOADS,
            rxSupported: RX_OFFLOADS,
            rxEnabled: this.rxOffloads,
          }),
        set: (view) => {
          const { rxEnabled } = statelessOffload.parse(view, SET_FEATURE_BODY);
          if ((rxEnabled & ~RX_OFFLOADS) !== 0) throw illegal("offload that is not supported");
          this.rxOffloads = rxEnabled;
        },
      },
      [FeatureId.RSS_INDIRECTION_TABLE_CONFIG]: {
        get: (response, cmd) => this.#getIndirection(cmd, response),
        set: (view, cmd) => this.#setIndirection(cmd, view),
      },
      [FeatureId.MTU]: {
        get: (response) => mtuFeature.write(response, ACQ_BODY, { mtu: context.mtu }),
        set: (view) => {
          const { mtu } = mtuFeature.parse(view, SET_FEATURE_BODY);
          if (mtu < MIN_MTU || mtu > maxMtu) {
            throw illegal(`MTU ${mtu} is not within ${MIN_MTU} to ${maxMtu}`);
          }
          context.mtu = mtu;
        },
      },
      [FeatureId.RSS_HASH_INPUT]: {
        get: (response, cmd) => this.#getHashInput(cmd, response),
        set: (_view, cmd) => this.#setHashInput(cmd),
      },
      [FeatureId.INTERRUPT_MODERATION]: {
        get: (response) =>
          intrModeration.write(response, ACQ_BODY, { intrDelayResolutionUs: INTR_RESOLUTION_US }),
      },
      [FeatureId.AENQ_CONFIG]: {
        get: (response) =>
          aenqConfig.write(response, ACQ_BODY, {
            supportedGroups: AENQ_GROUPS,
            enabledGroups: events.enabledGroups,
          }),
        set: (view) => {
          const { enabledGroups: groups } = aenqConfig.parse(view, SET_FEATURE_BODY);
          if (events.ring === undefined) {
            throw illegal("AENQ groups before the event ring: write AENQ_BASE and AENQ_CAPS first");
          }
          if ((groups & ~AENQ_GROUPS) !== 0) {
            throw illegal(
              `AENQ groups 0x${groups.toString(16)}, of which 0x${AENQ_GROUPS.toString(16)} exist`,
            );
          }
          events.enable(groups);
        },
      },
      [FeatureId.LINK_CONFIG]: {
        get: (response) =>
          linkConfig.write(response, ACQ_BODY, {
            speedMbit: LINK_MBIT,
            supported: LinkSpeed.SPEED_25G,
            autoneg: false,
            fullDuplex: true,
          }),
      },
      [FeatureId.HOST_ATTR_CONFIG]: { set: (view) => this.#setHostAttr(view) },
    };
  }

  /** Bitmap of the feature ids that GET and SET support. */
  get supported(): number {
    let ids = 0;
    for (const [id, feature] of Object.entries(this.#table)) {
      if (feature !== undefined) ids |= 1 << Number(id);
    }
    return ids >>> 0;
  }

  reset(): void {
    this.host = undefined;
    this.rxOffloads = RX_OFFLOADS;
    this.toldSlackMs = 0;
    this.llq = undefined;
    this.#rss.reset();
    this.#context.mtu = this.#context.host.config.maxMtu;
  }

  get(cmd: FeatureCommand, response: DataView): void {
    const get = this.#table[cmd.featureId]?.get;
    if (get === undefined || cmd.featureVersion > MAX_FEATURE_VERSION) {
      throw unsupported("GET_FEATURE", cmd);
    }
    get(response, cmd);
  }

  /** `view` is the command entry, which contains the body. */
  set(cmd: FeatureCommand, view: DataView): Pending {
    const set = this.#table[cmd.featureId]?.set;
    if (set === undefined || cmd.featureVersion > MAX_FEATURE_VERSION) {
      throw unsupported("SET_FEATURE", cmd);
    }
    return set(view, cmd);
  }

  stats(cmd: GetStats, response: DataView): void {
    // Drivers leave scope and queue 0 and expect the device's totals, although the names differ.
    if (cmd.type === StatsType.BASIC) {
      const { counters } = this.#context;
      const { txPackets: txPkts, rxPackets: rxPkts } = counters;
      basicStats.write(response, ACQ_BODY, { ...counters, txPkts, rxPkts });
    } else if (cmd.type === StatsType.ENI) {
      // This device enforces no allowances, so none is ever exceeded.
      eniStats.write(response, ACQ_BODY, {});
    } else {
      throw new AdminRefusal(
        "ADMIN_STATS_UNSUPPORTED",
        `GET_STATS of type ${nameOf(StatsType, cmd.type)}`,
        AdminStatus.UNSUPPORTED_OPCODE,
      );
    }
  }

  #getLlq(response: DataView): void {
    llqFeature.write(response, ACQ_BODY, {
      maxLlqNum: this.#context.host.config.queues,
      maxLlqDepth: MAX_LLQ_DEPTH,
      headerLocationSupported: LlqHeaderLocation.INLINE,
      headerLocationEnabled: this.llq === undefined ? 0 : LlqHeaderLocation.INLINE,
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

  #setLlq(view: DataView): Pending {
    const asked = llqFeature.parse(view, SET_FEATURE_BODY);
    const entryBytes = llqEntryBytes(asked.entrySizeEnabled);
    if (asked.headerLocationEnabled !== LlqHeaderLocation.INLINE) {
      throw illegal(`LLQ header location ${asked.headerLocationEnabled}`);
    }
    if (entryBytes === 0 || (asked.entrySizeEnabled & LLQ_ENTRY_SIZES) === 0) {
      throw illegal(`LLQ entry size ${asked.entrySizeEnabled}`);
    }
    const descsBeforeHeader = asked.descsBeforeHeaderEnabled;
    if (!oneOf(descsBeforeHeader, LLQ_DESCS_BEFORE)) {
      throw illegal(`${descsBeforeHeader} LLQ descriptors before the header`);
    }
    if (!oneOf(asked.strideEnabled, LLQ_STRIDES)) {
      throw illegal(`LLQ stride ${asked.strideEnabled}`);
    }
    // ena_com_set_llq asks for every acceleration it supports, and uses those that were offered.
    const accel = asked.accelFlags & this.#accelOffered;
    this.llq = {
      entryBytes,
      descsBeforeHeader,
      descsPerEntry: llqDescsPerEntry(entryBytes, asked.strideEnabled),
      headerAt: llqHeaderAt(descsBeforeHeader),
      headerRoom: llqHeaderRoom(entryBytes, descsBeforeHeader),
      metaRequired: (accel & AccelMode.DISABLE_META_CACHING) !== 0,
    };
    return undefined;
  }

  #getHashFunction(cmd: FeatureCommand, response: DataView): void {
    const rss = this.#rss;
    const bytes = new Uint8Array(rssHashKey.size);
    rssHashKey.write(new DataView(bytes.buffer), 0, { keyParts: RSS_KEY_PARTS });
    bytes.set(rss.key, RSS_KEY_OFFSET);
    rssHashFunction.write(response, ACQ_BODY, {
      supportedFunc: RSS_FUNCTIONS,
      selectedFunc: rss.selectedFunction,
      initVal: rss.initVal,
    });
    this.#answerControl(cmd, bytes);
  }

  #setHashFunction(cmd: FeatureCommand, view: DataView): Pending {
    const asked = rssHashFunction.parse(view, SET_FEATURE_BODY);
    if (asked.selectedFunc !== RSS_FUNCTIONS) {
      throw illegal(
        `RSS hash functions 0x${asked.selectedFunc.toString(16)}: one of 0x2 (Toeplitz)`,
      );
    }
    return this.#control(cmd, rssHashKey.size, (bytes, control) => {
      const { keyParts } = rssHashKey.parse(control, 0);
      if (keyParts !== RSS_KEY_PARTS) {
        throw illegal(`an RSS key of ${keyParts} words, not ${RSS_KEY_PARTS}`);
      }
      this.#rss.selectedFunction = asked.selectedFunc;
      this.#rss.initVal = asked.initVal;
      this.#rss.setKey(bytes.subarray(RSS_KEY_OFFSET, RSS_KEY_OFFSET + RSS_KEY_SIZE));
    });
  }

  #getIndirection(cmd: FeatureCommand, response: DataView): void {
    const { table } = this.#rss;
    const bytes = new Uint8Array(table.length * RSS_IND_ENTRY_SIZE);
    const view = new DataView(bytes.buffer);
    table.forEach((cqIdx, i) => {
      rssIndEntry.write(view, i * RSS_IND_ENTRY_SIZE, { cqIdx });
    });
    rssIndTable.write(response, ACQ_BODY, {
      minSizeLog2: RSS_MIN_SIZE_LOG2,
      maxSizeLog2: RSS_MAX_SIZE_LOG2,
      sizeLog2: table.length === 0 ? 0 : Math.log2(table.length),
      inlineIndex: RSS_INLINE_INDEX_NONE,
    });
    if (table.length > 0) this.#answerControl(cmd, bytes);
  }

  #setIndirection(cmd: FeatureCommand, view: DataView): Pending {
    const { sizeLog2, inlineIndex } = rssIndTable.parse(view, SET_FEATURE_BODY);
    if (inlineIndex !== RSS_INLINE_INDEX_NONE) throw illegal("an inline RSS table entry");
    if (sizeLog2 < RSS_MIN_SIZE_LOG2 || sizeLog2 > RSS_MAX_SIZE_LOG2) {
      throw illegal(`an RSS table of 2^${sizeLog2} entries`);
    }
    const length = 2 ** sizeLog2;
    return this.#control(cmd, length * RSS_IND_ENTRY_SIZE, (_bytes, control) => {
      const table = new Uint16Array(length);
      for (let i = 0; i < length; i++) {
        const { cqIdx } = rssIndEntry.parse(control, i * RSS_IND_ENTRY_SIZE);
        if (this.#datapath.rx[cqIdx] === undefined) {
          throw illegal(`RSS table entry ${i} names rx queue ${cqIdx}, which does not exist`);
        }
        table[i] = cqIdx;
      }
      this.#rss.table = table;
    });
  }

  #getHashInput(cmd: FeatureCommand, response: DataView): void {
    const bytes = new Uint8Array(rssHashFields.size);
    rssHashFields.write(new DataView(bytes.buffer), 0, {
      supported: RSS_FIELDS,
      selected: RSS_FIELDS.map((_, p) => this.#rss.toeplitz.fields(p)),
    });
    rssHashInput.write(response, ACQ_BODY, {});
    this.#answerControl(cmd, bytes);
  }

  #setHashInput(cmd: FeatureCommand): Pending {
    return this.#control(cmd, rssHashFields.size, (_bytes, control) => {
      const { selected } = rssHashFields.parse(control, 0);
      for (const [p, supported] of RSS_FIELDS.entries()) {
        if ((selected[p]! & ~supported) !== 0) {
          throw illegal(`RSS fields 0x${selected[p]!.toString(16)} of protocol ${p}`);
        }
      }
      this.#rss.setFields(selected);
    });
  }

  #setHostAttr(view: DataView): Pending {
    const { osInfoBa } = hostAttr.parse(view, SET_FEATURE_BODY);
    return this.#fetch(osInfoBa, hostInfo.size, (_bytes, page) => {
      this.host = hostInfo.parse(page, 0);
      const { osType, kernelVerStr, driverMajor, driverMinor, driverSubMinor } = this.host;
      const driver = `${driverMajor}.${driverMinor}.${driverSubMinor}`;
      this.#context.lines
        .of("host information")
        .debug({ osType, kernel: kernelVerStr, driver }, "ena: host information");
    });
  }

  /** Writes the control buffer of a GET, if the driver provided one. */
  #answerControl(cmd: FeatureCommand, bytes: Uint8Array): void {
    const { controlAddress, controlLength } = cmd;
    if (controlAddress === 0) return;
    if (controlLength < bytes.length || controlAddress + bytes.length > ADDRESS_END) {
      throw illegal(`a control buffer of ${controlLength} bytes, where ${bytes.length} are needed`);
    }
    const { memory } = this.#context.host;
    memory.write(Space.BUS, controlAddress, RecordType.ENA_CONTROL, bytes, 0, bytes.length);
  }

  /** Reads the control buffer of a SET. */
  #control(cmd: FeatureCommand, length: number, use: UseBytes): Pending {
    if (cmd.controlLength < length) {
      throw illegal(`a control buffer of ${cmd.controlLength} bytes, where ${length} are needed`);
    }
    return this.#fetch(cmd.controlAddress, length, use);
  }

  #fetch(address: BusAddress, length: number, use: UseBytes): Pending {
    if (address === 0 || address + length > ADDRESS_END || length > Limits.READ_BYTES) {
      throw illegal(`a buffer at 0x${address.toString(16)}`);
    }
    const bytes = fetchBytes(this.#context.host.memory, address, length);
    if (bytes instanceof Uint8Array) {
      use(bytes, viewOf(bytes));
      return undefined;
    }
    const { generation } = this.#context;
    return bytes.then(
      (got) => {
        if (this.#context.generation !== generation) return;
        if (got.length < length) throw illegal("a buffer of which only a part could be read");
        use(got, viewOf(got));
      },
      () => {
        throw illegal(`the frontend refused ${length} bytes at 0x${address.toString(16)}`);
      },
    );
  }
}

type UseBytes = (bytes: Uint8Array, view: DataView) => void;

const illegal = (text: string): AdminRefusal => new AdminRefusal("ADMIN_ILLEGAL_PARAMETER", text);

const unsupported = (opcode: string, cmd: FeatureCommand): AdminRefusal =>
  new AdminRefusal(
    "ADMIN_FEATURE_UNSUPPORTED",
    `${opcode} of ${nameOf(FeatureId, cmd.featureId)}, version ${cmd.featureVersion}`,
    AdminStatus.UNSUPPORTED_OPCODE,
  );

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Returns true if exactly one bit is set and it is a supported one. */
const oneOf = (value: number, supported: number): boolean =>
  value !== 0 && (value & (value - 1)) === 0 && (value & ~supported) === 0;
