/** The file of tokens, and the names that a client may have. (fault-L1) */
import { describe, expect, it } from "vitest";
import {
  endOf,
  hashOf,
  idOf,
  matches,
  mayHave,
  newToken,
  parseTokens,
} from "../../device/access/token.ts";

const HASH = `sha256:${"0".repeat(64)}`;
const fileOf = (...tokens: object[]): string => JSON.stringify({ tokens });

describe("a token", () => {
  it("carries its id and 256 random bits; the device keeps its hash", () => {
    const [one, other] = [newToken("alice"), newToken("alice")];
    expect(one).toMatch(/^rw_alice_[A-Za-z0-9_-]{43}$/);
    expect(one).not.toBe(other);
    expect(idOf(one)).toBe("alice");
    expect(hashOf(one)).not.toContain(one.slice(9));
    expect([matches(one, hashOf(one)), matches(other, hashOf(one))]).toEqual([true, false]);
  });

  it.each(["", "rw_", "rw_alice", "alice", "rw__x", "rw_a b_x", `rw_a_${"x".repeat(300)}`])(
    "%j is none",
    (text) => {
      expect(idOf(text)).toBeUndefined();
    },
  );

  it("does not match a hash of another length", () => {
    expect(matches("rw_a_x", "sha256:00")).toBe(false);
  });
});

describe("the file of tokens", () => {
  it("is read with a byte order mark, too", () => {
    const [alice] = parseTokens(`\uFEFF${fileOf({ id: "alice", hash: HASH, roles: ["nic"] })}`);
    expect(alice).toEqual({ id: "alice", hash: HASH, roles: ["nic"] });
  });

  it.each<[string, RegExp]>([
    ["{", /^it is no JSON: /],
    ["[]", /expected object/],
    [fileOf({ id: "a", roles: ["nic"] }), /^tokens\.0: needs either hash or certificate$/],
    [fileOf({ id: "a", hash: HASH, certificate: "a", roles: ["nic"] }), /^tokens\.0: needs either/],
    [fileOf({ id: "a b", hash: HASH, roles: ["nic"] }), /^tokens\.0\.id: takes 1 to 63 letters/],
    [fileOf({ id: "a", hash: "md5:0", roles: ["nic"] }), /^tokens\.0\.hash: takes sha256:/],
    [fileOf({ id: "a", hash: HASH, roles: [] }), /^tokens\.0\.roles: /],
    [fileOf({ id: "a", hash: HASH, roles: ["root"] }), /^tokens\.0\.roles\.0: .*"nic"/],
    [
      fileOf({ id: "a", hash: HASH, roles: ["nic"], names: ["a b"] }),
      /^tokens\.0\.names\.0: takes/,
    ],
    [fileOf({ id: "a", hash: HASH, roles: ["nic"], expires: "soon" }), /^tokens\.0\.expires: /],
    [fileOf({ id: "a", hash: HASH, roles: ["nic"], name: "a" }), /^tokens\.0: .*"name"/],
    [
      fileOf(
        { id: "a", hash: HASH, roles: ["nic"] },
        { id: "a", certificate: "a", roles: ["nic"] },
      ),
      /^tokens\.1\.id: is there twice$/,
    ],
  ])("%j is refused with its place", (text, says) => {
    expect(() => parseTokens(text)).toThrow(says);
  });
});

describe("the names of a client", () => {
  it.each<[string[] | undefined, string, boolean]>([
    [undefined, "ena0", true],
    [["ena0"], "ena0", true],
    [["ena0"], "ena01", false],
    [["ena*"], "ena", true],
    [["ena*"], "xena0", false],
    [["*-tap"], "a-tap", true],
    [["a*b*c"], "a-b-b-c", true],
    [["a*b*c"], "a-b-b", false],
    [["a.b"], "axb", false],
    [["x", "y*"], "y1", true],
    [["*"], "anything", true],
  ])("%j: %s is %s", (names, name, may) => {
    expect(mayHave({ names }, name)).toBe(may);
  });

  it("a pattern of stars takes no longer than its length", () => {
    const pattern = `${"*a".repeat(31)}b`;
    for (let i = 0; i < 1000; i++)
      expect(mayHave({ names: [pattern] }, "a".repeat(63))).toBe(false);
  });
});

it("a date ends a client at the beginning of that day, in UTC", () => {
  expect(endOf({ expires: "2027-01-31" })).toBe(Date.UTC(2027, 0, 31));
  expect(endOf({ expires: "2027-01-31T12:00:00+01:00" })).toBe(Date.UTC(2027, 0, 31, 11));
  expect(endOf({})).toBe(Number.POSITIVE_INFINITY);
});
