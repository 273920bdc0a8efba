/**
 * ENA register fields against the headers.
 *
 * How the hex was made: a C program included, unchanged, the headers of amzn-drivers:
 * kernel/fbsd/ena/ena-com/ena_defs/{ena_common_defs,ena_regs_defs,ena_admin_defs,ena_eth_io_defs}.h
 * with BIT and GENMASK defined, on x86-64. It zeroed each
 * structure, set the values listed through the structure's own members and the headers' own
 * _SHIFT and _MASK macros, and printed sizeof and the bytes. None of our code took part.
 */
import { describe, expect, test } from "vitest";
import { intrReg } from "../../shared/ena/io.ts";
import {
  capsReg,
  controllerVersionReg,
  devCtlReg,
  mmioReadReg,
  queueCapsReg,
  ResetReason,
  versionReg,
} from "../../shared/ena/registers.ts";

describe("ENA registers", () => {
  test("versionReg", () => {
    const word = 0x00005ac3;
    expect(versionReg.pack(0x5a, 0xc3)).toBe(word);
    expect(versionReg.major(word)).toBe(0x5a);
    expect(versionReg.minor(word)).toBe(0xc3);
  });

  test("controllerVersionReg", () => {
    const word = 0xd1123456;
    expect(controllerVersionReg.pack(0xd1, 0x12, 0x34, 0x56)).toBe(word);
    expect(controllerVersionReg.major(word)).toBe(0x12);
    expect(controllerVersionReg.minor(word)).toBe(0x34);
    expect(controllerVersionReg.subminor(word)).toBe(0x56);
    expect(controllerVersionReg.comparable(word)).toBe(0x123456);
  });

  test("capsReg", () => {
    const word = 0x000b302b;
    expect(capsReg.pack(0x1, 0x15, 0x30, 0xb)).toBe(word);
    expect(capsReg.resetTimeout(word)).toBe(0x15);
    expect(capsReg.dmaWidthBits(word)).toBe(0x30);
    expect(capsReg.adminTimeout(word)).toBe(0xb);
  });

  test("queueCapsReg (aq)", () => {
    const word = 0xf3400102;
    expect(queueCapsReg.pack(0x102, 0xf340)).toBe(word);
    expect(queueCapsReg.depth(word)).toBe(0x102);
    expect(queueCapsReg.entryBytes(word)).toBe(0xf340);
  });

  test("queueCapsReg (acq)", () => {
    const word = 0x00400020;
    expect(queueCapsReg.pack(0x20, 0x40)).toBe(word);
    expect(queueCapsReg.depth(word)).toBe(0x20);
    expect(queueCapsReg.entryBytes(word)).toBe(0x40);
  });

  test("queueCapsReg (aenq)", () => {
    const word = 0x00400010;
    expect(queueCapsReg.pack(0x10, 0x40)).toBe(word);
    expect(queueCapsReg.depth(word)).toBe(0x10);
    expect(queueCapsReg.entryBytes(word)).toBe(0x40);
  });

  test("mmioReadReg", () => {
    const word = 0x8058beef;
    expect(mmioReadReg.pack(0x8058, 0xbeef)).toBe(word);
    expect(mmioReadReg.registerOffset(word)).toBe(0x8058);
    expect(mmioReadReg.reqId(word)).toBe(0xbeef);
  });

  test("ena_eth_io_intr_reg", () => {
    const word = 0xd55e5123;
    // Our drivers always set the moderation, so bit 31 is cleared here.
    expect(intrReg.pack(0x5123, 0x2abc, 0x1)).toBe(word & 0x7fff_ffff);
    expect(intrReg.unmask(word)).toBe(0x1);
  });

  test("devCtlReg: a reason above 15 needs a device that knows both halves", () => {
    expect(devCtlReg.packReset(ResetReason.DEVICE_REQUEST, true)).toBe(0x31000001);
    expect(devCtlReg.reason(0x31000001)).toBe(ResetReason.DEVICE_REQUEST);
    const told = devCtlReg.packReset(ResetReason.DEVICE_REQUEST, false);
    expect(devCtlReg.reason(told)).toBe(ResetReason.GENERIC);
    expect(devCtlReg.packReset(ResetReason.SUSPECTED_POLL_STARVATION, false)).toBe(0xf0000001);
  });
});
