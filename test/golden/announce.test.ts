/** The announcement of a NIC that has migrated, byte for byte as QEMU sends it. */
import { expect, test } from "vitest";
import { selfAnnouncement } from "../../frontend/net/announce.ts";

test("a reverse ARP request from the NIC's address, about itself", () => {
  const frame = selfAnnouncement(Uint8Array.of(0x02, 0x11, 0x22, 0x33, 0x44, 0x55));
  expect(Buffer.from(frame).toString("hex")).toBe(
    "ffffffffffff" + // to all stations
      "021122334455" +
      "8035" + // RARP
      "0001" + // Ethernet
      "0800" + // IPv4
      "06" +
      "04" +
      "0003" + // request reverse
      "021122334455" +
      "00000000" +
      "021122334455" +
      "00000000" +
      "00".repeat(18),
  );
});
