/** The children of a node, as a value: the same as a sorted map, at a cost far below their number. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Children, NO_CHILDREN } from "../../device/xen/xenstore/children.ts";
import { emptyTree, type Node, withChanges } from "../../device/xen/xenstore/node.ts";
import { holds } from "../support/counts.ts";
import { addGuest, machineOf } from "../support/store-guest.ts";

const { record } = emptyTree();
const cost = { work: 0 };
const child = (name: string): Node => ({ name, record, children: NO_CHILDREN });

/** The longest array that is copied while `act` runs. */
function longestCopy(act: () => void): number {
  const { slice } = Array.prototype;
  let longest = 0;
  Array.prototype.slice = function (...range) {
    const copy = slice.apply(this, range);
    longest = Math.max(longest, copy.length);
    return copy;
  };
  try {
    act();
  } finally {
    Array.prototype.slice = slice;
  }
  return longest;
}

function wide(count: number): Node {
  let root = emptyTree();
  for (let i = 0; i < count; i++) root = withChanges(root, [{ path: `/${i}`, record }], cost);
  return root;
}

describe("the children of a node", () => {
  it("property: are those of a sorted map, and earlier ones stay as they were", () => {
    const name = fc.oneof(
      fc.nat(400).map((n) => `${n}`),
      fc.string({ unit: fc.constantFrom("a", "-", "é"), minLength: 1, maxLength: 3 }),
    );
    const steps = fc.array(fc.tuple(fc.boolean(), fc.array(name, { maxLength: 200 })));
    holds(
      fc.property(steps, (rounds) => {
        let children = new Children();
        const model = new Map<string, Node>();
        for (const [add, names] of rounds) {
          const before = children;
          const listed = [...before];
          for (const of of names) {
            const one = child(of);
            children = add ? children.with(one, cost) : children.without(of, cost);
            if (add) model.set(of, one);
            else model.delete(of);
            if (children.get(of) !== model.get(of)) expect(children.get(of)).toBe(model.get(of));
          }
          expect([...children.names()]).toEqual([...model.keys()].sort());
          expect([...children].every((each) => model.get(each.name) === each)).toBe(true);
          expect(children.size).toBe(model.size);
          expect([...before]).toEqual(listed);
        }
      }),
      { numRuns: 300, verbose: true },
    );
  });

  it.each([
    ["ascending", (i: number) => i],
    ["descending", (i: number) => -i],
    ["mixed", (i: number) => (i * 7919) % 10_007],
  ])("10,000 that come and go in %s order are found and copied in small parts", (_order, rank) => {
    const names = Array.from({ length: 10_000 }, (_, i) => i)
      .sort((a, b) => rank(a) - rank(b))
      .map((i) => `${10_000 + i}`);
    let children = NO_CHILDREN;
    const copied = longestCopy(() => {
      for (const name of names) children = children.with(child(name), cost);
    });
    expect(copied).toBeLessThan(400);
    expect(children.size).toBe(names.length);
    expect(names.every((name) => children.get(name)?.name === name)).toBe(true);
    for (const name of names) children = children.without(name, cost);
    expect([...children]).toEqual([]);
    expect(longestCopy(() => children.with(child("a"), cost))).toBeLessThan(2);
  });
});

describe("the release of a domain", () => {
  it("lists no node that does not name it, however many others there are", () => {
    const { store, local, guests } = machineOf(1000);
    guests[6]!.write("list/a", "1");
    guests[6]!.setPerms("list/a", ["n7", "r8", "r9"]);
    local.mkdir("/tool/left");
    local.setPerms("/tool/left", ["n8"]);
    local.write("/tool/left/below", "1");
    const { [Symbol.iterator]: iterate } = Children.prototype;
    let listed = 0;
    Children.prototype[Symbol.iterator] = function* () {
      for (const each of iterate.call(this)) {
        listed++;
        yield each;
      }
    };
    try {
      store.release(8);
    } finally {
      Children.prototype[Symbol.iterator] = iterate;
    }
    expect(listed).toBe(1);
    expect(guests[6]!.getPerms("list/a")).toBe("n7\0r9\0");
    expect([...local.directory("/tool").children.names()]).toEqual([]);
    store.release(7);
    expect(local.directory("/local/domain").children.size).toBe(998);
  });
});

describe("a write below a node with many children", () => {
  it("copies few of them, and costs little work", () => {
    const tree = wide(10_000);
    const work = { work: 0 };
    const changes = [{ path: "/5000/a", record }];
    expect(longestCopy(() => withChanges(tree, changes, work))).toBeLessThan(400);
    expect(work.work).toBeLessThan(2);
    expect(tree.children.get("5000")!.children.size).toBe(0);
  });

  it("makes no guest wait for the number of its neighbours", () => {
    const { store, guests } = machineOf(3000);
    const guest = guests[2000]!;
    for (let i = 0; i < 4000; i++) {
      if (guest.write("device/vif/0/state", `${i}`) !== "OK\0") expect(i).toBe(-1);
    }
    addGuest(store, 3001);
    expect(guest.read("device/vif/0/state")).toBe("3999");
  });
});
