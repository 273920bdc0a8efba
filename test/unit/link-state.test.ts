/**
 * The state record of a link: its content, as the tracer prints it, and the reading of bad bytes.
 */

import { describe, expect, it } from "vitest";
import { Tracer } from "../../cli/trace/wire.ts";
import { viewOf } from "../../shared/bytes/words.ts";
import { createSq, Opcode } from "../../shared/ena/admin.ts";
import type { BatchWriter } from "../../shared/wire/batch.ts";
import {
  type EnaRequest,
  EnaRingKind,
  type LinkState,
  StateKind,
  stateEntries,
  XenRingKind,
} from "../../shared/wire/link-state.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { grantRef } from "../../shared/xen/grant.ts";
import { RingWord } from "../../shared/xen/ring.ts";
import { sampleState, stateParts, stateRecords } from "../support/link-state.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { batchOf } from "../support/wire-acts.ts";

const linesOf = (parts: readonly Uint8Array[], tracer = new Tracer()): string[] =>
  parts.flatMap((part) => tracer.state(part));

const RX = { ring: EnaRingKind.RX_SQ, index: 1, cqIndex: 1, depth: 8, entryBytes: 16, head: 9 };
const rxQueue = (state: LinkState, requests: readonly EnaRequest[], index = 1): void =>
  state.submissionQueue({ ...RX, index, address: 0x7000, register: 0x1004 }, requests);

const PAGE_BYTES = 4096;
const xenPage = (reqProd: number, rspProd: number): Uint8Array => {
  const page = new Uint8Array(PAGE_BYTES);
  viewOf(page).setUint32(RingWord.REQ_PROD, reqProd, true);
  viewOf(page).setUint32(RingWord.RSP_PROD, rspProd, true);
  return page;
};

it("the bytes are those of the protocol page", () => {
  const [part] = stateParts((state) => {
    state.llq(128, 2);
    rxQueue(state, [{ reqId: 3, address: 0x1234_5678_9abc }]);
  });
  const expected = [
    "1000 0000 04000000 8000 0200", // ENA_LLQ
    "1100 0000 20000000 05 02 0100 0100 0000", // ENA_RING, with requests
    "0070000000000000 08000000 1000 0900 04100000 00000000",
    "1200 0000 0c000000 05 00 0100 0300 bc9a78563412", // ENA_REQUEST
  ];
  expect(Buffer.from(part!).toString("hex")).toBe(expected.join("").replaceAll(" ", ""));
});

describe("what is told", () => {
  it("windows, pieces of them that are not zero, grants and their use", () => {
    const bytes = new Uint8Array(3 * PAGE_BYTES - 96);
    bytes[PAGE_BYTES] = 0xaa;
    bytes[bytes.length - 1] = 0xbb;
    const parts = stateParts((state) => {
      state.window(0x10000, bytes);
      state.grant(1, grantRef(9), 1, 0, 0x12, 0, 0);
      state.grant(2, grantRef(10), 1 | (1 << 8), 0, 0x13, 100, 50);
      state.grantUse(grantRef(9), 1, 0);
    });
    expect(linesOf(parts)).toEqual([
      "state WINDOW 1 record: address=0x10000 length=12192",
      "state MEMORY 1 record: address=0x11000 bytes=4096",
      "state MEMORY 1 record: address=0x12000 bytes=4000",
      "state GRANT_V1 1 record: 9 PERMIT_ACCESS dom=0 frame=0x12",
      "state GRANT_V2 1 record: 10 PERMIT_ACCESS dom=0 frame=0x13 bytes=100+50 SUB_PAGE",
      "state GRANT_USE 1 record: 9 readers+1",
    ]);
    const [first, last] = stateRecords(parts, StateKind.MEMORY);
    expect(first!.tail[0]).toBe(0xaa);
    expect(last!.tail.at(-1)).toBe(0xbb);
  });

  it("memory up to a bound, windows all the same", () => {
    const parts = stateParts((state) => {
      for (let i = 1; i <= 3; i++) state.window(i << 24, new Uint8Array(2 << 20).fill(1));
    });
    expect(stateRecords(parts, StateKind.WINDOW)).toHaveLength(3);
    const memory = stateRecords(parts, StateKind.MEMORY);
    expect(memory.reduce((sum, { tail }) => sum + tail.length, 0)).toBe(4 << 20);
  });

  it("queues of ENA, whose registers have names from there on", () => {
    const command = new Uint8Array(64);
    createSq.write(viewOf(command), 0, { opcode: Opcode.CREATE_SQ, commandId: 7, sqDepth: 8 });
    const parts = stateParts((state) => {
      state.enaRing({ ring: EnaRingKind.AQ, address: 0x1000, depth: 32, entryBytes: 64, head: 33 });
      state.enaRing({ ring: EnaRingKind.CQ, index: 1, vector: 1, register: 0x2004, depth: 8 });
      state.adminCommand(command);
      rxQueue(state, [{ reqId: 3, address: 0x3000 }]);
    });
    const tracer = new Tracer();
    expect(linesOf(parts, tracer)).toEqual([
      "state ENA_RING 2 records: AQ 0 address=4096 depth=32 entryBytes=64 head=33; CQ 1 vector=1 depth=8 register=8196",
      "state ENA_COMMAND 1 record: CREATE_SQ ?0 id=7 cq=0 depth=8 ?0",
      "state ENA_RING 1 record: RX_SQ 1 requestsTold=true cqIndex=1 address=28672 depth=8 entryBytes=16 head=9 register=4100",
      "state ENA_REQUEST 1 record: RX_SQ 1 reqId=3 address=12288",
    ]);
    const batch = batchOf((writer: BatchWriter) => {
      writer.mmioWrite32(0, 0x1004, RecordType.REGISTER, 10);
      writer.mmioWrite32(0, 0x2004, RecordType.REGISTER, 1);
    });
    expect(tracer.trace("out", batch)).toEqual([
      "-> mmio_write 2 records: doorbell of rx SQ 1 = 0xa; unmask of CQ 1 = 0x1",
    ]);
  });

  it("of queues beyond the bound the names, and that their requests are not told", () => {
    const requests = Array.from({ length: 32_768 }, (_, reqId) => ({ reqId, address: 0 }));
    const parts = stateParts((state) => {
      for (const index of [0, 1, 2]) rxQueue(state, requests, index);
    });
    const told = stateRecords(parts, StateKind.ENA_RING).map((ring) => ring.values["requestsTold"]);
    expect(told).toEqual([true, true, false]);
    expect(stateRecords(parts, StateKind.ENA_REQUEST)).toHaveLength(2 * requests.length);
    for (const part of parts) expect(part.length).toBeLessThanOrEqual(65_536);
  });

  it("rings of Xen with their pages", () => {
    const ring = (kind: XenRingKind, reference: number) => ({
      ...{ ring: kind, queue: 1, port: 8, reference, address: reference * PAGE_BYTES },
      page: xenPage(258, 255),
    });
    const parts = stateParts((state) => {
      state.xenRing(ring(XenRingKind.TX, 9));
      state.xenRing(ring(XenRingKind.CTRL, 10));
    });
    const indexes = "req_prod=258 req_event=0 rsp_prod=255 rsp_event=0";
    expect(linesOf(parts)).toEqual([
      `state XEN_RING 2 records: TX 1 port=8 reference=9 address=36864 ${indexes}; CTRL 1 port=8 reference=10 address=40960 ${indexes}`,
    ]);
  });
});

describe("what is read of bytes that are no record", () => {
  const lines = (...bytes: number[]) => linesOf([Uint8Array.from(bytes)]);

  it("an entry behind the end, rests, and kinds that are not known are said to be so", () => {
    expect(lines(1, 0, 0, 0, 13)).toEqual(["state ! an entry ends behind the record"]);
    expect(lines(1, 0, 0, 0, 1, 0, 0, 0)).toEqual(["state ! an entry ends behind the record"]);
    expect(lines(1, 0, 0, 0, 2, 0, 0, 0, 7, 7)).toEqual([
      "state WINDOW 0 records: 2 bytes are no record",
    ]);
    expect(lines(2, 0, 0, 0, 0, 0, 0, 0)).toEqual(["state MEMORY 0 records: "]);
    expect(lines(99, 0, 0, 0, 1, 0, 0, 0, 7)).toEqual([
      "state ?99 0 records: 1 bytes are no record",
    ]);
  });

  it.each(Object.entries(StateKind))("%s: a record that is cut short is none", (_, kind) => {
    for (let length = 0; length < 64; length++) {
      const part = new Uint8Array(8 + length);
      viewOf(part).setUint16(0, kind, true);
      viewOf(part).setUint32(4, length, true);
      linesOf([part]);
    }
  });

  it("never throws", () => {
    const seed = seedOfRun();
    const random = new Random(seed);
    const [honest] = sampleState();
    for (let i = 0; i < 2000; i++) {
      const bytes = Uint8Array.from(honest!);
      for (let n = random.below(8); n >= 0; n--)
        bytes[random.below(bytes.length)] = random.below(256);
      const part = bytes.subarray(0, random.below(bytes.length + 1));
      const read = [...stateEntries(part)].flatMap((entry) => entry?.records ?? []);
      if (read.reduce((sum, { length }) => sum + length, 0) > part.length) {
        throw new Error(`seed ${seed}, case ${i}: more records than bytes`);
      }
      linesOf([part]);
    }
  });
});
