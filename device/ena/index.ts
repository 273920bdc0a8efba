/**
 * An ENA function as the device process offers it: registers, admin and event queues, IO queues,
 * and a port on the segment. See README.md beside this file.
 */
import { ACQ_ENTRY_SIZE, AQ_ENTRY_SIZE } from "../../shared/ena/admin.ts";
import { AENQ_ENTRY_SIZE, AenqGroup } from "../../shared/ena/aenq.ts";
import { nameOf } from "../../shared/ena/names.ts";
import { queueCapsReg, Register, ResetReason } from "../../shared/ena/registers.ts";
import { isPowerOfTwo } from "../../shared/ring/phase.ts";
import type { QueueState } from "../../shared/wire/queue-state.ts";
import type { Nic, NicHost, Snapshot } from "../nic.ts";
import { EventQueue } from "./aenq.ts";
import type { CompletionQueue } from "./completion-queue.ts";
import { EnaContext } from "./context.ts";
import { AdminQueue } from "./control.ts";
import { EnaCounters } from "./counters.ts";
import { Datapath } from "./datapath.ts";
import { Features } from "./features.ts";
import { hintsFor, slackMs, worthTelling } from "./hints.ts";
import { Lifecycle } from "./lifecycle.ts";
import type { DescriptorRing } from "./memory.ts";
import { Vectors } from "./notify.ts";
import type { EnaOptions } from "./options.ts";
import { queueState } from "./queue-state.ts";
import { Queues } from "./queues.ts";
import { BAR0_BYTES, type RegisterActions, Registers } from "./registers.ts";
import { Rss } from "./rss.ts";

export type { EnaOptions } from "./options.ts";

/** Register block, and memory of low latency queues. */
const BAR0 = 0;
const BAR2 = 2;
/** PCI revision bit 0: drivers read registers plainly, and not through MMIO_RESP. */
const REVISION_NO_READLESS = 1;
const MAX_ADMIN_DEPTH = 1024;

/** An ENA NIC: what the server needs, and the levers of fault scripts. */
export interface EnaNic extends Nic {
  /** Events at will; false when the driver did not enable the group or its ring is full. */
  readonly events: EventQueue;
  /** FATAL_ERROR in DEV_STS and as an event: admin and event queues rest until a reset. */
  fail(code: string, text: string): void;
  /** Asks the driver for a reset (AENQ group DEVICE_REQUEST_RESET). */
  requestReset(): boolean;
}

export function createEnaNic(host: NicHost, options: EnaOptions = {}): EnaNic {
  return new EnaFunction(host, options);
}

class EnaFunction implements EnaNic, RegisterActions {
  readonly revision: number;
  readonly deviceMemory: boolean;
  readonly events: EventQueue;
  readonly #context: EnaContext;
  readonly #vectors: Vectors;
  readonly #rss: Rss;
  readonly #features: Features;
  readonly #datapath: Datapath;
  readonly #queues: Queues;
  readonly #lifecycle: Lifecycle;
  readonly #admin: AdminQueue;
  readonly #registers: Registers;
  #destroyed = false;

  constructor(host: NicHost, options: EnaOptions) {
    const context = new EnaContext(host, new EnaCounters(), options);
    this.#context = context;
    this.revision = (options.readless ?? true) ? 0 : REVISION_NO_READLESS;
    this.deviceMemory = context.llq;
    this.#vectors = new Vectors(host, host.config.queues + 1);
    this.events = new EventQueue(context, this.#vectors);
    this.#rss = new Rss(context.rssKeyReversed);
    this.#datapath = new Datapath(context, this.#vectors, this.#rss);
    this.#features = new Features(
      context,
      this.#rss,
      this.events,
      (index) => this.#datapath.rx[index] !== undefined,
    );
    this.#queues = new Queues(context, this.#vectors, this.#datapath, this.#features.llq);
    this.#lifecycle = new Lifecycle(context, () => this.#dropAll());
    this.#admin = new AdminQueue(
      context,
      this.#lifecycle,
      this.#features,
      this.#queues,
      this.#vectors,
    );
    this.#registers = new Registers(context, this);
  }

  // Nic.

  mmioWrite(bar: number, offset: number, src: Uint8Array, at: number, length: number): void {
    if (this.#destroyed) return;
    if (bar === BAR2) {
      this.#queues.writeLlq(offset, src, at, length);
      return;
    }
    if (bar !== BAR0 || (offset & 3) !== 0 || (length & 3) !== 0 || offset + length > BAR0_BYTES) {
      this.#context.note(
        "MMIO_BAD_ACCESS",
        `write of ${length} bytes to BAR ${bar} offset 0x${offset.toString(16)}: registers are 4 aligned bytes of BAR 0`,
      );
      return;
    }
    for (let i = 0; i < length; i += 4) this.#registers.write(offset + i, word(src, at + i));
  }

  mmioRead(bar: number, offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    if (bar !== BAR0) return bytes;
    for (let i = 0; i < length; i++) {
      const value = this.#registers.read((offset + i) & ~3);
      bytes[i] = value >>> (8 * ((offset + i) & 3));
    }
    return bytes;
  }

  windowAdded(): void {
    // A ring is looked up when it is created; a window that comes later changes nothing.
  }

  windowRemoved(address: number, length: number): void {
    this.#queues.windowRemoved(address, length);
  }

  batchEnd(): void {
    if (!this.#destroyed) this.#datapath.run();
  }

  writableAgain(): void {
    if (this.#destroyed) return;
    this.#datapath.roomAgain();
    this.#datapath.run();
  }

  tick(): void {
    if (this.#destroyed) return;
    this.#context.lines.tick();
    this.events.keepAlive();
    const slack = slackMs(this.#context.host.roundTripMs);
    if (
      worthTelling(this.#features.toldSlackMs, slack) &&
      this.events.updateHints(hintsFor(slack))
    ) {
      this.#features.toldSlackMs = slack;
    }
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#context.generation++;
    this.#admin.reset();
    this.events.reset();
    this.#datapath.close();
    this.#context.lines.flush();
  }

  /** A frame is in the driver's buffers when it was taken, or was not taken. */
  readonly rxQueued = 0;

  snapshot(): Snapshot {
    const { counters, host } = this.#context;
    return {
      personality: "ena",
      status: this.#lifecycle.resetting ? "resetting" : this.#lifecycle.fatal ? "fatal" : "ready",
      lastReset: this.#lifecycle.lastReason,
      mtu: this.#context.mtu,
      features: this.#features.supported,
      llq: this.#features.llq.enabled,
      driver: this.#driver(),
      counters: {
        txPackets: counters.txPackets,
        txBytes: counters.txBytes,
        rxPackets: counters.rxPackets,
        rxBytes: counters.rxBytes,
        txDrops: counters.txDrops,
        rxDrops: counters.rxDrops,
        rxOverruns: counters.rxOverruns,
        txReads: counters.txReads,
        aenqEvents: counters.aenqEvents,
        aenqOverflows: counters.aenqOverflows,
        adminCommands: counters.adminCommands,
        resets: counters.resets,
      },
      faults: Object.fromEntries(counters.faults),
      resets: Object.fromEntries(
        [...counters.resetReasons].map(([reason, n]) => [nameOf(ResetReason, reason), n]),
      ),
      admin: {
        running: this.#admin.running,
        waiting: this.#admin.waiting.length,
        head: this.#admin.commands?.cursor.head ?? 0,
        tail: this.#admin.commands?.tail ?? 0,
        events: this.events.ring?.cursor.head ?? 0,
        eventGroups: this.events.enabledGroups,
      },
      interrupts: Array.from(this.#vectors.raised, (raised, vector) => ({
        vector,
        raised,
        armed: this.#vectors.isArmed(vector),
        pending: this.#vectors.isPending(vector),
      })),
      tx: this.#datapath.tx.flatMap((q) =>
        q === undefined
          ? []
          : [
              {
                ...ringSnapshot(q.index, q.ring, q.cq),
                placement: q.llq === undefined ? "host" : "device",
                state: q.stopped || q.stage,
                packets: q.packets,
                bytes: q.bytes,
                drops: q.drops,
              },
            ],
      ),
      rx: this.#datapath.rx.flatMap((q) =>
        q === undefined
          ? []
          : [
              {
                ...ringSnapshot(q.index, q.ring, q.cq),
                state: q.stopped || "running",
                buffers: q.buffers,
                packets: q.packets,
                bytes: q.bytes,
                overruns: q.overruns,
              },
            ],
      ),
      roundTripMs: host.roundTripMs,
    };
  }

  queues(): QueueState | undefined {
    return queueState(this.#admin, this.events, this.#features.llq, this.#datapath);
  }

  // Levers of fault scripts.

  fail(code: string, text: string): void {
    this.events.plain(AenqGroup.FATAL_ERROR);
    this.#lifecycle.fail(code, text);
  }

  requestReset(): boolean {
    return this.events.plain(AenqGroup.DEVICE_REQUEST_RESET);
  }

  // Registers.

  get status(): number {
    return this.#lifecycle.status;
  }

  devCtl(value: number): void {
    this.#lifecycle.devCtl(value);
  }

  adminDoorbell(value: number): void {
    if (!this.#ready("AQ_DB")) return;
    if (!this.#admin.running && !this.#startAdmin()) return;
    this.#admin.doorbell(value);
  }

  eventHead(value: number): void {
    if (!this.#ready("AENQ_HEAD_DB")) return;
    if (!this.events.configured && !this.#configureEvents()) {
      this.#context.note(
        "AENQ_NOT_CONFIGURED",
        "AENQ_HEAD_DB was written before AENQ_BASE and AENQ_CAPS: there is no event ring",
      );
      return;
    }
    const { ring } = this.events;
    if (ring !== undefined) this.events.headDoorbell(ring, value);
  }

  maskManagement(masked: boolean): void {
    this.#vectors.maskManagement(masked);
  }

  doorbell(queue: number, value: number): void {
    if (this.#ready("a doorbell")) this.#queues.doorbell(queue, value);
  }

  unmask(queue: number, value: number): void {
    if (this.#ready("an interrupt register")) this.#queues.unmask(queue, value);
  }

  numa(queue: number, value: number): void {
    if (this.#ready("a NUMA register")) this.#queues.numa(queue, value);
  }

  /** Neither in reset nor broken. */
  #ready(what: string): boolean {
    if (this.#lifecycle.resetting) {
      this.#context.note(
        "REGISTER_IN_RESET",
        `${what} was written during reset: write 0 to DEV_CTL first`,
      );
      return false;
    }
    return !this.#lifecycle.fatal;
  }

  /**
   * The first AQ_DB: both admin rings must be there, and the event ring too. Hardware dies with a
   * fatal error when the event ring comes after the first command, and does not say why; we say.
   */
  #startAdmin(): boolean {
    const commands = this.#ring(Register.AQ_BASE_LO, Register.AQ_CAPS, AQ_ENTRY_SIZE);
    const completions = this.#ring(Register.ACQ_BASE_LO, Register.ACQ_CAPS, ACQ_ENTRY_SIZE);
    if (commands === undefined || completions === undefined) {
      const missing = commands === undefined ? "AQ_BASE and AQ_CAPS" : "ACQ_BASE and ACQ_CAPS";
      this.#lifecycle.fail(
        "AQ_NOT_CONFIGURED",
        `AQ_DB was written before ${missing} named a ring of 64-byte entries, a power of two of them`,
      );
      return false;
    }
    if (completions.depth < commands.depth) {
      this.#lifecycle.fail(
        "ACQ_TOO_SMALL",
        `${commands.depth} commands could not be completed into ${completions.depth} entries`,
      );
      return false;
    }
    if (!this.#configureEvents()) {
      this.#lifecycle.fail(
        "AENQ_NOT_CONFIGURED",
        "the first admin command came before AENQ_BASE and AENQ_CAPS: set up the event ring first",
      );
      return false;
    }
    this.#admin.start(commands.address, commands.depth, completions.address, completions.depth);
    return true;
  }

  #configureEvents(): boolean {
    if (this.events.configured) return true;
    const ring = this.#ring(Register.AENQ_BASE_LO, Register.AENQ_CAPS, AENQ_ENTRY_SIZE);
    if (ring === undefined) return false;
    this.events.configure(ring.address, ring.depth);
    return true;
  }

  /** A ring as its base and caps registers describe it, or undefined when they do not. */
  #ring(base: Register, caps: Register, entryBytes: number): RingPlace | undefined {
    const address = this.#registers.address(base);
    const value = this.#registers.word(caps);
    const depth = queueCapsReg.depth(value);
    if (address === 0 || address + depth * entryBytes > 2 ** 48) return undefined;
    if (!isPowerOfTwo(depth) || depth < 2 || depth > MAX_ADMIN_DEPTH) return undefined;
    return queueCapsReg.entryBytes(value) === entryBytes ? { address, depth } : undefined;
  }

  #dropAll(): void {
    this.#admin.reset();
    this.events.reset();
    this.#datapath.dropQueues();
    this.#vectors.reset();
    this.#features.reset();
    this.#registers.reset();
    this.#context.host.memory.abandon();
  }

  #driver(): string {
    const host = this.#features.host;
    if (host === undefined) return "unknown";
    return `${host.kernelVerStr} ${host.driverMajor}.${host.driverMinor}.${host.driverSubMinor}`;
  }
}

interface RingPlace {
  readonly address: number;
  readonly depth: number;
}

function ringSnapshot(index: number, ring: DescriptorRing, cq: CompletionQueue) {
  return {
    index,
    depth: ring.depth,
    head: ring.cursor.head,
    tail: ring.tail,
    cqHead: cq.ring.cursor.head,
    vector: cq.vector,
  };
}

const word = (src: Uint8Array, at: number): number =>
  (src[at]! | (src[at + 1]! << 8) | (src[at + 2]! << 16) | (src[at + 3]! << 24)) >>> 0;
