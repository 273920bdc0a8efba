/** Numbers and bytes that shared/wire/README.md gives to the authors of other implementations. */
import { expect, it } from "vitest";
import { BatchWriter } from "../../shared/wire/batch.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { Limits, NIC_PATH, SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { RecordType } from "../../shared/wire/records.ts";

it("the names and limits of the protocol are those of the page", () => {
  expect([NIC_PATH, SUBPROTOCOL]).toEqual(["/nic", "ringwire.v1"]);
  expect(Limits).toMatchObject({
    MESSAGE_BYTES: 1_048_576,
    BATCH_TRANSACTIONS: 4096,
    COLUMN_RECORDS: 8192,
    RECORD_BYTES: 131_072,
    READ_BYTES: 65_536,
    WINDOW_BYTES: 4 * 2 ** 20,
    WINDOWS_BYTES: 64 * 2 ** 20,
    WINDOWS: 1024,
    WINDOWS_BYTES_A_SECOND: 512 * 2 ** 20,
    MMIO_BYTES: 256,
    ADDRESS: 2 ** 48 - 1,
    READS: 256,
    TAG_RANGES: 1024,
    PUSH_BYTES_MIN: 65_557,
    PUSHES: 65_536,
    HYPERCALLS: 256,
    HELLO_BYTES: 4096,
  });
});

it("a doorbell has the bytes of the page's example", () => {
  const sent: string[] = [];
  const writer = new BatchWriter((bytes, at, length, release) => {
    sent.push(Buffer.from(bytes.subarray(at, at + length)).toString("hex"));
    release();
  });
  const value = Uint8Array.of(1, 2, 3, 4);
  writer.column(Op.MMIO_WRITE, 0, 0x1000, RecordType.REGISTER, value, 0, 4);
  writer.flush();
  expect(sent).toEqual(["919316c40401020304c41000100000000000000400000002000000"]);
});
