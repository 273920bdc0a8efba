/**
 * The device's end of one connection. It applies the frontend's transactions to the memory and to
 * the NIC model. Before hello, and in the batch of hello, a frontend may send nothing but hello.
 */
import { copyBytes } from "../shared/bytes/copy.ts";
import type { Clock } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import type { MemoryAccount } from "../shared/memory-budget.ts";
import type { Transport } from "../shared/transport/transport.ts";
import type {
  DeviceSink,
  GrantRecords,
  PackedRecords,
  Received,
} from "../shared/wire/catalogue.ts";
import { Link, type LinkOwner } from "../shared/wire/link.ts";
import { CloseCode, WireError } from "../shared/wire/protocol.ts";
import { type MemoryAccess, Space } from "../shared/wire/records.ts";
import { UsedTags } from "../shared/wire/used-tags.ts";
import { grantPush } from "./dma/host-memory.ts";
import { LinkMemory } from "./dma/link-memory.ts";
import type { GuestCalls, Nic } from "./nic.ts";

/** Events of the link for its connection. */
export interface ConnectionEvents extends Omit<LinkOwner, "sink"> {
  /** The first hello arrived. Its fields are not checked yet. */
  hello(value: unknown): void;
  /** The frontend reported an access that it refused. */
  faultReported(code: string, text: string): void;
}

export class ConnectionSink implements DeviceSink {
  readonly link: Link;
  readonly memory: LinkMemory;
  readonly #events: ConnectionEvents;
  /** Most bytes of pushes that wait. */
  readonly #pushBytes: number;
  readonly #account: MemoryAccount;
  /** Bytes charged for pushes. */
  #pushed = 0;
  readonly #readTags = new UsedTags("mmio_read");
  readonly #callTags = new UsedTags("hypercall");
  #greeted = false;
  #nic: Nic | undefined;
  #personality = "";
  /** True after the batch of hello: only then can the frontend have received welcome. */
  #open = false;

  constructor(
    transport: Transport,
    events: ConnectionEvents,
    log: Logger,
    pushBytes: number,
    clock: Clock,
    account: MemoryAccount,
  ) {
    this.#events = events;
    this.#pushBytes = pushBytes;
    this.#account = account;
    const batchApplied = (): void => {
      this.#open = this.#nic !== undefined;
      events.batchApplied();
    };
    this.link = new Link(transport, { ...events, batchApplied, sink: this }, log, undefined, clock);
    this.memory = new LinkMemory(this.link, pushBytes);
  }

  /** Sets the NIC model that serves transactions from the next batch on; undefined for none. */
  serve(nic: Nic | undefined, personality = ""): void {
    this.#nic = nic;
    this.#personality = personality;
  }

  hello({ greeting }: Received<"hello">): void {
    if (this.#greeted) throw new WireError("WIRE_STATE", "hello: sent twice");
    this.#greeted = true;
    this.#events.hello(greeting);
  }

  fault({ code, text }: Received<"fault">): void {
    this.#working("fault");
    this.#events.faultReported(code, text);
  }

  window({ address, length }: Received<"window">): void {
    this.#working("window");
    if (!this.#account.charge("windows", length)) {
      const text = `window of ${length} bytes: ${this.#account.fullText}`;
      throw new WireError("MEMORY_BUDGET", text, CloseCode.NO_MEMORY);
    }
    this.memory.windows.add(address, length);
  }

  endWindow({ address }: Received<"end_window">): void {
    const nic = this.#working("end_window");
    const window = this.memory.windows.remove(address);
    this.#account.release("windows", window.bytes.byteLength);
    nic.windowRemoved(address, window.bytes.byteLength);
  }

  write({ space, address, src, at, length }: MemoryAccess): void {
    this.#working("write");
    const window = space === Space.BUS ? this.memory.windows.find(address, length) : undefined;
    if (window === undefined) {
      throw new WireError(
        "WRITE_OUTSIDE",
        `write: space ${space} 0x${address.toString(16)}+${length} lies in no window`,
      );
    }
    copyBytes(src, at, window.bytes, address - window.address, length);
  }

  push({ space, address, src, at, length }: MemoryAccess): void {
    const { guest } = this.#working("push");
    const isBus = space === Space.BUS;
    if (!isBus && guest === undefined) {
      throw new WireError("PUSH_SPACE", `push: space ${space} has no pushes`);
    }
    const { pushes } = this.memory;
    const to = isBus ? address : grantPush(address);
    const added = pushes.add(to, src, at, length, this.link.applyingBytes);
    if (!added || pushes.bytes > this.#pushBytes) {
      throw new WireError(
        "PUSH_BUDGET",
        `push: ${pushes.live} entries of ${pushes.bytes} bytes wait, ${this.#pushBytes} bytes are allowed`,
        CloseCode.LIMIT,
      );
    }
  }

  /**
   * Called when a batch is processed, because the transport may reuse its message: copies the pushes
   * that still wait, and charges for their memory.
   */
  settle(): void {
    const { pushes } = this.memory;
    pushes.settle();
    const more = pushes.pinned - this.#pushed;
    if (more === 0) return;
    this.#pushed += more;
    if (more < 0) this.#account.release("pushes", -more);
    else if (!this.#account.charge("pushes", more)) {
      this.#pushed -= more;
      this.link.close(CloseCode.NO_MEMORY, `${more} bytes of pushes: ${this.#account.fullText}`);
    }
  }

  readReply(reply: Received<"read_reply">): void {
    this.#working("read_reply");
    this.memory.readReply(reply);
  }

  mmioWrite({ space: bar, address: offset, src, at, length }: MemoryAccess): void {
    const { pci } = this.#working("mmio_write");
    if (pci === undefined) throw this.#hasNo("mmio_write");
    pci.mmioWrite(bar, offset, src, at, length);
  }

  mmioRead({ tag, bar, offset, length }: Received<"mmio_read">): void {
    const { pci } = this.#working("mmio_read");
    if (pci === undefined) throw this.#hasNo("mmio_read");
    this.#readTags.add(tag);
    this.link.post("mmio_read_reply", { tag, bytes: pci.mmioRead(bar, offset, length) });
    this.link.scheduleFlush();
  }

  grant(grants: GrantRecords): void {
    this.#guest("grant").grant(grants);
  }

  endGrant(ends: PackedRecords): void {
    this.#guest("end_grant").endGrant(ends);
  }

  hypercall(fields: Received<"hypercall">): void {
    const guest = this.#guest("hypercall");
    this.#callTags.add(fields.tag);
    guest.hypercall(fields);
  }

  event(fields: Received<"event">): void {
    this.#guest("event").event(fields);
  }

  xenstore(fields: Received<"xenstore">): void {
    this.#guest("xenstore").xenstore(fields);
  }

  #guest(what: string): GuestCalls {
    const { guest } = this.#working(what);
    if (guest === undefined) throw this.#hasNo(what);
    return guest;
  }

  #hasNo(what: string): WireError {
    return new WireError("WIRE_STATE", `${what}: the personality ${this.#personality} has none`);
  }

  #working(what: string): Nic {
    if (this.#nic === undefined) throw new WireError("WIRE_STATE", `${what}: before hello`);
    if (!this.#open) throw new WireError("WIRE_STATE", `${what}: before welcome`);
    return this.#nic;
  }
}
