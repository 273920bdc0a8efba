/**
 * H1: each quota up to its limit and one beyond, freed and used again; another guest is unaffected.
 */
import { afterEach, describe, expect, it } from "vitest";
import { DEFAULT_QUOTAS, type Quotas } from "../../device/xen/xenstore/index.ts";
import { machineOf, type StoreGuest } from "../support/store-guest.ts";

let neighbour: StoreGuest | undefined;

function one(quotas: Partial<Quotas> = {}) {
  const machine = machineOf(2, quotas);
  neighbour = machine.guests[1];
  const use = () => machine.store.snapshot()[0]!;
  return { ...machine, guest: machine.guests[0]!, use };
}

afterEach(() => {
  if (neighbour === undefined) return;
  expect(neighbour.write("a/b", "1")).toBe("OK\0");
  expect(neighbour.watch("a", "t")).toBe("OK\0");
  const tx = neighbour.start();
  expect(neighbour.write("a/b", "2", tx)).toBe("OK\0");
  expect(neighbour.end(tx)).toBe("OK\0");
});

describe("quotas are Xen's", () => {
  it("by default", () => {
    expect(DEFAULT_QUOTAS).toEqual({
      nodes: 1000,
      watches: 128,
      transactions: 10,
      transactionNodes: 1024,
      outstanding: 20,
      permissions: 5,
      nodeBytes: 2048,
      events: 1000,
      memorySoftBytes: 2_097_152,
      memoryHardBytes: 2_621_440,
    });
  });
});

describe("a guest", () => {
  it("owns 1000 nodes and no more, by whatever request", () => {
    const { guest, use } = one();
    // The guest's own directory is one node, the ten lists are ten.
    for (let i = 0; i < 989; i++) expect(guest.mkdir(`l${i % 10}/n${i}`)).toBe("OK\0");
    expect(use().nodes).toBe(1000);
    expect(guest.mkdir("x")).toBe("ENOSPC");
    expect(guest.write("x", "1")).toBe("ENOSPC");
    expect(guest.write("l0/n0", "1")).toBe("OK\0");
    expect(guest.rm("l0/n0")).toBe("OK\0");
    expect(guest.mkdir("x/y")).toBe("ENOSPC");
    expect(guest.read("x")).toBe("ENOENT");
    expect(guest.mkdir("x")).toBe("OK\0");
    expect(guest.rm("l1")).toBe("OK\0");
    expect(use().nodes).toBe(1000 - 100);
  });

  it("is not stopped by what the device makes for it, and the device never is", () => {
    const { guest, local, use } = one({ nodes: 3 });
    for (const name of ["a", "b", "c", "d"]) local.write(`/local/domain/1/${name}`, "1");
    expect(use().nodes).toBe(5);
    expect(guest.mkdir("e")).toBe("ENOSPC");
    expect(guest.write("a", "2")).toBe("OK\0");
    expect(guest.rm("d")).toBe("OK\0");
    expect(guest.mkdir("e")).toBe("ENOSPC");
  });

  it("sets 128 watches", () => {
    const { guest } = one();
    for (let i = 0; i < 128; i++) expect(guest.watch("a", `${i}`)).toBe("OK\0");
    expect(guest.watch("b", "t")).toBe("E2BIG");
    expect(guest.unwatch("a", "7")).toBe("OK\0");
    expect(guest.watch("b", "t")).toBe("OK\0");
    expect(guest.watch("c", "t")).toBe("E2BIG");
  });

  it("opens 10 transactions", () => {
    const { guest } = one();
    const open = Array.from({ length: 10 }, () => guest.start());
    expect(new Set(open).size).toBe(10);
    expect(guest.start()).toBeNaN();
    expect(guest.end(open[3]!, "F")).toBe("OK\0");
    expect(guest.start()).toBeGreaterThan(0);
    expect(guest.start()).toBeNaN();
  });

  it("sees 1024 nodes in a transaction", () => {
    const { guest, local } = one();
    for (let i = 0; i < 1100; i++) local.write(`/many/l${i % 30}/n${i}`, "1");
    const tx = guest.start();
    // Each read fails with EACCES, and counts.
    for (let i = 0; i < 1024; i++) expect(guest.read(`/many/l${i % 30}/n${i}`, tx)).toBe("EACCES");
    expect(guest.read("/many/l0/n1050", tx)).toBe("ENOSPC");
    expect(guest.mkdir("x", tx)).toBe("ENOSPC");
    expect(guest.read("/many/l0/n1050")).toBe("EACCES");
    expect(guest.end(tx)).toBe("OK\0");
  });

  it("gives 5 permissions to a node", () => {
    const { guest } = one();
    guest.mkdir("a");
    expect(guest.setPerms("a", ["n1", "r2", "r3", "r4", "r5"])).toBe("OK\0");
    expect(guest.setPerms("a", ["n1", "r2", "r3", "r4", "r5", "r6"])).toBe("ENOSPC");
    expect(guest.getPerms("a")).toBe("n1\0r2\0r3\0r4\0r5\0");
  });

  it("fills a node with 2048 bytes: 16, 8 for each permission, the value, the names", () => {
    const { guest } = one();
    expect(guest.write("a", "x".repeat(2048 - 16 - 8))).toBe("OK\0");
    expect(guest.write("a", "x".repeat(2048 - 16 - 8 + 1))).toBe("ENOSPC");
    expect(guest.setPerms("a", ["n1", "r2"])).toBe("ENOSPC");
    expect(guest.mkdir("a/b")).toBe("ENOSPC");
    expect(guest.write("a", "x".repeat(2048 - 16 - 8 - 2))).toBe("OK\0");
    expect(guest.mkdir("a/b")).toBe("OK\0");
    expect(guest.mkdir("a/c")).toBe("ENOSPC");
    expect(guest.read("a/c")).toBe("ENOENT");
  });

  it("can always make a node smaller, however large the device made it", () => {
    const { guest, local } = one();
    local.write("/local/domain/1/big", "x".repeat(4000));
    local.mkdir("/local/domain/1/big/child");
    expect(guest.rm("big/child")).toBe("OK\0");
    expect(guest.write("big", "x".repeat(3000))).toBe("OK\0");
    expect(guest.write("big", "x".repeat(3001))).toBe("ENOSPC");
  });

  it("has so many requests wait, and ends its connection with one more", () => {
    const { guest, use } = one();
    guest.room = false;
    for (let i = 0; i < 20; i++) expect(guest.write(`n${i}`, "1")).toBe("held");
    expect(use().held).toBe(20);
    expect(() => guest.write("n20", "1")).toThrow(
      expect.objectContaining({ code: "XENSTORE_OUTSTANDING" }),
    );
    guest.room = true;
    guest.heard();
    expect(use()).toMatchObject({ held: 0, nodes: 21 });
  });

  it("takes memory by nodes, watches, transactions and what waits; over the edge is ENOMEM", () => {
    const { guest, use } = one({ memorySoftBytes: 4000, memoryHardBytes: 7500 });
    expect(use().overSoftQuota).toBe(false);
    for (let i = 0; i < 3; i++) expect(guest.write(`n${i}`, "x".repeat(1000))).toBe("OK\0");
    const three = use().memoryBytes;
    expect(three).toBeGreaterThan(3000);
    for (let i = 0; i < 3; i++) {
      expect(guest.watch("a", `${i}${"t".repeat(900)}`)).toBe("OK\0");
      // The watch's first event counts as memory until it is delivered.
      guest.heard();
    }
    expect(use()).toMatchObject({ overSoftQuota: true });
    expect(use().memoryBytes).toBeGreaterThan(three + 2700);

    const tx = guest.start();
    expect(guest.write("n0", "y".repeat(1500), tx)).toBe("ENOMEM");
    expect(guest.write("n3", "x".repeat(1800))).toBe("ENOMEM");
    expect(guest.watch("b", "t".repeat(1900))).toBe("ENOMEM");
    expect(guest.read("n0", tx)).toBe("x".repeat(1000));
    expect(use().memoryBytes).toBeLessThanOrEqual(7500);
    expect(guest.end(tx)).toBe("OK\0");

    expect(guest.rm("n0")).toBe("OK\0");
    expect(guest.write("n3", "x".repeat(1800))).toBe("OK\0");
    for (const name of ["n1", "n2", "n3"]) guest.rm(name);
    for (let i = 0; i < 3; i++) guest.unwatch("a", `${i}${"t".repeat(900)}`);
    const bare = one();
    expect(use().memoryBytes).toBe(bare.use().memoryBytes);
  });
});
