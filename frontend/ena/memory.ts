/**
 * The memory of an I/O queue: descriptors of its SQ and completions of its CQ.
 *
 *            host placement                        placed in the device (LLQ)
 *   SQ   a window of depth x 16 bytes        BAR 2: depth entries of 128 or 256 bytes, built one
 *        written, then published             at a time in a bounce buffer of ours, then written
 *   CQ   a window of depth entries: the device writes, the phase bit marks new entries
 *
 * The driver writes the SQ, the device writes the CQ. Indexes run freely over 16 bits.
 * After ena_eth_com.c (amzn-drivers: kernel/fbsd/ena/ena-com).
 */
import { Placement } from "../../shared/ena/admin.ts";
import { DESC_SIZE } from "../../shared/ena/io.ts";
import { llqEntryAt, llqHeaderAt } from "../../shared/ena/llq.ts";
import { queueId } from "../../shared/net/frame.ts";
import { advance, distance, type Index16, index16, slotOf } from "../../shared/ring/index16.ts";
import { PhaseCursor } from "../../shared/ring/phase.ts";
import { RecordType } from "../../shared/wire/records.ts";
import type { CoherentMemory } from "../bus/coherent.ts";
import type { PciFunction } from "../bus/pci.ts";
import type { DmaSpace } from "../bus/space.ts";
import type { LlqConfig } from "./llq.ts";
import { REGISTER_BAR } from "./registers.ts";

export const MEMORY_BAR = 2;
/** The device reads descriptors by whole cache lines: rings start at a page. */
const RING_ALIGNMENT = 4096;

/** A completion queue: a window that only the device writes. */
export class IoCq {
  readonly depth: number;
  readonly entryBytes: number;
  readonly memory: CoherentMemory;
  readonly view: DataView;
  readonly cursor: PhaseCursor;
  idx = queueId(0);
  /** Offset (bytes) of the unmask register in BAR 0. */
  unmaskRegister = 0;

  constructor(space: DmaSpace, name: string, depth: number, entryBytes: number) {
    this.depth = depth;
    this.entryBytes = entryBytes;
    this.memory = space.allocCoherent(depth * entryBytes, RING_ALIGNMENT, name);
    this.view = this.memory.view;
    this.cursor = new PhaseCursor(depth);
  }

  free(): void {
    this.memory.free();
  }
}

/**
 * A submission queue. To write a packet, repeat for each descriptor: call `nextDesc`, write the
 * descriptor there in `view`, call `descDone`. Then call `packetDone`, and `ring` after the burst.
 */
export class IoSq {
  readonly depth: number;
  readonly placement: Placement;
  /** Memory for the offsets of `nextDesc`: the ring itself, or the bounce buffer. */
  readonly view: DataView;
  readonly cursor: PhaseCursor;
  /** Index before which the device has returned all entries: they are free again. */
  nextToComp: Index16 = index16(0);
  idx = queueId(0);
  /** Offset (bytes) of the doorbell in BAR 0; 0 before the device has created the queue. */
  doorbell = 0;
  /** Offset (bytes) of the descriptors in BAR 2; LLQ only. */
  llqDescriptors = 0;
  readonly memory: CoherentMemory | undefined;
  readonly llq: LlqConfig | undefined;
  /** Entries left before the next doorbell is required, if the device limits bursts. */
  entriesInBurstLeft = 0;
  readonly #pci: PciFunction;
  readonly #recordType: RecordType;
  readonly #bounce: Uint8Array | undefined;
  /** Index before which all entries are announced by a doorbell, and published in host memory. */
  #announced: Index16 = index16(0);
  /** LLQ: descriptors in the entry under construction, and the number that still fit. */
  #inEntry = 0;
  #leftInEntry = 0;

  constructor(
    space: DmaSpace,
    pci: PciFunction,
    name: string,
    depth: number,
    recordType: RecordType,
    llq: LlqConfig | undefined,
  ) {
    this.depth = depth;
    this.#pci = pci;
    this.#recordType = recordType;
    this.llq = llq;
    this.cursor = new PhaseCursor(depth);
    if (llq === undefined) {
      this.placement = Placement.HOST;
      this.memory = space.allocCoherent(depth * DESC_SIZE, RING_ALIGNMENT, name);
      this.view = this.memory.view;
      this.#bounce = undefined;
    } else {
      this.placement = Placement.DEV;
      this.memory = undefined;
      this.#bounce = new Uint8Array(llq.entryBytes);
      this.view = new DataView(this.#bounce.buffer);
      this.#leftInEntry = llq.descsBeforeHeader;
      this.entriesInBurstLeft = llq.maxEntriesInBurst;
    }
  }

  /** Index after the entries posted so far; in host memory, after the published ones. */
  get posted(): number {
    return this.llq === undefined ? this.#announced : this.cursor.head;
  }

  get isDoorbellDue(): boolean {
    return this.#announced !== this.cursor.head;
  }

  /** ena_com_free_q_entries: returns the number of free entries. One always stays empty. */
  freeEntries(): number {
    return this.depth - 1 - distance(this.nextToComp, this.cursor.head);
  }

  /** ena_com_sq_have_enough_space, for `descs` descriptors of one packet. */
  hasSpace(descs: number): boolean {
    if (this.llq === undefined) return this.freeEntries() >= descs;
    // An estimate: it adds one entry for the header, and one because the division rounds down.
    return this.freeEntries() > Math.floor(descs / this.llq.descsPerEntry) + 2;
  }

  /** ena_com_comp_ack: frees `entries` entries. */
  ack(entries: number): void {
    this.nextToComp = advance(this.nextToComp, entries);
  }

  /** Phase bit for the next descriptor. */
  get phase(): number {
    return this.cursor.phase;
  }

  /** Returns the byte offset in `view` for the next descriptor. */
  nextDesc(): number {
    if (this.llq === undefined) return this.cursor.slot * DESC_SIZE;
    this.#leftInEntry--;
    return this.#inEntry++ * DESC_SIZE;
  }

  /** Completes the descriptor at `nextDesc`. */
  descDone(): void {
    const llq = this.llq;
    if (llq === undefined) {
      this.cursor.next();
    } else if (this.#leftInEntry === 0) {
      this.#writeEntry(llq);
      this.#leftInEntry = llq.descsPerEntry;
    }
  }

  /** LLQ: returns the bounce buffer, where the caller writes the header. Throws without LLQ. */
  headerSpace(): Uint8Array {
    if (this.#bounce === undefined) throw new Error("ena: header pushed to a queue in host memory");
    return this.#bounce;
  }

  /** LLQ: byte offset of the header in `headerSpace`. */
  get headerAt(): number {
    return this.llq === undefined ? 0 : llqHeaderAt(this.llq.descsBeforeHeader);
  }

  /** Completes the packet. Every packet begins a new LLQ entry. */
  packetDone(): void {
    const llq = this.llq;
    if (llq === undefined) return;
    if (this.#inEntry > 0) this.#writeEntry(llq);
    this.#leftInEntry = llq.descsBeforeHeader;
  }

  /** ena_com_is_doorbell_needed: true when the packet would exceed the device's burst limit. */
  burstExceededBy(descs: number): boolean {
    const llq = this.llq;
    if (llq === undefined || llq.maxEntriesInBurst === 0) return false;
    const after = Math.max(0, descs - llq.descsBeforeHeader);
    return 1 + Math.ceil(after / llq.descsPerEntry) > this.entriesInBurstLeft;
  }

  /** Publishes the new entries, at most two ranges, and rings the doorbell. */
  ring(): void {
    const { memory } = this;
    if (memory !== undefined) {
      const count = distance(this.#announced, this.cursor.head);
      const slot = slotOf(this.#announced, this.depth);
      const first = Math.min(count, this.depth - slot);
      if (first > 0) memory.publish(slot * DESC_SIZE, first * DESC_SIZE, this.#recordType);
      if (count > first) memory.publish(0, (count - first) * DESC_SIZE, this.#recordType);
    }
    this.#announced = this.cursor.head;
    this.#pci.write32(REGISTER_BAR, this.doorbell, this.cursor.head);
    if (this.llq !== undefined) this.entriesInBurstLeft = this.llq.maxEntriesInBurst;
  }

  free(): void {
    this.memory?.free();
  }

  #writeEntry(llq: LlqConfig): void {
    const bounce = this.#bounce!;
    const at = llqEntryAt(this.llqDescriptors, this.cursor.head, this.depth, llq.entryBytes);
    this.#pci.writeMemory(MEMORY_BAR, at, RecordType.ENA_LLQ_ENTRY, bounce);
    bounce.fill(0);
    this.cursor.next();
    this.#inEntry = 0;
    this.entriesInBurstLeft--;
  }
}
