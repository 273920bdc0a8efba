import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  ACQ_ENTRY_SIZE,
  AdminStatus,
  AQ_ENTRY_SIZE,
  acqCommon,
  createSq,
  createSqResp,
  Opcode,
  Placement,
  SqDirection,
} from "../../shared/ena/admin.ts";
import { Register } from "../../shared/ena/registers.ts";
import { BatchWriter } from "../../shared/wire/batch.ts";
import { RecordType, Space } from "../../shared/wire/records.ts";
import { Tracer, traceBatch } from "../../shared/wire/trace.ts";
import { Op } from "../../shared/wire/transactions.ts";

/** The one message that `fill` makes. */
function batch(fill: (writer: BatchWriter) => void): Uint8Array {
  const sent: Uint8Array[] = [];
  const writer = new BatchWriter((message, release) => {
    sent.push(Uint8Array.from(message));
    release();
  });
  fill(writer);
  writer.flush();
  expect(sent).toHaveLength(1);
  return sent[0]!;
}

const zeros = (n: number): Uint8Array => new Uint8Array(n);

describe("traceBatch", () => {
  it("tells each transaction in one line, with its direction", () => {
    const bytes = batch((w) => {
      w.control([Op.HEARTBEAT, 12, 0]);
      w.control([Op.WINDOW, 0x1000, 4096]);
      w.interrupt(3);
      w.control([Op.READ, 7, Space.BUS, 0x5000_0000_1234, 64]);
      w.control([Op.READ_REPLY, 7, 1, zeros(0)]);
      w.control([Op.MMIO_READ, 8, 0, Register.DEV_STS, 4]);
      w.control([Op.MMIO_READ_REPLY, 8, Uint8Array.of(1, 0, 0, 0)]);
      w.control([Op.FAULT, 1, "TX_PHASE", "wrong phase", 0, 0x1000]);
      w.control([Op.REFUSE, "VERSION", "too new"]);
      w.control([Op.PROGRESS, 99]);
      w.control([Op.HELLO, { version: 1 }]);
    });
    expect(traceBatch("out", bytes)).toEqual([
      "-> heartbeat sent=12 echo=0",
      "-> window 0x1000 length=4096",
      "-> interrupt vector=3",
      "-> read tag=7 0x500000001234 length=64",
      "-> read_reply tag=7 refused bytes=0",
      "-> mmio_read tag=8 DEV_STS length=4",
      "-> mmio_read_reply tag=8 0x1",
      '-> fault queue "TX_PHASE" "wrong phase" 0x1000',
      '-> refuse "VERSION" "too new"',
      "-> progress bytes=99",
      '-> hello {"version":1}',
    ]);
    expect(traceBatch("in", bytes)[0]).toBe("<- heartbeat sent=12 echo=0");
  });

  it("names registers, and what a readless read answered", () => {
    const bytes = batch((w) => {
      w.mmioWrite32(0, Register.DEV_CTL, RecordType.REGISTER, 1);
      w.mmioWrite32(0, Register.MMIO_REG_READ, RecordType.REGISTER, (0x58 << 16) | 9);
      w.column(
        Op.WRITE,
        Space.BUS,
        0x1002,
        RecordType.MMIO_RESPONSE,
        Uint8Array.of(0x58, 0, 0xef, 0xbe, 0xad, 0xde),
        0,
        6,
      );
      w.column(Op.WRITE, Space.BUS, 0x1000, RecordType.MMIO_RESPONSE, Uint8Array.of(9, 0), 0, 2);
    });
    expect(traceBatch("out", bytes)).toEqual([
      "-> mmio_write 2 records: DEV_CTL = DEV_RESET reason=NORMAL; MMIO_REG_READ = DEV_STS seq=9",
      "-> write 2 records: DEV_STS reads 0xdeadbeef; seq=9",
    ]);
  });

  it("sums up what moves frames: the first address and how many", () => {
    const bytes = batch((w) => {
      for (let i = 0; i < 3; i++) {
        w.column(Op.PUSH, Space.BUS, 0x1_0000_0000 + i * 4096, RecordType.FRAME, zeros(60), 0, 60);
      }
      w.column(Op.WRITE, Space.BUS, 0x7000, RecordType.ENA_TX_CDESC, zeros(24), 0, 24);
    });
    expect(traceBatch("out", bytes)).toEqual([
      "-> push 3 records: FRAME 60 bytes at 0x100000000; 2 more",
      "-> write 1 record: ENA_TX_CDESC x 3 at 0x7000",
    ]);
  });

  it("says where the bytes stop making sense, after what came before", () => {
    const bytes = batch((w) => w.interrupt(1));
    expect(traceBatch("in", bytes.subarray(0, bytes.length - 1))).toEqual([
      "<- ! interrupt: vector: the message ends inside it",
    ]);
    const longer = Uint8Array.of(...bytes, 0);
    expect(traceBatch("in", longer)).toEqual([
      "<- interrupt vector=1",
      "<- ! batch: 1 bytes after its end",
    ]);
  });

  it("never throws, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const lines = traceBatch("in", bytes);
        expect(lines.length).toBeGreaterThan(0);
        for (const line of lines) expect(line).not.toMatch(/\n/);
      }),
      { numRuns: 2000 },
    );
  });

  it("never throws on well-formed columns of any type, address and length", () => {
    const types = fc.oneof(fc.constantFrom(...Object.values(RecordType)), fc.nat(0xffff));
    const piece = fc.record({
      op: fc.constantFrom(Op.WRITE, Op.PUSH, Op.MMIO_WRITE),
      space: fc.nat(0xffff),
      address: fc.oneof(fc.nat(0x200), fc.maxSafeNat()),
      type: types,
      data: fc.uint8Array({ minLength: 1, maxLength: 200 }),
    });
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 20 }), (pieces) => {
        const bytes = batch((w) => {
          for (const { op, space, address, type, data } of pieces) {
            w.column(op, space, address, type, data, 0, data.length);
          }
        });
        for (const line of new Tracer().trace("in", bytes)) expect(line).not.toContain(" ! ");
      }),
      { numRuns: 1000 },
    );
  });
});

describe("Tracer", () => {
  it("names a doorbell once the device has said where it is", () => {
    const tracer = new Tracer();
    const doorbell = batch((w) => w.mmioWrite32(0, 0x2340, RecordType.REGISTER, 5));
    expect(tracer.trace("out", doorbell)).toEqual(["-> mmio_write 1 record: 0x2340 = 0x5"]);

    const command = zeros(AQ_ENTRY_SIZE);
    createSq.write(new DataView(command.buffer), 0, {
      opcode: Opcode.CREATE_SQ,
      commandId: 6,
      direction: SqDirection.TX,
      placement: Placement.HOST,
      cqIdx: 2,
      sqDepth: 1024,
    });
    const answer = zeros(ACQ_ENTRY_SIZE);
    createSqResp.write(new DataView(answer.buffer), 0, {
      commandId: 6,
      status: AdminStatus.SUCCESS,
      sqIdx: 4,
      sqDoorbellOffset: 0x2340,
    });
    tracer.trace(
      "out",
      batch((w) => w.column(Op.WRITE, 0, 0x1000, RecordType.ENA_AQ, command, 0, command.length)),
    );
    expect(
      tracer.trace(
        "in",
        batch((w) => w.column(Op.WRITE, 0, 0x2000, RecordType.ENA_ACQ, answer, 0, answer.length)),
      ),
    ).toEqual(["<- write 1 record: ENA_ACQ 0x2000 SUCCESS id=6"]);
    expect(tracer.trace("out", doorbell)).toEqual([
      "-> mmio_write 1 record: doorbell of tx SQ 4 = 0x5",
    ]);
  });

  it("learns nothing from a command that failed", () => {
    const tracer = new Tracer();
    const command = zeros(AQ_ENTRY_SIZE);
    createSq.write(new DataView(command.buffer), 0, { opcode: Opcode.CREATE_SQ, commandId: 1 });
    const answer = zeros(ACQ_ENTRY_SIZE);
    acqCommon.write(new DataView(answer.buffer), 0, {
      commandId: 1,
      status: AdminStatus.ILLEGAL_PARAMETER,
    });
    tracer.trace(
      "out",
      batch((w) => w.column(Op.WRITE, 0, 0, RecordType.ENA_AQ, command, 0, command.length)),
    );
    tracer.trace(
      "in",
      batch((w) => w.column(Op.WRITE, 0, 0, RecordType.ENA_ACQ, answer, 0, answer.length)),
    );
    const doorbell = batch((w) => w.mmioWrite32(0, 0x2000, RecordType.REGISTER, 5));
    expect(tracer.trace("out", doorbell)).toEqual(["-> mmio_write 1 record: 0x2000 = 0x5"]);
  });
});
