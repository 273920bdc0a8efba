/** Two links over the transport in memory: each applies the other's transactions, in order. */
import { describe, expect, it } from "vitest";
import { silentLogger } from "../../shared/log.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { Link, type LinkOwner } from "../../shared/wire/link.ts";
import { CloseCode } from "../../shared/wire/protocol.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { loopbackPair } from "../support/loopback.ts";
import { RecordingSink } from "../support/recording-sink.ts";

function ownerOf(sink: RecordingSink, closed: (code: number) => void): LinkOwner {
  return {
    sink,
    batchApplied: () => sink.told.push(["batch"]),
    writableAgain() {},
    closed,
    broken(error) {
      throw error;
    },
  };
}

describe("loopbackPair", () => {
  it("carries batches whole and in order, and tells both ends of the end", async () => {
    const [left, right] = loopbackPair();
    const sink = new RecordingSink();
    const codes: number[] = [];
    const sender = new Link(
      left,
      ownerOf(new RecordingSink(), (code) => codes.push(code)),
      silentLogger,
    );
    const ended = new Promise<void>((resolve) => {
      new Link(
        right,
        ownerOf(sink, (code) => {
          codes.push(code);
          resolve();
        }),
        silentLogger,
      );
    });
    const bytes = Uint8Array.of(1, 2, 3);
    sender.writer.column(Op.WRITE, 0, 4096, RecordType.RAW, bytes, 0, 3);
    sender.writer.interrupt(7);
    sender.flush();
    bytes.fill(9);
    sender.writer.interrupt(8);
    sender.flush();
    sender.close(CloseCode.GOING_AWAY, "done");
    await ended;
    expect(sink.told).toEqual([
      ["write", 0, 4096, RecordType.RAW, [1, 2, 3]],
      ["interrupt", 7],
      ["batch"],
      ["interrupt", 8],
      ["batch"],
    ]);
    expect(codes).toEqual([CloseCode.GOING_AWAY, CloseCode.GOING_AWAY]);
  });
});
