/**
 * The world around a NIC model, without sockets: one flat memory with windows over it, pushes,
 * reads that are answered when the test says so, and a switch port that keeps what it gets.
 *
 * Memory begins at MEMORY_BASE. A DMA write outside `writable` ranges is kept in `violations`,
 * so that a test can say "nothing was written that was not described".
 */
import { DmaError, type HostMemory, type Span, type Window } from "../../device/dma/host-memory.ts";
import type { NicConfig, NicHost } from "../../device/nic.ts";
import { type DropReason, type Port, type SwitchPort, Verdict } from "../../device/switch/port.ts";
import { type Logger, silentLogger } from "../../shared/log.ts";
import type { Frame } from "../../shared/net/frame.ts";
import type { RecordType, Space } from "../../shared/wire/records.ts";
import type { FaultSeverity } from "../../shared/wire/transactions.ts";
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

export class PendingRead {
  readonly address: number;
  readonly length: number;
  readonly #memory: FakeMemory;
  readonly #resolve: (bytes: Uint8Array) => void;
  readonly #reject: (error: DmaError) => void;

  constructor(
    memory: FakeMemory,
    address: number,
    length: number,
    resolve: (bytes: Uint8Array) => void,
    reject: (error: DmaError) => void,
  ) {
    this.#memory = memory;
    this.address = address;
    this.length = length;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** Answers with what memory holds now; outside memory it is refused. */
  answer(): void {
    const at = this.address - MEMORY_BASE;
    if (at < 0 || at + this.length > this.#memory.bytes.length) this.refuse();
    else this.#resolve(this.#memory.bytes.slice(at, at + this.length));
  }

  refuse(): void {
    this.#reject(new DmaError("DMA_REFUSED", "refused by the test"));
  }

  abandon(): void {
    this.#reject(new DmaError("DMA_ABANDONED", "reset"));
  }
}

interface Push {
  readonly address: number;
  readonly bytes: Uint8Array;
}

/** Pushed bytes, oldest first. */
export class FakePushes {
  readonly all: Push[] = [];

  find(address: number, length: number, out: Span): boolean {
    const push = this.all.find(
      (p) => address >= p.address && address + length <= p.address + p.bytes.length,
    );
    if (push === undefined) return false;
    out.buffer = push.bytes;
    out.at = address - push.address;
    out.length = length;
    return true;
  }

  release(address: number): void {
    const i = this.all.findIndex(
      (p) => address >= p.address && address < p.address + p.bytes.length,
    );
    if (i >= 0) this.all.splice(i, 1);
  }
}

export class FakeMemory implements HostMemory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly windows: Window[] = [];
  readonly pushes = new FakePushes();
  readonly writes: DmaWrite[] = [];
  readonly reads: PendingRead[] = [];
  /** Where DMA may write; everything when undefined. */
  writable: Range[] | undefined;
  readonly violations: DmaWrite[] = [];
  outgoing: Uint8Array;
  readonly #nowhere = new Uint8Array(1 << 17);

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
    this.outgoing = this.bytes;
  }

  /** The offset in `bytes` of an address. */
  at(address: number): number {
    return address - MEMORY_BASE;
  }

  addWindow(address: number, length: number): void {
    const at = this.at(address);
    const bytes = this.bytes.subarray(at, at + length);
    this.windows.push({ address, bytes, view: new DataView(bytes.buffer, at, length) });
  }

  removeWindow(address: number): void {
    const i = this.windows.findIndex((w) => w.address === address);
    if (i >= 0) this.windows.splice(i, 1);
  }

  window(address: number, length: number): Window | undefined {
    return this.windows.find(
      (w) => address >= w.address && address + length <= w.address + w.bytes.length,
    );
  }

  /** Pushes a copy of what memory holds there. */
  push(address: number, length: number): void {
    const at = this.at(address);
    this.pushes.all.push({ address, bytes: this.bytes.slice(at, at + length) });
  }

  read(_space: Space, address: number, length: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.reads.push(new PendingRead(this, address, length, resolve, reject));
    });
  }

  /** Answers every outstanding read, and those that follow from the answers, until there is none. */
  async answerReads(): Promise<void> {
    while (this.reads.length > 0) {
      for (const read of this.reads.splice(0)) read.answer();
      await settle();
    }
  }

  reserve(_space: Space, address: number, type: RecordType, length: number): number {
    this.#note({ address, length, type });
    const at = this.at(address);
    if (at >= 0 && at + length <= this.bytes.length) {
      this.outgoing = this.bytes;
      return at;
    }
    // The frontend refuses it; the device does not know.
    this.outgoing = this.#nowhere;
    return 0;
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
    this.pushes.all.length = 0;
    for (const read of this.reads.splice(0)) read.abandon();
  }

  #note(write: DmaWrite): void {
    this.writes.push(write);
    const { writable } = this;
    if (writable === undefined) return;
    const end = write.address + write.length;
    const allowed = writable.some((r) => write.address >= r.address && end <= r.address + r.length);
    if (!allowed) this.violations.push(write);
  }
}

/** A frame as the switch got it: bytes copied, facts kept. */
export interface Received {
  readonly bytes: Uint8Array;
  readonly needsCsum: boolean;
  readonly csumStart: number;
  readonly csumOffset: number;
  readonly csumValid: boolean;
  readonly gso: number;
  readonly gsoSize: number;
  readonly headerLength: number;
}

export class FakeSwitchPort implements SwitchPort {
  readonly frames: Received[] = [];
  readonly drops = new Map<DropReason, number>();
  /** What `input` answers. */
  verdict: Verdict = Verdict.DONE;
  flushes = 0;
  rooms = 0;
  detached = false;
  onReady: (() => void) | undefined;

  input(frame: Frame): Verdict {
    if (this.verdict === Verdict.HELD) return Verdict.HELD;
    const bytes = new Uint8Array(frame.length);
    frame.copyTo(bytes, 0, 0, frame.length);
    const { needsCsum, csumStart, csumOffset, csumValid, gso, gsoSize, headerLength } = frame;
    this.frames.push({
      bytes,
      needsCsum,
      csumStart,
      csumOffset,
      csumValid,
      gso,
      gsoSize,
      headerLength,
    });
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

  detach(): void {
    this.detached = true;
  }
}

export interface Fault {
  readonly severity: FaultSeverity;
  readonly code: string;
  readonly text: string;
}

/** What both kinds of NIC have around them, over memory of either kind. */
export class FakeSurroundings<M extends HostMemory> {
  readonly memory: M;
  readonly config: NicConfig;
  log: Logger = silentLogger;
  readonly switchPort = new FakeSwitchPort();
  readonly faults: Fault[] = [];
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
    this.config = {
      name: "nic0",
      mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
      queues: 2,
      maxMtu: 9216,
      ...config,
    };
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

  /** Codes of the faults so far; forgets them. */
  takeFaults(): string[] {
    return this.faults.splice(0).map((f) => f.code);
  }
}

export class FakeHost extends FakeSurroundings<FakeMemory> implements NicHost {
  readonly interrupts: number[] = [];

  constructor(config: Partial<NicConfig> = {}, memoryBytes = 1 << 22) {
    super(new FakeMemory(memoryBytes), config);
  }

  interrupt(vector: number): void {
    this.interrupts.push(vector);
  }

  /** Vectors raised so far; forgets them. */
  takeInterrupts(): number[] {
    return this.interrupts.splice(0);
  }
}

/** Lets promises and one turn of the event loop run. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
