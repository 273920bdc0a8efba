import { describe, expect, it } from "vitest";
import type { Mapping } from "../../device/xen/grant-table.ts";
import { StateKind } from "../../shared/wire/link-state.ts";
import { WireError } from "../../shared/wire/protocol.ts";
import { GuestGrants, grantsOf } from "../support/guest-grants.ts";
import { stateParts, stateRecords } from "../support/link-state.ts";

// Numbers of xen/include/public/grant_table.h, written out, so that the table is checked against
// the header and not against our own constants.
const PERMIT = 1;
const TRANSFER = 2;
const TRANSITIVE = 3;
const READONLY = 4;
const SUB_PAGE = 0x100;
const OKAY = 0;
const GENERAL = -1;
const BAD_GNTREF = -3;
const BAD_HANDLE = -4;
const BAD_PAGE = -9;
const BAD_COPY_ARG = -10;
const NO_SPACE = -13;

const page = (flags = PERMIT, domid = 0, frame = 0x1234) => ({ flags, domid, frame });

function refusal(act: () => void): WireError {
  try {
    act();
  } catch (error) {
    if (error instanceof WireError) return error;
    throw error;
  }
  throw new Error("not refused");
}

describe("references", () => {
  it.each([
    [1, 512, 32768],
    [2, 256, 16384],
  ])(
    "fault-E1: version %i, out of range, never granted, ended, wrong type",
    (version, perFrame, most) => {
      const guest = new GuestGrants();
      const { table } = guest;
      expect(table.setVersion(version)).toBe(0);
      const both = (reference: number) => [
        table.map(reference, true, 0),
        table.checkCopy(reference, 0, 1, false, 0),
        table.checkCopy(reference, 0, 1, true, 0),
      ];
      for (const reference of [0, 1, 7, 8, perFrame - 1]) {
        expect(both(reference), `never granted ${reference}`).toEqual([GENERAL, GENERAL, GENERAL]);
      }
      for (const reference of [perFrame, most - 1, most, 0xffffffff]) {
        expect(both(reference), `out of range ${reference}`).toEqual([
          BAD_GNTREF,
          BAD_GNTREF,
          BAD_GNTREF,
        ]);
      }
      guest.grant([[most - 1, page()]]);
      expect(table.frames).toBe(64);
      expect(both(most - 1).slice(1)).toEqual([OKAY, OKAY]);
      guest.grant([[9, page()]]);
      expect(table.checkCopy(9, 0, 1, false, 0)).toBe(OKAY);
      guest.end(9);
      expect(both(9)).toEqual([GENERAL, GENERAL, GENERAL]);
      for (const type of [0, TRANSFER, TRANSITIVE]) {
        guest.grant([[9, page(type)]]);
        expect(both(9), `type ${type}`).toEqual([GENERAL, GENERAL, GENERAL]);
        expect(table.pin(9, false)).toBe(GENERAL);
        expect(table.frameOf(9)).toBe(-1);
      }
    },
  );

  it("fault-E2: granted to another domain", () => {
    const guest = new GuestGrants();
    guest.grant([[8, page(PERMIT, 3)]]);
    expect(guest.table.map(8, true, 0)).toBe(GENERAL);
    expect(guest.table.checkCopy(8, 0, 8, false, 0)).toBe(GENERAL);
    expect(guest.table.checkCopy(8, 0, 8, false, 3)).toBe(OKAY);
    guest.map(8, true, 3);
  });

  it("records beyond the table or of another version end the connection", () => {
    const guest = new GuestGrants({ maxFrames: 2 });
    const tooFar = refusal(() =>
      guest.grant([
        [8, page()],
        [1024, page()],
      ]),
    );
    expect(tooFar.code).toBe("GRANT_REFERENCE");
    expect(tooFar.message).toBe("grant: record 1: reference 1024, the table ends at 1024");
    expect(guest.table.frameOf(8)).toBe(0x1234);
    expect(refusal(() => guest.end(8, 1024)).message).toBe(
      "end_grant: record 1: reference 1024, the table ends at 1024",
    );
    expect(guest.table.frameOf(8)).toBe(-1);
    expect(refusal(() => guest.grant([[8, page()]], 2)).code).toBe("GRANT_VERSION");
  });

  it("a frame without a bus address is a bad page", () => {
    const guest = new GuestGrants();
    guest.table.setVersion(2);
    guest.grant([
      [8, page(PERMIT, 0, 2 ** 36)],
      [9, page(PERMIT, 0, 2 ** 36 - 1)],
    ]);
    expect(guest.table.map(8, true, 0)).toBe(BAD_PAGE);
    expect(guest.table.checkCopy(8, 0, 1, false, 0)).toBe(BAD_PAGE);
    expect(guest.table.checkCopy(9, 0, 1, false, 0)).toBe(OKAY);
  });

  it("a guest can't set the in-use bits, which are ours", () => {
    const guest = new GuestGrants();
    guest.grant([[8, page(PERMIT | 8 | 16)]]);
    expect(guest.table.usesOf(8)).toEqual({ readers: 0, writers: 0 });
    guest.end(8);
    expect(guest.table.frameOf(8)).toBe(-1);
  });
});

describe("modes", () => {
  const table: [entry: string, flags: number, operation: string, expected: number][] = [
    ["rw", PERMIT, "copy out", OKAY],
    ["rw", PERMIT, "copy in", OKAY],
    ["rw", PERMIT, "map ro", OKAY],
    ["rw", PERMIT, "map rw", OKAY],
    ["rw", PERMIT, "pin ro", OKAY],
    ["rw", PERMIT, "pin rw", OKAY],
    ["ro", PERMIT | READONLY, "copy out", OKAY],
    ["ro", PERMIT | READONLY, "copy in", GENERAL],
    ["ro", PERMIT | READONLY, "map ro", OKAY],
    ["ro", PERMIT | READONLY, "map rw", GENERAL],
    ["ro", PERMIT | READONLY, "pin ro", OKAY],
    ["ro", PERMIT | READONLY, "pin rw", GENERAL],
  ];
  it.each(table)("fault-E3: %s (flags %i), %s: %i", (_entry, flags, operation, expected) => {
    const guest = new GuestGrants();
    guest.grant([[8, page(flags)]]);
    const write = operation.endsWith("rw") || operation.endsWith("in");
    let status: number | Mapping;
    if (operation.startsWith("copy")) status = guest.table.checkCopy(8, 0, 4096, write, 0);
    else if (operation.startsWith("pin")) status = guest.table.pin(8, write);
    else status = guest.table.map(8, write, 0);
    expect(typeof status === "number" ? status : OKAY).toBe(expected);
    guest.table.flushUses();
    const told = expected === OKAY && !operation.startsWith("copy");
    expect(guest.told).toEqual(told ? [{ reference: 8, readers: 1, writers: write ? 1 : 0 }] : []);
  });
});

describe("copies", () => {
  const bounds: [offset: number, length: number, expected: number][] = [
    [0, 1, OKAY],
    [0, 4096, OKAY],
    [1, 4095, OKAY],
    [1, 4096, BAD_COPY_ARG],
    [4095, 1, OKAY],
    [4095, 2, BAD_COPY_ARG],
    [4096, 1, BAD_COPY_ARG],
    [4096, 0, OKAY],
    [0xffff, 0xffff, BAD_COPY_ARG],
    [0xffff, 0, OKAY],
  ];
  it.each(bounds)("fault-E6: %i+%i: %i", (offset, length, expected) => {
    const guest = new GuestGrants();
    guest.grant([[8, page()]]);
    expect(guest.table.checkCopy(8, offset, length, false, 0)).toBe(expected);
    expect(guest.table.checkCopy(8, offset, length, true, 0)).toBe(expected);
  });

  const parts: [offset: number, length: number, expected: number][] = [
    [0x100, 0x200, OKAY],
    [0x100, 1, OKAY],
    [0x2ff, 1, OKAY],
    [0xff, 1, GENERAL],
    [0xff, 2, GENERAL],
    [0x2ff, 2, GENERAL],
    [0x300, 1, GENERAL],
    [0, 4096, GENERAL],
    [0x300, 4096, BAD_COPY_ARG],
    [0xff, 0, OKAY],
  ];
  it.each(parts)("a part of a page, 0x100 to 0x2ff: %i+%i: %i", (offset, length, expected) => {
    const guest = new GuestGrants();
    guest.table.setVersion(2);
    guest.grant([[8, { ...page(PERMIT | SUB_PAGE), pageOff: 0x100, length: 0x200 }]]);
    expect(guest.table.checkCopy(8, offset, length, false, 0)).toBe(expected);
  });

  it("a part of a page is copied, never mapped; version 1 has no parts", () => {
    const guest = new GuestGrants();
    guest.grant([[8, page(PERMIT | SUB_PAGE)]]);
    expect(guest.table.map(8, true, 0)).toBe(GENERAL);
    expect(guest.table.checkCopy(8, 0, 4096, false, 0)).toBe(OKAY);
    guest.end(8);
    guest.table.setVersion(2);
    guest.grant([[8, { ...page(PERMIT | SUB_PAGE), pageOff: 0, length: 4096 }]]);
    expect(guest.table.map(8, true, 0)).toBe(GENERAL);
    expect(guest.table.map(8, false, 0)).toBe(GENERAL);
  });
});

describe("mappings", () => {
  it("fault-E4: mapped twice, unmapped twice, for another domain", () => {
    const guest = new GuestGrants();
    const { table } = guest;
    guest.grant([
      [8, page()],
      [9, page(PERMIT, 3)],
    ]);
    expect(table.map(9, true, 0)).toBe(GENERAL);
    const first = guest.map(8);
    const second = guest.map(8, false);
    guest.map(9, true, 3);
    expect(table.usesOf(8)).toEqual({ readers: 2, writers: 1 });
    expect(second).toMatchObject({ reference: 8, frame: 0x1234, write: false });
    expect(table.unmap(first)).toBe(OKAY);
    expect(table.unmap(first)).toBe(BAD_HANDLE);
    expect(table.reaches(first)).toBe(false);
    expect(table.usesOf(8)).toEqual({ readers: 1, writers: 0 });
    expect(table.usesOf(9)).toEqual({ readers: 1, writers: 1 });
  });

  it("fault-E8: a guest has its most mappings, and recovers; another guest does not notice", () => {
    const guest = new GuestGrants({ maxMappings: 3 });
    const other = new GuestGrants({ domid: 2, maxMappings: 3 });
    guest.grant([[8, page()]]);
    other.grant([[8, page()]]);
    const mappings = [0, 1, 2].map(() => guest.map(8));
    expect(guest.table.map(8, true, 0)).toBe(NO_SPACE);
    other.map(8);
    expect(guest.table.usesOf(8).readers).toBe(3);
    expect(guest.table.unmap(mappings[1]!)).toBe(OKAY);
    guest.map(8);
    expect(guest.table.map(8, true, 0)).toBe(NO_SPACE);
  });
});

describe("uses", () => {
  it("tells what outlasts a flush, net, once an entry", () => {
    const guest = new GuestGrants();
    const { table } = guest;
    guest.grant([
      [8, page()],
      [9, page()],
    ]);
    table.pin(8, false);
    table.unpin(8, false);
    table.flushUses();
    expect(guest.told).toEqual([]);
    table.pin(9, true);
    table.pin(8, false);
    table.pin(8, false);
    table.flushUses();
    expect(guest.told).toEqual([
      { reference: 9, readers: 1, writers: 1 },
      { reference: 8, readers: 2, writers: 0 },
    ]);
    table.flushUses();
    expect(guest.told).toHaveLength(2);
    table.unpin(8, false);
    table.unpin(8, false);
    table.unpin(9, true);
    table.pin(9, false);
    table.flushUses();
    expect(guest.told.slice(2)).toEqual([
      { reference: 8, readers: -2, writers: 0 },
      { reference: 9, readers: 0, writers: -1 },
    ]);
  });

  it("more uses of one entry than can be told are refused", () => {
    const guest = new GuestGrants();
    guest.grant([[8, page()]]);
    for (let i = 0; i < 32767; i++) guest.table.pin(8, i % 2 === 0);
    expect(guest.table.pin(8, false)).toBe(GENERAL);
    expect(guest.table.pin(8, true)).toBe(GENERAL);
    expect(guest.table.map(8, true, 0)).toBe(GENERAL);
    guest.table.flushUses();
    expect(guest.told).toEqual([{ reference: 8, readers: 32767, writers: 16384 }]);
    guest.table.unpin(8, true);
    expect(guest.table.pin(8, false)).toBe(OKAY);
  });

  it("an entry that ends in use grants nothing more, and its uses are counted until they end", () => {
    const guest = new GuestGrants();
    const { table } = guest;
    guest.grant([[8, page()]]);
    table.pin(8, false);
    const handle = guest.map(8, true);
    table.flushUses();
    expect(table.reaches(handle)).toBe(true);
    guest.end(8);
    expect([
      table.checkCopy(8, 0, 1, false, 0),
      table.checkCopy(8, 0, 1, true, 0),
      table.pin(8, false),
      table.map(8, false, 0),
      table.frameOf(8),
    ]).toEqual([GENERAL, GENERAL, GENERAL, GENERAL, -1]);
    expect(table.reaches(handle)).toBe(false);
    expect(table.usesOf(8)).toEqual({ readers: 2, writers: 1 });
    expect(table.snapshot()).toMatchObject({ granted: 0, inUse: 1, mapped: 1, endedInUse: 1 });
    // A second end changes nothing.
    guest.end(8);
    expect(table.snapshot()).toMatchObject({ endedInUse: 1 });
    table.unpin(8, false);
    table.flushUses();
    expect(table.unmap(handle)).toBe(OKAY);
    expect(table.unmap(handle)).toBe(BAD_HANDLE);
    table.flushUses();
    expect(guest.told).toEqual([
      { reference: 8, readers: 2, writers: 1 },
      { reference: 8, readers: -1, writers: 0 },
      { reference: 8, readers: -1, writers: -1 },
    ]);
  });

  it("an entry granted anew under old uses is a new one: a mapping of the old does not reach it", () => {
    const guest = new GuestGrants();
    const { table } = guest;
    guest.grant([[8, page()]]);
    const old = guest.map(8, true);
    guest.end(8);
    guest.grant([[8, page(PERMIT | READONLY, 0, 0x5678)]]);
    expect(table.frameOf(8)).toBe(0x5678);
    expect(table.reaches(old)).toBe(false);
    const fresh = guest.map(8, false);
    expect(fresh).toMatchObject({ reference: 8, frame: 0x5678, write: false });
    expect(table.usesOf(8)).toEqual({ readers: 2, writers: 1 });
    // The same without an end in between.
    guest.grant([[8, page(PERMIT, 0, 0x9abc)]]);
    expect([table.reaches(old), table.reaches(fresh)]).toEqual([false, false]);
    expect(table.snapshot()).toMatchObject({ granted: 1, readers: 2, mapped: 2, endedInUse: 2 });
    table.unmap(old);
    table.unmap(fresh);
    table.flushUses();
    expect(guest.told).toEqual([]);
  });

  it("an entry that ended in use keeps the table's version until the use ends", () => {
    const guest = new GuestGrants();
    guest.grant([[8, page()]]);
    guest.table.pin(8, true);
    guest.end(8);
    expect(guest.table.setVersion(2)).toBe(-16);
    guest.table.unpin(8, true);
    expect(guest.table.setVersion(2)).toBe(0);
  });

  it("a use that ends without having begun is our own mistake", () => {
    const guest = new GuestGrants();
    guest.grant([[8, page()]]);
    guest.table.pin(8, false);
    expect(() => guest.table.unpin(8, true)).toThrow("grant 8 of domain 1");
    expect(() => guest.table.unpin(9, false)).toThrow("never began");
    expect(() => guest.table.unpin(0xffffffff, false)).toThrow("never began");
    guest.table.unpin(8, false);
  });

  it("the domain died: nothing is left, nobody is told, late ends are harmless", () => {
    const guest = new GuestGrants();
    const { table } = guest;
    guest.grant([[8, page()]]);
    const handle = guest.map(8, true);
    table.pin(8, false);
    table.revokeAll();
    table.flushUses();
    expect(guest.told).toEqual([]);
    expect(table.reaches(handle)).toBe(false);
    expect(table.unmap(handle)).toBe(BAD_HANDLE);
    table.unpin(8, false);
    expect(table.map(8, true, 0)).toBe(BAD_GNTREF);
    expect(table.checkCopy(8, 0, 1, false, 0)).toBe(BAD_GNTREF);
    expect(table.frameOf(8)).toBe(-1);
    expect(table.usesOf(8)).toEqual({ readers: 0, writers: 0 });
    expect(table.snapshot()).toMatchObject({ granted: 0, inUse: 0, readers: 0, mapped: 0 });
  });
});

describe("versions", () => {
  it("changes unless an entry is in use; all but the reserved entries become 0", () => {
    const guest = new GuestGrants();
    const { table } = guest;
    guest.grant([
      [1, page(PERMIT, 0, 0x77)],
      [7, page(PERMIT | READONLY, 0, 0x78)],
      [8, page()],
      [511, page()],
    ]);
    table.pin(1, false);
    const handle = guest.map(8, true);
    expect(table.setVersion(2)).toBe(-16);
    expect(table.version).toBe(1);
    expect(table.frameOf(8)).toBe(0x1234);
    table.unmap(handle);
    expect(table.setVersion(3)).toBe(-22);
    expect(table.setVersion(2)).toBe(0);
    expect(table.version).toBe(2);
    expect([table.frameOf(1), table.frameOf(7), table.frameOf(8)]).toEqual([0x77, 0x78, -1]);
    expect(table.checkCopy(7, 0, 1, true, 0)).toBe(GENERAL);
    expect(table.checkCopy(511, 0, 1, false, 0)).toBe(BAD_GNTREF);
    table.unpin(1, false);
    expect(table.setVersion(1)).toBe(0);
    expect(table.checkCopy(511, 0, 1, false, 0)).toBe(GENERAL);
    expect(table.frameOf(7)).toBe(0x78);
  });

  it("a reserved entry that version 1 can't hold keeps version 2", () => {
    const guest = new GuestGrants();
    guest.table.setVersion(2);
    guest.grant([
      [0, page(TRANSFER)],
      [1, page(PERMIT, 0, 2 ** 32)],
    ]);
    expect(guest.table.setVersion(1)).toBe(-34);
    expect(guest.table.version).toBe(2);
    expect(guest.table.frameOf(1)).toBe(2 ** 32);
    guest.end(1);
    expect(guest.table.setVersion(1)).toBe(0);
  });

  it.each([0, 1, 7])(
    "reserved entry %i counts, the longest frame number fits, other types go",
    (i) => {
      const { guest, table } = second();
      guest.grant([[i, page(PERMIT, 0, 0xffff_ffff)]]);
      expect(table.setVersion(1)).toBe(0);
      expect([table.frameOf(i), table.setVersion(2), table.frameOf(i)]).toEqual([
        0xffff_ffff, 0, 0xffff_ffff,
      ]);
      guest.grant([[i, { ...page(PERMIT | SUB_PAGE), pageOff: 0, length: 4096 }]]);
      expect([table.setVersion(1), table.version]).toEqual([-34, 2]);
      // Only an entry that permits access has to fit, and only the reserved ones stay.
      guest.grant([[i, page(TRANSFER, 0, 2 ** 32)]]);
      guest.grant([[8, page(PERMIT, 0, 2 ** 32)]]);
      expect(table.setVersion(1)).toBe(0);
      const flags = stateRecords(
        stateParts((state) => table.tellState(state)),
        StateKind.GRANT_V1,
      );
      expect(flags).toEqual([]);
      expect(table.setVersion(1)).toBe(0);
    },
  );

  it("the version that it has is no change, whatever is in use", () => {
    const guest = new GuestGrants();
    guest.grant([[9, page()]]);
    guest.map(9, true);
    expect([guest.table.setVersion(1), guest.table.frameOf(9)]).toEqual([0, 0x1234]);
    expect(guest.table.setVersion(2)).toBe(-16);
  });

  const second = () => {
    const guest = new GuestGrants();
    guest.table.setVersion(2);
    return { guest, table: guest.table };
  };

  it("grows to its limit and never shrinks", () => {
    const { table } = new GuestGrants({ maxFrames: 4 });
    expect([table.setup(4), table.frames]).toEqual([true, 4]);
    expect([table.setup(5), table.frames]).toEqual([false, 4]);
    expect([table.setup(4), table.setup(1), table.frames]).toEqual([true, true, 4]);
  });

  it("a reserved entry of version 1 with SUB_PAGE grants no part of its page in version 2", () => {
    const guest = new GuestGrants();
    guest.grant([[7, page(PERMIT | SUB_PAGE)]]);
    expect(guest.table.checkCopy(7, 0, 97, false, 0)).toBe(OKAY);
    guest.table.setVersion(2);
    expect(guest.table.checkCopy(7, 0, 97, false, 0)).toBe(GENERAL);
    guest.grant([[7, { ...page(PERMIT | SUB_PAGE), pageOff: 0, length: 97 }]]);
    expect(guest.table.checkCopy(7, 0, 97, false, 0)).toBe(OKAY);
  });

  it("counts its pages and those of status words", () => {
    const guest = new GuestGrants({ maxFrames: 64 });
    const { table } = guest;
    expect([table.frames, table.statusFrames]).toEqual([1, 0]);
    expect(table.setup(65)).toBe(false);
    expect(table.setup(9)).toBe(true);
    expect(table.setup(2)).toBe(true);
    expect(table.frames).toBe(9);
    table.setVersion(2);
    expect(table.statusFrames).toBe(2);
  });
});

it("the snapshot counts grants, uses and refusals by name", () => {
  const guest = new GuestGrants();
  guest.grant([
    [8, page()],
    [9, page(PERMIT | READONLY)],
  ]);
  guest.table.pin(8, true);
  guest.table.checkCopy(9, 0, 1, true, 0);
  guest.table.checkCopy(9, 4095, 2, false, 0);
  const mapping = guest.map(8);
  guest.table.unmap(mapping);
  guest.table.unmap(mapping);
  expect(guest.table.snapshot()).toEqual({
    domid: 1,
    version: 1,
    frames: 1,
    maxFrames: 64,
    granted: 2,
    inUse: 1,
    readers: 1,
    writers: 1,
    mapped: 0,
    endedInUse: 0,
    refused: { general_error: 1, bad_copy_arg: 1, bad_handle: 1 },
  });
});

describe("what lives", () => {
  it.each([1, 2])(
    "version %i: the records make another table the same, the uses are those told",
    (version) => {
      const guest = new GuestGrants();
      const { table } = guest;
      expect(table.setVersion(version)).toBe(0);
      expect(stateParts((state) => table.tellState(state))).toEqual([]);
      guest.grant([
        [9, page(PERMIT, 0, 0x77)],
        [11, page(PERMIT | READONLY, 0, 0x78)],
        [700, page(PERMIT, 0, 0x79)],
      ]);
      if (version === 2) {
        guest.grant([[12, { ...page(PERMIT | SUB_PAGE, 0, 0x80), pageOff: 100, length: 50 }]]);
      }
      guest.end(11);
      expect(table.pin(9, true)).toBe(OKAY);
      expect(table.pin(700, false)).toBe(OKAY);
      table.flushUses();
      const kind = version === 1 ? StateKind.GRANT_V1 : StateKind.GRANT_V2;
      const told = stateParts((state) => table.tellState(state));
      const bytes = (of: StateKind) =>
        Buffer.concat(stateRecords(told, of).map(({ tail }) => tail));
      const [records, uses] = [bytes(kind), bytes(StateKind.GRANT_USE)];

      const copy = new GuestGrants().table;
      expect(copy.setVersion(version)).toBe(0);
      const size = version === 1 ? 12 : 20;
      const view = new DataView(records.buffer, records.byteOffset, records.length);
      copy.grant(version as 1 | 2, view, 0, records.length / size);
      const probes: [number, number, number][] = [
        [9, 0, 4096],
        [11, 0, 1],
        [12, 100, 50],
        [12, 99, 2],
        [700, 4000, 96],
      ];
      for (const [reference, offset, length] of probes) {
        expect(copy.checkCopy(reference, offset, length, true, 0), `${reference} ${offset}`).toBe(
          table.checkCopy(reference, offset, length, true, 0),
        );
      }
      const again = stateParts((state) => copy.tellState(state));
      expect(stateRecords(again, kind)).toEqual(stateRecords(told, kind));
      const used = [];
      const use = new DataView(uses.buffer, uses.byteOffset, uses.length);
      for (let at = 0; at < uses.length; at += 8) {
        const [readers, writers] = [use.getInt16(at + 4, true), use.getInt16(at + 6, true)];
        used.push({ reference: use.getUint32(at, true), readers, writers });
      }
      expect(used).toEqual(guest.told);
      expect(used).toHaveLength(2);
    },
  );
});

it.each([1, 2] as const)(
  "tells a capture each entry as the guest wrote it, version %i",
  (version) => {
    const guest = new GuestGrants();
    guest.table.setVersion(version);
    const whole = { ...page(PERMIT | READONLY, 3, 0x77), pageOff: 0, length: 0 };
    const part = { ...page(PERMIT | SUB_PAGE, 0, 0x78), pageOff: 100, length: 50 };
    const entries = version === 1 ? [whole] : [whole, part];
    guest.grant([0, 9].slice(0, entries.length).map((reference, i) => [reference, entries[i]!]));
    const kind = version === 1 ? StateKind.GRANT_V1 : StateKind.GRANT_V2;
    const records = stateRecords(
      stateParts((state) => guest.table.tellState(state)),
      kind,
    );
    const told = records.flatMap(({ tail }) => grantsOf(tail, version));
    expect(told).toEqual(entries.map((entry, i) => ({ reference: [0, 9][i], ...entry })));
  },
);
