/** The protocol page and the catalogue say the same. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { PERSONALITIES } from "../../shared/wire/personality.ts";
import { Limits, NIC_PATH, SUBPROTOCOL } from "../../shared/wire/transactions.ts";

const page = readFileSync(new URL("../../shared/wire/README.md", import.meta.url), "utf8");

describe("shared/wire/README.md", () => {
  it("tells the limits", () => {
    const numbers = [
      Limits.MESSAGE_BYTES,
      Limits.BATCH_TRANSACTIONS,
      Limits.COLUMN_RECORDS,
      Limits.RECORD_BYTES,
      Limits.READ_BYTES,
      Limits.WINDOWS,
      Limits.HELLO_BYTES,
      Limits.MMIO_BYTES,
      Limits.PUSH_BYTES_MIN,
    ];
    const plain = page.replaceAll(",", "");
    for (const n of numbers) expect(plain).toContain(String(n));
    expect(page).toContain(NIC_PATH);
    expect(page).toContain(SUBPROTOCOL);
  });

  it("shows a doorbell whose bytes a test of the writer holds", () => {
    const hex = /^91 93 16 .*$/m.exec(page)?.[0].replaceAll(" ", "");
    expect(hex).toBe("919316c40401020304c410001000000000000004000000" + "02000000");
  });

  it("page-P7 the table of hello names every personality", () => {
    const row = /^\| `personality` \|.*$/m.exec(page)?.[0];
    for (const personality of PERSONALITIES) expect(row).toContain(`\`${personality}\``);
  });

  it("page-P2 says which references there are, and page-P5 how many reads", () => {
    for (const words of ["32,768", "References 0 to 7", "DOMID_SELF", "at most 256"]) {
      expect(page.replaceAll("\n", " ")).toContain(words);
    }
  });
});
