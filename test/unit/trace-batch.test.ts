import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Tracer, traceBatch } from "../../cli/trace/wire.ts";
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
import { queueId } from "../../shared/net/frame.ts";
import { inspectBatches } from "../../shared/wire/batch.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import type { Hello } from "../../shared/wire/hello.ts";
import { RecordType, Space } from "../../shared/wire/records.ts";
import { holds } from "../support/counts.ts";
import { packBatch } from "../support/raw-frontend.ts";
import { batchOf } from "../support/wire-acts.ts";

// These batches hold invalid transactions too.
inspectBatches(undefined);

const zeros = (n: number): Uint8Array => new Uint8Array(n);

describe("traceBatch", () => {
  it("tells each transaction in one line, with its direction", () => {
    const bytes = batchOf((w) => {
      w.post("heartbeat", { sent: 12, echo: 0 });
      w.post("window", { address: 0x1000, length: 4096 });
      w.interrupt(3);
      w.post("read", { tag: 7, space: Space.BUS, address: 0x5000_0000_1234, length: 64 });
      w.post("read_reply", { tag: 7, status: 1, bytes: zeros(0) });
      w.post("mmio_read", { tag: 8, bar: 0, offset: Register.DEV_STS, length: 4 });
      w.post("mmio_read_reply", { tag: 8, bytes: Uint8Array.of(1, 0, 0, 0) });
      w.post("fault", {
        severity: 1,
        code: "TX_PHASE",
        text: "wrong phase",
        space: 0,
        address: 0x1000,
      });
      w.post("refuse", { code: "VERSION", text: "too new" });
      w.post("progress", { bytes: 99 });
      w.post("hello", { greeting: { version: 1 } as Hello });
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
    const bytes = batchOf((w) => {
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
    const bytes = batchOf((w) => {
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
    const bytes = batchOf((w) => w.interrupt(1));
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
    holds(
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
    holds(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 20 }), (pieces) => {
        const bytes = batchOf((w) => {
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

/** Records as on the wire, from hex. */
const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));

describe("traceBatch, personality xen", () => {
  it("tells grants, their ends and their uses", () => {
    const v1 = bytesOf("09000000" + "0100000012000000" + "0a000000" + "0500000013000000");
    const v2 = bytesOf("0b000000" + "05010300bc0a2301ffff0f0000000000");
    const uses = bytesOf(
      "09000000" + "01000000" + "0a000000" + "fffffeff" + "0b000000" + "00000000",
    );
    const lines = traceBatch(
      "out",
      batchOf((w) => {
        w.post("grant", { version: 1, records: v1 });
        w.post("grant", { version: 2, records: v2 });
        w.post("end_grant", { records: bytesOf("090000000a000000") });
        w.post("grant_use", { records: uses });
      }),
    );
    expect(lines).toEqual([
      "-> grant v1 2 records: 9 PERMIT_ACCESS dom=0 frame=0x12; 10 PERMIT_ACCESS dom=0 frame=0x13 READONLY",
      "-> grant v2 1 record: 11 PERMIT_ACCESS dom=3 frame=0xfffff bytes=2748+291 READONLY|SUB_PAGE",
      "-> end_grant 2 records: 9; 10",
      "-> grant_use 3 records: 9 readers+1; 10 readers-1 writers-2; 11",
    ]);
  });

  it("tells the first of many grants, and what is no whole record", () => {
    const ended = (bytes: number): string[] =>
      traceBatch(
        "out",
        batchOf((w) => w.post("end_grant", { records: zeros(bytes) })),
      );
    expect(ended(4 * 300)).toEqual(["-> end_grant 300 records: 0; 0; 0; 0; 296 more"]);
    expect(ended(4 * 300 + 1)).toEqual([
      "-> ! end_grant: records: 1201 bytes are not a whole number of records of 4",
    ]);
  });

  it("tells a reply by the call it answers", () => {
    const tracer = new Tracer();
    const call = (tag: number, number: number, command: number, hex: string): string[] =>
      tracer.trace(
        "out",
        batchOf((w) => w.post("hypercall", { tag, number, command, bytes: bytesOf(hex) })),
      );
    const reply = (tag: number, errno: number, hex: string): string[] =>
      tracer.trace(
        "in",
        batchOf((w) => w.post("hypercall_reply", { tag, errno, bytes: bytesOf(hex) })),
      );
    expect(call(1, 32, 6, "f07f000000000000")).toEqual([
      "-> hypercall tag=1 event_channel_op ALLOC_UNBOUND dom=SELF remoteDom=0",
    ]);
    expect(reply(1, 0, "f07f000005000000")).toEqual([
      "<- hypercall_reply tag=1 ok event_channel_op ALLOC_UNBOUND dom=SELF remoteDom=0 port=5",
    ]);
    expect(call(2, 29, 2, "02000000")).toEqual([
      "-> hypercall tag=2 sched_op SHUTDOWN reason=SUSPEND",
    ]);
    expect(reply(2, 38, "")).toEqual(["<- hypercall_reply tag=2 ENOSYS bytes=0"]);
    expect(reply(2, 0, "02000000")).toEqual(["<- hypercall_reply tag=2 ok bytes=4"]);
    expect(call(3, 77, 1, "00")).toEqual(["-> hypercall tag=3 hypercall 77 command=1 bytes=1"]);
  });

  it("tells events, xenstore messages and moves", () => {
    const write = "0b000000070000000100000014000000" + "6465766963652f7669662f302f73746174650034";
    const event = "0f000000000000000000000012000000" + "6261636b656e642f737461746500746f6b00";
    const bytes = batchOf((w) => {
      w.post("event", { port: 12 });
      w.post("xenstore", { bytes: bytesOf(write) });
      w.post("xenstore", { bytes: bytesOf(event) });
      w.post("xenstore", { bytes: bytesOf("00") });
      w.post("move", { url: "ws://there:7700" });
    });
    expect(traceBatch("in", bytes)).toEqual([
      "<- event port=12",
      '<- xenstore WRITE req=7 tx=1 "device/vif/0/state" "4"',
      '<- xenstore WATCH_EVENT req=0 "backend/state" "tok"',
      "<- xenstore malformed: 1 bytes are no message header",
      '<- move "ws://there:7700"',
    ]);
  });

  it("tells ring indexes and control slots, and sums up slots that move frames", () => {
    const bytes = batchOf((w) => {
      const slots = zeros(36);
      w.column(Op.WRITE, Space.BUS, 0x5040, RecordType.XEN_TX_REQ, slots, 0, 36);
      w.column(Op.WRITE, Space.BUS, 0x5000, RecordType.XEN_RING_INDEX, bytesOf("03000000"), 0, 4);
      const response = bytesOf("2211060003000000efbeadde00000000");
      w.column(Op.WRITE, Space.GRANT, 9 * 4096 + 64, RecordType.XEN_CTRL_RSP, response, 0, 16);
      const indexes = bytesOf("0100000002000000");
      w.column(Op.WRITE, Space.GRANT, 9 * 4096 + 8, RecordType.XEN_RING_INDEX, indexes, 0, 8);
    });
    expect(traceBatch("out", bytes)).toEqual([
      "-> write 4 records: XEN_TX_REQ x 3 at 0x5040; XEN_RING_INDEX 0x5000 req_prod=3; " +
        "XEN_CTRL_RSP gref 9+0x40 ctrl done SET_HASH_MAPPING id=4386 BUFFER_OVERFLOW data=3735928559; " +
        "XEN_RING_INDEX gref 9+0x8 rsp_prod=1 rsp_event=2",
    ]);
  });

  it("says with which status an access by grant was refused", () => {
    const bytes = batchOf((w) => {
      w.post("read", { tag: 7, space: Space.GRANT, address: 9 * 4096 + 16, length: 64 });
      w.post("read_reply", { tag: 7, status: 3, bytes: zeros(0) });
    });
    expect(traceBatch("in", bytes)).toEqual([
      "<- read tag=7 gref 9+0x10 length=64",
      "<- read_reply tag=7 refused BAD_GNTREF bytes=0",
    ]);
  });

  it("never throws on well-formed transactions with any bytes in them", () => {
    const uint = fc.nat(64);
    const bin = fc.uint8Array({ maxLength: 100 });
    const records = (size: number) => bin.map((b) => b.subarray(0, b.length - (b.length % size)));
    const transaction = fc.oneof(
      fc.tuple(fc.constant(Op.GRANT), fc.constant(1), records(12)),
      fc.tuple(fc.constant(Op.GRANT), fc.constant(2), records(20)),
      fc.tuple(fc.constantFrom(Op.END_GRANT, Op.GRANT_USE), records(8)),
      fc.tuple(fc.constant(Op.XENSTORE), bin),
      fc.tuple(fc.constant(Op.HYPERCALL), uint, fc.constantFrom(20, 29, 32, 33), uint, bin),
      fc.tuple(fc.constant(Op.HYPERCALL_REPLY), uint, uint, bin),
      fc.tuple(fc.constant(Op.EVENT), uint),
    );
    holds(
      fc.property(fc.array(transaction, { minLength: 1, maxLength: 20 }), (transactions) => {
        const lines = new Tracer().trace("in", packBatch(transactions));
        expect(lines).toHaveLength(transactions.length);
        for (const line of lines) expect(line).not.toMatch(/<- ! |\n/);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("Tracer", () => {
  it("names a doorbell once the device has said where it is", () => {
    const tracer = new Tracer();
    const doorbell = batchOf((w) => w.mmioWrite32(0, 0x2340, RecordType.REGISTER, 5));
    expect(tracer.trace("out", doorbell)).toEqual(["-> mmio_write 1 record: 0x2340 = 0x5"]);

    const command = zeros(AQ_ENTRY_SIZE);
    createSq.write(new DataView(command.buffer), 0, {
      opcode: Opcode.CREATE_SQ,
      commandId: 6,
      direction: SqDirection.TX,
      placement: Placement.HOST,
      cqIdx: queueId(2),
      sqDepth: 1024,
    });
    const answer = zeros(ACQ_ENTRY_SIZE);
    createSqResp.write(new DataView(answer.buffer), 0, {
      commandId: 6,
      status: AdminStatus.SUCCESS,
      sqIdx: queueId(4),
      sqDoorbellOffset: 0x2340,
    });
    tracer.trace(
      "out",
      batchOf((w) => w.column(Op.WRITE, 0, 0x1000, RecordType.ENA_AQ, command, 0, command.length)),
    );
    expect(
      tracer.trace(
        "in",
        batchOf((w) => w.column(Op.WRITE, 0, 0x2000, RecordType.ENA_ACQ, answer, 0, answer.length)),
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
      batchOf((w) => w.column(Op.WRITE, 0, 0, RecordType.ENA_AQ, command, 0, command.length)),
    );
    tracer.trace(
      "in",
      batchOf((w) => w.column(Op.WRITE, 0, 0, RecordType.ENA_ACQ, answer, 0, answer.length)),
    );
    const doorbell = batchOf((w) => w.mmioWrite32(0, 0x2000, RecordType.REGISTER, 5));
    expect(tracer.trace("out", doorbell)).toEqual(["-> mmio_write 1 record: 0x2000 = 0x5"]);
  });
});
