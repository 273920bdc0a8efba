/**
 * A guest's memory and grants with the device end of the link played by a strict reader: it keeps
 * the table as the records tell it, and refuses what no honest guest posts, so that a test notices.
 */
import { Hypervisor, type HypervisorLink } from "../../frontend/bus/hypervisor.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import { GrantTable } from "../../frontend/xen/grant-table.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { silentLogger } from "../../shared/log.ts";
import { GRANT_RECORD_BYTES, type GrantVersion } from "../../shared/wire/protocol.ts";
import { busAddress, Space } from "../../shared/wire/records.ts";
import {
  endGrantRecord,
  GRANT_RECORD_ENTRY,
  grantEntry,
  grantRecord,
  grantRef,
} from "../../shared/xen/grant.ts";
import { FakeDeviceLink } from "./fake-device-link.ts";

/** An entry as the device was told. */
interface ToldEntry {
  readonly flags: number;
  readonly domid: number;
  readonly frame: number;
  /** Of version 2, else 0. */
  readonly pageOff: number;
  readonly length: number;
}

/** Records what a guest posts, in order: grants, ends, events, pushes. */
export class FakeXenDevice extends FakeDeviceLink implements HypervisorLink {
  readonly entries = new Map<number, ToldEntry>();
  /** One word a transaction: `grant 3`, `end 2`, `event 5`, `write`. */
  readonly order: string[] = [];

  grants(version: GrantVersion, records: Uint8Array, count: number): void {
    this.order.push(`grant ${count}`);
    const size = GRANT_RECORD_BYTES[version];
    const view = viewOf(records.subarray(0, count * size));
    for (let at = 0; at < count * size; at += size) {
      const reference = grantRecord.reference(view, at);
      if (this.entries.has(reference)) throw new Error(`grant of live reference ${reference}`);
      const entry = at + GRANT_RECORD_ENTRY;
      this.entries.set(reference, {
        flags: grantEntry.flags(view, entry),
        domid: grantEntry.domid(view, entry),
        frame: grantEntry.frame(view, entry, version),
        pageOff: version === 1 ? 0 : grantEntry.pageOff(view, entry),
        length: version === 1 ? 0 : grantEntry.length(view, entry),
      });
    }
  }

  endGrants(records: Uint8Array, count: number): void {
    this.order.push(`end ${count}`);
    const view = viewOf(records);
    for (let i = 0; i < count; i++) {
      const reference = endGrantRecord.reference(view, i * endGrantRecord.size);
      if (!this.entries.delete(reference)) throw new Error(`end of ${reference}, which is none`);
    }
  }

  event(port: number): void {
    this.order.push(`event ${port}`);
  }

  hypercall(): Promise<Uint8Array> {
    this.order.push("hypercall");
    return Promise.resolve(new Uint8Array(0));
  }

  xenstore(): void {
    this.order.push("xenstore");
  }

  protected override write(address: number, type: number, bytes: Uint8Array): void {
    this.order.push("write");
    super.write(address, type, bytes);
  }
}

export interface GrantStageOptions {
  readonly maxFrames?: number;
  readonly version?: GrantVersion;
}

export class GrantStage {
  readonly space = new DmaSpace({ log: silentLogger, now: () => 0 });
  readonly hypervisor = new Hypervisor();
  readonly grants: GrantTable;
  device = new FakeXenDevice();

  constructor(options: GrantStageOptions = {}) {
    this.grants = new GrantTable({
      hypervisor: this.hypervisor,
      space: this.space,
      log: silentLogger,
      ...options,
    });
    this.space.grants = this.grants;
    this.hypervisor.attachLink(this.device);
    this.space.attachLink(this.device);
  }

  /** The device tells changes of its use counts. */
  use(reference: number, readers: number, writers = 0): void {
    this.hypervisor.onGrantUse(grantRef(reference), readers, writers);
  }

  /** The link breaks, and another device is there. */
  reconnect(): void {
    this.hypervisor.detachLink();
    this.space.detachLink();
    this.grants.linkGone();
    this.device = new FakeXenDevice();
    this.hypervisor.attachLink(this.device);
    this.grants.resume();
    this.space.attachLink(this.device);
  }

  /** The device writes through a grant. */
  write(reference: number, offset: number, bytes: Uint8Array): boolean {
    const address = busAddress(reference * 4096 + offset);
    return this.space.deviceWrite(Space.GRANT, address, bytes, 0, bytes.length);
  }

  /** A copy of what the device reads through a grant, or the negated status. */
  read(reference: number, offset: number, length: number): Uint8Array | number {
    const span = this.space.deviceRead(Space.GRANT, busAddress(reference * 4096 + offset), length);
    if (span === undefined) return this.space.refusal;
    return span.buffer.slice(span.at, span.at + span.length);
  }
}

/** Lets what waits for a turn of its own run. */
export const nextTurn = (): Promise<void> => Promise.resolve();
