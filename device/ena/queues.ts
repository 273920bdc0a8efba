/**
 * CREATE and DESTROY of IO queues. Source: the checks are what ena_com_create_io_sq and
 * ena_com_create_io_cq (amzn-drivers: kernel/fbsd/ena/ena-com/ena_com.c) rely on.
 *
 *   CQ index = SQ index: a completion queue serves one submission queue with the same number, so an
 *   RSS table may hold either number. They are destroyed in reverse order: SQ, then CQ.
 */
import {
  AdminStatus,
  type CreateCq,
  type CreateSq,
  createCqResp,
  createSqResp,
  type DestroyCq,
  type DestroySq,
  Placement,
  SqDirection,
} from "../../shared/ena/admin.ts";
import { DESC_SIZE, RX_CDESC_SIZE, TX_CDESC_SIZE } from "../../shared/ena/io.ts";
import { llqDescsPerEntry, llqHeaderAt, llqHeaderRoom } from "../../shared/ena/llq.ts";
import { isPowerOfTwo } from "../../shared/ring/phase.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { CompletionQueue } from "./completion-queue.ts";
import {
  ADDRESS_END,
  DOORBELLS,
  type EnaContext,
  MAX_DEPTH,
  MAX_LLQ_DEPTH,
  MIN_DEPTH,
  NUMAS,
  UNMASKS,
} from "./context.ts";
import type { Datapath } from "./datapath.ts";
import type { LlqConfig } from "./features.ts";
import { CompletionRing, DescriptorRing, overlaps } from "./memory.ts";
import { NO_VECTOR, type Vectors } from "./notify.ts";
import { RxQueue } from "./rx.ts";
import { type LlqLayout, TxQueue } from "./tx.ts";

const TX_CDESC_WORDS = TX_CDESC_SIZE / 4;
const RX_CDESC_WORDS = RX_CDESC_SIZE / 4;
/** Bytes of BAR 2 for each queue index. */
export const LLQ_BYTES = MAX_LLQ_DEPTH * 256;

export class Queues {
  readonly #context: EnaContext;
  readonly #vectors: Vectors;
  readonly #datapath: Datapath;
  readonly #llq: LlqConfig;

  constructor(context: EnaContext, vectors: Vectors, datapath: Datapath, llq: LlqConfig) {
    this.#context = context;
    this.#vectors = vectors;
    this.#datapath = datapath;
    this.#llq = llq;
  }

  createCq(cmd: CreateCq, response: DataView): AdminStatus {
    const refused = this.#checkCq(cmd);
    if (refused !== "") return this.#refuse("CREATE_CQ", refused);
    const { cqs } = this.#datapath;
    let index = 0;
    while (cqs[index] !== undefined) index++;
    if (index >= 2 * this.#context.host.config.queues) {
      this.#refuse("CREATE_CQ", `all ${index} completion queues are in use`);
      return AdminStatus.RESOURCE_ALLOCATION_FAILURE;
    }
    const tx = cmd.entrySizeWords === TX_CDESC_WORDS;
    const ring = new CompletionRing(
      this.#context.host.memory,
      cmd.cqBa,
      cmd.cqDepth,
      cmd.entrySizeWords * 4,
      tx ? RecordType.ENA_TX_CDESC : RecordType.ENA_RX_CDESC,
    );
    cqs[index] = new CompletionQueue(index, ring, cmd.msixVector, cmd.interruptMode);
    createCqResp.write(response, 0, {
      cqIdx: index,
      cqActualDepth: cmd.cqDepth,
      numaNodeRegisterOffset: NUMAS + index * 4,
      cqInterruptUnmaskRegisterOffset: UNMASKS + index * 4,
    });
    return AdminStatus.SUCCESS;
  }

  createSq(cmd: CreateSq, response: DataView): AdminStatus {
    const cq = this.#datapath.cqs[cmd.cqIdx];
    if (cq === undefined)
      return this.#refuse("CREATE_SQ", `completion queue ${cmd.cqIdx} does not exist`);
    const refused = this.#checkSq(cmd, cq);
    if (refused !== "") return this.#refuse("CREATE_SQ", refused);
    if (this.#count(cmd.direction) >= this.#context.host.config.queues) {
      this.#refuse("CREATE_SQ", "all submission queues of this direction are in use");
      return AdminStatus.RESOURCE_ALLOCATION_FAILURE;
    }
    if (cmd.direction === SqDirection.TX) this.#createTx(cmd, cq);
    else this.#createRx(cmd, cq);
    createSqResp.write(response, 0, {
      sqIdx: cq.index,
      sqDoorbellOffset: DOORBELLS + cq.index * 4,
      llqDescriptorsOffset: cmd.placement === Placement.DEV ? cq.index * LLQ_BYTES : 0,
    });
    return AdminStatus.SUCCESS;
  }

  destroySq(cmd: DestroySq): AdminStatus {
    const { cqs, tx, rx } = this.#datapath;
    const list = cmd.direction === SqDirection.TX ? tx : rx;
    const queue =
      cmd.direction === SqDirection.TX || cmd.direction === SqDirection.RX
        ? list[cmd.sqIdx]
        : undefined;
    if (queue === undefined) {
      return this.#refuse("DESTROY_SQ", `no queue ${cmd.sqIdx} of direction ${cmd.direction}`);
    }
    // Packets announced before this command are sent if that is possible at once, else abandoned.
    if (cmd.direction === SqDirection.TX) this.#datapath.finish(tx[cmd.sqIdx]!);
    this.#datapath.publish();
    queue.close();
    list[cmd.sqIdx] = undefined;
    const cq = cqs[queue.cq.index];
    if (cq !== undefined) cq.user = undefined;
    this.#datapath.rxChanged();
    return AdminStatus.SUCCESS;
  }

  destroyCq(cmd: DestroyCq): AdminStatus {
    const { cqs } = this.#datapath;
    const cq = cqs[cmd.cqIdx];
    if (cq === undefined) return this.#refuse("DESTROY_CQ", `no completion queue ${cmd.cqIdx}`);
    if (cq.user !== undefined) {
      this.#refuse("DESTROY_CQ", `completion queue ${cmd.cqIdx} still serves a ${cq.user} queue`);
      return AdminStatus.RESOURCE_BUSY;
    }
    cqs[cmd.cqIdx] = undefined;
    return AdminStatus.SUCCESS;
  }

  /** Handles a write to BAR 2: bytes of a low latency queue. */
  writeLlq(offset: number, src: Uint8Array, at: number, length: number): void {
    const queue = this.#datapath.tx[Math.floor(offset / LLQ_BYTES)];
    const memory = queue?.llq?.memory;
    const from = offset % LLQ_BYTES;
    if (memory === undefined || from + length > memory.length) {
      this.#context.note(
        "BAR2_NO_QUEUE",
        `write of ${length} bytes to BAR 2 offset 0x${offset.toString(16)}, where no queue lies`,
      );
      return;
    }
    for (let i = 0; i < length; i++) memory[from + i] = src[at + i]!;
  }

  /** Stops each queue whose ring lies in memory that the driver frees. */
  windowRemoved(address: number, length: number): void {
    const { tx, rx, cqs } = this.#datapath;
    const gone = (ring: { address: number; depth: number; entryBytes: number }): boolean =>
      overlaps(ring.address, ring.depth * ring.entryBytes, address, length);
    for (const queue of [...tx, ...rx]) {
      if (queue === undefined || queue.stopped !== "") continue;
      const local = queue instanceof TxQueue && queue.llq !== undefined;
      if ((!local && gone(queue.ring)) || gone(queue.cq.ring)) {
        queue.stop("RING_WINDOW_FREED", "the window of its ring was freed while the queue exists");
      }
    }
    for (const cq of cqs) {
      if (cq !== undefined && cq.user === undefined && gone(cq.ring)) cqs[cq.index] = undefined;
    }
  }

  #checkCq(cmd: CreateCq): string {
    const words = cmd.entrySizeWords;
    if (words !== TX_CDESC_WORDS && words !== RX_CDESC_WORDS) {
      return `entry size ${words} words; ${TX_CDESC_WORDS} (tx) and ${RX_CDESC_WORDS} (rx) are supported`;
    }
    if (!goodDepth(cmd.cqDepth, MAX_DEPTH)) return depthText(cmd.cqDepth, MAX_DEPTH);
    if (cmd.msixVector !== NO_VECTOR && cmd.msixVector >= this.#vectors.count) {
      return `vector ${cmd.msixVector}; the function has ${this.#vectors.count}`;
    }
    return addressText(cmd.cqBa, cmd.cqDepth * words * 4);
  }

  #checkSq(cmd: CreateSq, cq: CompletionQueue): string {
    const tx = cmd.direction === SqDirection.TX;
    if (!tx && cmd.direction !== SqDirection.RX) return `direction ${cmd.direction}`;
    if (cq.user !== undefined)
      return `completion queue ${cq.index} already serves a ${cq.user} queue`;
    if (cq.ring.entryBytes !== (tx ? TX_CDESC_SIZE : RX_CDESC_SIZE)) {
      return `completion queue ${cq.index} has entries of ${cq.ring.entryBytes} bytes, of the other direction`;
    }
    const device = cmd.placement === Placement.DEV;
    if (!device && cmd.placement !== Placement.HOST) return `placement ${cmd.placement}`;
    if (device && (!tx || !this.#llq.enabled)) {
      return tx
        ? "device placement before the LLQ feature was set"
        : "device placement of an rx queue";
    }
    if (!device && !cmd.contiguous) return "a ring that is not physically contiguous";
    if (cmd.completionPolicy !== 0) return `completion policy ${cmd.completionPolicy}`;
    const max = device ? MAX_LLQ_DEPTH : MAX_DEPTH;
    if (!goodDepth(cmd.sqDepth, max)) return depthText(cmd.sqDepth, max);
    if (cq.ring.depth < cmd.sqDepth) {
      return `depth ${cmd.sqDepth} is more than the ${cq.ring.depth} entries of its completion queue`;
    }
    return device ? "" : addressText(cmd.sqBa, cmd.sqDepth * DESC_SIZE);
  }

  #createTx(cmd: CreateSq, cq: CompletionQueue): void {
    const datapath = this.#datapath;
    const layout = cmd.placement === Placement.DEV ? this.#layout(cmd.sqDepth) : undefined;
    const ring = new DescriptorRing(
      this.#context.host.memory,
      cmd.sqBa,
      cmd.sqDepth,
      layout === undefined ? DESC_SIZE : this.#llq.entryBytes,
      () => datapath.turn.run(),
      () => queue.stop("TX_RING_REFUSED", "the frontend refused a read of the descriptor ring"),
      layout?.memory,
    );
    const port = datapath.switchPort;
    const queue = new TxQueue(this.#context, cq.index, ring, cq, layout, port, () =>
      datapath.turn.run(),
    );
    cq.user = "tx";
    datapath.tx[cq.index] = queue;
  }

  #createRx(cmd: CreateSq, cq: CompletionQueue): void {
    const datapath = this.#datapath;
    const ring = new DescriptorRing(
      this.#context.host.memory,
      cmd.sqBa,
      cmd.sqDepth,
      DESC_SIZE,
      () => datapath.turn.roomAgain(),
      () => queue.stop("RX_RING_REFUSED", "the frontend refused a read of the descriptor ring"),
    );
    const queue = new RxQueue(this.#context, cq.index, ring, cq);
    cq.user = "rx";
    datapath.rx[cq.index] = queue;
    datapath.rxChanged();
  }

  #layout(depth: number): LlqLayout {
    const { entryBytes, descsBeforeHeader, stride } = this.#llq;
    return {
      memory: new Uint8Array(depth * entryBytes),
      descsBeforeHeader,
      descsPerEntry: llqDescsPerEntry(entryBytes, stride),
      headerAt: llqHeaderAt(descsBeforeHeader),
      headerRoom: llqHeaderRoom(entryBytes, descsBeforeHeader),
      metaRequired: this.#llq.metaCachingDisabled,
    };
  }

  #count(direction: number): number {
    const list = direction === SqDirection.TX ? this.#datapath.tx : this.#datapath.rx;
    return list.reduce((n, queue) => (queue === undefined ? n : n + 1), 0);
  }

  #refuse(command: string, text: string): AdminStatus {
    this.#context.note(`${command}_REFUSED`, `${command}: ${text}`);
    return AdminStatus.ILLEGAL_PARAMETER;
  }
}

const goodDepth = (depth: number, max: number): boolean =>
  isPowerOfTwo(depth) && depth >= MIN_DEPTH && depth <= max;

const depthText = (depth: number, max: number): string =>
  `depth ${depth} is not a power of two from ${MIN_DEPTH} to ${max}`;

function addressText(address: number, bytes: number): string {
  if (address === 0) return "a ring at address 0";
  return address + bytes > ADDRESS_END ? "a ring that leaves the address space" : "";
}
