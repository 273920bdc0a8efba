/**
 * A guest's grant table and the device's copy of it, joined by two queues. Actions of the two sides
 * cross in every way that two ordered queues allow.
 *
 *   guest's table ── grant, end_grant ──► queue ──► device's table
 *                 ◄── queue ◄── grant_use, write ──
 *
 * The model is a list of the guest's grants, which the test keeps from its own calls. The list says
 * which page a write of the device may change when the write arrives.
 */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GrantTable as DeviceTable, type Mapping } from "../../device/xen/grant-table.ts";
import type { HypervisorLink } from "../../frontend/bus/hypervisor.ts";
import { Hypervisor } from "../../frontend/bus/hypervisor.ts";
import { DmaSpace } from "../../frontend/bus/space.ts";
import { GrantTable as GuestTable } from "../../frontend/xen/grant-table.ts";
import { silentLogger } from "../../shared/log.ts";
import type { GrantVersion } from "../../shared/wire/protocol.ts";
import { busAddress, Space } from "../../shared/wire/records.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { cases, holds } from "../support/counts.ts";
import { same, sameBytes } from "../support/same.ts";

const PAGE_BYTES = 4096;
const PAGES = 4;
/**
 * References in use by turns. The others of the frame are claimed first, so that these return soon.
 */
const REFERENCES = 5;

interface Granted {
  readonly reference: number;
  readonly page: number;
  readonly readonly: boolean;
}
interface Use {
  readonly reference: number;
  readonly write: boolean;
  /** The handle of a mapping; a pin has none. */
  readonly handle?: Mapping;
}

class World implements HypervisorLink {
  readonly hypervisor = new Hypervisor();
  readonly space = new DmaSpace({ log: silentLogger, now: () => 0 });
  readonly guest: GuestTable;
  readonly device: DeviceTable;
  readonly pages;
  readonly toDevice: (() => void)[] = [];
  readonly toGuest: (() => void)[] = [];
  /** References that grant a page, references that grant none, and references given up. */
  granted: Granted[] = [];
  idle: number[] = [];
  quarantined: Granted[] = [];
  /** The device's uses. */
  uses: Use[] = [];
  /** All references that a step may name; the first ones belong to the drained pool. */
  readonly references: number[] = [];
  readonly #drained: number;
  #stamp = 0;
  writes = { landed: 0, refused: 0 };
  crossings = 0;

  constructor() {
    this.guest = new GuestTable({
      hypervisor: this.hypervisor,
      space: this.space,
      log: silentLogger,
      maxFrames: 1,
    });
    this.space.grants = this.guest;
    this.hypervisor.attachLink(this);
    this.pages = Array.from({ length: PAGES }, (_, i) =>
      this.space.allocCoherent(PAGE_BYTES, PAGE_BYTES, `page ${i}`),
    );
    this.device = new DeviceTable({
      domid: 1,
      maxFrames: 1,
      maxMappings: 8,
      use: (reference, readers, writers) => {
        this.toGuest.push(() => this.hypervisor.onGrantUse(grantRef(reference), readers, writers));
      },
    });
    const all = this.guest.freeCount;
    for (let i = 0; i < all - REFERENCES; i++) this.guest.allocGrantReference();
    for (let i = 0; i < REFERENCES; i++) this.references.push(this.guest.allocGrantReference());
    for (const reference of this.references) this.guest.freeGrantReference(grantRef(reference));
    this.#drained = all - REFERENCES;
  }

  // The link. Records are copied, as a batch copies them.

  grants(version: GrantVersion, records: Uint8Array, count: number): void {
    const view = new DataView(records.slice().buffer);
    this.toDevice.push(() => this.device.grant(version, view, 0, count));
  }
  endGrants(records: Uint8Array, count: number): void {
    const view = new DataView(records.slice().buffer);
    this.toDevice.push(() => this.device.endGrant(view, 0, count));
  }
  event(): void {}
  xenstore(): void {}
  scheduleFlush(): void {}
  hypercall(): Promise<Uint8Array> {
    return Promise.reject(new Error("none is made"));
  }

  // The guest.

  grant(reference: number, page: number, readonly: boolean): void {
    const known = [...this.granted, ...this.quarantined].map((g) => g.reference);
    same(known.includes(reference), false, "granted already");
    same(this.guest.queryForeignAccess(grantRef(reference)), 0, "given out while in use");
    this.guest.grantForeignAccessRef(grantRef(reference), 0, this.pages[page]!.address, readonly);
    this.granted.push({ reference, page, readonly });
  }

  take(page: number, readonly: boolean): void {
    const reference = this.guest.allocGrantReference();
    if (reference >= 0) this.grant(reference, page, readonly);
  }

  regrant(at: number, page: number, readonly: boolean): void {
    const old = this.idle[at];
    if (old === undefined) return;
    const reference = this.guest.renew(grantRef(old));
    if (reference < 0) return;
    this.idle.splice(at, 1);
    this.grant(reference, page, readonly);
  }

  end(at: number, after: "keep" | "free" | "quarantine"): void {
    const g = this.granted[at];
    if (g === undefined) return;
    const { reference } = g;
    const busy = this.guest.queryForeignAccess(grantRef(reference)) !== 0;
    same(this.guest.endForeignAccessRef(grantRef(reference)), !busy);
    if (busy && after !== "quarantine") return;
    this.granted.splice(at, 1);
    if (busy) {
      this.quarantined.push(g);
      this.guest.quarantine(grantRef(reference), () => {
        this.quarantined = this.quarantined.filter((other) => other !== g);
      });
      return;
    }
    if (this.device.usesOf(reference).readers !== 0) this.crossings++;
    if (after === "keep") this.idle.push(reference);
    else this.guest.freeGrantReference(grantRef(reference));
  }

  free(at: number): void {
    const [reference] = this.idle.splice(at, 1);
    if (reference !== undefined) this.guest.freeGrantReference(grantRef(reference));
  }

  // The device, which is honest and checks its own table first.

  pin(reference: number, write: boolean): void {
    if (this.device.pin(reference, write) === 0) this.uses.push({ reference, write });
  }

  map(reference: number, write: boolean): void {
    const handle = this.device.map(reference, write, 0);
    if (typeof handle !== "number") this.uses.push({ reference, write, handle });
  }

  /** Ends a pin or a mapping. */
  finish(at: number): void {
    const [use] = this.uses.splice(at, 1);
    if (use === undefined) return;
    if (use.handle === undefined) this.device.unpin(use.reference, use.write);
    else same(this.device.unmap(use.handle), 0);
  }

  /** Copies into a page, or writes through a mapping of it. */
  copy(reference: number, offset: number, at: number): void {
    const use = this.uses[at];
    if (use?.handle !== undefined && use.write) {
      if (this.device.reaches(use.handle)) this.#write(use.reference, offset);
    } else if (this.device.checkCopy(reference, offset, 1, true, 0) === 0) {
      this.#write(reference, offset);
    }
  }

  #write(reference: number, offset: number): void {
    this.#stamp = (this.#stamp % 255) + 1;
    const byte = Uint8Array.of(this.#stamp);
    this.toGuest.push(() => this.#arrive(reference, offset, byte));
  }

  /** A write reaches the guest: it changes the page that the reference grants now, or nothing. */
  #arrive(reference: number, offset: number, byte: Uint8Array): void {
    const now = [...this.granted, ...this.quarantined].find((g) => g.reference === reference);
    const expected = this.pages.map((page) => page.bytes.slice());
    const allowed = now !== undefined && !now.readonly;
    if (allowed) expected[now.page]![offset] = byte[0]!;
    const address = busAddress(reference * PAGE_BYTES + offset);
    same(this.space.deviceWrite(Space.GRANT, address, byte, 0, 1), allowed);
    for (const [i, page] of this.pages.entries()) {
      sameBytes(page.bytes, expected[i]!, `page ${i}`);
    }
    if (allowed) this.writes.landed++;
    else this.writes.refused++;
  }

  // The queues.

  deliver(queue: (() => void)[], count: number): void {
    for (const message of queue.splice(0, count)) message();
  }

  /** Delivers everything; then both sides have the same counts. */
  settle(): void {
    this.guest.post();
    this.device.flushUses();
    this.deliver(this.toDevice, this.toDevice.length);
    this.deliver(this.toGuest, this.toGuest.length);
    // Delivers the ends that the quarantine has posted.
    this.guest.post();
    this.deliver(this.toDevice, this.toDevice.length);
    for (const reference of this.references) {
      const { readers, writers } = this.device.usesOf(reference);
      same(this.guest.queryForeignAccess(grantRef(reference)), readers + writers);
      const frame = this.granted.find((g) => g.reference === reference)?.page;
      const kept = this.quarantined.find((g) => g.reference === reference)?.page;
      const page = frame ?? kept;
      same(
        this.device.frameOf(reference),
        page === undefined ? -1 : this.pages[page]!.address / PAGE_BYTES,
      );
    }
  }

  /** Every reference is in exactly one place. */
  conserved(): void {
    const { guest } = this;
    same(guest.liveCount, this.granted.length + this.quarantined.length);
    same(guest.quarantined, this.quarantined.length);
    const owned = this.granted.length + this.idle.length + this.quarantined.length;
    same(guest.freeCount + guest.heldCount + owned + this.#drained, guest.capacity);
  }

  /** The device ends all uses, and the guest then takes all references back. */
  finishAll(): void {
    while (this.uses.length > 0) this.finish(0);
    this.settle();
    for (const r of this.references) same(this.guest.queryForeignAccess(grantRef(r)), 0);
    while (this.granted.length > 0) this.end(0, "free");
    while (this.idle.length > 0) this.free(0);
    this.settle();
    this.conserved();
    expect([this.guest.freeCount, this.guest.heldCount, this.guest.quarantined]).toEqual([
      REFERENCES,
      0,
      0,
    ]);
    expect(this.device.snapshot()).toMatchObject({ granted: 0, inUse: 0, readers: 0, mapped: 0 });
  }
}

const page = fc.nat({ max: PAGES - 1 });
const at = fc.nat({ max: 5 });
const which = fc.nat({ max: REFERENCES - 1 });
const step = fc.oneof(
  fc.record({ do: fc.constant("take" as const), page, readonly: fc.boolean() }),
  fc.record({ do: fc.constant("regrant" as const), at, page, readonly: fc.boolean() }),
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("end" as const),
      at,
      after: fc.constantFrom("keep" as const, "free" as const, "quarantine" as const),
    }),
  },
  fc.record({ do: fc.constant("free" as const), at }),
  { weight: 2, arbitrary: fc.record({ do: fc.constant("post" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("pin" as const), which, w: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("map" as const), which, w: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("finish" as const), at }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("copy" as const),
      which,
      offset: fc.constantFrom(0, 77, PAGE_BYTES - 1),
      at,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("flush" as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("deliver" as const),
      down: fc.boolean(),
      count: fc.integer({ min: 1, max: 3 }),
    }),
  },
  fc.record({ do: fc.constant("settle" as const) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function apply(world: World, s: Step): void {
  switch (s.do) {
    case "take":
      world.take(s.page, s.readonly);
      return;
    case "regrant":
      world.regrant(s.at, s.page, s.readonly);
      return;
    case "end":
      world.end(s.at, s.after);
      return;
    case "free":
      world.free(s.at);
      return;
    case "post":
      world.guest.post();
      return;
    case "pin":
      world.pin(world.references[s.which]!, s.w);
      return;
    case "map":
      world.map(world.references[s.which]!, s.w);
      return;
    case "finish":
      world.finish(s.at);
      return;
    case "copy":
      world.copy(world.references[s.which]!, s.offset, s.at);
      return;
    case "flush":
      world.device.flushUses();
      return;
    case "deliver":
      world.deliver(s.down ? world.toDevice : world.toGuest, s.count);
      return;
    case "settle":
      world.settle();
      return;
  }
}

describe("grants that cross", () => {
  it("property: nothing throws, nothing lands where it may not, and the counts meet", () => {
    const seen = { landed: 0, refused: 0, crossings: 0, endedInUse: 0 };
    holds(
      fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
        const world = new World();
        for (const s of steps) {
          apply(world, s);
          world.conserved();
        }
        world.finishAll();
        seen.landed += world.writes.landed;
        seen.refused += world.writes.refused;
        seen.crossings += world.crossings;
        seen.endedInUse += world.device.snapshot()["endedInUse"] as number;
      }),
      { numRuns: cases(5000) },
    );
    // The steps covered all interesting cases.
    for (const [what, count] of Object.entries(seen)) expect(count, what).toBeGreaterThan(0);
  });

  it("property: a device that makes its counts up breaks nothing, and holds what it says until its link is gone", () => {
    const lie = fc.record({
      reference: fc.oneof(
        which.map((i) => i - REFERENCES),
        fc.constantFrom(0, 7, 512, 2 ** 32 - 1),
      ),
      readers: fc.constantFrom(-0x8000, -1, 0, 1, 2, 0x7fff),
      writers: fc.constantFrom(-0x8000, -1, 0, 1, 0x7fff),
    });
    holds(
      fc.property(fc.array(fc.oneof(step, lie), { maxLength: 100 }), (steps) => {
        const world = new World();
        for (const s of steps) {
          if ("do" in s) {
            // Both sides can't agree while the device lies.
            if (s.do !== "settle") apply(world, s);
          } else {
            const turn = world.references[s.reference + REFERENCES];
            world.hypervisor.onGrantUse(grantRef(turn ?? s.reference), s.readers, s.writers);
          }
          world.conserved();
        }
        world.hypervisor.detachLink();
        world.guest.linkGone();
        world.conserved();
        expect([world.guest.heldCount, world.guest.quarantined]).toEqual([0, 0]);
        while (world.granted.length > 0) world.end(0, "free");
        while (world.idle.length > 0) world.free(0);
        same(world.guest.freeCount, REFERENCES);
      }),
      { numRuns: cases(5000) },
    );
  });
});
