/** What a capture that begins in the middle of a link's life tells of queues, in the tracer's words. */
import { describe, expect, it } from "vitest";
import { Tracer } from "../../cli/trace/wire.ts";
import { LinkDirection } from "../../shared/capture/ring-header.ts";
import { type RingState, ringSnapshot } from "../../shared/capture/ring-snapshot.ts";
import { SqDirection } from "../../shared/ena/admin.ts";
import { rxDesc, txDesc } from "../../shared/ena/io.ts";
import type {
  EnaQueueState,
  EnaWrittenRing,
  XenQueueState,
} from "../../shared/wire/queue-state.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { RingWord } from "../../shared/xen/ring.ts";
import { entriesOf } from "../support/batch-entries.ts";

interface Told {
  readonly lines: readonly string[];
  readonly toDevice: readonly Uint8Array[];
  readonly toFrontend: readonly Uint8Array[];
}

function tell(queues: RingState["queues"]): Told {
  const tracer = new Tracer();
  const told = {
    lines: [] as string[],
    toDevice: [] as Uint8Array[],
    toFrontend: [] as Uint8Array[],
  };
  ringSnapshot({ windows: [], grants: undefined, queues }, (direction, batch) => {
    const out = direction === LinkDirection.TO_DEVICE;
    (out ? told.toDevice : told.toFrontend).push(Uint8Array.from(batch));
    told.lines.push(...tracer.trace(out ? "out" : "in", batch));
  });
  return told;
}

const written = (
  address: number,
  depth: number,
  entryBytes: number,
  head: number,
): EnaWrittenRing => ({
  address,
  depth,
  entryBytes,
  head,
  bytes: Uint8Array.from({ length: depth * entryBytes }, (_, i) => Math.floor(i / entryBytes)),
});

const DEPTH = 8;
const ENA: EnaQueueState = {
  personality: "ena",
  commands: { address: 0x1000, depth: 32, entryBytes: 64, head: 33 },
  completions: written(0x2000, 32, 64, 33),
  events: written(0x3000, 16, 64, 3),
  waiting: [],
  llq: undefined,
  completionQueues: [
    { index: 0, vector: 1, ring: written(0x4000, DEPTH, 8, 9), unmask: 0x2000, numa: 0 },
    { index: 1, vector: 1, ring: written(0x5000, DEPTH, 16, 0), unmask: 0x2004, numa: 0 },
  ],
  submissionQueues: [
    {
      direction: SqDirection.TX,
      index: 0,
      cqIndex: 0,
      inDevice: false,
      ring: { address: 0x6000, depth: DEPTH, entryBytes: 16, head: 10 },
      doorbell: 0x1000,
      outstanding: [{ reqId: 5, address: 0, length: 0 }],
    },
    {
      direction: SqDirection.RX,
      index: 1,
      cqIndex: 1,
      inDevice: false,
      ring: { address: 0x7000, depth: DEPTH, entryBytes: 16, head: 9 },
      doorbell: 0x1004,
      outstanding: [3, 1, 2].map((reqId) => ({ reqId, address: reqId * 0x1000, length: 2048 })),
    },
  ],
};

describe("queues of ENA", () => {
  it("are told by the commands that make them, behind which their registers have names", () => {
    const { lines } = tell(ENA);
    const text = lines.join("\n");
    expect(text).toMatch(/AQ_BASE_LO = 0x1000/);
    expect(text).toMatch(/CREATE_CQ id=0 depth=8 entry=8 vector=1 base=0x4000/);
    expect(text).toMatch(/CREATE_SQ RX id=3 cq=1 depth=8 HOST base=0x7000/);
    expect(lines.at(-1)).toMatch(/doorbell of rx SQ 1 = 0x9$/);
    expect(text).toMatch(/doorbell of tx SQ 0 = 0xa/);
    expect(text).not.toMatch(/SET_FEATURE|!/);
  });

  it("outstanding requests stand before the ring's head, with the phase of their lap", () => {
    const { toDevice } = tell(ENA);
    const of = (type: number) => toDevice.flatMap((batch) => entriesOf(batch, type, 16));
    const posted = of(RecordType.ENA_RX_DESC).map(({ address, view }) => ({
      slot: (address - 0x7000) / 16,
      reqId: rxDesc.reqId(view, 0),
      buffer: rxDesc.address(view, 0),
      phase: rxDesc.phase(view, 0),
    }));
    // Entries 6, 7 and 8 of a ring of 8: the last lies in the second lap.
    expect(posted).toEqual([
      { slot: 6, reqId: 3, buffer: 0x3000, phase: 1 },
      { slot: 7, reqId: 1, buffer: 0x1000, phase: 1 },
      { slot: 0, reqId: 2, buffer: 0x2000, phase: 0 },
    ]);
    const sent = of(RecordType.ENA_TX_DESC);
    expect(sent.map(({ address, view }) => [address, txDesc.reqId(view, 0)])).toEqual([
      [0x6010, 5],
    ]);
  });

  it("a ring that the device writes stands behind its last entry; one never written has none", () => {
    const { toFrontend } = tell(ENA);
    const at = (type: number, size: number) =>
      toFrontend.flatMap((batch) => entriesOf(batch, type, size)).map(({ address }) => address);
    expect(at(RecordType.ENA_TX_CDESC, 8)).toEqual([0x4000]);
    expect(at(RecordType.ENA_RX_CDESC, 16)).toEqual([]);
    expect(at(RecordType.ENA_AENQ, 64)).toEqual([0x3080]);
    // Four answers, the last one in the entry before the head.
    expect(at(RecordType.ENA_ACQ, 64)).toEqual([29, 30, 31, 0].map((slot) => 0x2000 + slot * 64));
  });

  it("a low latency queue is told with the shape of its entries", () => {
    const [tx] = ENA.submissionQueues;
    const queue = { ...tx!, inDevice: true, ring: { ...tx!.ring, address: 0x80, entryBytes: 128 } };
    const llq = { entryBytes: 128, descsBeforeHeader: 2 };
    const { lines } = tell({ ...ENA, llq, submissionQueues: [queue] });
    const text = lines.join("\n");
    expect(text).toMatch(/SET_FEATURE LLQ id=0/);
    expect(text).toMatch(/CREATE_SQ TX id=3 cq=0 depth=8 DEV/);
    expect(text).toMatch(/ENA_LLQ_ENTRY 128 bytes at BAR2\+0x100/);
  });

  it("of queues beyond what is told the names are", () => {
    const [, rx] = ENA.submissionQueues;
    const depth = 32768;
    const outstanding = Array.from({ length: depth }, (_, reqId) => ({
      reqId,
      address: 0,
      length: 1,
    }));
    const queues = [0, 1, 2].map((index) => ({
      ...rx!,
      index,
      doorbell: 0x1000 + index * 4,
      ring: { ...rx!.ring, depth, address: 0x10_0000 * (index + 1) },
      outstanding,
    }));
    const { lines, toDevice } = tell({ ...ENA, submissionQueues: queues });
    const doorbells = lines.join("\n").match(/doorbell of rx SQ \d/g);
    expect(doorbells).toEqual(["doorbell of rx SQ 0", "doorbell of rx SQ 1"]);
    const posted = toDevice.flatMap((batch) => entriesOf(batch, RecordType.ENA_RX_DESC, 16));
    expect(posted.length).toBe(2 * depth);
  });
});

describe("queues of Xen", () => {
  const ring = (reference: number, reqProd: number, rspProd: number) => {
    const page = new Uint8Array(4096);
    const view = new DataView(page.buffer);
    view.setUint32(RingWord.REQ_PROD, reqProd, true);
    view.setUint32(RingWord.RSP_PROD, rspProd, true);
    return { reference, address: reference * 4096, page };
  };
  const pair = (first: number, reqProd: number, rspProd: number) => ({
    tx: ring(first, reqProd, rspProd),
    rx: ring(first + 1, reqProd, rspProd),
    txPort: first,
    rxPort: first,
  });
  const xen = (queues: XenQueueState["queues"]): XenQueueState => ({
    personality: "xen",
    queues,
    control: undefined,
  });

  it("are told by the keys that publish them, pages, and requests without a response", () => {
    const { lines, toDevice } = tell(xen([pair(8, 258, 255)]));
    const text = lines.join("\n");
    expect(text).toMatch(/WRITE req=0 "device\/vif\/0\/tx-ring-ref" "8"/);
    expect(text).toMatch(/WRITE req=2 "device\/vif\/0\/event-channel" "8"/);
    expect(text).not.toMatch(/multi-queue|queue-/);
    const slots = toDevice
      .flatMap((batch) => entriesOf(batch, RecordType.XEN_TX_REQ, 12))
      .map(({ address }) => (address - 8 * 4096 - 64) / 12);
    expect(slots).toEqual([255, 0, 1]);
  });

  it("several queues, channels of their own for each way, a control ring", () => {
    const queues = [pair(8, 0, 0), { ...pair(10, 0, 0), rxPort: 11 }];
    const { lines } = tell({ ...xen(queues), control: { ring: ring(12, 1, 0), port: 12 } });
    const text = lines.join("\n");
    expect(text).toMatch(/"device\/vif\/0\/queue-1\/tx-ring-ref" "10"/);
    expect(text).toMatch(/"device\/vif\/0\/queue-1\/event-channel-rx" "11"/);
    expect(text).toMatch(/"device\/vif\/0\/multi-queue-num-queues" "2"/);
    expect(text).toMatch(/"device\/vif\/0\/ctrl-ring-ref" "12"/);
    expect(text).toMatch(/XEN_CTRL_REQ/);
  });

  it("of a producer index that cannot be no request is told", () => {
    const { toDevice } = tell(xen([pair(8, 5000, 0)]));
    const posted = toDevice.flatMap((batch) => entriesOf(batch, RecordType.XEN_TX_REQ, 12));
    expect(posted).toEqual([]);
  });
});
