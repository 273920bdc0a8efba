/** DeviceLink over one connection. Its batch collects what bus_dma(9) and the PCI function post. */

import type { BatchWriter } from "../shared/wire/batch.ts";
import type { Received } from "../shared/wire/catalogue.ts";
import type { Link } from "../shared/wire/link.ts";
import {
  CloseCode,
  type FaultSeverity,
  GRANT_RECORD_BYTES,
  type GrantVersion,
  Limits,
  WireError,
} from "../shared/wire/protocol.ts";
import type { BusAddress } from "../shared/wire/records.ts";
import { END_GRANT_RECORD_SIZE } from "../shared/xen/grant.ts";
import type { DeviceLink } from "./bus/device-link.ts";
import { HypercallError, type HypervisorLink } from "./bus/hypervisor.ts";

interface PendingRead {
  resolve(bytes: Uint8Array): void;
  reject(error: Error): void;
}

export class SessionLink implements DeviceLink, HypervisorLink {
  readonly writer: BatchWriter;
  readonly #link: Link;
  readonly #reads = new Map<number, PendingRead>();
  readonly #hypercalls = new Map<number, PendingRead>();
  /** Hypercalls that wait until an earlier hypercall is answered. */
  readonly #waiting: (() => void)[] = [];
  #nextTag = 1;

  constructor(link: Link) {
    this.#link = link;
    this.writer = link.writer;
  }

  window(address: BusAddress, length: number): void {
    this.#link.post("window", { address, length });
  }

  endWindow(address: BusAddress): void {
    this.#link.post("end_window", { address });
  }

  mmioRead(bar: number, offset: number, length: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (this.#link.closed) {
        reject(new Error("the link is closed"));
        return;
      }
      const tag = this.#nextTag++;
      this.#reads.set(tag, { resolve, reject });
      this.#link.post("mmio_read", { tag, bar, offset, length });
      this.#link.scheduleFlush();
    });
  }

  /** Accepts the answer to a read. Throws WireError when no such read is pending. */
  mmioReadReply({ tag, bytes }: Received<"mmio_read_reply">): void {
    const pending = this.#reads.get(tag);
    if (pending === undefined) {
      throw new WireError(
        "READ_TAG",
        `mmio_read_reply: tag ${tag} was never used or is answered already`,
        CloseCode.PROTOCOL,
      );
    }
    this.#reads.delete(tag);
    pending.resolve(bytes.slice());
  }

  grants(version: GrantVersion, records: Uint8Array, count: number): void {
    if (!this.#link.closed)
      this.writer.grants(version, records, count * GRANT_RECORD_BYTES[version]);
  }

  endGrants(records: Uint8Array, count: number): void {
    if (!this.#link.closed) this.writer.endGrants(records, count * END_GRANT_RECORD_SIZE);
  }

  event(port: number): void {
    if (!this.#link.closed) this.writer.event(port);
  }

  async hypercall(number: number, command: number, bytes: Uint8Array): Promise<Uint8Array> {
    while (this.#hypercalls.size >= Limits.HYPERCALLS) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (this.#link.closed) throw new HypercallError(0, "the link is closed");
    return new Promise((resolve, reject) => {
      const tag = this.#nextTag++;
      this.#hypercalls.set(tag, { resolve, reject });
      this.#link.post("hypercall", { tag, number, command, bytes });
      this.#link.scheduleFlush();
    });
  }

  /** Accepts the answer to a hypercall. Throws WireError when no such call is pending. */
  hypercallReply({ tag, errno, bytes }: Received<"hypercall_reply">): void {
    const pending = this.#hypercalls.get(tag);
    if (pending === undefined) {
      throw new WireError(
        "HYPERCALL_TAG",
        `hypercall_reply: tag ${tag} was never used or is answered already`,
      );
    }
    this.#hypercalls.delete(tag);
    this.#waiting.shift()?.();
    if (errno === 0) pending.resolve(bytes.slice());
    else pending.reject(new HypercallError(errno, `the hypervisor refused: errno ${errno}`));
  }

  xenstore(message: Uint8Array): void {
    this.#link.post("xenstore", { bytes: message });
    this.#link.scheduleFlush();
  }

  fault(severity: FaultSeverity, code: string, text: string, space: number, address: number): void {
    // A hostile peer's address may be outside the range of the wire format; 0 is sent then.
    const told = address >= 0 && address <= Limits.ADDRESS ? address : 0;
    this.#link.post("fault", {
      severity,
      code,
      text: text.slice(0, Limits.TEXT_BYTES / 4),
      space,
      address: told,
    });
    this.#link.scheduleFlush();
  }

  scheduleFlush(): void {
    this.#link.scheduleFlush();
  }

  mark(bytes: number): void {
    if (this.writer.pendingBytes >= bytes) this.#link.flush();
  }

  askForRoom(): boolean {
    return this.#link.askForRoom();
  }

  /** Called when the link is gone. Rejects every pending read and hypercall. */
  abandon(): void {
    for (const pending of this.#reads.values()) pending.reject(new Error("the link went away"));
    this.#reads.clear();
    for (const pending of this.#hypercalls.values()) {
      pending.reject(new HypercallError(0, "the link went away"));
    }
    this.#hypercalls.clear();
    for (const resume of this.#waiting.splice(0)) resume();
  }
}
