/**
 * E11: bus_dma for Xen against a model of counts. Maps are created, loaded, wait, are unloaded and
 * destroyed, while references run short and the device keeps some of them in use. After every step
 * each reference is free, or held by exactly one map or by the test. The grants posted to the
 * device are those of the loaded maps.
 */

import fc from "fast-check";
import { expect, it } from "vitest";
import { Errno } from "../../frontend/bus/errno.ts";
import {
  BUS_DMA_NOWAIT,
  BUS_DMA_XEN_DOMID_SHIFT,
  BUS_DMA_XEN_PREALLOC_REFS,
  BUS_DMA_XEN_RO,
  createXenTag,
  DmaLockOp,
  getXenDmaTag,
  type XenDmaMap,
  type XenDmaTag,
} from "../../frontend/xen/bus-dma-xen/index.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { cases, holds } from "../support/counts.ts";
import { GrantStage } from "../support/grant-stage.ts";
import { same, sameBytes } from "../support/same.ts";

const PAGE = 4096;
const SEGMENTS = 4;
const MAPS = 6;
/** References that the maps share; the test holds the others. */
const SCARCE = 10;
const DOMID = 0;
const STILL_LOADED = Uint8Array.of(0x11);

interface Slot {
  map: XenDmaMap;
  prealloc: boolean;
  state: "idle" | "loading" | "loaded";
  pages: number;
  readonly: boolean;
  /** Uses of segment 0 that the device reported. */
  uses: number;
  memory: Uint8Array;
}

/** A map destroyed while in use: all its references came back at once, except that of segment 0. */
interface Kept {
  reference: number;
  uses: number;
}

class World {
  readonly stage = new GrantStage({ maxFrames: 1 });
  readonly tag: XenDmaTag;
  readonly slots: (Slot | undefined)[] = new Array<Slot | undefined>(MAPS).fill(undefined);
  /** References that the test holds. */
  readonly held: number[] = [];
  /** Loads that wait, in order. */
  readonly waiting: Slot[] = [];
  /** Maps destroyed while the device used segment 0. */
  readonly kept: Kept[] = [];
  free: number;
  locked = false;

  constructor() {
    const { space, grants } = this.stage;
    const tag = createXenTag(getXenDmaTag(space, grants), {
      name: "model",
      alignment: 1,
      boundary: PAGE,
      maxSize: SEGMENTS * PAGE,
      nSegments: SEGMENTS,
      maxSegSize: PAGE,
      direction: "both",
      flags: DOMID << BUS_DMA_XEN_DOMID_SHIFT,
      lock: (op) => {
        if (this.locked === (op === DmaLockOp.LOCK)) throw new Error("lock used twice");
        this.locked = op === DmaLockOp.LOCK;
      },
    });
    if (typeof tag === "number") throw new Error(`errno ${tag}`);
    this.tag = tag;
    while (grants.freeCount > SCARCE) this.held.push(grants.allocGrantReference());
    this.free = SCARCE;
  }

  create(at: number, prealloc: boolean): void {
    if (this.slots[at] !== undefined) return;
    const map = this.tag.createMap(prealloc ? BUS_DMA_XEN_PREALLOC_REFS : 0);
    if (prealloc && this.free < SEGMENTS) {
      same(map, Errno.ENOSPC);
      return;
    }
    if (typeof map === "number") throw new Error(`createMap: ${map}`);
    if (prealloc) this.free -= SEGMENTS;
    const memory = new Uint8Array((SEGMENTS + 1) * PAGE).fill(0x11);
    this.slots[at] = {
      map,
      prealloc,
      state: "idle",
      pages: 0,
      readonly: false,
      uses: 0,
      memory,
    };
  }

  load(slot: Slot, pages: number, nowait: boolean, readonly: boolean): void {
    const flags = (nowait ? BUS_DMA_NOWAIT : 0) | (readonly ? BUS_DMA_XEN_RO : 0);
    const length = pages * PAGE;
    const act = (): number =>
      slot.map.load(slot.memory, 0, length, (arg) => this.calledBack(arg), slot, flags);
    if (slot.state !== "idle") {
      expect(act).toThrow("loaded while");
      return;
    }
    slot.pages = pages;
    slot.readonly = readonly;
    if (pages === 0 || pages > SEGMENTS) {
      // At this size both limits are exceeded; maxSize is checked first.
      same(act(), Errno.EINVAL);
    } else if (slot.prealloc || pages <= this.free) {
      same(act(), 0);
      same(slot.state, "loaded");
    } else if (nowait) {
      same(act(), Errno.ENOSPC);
    } else {
      same(act(), Errno.EINPROGRESS);
      slot.state = "loading";
      this.waiting.push(slot);
    }
  }

  calledBack(slot: Slot): void {
    const deferred = slot.state === "loading";
    same(this.locked, deferred);
    if (deferred) same(this.waiting.shift(), slot);
    slot.state = "loaded";
    if (!slot.prealloc) this.free -= slot.pages;
  }

  unload(slot: Slot): void {
    if (slot.state === "idle") {
      expect(() => slot.map.unload()).toThrow("unloaded while not loaded");
    } else if (slot.uses > 0) {
      same(slot.map.unload(), Errno.EBUSY);
    } else {
      same(slot.map.unload(), 0);
      if (slot.state === "loading") this.waiting.splice(this.waiting.indexOf(slot), 1);
      else if (!slot.prealloc) this.free += slot.pages;
      slot.state = "idle";
    }
  }

  destroy(at: number, slot: Slot): void {
    if (slot.state !== "idle") {
      expect(() => slot.map.destroy()).toThrow("destroyed while");
      return;
    }
    slot.map.destroy();
    if (slot.prealloc) this.free += SEGMENTS;
    this.slots[at] = undefined;
  }

  quarantine(at: number, slot: Slot): void {
    if (slot.state !== "loaded") return;
    const references = slot.prealloc ? SEGMENTS : slot.pages;
    const reference = slot.map.gref(0);
    let over = false;
    const entry: Kept = { reference, uses: slot.uses };
    slot.map.quarantine(() => {
      over = true;
      const i = this.kept.indexOf(entry);
      if (i >= 0) this.kept.splice(i, 1);
    });
    same(over, slot.uses === 0);
    this.slots[at] = undefined;
    this.free += references;
    if (slot.uses > 0) {
      this.free -= 1;
      this.kept.push(entry);
    }
  }

  use(slot: Slot, more: boolean): void {
    if (slot.state !== "loaded" || (!more && slot.uses === 0)) return;
    this.stage.use(slot.map.gref(0), more ? 1 : -1);
    slot.uses += more ? 1 : -1;
  }

  endUse(i: number): void {
    const kept = this.kept[i % Math.max(1, this.kept.length)];
    if (kept === undefined) return;
    this.stage.use(kept.reference, -1);
    kept.uses--;
    if (kept.uses === 0) {
      same(this.kept.includes(kept), false);
      this.free++;
    } else {
      same(this.kept.includes(kept), true);
    }
  }

  take(): void {
    const reference = this.stage.grants.allocGrantReference();
    same(reference >= 0, this.free > 0);
    if (reference < 0) return;
    this.free--;
    this.held.push(reference);
  }

  give(): void {
    const reference = this.held.pop();
    if (reference === undefined) return;
    this.stage.grants.freeGrantReference(grantRef(reference));
    this.free++;
  }

  reconnect(): void {
    this.free += this.kept.length;
    for (const slot of this.slots) if (slot !== undefined) slot.uses = 0;
    this.stage.reconnect();
    expect(this.kept).toEqual([]);
  }

  /** Lets the table serve the waiting loads. */
  async turn(): Promise<void> {
    await new Promise(setImmediate);
    const first = this.waiting[0];
    if (first !== undefined) expect(first.pages).toBeGreaterThan(this.free);
  }

  check(): void {
    const { grants, device } = this.stage;
    same(grants.freeCount, this.free);
    same(grants.quarantined, this.kept.length);
    grants.post();
    const owners = new Map<number, boolean>();
    for (const slot of this.slots) {
      if (slot === undefined) continue;
      same(slot.map.loaded, slot.state === "loaded");
      same(slot.map.loading, slot.state === "loading");
      same(slot.map.segmentCount, slot.state === "loaded" ? slot.pages : 0);
      for (let i = 0; i < slot.map.segmentCount; i++) {
        same(owners.has(slot.map.gref(i)), false);
        owners.set(slot.map.gref(i), slot.readonly);
      }
    }
    for (const { reference } of this.kept) {
      same(device.entries.has(reference), true);
      // A page that the device still uses keeps the loaded bytes.
      sameBytes(this.stage.read(reference, 0, 1) as Uint8Array, STILL_LOADED);
    }
    same(device.entries.size, owners.size + this.kept.length);
    same(grants.liveCount, device.entries.size);
    for (const [reference, readonly] of owners) {
      const entry = device.entries.get(reference);
      same(entry?.flags, readonly ? 5 : 1);
      same(entry?.domid, DOMID);
    }
  }
}

interface Step {
  what:
    | ("create" | "load" | "unload" | "destroy" | "quarantine")
    | ("use" | "endUse" | "take" | "give" | "turn" | "reconnect");
  at: number;
  pages: number;
  yes: boolean;
  also: boolean;
}

const step: fc.Arbitrary<Step> = fc.record({
  what: fc.oneof(
    { weight: 30, arbitrary: fc.constantFrom<Step["what"][]>("load", "load", "unload", "create") },
    { weight: 20, arbitrary: fc.constantFrom<Step["what"][]>("use", "use", "endUse", "turn") },
    { weight: 10, arbitrary: fc.constantFrom<Step["what"][]>("take", "give", "destroy") },
    { weight: 2, arbitrary: fc.constantFrom<Step["what"][]>("quarantine", "quarantine") },
    { weight: 1, arbitrary: fc.constant<Step["what"]>("reconnect") },
  ),
  at: fc.nat(MAPS - 1),
  pages: fc.oneof(
    { weight: 12, arbitrary: fc.integer({ min: 1, max: SEGMENTS }) },
    fc.constantFrom(0, SEGMENTS + 1),
  ),
  yes: fc.boolean(),
  also: fc.boolean(),
});

async function apply(world: World, { what, at, pages, yes, also }: Step): Promise<void> {
  if (what === "create") return world.create(at, yes);
  if (what === "endUse") return world.endUse(at);
  if (what === "take") return world.take();
  if (what === "give") return world.give();
  if (what === "turn") return world.turn();
  if (what === "reconnect") return world.reconnect();
  const slot = world.slots[at];
  if (slot === undefined) return;
  if (what === "load") world.load(slot, pages, yes, also);
  else if (what === "unload") world.unload(slot);
  else if (what === "destroy") world.destroy(at, slot);
  else if (what === "quarantine") world.quarantine(at, slot);
  else world.use(slot, yes);
}

it("fault-E11: references are conserved by every step, and all come back in the end", async () => {
  await holds(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 120 }), async (steps) => {
      const world = new World();
      for (const s of steps) {
        await apply(world, s);
        world.check();
      }
      world.reconnect();
      for (const [at, slot] of world.slots.entries()) {
        if (slot === undefined) continue;
        if (slot.state !== "idle") world.unload(slot);
        world.destroy(at, slot);
      }
      while (world.held.length > 0) world.give();
      world.tag.destroy();
      world.check();
      same(world.free, world.stage.grants.capacity);
    }),
    { numRuns: cases(3000) },
  );
});
