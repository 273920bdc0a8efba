/** Valid paths, the values of state keys, and the places of a device's directories. */
import { describe, expect, test } from "vitest";
import {
  backendPath,
  frontendPath,
  queueName,
  VifKey,
  XenbusState,
  xenbusStateOf,
} from "../../shared/xen/xenbus.ts";
import { absolutePath, isSpecialPath, isValidPath } from "../../shared/xen/xenstore.ts";

const NUL = String.fromCharCode(0);

describe("isValidPath", () => {
  test.each([
    "/",
    "/local",
    "/local/domain/1/device/vif/0/tx-ring-ref",
    "/a_b-c@D9",
    `/${"a".repeat(3071)}`,
    `/local/domain/12/${"b".repeat(2048)}`,
  ])("yes: %s", (path) => expect(isValidPath(path)).toBe(true));

  test.each([
    "",
    "local",
    "@releaseDomain",
    "//",
    "/a//b",
    "/a/",
    "/a b",
    "/a.b",
    "/a:b",
    "/ä",
    `/a${NUL}`,
    "/a\n",
    `/${"a".repeat(3072)}`,
    `/local/domain/12/${"b".repeat(2049)}`,
  ])("no: %j", (path) => expect(isValidPath(path)).toBe(false));
});

describe("absolutePath", () => {
  test("relative ones begin at the domain's own directory", () => {
    expect(absolutePath("device/vif/0", 3)).toBe("/local/domain/3/device/vif/0");
    expect(absolutePath("/tool", 3)).toBe("/tool");
    expect(absolutePath("@introduceDomain", 3)).toBe("@introduceDomain");
  });

  test("a relative path that is not one is not mended", () => {
    expect(isValidPath(absolutePath("", 3))).toBe(false);
    expect(isValidPath(absolutePath("a//b", 3))).toBe(false);
    expect(isValidPath(absolutePath(`${"b".repeat(2049)}`, 3))).toBe(false);
  });

  test("special paths are those with an at sign in front", () => {
    expect(isSpecialPath("@releaseDomain")).toBe(true);
    expect(isSpecialPath("/a@b")).toBe(false);
  });
});

describe("xenbus", () => {
  test("a state is one digit; a peer that died and one that writes junk are unknown", () => {
    expect(xenbusStateOf("4")).toBe(XenbusState.CONNECTED);
    expect(xenbusStateOf("8")).toBe(XenbusState.RECONFIGURED);
    for (const junk of [undefined, "", "9", "-1", "04", "4 ", "4\n", "connected"]) {
      expect(xenbusStateOf(junk)).toBe(XenbusState.UNKNOWN);
    }
  });

  test("directories of a device", () => {
    expect(frontendPath(7, 0)).toBe("/local/domain/7/device/vif/0");
    expect(backendPath(7, 0)).toBe("/local/domain/0/backend/vif/7/0");
    expect(queueName(3)).toBe("queue-3");
  });

  test("every key makes a valid path, and no two are the same", () => {
    const keys = Object.values(VifKey);
    for (const key of keys) expect(isValidPath(`${frontendPath(1, 0)}/${key}`)).toBe(true);
    expect(new Set(keys).size).toBe(keys.length);
  });
});
