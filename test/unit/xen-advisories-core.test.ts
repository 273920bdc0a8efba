/** Rules that follow from Xen's advisories, for grant table, event channels and hypercalls. */
import { describe, expect, it } from "vitest";
import { EventChannels } from "../../device/xen/event-channel.ts";
import { dispatch, type Hypervisor } from "../../device/xen/hypercalls.ts";
import { GuestGrants } from "../support/guest-grants.ts";

const PERMIT = 1;
const TRANSITIVE = 3;
const page = (flags = PERMIT) => ({ flags, domid: 0, frame: 0x42 });

describe("XSA-218/224", () => {
  it("XSA-218/224 mapped in differing modes: each mapping takes back what it took, in any order", () => {
    const kinds = [true, false, true, false, true];
    for (let order = 0; order < 120; order++) {
      const guest = new GuestGrants();
      const { table } = guest;
      guest.grant([[8, page()]]);
      const left = kinds.map((write) => guest.map(8, write));
      let rest = order;
      while (left.length > 0) {
        const [gone] = left.splice(rest % left.length, 1);
        rest = Math.floor(rest / (left.length + 1));
        expect(table.unmap(gone!)).toBe(0);
        // A second unmap, as if two processors had raced, changes nothing.
        expect(table.unmap(gone!)).toBe(-4);
        expect(table.usesOf(8)).toEqual({
          readers: left.length,
          writers: left.filter(({ write }) => write).length,
        });
      }
      table.flushUses();
      expect(guest.told).toEqual([]);
    }
  });

  it("XSA-218/224 a page stays writable-in-use until its last writer goes", () => {
    const guest = new GuestGrants();
    guest.grant([[8, page()]]);
    const rw = guest.map(8);
    const ro = guest.map(8, false);
    guest.table.flushUses();
    guest.table.unmap(ro);
    guest.table.flushUses();
    expect([guest.readers.get(8), guest.writers.get(8)]).toEqual([1, 1]);
    guest.table.unmap(rw);
    guest.table.flushUses();
    expect([guest.readers.get(8), guest.writers.get(8)]).toEqual([0, 0]);
    guest.end(8);
    expect(guest.table.snapshot()).toMatchObject({ inUse: 0, endedInUse: 0 });
  });
});

it("XSA-226/411 transitive grants are refused, in every operation, and leave no use behind", () => {
  const guest = new GuestGrants();
  guest.table.setVersion(2);
  for (const flags of [TRANSITIVE, TRANSITIVE | 4, TRANSITIVE | 0x100]) {
    // trans_domid 2 where a sub-page entry has its offset, gref 9 in place of the frame.
    guest.grant([[8, { flags, domid: 0, frame: 9, pageOff: 2, length: 4096 }]]);
    for (const write of [false, true]) {
      expect(guest.table.map(8, write, 0)).toBe(-1);
      expect(guest.table.checkCopy(8, 2, 64, write, 0)).toBe(-1);
      expect(guest.table.pin(8, write)).toBe(-1);
    }
    expect(guest.table.frameOf(8)).toBe(-1);
  }
  guest.table.flushUses();
  expect(guest.told).toEqual([]);
  expect(guest.table.snapshot()).toMatchObject({
    granted: 0,
    inUse: 0,
    refused: { general_error: 3 * 6 },
  });
});

describe("XSA-332", () => {
  interface Net {
    readonly events: EventChannels;
    readonly clock: { ms: number };
    readonly turns: [number, number];
    readonly guests: [number, number];
  }
  /**
   * Two guests with a port each. Turns of the first one find work only if `honest` returns true.
   */
  function net(honest: () => boolean): Net {
    const clock = { ms: 0 };
    const events = new EventChannels({ now: () => clock.ms });
    const turns: [number, number] = [0, 0];
    const guests: [number, number] = [0, 0];
    for (const i of [0, 1] as const) {
      const domid = i + 1;
      events.attach(domid, () => {});
      guests[i] = events.allocUnbound(domid, 0x7ff0, 0);
      const backend = events.bindInterdomain(0, domid, guests[i]);
      events.bindHandler(0, backend, () => {
        turns[i]++;
        events.eoi(0, backend, i === 0 && !honest());
      });
    }
    turns.fill(0);
    return { events, clock, turns, guests };
  }
  const second = (n: Net, perMs: number) => {
    for (let ms = 0; ms < 1000; ms++) {
      n.clock.ms++;
      n.events.tick(n.clock.ms);
      for (let i = 0; i < perMs; i++) n.events.send(1, n.guests[0]);
      n.events.send(2, n.guests[1]);
    }
  };

  it("XSA-332 spurious events are throttled, and the neighbour's are not", () => {
    const n = net(() => false);
    second(n, 100);
    const first = n.turns[0];
    expect(first).toBeGreaterThan(0);
    expect(first).toBeLessThan(16);
    for (let s = 0; s < 9; s++) second(n, 100);
    // From then on one turn a second, out of a million events.
    expect(n.turns[0] - first).toBeGreaterThan(0);
    expect(n.turns[0] - first).toBeLessThanOrEqual(10);
    expect(n.turns[1]).toBe(10_000);
  });

  it("fault-G5 XSA-332 honest bursts are not throttled: every event has its turn", () => {
    const n = net(() => true);
    second(n, 100);
    expect(n.turns[0]).toBe(100_000);
    expect(n.events.nextTick).toBe(Number.POSITIVE_INFINITY);
  });

  it("XSA-332 now and then a spurious one among honest ones costs nothing", () => {
    let i = 0;
    const n = net(() => i++ % 2 === 0);
    second(n, 100);
    expect(n.turns[0]).toBe(100_000);
    expect(n.events.counts).toMatchObject({ delayed: 0 });
  });

  it("XSA-332 who stops being spurious is served at once again, at most a second late", () => {
    let honest = false;
    const n = net(() => honest);
    for (let s = 0; s < 5; s++) second(n, 100);
    honest = true;
    n.events.send(1, n.guests[0]);
    const before = n.turns[0];
    n.clock.ms += 1000;
    n.events.tick(n.clock.ms);
    expect(n.turns[0]).toBe(before + 1);
    const resumed = n.turns[0];
    second(n, 100);
    expect(n.turns[0] - resumed).toBe(100_000);
  });
});

describe("XSA-396, device side", () => {
  it("XSA-396 a use is told while it lasts, and its end before the guest may end the grant", () => {
    const guest = new GuestGrants();
    guest.grant([[8, page(PERMIT | 4)]]);
    expect(guest.table.pin(8, false)).toBe(0);
    guest.table.flushUses();
    expect(guest.readers.get(8)).toBe(1);
    guest.table.unpin(8, false);
    guest.table.flushUses();
    expect(guest.readers.get(8)).toBe(0);
    guest.end(8);
    expect(guest.table.checkCopy(8, 0, 64, false, 0)).toBe(-1);
    expect(guest.table.pin(8, false)).toBe(-1);
  });

  it("XSA-396 a grant that ends while it is in use serves nobody new, and its use is told to its end", () => {
    const guest = new GuestGrants();
    guest.grant([[8, page()]]);
    expect(guest.table.pin(8, true)).toBe(0);
    guest.table.flushUses();
    guest.end(8);
    expect(guest.table.checkCopy(8, 0, 64, true, 0)).toBe(-1);
    expect(guest.table.pin(8, false)).toBe(-1);
    expect(guest.table.map(8, true, 0)).toBe(-1);
    guest.table.flushUses();
    expect([guest.readers.get(8), guest.writers.get(8)]).toEqual([1, 1]);
    guest.table.unpin(8, true);
    guest.table.flushUses();
    expect([guest.readers.get(8), guest.writers.get(8)]).toEqual([0, 0]);
    expect(guest.table.snapshot()).toMatchObject({ inUse: 0, endedInUse: 1 });
  });

  it("XSA-396 a grant that ended before its use began is a status, not an assertion", () => {
    const guest = new GuestGrants();
    guest.grant([[8, page()]]);
    expect(guest.table.checkCopy(8, 0, 64, false, 0)).toBe(0);
    guest.end(8);
    expect(guest.table.pin(8, false)).toBe(-1);
    expect(guest.table.map(8, true, 0)).toBe(-1);
  });
});

describe("XSA-361/362/365", () => {
  const ENTRIES = 7;
  /** Entry k is a copy of no bytes, which succeeds. All others name no domain. */
  it("fault-E7 XSA-361/362/365 every batch entry has its status, whichever one differs", () => {
    const guest = new GuestGrants();
    const calls: Hypervisor = {
      grants: (domid) => (domid === 1 ? guest.table : undefined),
      events: new EventChannels({ now: () => 0 }),
      suspended: () => 0,
    };
    for (let k = 0; k <= ENTRIES; k++) {
      const view = new DataView(new ArrayBuffer(ENTRIES * 40));
      for (let i = 0; i < ENTRIES; i++) {
        view.setUint16(i * 40 + 8, 99, true);
        view.setUint16(i * 40 + 24, 99, true);
        view.setUint16(i * 40 + 32, i === k ? 0 : 64, true);
        view.setUint16(i * 40 + 34, 3, true);
        // A status that is never written would stay at this value.
        view.setInt16(i * 40 + 36, 0x7777, true);
      }
      const { errno, bytes } = dispatch(calls, 1, 20, 5, new Uint8Array(view.buffer));
      const out = new DataView(bytes.buffer, bytes.byteOffset);
      expect(errno).toBe(0);
      expect(Array.from({ length: ENTRIES }, (_, i) => out.getInt16(i * 40 + 36, true))).toEqual(
        Array.from({ length: ENTRIES }, (_, i) => (i === k ? 0 : -2)),
      );
    }
  });

  it("XSA-361/362/365 the k-th mapping that fails leaves the others mapped, to be unwound", () => {
    for (let k = 0; k < ENTRIES; k++) {
      const guest = new GuestGrants();
      guest.grant(Array.from({ length: ENTRIES }, (_, i) => [8 + i, page(i === k ? 2 : PERMIT)]));
      const handles = Array.from({ length: ENTRIES }, (_, i) => guest.table.map(8 + i, true, 0));
      const statuses = handles.map((handle) => (typeof handle === "number" ? handle : 0));
      expect(statuses).toEqual(Array.from({ length: ENTRIES }, (_, i) => (i === k ? -1 : 0)));
      expect(guest.table.snapshot()).toMatchObject({ mapped: ENTRIES - 1, inUse: ENTRIES - 1 });
      for (const handle of handles) if (typeof handle !== "number") guest.table.unmap(handle);
      expect(guest.table.snapshot()).toMatchObject({ mapped: 0, inUse: 0 });
    }
  });
});

it("XSA-448 zero-length copies are no-ops whatever they name; one byte is not", () => {
  const guest = new GuestGrants();
  guest.grant([
    [8, page()],
    [9, page(PERMIT | 4)],
  ]);
  const odd: [reference: number, offset: number, write: boolean, caller: number, one: number][] = [
    [8, 0, false, 0, 0],
    [8, 4095, true, 0, 0],
    [8, 4096, false, 0, -10],
    [8, 0xffff, true, 0, -10],
    [9, 0, true, 0, -1],
    [8, 0, false, 7, -1],
    [10, 0, false, 0, -1],
    [0xffffffff, 0, true, 0, -3],
  ];
  for (const [reference, offset, write, caller, one] of odd) {
    expect(guest.table.checkCopy(reference, offset, 0, write, caller)).toBe(0);
    expect(guest.table.checkCopy(reference, offset, 1, write, caller)).toBe(one);
  }
  guest.table.flushUses();
  expect(guest.told).toEqual([]);
});
