/**
 * Register access of one device incarnation, and the reset handshake.
 *
 * After ena_com_reg_bar_read32 and ena_com_dev_reset (amzn-drivers:
 * kernel/fbsd/ena/ena-com/ena_com.c). A readless read writes a request, and the device writes the
 * answer to a block of host memory. Here both cross a network. So the default timeout is longer
 * than the original's 200 ms, until a hint of the device replaces it.
 */

import { mmioReadResp } from "../../shared/ena/admin.ts";
import {
  CAPS_TIMEOUT_UNIT_MS,
  capsReg,
  controllerVersionReg,
  DevSts,
  devCtlReg,
  mmioReadReg,
  REGISTER_READ_FAILED,
  Register,
  versionReg,
} from "../../shared/ena/registers.ts";
import type { Logger } from "../../shared/log.ts";
import type { BusAddress } from "../../shared/wire/records.ts";
import { AsyncLock } from "../async-lock.ts";
import type { CoherentMemory } from "../bus/coherent.ts";
import { Errno } from "../bus/errno.ts";
import type { PciFunction } from "../bus/pci.ts";
import type { DmaSpace } from "../bus/space.ts";
import { DeviceError } from "./device-error.ts";
import type { Waits } from "./waits.ts";

export const REGISTER_BAR = 0;
const DEFAULT_READ_TIMEOUT_MS = 3000;
const DEFAULT_ADMIN_TIMEOUT_MS = 3000;
/** ENA_MMIO_DISABLE_REG_READ in the PCI revision: use plain reads instead of readless ones. */
const REVISION_PLAIN_READS = 1;
/** Added to the expected id, so that the answer block starts with another id. */
const NOT_THIS_ID = 0xdead;
const POLL_FIRST_MS = 1;
const POLL_MAX_MS = 50;
const TWO_32 = 0x1_0000_0000;
const LE = true;

export class Registers {
  readonly #pci: PciFunction;
  readonly #log: Logger;
  readonly #waits: Waits;
  readonly #response: CoherentMemory;
  readonly #plainReads: boolean;
  #seq = 0;
  /** Reads run one at a time, because they share one answer block. */
  readonly #reads = new AsyncLock();
  /** Timeout (ms) of a register read; a hint of the device replaces it. */
  readTimeoutMs = DEFAULT_READ_TIMEOUT_MS;
  /** Timeout (ms) of admin commands, from CAPS; set by `reset`. */
  adminTimeoutMs = DEFAULT_ADMIN_TIMEOUT_MS;

  constructor(space: DmaSpace, pci: PciFunction, log: Logger, waits: Waits) {
    this.#pci = pci;
    this.#log = log;
    this.#waits = waits;
    this.#plainReads = (pci.revision & REVISION_PLAIN_READS) !== 0;
    this.#response = space.allocCoherent(mmioReadResp.size, mmioReadResp.size, "mmio response");
    this.tellResponseAddress();
  }

  /** Writes a register. Throws Abandoned after the end of this incarnation (see Waits). */
  write(offset: number, value: number): void {
    this.#waits.check();
    this.#pci.write32(REGISTER_BAR, offset, value);
  }

  writeAddress(lowOffset: number, highOffset: number, address: BusAddress): void {
    this.write(lowOffset, address >>> 0);
    this.write(highOffset, Math.floor(address / TWO_32));
  }

  /** Rejects with DeviceError (ETIMEDOUT) when the device does not answer. */
  async read(offset: number): Promise<number> {
    const value = await this.#reads.run(() =>
      this.#plainReads ? this.#readPlain(offset) : this.#readless(offset),
    );
    if (value === REGISTER_READ_FAILED) throw new DeviceError(Errno.ETIMEDOUT);
    return value;
  }

  async #readPlain(offset: number): Promise<number> {
    let value: number | undefined;
    const answer = this.#pci.read32(REGISTER_BAR, offset).catch(() => REGISTER_READ_FAILED);
    void answer.then((got) => {
      value = got;
      this.#waits.poll();
    });
    await this.#waits.until(() => value !== undefined, this.readTimeoutMs);
    return value ?? REGISTER_READ_FAILED;
  }

  async #readless(offset: number): Promise<number> {
    this.#seq = (this.#seq + 1) & 0xffff;
    const seq = this.#seq;
    const { view } = this.#response;
    // This changes our own copy only. The device never reads the block, so nothing is sent.
    view.setUint16(0, (seq + NOT_THIS_ID) & 0xffff, LE);
    this.write(Register.MMIO_REG_READ, mmioReadReg.pack(offset, seq));
    const answered = await this.#waits.until(
      () => mmioReadResp.parse(view, 0).reqId === seq,
      this.readTimeoutMs,
    );
    const answer = mmioReadResp.parse(view, 0);
    if (answered && answer.regOff === offset) return answer.regVal;
    this.#log.warn(
      { offset, expected: seq, reqId: answer.reqId, regOff: answer.regOff },
      answered ? "register read answered for another register" : "register read timed out",
    );
    return REGISTER_READ_FAILED;
  }

  /** ena_com_dev_reset: does the reset handshake. Rejects with DeviceError. */
  async reset(reason: number, extendedReasons: boolean): Promise<void> {
    const status = await this.read(Register.DEV_STS);
    const caps = await this.read(Register.CAPS);
    if ((status & DevSts.READY) === 0) {
      this.#log.error({ status }, "device is not ready, it can't be reset");
      throw new DeviceError(Errno.EINVAL);
    }
    const timeoutMs = capsReg.resetTimeout(caps) * CAPS_TIMEOUT_UNIT_MS;
    if (timeoutMs === 0) {
      this.#log.error({ caps }, "device gives no reset timeout");
      throw new DeviceError(Errno.EINVAL);
    }
    this.write(Register.DEV_CTL, devCtlReg.packReset(reason, extendedReasons));
    // The reset clears the address for answers, so it is written again.
    this.tellResponseAddress();
    await this.#resetBit(true, timeoutMs);
    this.write(Register.DEV_CTL, 0);
    await this.#resetBit(false, timeoutMs);
    const adminTimeout = capsReg.adminTimeout(await this.read(Register.CAPS));
    this.adminTimeoutMs = adminTimeout * CAPS_TIMEOUT_UNIT_MS || DEFAULT_ADMIN_TIMEOUT_MS;
  }

  /** Polls DEV_STS until RESET_IN_PROGRESS has the wanted value. */
  async #resetBit(wanted: boolean, timeoutMs: number): Promise<void> {
    let waited = 0;
    for (let pause = POLL_FIRST_MS; ; pause = Math.min(pause * 2, POLL_MAX_MS)) {
      const status = await this.read(Register.DEV_STS);
      if (((status & DevSts.RESET_IN_PROGRESS) !== 0) === wanted) return;
      if (waited >= timeoutMs) {
        this.#log.error({ wanted }, "reset indication did not change in time");
        throw new DeviceError(Errno.ETIMEDOUT);
      }
      await this.#waits.sleep(pause);
      waited += pause;
    }
  }

  /** ena_com_validate_version: logs the versions. Rejects with EINVAL when they are too low. */
  async validateVersion(): Promise<void> {
    const version = await this.read(Register.VERSION);
    const controller = await this.read(Register.CONTROLLER_VERSION);
    this.#log.debug(
      {
        version: `${versionReg.major(version)}.${versionReg.minor(version)}`,
        controller: `${controllerVersionReg.major(controller)}.${controllerVersionReg.minor(controller)}.${controllerVersionReg.subminor(controller)}`,
      },
      "ena device versions",
    );
    // A controller below 0.0.1 is refused, whatever its implementation id.
    if (controllerVersionReg.comparable(controller) === 0) throw new DeviceError(Errno.EINVAL);
  }

  /** Rejects with EINVAL when the device's DMA addresses do not have 32 to 48 bits. */
  async checkDmaWidth(): Promise<void> {
    const width = capsReg.dmaWidthBits(await this.read(Register.CAPS));
    if (width < 32 || width > 48) throw new DeviceError(Errno.EINVAL);
  }

  /** Rejects with ENODEV when the device is not ready. */
  async checkReady(): Promise<void> {
    const status = await this.read(Register.DEV_STS);
    if ((status & DevSts.READY) === 0) throw new DeviceError(Errno.ENODEV);
  }

  /** Tells the device where to write answers. With 0 it does not write the block again. */
  tellResponseAddress(address = this.#response.address): void {
    this.writeAddress(Register.MMIO_RESP_LO, Register.MMIO_RESP_HI, address);
  }

  free(): void {
    this.#response.free();
  }
}
