/**
 * An ENA guest on FakeHost, in the process of its NIC model. Rings lie in windows or, with
 * `windows: false`, in memory that the device has to read.
 */

import type { EnaNic } from "../../device/ena/index.ts";
import { ACQ_BODY, mmioReadResp } from "../../shared/ena/admin.ts";
import { AENQ_DEPTH } from "../../shared/ena/aenq.ts";
import { aenqConfig, FeatureId } from "../../shared/ena/features.ts";
import { intrReg } from "../../shared/ena/io.ts";
import { mmioReadReg, Register } from "../../shared/ena/registers.ts";
import type { BusAddress } from "../../shared/wire/records.ts";
import { EnaGuest, type EnaQueue } from "./ena-guest.ts";
import { type FakeHost, MEMORY_BASE, settle } from "./fake-host.ts";

export class EnaTwin extends EnaGuest {
  readonly nic: EnaNic;
  readonly host: FakeHost;
  readonly windows: boolean;
  #seq = 0;

  constructor(nic: EnaNic, host: FakeHost, { windows = true } = {}) {
    super(host.memory.bytes, MEMORY_BASE);
    this.nic = nic;
    this.host = host;
    this.windows = windows;
  }

  override allocRing(bytes: number): BusAddress {
    const address = this.alloc(bytes);
    if (this.windows) this.host.memory.addWindow(address, bytes);
    return address;
  }

  /** A window of FakeHost is a view of its memory. */
  write(address: number, bytes: Uint8Array): void {
    this.memory.set(bytes, this.at(address));
  }

  write32(offset: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value >>> 0);
    this.nic.pci.mmioWrite(0, offset, bytes, 0, 4);
  }

  read32(offset: number): number {
    return Buffer.from(this.nic.pci.mmioRead(0, offset, 4)).readUInt32LE();
  }

  /** Runs until reads and deferred work have ended. */
  async settle(): Promise<boolean> {
    await this.host.memory.answerReads();
    await settle();
    return true;
  }

  /** Does a readless register read; undefined when no answer arrived. */
  readless(offset: number): number | undefined {
    this.#seq = (this.#seq + 1) & 0xffff;
    const at = this.at(this.responseAddress);
    mmioReadResp.write(this.view, at, { reqId: (this.#seq + 0xdead) & 0xffff });
    this.write32(Register.MMIO_REG_READ, mmioReadReg.pack(offset, this.#seq));
    const answer = mmioReadResp.parse(this.view, at);
    if (answer.reqId !== this.#seq || answer.regOff !== offset) return undefined;
    return answer.regVal;
  }

  reset(reason = 0): void {
    this.askForReset(reason);
    this.setResponse();
    this.write32(Register.DEV_CTL, 0);
    this.nic.batchEnd();
  }

  /**
   * Resets the device and sets up admin queue and events, as drivers do before they make queues.
   */
  async attach(groups = 0xff): Promise<void> {
    this.reset();
    this.initAdmin();
    const { entry } = await this.getFeature(FeatureId.AENQ_CONFIG);
    const enabledGroups = groups & aenqConfig.parse(entry, ACQ_BODY).supportedGroups;
    await this.setFeature(FeatureId.AENQ_CONFIG, aenqConfig, { enabledGroups });
    this.write32(Register.AENQ_HEAD_DB, AENQ_DEPTH);
  }

  unmask(q: EnaQueue): void {
    this.write32(q.unmask, intrReg.pack(0, 0, 1));
  }

  override ringAdmin(): void {
    super.ringAdmin();
    this.nic.batchEnd();
  }

  override ring(q: EnaQueue): void {
    super.ring(q);
    this.nic.batchEnd();
  }

  /** Writes bytes at a fresh address; pushes them too, unless `pushed` is false. */
  buffer(bytes: Uint8Array, pushed = true): number {
    const address = this.alloc(bytes.length);
    this.write(address, bytes);
    if (pushed) this.host.memory.push(address, bytes.length);
    return address;
  }
}
