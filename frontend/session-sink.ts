/**
 * The frontend's end of one connection. Applies the device's transactions to the machine (bus
 * space, PCI function, hypervisor) on which the driver runs. Before the welcome only `welcome` and
 * `refuse` are allowed. Any other transaction ends the connection.
 */
import { viewOf } from "../shared/bytes/words.ts";
import type { Clock } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import { nicUrl } from "../shared/transport/address.ts";
import type { Transport } from "../shared/transport/transport.ts";
import { MAX_SOFT_BYTES } from "../shared/wire/batch.ts";
import type { FrontendSink, Received } from "../shared/wire/catalogue.ts";
import { parseWelcome, type Welcome } from "../shared/wire/hello.ts";
import { Link, type LinkOwner } from "../shared/wire/link.ts";
import { Limits, ReadStatus, WireError } from "../shared/wire/protocol.ts";
import type { MemoryAccess } from "../shared/wire/records.ts";
import { UsedTags } from "../shared/wire/used-tags.ts";
import { GRANT_USE_RECORD_SIZE, grantUseRecord } from "../shared/xen/grant.ts";
import type { DriverContext } from "./driver.ts";
import { SessionLink } from "./session-link.ts";

/** The parts of the frontend on which a device acts. */
export type Machine = Pick<DriverContext, "space" | "pci" | "hypervisor">;

/** Events of one connection, reported to its session. */
export interface SessionEvents extends Omit<LinkOwner, "sink"> {
  /** The device accepts the NIC. The machine is already attached to this connection. */
  welcomed(welcome: Welcome): void;
  refused(code: string, text: string): void;
  /** The device reports a broken rule or a refused access. */
  faultReported(code: string, text: string): void;
  /** The device asks the NIC to connect to the device at `url` instead. */
  moveAsked(url: string): void;
}

const EMPTY = new Uint8Array(0);

export class SessionSink implements FrontendSink {
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

  /** Called when the link is gone. Detaches the machine and rejects what waits for an answer. */
  abandon(): void {
    this.#machine.space.detachLink();
    this.#machine.hypervisor.detachLink();
    this.#out.abandon();
  }

  welcome({ greeting }: Received<"welcome">): void {
    if (this.#welcomed) throw new WireError("WIRE_STATE", "welcome: sent twice");
    const welcome = parseWelcome(greeting);
    this.#welcomed = true;
    const { space, pci, hypervisor } = this.#machine;
    pci.revision = welcome.revision;
    pci.hasBar2 = welcome.deviceMemory;
    space.pushBytes = welcome.pushBytes;
    space.attachLink(this.#out);
    hypervisor.attachLink(this.#out);
    this.#events.welcomed(welcome);
  }

  refuse({ code, text }: Received<"refuse">): void {
    if (this.#welcomed) throw new WireError("WIRE_STATE", "refuse: after welcome");
    this.#events.refused(code, text);
  }

  fault({ code, text }: Received<"fault">): void {
    this.#working("fault");
    this.#events.faultReported(code, text);
  }

  write({ space, address, src, at, length }: MemoryAccess): void {
    this.#working("write");
    this.#machine.space.deviceWrite(space, address, src, at, length);
  }

  read({ tag, space, address, length }: Received<"read">): void {
    this.#working("read");
    this.#readTags.add(tag);
    const memory = this.#machine.space;
    const span = memory.deviceRead(space, address, length);
    if (span === undefined) {
      this.link.post("read_reply", { tag, status: memory.refusal, bytes: EMPTY });
    } else {
      const bytes = span.buffer.slice(span.at, span.at + Math.min(span.length, Limits.READ_BYTES));
      this.link.post("read_reply", { tag, status: ReadStatus.OK, bytes });
    }
    this.link.scheduleFlush();
  }

  mmioReadReply(reply: Received<"mmio_read_reply">): void {
    this.#working("mmio_read_reply").mmioReadReply(reply);
  }

  interrupt(vector: number): void {
    this.#working("interrupt");
    this.#machine.pci.interrupt(vector);
  }

  grantUse({ records }: Received<"grant_use">): void {
    this.#working("grant_use");
    const { hypervisor } = this.#machine;
    const view = viewOf(records);
    for (let at = 0; at < records.length; at += GRANT_USE_RECORD_SIZE) {
      hypervisor.onGrantUse(
        grantUseRecord.reference(view, at),
        grantUseRecord.readers(view, at),
        grantUseRecord.writers(view, at),
      );
    }
  }

  hypercallReply(reply: Received<"hypercall_reply">): void {
    this.#working("hypercall_reply").hypercallReply(reply);
  }

  event({ port }: Received<"event">): void {
    this.#working("event");
    this.#machine.hypervisor.onEvent(port);
  }

  xenstore({ bytes }: Received<"xenstore">): void {
    this.#working("xenstore");
    this.#machine.hypervisor.onXenstore(bytes, 0, bytes.length);
  }

  move({ url: text }: Received<"move">): void {
    this.#working("move");
    let url: string;
    try {
      url = nicUrl(text);
    } catch (error) {
      throw new WireError("MOVE_URL", `move: ${error instanceof Error ? error.message : error}`);
    }
    this.#events.moveAsked(url);
  }

  /** Returns the outgoing side. Throws WireError before the welcome: no device is trusted yet. */
  #working(what: string): SessionLink {
    if (!this.#welcomed) throw new WireError("WIRE_STATE", `${what}: before welcome`);
    return this.#out;
  }
}
