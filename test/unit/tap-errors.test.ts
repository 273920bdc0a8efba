import { expect, test } from "vitest";
import { silentLogger } from "../../shared/log.ts";
import { checkPlatform, checkTapName, createLine, TapError } from "../../shared/tap/errors.ts";
import { IFREQ_BYTES, Ifreq } from "../../shared/tap/ifreq.ts";
import { openTap } from "../../shared/tap/tap.ts";

function refusal(work: () => void): TapError {
  try {
    work();
  } catch (error) {
    if (error instanceof TapError) return error;
  }
  throw new Error("not refused");
}

test.each(["rw0", "a", "ring-wire_0.1", "exactly15bytes_", "All", "all0", "défaut"])(
  "%s is a good name",
  (name) => {
    expect(() => checkTapName(name)).not.toThrow();
  },
);

test.each([
  ["", "empty"],
  ["sixteen-bytes-xx", "16 bytes"],
  ["vierzehn-äüö-", "16 bytes"],
  ["a b", '" "'],
  ["a\tb", "\\t"],
  ["a/b", '"/"'],
  ["a:0", '":"'],
  ["tap%d", '"%"'],
  [".", "directory"],
  ["..", "directory"],
  ["all", "kept by the kernel"],
  ["default", "kept by the kernel"],
  ["a\u00a0b", "\u00a0"],
  ["\u00e0", "\u00e0"],
  ["a\u007f", "holds"],
  ["%", '"%"'],
  ["%%", '"%"'],
  ["a%s", '"%"'],
  ["\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4", "16 bytes"],
  ["a\nb", "\\n"],
  ["a\u200bb", "holds"],
])("case-W10 %j is a bad name", (name, why) => {
  const error = refusal(() => checkTapName(name));
  expect(error.code).toBe("TAP_BAD_NAME");
  expect(error.message).toContain(why);
});

test("elsewhere than on Linux there is one clear sentence", () => {
  expect(() => checkPlatform("linux")).not.toThrow();
  for (const platform of ["darwin", "win32"] as const) {
    const error = refusal(() => checkPlatform(platform));
    expect(error.code).toBe("TAP_UNSUPPORTED");
    expect(error.message).toContain(platform);
  }
});

test("a bad name is refused before a worker starts", async () => {
  const opening = openTap({ name: "tap%d", offloads: true, log: silentLogger });
  await expect(opening).rejects.toMatchObject({ name: "TapError", code: "TAP_BAD_NAME" });
});

test("the line for root names the interface and the user", () => {
  expect(createLine("rw7")).toMatch(/^sudo ip tuntap add mode tap user \S+ name rw7$/);
});

test("ifreq: golden bytes over junk", () => {
  const request = new Ifreq();
  request.bytes.fill(0xa5);
  request.about("rw0");
  request.mac = new Uint8Array([2, 0, 0, 0, 0, 9]);
  const hex = Buffer.from(request.bytes).toString("hex");
  expect(request.bytes.length).toBe(IFREQ_BYTES);
  // Name, ARPHRD_ETHER, the address; the rest is zero.
  expect(hex).toBe(`727730${"00".repeat(13)}0100020000000009${"00".repeat(16)}`);
  expect(request.mac).toEqual(new Uint8Array([2, 0, 0, 0, 0, 9]));

  request.about("exactly15bytes_");
  request.number = 9000;
  expect(request.name).toBe("exactly15bytes_");
  expect(Buffer.from(request.bytes.subarray(16, 20)).toString("hex")).toBe("28230000");
  request.flags = 0x5002;
  expect(Buffer.from(request.bytes.subarray(16, 18)).toString("hex")).toBe("0250");
});
