import { describe, expect, it } from "vitest";
import {
  formatMac,
  formatMacParts,
  isGroup,
  isReserved,
  isZero,
  macFromName,
  macHigh,
  macKey,
  macLow,
  parseMac,
  parseUnicastMac,
} from "../../shared/net/ethernet.ts";

describe("MAC addresses", () => {
  it("go to numbers and back", () => {
    for (const text of ["00:00:00:00:00:01", "02:ff:80:7f:00:fe", "ff:ff:ff:ff:ff:ff"]) {
      const bytes = Uint8Array.of(0xa5, ...parseMac(text), 0xa5);
      expect(formatMac(bytes, 1)).toBe(text);
      expect(formatMacParts(macHigh(bytes, 1), macLow(bytes, 1))).toBe(text);
    }
    expect(macKey(parseMac("12:34:56:78:9a:bc"), 0)).toBe(0x1234_5678_9abc);
    expect(macKey(parseMac("ff-ff-ff-ff-ff-ff"), 0)).toBe(0xffff_ffff_ffff);
  });

  it("tell group, zero and reserved addresses", () => {
    const is = (test: (high: number, low: number) => boolean, text: string): boolean => {
      const bytes = parseMac(text);
      return test(macHigh(bytes, 0), macLow(bytes, 0));
    };
    expect(is(isGroup, "01:00:5e:00:00:01")).toBe(true);
    expect(is(isGroup, "ff:ff:ff:ff:ff:ff")).toBe(true);
    expect(is(isGroup, "02:ff:ff:ff:ff:ff")).toBe(false);
    expect(is(isZero, "00:00:00:00:00:00")).toBe(true);
    expect(is(isZero, "00:01:00:00:00:00")).toBe(false);
    expect(is(isZero, "00:00:80:00:00:00")).toBe(false);
    expect(is(isReserved, "01:80:c2:00:00:00")).toBe(true);
    expect(is(isReserved, "01:80:c2:00:00:0f")).toBe(true);
    expect(is(isReserved, "01:80:c2:00:00:10")).toBe(false);
    expect(is(isReserved, "00:80:c2:00:00:00")).toBe(false);
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
    // The boundary between segment and name is hashed too.
    expect(macFromName("bc", "a")).not.toEqual(macFromName("c", "ab"));
  });
});
