/**
 * The world around a paravirtual NIC model: a guest's pages, the device's copies of those that are
 * windows, pushes, reads that are answered when the test says so, and a switch port that keeps
 * what it gets.
 *
 *   pages   what the guest has        windows   what the device has of it
 *   posted  everything that went to the guest, in its order
 *
 * A write by grant lands in the guest's page when the guest's own entry allows it; one that it
 * does not allow is kept in `violations`, and lands nowhere.
 */
import {
  DmaError,
  GRANT_PUSHES,
  type HostMemory,
  type Window,
} from "../../device/dma/host-memory.ts";
import type { GuestHost, GuestPosts, NicConfig } from "../../device/nic.ts";
import type { Sent } from "../../shared/wire/catalogue.ts";
import { type RecordType, Space } from "../../shared/wire/records.ts";
import { GRANT_USE_RECORD_SIZE, grantUseRecord } from "../../shared/xen/grant.ts";
import { FakePushes, FakeSurroundings } from "./fake-host.ts";

export const PAGE = 4096;

/** One thing that the guest was sent. */
export type Posted =
  | {
      readonly kind: "write";
      readonly reference: number;
      readonly offset: number;
      readonly length: number;
      readonly type: RecordType;
    }
  | {
      readonly kind: "use";
      readonly reference: number;
      readonly readers: number;
      readonly writers: number;
    }
  | { readonly kind: "read"; readonly reference: number }
  | { readonly kind: "event"; readonly port: number };

/** What the guest's own table says of a reference. */
export interface OwnEntry {
  readonly frame: number;
  readonly readonly: boolean;
}

export class GrantRead {
  readonly reference: number;
  readonly offset: number;
  readonly length: number;
  readonly resolve: (bytes: Uint8Array) => void;
  readonly reject: (error: DmaError) => void;

  constructor(
    address: number,
    length: number,
    resolve: (bytes: Uint8Array) => void,
    reject: (error: DmaError) => void,
  ) {
    this.reference = Math.floor(address / PAGE);
    this.offset = address % PAGE;
    this.length = length;
    this.resolve = resolve;
    this.reject = reject;
  }

  refuse(status = -1): void {
    this.reject(new DmaError("DMA_REFUSED", "refused by the test", status));
  }
}

export class FakeGuestMemory implements HostMemory {
  readonly pages = new Map<number, Uint8Array>();
  readonly windows: Window[] = [];
  readonly entries = new Map<number, OwnEntry>();
  readonly pushes = new FakePushes();
  readonly reads: GrantRead[] = [];
  readonly posted: Posted[] = [];
  readonly violations: string[] = [];
  outgoing: Uint8Array = new Uint8Array(0);
  abandoned = 0;
  readonly #nowhere = new Uint8Array(PAGE);

  page(frame: number): Uint8Array {
    let page = this.pages.get(frame);
    if (page === undefined) {
      page = new Uint8Array(PAGE);
      this.pages.set(frame, page);
    }
    return page;
  }

  addWindow(frame: number): void {
    const bytes = this.page(frame).slice();
    this.windows.push({ address: frame * PAGE, bytes, view: new DataView(bytes.buffer) });
  }

  window(address: number, length: number): Window | undefined {
    return this.windows.find(
      (w) => address >= w.address && address + length <= w.address + w.bytes.length,
    );
  }

  /** Pushes a copy of what the granted page holds there. */
  push(reference: number, offset: number, length: number): void {
    const page = this.page(this.entries.get(reference)!.frame);
    const bytes = page.slice(offset, offset + length);
    this.pushes.all.push({ address: GRANT_PUSHES + reference * PAGE + offset, bytes });
  }

  read(space: Space, address: number, length: number): Promise<Uint8Array> {
    if (space !== Space.GRANT) throw new Error(`a read of space ${space}`);
    return new Promise((resolve, reject) => {
      const read = new GrantRead(address, length, resolve, reject);
      this.posted.push({ kind: "read", reference: read.reference });
      this.reads.push(read);
    });
  }

  /** Answers every outstanding read with what the guest's table allows. */
  answerReads(): void {
    for (const read of this.reads.splice(0)) {
      const entry = this.entries.get(read.reference);
      if (entry === undefined || read.offset + read.length > PAGE) read.refuse();
      else read.resolve(this.page(entry.frame).slice(read.offset, read.offset + read.length));
    }
  }

  reserve(space: Space, address: number, type: RecordType, length: number): number {
    if (space !== Space.GRANT) throw new Error(`a write to space ${space}`);
    const reference = Math.floor(address / PAGE);
    const offset = address % PAGE;
    this.posted.push({ kind: "write", reference, offset, length, type });
    const entry = this.entries.get(reference);
    if (entry === undefined || entry.readonly || offset + length > PAGE) {
      this.violations.push(`a write of ${length} bytes to ${reference}+${offset}`);
      this.outgoing = this.#nowhere;
      return 0;
    }
    this.outgoing = this.page(entry.frame);
    return offset;
  }

  write(
    space: Space,
    address: number,
    type: RecordType,
    src: Uint8Array,
    at: number,
    length: number,
  ): void {
    const to = this.reserve(space, address, type, length);
    this.outgoing.set(src.subarray(at, at + length), to);
  }

  abandon(): void {
    this.abandoned++;
    this.pushes.all.length = 0;
    for (const read of this.reads.splice(0)) {
      read.reject(new DmaError("DMA_ABANDONED", "reset"));
    }
  }
}

export class FakeGuestHost extends FakeSurroundings<FakeGuestMemory> implements GuestHost {
  /** What the guest was told of its entries' uses, summed. */
  readonly readers = new Map<number, number>();
  readonly writers = new Map<number, number>();

  constructor(config: Partial<NicConfig> = {}) {
    super(new FakeGuestMemory(), { name: "vif1.0", queues: 8, ...config });
  }

  interrupt(): void {
    throw new Error("an interrupt for a paravirtual guest");
  }

  post<N extends GuestPosts>(name: N, fields: Sent<N>): void {
    this.#posts[name](fields);
  }

  readonly #posts: { readonly [N in GuestPosts]: (fields: Sent<N>) => void } = {
    event: ({ port }) => void this.memory.posted.push({ kind: "event", port }),
    grant_use: ({ records }) => this.#grantUse(records),
    hypercall_reply: () => {},
    xenstore: () => {},
  };

  #grantUse(records: Uint8Array): void {
    const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
    for (let at = 0; at < records.length; at += GRANT_USE_RECORD_SIZE) {
      this.use(
        grantUseRecord.reference(view, at),
        grantUseRecord.readers(view, at),
        grantUseRecord.writers(view, at),
      );
    }
  }

  /** The device tells of a change of use counts. */
  use(reference: number, readers: number, writers: number): void {
    this.memory.posted.push({ kind: "use", reference, readers, writers });
    this.readers.set(reference, (this.readers.get(reference) ?? 0) + readers);
    this.writers.set(reference, (this.writers.get(reference) ?? 0) + writers);
  }
}
