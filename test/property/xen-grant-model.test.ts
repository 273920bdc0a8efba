import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Mapping } from "../../device/xen/grant-table.ts";
import { WireError } from "../../shared/wire/protocol.ts";
import { cases, holds } from "../support/counts.ts";
import { GuestGrants } from "../support/guest-grants.ts";
import { same } from "../support/same.ts";

// The model keeps each entry as the guest wrote it and a list of uses, and counts by searching the
// list. Numbers are those of xen/include/public/grant_table.h.
const READONLY = 4;
const SUB_PAGE = 0x100;
const BACKENDS = [0, 3];
/** Two frames of version 1: a few references of both frames, reserved ones, and one beyond. */
const MAX_FRAMES = 2;
const REFERENCES = [0, 7, 8, 9, 255, 300, 511, 512, 700, 1023, 1024];
const MAPPINGS = 6;

interface Entry {
  flags: number;
  domid: number;
  frame: number;
  pageOff: number;
  length: number;
}
interface Use {
  readonly reference: number;
  readonly write: boolean;
  /** The life of its entry in which the use began: see Model. */
  readonly life: number;
  /** Undefined for a pin. */
  readonly handle?: Mapping;
}
interface Model {
  version: 1 | 2;
  frames: number;
  readonly entries: Map<number, Entry>;
  uses: Use[];
  /** How often each entry was replaced: a mapping reaches only the entry that it mapped. */
  readonly lives: Map<number, number>;
  endedInUse: number;
  /** Mappings that have ended. */
  readonly spent: Mapping[];
}

const perFrame = (m: Model): number => (m.version === 1 ? 512 : 256);
const usesOf = (m: Model, reference: number): Use[] =>
  m.uses.filter((use) => use.reference === reference);

/** Xen's answer to a use of the entry, before any check of lengths. */
function allowed(m: Model, reference: number, write: boolean, caller: number): number {
  if (reference >= m.frames * perFrame(m)) return -3;
  const e = m.entries.get(reference);
  if (e === undefined || e.flags % 4 !== 1 || e.domid !== caller) return -1;
  return write && (e.flags & READONLY) !== 0 ? -1 : 0;
}

const reference = fc.constantFrom(...REFERENCES);
const caller = fc.constantFrom(...BACKENDS);
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("grant" as const),
      reference,
      type: fc.constantFrom(1, 1, 1, 1, 0, 2, 3),
      bits: fc.constantFrom(0, 0, READONLY, SUB_PAGE, READONLY | SUB_PAGE, 8 | 16),
      domid: fc.constantFrom(0, 0, 3),
      pageOff: fc.constantFrom(0, 100, 4000),
      length: fc.constantFrom(0, 1, 96, 4096),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("end" as const), reference }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("map" as const),
      reference,
      write: fc.boolean(),
      caller,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("unmap" as const),
      pick: fc.nat(),
      spent: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("copy" as const),
      reference,
      offset: fc.constantFrom(0, 99, 100, 195, 4000, 4095, 4096, 65535),
      length: fc.constantFrom(0, 1, 96, 97, 4096, 65535),
      write: fc.boolean(),
      caller,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("pin" as const), reference, write: fc.boolean() }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("unpin" as const), pick: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("version" as const), version: fc.constantFrom(1, 2) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("flush" as const) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function expectThrow(code: string | undefined, act: () => void): void {
  let thrown: string | undefined;
  try {
    act();
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    thrown = error.code;
  }
  same(thrown, code);
}

/** The error when the guest must not change this entry now. */
function forbidden(m: Model, reference: number): string | undefined {
  return reference >= MAX_FRAMES * perFrame(m) ? "GRANT_REFERENCE" : undefined;
}

const lifeOf = (m: Model, reference: number): number => m.lives.get(reference) ?? 0;

/** The guest ends or replaces the entry, even while it is in use. */
function leave(m: Model, reference: number): void {
  // An entry that grants nothing (type 0, no bits) can't be ended.
  const flags = m.entries.get(reference)?.flags ?? 0;
  if (flags !== 0 && usesOf(m, reference).length > 0) m.endedInUse++;
  m.lives.set(reference, lifeOf(m, reference) + 1);
}

function apply(guest: GuestGrants, m: Model, s: Step): void {
  const { table } = guest;
  switch (s.do) {
    case "grant": {
      // An entry of version 1 can't grant a part of a page.
      const part = m.version === 1 ? { pageOff: 0, length: 0 } : {};
      const entry = { ...s, ...part, flags: s.type | s.bits, frame: s.reference + 0x1000 };
      const code = forbidden(m, s.reference);
      expectThrow(code, () => guest.grant([[s.reference, entry]]));
      if (code !== undefined) return;
      leave(m, s.reference);
      m.entries.set(s.reference, entry);
      m.frames = Math.max(m.frames, Math.floor(s.reference / perFrame(m)) + 1);
      return;
    }
    case "end": {
      const code = forbidden(m, s.reference);
      expectThrow(code, () => guest.end(s.reference));
      if (code !== undefined) return;
      leave(m, s.reference);
      m.entries.delete(s.reference);
      return;
    }
    case "map": {
      let expected = allowed(m, s.reference, s.write, s.caller);
      const part = (m.entries.get(s.reference)?.flags ?? 0) & SUB_PAGE;
      if (expected === 0 && part !== 0) expected = -1;
      if (m.uses.filter((use) => use.handle !== undefined).length === MAPPINGS) expected = -13;
      const handle = table.map(s.reference, s.write, s.caller);
      same(typeof handle === "number" ? handle : 0, expected);
      if (typeof handle === "number") return;
      same(handle.reference, s.reference);
      same(handle.frame, s.reference + 0x1000);
      const life = lifeOf(m, s.reference);
      m.uses.push({ reference: s.reference, write: s.write, life, handle });
      return;
    }
    case "unmap": {
      const maps = m.uses.filter((use) => use.handle !== undefined);
      if (s.spent && m.spent.length > 0) {
        same(table.unmap(m.spent[s.pick % m.spent.length]!), -4);
        return;
      }
      const use = maps[s.pick % maps.length];
      if (use === undefined) return;
      same(table.unmap(use.handle!), 0);
      m.uses = m.uses.filter((other) => other !== use);
      m.spent.push(use.handle!);
      return;
    }
    case "copy": {
      const { offset, length } = s;
      let expected = allowed(m, s.reference, s.write, s.caller);
      const e = m.entries.get(s.reference);
      if (expected === 0 && offset + length > 4096) expected = -10;
      if (expected === 0 && m.version === 2 && (e!.flags & SUB_PAGE) !== 0) {
        const inside = offset >= e!.pageOff && offset + length <= e!.pageOff + e!.length;
        if (!inside) expected = -1;
      }
      if (length === 0) expected = 0;
      same(table.checkCopy(s.reference, offset, length, s.write, s.caller), expected);
      return;
    }
    case "pin": {
      const expected = allowed(m, s.reference, s.write, m.entries.get(s.reference)?.domid ?? 0);
      same(table.pin(s.reference, s.write), expected);
      const life = lifeOf(m, s.reference);
      if (expected === 0) m.uses.push({ reference: s.reference, write: s.write, life });
      return;
    }
    case "unpin": {
      const pins = m.uses.filter((use) => use.handle === undefined);
      const use = pins[s.pick % pins.length];
      if (use === undefined) return;
      table.unpin(use.reference, use.write);
      m.uses = m.uses.filter((other) => other !== use);
      return;
    }
    case "version": {
      const used = m.uses.some((use) => use.reference >= 8);
      const parts = [...m.entries].some(
        ([r, e]) => r < 8 && e.flags % 4 === 1 && (e.flags & SUB_PAGE) !== 0,
      );
      let expected = 0;
      if (s.version !== m.version) {
        if (s.version === 1 && parts) expected = -34;
        if (used) expected = -16;
      }
      same(table.setVersion(s.version), expected);
      if (expected !== 0 || s.version === m.version) return;
      for (const [r, e] of m.entries) if (r >= 8 || e.flags % 4 !== 1) m.entries.delete(r);
      m.version = s.version as 1 | 2;
      return;
    }
    case "flush":
      table.flushUses();
      // The use counts reported to the guest add up to the present uses of each entry.
      for (const r of REFERENCES) {
        const uses = usesOf(m, r);
        same(guest.readers.get(r) ?? 0, uses.length);
        same(guest.writers.get(r) ?? 0, uses.filter((use) => use.write).length);
      }
  }
}

function compare(guest: GuestGrants, m: Model): void {
  const { table } = guest;
  for (const r of REFERENCES) {
    const uses = usesOf(m, r);
    const told = table.usesOf(r);
    same(told.readers, uses.length);
    same(told.writers, uses.filter((use) => use.write).length);
    const e = m.entries.get(r);
    const granted = e !== undefined && e.flags % 4 === 1 && r < m.frames * perFrame(m);
    same(table.frameOf(r), granted ? e.frame : -1);
  }
  for (const use of m.uses) {
    if (use.handle === undefined) continue;
    const holds = use.life === lifeOf(m, use.reference);
    same(table.reaches(use.handle), holds);
  }
  const maps = m.uses.filter((use) => use.handle !== undefined).length;
  const said = table.snapshot();
  const counts = {
    version: m.version,
    frames: m.frames,
    readers: m.uses.length,
    writers: m.uses.filter((use) => use.write).length,
    inUse: new Set(m.uses.map((use) => use.reference)).size,
    mapped: maps,
    endedInUse: m.endedInUse,
  };
  for (const [name, count] of Object.entries(counts)) {
    same(said[name as keyof typeof counts], count, name);
  }
}

describe("the grant table against a list of uses", () => {
  it("property: every status and every count, after every step", () => {
    holds(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const guest = new GuestGrants({ maxFrames: MAX_FRAMES, maxMappings: MAPPINGS });
        const m: Model = {
          version: 1,
          frames: 1,
          entries: new Map(),
          uses: [],
          lives: new Map(),
          endedInUse: 0,
          spent: [],
        };
        for (const s of steps) {
          apply(guest, m, s);
          compare(guest, m);
        }
        // After the end of all uses the guest may end and change every entry.
        for (const use of m.uses) {
          if (use.handle === undefined) guest.table.unpin(use.reference, use.write);
          else same(guest.table.unmap(use.handle), 0);
        }
        m.uses = [];
        apply(guest, m, { do: "flush" });
        guest.end(...REFERENCES.filter((r) => r < MAX_FRAMES * perFrame(m)));
        expect(guest.table.snapshot()).toMatchObject({ granted: 0, inUse: 0, mapped: 0 });
      }),
      { numRuns: cases(5000) },
    );
  });

  it("property: flushes at any time tell the same sums", () => {
    holds(
      fc.property(
        fc.array(fc.record({ pin: fc.boolean(), write: fc.boolean(), flush: fc.boolean() }), {
          maxLength: 200,
        }),
        (steps) => {
          const guest = new GuestGrants();
          guest.grant([[8, { flags: 1, domid: 0, frame: 1 }]]);
          const held = { ro: 0, rw: 0 };
          for (const { pin, write, flush } of steps) {
            const kind = write ? "rw" : "ro";
            if (pin) {
              guest.table.pin(8, write);
              held[kind]++;
            } else if (held[kind] > 0) {
              guest.table.unpin(8, write);
              held[kind]--;
            }
            if (!flush) continue;
            const before = guest.told.length;
            guest.table.flushUses();
            same(guest.readers.get(8) ?? 0, held.ro + held.rw);
            same(guest.writers.get(8) ?? 0, held.rw);
            same(guest.told.length - before <= 1, true, "told once");
            for (const t of guest.told.slice(before)) {
              same(t.readers !== 0 || t.writers !== 0, true);
            }
          }
        },
      ),
      { numRuns: cases(5000) },
    );
  });
});
