/** Watches: who gets which event, when, and with which path. */
import { describe, expect, it } from "vitest";
import { XsType, xsBytes, xsMessage, xsStrings } from "../../shared/xen/xenstore.ts";
import { addGuest, machineOf } from "../support/store-guest.ts";

function two() {
  const machine = machineOf(2);
  const [guest, other] = machine.guests;
  return { ...machine, guest: guest!, other: other! };
}

describe("a watch", () => {
  it("fires once when it is set, whether its node exists or not", () => {
    const { guest } = two();
    guest.watch("none", "t1");
    guest.watch("/local/domain/2", "t2");
    expect(guest.heard()).toEqual(["none t1", "/local/domain/2 t2"]);
    expect(guest.heard()).toEqual([]);
  });

  it("fires once even for a node that changes before that and may not be read", () => {
    const { guest, other } = two();
    guest.watch("/local/domain/2/secret", "t");
    other.write("secret", "1");
    expect(guest.heard()).toEqual(["/local/domain/2/secret t"]);
    other.write("secret", "2");
    expect(guest.heard()).toEqual([]);
  });

  it("fires after the reply that says it is set", () => {
    const { guest } = two();
    expect(guest.watch("a", "t")).toBe("OK\0");
    expect(guest.events).toEqual([]);
    expect(guest.heard()).toEqual(["a t"]);
  });

  it("hears of its node and all below it, not of what lies beside it", () => {
    const { guest } = two();
    guest.watch("a", "t");
    guest.heard();
    guest.write("a", "1");
    guest.write("a/b/c", "1");
    guest.write("ab", "1");
    guest.write("b", "1");
    guest.mkdir("a/d");
    guest.mkdir("a/d");
    guest.setPerms("a/b", ["r1"]);
    guest.rm("a/d");
    expect(guest.heard()).toEqual(["a t", "a/b/c t", "a/d t", "a/b t"]);
  });

  it("says a path relative when it was set so, and absolute when it was not", () => {
    const { guest } = two();
    guest.watch("a", "relative");
    guest.watch("/local/domain/1/a", "absolute");
    guest.heard();
    guest.write("a/b", "1");
    expect(guest.heard()).toEqual(["a/b relative", "/local/domain/1/a/b absolute"]);
  });

  it("of a node that goes with something above it says its own path", () => {
    const { guest } = two();
    guest.write("a/b/c", "1");
    guest.write("a/b/d", "1");
    guest.watch("a/b/c", "deep");
    guest.watch("a/b", "middle");
    guest.heard();
    guest.rm("a");
    expect(guest.heard().sort()).toEqual(["a/b middle", "a/b/c deep"]);
  });

  it("is silent once it is taken away, even with what had gathered", () => {
    const { guest } = two();
    guest.watch("a", "t");
    guest.watch("a", "u");
    guest.heard();
    guest.write("a", "1");
    expect(guest.unwatch("a", "t")).toBe("OK\0");
    guest.write("a", "2");
    expect(guest.heard()).toEqual(["a u"]);
    guest.write("a", "3");
    expect(guest.send(XsType.RESET_WATCHES, xsStrings(""))).toBe("OK\0");
    guest.write("a", "4");
    expect(guest.heard()).toEqual([]);
  });

  it("tells many changes of one node once; what is read then is the last value", () => {
    const { guest } = two();
    guest.watch("a", "t");
    guest.heard();
    for (let i = 0; i < 5000; i++) guest.write("a", `${i}`);
    expect(guest.heard()).toEqual(["a t"]);
    expect(guest.read("a")).toBe("4999");
  });

  it("does not answer with more than a message can carry", () => {
    const { guest } = two();
    guest.watch("a", "t".repeat(4000));
    guest.watch("a", "u");
    guest.heard();
    guest.write(`a/${"b".repeat(200)}`, "1");
    expect(guest.heard()).toEqual([`a/${"b".repeat(200)} u`]);
  });
});

describe("special watches", () => {
  it("tell the device of guests that come and go, and tell guests nothing", () => {
    const { store, local, guest } = two();
    const heard: string[] = [];
    local.watch("@introduceDomain", "in", (path) => heard.push(path));
    local.watch("@releaseDomain", "out", (path) => heard.push(path));
    expect(guest.watch("@releaseDomain", "t")).toBe("OK\0");
    expect(guest.watch("@introduceDomain", "t")).toBe("OK\0");
    // A new watch fires once by itself.
    expect(guest.heard()).toEqual(["@releaseDomain t", "@introduceDomain t"]);
    expect(heard.splice(0)).toEqual(["@introduceDomain", "@releaseDomain"]);
    addGuest(store, 3);
    store.flushWatches();
    expect(heard.splice(0)).toEqual(["@introduceDomain"]);
    store.release(3);
    store.flushWatches();
    expect(heard.splice(0)).toEqual(["@releaseDomain"]);
    expect(guest.heard()).toEqual([]);
    expect(guest.unwatch("@releaseDomain", "t")).toBe("OK\0");
  });
});

describe("a handler of the device", () => {
  it("may use the store, and hears what it caused itself in the same flush", () => {
    const { store, local, guest } = two();
    const heard: string[] = [];
    local.watch("/local/domain/1", "t", (path, token) => {
      heard.push(`${path} ${token}`);
      if (path.endsWith("/state")) local.write(`${path}-seen`, local.read(path));
    });
    guest.write("state", "4");
    store.flushWatches();
    expect(heard).toEqual([
      "/local/domain/1 t",
      "/local/domain/1/state t",
      "/local/domain/1/state-seen t",
    ]);
    // Nodes that the device makes in a guest's directory belong to the guest, like the directory.
    expect(guest.read("state-seen")).toBe("4");
  });

  it("that answers itself for ever does not keep the device", () => {
    const { store, local } = two();
    let calls = 0;
    local.watch("/loop", "t", () => {
      calls++;
      local.write("/loop", `${calls}`);
    });
    store.flushWatches();
    const first = calls;
    expect(first).toBeGreaterThan(1);
    store.flushWatches();
    expect(calls).toBeGreaterThan(first);
  });

  it("is told of its own path for what is more than may gather, and never cut", () => {
    const { store, local, guest } = two();
    const heard: string[] = [];
    local.watch("/local/domain/1", "t", (path) => heard.push(path));
    store.flushWatches();
    heard.length = 0;
    for (let i = 0; i < 3000; i++) {
      guest.write(`n${i}`, "");
      guest.rm(`n${i}`);
    }
    store.flushWatches();
    expect(heard).toHaveLength(1001);
    expect(heard.at(-1)).toBe("/local/domain/1");
  });
});

describe("permission to hear", () => {
  it("fault-H2: is asked when the event is delivered, not when it happened", () => {
    const { guest, other } = two();
    guest.write("a", "1");
    guest.setPerms("a", ["n1", "r2"]);
    other.watch("/local/domain/1/a", "t");
    other.heard();
    guest.write("a", "2");
    expect(other.heard()).toEqual(["/local/domain/1/a t"]);
    guest.write("a", "3");
    guest.setPerms("a", ["n1"]);
    expect(other.heard()).toEqual([]);
    guest.write("a", "4");
    guest.setPerms("a", ["r1"]);
    expect(other.heard()).toEqual(["/local/domain/1/a t"]);
  });

  it("stays for the removal of what could be read", () => {
    const { guest, other } = two();
    for (const [path, permission] of [
      ["seen/x", "r2"],
      ["hidden/x", "w2"],
    ] as const) {
      guest.write(path, "1");
      guest.setPerms(path, ["n1", permission]);
      other.watch(`/local/domain/1/${path}`, "t");
    }
    other.heard();
    guest.rm("seen");
    guest.rm("hidden");
    expect(other.heard()).toEqual(["/local/domain/1/seen/x t"]);
  });

  it("of a node's name comes with the permission to list it", () => {
    const { guest, other } = two();
    guest.mkdir("list");
    guest.setPerms("list", ["r1"]);
    other.watch("/local/domain/1/list", "t");
    other.heard();
    guest.write("list/x", "1");
    guest.setPerms("list/x", ["n1"]);
    expect(other.heard()).toEqual(["/local/domain/1/list/x t"]);
    guest.write("list/x/y", "1");
    expect(other.heard()).toEqual([]);
  });
});

describe("more events than may gather", () => {
  it("are sent at once to a guest whose link has room", () => {
    const { local, store, guests } = machineOf(1, { events: 3 });
    const guest = guests[0]!;
    guest.watch("/local/domain/1", "t");
    guest.heard();
    const sent: number[] = [];
    for (let i = 0; i < 8; i++) {
      local.write(`/local/domain/1/n${i}`, "");
      sent.push(guest.events.length);
    }
    expect(sent).toEqual([0, 0, 0, 3, 3, 3, 6, 6]);
    expect(store.snapshot()[0]).toMatchObject({ pending: 2 });
    expect(guest.heard()).toHaveLength(8);
    expect(guest.cutBy).toBeUndefined();
  });
});

describe("a link without room", () => {
  it("gets its events and replies later, in order, and loses none", () => {
    const { guest, other, store } = two();
    other.mkdir("a");
    other.setPerms("a", ["r2"]);
    guest.watch("/local/domain/2/a", "t");
    guest.heard();
    guest.room = false;
    other.write("a/1", "");
    other.write("a/2", "");
    expect(guest.heard()).toEqual([]);
    expect(guest.write("mine", "1")).toBe("held");
    expect(guest.read("mine")).toBe("held");
    guest.room = true;
    expect(guest.heard()).toEqual(["/local/domain/2/a/1 t", "/local/domain/2/a/2 t"]);
    expect(guest.takeReply()).toBe("1");
    expect(store.snapshot()[0]).toMatchObject({ held: 0, pending: 0 });
  });

  it("keeps a request that waits in memory of its own", () => {
    const { store, guest } = two();
    guest.room = false;
    const message = xsMessage(XsType.WRITE, 1, 0, xsBytes("data\0kept"));
    store.request(1, message);
    message.fill(0x78);
    guest.room = true;
    store.flushWatches();
    expect(guest.read("data")).toBe("kept");
  });
});
