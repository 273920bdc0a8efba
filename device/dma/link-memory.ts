/**
 * HostMemory over a link: windows, pushed bytes, and `read` records for other bytes.
 *
 * Writes go into the batch under construction. So they keep their order with interrupts and
 * register replies, and this module need not order them.
 */
import { copyBytes } from "../../shared/bytes/copy.ts";
import type { BatchWriter } from "../../shared/wire/batch.ts";
import { Op, type Received } from "../../shared/wire/catalogue.ts";
import type { Link } from "../../shared/wire/link.ts";
import { Limits, ReadStatus, WireError } from "../../shared/wire/protocol.ts";
import { type BusAddress, type RecordType, Space } from "../../shared/wire/records.ts";
import { DmaError, type HostMemory, type Window } from "./host-memory.ts";
import { PushQueue } from "./push-queue.ts";
import { WindowTable } from "./window-table.ts";

interface PendingRead {
  readonly length: number;
  readonly address: BusAddress;
  resolve(bytes: Uint8Array): void;
  reject(error: DmaError): void;
}

export class LinkMemory implements HostMemory {
  readonly windows: WindowTable;
  readonly pushes: PushQueue;
  readonly writer: BatchWriter;
  readonly #link: Link;
  readonly #reads = new Map<number, PendingRead>();
  /**
   * Tags of reads that a reset abandoned. Their replies will still arrive, and are dropped. These
   * tags count as outstanding reads. Otherwise a frontend that never answers and resets without end
   * would fill the device's memory with tags.
   */
  readonly #abandoned = new Set<number>();
  readonly #waiting: (() => void)[] = [];
  #nextTag = 1;
  /** Number of resets. A read that waited for a free tag during a reset is rejected. */
  #life = 0;
  readCount = 0;

  constructor(link: Link, pushBudget: number) {
    this.#link = link;
    this.writer = link.writer;
    this.windows = new WindowTable(() => link.restMs);
    this.pushes = new PushQueue(2 * pushBudget);
  }

  window(address: BusAddress, length: number): Window | undefined {
    return this.windows.find(address, length);
  }

  async read(space: Space, address: BusAddress, length: number): Promise<Uint8Array> {
    if (length > Limits.READ_BYTES) {
      throw new DmaError("DMA_TOO_LONG", `a read of ${length} bytes at 0x${address.toString(16)}`);
    }
    const window = space === Space.BUS ? this.windows.find(address, length) : undefined;
    if (window !== undefined) {
      const at = address - window.address;
      return window.bytes.slice(at, at + length);
    }
    return await this.ask(space, address, length);
  }

  /** As `read`, but also for ranges in a window: always returns the frontend's copy. */
  async ask(space: Space, address: BusAddress, length: number): Promise<Uint8Array> {
    const life = this.#life;
    while (this.#reads.size + this.#abandoned.size >= Limits.READS) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      if (this.#life !== life) throw new DmaError("DMA_ABANDONED", "the device was reset");
    }
    return new Promise((resolve, reject) => {
      const tag = this.#nextTag++;
      this.readCount++;
      this.#reads.set(tag, { length, address, resolve, reject });
      this.#link.post("read", { tag, space, address, length });
      this.#link.scheduleFlush();
    });
  }

  /** Settles the read that a `read_reply` answers. Throws WireError for a tag without a read. */
  readReply({ tag, status, bytes }: Received<"read_reply">): void {
    if (this.#abandoned.delete(tag)) {
      this.#waiting.shift()?.();
      return;
    }
    const pending = this.#reads.get(tag);
    if (pending === undefined) {
      throw new WireError(
        "READ_TAG",
        `read_reply: tag ${tag} was never used or is answered already`,
      );
    }
    this.#reads.delete(tag);
    this.#waiting.shift()?.();
    if (status === ReadStatus.OK && bytes.length === pending.length) {
      pending.resolve(bytes.slice());
      return;
    }
    const where = `0x${pending.address.toString(16)}+${pending.length}`;
    pending.reject(
      new DmaError(
        "DMA_REFUSED",
        status === ReadStatus.OK
          ? `the read of ${where} was answered with ${bytes.length} bytes`
          : `the frontend refused the read of ${where}`,
        status,
      ),
    );
  }

  write(
    space: Space,
    address: BusAddress,
    type: RecordType,
    src: Uint8Array,
    at: number,
    length: number,
  ): void {
    const window = space === Space.BUS ? this.windows.find(address, length) : undefined;
    if (window !== undefined) copyBytes(src, at, window.bytes, address - window.address, length);
    this.writer.column(Op.WRITE, space, address, type, src, at, length);
  }

  abandon(): void {
    this.#life++;
    this.pushes.clear();
    for (const [tag, pending] of this.#reads) {
      this.#abandoned.add(tag);
      pending.reject(new DmaError("DMA_ABANDONED", "the device was reset"));
    }
    this.#reads.clear();
    for (const resume of this.#waiting.splice(0)) resume();
  }
}
