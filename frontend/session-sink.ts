/**
 * The frontend's end of one connection: applies what the device sends to the machine (bus space,
 * PCI function, hypervisor) that its driver runs on. Before the welcome only `welcome` and `refuse`
 * are allowed; anything else ends the connection.
 */
import type { Clock } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import { nicUrl } from "../shared/transport/address.ts";
import type { Transport } from "../shared/transport/transport.ts";
import { MAX_SOFT_BYTES } from "../shared/wire/batch.ts";
import { parseWelcome, type Welcome } from "../shared/wire/hello.ts";
import { Link, type LinkOwner } from "../shared/wire/link.ts";
import {
  type FaultSeverity,
  Limits,
  Op,
  ReadStatus,
  type Sink,
  WireError,
} from "../shared/wire/transactions.ts";
import { UsedTags } from "../shared/wire/used-tags.ts";
import { GRANT_USE_RECORD_SIZE, grantUseRecord } from "../shared/xen/grant.ts";
import type { Hypervisor } from "./bus/hypervisor.ts";
import type { PciFunction } from "./bus/pci.ts";
import type { DmaSpace } from "./bus/space.ts";
import { SessionLink } from "./session-link.ts";

/** What a device acts on. */
export interface Machine {
  readonly space: DmaSpace;
  readonly pci: PciFunction;
  readonly hypervisor: Hypervisor;
}

/** What a session is told about one of its connections. */
export interface SessionEvents extends Omit<LinkOwner, "sink"> {
  /** The device accepts the NIC; the machine is attached to this connection already. */
  welcomed(welcome: Welcome): void;
  refused(code: string, text: string): void;
  /** The device reports a broken rule or a refused access. */
  faultReported(code: string, text: string): void;
  /** The NIC is to connect to the device at `url` instead. */
  moveAsked(url: string): void;
}

const EMPTY = new Uint8Array(0);

export class SessionSink implements Sink {
  readonly link: Link;
  readonly #machine: Machine;
  readonly #events: SessionEvents;
  readonly #out: SessionLink;
  readonly #readTags = new UsedTags("read");
  #welcomed = false;

  constructor(
    transport: Transport,
    machine: Machine,
    events: SessionEvents,
    log: Logger,
    clock: Clock,
  ) {
    this.#machine = machine;
    this.#events = events;
    this.link = new Link(transport, { ...events, sink: this }, log, MAX_SOFT_BYTES, clock);
    this.#out = new SessionLink(this.link);
  }

  /** The link is gone: detaches the machine, rejects what waits for an answer. */
  abandon(): void {
    this.#machine.space.detachLink();
    this.#machine.hypervisor.detachLink();
    this.#out.abandon();
  }

  welcome(value: unknown): void {
    if (this.#welcomed) throw new WireError("WIRE_STATE", "welcome: not asked for");
    const welcome = parseWelcome(value);
    this.#welcomed = true;
    const { space, pci, hypervisor } = this.#machine;
    pci.configure({ revision: welcome.revision, hasBar2: welcome.deviceMemory });
    space.pushBytes = welcome.pushBytes;
    space.attachLink(this.#out);
    hypervisor.attachLink(this.#out);
    this.#events.welcomed(welcome);
  }

  refuse(code: string, text: string): void {
    if (this.#welcomed) throw new WireError("WIRE_STATE", "refuse: after welcome");
    this.#events.refused(code, text);
  }

  fault(_severity: FaultSeverity, code: string, text: string): void {
    this.#working("fault");
    this.#events.faultReported(code, text);
  }

  write(
    space: number,
    address: number,
    type: number,
    src: Uint8Array,
    at: number,
    length: number,
  ): void {
    this.#working("write");
    this.#machine.space.deviceWrite(space, address, type, src, at, length);
  }

  read(tag: number, space: number, address: number, length: number): void {
    this.#working("read");
    this.#readTags.add(tag);
    const memory = this.#machine.space;
    const span = memory.deviceRead(address, length, space);
    if (span === undefined) {
      this.link.writer.control([Op.READ_REPLY, tag, memory.refusal, EMPTY]);
    } else {
      const bytes = span.buffer.slice(span.at, span.at + Math.min(span.length, Limits.READ_BYTES));
      this.link.writer.control([Op.READ_REPLY, tag, ReadStatus.OK, bytes]);
    }
    this.link.scheduleFlush();
  }

  mmioReadReply(tag: number, src: Uint8Array, at: number, length: number): void {
    this.#working("mmio_read_reply").mmioReadReply(tag, src, at, length);
  }

  interrupt(vector: number): void {
    this.#working("interrupt");
    this.#machine.pci.interrupt(vector);
  }

  grantUse(view: DataView, at: number, count: number): void {
    this.#working("grant_use");
    const { hypervisor } = this.#machine;
    for (let i = 0; i < count; i++) {
      const rec = at + i * GRANT_USE_RECORD_SIZE;
      hypervisor.onGrantUse(
        grantUseRecord.reference(view, rec),
        grantUseRecord.readers(view, rec),
        grantUseRecord.writers(view, rec),
      );
    }
  }

  hypercallReply(tag: number, errno: number, src: Uint8Array, at: number, length: number): void {
    this.#working("hypercall_reply").hypercallReply(tag, errno, src, at, length);
  }

  event(port: number): void {
    this.#working("event");
    this.#machine.hypervisor.onEvent(port);
  }

  xenstore(src: Uint8Array, at: number, length: number): void {
    this.#working("xenstore");
    this.#machine.hypervisor.onXenstore(src, at, length);
  }

  move(text: string): void {
    this.#working("move");
    let url: string;
    try {
      url = nicUrl(text);
    } catch (error) {
      throw new WireError("MOVE_URL", `move: ${error instanceof Error ? error.message : error}`);
    }
    this.#events.moveAsked(url);
  }

  /** Throws WireError before the welcome: until then nothing of a device is believed. */
  #working(what: string): SessionLink {
    if (!this.#welcomed) throw new WireError("WIRE_STATE", `${what}: before welcome`);
    return this.#out;
  }
}
