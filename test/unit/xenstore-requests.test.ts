/** xenstore's requests one by one: their replies, and the name of each error. */

import { describe, expect, it } from "vitest";
import { Xenstore } from "../../device/xen/xenstore/index.ts";
import { WireError } from "../../shared/wire/protocol.ts";
import { XenstoreError, XsType, xsBytes, xsMessage, xsStrings } from "../../shared/xen/xenstore.ts";
import { machineOf } from "../support/store-guest.ts";

/** One guest, and another whose nodes the first may not read. */
function two() {
  const machine = machineOf(2);
  const [guest, other] = machine.guests;
  return { ...machine, guest: guest!, other: other! };
}

describe("the database", () => {
  it("creates what is missing above a node, with empty values, and reads octets back", () => {
    const { guest } = two();
    expect(guest.write("device/vif/0/state", "4")).toBe("OK\0");
    expect(guest.read("device/vif/0/state")).toBe("4");
    expect(guest.read("/local/domain/1/device/vif/0/state")).toBe("4");
    expect(guest.read("device/vif")).toBe("");
    const octets = String.fromCharCode(0, 1, 127, 128, 255);
    guest.write("data", octets);
    expect(guest.read("data")).toBe(octets);
  });

  it("keeps a value of its own, not the link's bytes", () => {
    const { store, guest } = two();
    const message = xsMessage(XsType.WRITE, 1, 0, xsBytes("data\0kept"));
    store.request(1, message);
    message.fill(0x78);
    expect(guest.read("data")).toBe("kept");
  });

  it("lists children by their own names, sorted", () => {
    const { guest } = two();
    for (const name of ["b", "a", "c/d"]) guest.mkdir(`list/${name}`);
    expect(guest.directory("list")).toBe("a\0b\0c\0");
    expect(guest.directory("list/a")).toBe("");
  });

  it("leaves an existing node as it is when it is made again", () => {
    const { guest } = two();
    guest.write("a", "1");
    expect(guest.mkdir("a")).toBe("OK\0");
    expect(guest.read("a")).toBe("1");
  });

  it("removes a node with all below it; a missing one is no error where its parent exists", () => {
    const { guest } = two();
    guest.write("a/b/c", "1");
    guest.write("ab", "2");
    expect(guest.rm("a")).toBe("OK\0");
    expect([guest.read("a"), guest.read("a/b/c"), guest.read("ab")]).toEqual([
      "ENOENT",
      "ENOENT",
      "2",
    ]);
    expect(guest.directory("/local/domain/1")).toBe("ab\0");
    expect(guest.rm("a")).toBe("OK\0");
    expect(guest.rm("a/b")).toBe("ENOENT");
  });

  it("gives a part of a long list, with the generation, and an empty name behind the last", () => {
    const { guest } = two();
    for (const name of ["one", "two"]) guest.mkdir(`list/${name}`);
    const part = (from: string) => guest.send(XsType.DIRECTORY_PART, xsStrings("list", from));
    const [generation, ...names] = part("0").split("\0");
    expect(names).toEqual(["one", "two", "", ""]);
    expect(part("4")).toBe(`${generation}\0two\0\0`);
    expect(part("8")).toBe(`${generation}\0\0`);
    expect(part("99")).toBe(`${generation}\0\0`);
    guest.write("list", "v");
    expect(part("0").split("\0")[0]).not.toBe(generation);
    for (const bad of ["", "-1", "x", "1 "]) expect(part(bad)).toBe("EINVAL");
  });

  it("walks a list longer than a message in parts", () => {
    const { local, guest } = two();
    const names = Array.from({ length: 600 }, (_, i) => `name-${i}`);
    for (const name of names) local.mkdir(`/long/${name}`);
    local.setPerms("/long", ["r0"]);
    expect(guest.directory("/long")).toBe("E2BIG");
    let list = "";
    for (let parts = 0; parts < 4; parts++) {
      const reply = guest.send(XsType.DIRECTORY_PART, xsStrings("/long", `${list.length}`));
      expect(reply.length).toBeLessThanOrEqual(4096);
      list += reply.slice(reply.indexOf("\0") + 1);
      if (list.endsWith("\0\0")) break;
    }
    expect(list).toBe(`${names.sort().join("\0")}\0\0`);
  });

  it("says who may what, as it was told", () => {
    const { guest } = two();
    guest.mkdir("a");
    expect(guest.getPerms("a")).toBe("n1\0");
    expect(guest.setPerms("a", ["r1", "b2", "w3", "n65"])).toBe("OK\0");
    expect(guest.getPerms("a")).toBe("r1\0b2\0w3\0n65\0");
  });

  it("gives new nodes the permissions of the one above, and their maker as owner", () => {
    const { guest, other } = two();
    guest.mkdir("shared");
    guest.setPerms("shared", ["n1", "b2"]);
    expect(other.write("/local/domain/1/shared/x", "2")).toBe("OK\0");
    expect(other.getPerms("/local/domain/1/shared/x")).toBe("n2\0b2\0");
    expect(guest.read("shared/x")).toBe("EACCES");
  });
});

describe("paths", () => {
  const bad = [
    "",
    "//",
    "/a//b",
    "a/",
    "/a/",
    "a//b",
    "a b",
    "a.b",
    "ä",
    "a\n",
    "@releaseDomain",
    "a".repeat(2049),
    `/${"a".repeat(3072)}`,
  ];
  it.each(bad)("refuses %j wherever a node is named", (path) => {
    const { guest } = two();
    const answers = [
      guest.read(path),
      guest.write(path, ""),
      guest.mkdir(path),
      guest.rm(path),
      guest.directory(path),
      guest.getPerms(path),
      guest.setPerms(path, ["n1"]),
      guest.send(XsType.DIRECTORY_PART, xsStrings(path, "0")),
    ];
    expect(new Set(answers)).toEqual(new Set(["EINVAL"]));
    if (!path.startsWith("@")) expect(guest.watch(path, "t")).toBe("EINVAL");
  });

  it("takes every character that a path may have, and the longest relative one", () => {
    const { guest } = two();
    expect(guest.write("aZ09-_@/x", "1")).toBe("OK\0");
    expect(guest.write("a".repeat(1900), "1")).toBe("OK\0");
  });

  it("refuses a payload without its NUL, with a string too few or too many", () => {
    const { guest } = two();
    for (const type of [XsType.READ, XsType.MKDIR, XsType.RM, XsType.DIRECTORY, XsType.GET_PERMS]) {
      expect(guest.send(type, xsBytes("a"))).toBe("EINVAL");
      expect(guest.send(type, new Uint8Array(0))).toBe("EINVAL");
      expect(guest.send(type, xsStrings("a", "b"))).toBe("EINVAL");
    }
    expect(guest.send(XsType.WRITE, xsBytes("a"))).toBe("EINVAL");
    expect(guest.send(XsType.WATCH, xsStrings("a"))).toBe("EINVAL");
    expect(guest.send(XsType.UNWATCH, xsStrings("a"))).toBe("EINVAL");
    expect(guest.send(XsType.SET_PERMS, new Uint8Array(0))).toBe("EINVAL");
    expect(guest.read("a")).toBe("ENOENT");
  });
});

describe("errors", () => {
  it("EACCES for what is another's, whether it exists or not", () => {
    const { guest, other } = two();
    other.write("secret/key", "1");
    for (const path of ["/local/domain/2/secret/key", "/local/domain/2/none", "/", "/none"]) {
      const answers = [
        guest.read(path),
        guest.write(path, "x"),
        guest.directory(path),
        guest.getPerms(path),
        guest.setPerms(path, ["n1"]),
        guest.rm(path),
      ];
      expect(answers, path).toEqual(Array(6).fill("EACCES"));
    }
    expect(other.read("secret/key")).toBe("1");
  });

  it.each([
    ["n", "EACCES", "EACCES"],
    ["r", "1", "EACCES"],
    ["w", "EACCES", "OK\0"],
    ["b", "1", "OK\0"],
  ])("a node with %s for a domain answers its READ %s and its WRITE %s", (letter, read, write) => {
    for (const permissions of [
      ["n1", `${letter}2`],
      [`${letter}1`, letter === "n" ? "b3" : "n3"],
    ]) {
      const { guest, other } = two();
      guest.write("a", "1");
      guest.setPerms("a", permissions);
      expect(other.read("/local/domain/1/a")).toBe(read);
      expect(other.write("/local/domain/1/a", "2")).toBe(write);
      expect(other.setPerms("/local/domain/1/a", ["n2"])).toBe("EACCES");
    }
  });

  it("EACCES for the toolstack's requests", () => {
    const { guest } = two();
    for (const type of [
      XsType.CONTROL,
      XsType.INTRODUCE,
      XsType.RELEASE,
      XsType.RESUME,
      XsType.SET_TARGET,
    ]) {
      expect(guest.send(type, xsStrings("2"))).toBe("EACCES");
    }
  });

  it("ENOSYS for what is no request", () => {
    const { guest } = two();
    const types = [15, 16, 20, 23, 24, 25, 26, 27, 0xffff, 0x8000_0000];
    for (const type of types) expect(guest.send(type as XsType, xsStrings("a"))).toBe("ENOSYS");
  });

  it("ENOENT for a node, a watch and a transaction that are not there", () => {
    const { guest } = two();
    expect(guest.read("a")).toBe("ENOENT");
    expect(guest.unwatch("a", "t")).toBe("ENOENT");
    expect(guest.read("a", 77)).toBe("ENOENT");
    expect(guest.end(77)).toBe("ENOENT");
    expect(guest.end(0)).toBe("ENOENT");
  });

  it("EINVAL for permissions that are none, and for the root's removal", () => {
    const { guest, local } = two();
    guest.mkdir("a");
    for (const text of ["", "x1", "n", "n-1", "n1 ", "n99999", "nn1", "N1"]) {
      expect(guest.setPerms("a", [text])).toBe("EINVAL");
    }
    expect(guest.setPerms("a", [])).toBe("EINVAL");
    expect(guest.getPerms("a")).toBe("n1\0");
    expect(() => local.rm("/")).toThrow(XenstoreError);
    expect(() => local.rm("/")).toThrow("EINVAL");
  });

  it("EPERM for giving a node away, EEXIST for a second watch, EBUSY for a transaction in one", () => {
    const { guest } = two();
    guest.mkdir("a");
    expect(guest.setPerms("a", ["n2"])).toBe("EPERM");
    expect(guest.watch("a", "t")).toBe("OK\0");
    expect(guest.watch("a", "t")).toBe("EEXIST");
    expect(guest.watch("/local/domain/1/a", "t")).toBe("EEXIST");
    expect(guest.watch("a", "u")).toBe("OK\0");
    expect(guest.send(XsType.TRANSACTION_START, xsStrings(""), guest.start())).toBe("EBUSY");
  });

  it("ends a connection whose bytes are no message", () => {
    const { store, guest } = two();
    const long = new Uint8Array(16 + 4097);
    new DataView(long.buffer).setUint32(12, 4097, true);
    const short = xsMessage(XsType.READ, 1, 0, xsStrings("abc")).subarray(0, -1);
    for (const bytes of [new Uint8Array(0), new Uint8Array(15), long, short]) {
      expect(() => store.request(1, bytes)).toThrow(WireError);
      expect(() => store.request(1, bytes)).toThrow(/^xenstore: /);
    }
    expect(guest.read("none")).toBe("ENOENT");
  });

  it("takes a domain that is not introduced for our own mistake", () => {
    const { store } = two();
    expect(() => store.request(9, xsMessage(XsType.READ, 1, 0, xsStrings("a")))).toThrow(
      "domain 9 is not introduced",
    );
    expect(() => store.introduce(1, { deliver: () => {} })).toThrow("introduced already");
    expect(() => store.release(0)).toThrow("stays");
  });
});

describe("domains", () => {
  it("says where a domain's directory is and which domains are there", () => {
    const { store, guest } = two();
    const ask = (type: XsType, text: string) => guest.send(type, xsStrings(text));
    expect(ask(XsType.GET_DOMAIN_PATH, "007")).toBe("/local/domain/7\0");
    expect([0, 1, 2, 3].map((d) => ask(XsType.IS_DOMAIN_INTRODUCED, `${d}`))).toEqual([
      "T\0",
      "T\0",
      "T\0",
      "F\0",
    ]);
    store.release(2);
    expect(ask(XsType.IS_DOMAIN_INTRODUCED, "2")).toBe("F\0");
    for (const bad of ["", "x", "-1", "32752", "1e3"]) {
      expect(ask(XsType.GET_DOMAIN_PATH, bad)).toBe("EINVAL");
      expect(ask(XsType.IS_DOMAIN_INTRODUCED, bad)).toBe("EINVAL");
    }
  });
});

describe("the device's own client", () => {
  it("does what requests do, in calls that throw the error's name", () => {
    const store = new Xenstore({ now: () => 0 });
    const local = store.local(0);
    local.write("/a/b", "é1");
    expect(local.read("/a/b")).toBe("é1");
    expect([...local.directory("/a").children.names()]).toEqual(["b"]);
    local.setPerms("/a", ["n3", "r4"]);
    expect(local.getPerms("/a")).toEqual(["n3", "r4"]);
    local.rm("/a");
    expect(() => local.read("/a")).toThrow(expect.objectContaining({ code: "ENOENT" }));
    expect(() => local.read("a/")).toThrow(expect.objectContaining({ code: "EINVAL" }));
    expect(() => local.write("/a", "x".repeat(4097))).toThrow(
      expect.objectContaining({ code: "E2BIG" }),
    );
    expect(() => local.setPerms("/none", ["n1"])).toThrow("ENOENT");
  });
});
