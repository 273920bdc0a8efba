/** An ordinary capture of the TCP port, read with the dissector. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { PcapReader } from "../../shared/capture/pcap-reader.ts";
import { LinkDirection } from "../../shared/capture/ring-header.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { dissect, RingFile } from "../support/dissector.ts";
import { runNicSession } from "../support/nic-session.ts";
import { eventually, start } from "../support/process.ts";
import { packBatch } from "../support/raw-frontend.ts";
import { TcpCapture } from "../support/tcp-capture.ts";
import { batchOf, entriesOf } from "../support/wire-acts.ts";

/** Whether the capture has an answer to a refused connection: RST and ACK from `port`. */
function endsRefused(path: string, port: number): true | undefined {
  const reader = new PcapReader();
  reader.feed(readFileSync(path));
  for (let p = reader.next(); p !== undefined; p = reader.next()) {
    const [from, flags] = [Buffer.from(p.bytes).readUInt16BE(34), p.bytes[47]];
    if (from === port && flags === 0x14) return true;
  }
  return undefined;
}

describe("a session as tcpdump sees it", () => {
  test("has the transactions of the device's own capture, in each direction", async () => {
    const folder = mkdtempSync(join(tmpdir(), "ringwire-tcpdump-"));
    const path = join(folder, "lo.pcap");
    let dump: ReturnType<typeof start> | undefined;
    try {
      let listened = 0;
      const session = await runNicSession({
        personality: "ena",
        frames: [60, 1514],
        listening: async (port) => {
          listened = port;
          // Not in immediate mode, in which the kernel keeps 32 packets only, however small.
          dump = start([
            ...["tcpdump", "-i", "lo", "-U", "-B", "16384"],
            ...["-w", path, "tcp", "port", `${port}`],
          ]);
          await dump.waitFor(/listening on lo/);
        },
      });
      // tcpdump writes with a delay. A refused connection at the end shows that it has written
      // everything.
      await once(connect(listened, "127.0.0.1"), "error");
      await eventually("the end of the capture", () => endsRefused(path, listened));
      await dump?.stop();
      expect(dump?.stderr).toMatch(/^0 packets dropped by kernel/m);
      const wire = await dissect({ bytes: () => readFileSync(path) });
      const file = new RingFile();
      for (const { direction, bytes } of session.batches) {
        file.batch(direction === "in" ? LinkDirection.TO_DEVICE : LinkDirection.TO_FRONTEND, bytes);
      }
      const own = await dissect(file);
      const greeting = wire.find((p) =>
        p.all("ringwire.words").some((w) => /^welcome.*"name":"a"/.test(w)),
      );
      const stream = greeting?.all("tcp.stream")[0];
      expect(stream).toBeDefined();
      const of = (packets: typeof wire, direction: string): string[] =>
        packets.flatMap((p) => {
          const ways = p.all("ringwire.direction");
          return p.all("ringwire.words").filter((_, i) => ways[i] === direction);
        });
      const ofA = wire.filter((p) => p.all("tcp.stream")[0] === stream);
      expect(of(ofA, "1")).toEqual(of(own, "1"));
      const told = of(ofA, "0");
      expect(told[0]).toMatch(/^hello \{/);
      expect(told).toEqual(of(own, "0"));
      expect(told.length).toBeGreaterThan(30);
      expect(wire.flatMap((p) => p.experts).filter((name) => name !== "bounded")).toEqual([]);
    } finally {
      await dump?.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe("messages and segments", () => {
  const doorbell = (value: number) =>
    batchOf((w) => w.mmioWrite32(0, 0x2c, RecordType.REGISTER, value));

  test("several messages in one segment, each with its own direction and place", async () => {
    const capture = new TcpCapture().upgrade();
    capture.toDevice(doorbell(1), doorbell(2), doorbell(3));
    capture.toFrontend(
      batchOf((w) => w.interrupt(4)),
      batchOf((w) => w.interrupt(5)),
    );
    const packets = await dissect(capture.file);
    expect(packets[2]!.all("ringwire.words")).toEqual([
      "mmio_write 1 record: AQ_DB = 0x1",
      "mmio_write 1 record: AQ_DB = 0x2",
      "mmio_write 1 record: AQ_DB = 0x3",
    ]);
    expect(packets[2]!.numbers("ringwire.direction")).toEqual([0, 0, 0]);
    expect(packets[3]!.numbers("ringwire.interrupt.vector")).toEqual([4, 5]);
    expect(packets[3]!.numbers("ringwire.direction")).toEqual([1, 1]);
    // The second pass finds the answers of each message.
    const again = await dissect(capture.file, ["-2"]);
    expect(again[2]!.all("ringwire.words")).toEqual(packets[2]!.all("ringwire.words"));
  });

  test.each(["ena", "xen"] as const)("nothing is made up over a gap, %s", async (personality) => {
    const { batches } = await runNicSession({ personality, frames: [60], bursts: 3 });
    const sends = (batch: Uint8Array) =>
      entriesOf(batch, RecordType.ENA_TX_DESC, 16).length +
        entriesOf(batch, RecordType.XEN_TX_REQ, 12).length >
      0;
    const missed = batches.findLastIndex(({ bytes }) => sends(bytes));
    const capture = new TcpCapture().upgrade();
    batches.forEach(({ direction, bytes }, i) => {
      if (i === missed) capture.missToDevice(bytes);
      else if (direction === "in") capture.toDevice(bytes);
      else capture.toFrontend(bytes);
    });
    const packets = await dissect(capture.file);
    const done = ["ringwire.ena.tx.sq_head_idx", "ringwire.xen.tx.status"];
    expect(packets.slice(missed).some((p) => done.some((name) => p.has(name)))).toBe(true);
    const experts = packets.flatMap((p) => p.experts);
    // A driver may ask the store for keys that do not exist.
    expect(experts.filter((name) => name !== "bounded" && name !== "status")).toEqual([]);
  });

  test("another subprotocol is left alone", async () => {
    const capture = new TcpCapture().upgrade("chat").toDevice(doorbell(1));
    const packets = await dissect(capture.file);
    expect(packets[2]!.has("ringwire")).toBe(false);
  });

  test("without the upgrade: the port is told, and that it speaks WebSocket", async () => {
    const capture = new TcpCapture(7701).toDevice(doorbell(6));
    const told = ["-o", "ringwire.port:7701", "-d", "tcp.port==7701,websocket"];
    const [packet] = await dissect(capture.file, told);
    expect(packet!.one("ringwire.words")).toBe("mmio_write 1 record: AQ_DB = 0x6");
  });

  test("a masked message beyond what Wireshark unmasks is cut, and said to be", async () => {
    const pieces = Array.from({ length: 5 }, (_, i) => [
      Op.WRITE,
      Buffer.alloc(100_000, i),
      Buffer.from([0, 0, i, 0, 0, 0, 0, 0, 0xa0, 0x86, 1, 0, 0, 0, 0, 0]),
    ]);
    const capture = new TcpCapture().upgrade().toDevice(packBatch(pieces));
    const packets = await dissect(capture.file);
    const last = packets.at(-1)!;
    expect(last.experts).toEqual(["cut"]);
    expect(last.complaints).toEqual(
      expect.arrayContaining([expect.stringMatching(/^262144 of 500\d\d\d bytes were captured$/)]),
    );
    expect(last.numbers("ringwire.record.length")).toEqual([100_000, 100_000]);
  });

  test("a long message from the device is whole: nothing has to be unmasked", async () => {
    const piece = [
      Op.WRITE,
      Buffer.alloc(100_000),
      Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x86, 1, 0, 0, 0, 0, 0]),
    ];
    const capture = new TcpCapture().upgrade().toFrontend(packBatch([piece, piece, piece, piece]));
    const packets = await dissect(capture.file);
    const last = packets.at(-1)!;
    expect(last.experts).toEqual([]);
    expect(last.numbers("ringwire.record.length")).toEqual([100_000, 100_000, 100_000, 100_000]);
  });
});
