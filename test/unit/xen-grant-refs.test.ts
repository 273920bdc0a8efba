/** The guest's grant table: references, messages to the device, allowed accesses, quarantine. */
import { describe, expect, it, test } from "vitest";
import { Hypervisor } from "../../frontend/bus/hypervisor.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import { GrantTable } from "../../frontend/xen/grant-table.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { silentLogger } from "../../shared/log.ts";
import { StateKind } from "../../shared/wire/link-state.ts";
import { beyond, busAddress, RecordType, Space } from "../../shared/wire/records.ts";
import {
  GrantFlag,
  type GrantRef,
  GrantType,
  grantAddress,
  grantRef,
  grantUseRecord,
} from "../../shared/xen/grant.ts";
import { FakeDeviceLink } from "../support/fake-device-link.ts";
import { GrantStage, nextTurn } from "../support/grant-stage.ts";
import { stateParts, stateRecords } from "../support/link-state.ts";
import { misuse } from "../support/misuse.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { sameBytes } from "../support/same.ts";

/** 4096 / 8 minus the reserved references: the free references of a table of one frame. */
const ONE_FRAME = 504;

/** Allocates `count` references, one by one. */
function take({ grants }: GrantStage, count: number): GrantRef[] {
  return Array.from({ length: count }, () => grants.allocGrantReference());
}

describe("references", () => {
  it("gives out every one of a frame but the eight reserved ones, once", () => {
    const stage = new GrantStage({ maxFrames: 1 });
    const all = take(stage, ONE_FRAME);
    expect(new Set(all).size).toBe(ONE_FRAME);
    expect(Math.min(...all)).toBe(8);
    expect(Math.max(...all)).toBe(511);
    expect(stage.grants.allocGrantReference()).toBe(-1);
  });

  it.each([
    [1, 512],
    [2, 256],
  ] as const)("grows by frames of version %i, %i entries each", (version, perFrame) => {
    const stage = new GrantStage({ maxFrames: 4, version });
    expect([stage.grants.frames, stage.grants.freeCount]).toEqual([1, perFrame - 8]);
    expect(stage.grants.reserve(perFrame)).toBe(true);
    take(stage, perFrame);
    expect([stage.grants.frames, stage.grants.freeCount]).toEqual([2, perFrame - 8]);
    expect(stage.grants.reserve(3 * perFrame - 8)).toBe(true);
    take(stage, 3 * perFrame - 8);
    expect([stage.grants.frames, stage.grants.freeCount]).toEqual([4, 0]);
  });

  it("has 64 frames unless told otherwise, as many as the device's table", () => {
    const { grants } = new GrantStage();
    expect(grants.capacity).toBe(64 * 512 - 8);
    expect(grants.reserve(64 * 512 - 8)).toBe(true);
    expect(grants.frames).toBe(64);
  });

  it("does not grow for what it can't give anyway", () => {
    const { grants } = new GrantStage({ maxFrames: 2 });
    expect(grants.reserve(grants.capacity + 1)).toBe(false);
    expect([grants.frames, grants.freeCount]).toEqual([1, ONE_FRAME]);
  });

  it("uses a reference that was given back last of all", () => {
    const { grants } = new GrantStage({ maxFrames: 1 });
    const first = grants.allocGrantReference();
    grants.freeGrantReference(first);
    for (let i = 1; i < ONE_FRAME; i++) expect(grants.allocGrantReference()).not.toBe(first);
    expect(grants.allocGrantReference()).toBe(first);
  });

  it("refuses what would count a reference twice", () => {
    const { grants } = new GrantStage({ maxFrames: 1 });
    const owned = grants.allocGrantReference();
    grants.freeGrantReference(owned);
    expect(misuse(() => grants.freeGrantReference(owned))).toBe("GRANT_OWNER");
    expect(misuse(() => grants.renew(owned))).toBe("GRANT_OWNER");
    expect(misuse(() => grants.grantForeignAccessRef(owned, 0, busAddress(4096), false))).toBe(
      "GRANT_OWNER",
    );
    expect(misuse(() => grants.freeGrantReference(grantRef(3)))).toBe("GRANT_OWNER");
    expect(misuse(() => grants.freeGrantReference(grantRef(100_000)))).toBe("GRANT_OWNER");
    expect(grants.freeCount).toBe(ONE_FRAME);
  });

  it("refuses to free or grant again what is granted, and to end what is not", () => {
    const { grants } = new GrantStage({ maxFrames: 1 });
    const reference = grants.allocGrantReference();
    expect(misuse(() => grants.endForeignAccessRef(reference))).toBe("GRANT_NOT_LIVE");
    grants.grantForeignAccessRef(reference, 0, busAddress(4096), false);
    expect(misuse(() => grants.freeGrantReference(reference))).toBe("GRANT_LIVE");
    expect(misuse(() => grants.grantForeignAccessRef(reference, 0, busAddress(8192), true))).toBe(
      "GRANT_LIVE",
    );
    expect(grants.endForeignAccessRef(reference)).toBe(true);
    expect(misuse(() => grants.endForeignAccessRef(reference))).toBe("GRANT_NOT_LIVE");
    grants.freeGrantReference(reference);
    expect(grants.freeCount).toBe(ONE_FRAME);
  });
});

describe("free callbacks", () => {
  /** A table of one frame whose references the caller owns. */
  function drained() {
    const stage = new GrantStage({ maxFrames: 1 });
    const owned = take(stage, ONE_FRAME);
    return { grants: stage.grants, owned };
  }

  it("run in order, each when there are enough, and once", async () => {
    const { grants, owned } = drained();
    const ran: string[] = [];
    grants.requestFreeCallback(() => ran.push(`a ${grants.freeCount}`), 2);
    grants.requestFreeCallback(() => ran.push(`b ${grants.freeCount}`), 1);
    grants.freeGrantReference(grantRef(owned.pop()!));
    await nextTurn();
    expect(ran).toEqual([]);
    grants.freeGrantReference(grantRef(owned.pop()!));
    await nextTurn();
    await nextTurn();
    expect(ran).toEqual(["a 2", "b 2"]);
    grants.freeGrantReference(grantRef(owned.pop()!));
    await nextTurn();
    expect(ran.length).toBe(2);
  });

  it("run in a turn of their own, also when there are enough at once", async () => {
    const { grants, owned } = drained();
    let ran = 0;
    grants.requestFreeCallback(() => ran++, 1);
    grants.freeGrantReference(grantRef(owned.pop()!));
    expect(ran).toBe(0);
    await nextTurn();
    grants.requestFreeCallback(() => ran++, 1);
    expect(ran).toBe(1);
    await nextTurn();
    expect(ran).toBe(2);
  });

  it("wait on when somebody else was quicker", async () => {
    const { grants, owned } = drained();
    let ran = 0;
    grants.requestFreeCallback(() => ran++, 1);
    grants.freeGrantReference(grantRef(owned.pop()!));
    const quicker = grants.allocGrantReference();
    await nextTurn();
    expect(ran).toBe(0);
    grants.freeGrantReference(quicker);
    await nextTurn();
    expect(ran).toBe(1);
  });

  it("never run once cancelled, and hold nobody up then", async () => {
    const { grants, owned } = drained();
    const ran: string[] = [];
    const large = grants.requestFreeCallback(() => ran.push("large"), 100);
    grants.requestFreeCallback(() => ran.push("small"), 1);
    grants.freeGrantReference(grantRef(owned.pop()!));
    await nextTurn();
    expect(ran).toEqual([]);
    grants.cancelFreeCallback(large);
    grants.cancelFreeCallback(large);
    await nextTurn();
    expect(ran).toEqual(["small"]);
    expect(large.pending).toBe(false);
  });

  it("mutant-M9 a wish behind a cancelled larger one is granted with what is free already", async () => {
    const { grants, owned } = drained();
    let called = 0;
    const large = grants.requestFreeCallback(() => expect.fail("cancelled"), 10);
    const small = grants.requestFreeCallback(() => called++, 2);
    for (const reference of owned.splice(0, 3)) grants.freeGrantReference(grantRef(reference));
    await nextTurn();
    expect([called, small.pending]).toEqual([0, true]);
    // From here on no reference is freed.
    grants.cancelFreeCallback(large);
    await nextTurn();
    expect([called, small.pending]).toEqual([1, false]);
  });

  it("run for 0 references, which are always free", async () => {
    const { grants } = drained();
    let ran = 0;
    grants.requestFreeCallback(() => ran++, 0);
    await nextTurn();
    expect(ran).toBe(1);
  });

  it("can't wait for more than there can ever be", () => {
    const { grants } = drained();
    expect(misuse(() => grants.requestFreeCallback(() => {}, ONE_FRAME + 1))).toBe("GRANT_COUNT");
  });
});

describe("what the device is told", () => {
  it("an entry of version 1: flags, domain, and 32 bits of the page's number", () => {
    const { grants, device } = new GrantStage();
    const [rw, ro] = [grants.allocGrantReference(), grants.allocGrantReference()];
    grants.grantForeignAccessRef(rw, 0, busAddress(5 * 4096), false);
    // Generation 0x1234, so page 0x1234_00000 + 7: its upper four bits don't fit.
    grants.grantForeignAccessRef(ro, 3, busAddress(0x1234 * 2 ** 32 + 7 * 4096 + 100), true);
    grants.post();
    expect(device.entries).toEqual(
      new Map([
        [rw, { flags: 1, domid: 0, frame: 5, pageOff: 0, length: 0 }],
        [ro, { flags: 5, domid: 3, frame: 0x2340_0007, pageOff: 0, length: 0 }],
      ]),
    );
  });

  it("an entry of version 2: the whole number, and the part of a page", () => {
    const { grants, device } = new GrantStage({ version: 2 });
    const [full, sub] = [grants.allocGrantReference(), grants.allocGrantReference()];
    grants.grantForeignAccessRef(full, 0, busAddress(0x1234 * 2 ** 32 + 7 * 4096), true);
    grants.grantForeignAccessSubPage(sub, 0, busAddress(9 * 4096 + 256), 128, false);
    grants.post();
    expect(device.entries).toEqual(
      new Map([
        [full, { flags: 5, domid: 0, frame: 0x1_2340_0007, pageOff: 0, length: 0 }],
        [sub, { flags: 0x101, domid: 0, frame: 9, pageOff: 256, length: 128 }],
      ]),
    );
    expect(GrantType.PERMIT_ACCESS | GrantFlag.SUB_PAGE).toBe(0x101);
  });

  it("parts of pages are version 2's, and end within the page", () => {
    const one = new GrantStage().grants;
    const r1 = one.allocGrantReference();
    expect(misuse(() => one.grantForeignAccessSubPage(r1, 0, busAddress(4096), 10, false))).toBe(
      "GRANT_VERSION",
    );
    const two = new GrantStage({ version: 2 }).grants;
    const r2 = two.allocGrantReference();
    expect(misuse(() => two.grantForeignAccessSubPage(r2, 0, busAddress(8191), 2, false))).toBe(
      "GRANT_VERSION",
    );
  });

  it("changes in their order, one column for neighbours of a kind, before all that is posted", async () => {
    const { grants, hypervisor, device, space } = new GrantStage();
    const refs = [0, 1, 2, 3].map(() => grants.allocGrantReference());
    for (const [i, r] of refs.entries())
      grants.grantForeignAccessRef(r, 0, busAddress(i * 4096), false);
    expect(device.order).toEqual([]);
    hypervisor.event(7);
    expect(grants.endForeignAccessRef(refs[0]!)).toBe(true);
    expect(grants.endForeignAccessRef(refs[1]!)).toBe(true);
    grants.grantForeignAccessRef(refs[0]!, 0, busAddress(4096), false);
    expect(grants.endForeignAccessRef(refs[0]!)).toBe(true);
    hypervisor.xenstore(new Uint8Array(16));
    grants.grantForeignAccessRef(refs[1]!, 0, busAddress(4096), false);
    await hypervisor.hypercall(20, 0, new Uint8Array(0));
    expect(grants.endForeignAccessRef(refs[2]!)).toBe(true);
    const page = space.allocCoherent(4096, 4096, "ring");
    grants.post();
    page.publish(0, 4, RecordType.XEN_RING_INDEX);
    hypervisor.event(7);
    expect(device.order).toEqual([
      ...["grant 4", "event 7"],
      ...["end 2", "grant 1", "end 1", "xenstore"],
      ...["grant 1", "hypercall"],
      ...["end 1", "write", "event 7"],
    ]);
    expect([...device.entries.keys()].sort()).toEqual([refs[1], refs[3]].sort());
  });

  it("of more changes than fit one column, all", () => {
    const { grants, device } = new GrantStage();
    const refs = Array.from({ length: 1200 }, () => grants.allocGrantReference());
    for (const r of refs) grants.grantForeignAccessRef(r, 0, busAddress(r * 4096), false);
    grants.post();
    expect(device.entries.size).toBe(1200);
    for (const r of refs) expect(device.entries.get(r)?.frame).toBe(r);
    for (const r of refs) grants.endForeignAccessRef(r);
    grants.post();
    expect([device.entries.size, grants.liveCount]).toEqual([0, 0]);
    const columns = [512, 512, 176];
    expect(device.order).toEqual([
      ...columns.map((n) => `grant ${n}`),
      ...columns.map((n) => `end ${n}`),
    ]);
  });
});

describe("a new link", () => {
  it("hears of every live entry, of none that ended, and counts from 0", () => {
    const stage = new GrantStage();
    const { grants } = stage;
    const [a, b, c] = [0, 1, 2].map(() => grants.allocGrantReference()) as [
      GrantRef,
      GrantRef,
      GrantRef,
    ];
    grants.grantForeignAccessRef(grantRef(a), 0, busAddress(4096), false);
    grants.grantForeignAccessRef(grantRef(b), 0, busAddress(8192), true);
    grants.post();
    stage.use(a, 2, 1);
    expect(grants.endForeignAccessRef(grantRef(a))).toBe(false);
    grants.endForeignAccessRef(grantRef(b));
    grants.grantForeignAccessRef(grantRef(c), 0, busAddress(12288), true);
    // When the link broke, neither the end of b nor the grant of c had been sent.
    stage.reconnect();
    expect([...stage.device.entries.keys()].sort()).toEqual([a, c].sort());
    expect(stage.device.entries.get(c)).toMatchObject({ flags: 5, frame: 3 });
    expect(grants.queryForeignAccess(grantRef(a))).toBe(0);
    expect(grants.endForeignAccessRef(grantRef(a))).toBe(true);
    grants.post();
    expect([...stage.device.entries.keys()]).toEqual([c]);
  });
});

describe("fault-E1, fault-E2, fault-E3, fault-E6: what the device may reach", () => {
  const PAGE_BYTES = 4096;
  const OK = 0;

  /** One page for each kind of entry, all filled with 0x11; the device writes 0xee. */
  function stageOf(version: 1 | 2) {
    const stage = new GrantStage({ version, maxFrames: 2 });
    const { grants, space } = stage;
    const pages = [0, 1, 2, 3].map((i) => space.allocCoherent(PAGE_BYTES, PAGE_BYTES, `page ${i}`));
    for (const page of pages) page.bytes.fill(0x11);
    const of = (i: number) => pages[i]!.address;
    const [rw, ro, other, freed] = pages.map(() => grants.allocGrantReference()) as number[];
    grants.grantForeignAccessRef(grantRef(rw!), 0, of(0), false);
    grants.grantForeignAccessRef(grantRef(ro!), 0, of(1), true);
    grants.grantForeignAccessRef(grantRef(other!), 1, of(2), false);
    grants.grantForeignAccessRef(grantRef(freed!), 0, of(3), false);
    grants.endForeignAccessRef(grantRef(freed!));
    grants.freeGrantReference(grantRef(freed!));
    const claimed = grants.allocGrantReference();
    const end = version === 1 ? 512 : 256;
    const refs = { rw, ro, other, freed, claimed, reserved: 1, last: end - 1, end, far: 2 ** 36 };
    return { stage, pages, refs: refs as Record<keyof typeof refs, number> };
  }

  type Row = [ref: string, offset: number, length: number, write: number, read: number];
  const rows: Row[] = [
    ["rw", 0, 1, OK, OK],
    ["rw", 0, 4096, OK, OK],
    ["rw", 4095, 1, OK, OK],
    // The page of the next reference is read-only, and a read names one page.
    ["rw", 4095, 2, 1, 10],
    ["rw", 0, 4097, 1, 10],
    ["rw", 1, 4096, 1, 10],
    ["rw", 100, 0xffff_ffff, 1, 10],
    ["ro", 0, 1, 1, OK],
    ["ro", 0, 4096, 1, OK],
    ["ro", 4095, 2, 1, 10],
    ["other", 0, 1, 1, 1],
    ["freed", 0, 1, 1, 1],
    ["claimed", 0, 1, 1, 1],
    ["reserved", 0, 1, 1, 1],
    ["last", 0, 1, 1, 1],
    ["end", 0, 1, 3, 3],
    ["far", 0, 1, 3, 3],
    // No byte is moved, so no reference is checked.
    ["rw", 4095, 0, OK, OK],
    ["ro", 0, 0, OK, OK],
    ["freed", 0, 0, OK, OK],
    ["far", 0, 0, OK, OK],
  ];

  describe.each([1, 2] as const)("version %i", (version) => {
    it.each(rows)("%s, offset %i, %i bytes: write %i, read %i", (name, offset, length, w, r) => {
      const { stage, pages, refs } = stageOf(version);
      const reference = refs[name as keyof typeof refs];
      // Lengths that no record can have are checked too, without the bytes.
      const bytes = new Uint8Array(Math.min(length, 8192)).fill(0xee);
      const { grants, space } = stage;
      const before = space.faults.grant;
      const wrote = space.deviceWrite(
        Space.GRANT,
        grantAddress(grantRef(reference), offset),
        bytes,
        0,
        length,
      );
      expect(wrote ? OK : grants.refusal).toBe(w);
      const expected = pages.map(() => new Uint8Array(PAGE_BYTES).fill(0x11));
      if (w === OK) expected[0]!.fill(0xee, offset, offset + length);
      for (const [i, page] of pages.entries()) expect(page.bytes).toEqual(expected[i]);
      const got = stage.read(reference, offset, length);
      if (r !== OK) expect(got).toBe(r);
      else expect(got).toEqual(new Uint8Array(length).fill(name === "rw" ? 0xee : 0x11));
      expect(space.faults.grant - before).toBe((w === OK ? 0 : 1) + (r === OK ? 0 : 1));
    });
  });

  it.each([
    [99, 1, 1],
    [100, 1, OK],
    [100, 50, OK],
    [149, 1, OK],
    [149, 2, 1],
    [150, 1, 1],
    [0, 4096, 1],
    [120, 4000, 1],
  ])("version 2, 50 bytes from 100 granted: offset %i, %i bytes: %i", (offset, length, status) => {
    const { grants, space } = new GrantStage({ version: 2 });
    const page = space.allocCoherent(PAGE_BYTES, PAGE_BYTES, "page");
    const reference = grants.allocGrantReference();
    grants.grantForeignAccessSubPage(reference, 0, beyond(page.address, 100), 50, false);
    const bytes = new Uint8Array(length).fill(0xee);
    const wrote = space.deviceWrite(Space.GRANT, grantAddress(reference, offset), bytes, 0, length);
    expect(wrote ? OK : grants.refusal).toBe(status);
    const changed = page.bytes.filter((byte) => byte !== 0).length;
    expect(changed).toBe(status === OK ? length : 0);
  });

  describe("a write that goes on in the pages of the next references", () => {
    /** Pages behind consecutive references, each of a map of its own. */
    function stageOfRun(pages: number) {
      const stage = new GrantStage({ maxFrames: 1 });
      const { grants, space } = stage;
      const memory = Array.from({ length: pages }, (_, i) =>
        space.allocCoherent(PAGE_BYTES, PAGE_BYTES, `page ${i}`),
      );
      const refs = memory.map(() => grants.allocGrantReference());
      for (const [i, ref] of refs.entries()) {
        grants.grantForeignAccessRef(ref, 0, memory[i]!.address, false);
      }
      const all = (): Uint8Array => Buffer.concat(memory.map(({ bytes }) => bytes));
      return { stage, grants, memory, refs, all };
    }
    const bytes = Uint8Array.from({ length: 33 * PAGE_BYTES }, (_, i) => (i * 7 + 1) | 1);

    it.each([
      [0, 2 * PAGE_BYTES],
      [4095, 2],
      [100, PAGE_BYTES],
      [1, 131_072],
      [4095, 131_072],
    ])("reaches %i and %i bytes on, and no other byte", (offset, length) => {
      const { stage, refs, all } = stageOfRun(34);
      expect(stage.write(refs[0]!, offset, bytes.subarray(0, length))).toBe(true);
      const expected = new Uint8Array(34 * PAGE_BYTES);
      expected.set(bytes.subarray(0, length), offset);
      sameBytes(all(), expected);
      expect(stage.device.of("fault")).toEqual([]);
    });

    it.each<[string, (s: ReturnType<typeof stageOfRun>) => void, string]>([
      ["is granted no more", ({ grants, refs }) => grants.endForeignAccessRef(refs[2]!), "GRANT"],
      [
        "is read-only",
        ({ grants, refs, memory }) => {
          grants.endForeignAccessRef(refs[2]!);
          grants.grantForeignAccessRef(refs[2]!, 0, memory[2]!.address, true);
        },
        "GRANT",
      ],
      [
        "is another domain's",
        ({ grants, refs, memory }) => {
          grants.endForeignAccessRef(refs[2]!);
          grants.grantForeignAccessRef(refs[2]!, 3, memory[2]!.address, false);
        },
        "GRANT",
      ],
      ["is mapped no more", ({ memory }) => memory[2]!.free(), "UNMAPPED"],
    ])("changes nothing when one page %s, and the fault names that page", (_, spoil, code) => {
      const run = stageOfRun(4);
      const { stage, refs, memory, all } = run;
      spoil(run);
      expect(stage.write(refs[0]!, 0, bytes.subarray(0, 3 * PAGE_BYTES + 5))).toBe(false);
      sameBytes(all(), new Uint8Array(4 * PAGE_BYTES));
      const place = code === "GRANT" ? refs[2]! * PAGE_BYTES : memory[2]!.address;
      expect(stage.device.of("fault")).toMatchObject([{ code: `DMA_${code}`, address: place }]);
    });

    it("ends with the table", () => {
      const { stage, grants } = stageOfRun(1);
      const last = grantRef(511);
      expect(stage.write(last, 0, bytes.subarray(0, 2 * PAGE_BYTES))).toBe(false);
      expect(grants.refusal).toBe(1);
    });
  });

  it("by bus address nothing, and through addresses that are no numbers nothing", () => {
    const { stage, pages, refs } = stageOf(1);
    const one = Uint8Array.of(0xee);
    for (const address of [pages[0]!.address, refs.rw * PAGE_BYTES]) {
      expect(stage.space.deviceWrite(Space.BUS, busAddress(address), one, 0, 1)).toBe(false);
      expect(stage.space.deviceRead(Space.BUS, busAddress(address), 1)).toBeUndefined();
    }
    for (const address of [Number.NaN, Number.POSITIVE_INFINITY, -1, 2 ** 53]) {
      expect(stage.space.deviceWrite(Space.GRANT, busAddress(address), one, 0, 1)).toBe(false);
      expect(stage.space.deviceRead(Space.GRANT, busAddress(address), 1)).toBeUndefined();
    }
    for (const page of pages) sameBytes(page.bytes, new Uint8Array(PAGE_BYTES).fill(0x11));
  });

  it("of a grant whose page is no longer mapped, nothing", () => {
    const { stage, pages, refs } = stageOf(1);
    pages[0]!.free();
    expect(stage.read(refs.rw, 4095, 2)).toBe(10);
    expect(stage.read(refs.rw, 0, 1)).toBe(1);
    expect(stage.read(refs.rw, 4095, 2)).toBe(10);
    expect(stage.write(refs.rw, 0, Uint8Array.of(1))).toBe(false);
    expect(stage.grants.refusal).toBe(1);
    expect(stage.space.faults.unmapped).toBe(2);
  });
});

test.each([1, 2, 0x7fef])(
  "mutant-M12 what is granted to domain %d is closed to the backend",
  (domid) => {
    const stage = new GrantStage({ maxFrames: 1 });
    const { space, grants } = stage;
    const map = space
      .createTag({
        name: "test",
        alignment: 4096,
        boundary: 0,
        maxSize: 4096,
        nSegments: 1,
        maxSegSize: 4096,
        direction: "both",
      })
      .createMap();
    map.load(new Uint8Array(4096).fill(7), 0, 4096);
    const [theirs, ours] = [grants.allocGrantReference(), grants.allocGrantReference()];
    grants.grantForeignAccessRef(theirs, domid, map.segmentAddress(0), false);
    expect(stage.read(theirs, 0, 1)).toBe(1);
    expect(stage.write(theirs, 0, Uint8Array.of(9))).toBe(false);
    expect(space.faults.grant).toBe(2);
    grants.grantForeignAccessRef(ours, 0, map.segmentAddress(0), false);
    expect(stage.read(ours, 0, 1)).toEqual(Uint8Array.of(7));
  },
);

describe("use counts", () => {
  function granted(readonly = false) {
    const stage = new GrantStage({ maxFrames: 1 });
    const reference = stage.grants.allocGrantReference();
    stage.grants.grantForeignAccessRef(reference, 0, busAddress(4096), readonly);
    stage.grants.post();
    return { stage, grants: stage.grants, reference };
  }

  it("keep access from being ended until they are 0", () => {
    const { stage, grants, reference } = granted();
    stage.use(reference, 1, 0);
    stage.use(reference, 0, 1);
    expect(grants.queryForeignAccess(reference)).toBe(2);
    stage.use(reference, -1, 0);
    expect(grants.endForeignAccessRef(reference)).toBe(false);
    expect(grants.liveCount).toBe(1);
    stage.use(reference, 0, -1);
    expect(grants.endForeignAccessRef(reference)).toBe(true);
  });

  test.each<[string, number, number]>([
    ["fewer readers than none", -1, 0],
    ["fewer writers than none", 0, -1],
    ["one right and one wrong", 1, -1],
  ])("lies change nothing and are counted: %s", (_, readers, writers) => {
    const { stage, grants, reference } = granted();
    stage.use(reference, readers, writers);
    expect(grants.queryForeignAccess(reference)).toBe(0);
    expect(stage.space.faults.grant).toBe(1);
    expect(stage.device.of("fault").length).toBe(1);
  });

  it("lies about references that are reserved, or are none, are counted and change nothing", () => {
    const { stage, grants } = granted();
    for (const other of [0, 7, 512, 0xffff_ffff]) stage.use(other, 1, 0);
    expect([stage.space.faults.grant, grants.heldCount]).toEqual([4, 0]);
    expect([0, 7].map((other) => grants.queryForeignAccess(grantRef(other)))).toEqual([0, 0]);
  });

  it("of writers to a read-only grant are a fault, and are counted until they end", () => {
    const { stage, grants, reference } = granted(true);
    stage.use(reference, 1, 1);
    expect([grants.queryForeignAccess(reference), stage.space.faults.grant]).toEqual([2, 1]);
    expect(grants.endForeignAccessRef(reference)).toBe(false);
    stage.use(reference, -1, -1);
    expect([grants.queryForeignAccess(reference), stage.space.faults.grant]).toEqual([0, 1]);
    expect(grants.endForeignAccessRef(reference)).toBe(true);
  });

  it.each([
    [0x7fff, 0],
    [0, 0x7fff],
  ])("stay within bounds, whatever is added up: %i, %i", (readers, writers) => {
    const { stage, grants, reference } = granted();
    for (let i = 0; i < 5; i++) stage.use(reference, readers, writers);
    expect(grants.queryForeignAccess(reference)).toBe(0x7fff);
    expect(stage.space.faults.grant).toBe(4);
  });
});

describe("a use that crosses with the end of access", () => {
  /** An owned reference whose access ended before the device's use count arrived. */
  function crossed() {
    const stage = new GrantStage({ maxFrames: 1 });
    const reference = stage.grants.allocGrantReference();
    stage.grants.grantForeignAccessRef(reference, 0, busAddress(4096), false);
    expect(stage.grants.endForeignAccessRef(reference)).toBe(true);
    return { stage, grants: stage.grants, reference };
  }

  it("is a fault, and counted, so that its end is none", () => {
    const { stage, grants, reference } = crossed();
    stage.use(reference, 2, 1);
    expect([grants.queryForeignAccess(reference), stage.space.faults.grant]).toEqual([3, 1]);
    stage.use(reference, -2, -1);
    expect([grants.queryForeignAccess(reference), stage.space.faults.grant]).toEqual([0, 1]);
  });

  it.each(["before", "after"] as const)(
    "keeps a reference, given back %s the word came, out of the free list until it ends",
    (when) => {
      const { stage, grants, reference } = crossed();
      if (when === "before") grants.freeGrantReference(reference);
      stage.use(reference, 1, 1);
      if (when === "after") grants.freeGrantReference(reference);
      expect([grants.freeCount, grants.heldCount]).toEqual([ONE_FRAME - 1, 1]);
      for (let r = grants.allocGrantReference(); r >= 0; r = grants.allocGrantReference()) {
        expect(r).not.toBe(reference);
      }
      stage.use(reference, 0, -1);
      expect([grants.freeCount, grants.heldCount]).toEqual([0, 1]);
      stage.use(reference, -1, 0);
      expect([grants.freeCount, grants.heldCount]).toEqual([1, 0]);
      expect(grants.allocGrantReference()).toBe(reference);
    },
  );

  it("keeps references out of the free list wherever in it they stand", () => {
    const { grants, hypervisor } = new GrantStage({ maxFrames: 1 });
    const held = [8, 9, 200, 510, 511];
    for (const r of held) hypervisor.onGrantUse(grantRef(r), 1, 0);
    expect([grants.freeCount, grants.heldCount]).toEqual([ONE_FRAME - 5, 5]);
    const got = new Set<number>();
    for (let r = grants.allocGrantReference(); r >= 0; r = grants.allocGrantReference()) got.add(r);
    expect(got.size).toBe(ONE_FRAME - 5);
    expect(held.filter((r) => got.has(r))).toEqual([]);
    for (const r of held) hypervisor.onGrantUse(grantRef(r), -1, 0);
    expect(held.map(() => grants.allocGrantReference())).toEqual(held);
  });

  it("an owner who wants to grant again gets another reference in its place", () => {
    const { stage, grants, reference } = crossed();
    expect(grants.renew(reference)).toBe(reference);
    stage.use(reference, 1, 0);
    expect(misuse(() => grants.grantForeignAccessRef(reference, 0, busAddress(4096), false))).toBe(
      "GRANT_IN_USE",
    );
    const other = grants.renew(reference);
    expect(other).not.toBe(reference);
    expect(misuse(() => grants.freeGrantReference(reference))).toBe("GRANT_OWNER");
    grants.grantForeignAccessRef(other, 0, busAddress(4096), false);
    expect(misuse(() => grants.renew(other))).toBe("GRANT_LIVE");
    while (grants.allocGrantReference() >= 0);
    expect(grants.endForeignAccessRef(other)).toBe(true);
    stage.use(other, 1, 0);
    // No reference is free, so the owner keeps its own until the use ends.
    expect(grants.renew(other)).toBe(-1);
    stage.use(other, -1, 0);
    expect(grants.renew(other)).toBe(other);
  });

  it("wakes who waits for references when it ends, and all end with the link", async () => {
    const { stage, grants, reference } = crossed();
    stage.use(reference, 1, 1);
    grants.freeGrantReference(reference);
    while (grants.allocGrantReference() >= 0);
    let ran = 0;
    grants.requestFreeCallback(() => ran++, 1);
    await nextTurn();
    expect(ran).toBe(0);
    stage.use(reference, -1, -1);
    await nextTurn();
    expect([ran, grants.allocGrantReference()]).toEqual([1, reference]);
    grants.freeGrantReference(reference);
    stage.use(reference, 1, 0);
    expect(grants.heldCount).toBe(1);
    stage.reconnect();
    expect([grants.heldCount, grants.freeCount]).toEqual([0, 1]);
  });
});

describe("quarantine", () => {
  function busy() {
    const stage = new GrantStage({ maxFrames: 1 });
    const page = stage.space.allocCoherent(4096, 4096, "page");
    const reference = stage.grants.allocGrantReference();
    stage.grants.grantForeignAccessRef(reference, 0, page.address, false);
    stage.use(reference, 1, 1);
    return { stage, grants: stage.grants, page, reference };
  }

  it("XSA-396: a reference in use is quarantined with its page, and never reused until the use ends", () => {
    const { stage, grants, page, reference } = busy();
    expect(grants.endForeignAccessRef(reference)).toBe(false);
    let released = 0;
    grants.quarantine(reference, () => released++);
    expect(grants.quarantined).toBe(1);
    // The backend keeps its access, and no allocation ever returns the reference.
    expect(stage.write(reference, 0, Uint8Array.of(1))).toBe(true);
    expect(page.bytes[0]).toBe(1);
    for (let r = grants.allocGrantReference(); r >= 0; r = grants.allocGrantReference()) {
      expect(r).not.toBe(reference);
    }
    stage.use(reference, -1, 0);
    expect([grants.quarantined, released]).toEqual([1, 0]);
    stage.use(reference, 0, -1);
    expect([grants.quarantined, released]).toEqual([0, 1]);
    expect(stage.write(reference, 1, Uint8Array.of(1))).toBe(false);
    expect(grants.allocGrantReference()).toBe(reference);
    grants.post();
    expect(stage.device.entries.size).toBe(0);
  });

  it("XSA-396: the owner has no say any more", () => {
    const { grants, reference } = busy();
    grants.quarantine(reference);
    expect(misuse(() => grants.quarantine(reference))).toBe("GRANT_OWNER");
    expect(misuse(() => grants.endForeignAccessRef(reference))).toBe("GRANT_OWNER");
    expect(misuse(() => grants.freeGrantReference(reference))).toBe("GRANT_OWNER");
  });

  it("ends at once for a reference that is not in use, and with the link for all", () => {
    const { stage, grants, reference } = busy();
    const idle = grants.allocGrantReference();
    grants.grantForeignAccessRef(idle, 0, busAddress(8192), true);
    const released: number[] = [];
    grants.quarantine(idle, () => released.push(idle));
    expect([released, grants.quarantined]).toEqual([[idle], 0]);
    grants.quarantine(reference, () => released.push(reference));
    stage.reconnect();
    expect(released).toEqual([idle, reference]);
    expect([grants.quarantined, grants.freeCount]).toEqual([0, ONE_FRAME]);
    expect(stage.device.entries.size).toBe(0);
  });
});

test("no link: changes are made, and told to the first device that comes", () => {
  const hypervisor = new Hypervisor();
  const space = new DmaSpace({ log: silentLogger });
  const grants = new GrantTable({ hypervisor, space, log: silentLogger });
  const [kept, ended] = [grants.allocGrantReference(), grants.allocGrantReference()];
  grants.grantForeignAccessRef(kept, 0, busAddress(4096), false);
  grants.grantForeignAccessRef(ended, 0, busAddress(8192), false);
  grants.post();
  grants.endForeignAccessRef(ended);
  const device = new FakeDeviceLink();
  hypervisor.attachLink(device);
  grants.resume();
  expect(device.order).toEqual(["grant 1"]);
  expect([...device.entries.keys()]).toEqual([kept]);
});

describe("a capture that begins late", () => {
  it.each([1, 2] as const)("is told every grant and every use, version %i", (version) => {
    const { grants, stage } = granted(version);
    stage.use(8, 2);
    stage.use(9, 0, 1);
    stage.use(10, 1, 1);
    const parts = stateParts((state) => grants.tellState(state));
    const kind = version === 1 ? StateKind.GRANT_V1 : StateKind.GRANT_V2;
    expect(stateRecords(parts, kind).length).toBe(4);
    const uses = () => {
      const now = stateParts((state) => grants.tellState(state));
      return stateRecords(now, StateKind.GRANT_USE).map(({ tail }) => useOf(viewOf(tail)));
    };
    expect(uses()).toEqual([
      { reference: 8, readers: 2, writers: 0 },
      { reference: 9, readers: 0, writers: 1 },
      { reference: 10, readers: 1, writers: 1 },
    ]);
    stage.use(8, -2);
    stage.use(10, -1);
    expect(uses()).toEqual([
      { reference: 9, readers: 0, writers: 1 },
      { reference: 10, readers: 0, writers: 1 },
    ]);
  });

  const useOf = (view: DataView) => ({
    reference: grantUseRecord.reference(view, 0),
    readers: grantUseRecord.readers(view, 0),
    writers: grantUseRecord.writers(view, 0),
  });

  function granted(version: 1 | 2) {
    const stage = new GrantStage({ version });
    const { grants } = stage;
    for (const reference of take(stage, 4)) {
      grants.grantForeignAccessRef(reference, 0, busAddress(4096 * reference), false);
    }
    grants.post();
    return { stage, grants };
  }
});

test("a part of a page may be all of it, and not a byte more or none", () => {
  const { grants } = new GrantStage({ version: 2 });
  const cases: [address: number, length: number, code: string][] = [
    [4096, 4096, "nothing thrown"],
    [4096, 4097, "GRANT_VERSION"],
    [4097, 4095, "nothing thrown"],
    [4097, 4096, "GRANT_VERSION"],
    [8191, 1, "nothing thrown"],
    [4096, 0, "GRANT_VERSION"],
  ];
  for (const [address, length, code] of cases) {
    const reference = grants.allocGrantReference();
    const grant = () =>
      grants.grantForeignAccessSubPage(reference, 0, busAddress(address), length, false);
    expect(misuse(grant)).toBe(code);
  }
});

test("of the pages that a backend keeps, each doubling of their number is a line", () => {
  const log = new RecordingLog();
  const stage = new GrantStage();
  const grants = new GrantTable({ hypervisor: stage.hypervisor, space: stage.space, log });
  const lines: number[] = [];
  for (let i = 0; i < 9; i++) {
    const reference = grants.allocGrantReference();
    grants.grantForeignAccessRef(reference, 0, busAddress(4096 * (i + 1)), false);
    grants.post();
    stage.hypervisor.onGrantUse(reference, 1, 0);
    grants.quarantine(reference);
    lines.push(log.warnings.length);
  }
  expect(lines).toEqual([1, 2, 2, 3, 3, 3, 3, 4, 4]);
});
