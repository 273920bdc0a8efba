/** The store's work for a guest's requests: many changes at once, and guests that have to wait. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DEBT_MAX, PAID_PER_MS, TURN_WORK, Xenstore } from "../../device/xen/xenstore/index.ts";
import {
  type Change,
  emptyTree,
  type Node,
  type NodeRecord,
  walk,
  withChanges,
} from "../../device/xen/xenstore/node.ts";
import { XsType, xsStrings } from "../../shared/xen/xenstore.ts";
import { holds } from "../support/counts.ts";
import { addGuest, machineOf } from "../support/store-guest.ts";

/** The deepest path that a relative path can name within the quota of nodes. */
const DEEP = Array.from({ length: 900 }, () => "a").join("/");

describe("requests that make or remove many nodes", () => {
  it("are served until their domain owes too much, and go on when it has paid", () => {
    const { store, clock, guests } = machineOf(2);
    const [guest, neighbour] = guests;
    let served = 0;
    while (guest!.write(DEEP, "1") === "OK\0" && guest!.rm("a") === "OK\0") {
      expect(++served).toBeLessThan(20);
    }
    // A guest's requests are served in order, so even a small request waits behind a waiting one.
    expect(guest!.read("a")).toBe("held");
    expect(neighbour!.write(DEEP, "1")).toBe("OK\0");
    store.flushWatches();
    expect(guest!.takeReply()).toBe("held");

    const { nextTick } = store;
    expect(nextTick).toBeGreaterThan(clock.now);
    expect(nextTick).toBeLessThan((2 * DEBT_MAX) / PAID_PER_MS);
    clock.now = nextTick - 0.01;
    store.flushWatches();
    expect(guest!.takeReply()).toBe("held");
    clock.now = nextTick;
    store.flushWatches();
    expect(guest!.takeReply()).not.toBe("held");
  });

  it("page-W3 are not paid for by the time that they take: a clock that moves at each look", () => {
    let ms = 0;
    const store = new Xenstore({
      now: () => {
        ms += 60_000;
        return ms;
      },
    });
    const guest = addGuest(store, 1);
    let served = 0;
    while (guest.write(DEEP, "1") === "OK\0" && guest.rm("a") === "OK\0") {
      expect(++served).toBeLessThan(20);
    }
    expect(served).toBeGreaterThan(0);
    // The wait ends with the batch.
    store.flushWatches();
    expect(guest.takeReply()).not.toBe("held");
  });

  it("attack-S2 are served up to a share of a turn; the rest has the next, and others go on", () => {
    const { store, clock, guests } = machineOf(2);
    const [guest, neighbour] = guests;
    guest!.turnWork = TURN_WORK;
    let served = 0;
    while (guest!.write(DEEP.slice(0, 401), `${served}`) === "OK\0" && guest!.rm("a") === "OK\0") {
      expect(++served).toBeLessThan(4);
    }
    expect(neighbour!.write(DEEP, "1")).toBe("OK\0");
    // It owes little, so time is not what it waits for.
    expect(store.nextTick).toBe(clock.now);
    store.flushWatches();
    expect(guest!.takeReply()).toBe("OK\0");
    expect(guest!.read("domid")).toBe("ENOENT");
    expect(store.nextTick).toBeGreaterThan(clock.now);
  });

  it("cost the same in a transaction, and when they are refused or discarded", () => {
    const rounds = (round: (guest: ReturnType<typeof machineOf>["guests"][number]) => string) => {
      const guest = machineOf(1).guests[0]!;
      for (let i = 0; i < 99; i++) guest.mkdir(`kept/${i}`);
      let n = 0;
      while (round(guest) !== "held") expect(++n).toBeLessThan(20);
    };
    rounds((guest) => {
      const tx = guest.start();
      if (guest.write(DEEP.slice(0, 1599), "1", tx) === "held") return "held";
      return guest.end(tx, "F");
    });
    rounds((guest) => {
      const tx = guest.start();
      guest.write(DEEP.slice(0, 1599), "1", tx);
      guest.end(tx);
      return guest.rm("a");
    });
    // The write exceeds the quota by one node.
    rounds((guest) => guest.write(`${DEEP}/a`, "1"));
  });

  it("cost their domain what it hears of them, by however many watches", () => {
    const { store, clock, guests } = machineOf(2);
    const [guest, neighbour] = guests;
    for (let i = 0; i < 128; i++) expect(guest!.watch("/local/domain/1", `${i}`)).toBe("OK\0");
    neighbour!.watch("a", "t");
    guest!.heard();
    neighbour!.heard();
    let told = 0;
    for (let n = 0; n < 500; n++) {
      if (guest!.write(`n${n % 50}`, "1") === "held") break;
      told += guest!.heard().length;
    }
    expect(told).toBeGreaterThan(0);
    expect(told).toBeLessThan(DEBT_MAX);
    expect(guest!.read("n1")).toBe("held");
    neighbour!.write("a", "1");
    expect(neighbour!.heard()).toEqual(["a t"]);
    clock.now = store.nextTick;
    expect(guest!.heard().length).toBeLessThan(1000);
    expect(guest!.cutBy).toBeUndefined();
  });

  it("do not delay the backends, when the toolstack removes what a guest leaves behind", () => {
    const { store, local, guests } = machineOf(2);
    const told: string[] = [];
    local.watch("/local/domain/1/state", "t", (path) => told.push(path));
    for (let n = 0; n < 9; n++) {
      addGuest(store, 3).write(DEEP, "1");
      store.release(3);
    }
    store.flushWatches();
    told.length = 0;
    guests[0]!.write("state", "1");
    store.flushWatches();
    expect(told).toEqual(["/local/domain/1/state"]);
  });

  it("cost by the size of the lists that they go through", () => {
    const { guests } = machineOf(1);
    const guest = guests[0]!;
    for (let i = 0; i < 660; i++) guest.mkdir(`list/${i.toString(36)}`);
    const rounds = (round: () => string): number => {
      let n = 0;
      while (round() !== "held") expect(++n).toBeLessThan(2000);
      return n;
    };
    expect(
      rounds(() => guest.send(XsType.DIRECTORY_PART, xsStrings("list", "1900"))),
    ).toBeGreaterThan(0);
  });

  it("cost nothing when they are as small as a driver's", () => {
    const guest = machineOf(1).guests[0]!;
    for (let i = 0; i < 20_000; i++) {
      if (guest.write("device/vif/0/queue-1/tx-ring-ref", `${i}`) !== "OK\0") expect(i).toBe(-1);
      if (i % 10 === 0 && guest.rm("device") !== "OK\0") expect(i).toBe(-1);
    }
  });
});

describe("many changes of the tree at once", () => {
  let records = 0;
  const record = (): NodeRecord => ({
    value: Uint8Array.of(++records & 0xff),
    permissions: [{ domid: 1, access: 0 }],
    namesBytes: 0,
    generation: records,
    by: 1,
  });
  const shown = (root: Node): string[] =>
    [...walk("/", root)].map(([path, node]) => `${path} ${node.record.generation}`).sort();
  const cost = { work: 0 };
  /** The same changes in a plain map. */
  const applied = (before: ReadonlyMap<string, number>, changes: readonly Change[]): string[] => {
    const after = new Map(before);
    for (const { path, record: made } of changes) {
      if (made !== undefined) after.set(path, made.generation);
      else
        for (const at of after.keys())
          if (at === path || at.startsWith(`${path}/`)) after.delete(at);
    }
    return [...after].map(([path, generation]) => `${path} ${generation}`).sort();
  };

  /** Some paths of a small forest, parents before children. */
  const paths = fc
    .uniqueArray(fc.array(fc.constantFrom("a", "b", "a-"), { minLength: 1, maxLength: 4 }), {
      maxLength: 12,
      selector: (names) => names.join("/"),
    })
    .map((all) => {
      const whole = new Set<string>();
      for (const names of all) {
        for (let n = 1; n <= names.length; n++) whole.add(`/${names.slice(0, n).join("/")}`);
      }
      return [...whole].sort();
    });

  it("are refused for a node whose parent is missing, by its path", () => {
    const changes = [{ path: "/a/b", record: record() }];
    expect(() => withChanges(emptyTree(), changes, cost)).toThrow("/a/b has nothing above it");
  });

  it("property: are the same as one after the other, and leave the tree before them as it was", () => {
    holds(
      fc.property(paths, paths, fc.infiniteStream(fc.boolean()), (before, touched, removes) => {
        let base = emptyTree();
        for (const path of before) base = withChanges(base, [{ path, record: record() }], cost);
        const model = new Map(
          [...walk("/", base)].map(([path, node]) => [path, node.record.generation]),
        );
        const kept = shown(base);
        const gone: string[] = [];
        const changes: Change[] = [{ path: "/", record: record() }];
        for (const path of touched) {
          // Nodes below a removed node can only be removed.
          const under = gone.some((top) => path.startsWith(`${top}/`));
          const remove = under || removes.next().value;
          if (remove) gone.push(path);
          changes.push({ path, record: remove ? undefined : record() });
        }
        expect(shown(withChanges(base, changes, cost))).toEqual(applied(model, changes));
        expect(shown(base)).toEqual(kept);
      }),
      { numRuns: 500, verbose: true },
    );
  });
});
