/** The PCI function: posted writes, reads that fail with the link, interrupts. */
import { describe, expect, it } from "vitest";
import { PciFunction, RegisterReadFailed } from "../../frontend/bus/pci.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import { silentLogger } from "../../shared/log.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { FakeDeviceLink } from "../support/fake-device-link.ts";

function setUp() {
  const space = new DmaSpace({ log: silentLogger });
  const link = new FakeDeviceLink();
  space.attachLink(link);
  const pci = new PciFunction(space);
  pci.hasBar2 = true;
  return { space, link, pci };
}

describe("writes", () => {
  it("post in order, and a register write sends the batch", () => {
    const { link, pci } = setUp();
    const entry = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]);
    const flushes = link.flushes;
    pci.writeMemory(2, 128, RecordType.ENA_LLQ_ENTRY, entry.subarray(2, 6));
    expect(link.flushes).toBe(flushes);
    pci.write32(0, 0x54, -1);
    expect(link.flushes).toBe(flushes + 1);
    expect(link.posted).toEqual([
      {
        kind: "mmio_write",
        space: 2,
        address: 128,
        type: RecordType.ENA_LLQ_ENTRY,
        bytes: Uint8Array.from([3, 4, 5, 6]),
      },
      {
        kind: "mmio_write",
        space: 0,
        address: 0x54,
        type: RecordType.REGISTER,
        bytes: Uint8Array.of(0xff, 0xff, 0xff, 0xff),
      },
    ]);
  });

  it("go nowhere without a device", () => {
    const { space, link, pci } = setUp();
    space.detachLink();
    pci.write32(0, 0, 1);
    pci.writeMemory(2, 0, RecordType.RAW, new Uint8Array(4));
    expect(link.posted).toEqual([]);
  });

  it("misuse: a BAR that is not there, a place outside it, no bytes", () => {
    const { pci } = setUp();
    expect(() => pci.write32(1, 0, 0)).toThrow("BAR 1");
    expect(() => pci.write32(0, -4, 0)).toThrow("offset -4");
    expect(() => pci.write32(0, 0xfffffffe, 0)).toThrow("BAR 0");
    expect(() => pci.writeMemory(2, 0, RecordType.RAW, new Uint8Array(0))).toThrow("0 bytes");
    pci.hasBar2 = false;
    expect(() => pci.writeMemory(2, 0, RecordType.RAW, new Uint8Array(8))).toThrow("BAR 2");
  });
});

describe("reads", () => {
  it("are little-endian", async () => {
    const { link, pci } = setUp();
    link.mmioRead = async () => Uint8Array.from([0x78, 0x56, 0x34, 0xf2]);
    expect(await pci.read32(0, 8)).toBe(0xf2345678);
  });

  it("reject when there is no device, when it goes away, when it answers too much", async () => {
    const { space, link, pci } = setUp();
    link.mmioRead = async () => new Uint8Array(8);
    await expect(pci.read32(0, 4)).rejects.toThrow("answered with 8 bytes");
    const held = Promise.withResolvers<Uint8Array>();
    link.mmioRead = () => held.promise;
    const pending = pci.read32(0, 8);
    held.reject(new Error("link closed"));
    await expect(pending).rejects.toThrow(RegisterReadFailed);
    space.detachLink();
    await expect(pci.read32(0, 8)).rejects.toThrow("no device");
  });
});

describe("interrupts", () => {
  it("run their handler at once, and do nothing without one", () => {
    const { pci } = setUp();
    let runs = 0;
    pci.setVectorHandler(3, () => runs++);
    pci.interrupt(3);
    pci.interrupt(3);
    pci.interrupt(4);
    expect(runs).toBe(2);
    pci.setVectorHandler(3, undefined);
    for (const vector of [3, -1, 256, 1e9, Number.NaN]) pci.interrupt(vector);
    expect(runs).toBe(2);
    expect(() => pci.setVectorHandler(256, () => {})).toThrow("vector 256");
  });
});
