/**
 * Grant entries and the structures of grant_table_op, byte for byte. How the hex was made: see
 * xen-netif.test.ts. A record on the wire is a reference and such an entry.
 */
import { describe, expect, test } from "vitest";
import {
  END_GRANT_RECORD_SIZE,
  endGrantRecord,
  GRANT_ENTRY_V1_SIZE,
  GRANT_ENTRY_V2_SIZE,
  GRANT_RECORD_ENTRY,
  GRANT_RECORD_V1_SIZE,
  GRANT_RECORD_V2_SIZE,
  GRANT_USE_RECORD_SIZE,
  GrantType,
  grantEntry,
  grantRecord,
  grantRef,
  grantUseRecord,
} from "../../shared/xen/grant.ts";
import {
  gnttabCopy,
  gnttabGetStatusFrames,
  gnttabGetVersion,
  gnttabMapGrantRef,
  gnttabQuerySize,
  gnttabSetupTable,
  gnttabSetVersion,
  gnttabTransfer,
  gnttabUnmapGrantRef,
} from "../../shared/xen/grant-ops.ts";
import { golden, inJunk, writtenHex } from "./ena-golden.ts";
import { decodes, encodes } from "./xen-golden.ts";

const V1_HEX = "1500f17f98badcfe";
const V1 = { flags: 0x15, domid: 0x7ff1, frame: 0xfedcba98 };
const FULL_HEX = "8100020100000000efcdab7856341200";
const FULL = { flags: 0x81, domid: 0x0102, frame: 0x12345678abcdef };
const SUB_HEX = "05010300bc0a2301ffff0f0000000000";
const SUB = { flags: 0x105, domid: 3, pageOff: 0xabc, length: 0x123, frame: 0xfffff };
const TRANSITIVE_HEX = "0300040006050000b0a0908000000000";

const REFERENCE = 0x81828384;
/** The field readers for an entry of one version. */
const entry = (version: 1 | 2) => ({
  ...grantEntry,
  frame: (view: DataView, at: number) => grantEntry.frame(view, at, version),
});

describe("grant_entry_v1", () => {
  test("8 bytes", () => expect(V1_HEX.length).toBe(2 * GRANT_ENTRY_V1_SIZE));
  test("decodes", () => decodes(V1_HEX, V1, entry(1)));
});

describe("grant_entry_v2", () => {
  test("16 bytes", () => expect(FULL_HEX.length).toBe(2 * GRANT_ENTRY_V2_SIZE));
  test("a full page decodes", () => decodes(FULL_HEX, FULL, entry(2)));
  test("part of a page decodes", () => decodes(SUB_HEX, SUB, entry(2)));
  test("a transitive grant is known for what it is", () => {
    decodes(TRANSITIVE_HEX, { flags: 3, domid: 4, transDomid: 0x506, gref: 0x8090a0b0 }, entry(2));
    const { view, at } = inJunk(GRANT_ENTRY_V2_SIZE, TRANSITIVE_HEX);
    expect(grantEntry.typeOf(grantEntry.flags(view, at))).toBe(GrantType.TRANSITIVE);
  });
});

describe("records of the wire", () => {
  test.each([
    ["version 1", 1, V1_HEX, V1, GRANT_RECORD_V1_SIZE],
    ["version 2", 2, FULL_HEX, FULL, GRANT_RECORD_V2_SIZE],
    ["version 2, part of a page", 2, SUB_HEX, SUB, GRANT_RECORD_V2_SIZE],
  ] as const)(
    "grant, %s: reference and entry, every byte",
    (_, version, entryHex, fields, size) => {
      const hex = `84838281${entryHex}`;
      expect([hex.length, GRANT_RECORD_ENTRY]).toEqual([2 * size, 4]);
      decodes(hex, { reference: REFERENCE }, grantRecord);
      const { flags, domid, frame, pageOff, length } = { pageOff: 0, length: 0, ...fields };
      encodes(hex, (v, at) =>
        grantRecord.write(
          v,
          at,
          version,
          grantRef(REFERENCE),
          flags,
          domid,
          frame,
          pageOff,
          length,
        ),
      );
    },
  );
  test("end_grant: the reference", () => {
    expect(END_GRANT_RECORD_SIZE).toBe(4);
    decodes("84838281", { reference: 0x81828384 }, endGrantRecord);
    encodes("84838281", (v, at) => endGrantRecord.write(v, at, grantRef(0x81828384)));
  });
  test("grant_use: reference and signed changes", () => {
    const hex = "84838281feff0300";
    expect(hex.length).toBe(2 * GRANT_USE_RECORD_SIZE);
    decodes(hex, { reference: 0x81828384, readers: -2, writers: 3 }, grantUseRecord);
    encodes(hex, (v, at) => grantUseRecord.write(v, at, grantRef(0x81828384), -2, 3));
  });
});

const MAP_HEX = "60504030201000000600000084838281f07ffdff94939291f0e1d1c1b1a10100";

describe("grant_table_op", () => {
  golden("gnttab_map_grant_ref", gnttabMapGrantRef, 32, MAP_HEX, {
    hostAddr: 0x102030405060,
    flags: 6,
    ref: 0x81828384,
    dom: 0x7ff0,
    status: -3,
    handle: 0x91929394,
    devBusAddr: 0x1a1b1c1d1e1f0,
  });
  golden(
    "gnttab_unmap_grant_ref",
    gnttabUnmapGrantRef,
    24,
    "6050403020100000f0e1d1c1b1a1010094939291fcff0000",
    { hostAddr: 0x102030405060, devBusAddr: 0x1a1b1c1d1e1f0, handle: 0x91929394, status: -4 },
  );
  golden(
    "gnttab_setup_table",
    gnttabSetupTable,
    24,
    "f07f000004030201feff0000000000006756453423120100",
    { dom: 0x7ff0, nrFrames: 0x01020304, status: -2, frameList: 0x1122334455667 },
  );
  golden(
    "gnttab_transfer",
    gnttabTransfer,
    24,
    "675645342312010008070000c1b1a191f7ff000000000000",
    { mfn: 0x1122334455667, domid: 0x708, ref: 0x91a1b1c1, status: -9 },
  );
  golden(
    "gnttab_copy",
    gnttabCopy,
    40,
    "84838281000000000201bc0a00000000" + "7766554433221100f07f100000000000dc050100f6ff0000",
    {
      sourceRef: 0x81828384,
      sourceFrameHigh: 0,
      sourceDomid: 0x0102,
      sourceOffset: 0xabc,
      destRef: 0x44556677,
      destFrameHigh: 0x00112233,
      destDomid: 0x7ff0,
      destOffset: 0x10,
      len: 0x5dc,
      flags: 1,
      status: -10,
    },
  );
  golden("gnttab_query_size", gnttabQuerySize, 16, "f07f000004030201d0c0b0a0f8ff0000", {
    dom: 0x7ff0,
    nrFrames: 0x01020304,
    maxNrFrames: 0xa0b0c0d0,
    status: -8,
  });
  golden("gnttab_set_version", gnttabSetVersion, 4, "02000000", { version: 2 });
  golden(
    "gnttab_get_status_frames",
    gnttabGetStatusFrames,
    16,
    "040302010605ffff6756453423120100",
    { nrFrames: 0x01020304, dom: 0x506, status: -1, frameList: 0x1122334455667 },
  );
  golden("gnttab_get_version", gnttabGetVersion, 8, "0605000004030201", {
    dom: 0x506,
    version: 0x01020304,
  });

  test("what is OUT is filled in without touching the guest's words, kernel addresses included", () => {
    const kernel = "0000008081ffffff0600000084838281f07f0000000000000000000000000000";
    const { bytes, view, at } = inJunk(32, kernel);
    gnttabMapGrantRef.patch(view, at, { status: -3, handle: 0x91929394 });
    expect(writtenHex(bytes)).toBe(
      "0000008081ffffff0600000084838281f07ffdff949392910000000000000000",
    );
  });
});
