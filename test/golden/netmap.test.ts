/**
 * netmap_slot, netmap_ring and netmap_if, compared with bytes printed by a C program that was
 * compiled with netmap's own header (x86-64, gcc).
 */
import { describe, expect, test } from "vitest";
import { Ns, RingFlag } from "../../frontend/netmap/flags.ts";
import {
  bufsHead,
  parseIf,
  RING_BYTES,
  ringBytes,
  ringOfs,
  setBufsHead,
  setRingOfs,
  writeIf,
  writeRing,
} from "../../frontend/netmap/layout.ts";
import { NetmapRing } from "../../frontend/netmap/ring.ts";

const SLOT = "0403020106050807100f0e0d0c0b0a09";
const RING_HEAD = "785634120000000002000000000800000300010004000000050000000600000006000000";
const RING_TS = "00000000" + "00bca0650000000090d0030000000000";
const SLOTS = "0700000008000900" + "0000000000000000" + "0a00000042412100" + "6756453423120100";
const IF =
  "656e6130000000000000000000000000" +
  "00000000010000000400000003000000" +
  "99000000020000000100000000000000" +
  "0000000000000000" +
  "0000010000000000" +
  "00fcffffffffffff";

/** Memory full of junk, so that a byte that is never written is noticed. */
function junk(bytes: number): SharedArrayBuffer {
  const region = new SharedArrayBuffer(bytes);
  new Uint8Array(region).fill(0xa5);
  return region;
}
const hexOf = (region: SharedArrayBuffer, at: number, length: number): string =>
  Buffer.from(region, at, length).toString("hex");

/** The ring of the C program: two slots, its header in the middle of the region. */
function cRing(region: SharedArrayBuffer, at: number): NetmapRing {
  writeRing(new DataView(region), at, {
    bufOfs: 0x12345678,
    slots: 2,
    bufSize: 2048,
    ringId: 3,
    dir: 1,
    head: 4,
    cur: 5,
    tail: 6,
  });
  return new NetmapRing(region, at);
}

describe("netmap_slot", () => {
  test("is written byte for byte as the C structure, inside slot 1 and nowhere else", () => {
    const region = junk(ringBytes(3));
    const ring = cRing(region, 0);
    new Uint8Array(region, RING_BYTES).fill(0xa5);
    ring.setBufIdx(1, 0x01020304);
    ring.setLen(1, 0x0506);
    ring.setSlotFlags(1, 0x0708);
    ring.view.setBigUint64(RING_BYTES + 16 + 8, 0x090a0b0c0d0e0f10n, true);
    expect(hexOf(region, RING_BYTES, 48)).toBe("a5".repeat(16) + SLOT + "a5".repeat(16));
  });

  test("is read field by field", () => {
    const region = junk(ringBytes(2));
    const ring = cRing(region, 0);
    Buffer.from(region, RING_BYTES).write(SLOT, 16, "hex");
    expect(ring.bufIdx(1)).toBe(0x01020304);
    expect(ring.len(1)).toBe(0x0506);
    expect(ring.slotFlags(1)).toBe(0x0708);
    // A value beyond the safe integers reads as infinity.
    expect(ring.ptr(1)).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("netmap_ring", () => {
  test("header and slots are written byte for byte", () => {
    const region = junk(ringBytes(2) + 128);
    const ring = cRing(region, 64);
    ring.flags = RingFlag.TIMESTAMP | RingFlag.FORWARD;
    ring.timestampUs = 0x65a0bc00 * 1e6 + 250_000;
    ring.setSlot(0, 7, 8, 9);
    ring.setSlot(1, 10, 0x4142, Ns.MOREFRAG | Ns.BUF_CHANGED);
    ring.setPtr(1, 0x1122334455667);
    const want = RING_HEAD + RING_TS + "00".repeat(RING_BYTES - 56) + SLOTS;
    expect(hexOf(region, 64, ringBytes(2))).toBe(want);
    expect(hexOf(region, 0, 64)).toBe("a5".repeat(64));
    expect(hexOf(region, 64 + ringBytes(2), 64)).toBe("a5".repeat(64));
  });

  test("is read from the C program's bytes", () => {
    const region = junk(ringBytes(2));
    const bytes = RING_HEAD + RING_TS + "00".repeat(RING_BYTES - 56) + SLOTS;
    Buffer.from(region).write(bytes, "hex");
    const ring = new NetmapRing(region, 0);
    expect([ring.numSlots, ring.bufSize, ring.ringId, ring.dir]).toEqual([2, 2048, 3, 1]);
    expect([ring.head, ring.cur, ring.tail, ring.flags]).toEqual([4, 5, 6, 6]);
    expect(ring.timestampUs).toBe(0x65a0bc00 * 1e6 + 250_000);
    expect(ring.buffersAt).toBe(0x12345678);
    expect([ring.bufIdx(0), ring.len(0), ring.slotFlags(0), ring.ptr(0)]).toEqual([7, 8, 9, 0]);
    expect(ring.ptr(1)).toBe(0x1122334455667);
  });
});

describe("netmap_if", () => {
  test("is written byte for byte, offsets before it and behind it", () => {
    const region = junk(128);
    const v = new DataView(region);
    writeIf(v, 8, {
      name: "ena0",
      flags: 1,
      txRings: 4,
      rxRings: 3,
      hostTxRings: 2,
      hostRxRings: 1,
    });
    setBufsHead(v, 8, 0x99);
    setRingOfs(v, 8, 0, 0x10000);
    setRingOfs(v, 8, 1, -0x400);
    expect(hexOf(region, 8, 72)).toBe(IF);
    expect(hexOf(region, 80, 48)).toBe("a5".repeat(48));
  });

  test("is read, and a name of 16 characters loses its last", () => {
    const region = junk(128);
    Buffer.from(region).write(IF, "hex");
    const v = new DataView(region);
    const fields = parseIf(v, 0);
    expect(fields).toEqual({
      name: "ena0",
      flags: 1,
      txRings: 4,
      rxRings: 3,
      hostTxRings: 2,
      hostRxRings: 1,
    });
    expect([bufsHead(v, 0), ringOfs(v, 0, 0), ringOfs(v, 0, 1)]).toEqual([0x99, 0x10000, -0x400]);
    writeIf(v, 0, { ...fields, name: "sixteen-letters!" });
    expect(parseIf(v, 0).name).toBe("sixteen-letters");
  });
});
