import { describe, expect, it } from "vitest";
import {
  BROADCAST_KEY,
  formatMac,
  formatMacKey,
  isGroupKey,
  isReservedKey,
  macFromName,
  macKey,
  parseMac,
  parseUnicastMac,
  writeMacKey,
} from "../../shared/net/ethernet.ts";

describe("MAC addresses", () => {
  it("go to a key and back", () => {
    for (const text of ["00:00:00:00:00:01", "02:ff:80:7f:00:fe", "ff:ff:ff:ff:ff:ff"]) {
      const key = macKey(parseMac(text), 0);
      const bytes = new Uint8Array(8).fill(0xa5);
      writeMacKey(key, bytes, 1);
      expect(formatMac(bytes, 1)).toBe(text);
      expect([bytes[0], bytes[7]]).toEqual([0xa5, 0xa5]);
      expect(formatMacKey(key)).toBe(text);
    }
    expect(macKey(parseMac("ff-ff-ff-ff-ff-ff"), 0)).toBe(BROADCAST_KEY);
    expect(macKey(parseMac("12:34:56:78:9a:bc"), 0)).toBe(0x1234_5678_9abc);
  });

  it("tell group and reserved addresses", () => {
    expect(isGroupKey(0x0100_5e00_0001)).toBe(true);
    expect(isGroupKey(BROADCAST_KEY)).toBe(true);
    expect(isGroupKey(0x02ff_ffff_ffff)).toBe(false);
    expect(isReservedKey(0x0180_c200_0000)).toBe(true);
    expect(isReservedKey(0x0180_c200_000f)).toBe(true);
    expect(isReservedKey(0x0180_c200_0010)).toBe(false);
    expect(isReservedKey(0x0180_c1ff_ffff)).toBe(false);
  });

  it("are refused with a sentence that names the text", () => {
    for (const text of [
      "",
      "02:00:00:00:00",
      "02:00:00:00:00:0g",
      "020000000001",
      "02:00:00:00:00:100",
    ]) {
      expect(() => parseMac(text)).toThrow(`"${text}" is not a MAC address`);
    }
    expect(() => parseUnicastMac("01:00:00:00:00:01")).toThrow("group address");
    expect(() => parseUnicastMac("00:00:00:00:00:00")).toThrow("all-zero");
  });

  it("from a name are stable, local, unicast and do not collide for like names", () => {
    expect(macFromName("vm1", "default")).toEqual(macFromName("vm1", "default"));
    const seen = new Set<string>();
    for (let i = 0; i < 2000; i++) {
      for (const mac of [macFromName(`n${i}`, "a"), macFromName("n", `${i}`)]) {
        expect(mac[0]! & 3).toBe(2);
        seen.add(formatMac(mac));
      }
    }
    expect(seen.size).toBe(4000);
    // The border between segment and name is part of what is hashed.
    expect(macFromName("bc", "a")).not.toEqual(macFromName("c", "ab"));
  });
});
