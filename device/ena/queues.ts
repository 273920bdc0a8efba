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
import { queueId } from "../../shared/net/frame.ts";
import { isPowerOfTwo } from "../../shared/ring/phase.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { CompletionQueue } from "./completion-queue.ts";
import {
  ADDRESS_END,
  AdminRefusal,
  DOORBELLS,
  type EnaContext,
  MAX_DEPTH,
  MAX_LLQ_DEPTH,
  MIN_DEPTH,
  NUMAS,
  type QueueCommand,
  UNMASKS,
} from "./context.ts";
import type { Datapath } from "./datapath.ts";
import type { Features } from "./features.ts";
import { CompletionRing, DescriptorRing } from "./memory.ts";
import { NO_VECTOR, type Vectors } from "./notify.ts";
import { RxQueue } from "./rx.ts";
import { TxQueue } from "./tx.ts";

const TX_CDESC_WORDS = TX_CDESC_SIZE / 4;
const RX_CDESC_WORDS = RX_CDESC_SIZE / 4;
/** Bytes of BAR 2 for each queue index. */
export const LLQ_BYTES = MAX_LLQ_DEPTH * 256;

export class Queues {
  readonly #context: EnaContext;
  readonly #vectors: Vectors;
  readonly #datapath: Datapath;
  readonly #features: Features;

  constructor(context: EnaContext, vectors: Vectors, datapath: Datapath, features: Features) {
    this.#context = context;
    this.#vectors = vectors;
    this.#datapath = datapath;
    this.#features = features;
  }

  createCq(cmd: CreateCq, response: DataView): void {
    const wrong = this.#checkCq(cmd);
    if (wrong !== "") throw refused("CREATE_CQ", wrong);
    const { cqs } = this.#datapath;
    let free = 0;
    while (cqs[free] !== undefined) free++;
    const index = queueId(free);
    if (index >= 2 * this.#context.host.config.queues) {
      throw refused("CREATE_CQ", `all ${index} completion queues are in use`, NO_RESOURCE);
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
  }

  createSq(cmd: CreateSq, response: DataView): void {
    const cq = this.#datapath.cqs[cmd.cqIdx];
    if (cq === undefined) {
      throw refused("CREATE_SQ", `completion queue ${cmd.cqIdx} does not exist`);
    }
    const wrong = this.#checkSq(cmd, cq);
    if (wrong !== "") throw refused("CREATE_SQ", wrong);
    const used = this.#list(cmd.direction).filter((queue) => queue !== undefined);
    if (used.length >= this.#context.host.config.queues) {
      const text = "all submission queues of this direction are in use";
      throw refused("CREATE_SQ", text, NO_RESOURCE);
    }
    if (cmd.direction === SqDirection.TX) this.#createTx(cmd, cq);
    else this.#createRx(cmd, cq);
    createSqResp.write(response, 0, {
      sqIdx: cq.index,
      sqDoorbellOffset: DOORBELLS + cq.index * 4,
      llqDescriptorsOffset: cmd.placement === Placement.DEV ? cq.index * LLQ_BYTES : 0,
    });
  }

  destroySq(cmd: DestroySq): void {
    const list = this.#list(cmd.direction);
    const queue = list[cmd.sqIdx];
    if (queue === undefined) {
      throw refused("DESTROY_SQ", `no queue ${cmd.sqIdx} of direction ${cmd.direction}`);
    }
    // Packets announced before this command are sent if that is possible at once, else abandoned.
    const datapath = this.#datapath;
    if (queue instanceof TxQueue && queue.run(queue.ring.depth) > 0) datapath.switchPort.flush();
    datapath.publish();
    queue.close();
    list[cmd.sqIdx] = undefined;
    queue.cq.user = undefined;
    datapath.rxChanged();
  }

  destroyCq(cmd: DestroyCq): void {
    const { cqs } = this.#datapath;
    const cq = cqs[cmd.cqIdx];
    if (cq === undefined) throw refused("DESTROY_CQ", `no completion queue ${cmd.cqIdx}`);
    if (cq.user !== undefined) {
      const text = `completion queue ${cmd.cqIdx} still serves a ${cq.user} queue`;
      throw refused("DESTROY_CQ", text, AdminStatus.RESOURCE_BUSY);
    }
    cqs[cmd.cqIdx] = undefined;
  }

  /** Handles a write to BAR 2: bytes of a low latency queue. */
  writeLlq(offset: number, src: Uint8Array, at: number, length: number): void {
    const queue = this.#datapath.tx[Math.floor(offset / LLQ_BYTES)];
    const memory = queue?.ring.local;
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
    const gone = (ring: DescriptorRing | CompletionRing): boolean =>
      ring.address < address + length && address < ring.address + ring.depth * ring.entryBytes;
    for (const queue of [...tx, ...rx]) {
      if (queue === undefined || queue.stopped !== "") continue;
      const { ring, cq } = queue;
      if ((ring.local === undefined && gone(ring)) || gone(cq.ring)) {
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
    if (cmd.msixVector !== NO_VECTOR && cmd.msixVector >= this.#vectors.count) {
      return `vector ${cmd.msixVector}; the function has ${this.#vectors.count}`;
    }
    return depthText(cmd.cqDepth, MAX_DEPTH) || addressText(cmd.cqBa, cmd.cqDepth * words * 4);
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
    if (device && (!tx || this.#features.llq === undefined)) {
      return tx
        ? "device placement before the LLQ feature was set"
        : "device placement of an rx queue";
    }
    if (!device && !cmd.contiguous) return "a ring that is not physically contiguous";
    if (cmd.completionPolicy !== 0) return `completion policy ${cmd.completionPolicy}`;
    if (cq.ring.depth < cmd.sqDepth) {
      return `depth ${cmd.sqDepth} is more than the ${cq.ring.depth} entries of its completion queue`;
    }
    if (device) return depthText(cmd.sqDepth, MAX_LLQ_DEPTH);
    return depthText(cmd.sqDepth, MAX_DEPTH) || addressText(cmd.sqBa, cmd.sqDepth * DESC_SIZE);
  }

  #createTx(cmd: CreateSq, cq: CompletionQueue): void {
    const datapath = this.#datapath;
    const llq = cmd.placement === Placement.DEV ? this.#features.llq : undefined;
    const memory = llq === undefined ? undefined : new Uint8Array(cmd.sqDepth * llq.entryBytes);
    const ring = new DescriptorRing(
      this.#context.host.memory,
      cmd.sqBa,
      cmd.sqDepth,
      llq?.entryBytes ?? DESC_SIZE,
      () => datapath.turn.run(),
      () => queue.stop("TX_RING_REFUSED", "the frontend refused a read of the descriptor ring"),
      memory,
    );
    const port = datapath.switchPort;
    const queue = new TxQueue(this.#context, ring, cq, llq, port, () => datapath.turn.run());
    datapath.tx[cq.index] = queue;
  }

  #createRx(cmd: CreateSq, cq: CompletionQueue): void {
    const datapath = this.#datapath;
    const ring = new DescriptorRing(
      this.#context.host.memory,
      cmd.sqBa,
      cmd.sqDepth,
      DESC_SIZE,
      () => {
        queue.fetch();
        datapath.turn.roomAgain();
      },
      () => queue.stop("RX_RING_REFUSED", "the frontend refused a read of the descriptor ring"),
    );
    const queue = new RxQueue(this.#context, ring, cq);
    datapath.rx[cq.index] = queue;
    datapath.rxChanged();
  }

  /** Returns the queues of a direction: none for a direction that does not exist. */
  #list(direction: number): (TxQueue | RxQueue | undefined)[] {
    if (direction === SqDirection.TX) return this.#datapath.tx;
    return direction === SqDirection.RX ? this.#datapath.rx : [];
  }
}

const NO_RESOURCE = AdminStatus.RESOURCE_ALLOCATION_FAILURE;

const refused = (command: QueueCommand, text: string, status?: AdminStatus): AdminRefusal =>
  new AdminRefusal(`${command}_REFUSED`, `${command}: ${text}`, status);

function depthText(depth: number, max: number): string {
  if (isPowerOfTwo(depth) && depth >= MIN_DEPTH && depth <= max) return "";
  return `depth ${depth} is not a power of two from ${MIN_DEPTH} to ${max}`;
}

function addressText(address: number, bytes: number): string {
  if (address === 0) return "a ring at address 0";
  return address + bytes > ADDRESS_END ? "a ring that leaves the address space" : "";
}
