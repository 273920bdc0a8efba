/** Every transaction of the wire, and the dissector's complaints. */
import { describe, expect, test } from "vitest";
import { Tracer } from "../../cli/trace/wire.ts";
import { stampCommand } from "../../shared/ena/admin.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { FaultSeverity } from "../../shared/wire/protocol.ts";
import { RecordType, Space } from "../../shared/wire/records.ts";
import {
  type BatchFacts,
  dissect,
  infos,
  type Packet,
  RingFile,
  tshark,
  USER0,
} from "../support/dissector.ts";
import { sampleState } from "../support/link-state.ts";
import { column, mmio, packBatch } from "../support/raw-frontend.ts";
import { batchOf } from "../support/wire-acts.ts";

async function only(build: (file: RingFile) => void): Promise<Packet> {
  const file = new RingFile();
  build(file);
  const packets = await dissect(file);
  return packets.at(-1)!;
}

describe("transactions", () => {
  test("hello and welcome, with keys that nobody knows", async () => {
    const hello = {
      version: 1,
      personality: "ena",
      name: "n1",
      instance: "i",
      queues: 4,
      extra: [1, { a: null }],
    };
    const welcome = {
      version: 1,
      name: "n1",
      mac: "02:00:00:ab:cd:ef",
      segment: "lan0",
      epoch: 3,
      queues: 2,
      maxMtu: 9216,
      pushBytes: 1 << 24,
      revision: 1,
      deviceMemory: true,
    };
    const file = new RingFile();
    file.toDevice(batchOf((w) => w.post("hello", { greeting: hello })));
    file.toFrontend(batchOf((w) => w.post("welcome", { greeting: welcome })));
    const [first, second] = await dissect(file);
    expect(first!.one("ringwire.hello.personality")).toBe("ena");
    expect(first!.number("ringwire.hello.queues")).toBe(4);
    expect(first!.one("ringwire.value")).toBe('extra=[1,{"a":null}]');
    expect((await infos(file))[0]).toBe(`-> hello ${JSON.stringify(hello)}`);
    expect(second!.one("ringwire.hello.mac")).toBe(welcome.mac);
    expect(second!.number("ringwire.hello.push_bytes")).toBe(welcome.pushBytes);
    expect(second!.number("ringwire.hello.epoch")).toBe(3);
    expect(second!.number("ringwire.hello.device_memory")).toBe(1);
    expect(second!.experts).toEqual([]);
  });

  test("session, windows, reads and interrupts", async () => {
    const file = new RingFile();
    file.toDevice(
      batchOf((w) => {
        w.post("heartbeat", { sent: 2 ** 40 + 5, echo: 0 });
        w.post("progress", { bytes: 123_456 });
        w.post("window", { address: 0xabc000, length: 8192 });
        w.post("end_window", { address: 0xabc000 });
        w.post("read_reply", { tag: 7, status: 1, bytes: new Uint8Array(0) });
      }),
    );
    file.toFrontend(
      batchOf((w) => {
        w.post("refuse", { code: "NAME_IN_USE", text: "taken" });
        w.post("read", { tag: 8, space: Space.BUS, address: 2 ** 47 + 16, length: 4096 });
        w.interrupt(3);
        w.interrupt(200);
      }),
    );
    const [up, down] = await dissect(file);
    expect(up!.numbers("ringwire.op")).toEqual([3, 4, 16, 17, 21]);
    expect(up!.number("ringwire.heartbeat.sent")).toBe(2 ** 40 + 5);
    expect(up!.number("ringwire.progress.bytes")).toBe(123_456);
    expect(up!.numbers("ringwire.address")).toEqual([0xabc000, 0xabc000]);
    expect(up!.number("ringwire.read_reply.status")).toBe(1);
    expect(up!.experts).toEqual(["refused"]);
    expect(down!.one("ringwire.refuse.code")).toBe("NAME_IN_USE");
    expect(down!.number("ringwire.address")).toBe(2 ** 47 + 16);
    expect(down!.numbers("ringwire.interrupt.vector")).toEqual([3, 200]);
    expect((await infos(file))[1]).toBe(
      '<- refuse "NAME_IN_USE" "taken"; read tag=8 0x800000000010 length=4096; interrupt vector=3; interrupt vector=200',
    );
  });

  test("faults, each by its severity", async () => {
    const packet = await only((file) =>
      file.toFrontend(
        batchOf((w) => {
          w.post("fault", {
            severity: FaultSeverity.NOTE,
            code: "N_CODE",
            text: "just so",
            space: 0,
            address: 0x1234,
          });
          w.post("fault", {
            severity: FaultSeverity.QUEUE,
            code: "Q_CODE",
            text: "stops",
            space: 1,
            address: 0x8010,
          });
          w.post("fault", {
            severity: FaultSeverity.DEVICE,
            code: "D_CODE",
            text: 'says "no"',
            space: 0,
            address: 0,
          });
        }),
      ),
    );
    expect(packet.all("ringwire.fault.code")).toEqual(["N_CODE", "Q_CODE", "D_CODE"]);
    expect(packet.numbers("ringwire.fault.severity")).toEqual([0, 1, 2]);
    expect(packet.numbers("ringwire.fault.address")).toEqual([0x1234, 0x8010, 0]);
    expect(packet.experts.toSorted()).toEqual(["fault_device", "fault_note", "fault_queue"]);
    expect(packet.complaints).toContain("Q_CODE: stops");
    expect(packet.all("ringwire.words")[0]).toContain('fault queue "Q_CODE" "stops" gref 8+0x10');
  });

  test("grants and addresses of records", async () => {
    const packet = await only((file) =>
      file.toFrontend(
        batchOf((w) =>
          w.column(
            Op.WRITE,
            Space.GRANT,
            77 * 4096 + 12,
            RecordType.RAW,
            Uint8Array.of(1, 2, 3),
            0,
            3,
          ),
        ),
      ),
    );
    expect(packet.number("ringwire.record.reference")).toBe(77);
    expect(packet.number("ringwire.record.address")).toBe(77 * 4096 + 12);
    expect(packet.one("ringwire.record.data")).toBe("01:02:03");
    expect(packet.number("ringwire.record.space")).toBe(Space.GRANT);
  });

  test("a record of type frame that no descriptor names is a frame", async () => {
    const frame = Buffer.alloc(60, 0x11);
    frame.writeUInt16BE(0x88b5, 12);
    const packet = await only((file) =>
      file.toDevice(batchOf((w) => w.column(Op.PUSH, 0, 0x9000, RecordType.FRAME, frame, 0, 60))),
    );
    expect(packet.number("ringwire.frame.length")).toBe(60);
    expect(packet.one("eth.dst")).toBe("11:11:11:11:11:11");
  });

  test("the ends of a batch are the NIC and the device", async () => {
    const file = new RingFile();
    file.toDevice(packBatch([[Op.INTERRUPT, 1]]));
    file.toFrontend(packBatch([[Op.INTERRUPT, 1]]));
    const columns = ["_ws.col.Source", "_ws.col.Destination", "_ws.col.Protocol"];
    const args = ["-T", "fields", ...columns.flatMap((name) => ["-e", name])];
    const stdout = await tshark(file.bytes(), args);
    expect(stdout).toBe("ring\tdevice\tRingwire\ndevice\tring\tRingwire\n");
  });

  test("the same by link type USER0", async () => {
    const file = new RingFile(USER0);
    file.toDevice(batchOf((w) => w.interrupt(9)));
    const [packet] = await dissect(file);
    expect(packet!.number("ringwire.interrupt.vector")).toBe(9);
    expect(packet!.number("ringwire.direction")).toBe(0);
  });
});

/** The admin queues as a driver sets them up, then one batch. */
const AQ = 0x10000;
const ACQ = 0x20000;
const CQ = 0x30000;
const SQ = 0x40000;
const DEPTH = 4;

const u16 = (view: DataView, at: number, value: number) => view.setUint16(at, value, true);
const u32 = (view: DataView, at: number, value: number) => view.setUint32(at, value, true);

function entry(bytes: number, fill: (view: DataView) => void): Uint8Array {
  const data = new Uint8Array(bytes);
  fill(new DataView(data.buffer));
  return data;
}

const write = (address: number, type: number, bytes: Uint8Array): unknown[] =>
  column(Op.WRITE, [{ address, type, bytes }]);

const TX = 1;
const RX = 2;

/** A completion queue of DEPTH entries and its submission queue, created within the capture. */
function newQueue(file: RingFile, direction = RX, facts: BatchFacts = {}): void {
  const caps = (64 << 16) | 32;
  file.toDevice(
    packBatch([
      ...[0x10, AQ, 0x14, 0, 0x18, caps, 0x20, ACQ, 0x24, 0, 0x28, caps].flatMap((v, i, all) =>
        i % 2 === 0 ? [mmio(v, all[i + 1]!)] : [],
      ),
      write(
        AQ,
        RecordType.ENA_AQ,
        entry(64, (v) => {
          v.setUint8(2, 3); // create CQ
          v.setUint8(5, direction === RX ? 4 : 2); // words of an entry
          u16(v, 6, DEPTH);
          u32(v, 12, CQ);
          stampCommand(v, 0, 0, 1);
        }),
      ),
    ]),
    facts,
  );
  file.toFrontend(
    packBatch([
      write(
        ACQ,
        RecordType.ENA_ACQ,
        entry(64, (v) => {
          v.setUint8(3, 1);
          u16(v, 8, 5); // its index
          u16(v, 10, DEPTH);
        }),
      ),
    ]),
    facts,
  );
  file.toDevice(
    packBatch([
      write(
        AQ + 64,
        RecordType.ENA_AQ,
        entry(64, (v) => {
          v.setUint8(2, 1); // create SQ
          v.setUint8(4, direction << 5);
          v.setUint8(6, 1); // in host memory
          u16(v, 8, 5);
          u16(v, 10, DEPTH);
          u32(v, 12, SQ);
          stampCommand(v, 0, 1, 1);
        }),
      ),
    ]),
    facts,
  );
  file.toFrontend(
    packBatch([
      write(
        ACQ + 64,
        RecordType.ENA_ACQ,
        entry(64, (v) => {
          u16(v, 0, 1);
          v.setUint8(3, 1);
          u16(v, 8, 6);
          u32(v, 12, 0x1018); // doorbell
        }),
      ),
    ]),
    facts,
  );
}

const rxDescriptor = (reqId: number, phase: number) =>
  entry(16, (v) => {
    u16(v, 0, 2048);
    v.setUint8(3, 0x1c | phase);
    u16(v, 4, reqId);
    u32(v, 8, 0x50000 + reqId * 2048);
  });
const rxCompletion = (reqId: number, phase: number) =>
  entry(16, (v) => {
    u32(v, 0, (phase << 24) | (1 << 26) | (1 << 27));
    u16(v, 4, 60);
    u16(v, 6, reqId);
  });
const post = (slot: number, reqId: number, phase = 1) =>
  packBatch([write(SQ + slot * 16, RecordType.ENA_RX_DESC, rxDescriptor(reqId, phase))]);
const complete = (slot: number, reqId: number, phase = 1) =>
  packBatch([write(CQ + slot * 16, RecordType.ENA_RX_CDESC, rxCompletion(reqId, phase))]);

describe("what a capture that begins late has missed", () => {
  test("a state record says what the tracer says, and is no batch of either side", async () => {
    const file = new RingFile();
    const [part] = sampleState();
    file.state(part!);
    const [packet] = await dissect(file);
    expect(packet!.one("ringwire.words")).toBe(new Tracer().state(part!).join("; "));
    expect(packet!.experts).toEqual([]);
    expect(packet!.one("ringwire.snapshot")).toBe("1");
    expect(packet!.has("ringwire.direction")).toBe(false);
    expect(packet!.numbers("ringwire.state.ena_ring.head")).toEqual([40, 40, 40, 9, 9, 9]);
  });

  test("one that is cut, and one that is none", async () => {
    const file = new RingFile();
    const [part] = sampleState();
    file.state(part!, { snap: 50 });
    file.state(Uint8Array.of(1, 0, 0, 0, 9));
    file.state(Uint8Array.of(99, 0, 0, 0, 0, 0, 0, 0));
    const packets = await dissect(file);
    expect(packets.map(({ experts }) => experts)).toEqual([["cut"], ["malformed"], ["record"]]);
  });

  test("the snapshot of an older program names queues; positions and ids are not judged", async () => {
    const file = new RingFile();
    newQueue(file, RX, { oldSnapshot: true });
    file.toDevice(post(2, 1), { oldSnapshot: true });
    file.toFrontend(complete(3, 9));
    file.toFrontend(complete(1, 1, 0));
    const packets = await dissect(file);
    expect(packets.map(({ experts }) => experts)).toEqual([[], [], [], [], [], [], ["order"]]);
    expect(packets.at(-1)!.one("ringwire.ena.queue")).toBe("CQ 5 of rx SQ 6");
  });
});

describe("what the dissector complains about", () => {
  async function onQueue(build: (file: RingFile) => void): Promise<readonly Packet[]> {
    const file = new RingFile();
    newQueue(file);
    const before = file.packets;
    build(file);
    const packets = await dissect(file);
    expect(packets.slice(0, before).flatMap((p) => p.experts)).toEqual([]);
    return packets.slice(before);
  }

  test("nothing, over three laps of a ring", async () => {
    const packets = await onQueue((file) => {
      for (let i = 0; i < 3 * DEPTH; i++) {
        const phase = Math.floor(i / DEPTH) % 2 === 0 ? 1 : 0;
        file.toDevice(post(i % DEPTH, i % 3, phase));
        file.toFrontend(complete(i % DEPTH, i % 3, phase));
      }
    });
    expect(packets.flatMap((p) => p.experts)).toEqual([]);
    expect(packets.at(-1)!.one("ringwire.ena.queue")).toBe("CQ 5 of rx SQ 6");
  });

  test("a phase bit that did not flip", async () => {
    const packets = await onQueue((file) => {
      for (let i = 0; i <= DEPTH; i++) {
        file.toDevice(post(i % DEPTH, i, i < DEPTH ? 1 : 0));
        file.toFrontend(complete(i % DEPTH, i, 1));
      }
    });
    expect(packets.flatMap((p, i) => p.experts.map((name) => [i, name]))).toEqual([
      [2 * DEPTH + 1, "phase"],
    ]);
    expect(packets.at(-1)!.complaints).toContain("phase 1 in slot 0, where 0 is expected");
  });

  test("a completion beside the next slot", async () => {
    const packets = await onQueue((file) => {
      file.toDevice(post(0, 1));
      file.toFrontend(complete(2, 1));
    });
    expect(packets.flatMap((p) => p.experts)).toEqual(["order"]);
  });

  test("a request id that was never posted, one completed twice, one posted twice", async () => {
    const packets = await onQueue((file) => {
      file.toDevice(post(0, 1));
      file.toFrontend(complete(0, 9));
      file.toFrontend(complete(1, 1));
      file.toFrontend(complete(2, 1));
      file.toDevice(post(1, 2));
      file.toDevice(post(2, 2));
    });
    expect(packets.map((p) => p.experts)).toEqual([[], ["req_id"], [], ["req_id"], [], ["twice"]]);
    expect(packets[1]!.complaints).toContain("rx completion of req_id 9, which is not outstanding");
  });

  test("nothing about ids of a ring that the device reads for itself", async () => {
    const packets = await onQueue((file) => {
      file.toFrontend(complete(0, 9));
    });
    expect(packets.flatMap((p) => p.experts)).toEqual([]);
  });

  test("nothing about ids that nobody wants completed", async () => {
    const file = new RingFile();
    newQueue(file, TX);
    const before = file.packets;
    const send = (slot: number, wantsCompletion: boolean) =>
      entry(16, (v) => {
        u32(v, 0, 60 | (1 << 24) | (1 << 26) | (1 << 27) | (wantsCompletion ? 1 << 28 : 0));
        u32(v, 8, 0x50000 + slot * 2048);
      });
    for (const [slot, wantsCompletion] of [false, false, true, true].entries()) {
      const bytes = send(slot, wantsCompletion);
      file.toDevice(packBatch([write(SQ + slot * 16, RecordType.ENA_TX_DESC, bytes)]));
    }
    const packets = (await dissect(file)).slice(before);
    expect(packets.map((p) => p.experts)).toEqual([[], [], [], ["twice"]]);
  });

  test("complaints are found by a filter as they are shown in the tree", async () => {
    const file = new RingFile();
    newQueue(file);
    file.toDevice(post(0, 1));
    const reserved = rxCompletion(8, 0);
    reserved[0] = 0x80;
    file.toFrontend(packBatch([write(CQ + 32, RecordType.ENA_RX_CDESC, reserved)]));
    file.toFrontend(packBatch([[Op.FAULT, 0, "CODE", "a sentence", 0, 0]]));
    for (const [, bytes] of WRONG) file.toDevice(bytes);
    file.toDevice(packBatch(Array.from({ length: 600 }, () => [Op.INTERRUPT, 1])));
    const shown = await dissect(file);
    const experts = shown.flatMap((packet, i) => packet.experts.map((name) => [name, `${i + 1}`]));
    const names = ["mbz", "order", "req_id", "fault_note", "malformed", "record", "bounded"];
    for (const name of names) expect(experts.map(([found]) => found)).toContain(name);
    // No field of ours is requested here, so tshark builds no tree.
    const stdout = await tshark(file.bytes(), ["-Y", "_ws.expert"]);
    const found = stdout.split("\n").flatMap((line) => line.match(/^ *(\d+)/)?.[1] ?? []);
    expect(found).toEqual([...new Set(experts.map(([, frame]) => frame))]);
  });

  test("an admin completion without its command, and one that failed", async () => {
    const packets = await onQueue((file) => {
      const done = entry(64, (v) => {
        u16(v, 0, 11);
        v.setUint8(2, 5);
        v.setUint8(3, 1);
      });
      file.toFrontend(packBatch([write(ACQ + 128, RecordType.ENA_ACQ, done)]));
    });
    expect(packets[0]!.experts.toSorted()).toEqual(["req_id", "status"]);
    expect(packets[0]!.complaints).toContain("admin command failed: ILLEGAL_PARAMETER");
  });

  test("nothing about ids after packets were lost", async () => {
    const packets = await onQueue((file) => {
      file.toDevice(post(0, 1));
      file.toFrontend(complete(2, 3), { drops: 4 });
      file.toFrontend(complete(3, 8));
    });
    expect(packets.flatMap((p) => p.experts)).toEqual([]);
  });

  const BATCH = packBatch([
    [Op.PROGRESS, 1000],
    [Op.INTERRUPT, 3],
  ]);
  const outside = column(Op.WRITE, [{ address: 1, bytes: Buffer.of(1), length: 9 }]);
  const WRONG: readonly [string, Uint8Array, string, RegExp][] = [
    ["bytes behind the end", Buffer.concat([BATCH, Buffer.of(1, 2)]), "malformed", /2 bytes after/],
    ["an end too early", BATCH.subarray(0, -1), "malformed", /interrupt: vector: the message ends/],
    ["no array", Buffer.of(5), "malformed", /expected an array, found uint/],
    ["a reserved format", Buffer.of(0x91, 0xc1), "malformed", /format 0xc1/],
    ["an unknown opcode", packBatch([[63, "a", [1]]]), "opcode", /63 is not in the catalogue/],
    ["too many fields", packBatch([[Op.PROGRESS, 1, 2]]), "malformed", /progress with 3 fields/],
    ["a greeting without its map", packBatch([[Op.HELLO]]), "malformed", /hello with 1 fields/],
    ["another type", packBatch([[Op.PROGRESS, "x"]]), "malformed", /unsigned integer, found str/],
    ["a negative number", packBatch([[Op.PROGRESS, -5]]), "malformed", /found int/],
    ["a record too long", packBatch([outside]), "record", /record 0 has 9 bytes, 1 are left/],
    ["an extension", Buffer.of(0x91, 0x92, 63, 0xd4, 1, 0), "ext", /1 msgpack extensions/],
  ];

  test("malformed batches, each by its reason", async () => {
    const file = new RingFile();
    WRONG.forEach(([, bytes], epoch) => {
      file.toDevice(bytes, { epoch });
    });
    const packets = await dissect(file);
    WRONG.forEach(([name, , expert, sentence], i) => {
      const { experts, complaints } = packets[i]!;
      expect(experts, name).toContain(expert);
      expect(experts, name).not.toContain("internal");
      expect(complaints.filter((text) => sentence.test(text)).length, name).toBe(1);
    });
  });

  test("a batch that the capture cut", async () => {
    const packet = await only((file) => file.toDevice(BATCH, { snap: BATCH.length - 1 }));
    expect(packet.experts).toEqual(["cut"]);
    expect(packet.number("ringwire.progress.bytes")).toBe(1000);
  });

  test("more than is shown", async () => {
    const packet = await only((file) =>
      file.toDevice(packBatch(Array.from({ length: 600 }, (_, i) => [Op.INTERRUPT, i % 256]))),
    );
    expect(packet.numbers("ringwire.interrupt.vector").length).toBe(512);
    expect(packet.complaints).toContain("88 more transactions are not shown");
  });
});
