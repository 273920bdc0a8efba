/**
 * The surroundings of a NIC model, without sockets: one flat memory with windows, pushes, reads
 * that the test answers, and a switch port that records frames.
 *
 * Memory begins at MEMORY_BASE. A DMA write outside `writable` ranges is kept in `violations`, so
 * that a test can show that the device wrote only to described buffers.
 */
import { DmaError, grantPush, type HostMemory, type Window } from "../../device/dma/host-memory.ts";
import { PushQueue } from "../../device/dma/push-queue.ts";
import type { NicConfig, NicHost } from "../../device/nic.ts";
import { type DropReason, type Port, type SwitchPort, Verdict } from "../../device/switch/port.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { type Logger, silentLogger } from "../../shared/log.ts";
import type { Frame } from "../../shared/net/frame.ts";
import type { BatchWriter } from "../../shared/wire/batch.ts";
import { type FaultSeverity, Limits } from "../../shared/wire/protocol.ts";
import { busAddress, type RecordType, Space } from "../../shared/wire/records.ts";
import { bytesOf, type FrameFacts, factsOf } from "./packets.ts";
import { TestClock } from "./test-clock.ts";

export const MEMORY_BASE = 0x1_0000_0000;

/** A range of memory: [address, address + length). */
export interface Range {
  readonly address: number;
  readonly length: number;
}

export interface DmaWrite extends Range {
  readonly type: RecordType;
}

/** A read that the device has asked for. */
export interface PendingRead {
  /** Answers with the present bytes of memory; refuses a range that the guest does not have. */
  answer(): void;
  refuse(status?: number): void;
  abandon(): void;
}

/**
 * A guest's memory as its device sees it. Everything except rings is reached in one address space.
 */
export abstract class FakeDma implements HostMemory {
  readonly windows: Window[] = [];
  readonly pushes = new PushQueue(Number.MAX_SAFE_INTEGER);
  readonly reads: PendingRead[] = [];
  readonly writer: { outgoing: Uint8Array; reserve: BatchWriter["reserve"] } = {
    outgoing: new Uint8Array(0),
    reserve: (_op, space, address, type, length) => {
      this.#place(space, address, type, length);
      return 0;
    },
  };
  #message: Uint8Array | undefined;
  readonly #nowhere = new Uint8Array(1 << 17);
  protected abstract readonly space: Space;

  /** The guest's own bytes; undefined where the device has no access. */
  protected abstract find(
    address: number,
    length: number,
    access: "read" | "write",
  ): Uint8Array | undefined;
  /** Called before each access. */
  protected abstract note(access: DmaWrite | "read"): void;

  #check(space: number): void {
    if (space !== this.space) throw new Error(`an access to space ${space}`);
  }

  window(address: number, length: number): Window | undefined {
    const end = address + length;
    return this.windows.find((w) => address >= w.address && end <= w.address + w.bytes.length);
  }

  /** Pushes the present bytes of a range, in a message of its own. */
  push(address: number, length: number): void {
    this.reuseMessage();
    this.#message = this.find(address, length, "read")!.slice();
    const key = busAddress(address);
    this.pushes.add(this.space === Space.GRANT ? grantPush(key) : key, this.#message, 0, length);
  }

  /** Stands for a transport that reuses the memory of the last push's message. */
  reuseMessage(): void {
    this.pushes.settle();
    this.#message?.fill(0x5a);
  }

  read(space: Space, address: number, length: number): Promise<Uint8Array> {
    this.#check(space);
    this.note("read");
    return new Promise((resolve, reject) => {
      const refuse = (status?: number) =>
        reject(new DmaError("DMA_REFUSED", "refused by the test", status));
      const answer = () => {
        const bytes = this.find(address, length, "read");
        if (bytes === undefined) refuse();
        else resolve(bytes.slice());
      };
      const abandon = () => reject(new DmaError("DMA_ABANDONED", "reset"));
      this.reads.push({ answer, refuse, abandon });
    });
  }

  /** Answers every outstanding read. */
  answerNow(): void {
    for (const read of this.reads.splice(0)) read.answer();
  }

  #place(space: number, address: number, type: number, length: number): Uint8Array {
    this.#check(space);
    this.note({ address, length, type: type as RecordType });
    // A device can't know that the frontend will refuse a write, so the write gets memory all the
    // same.
    this.writer.outgoing = this.find(address, length, "write") ?? this.#nowhere;
    return this.writer.outgoing;
  }

  write(
    space: Space,
    address: number,
    type: RecordType,
    src: Uint8Array,
    at: number,
    length: number,
  ): void {
    this.#place(space, address, type, length).set(src.subarray(at, at + length));
  }

  abandon(): void {
    this.pushes.clear();
    for (const read of this.reads.splice(0)) read.abandon();
  }
}

/** One flat memory from MEMORY_BASE. */
export class FakeMemory extends FakeDma {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly writes: DmaWrite[] = [];
  /** Ranges that DMA may write; undefined allows all. */
  writable: Range[] | undefined;
  readonly violations: DmaWrite[] = [];
  protected readonly space = Space.BUS;

  constructor(size: number) {
    super();
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
  }

  addWindow(address: number, length: number): void {
    const bytes = this.find(address, length)!;
    this.windows.push({ address: busAddress(address), bytes, view: viewOf(bytes) });
  }

  /** Answers reads, and the reads that follow from the answers, until none is left. */
  async answerReads(): Promise<void> {
    while (this.reads.length > 0) {
      this.answerNow();
      await settle();
    }
  }

  protected find(address: number, length: number): Uint8Array | undefined {
    const at = address - MEMORY_BASE;
    return at >= 0 && at + length <= this.bytes.length
      ? this.bytes.subarray(at, at + length)
      : undefined;
  }

  protected note(access: DmaWrite | "read"): void {
    if (access === "read") return;
    this.writes.push(access);
    const { address, length } = access;
    const allowed = (r: Range) => address >= r.address && address + length <= r.address + r.length;
    if (this.writable?.some(allowed) === false) this.violations.push(access);
  }
}

export class FakeSwitchPort implements SwitchPort {
  /** Frames received from the NIC; bytes are copies. */
  readonly frames: (FrameFacts & { readonly bytes: Uint8Array })[] = [];
  readonly drops = new Map<DropReason, number>();
  /** The verdict that `input` returns. */
  verdict: Verdict = Verdict.DONE;
  flushes = 0;
  rooms = 0;
  detached = false;
  onReady: (() => void) | undefined;

  input(frame: Frame): Verdict {
    if (this.verdict === Verdict.HELD) return Verdict.HELD;
    this.frames.push({ bytes: bytesOf(frame), ...factsOf(frame) });
    return Verdict.DONE;
  }

  flush(): void {
    this.flushes++;
  }

  roomAgain(): void {
    this.rooms++;
  }

  drop(reason: DropReason, _direction: "in" | "out", frames = 1): void {
    this.drops.set(reason, (this.drops.get(reason) ?? 0) + frames);
  }

  readonly taken = 0;
  /** Work of each frame. */
  work = 1;
  stale = false;

  detach(): void {
    this.detached = true;
  }
}

/** A NIC as the device's options describe one. */
export const NIC = {
  name: "nic0",
  segment: "lan0",
  mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
  maxMtu: 9216,
};

/** The surroundings of either kind of NIC, on memory of either kind. */
export class FakeSurroundings<M extends FakeDma> implements NicHost {
  readonly memory: M;
  readonly config: NicConfig;
  log: Logger = silentLogger;
  readonly switchPort = new FakeSwitchPort();
  readonly faults: { severity: FaultSeverity; code: string; text: string }[] = [];
  port: Port | undefined;
  flushes = 0;
  writable = true;
  backlogged = false;
  readonly askForRoom = () => this.writable;
  readonly askToWork = () => !this.backlogged;
  roundTripMs = 0;
  readonly clock = new TestClock();

  constructor(memory: M, config: Partial<NicConfig>) {
    this.memory = memory;
    this.config = { ...NIC, queues: 2, ...config };
  }

  fault(severity: FaultSeverity, code: string, text: string): void {
    this.faults.push({ severity, code, text });
  }

  plug(port: Port): SwitchPort {
    this.port = port;
    return this.switchPort;
  }

  scheduleFlush(): void {
    this.flushes++;
  }

  flush(): void {
    throw new Error("this host has no link; see test/support/pair.ts");
  }

  /** Deadlines of lazy posts (ms), in order. */
  readonly deadlines: number[] = [];
  pushBytes: number = Limits.PUSH_BYTES;
  /** Called with each deadline. */
  onLazy: (() => void) | undefined;
  scheduleLazy(ms: number): void {
    this.deadlines.push(ms);
    this.onLazy?.();
  }

  readonly interrupts: number[] = [];

  interrupt(vector: number): void {
    this.interrupts.push(vector);
  }

  /** Returns the vectors raised since the last call. */
  takeInterrupts(): number[] {
    return this.interrupts.splice(0);
  }

  /** Returns the codes of the faults since the last call. */
  takeFaults(): string[] {
    return this.faults.splice(0).map((f) => f.code);
  }
}

export class FakeHost extends FakeSurroundings<FakeMemory> {
  constructor(config: Partial<NicConfig> = {}, memoryBytes = 1 << 22) {
    super(new FakeMemory(memoryBytes), config);
  }
}

/** Lets promises and one turn of the event loop run. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
