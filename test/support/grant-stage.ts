/** A guest's memory and grants, with the device end of the link played by FakeDeviceLink. */
import { Hypervisor } from "../../frontend/bus/hypervisor.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import { GrantTable } from "../../frontend/xen/grant-table.ts";
import { silentLogger } from "../../shared/log.ts";
import type { GrantVersion } from "../../shared/wire/protocol.ts";
import { busAddress, Space } from "../../shared/wire/records.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { FakeDeviceLink } from "./fake-device-link.ts";

export interface GrantStageOptions {
  readonly maxFrames?: number;
  readonly version?: GrantVersion;
}

export class GrantStage {
  readonly space = new DmaSpace({ log: silentLogger, now: () => 0 });
  readonly hypervisor = new Hypervisor();
  readonly grants: GrantTable;
  device = new FakeDeviceLink();

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

  /** The device posts a change of its use counts. */
  use(reference: number, readers: number, writers = 0): void {
    this.hypervisor.onGrantUse(grantRef(reference), readers, writers);
  }

  /** The link breaks, and another device appears. */
  reconnect(): void {
    this.hypervisor.detachLink();
    this.space.detachLink();
    this.grants.linkGone();
    this.device = new FakeDeviceLink();
    this.hypervisor.attachLink(this.device);
    this.grants.resume();
    this.space.attachLink(this.device);
  }

  /** The device writes through a grant. */
  write(reference: number, offset: number, bytes: Uint8Array): boolean {
    const address = busAddress(reference * 4096 + offset);
    return this.space.deviceWrite(Space.GRANT, address, bytes, 0, bytes.length);
  }

  /** A copy of the bytes that the device reads through a grant, or the negated status. */
  read(reference: number, offset: number, length: number): Uint8Array | number {
    const span = this.space.deviceRead(Space.GRANT, busAddress(reference * 4096 + offset), length);
    if (span === undefined) return this.space.refusal;
    return span.buffer.slice(span.at, span.at + span.length);
  }
}

/** Runs the promises that wait for a turn. */
export const nextTurn = (): Promise<void> => Promise.resolve();
