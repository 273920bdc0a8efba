/** Transactions: what they see, when they fail, and what they leave behind. */
import { describe, expect, it } from "vitest";
import { REPLACED_BYTES_MAX, TRANSACTION_MS } from "../../device/xen/xenstore/index.ts";
import { XsType, xsStrings } from "../../shared/xen/xenstore.ts";
import { machineOf } from "../support/store-guest.ts";

function two() {
  const machine = machineOf(2);
  const [guest, other] = machine.guests;
  guest!.mkdir("shared");
  guest!.setPerms("shared", ["n1", "b2"]);
  return { ...machine, guest: guest!, other: other! };
}
const SHARED = "/local/domain/1/shared";

describe("a transaction", () => {
  it("sees the store as it was when it began, and its own changes", () => {
    const { guest } = two();
    guest.write("a", "1");
    const tx = guest.start();
    guest.write("a", "2");
    guest.write("b", "2");
    expect([guest.read("a", tx), guest.read("b", tx)]).toEqual(["1", "ENOENT"]);
    guest.write("c", "3", tx);
    expect([guest.read("c", tx), guest.read("c")]).toEqual(["3", "ENOENT"]);
    expect(guest.directory("/local/domain/1", tx)).toBe("a\0c\0shared\0");
  });

  it("ends with all its changes at once, and tells of them then", () => {
    const { guest } = two();
    guest.watch("a", "t");
    guest.heard();
    const tx = guest.start();
    guest.write("a/x", "1", tx);
    guest.write("a/y", "1", tx);
    guest.write("a/x", "2", tx);
    guest.setPerms("a/y", ["r1"], tx);
    expect(guest.heard()).toEqual([]);
    expect(guest.end(tx)).toBe("OK\0");
    expect(guest.heard()).toEqual(["a/x t", "a/y t"]);
    expect([guest.read("a/x"), guest.getPerms("a/y")]).toEqual(["2", "r1\0"]);
    expect(guest.end(tx)).toBe("ENOENT");
  });

  it("leaves nothing when it is discarded", () => {
    const { guest } = two();
    guest.watch("a", "t");
    guest.heard();
    const tx = guest.start();
    guest.write("a", "1", tx);
    expect(guest.end(tx, "X")).toBe("EINVAL");
    expect(guest.end(tx, "F")).toBe("OK\0");
    expect(guest.read("a")).toBe("ENOENT");
    expect(guest.heard()).toEqual([]);
  });

  it("is not undone by a request in it that fails", () => {
    const { guest } = two();
    const tx = guest.start();
    guest.write("a", "1", tx);
    expect(guest.read("none", tx)).toBe("ENOENT");
    expect(guest.write("/x", "1", tx)).toBe("EACCES");
    expect(guest.end(tx)).toBe("OK\0");
    expect(guest.read("a")).toBe("1");
  });

  it("keeps what others changed elsewhere meanwhile", () => {
    const { guest, other } = two();
    other.write(`${SHARED}/theirs`, "1");
    guest.write("a/old", "1");
    const tx = guest.start();
    guest.write("a/new", "1", tx);
    guest.rm("a/old", tx);
    other.write(`${SHARED}/theirs`, "2");
    guest.write("b", "1");
    guest.rm("b");
    guest.write("c/d", "1");
    // The guest's directory got new children meanwhile, but this transaction has not read it.
    expect(guest.end(tx)).toBe("OK\0");
    expect(guest.directory("a")).toBe("new\0");
    expect(guest.read("c/d")).toBe("1");
    expect(other.read(`${SHARED}/theirs`)).toBe("2");
  });

  it("removes and makes again what was there, without what was below it", () => {
    const { guest } = two();
    guest.write("a/b/c", "1");
    guest.write("a/d", "1");
    const tx = guest.start();
    guest.rm("a", tx);
    guest.write("a/d", "2", tx);
    guest.write("z", "1");
    guest.rm("z");
    expect(guest.read("a/b/c", tx)).toBe("ENOENT");
    expect(guest.end(tx)).toBe("EAGAIN");

    const again = guest.start();
    guest.rm("a", again);
    guest.write("a/d", "2", again);
    guest.write("shared/elsewhere", "1");
    expect(guest.end(again)).toBe("OK\0");
    expect([guest.directory("a"), guest.read("a/d")]).toEqual(["d\0", "2"]);
  });
});

describe("a transaction loses", () => {
  const races: [string, (tx: number, m: ReturnType<typeof two>) => void][] = [
    ["what it read is written", (tx, { guest }) => guest.read("shared/x", tx)],
    ["what it wrote is written", (tx, { guest }) => guest.write("shared/x", "9", tx)],
    ["what it lists is written", (tx, { guest }) => guest.directory("shared/x", tx)],
    ["what it asked the permissions of is", (tx, { guest }) => guest.getPerms("shared/x", tx)],
    ["what it removed is written", (tx, { guest }) => guest.rm("shared/x", tx)],
    ["something below what it removed is", (tx, { guest }) => guest.rm("shared", tx)],
  ];
  it.each(races)("when %s", (_name, act) => {
    const machine = two();
    const { guest, other } = machine;
    guest.write("shared/x", "0");
    guest.setPerms("shared/x", ["n1", "b2"]);
    const tx = guest.start();
    act(tx, machine);
    expect(other.write(`${SHARED}/x`, "1")).toBe("OK\0");
    guest.write("mark", "1", tx);
    expect(guest.end(tx)).toBe("EAGAIN");
    expect(guest.read("mark")).toBe("ENOENT");
    expect(guest.read("shared/x")).toBe("1");
  });

  it("when what it missed appears, and when what it lists gets a name", () => {
    const { guest, other } = two();
    const missed = guest.start();
    expect(guest.read("shared/x", missed)).toBe("ENOENT");
    const listed = guest.start();
    guest.directory("shared", listed);
    other.write(`${SHARED}/x`, "1");
    expect([guest.end(missed), guest.end(listed)]).toEqual(["EAGAIN", "EAGAIN"]);
  });

  it("when a value changes and changes back, and when the permissions do", () => {
    const { guest } = two();
    guest.write("a", "1");
    const tx = guest.start();
    guest.read("a", tx);
    guest.write("a", "2");
    guest.write("a", "1");
    expect(guest.end(tx)).toBe("EAGAIN");
    const second = guest.start();
    guest.read("a", second);
    guest.setPerms("a", ["r1"]);
    expect(guest.end(second)).toBe("EAGAIN");
  });

  it("but not by what only it or nobody reads", () => {
    const { guest } = two();
    guest.write("a/b", "1");
    const tx = guest.start();
    guest.read("a", tx);
    guest.write("a/b", "2");
    guest.write("c", "1");
    expect(guest.end(tx)).toBe("OK\0");
  });
});

describe("a transaction that stays open", () => {
  it("fault-H3: is lost after its time, and says so once more", () => {
    const { guest, store, clock } = two();
    const tx = guest.start();
    guest.write("a", "1", tx);
    expect(store.nextTick).toBe(TRANSACTION_MS);
    clock.now = TRANSACTION_MS - 1;
    store.flushWatches();
    expect(guest.read("a", tx)).toBe("1");
    clock.now = TRANSACTION_MS;
    store.flushWatches();
    expect(guest.read("a", tx)).toBe("EAGAIN");
    expect(guest.end(tx)).toBe("EAGAIN");
    expect(guest.read("a")).toBe("ENOENT");
    expect(store.snapshot()[0]).toMatchObject({ transactions: 0 });
    expect(store.nextTick).toBe(Infinity);
  });

  it("is lost when it keeps too much alive that was replaced", () => {
    const { guest, other } = two();
    // A node has 16 bytes, 8 for its permission, its value and its path.
    const size = 2048;
    const value = "x".repeat(size - 24 - "/local/domain/2/churn".length);
    const churn = (times: number): void => {
      for (let i = 0; i < times; i++) expect(other.write("churn", value)).toBe("OK\0");
    };
    churn(1);
    const tx = guest.start();
    churn(REPLACED_BYTES_MAX / size);
    expect(guest.read("shared", tx)).toBe("");
    churn(1);
    expect(guest.read("shared", tx)).toBe("EAGAIN");
    const fresh = guest.start();
    expect(guest.read("shared", fresh)).toBe("");
  });

  it("goes with RESET_WATCHES", () => {
    const { guest, store } = two();
    const tx = guest.start();
    guest.write("a", "1", tx);
    guest.send(XsType.RESET_WATCHES, xsStrings(""));
    expect(guest.end(tx)).toBe("ENOENT");
    expect(store.snapshot()[0]).toMatchObject({ transactions: 0, watches: 0 });
  });

  it("is nobody else's: ids of one domain mean nothing to another", () => {
    const { guest, other } = two();
    const tx = guest.start();
    guest.write("a", "1", tx);
    expect(other.read("/local/domain/1/a", tx)).toBe("ENOENT");
    expect(other.end(tx)).toBe("ENOENT");
    expect(guest.end(tx)).toBe("OK\0");
  });
});
