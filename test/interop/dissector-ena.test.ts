/**
 * A whole ENA session, captured batch by batch and read by tshark with the dissector: the tree must
 * match the rings of driver and device.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { Tracer } from "../../cli/trace/wire.ts";
import { LinkDirection } from "../../shared/capture/ring-header.ts";
import {
  ACQ_BODY,
  acqCommon,
  aqCommon,
  createCqResp,
  createSqResp,
} from "../../shared/ena/admin.ts";
import { deviceAttributes } from "../../shared/ena/features.ts";
import { rxDesc } from "../../shared/ena/io.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { dissect, infos, type Packet, RingFile } from "../support/dissector.ts";
import { runNicSession, type SessionRecord } from "../support/nic-session.ts";
import { batchOf, entriesOf } from "../support/wire-acts.ts";

const FRAMES = [60, 96, 360, 1514];

function fileOf(session: SessionRecord): RingFile {
  const file = new RingFile();
  for (const { direction, bytes } of session.batches) {
    file.batch(direction === "in" ? LinkDirection.TO_DEVICE : LinkDirection.TO_FRONTEND, bytes);
  }
  return file;
}

describe.each([
  { name: "descriptors in host memory", llq: false },
  { name: "low latency queues", llq: true },
])("$name", ({ llq }) => {
  let session: SessionRecord;
  let packets: readonly Packet[];
  let columns: readonly string[];

  beforeAll(async () => {
    session = await runNicSession({ personality: "ena", llq, frames: FRAMES });
    const file = fileOf(session);
    packets = await dissect(file);
    columns = await infos(file);
  });

  /** The completions in each batch that the dissector marks as an answer to command `what`. */
  const answering = (what: string) =>
    packets.flatMap((packet, i) =>
      packet.all("ringwire.ena.admin.answers").includes(what)
        ? entriesOf(session.batches[i]!.bytes, RecordType.ENA_ACQ, 64).map((view) => ({
            packet,
            view,
          }))
        : [],
    );

  test("every batch is a packet, and nothing is wrong with any", () => {
    expect(packets.length).toBe(session.batches.length);
    const wrong = packets.flatMap((p) => p.experts.filter((name) => name !== "bounded"));
    expect(wrong).toEqual([]);
  });

  test("the Info column says what the tracer says", () => {
    const tracer = new Tracer();
    session.batches.forEach(({ direction, bytes }, i) => {
      const lines = tracer.trace(direction === "in" ? "out" : "in", bytes);
      const words = lines.map((line) => line.slice(3)).join("; ");
      const said = `${direction === "in" ? "->" : "<-"} ${words}`;
      const info = columns[i]!;
      if (info.endsWith(" ...")) expect(said.slice(0, info.length - 4)).toBe(info.slice(0, -4));
      else expect(info).toBe(said);
    });
  });

  test("admin commands and completions have the values that were written", () => {
    let commands = 0;
    let completions = 0;
    session.batches.forEach(({ bytes }, i) => {
      const packet = packets[i]!;
      const aq = entriesOf(bytes, RecordType.ENA_AQ, 64).map((e) => aqCommon.parse(e, 0));
      const acq = entriesOf(bytes, RecordType.ENA_ACQ, 64).map((e) => acqCommon.parse(e, 0));
      commands += aq.length;
      completions += acq.length;
      // A batch has one direction, so commands and completions are never in one batch.
      expect(packet.numbers("ringwire.ena.admin.command_id")).toEqual(
        [...aq, ...acq].map(({ commandId }) => commandId),
      );
      expect(packet.numbers("ringwire.ena.admin.opcode")).toEqual(aq.map(({ opcode }) => opcode));
      expect(packet.numbers("ringwire.ena.admin.status")).toEqual(acq.map(({ status }) => status));
    });
    expect(commands).toBeGreaterThan(15);
    expect(completions).toBe(commands);
  });

  test("a completion is read as the answer to its command", () => {
    const attributes = answering("GET_FEATURE DEVICE_ATTRIBUTES");
    expect(attributes.length).toBeGreaterThan(0);
    for (const { packet, view } of attributes) {
      const prefix = "ringwire.ena.feature.device_attributes";
      const value = deviceAttributes.parse(view, ACQ_BODY);
      expect(packet.one(`${prefix}.mac_addr`)).toBe(session.mac);
      expect(packet.number(`${prefix}.max_mtu`)).toBe(value.maxMtu);
      expect(packet.number(`${prefix}.supported_features`)).toBe(value.supportedFeatures);
    }
  });

  test("queues, their doorbells and unmask registers are known by name", () => {
    const places = new Map<number, RegExp>();
    for (const { view } of answering("CREATE_SQ")) {
      const { sqIdx, sqDoorbellOffset } = createSqResp.parse(view, 0);
      places.set(sqDoorbellOffset, new RegExp(`^doorbell of (tx|rx) SQ ${sqIdx}$`));
    }
    for (const { view } of answering("CREATE_CQ")) {
      const { cqIdx, cqInterruptUnmaskRegisterOffset } = createCqResp.parse(view, 0);
      places.set(cqInterruptUnmaskRegisterOffset, new RegExp(`^unmask of CQ ${cqIdx}$`));
    }
    expect(places.size).toBe(4);
    const named = new Map<number, string>();
    for (const packet of packets) {
      const names = packet.all("ringwire.ena.reg.name");
      packet.numbers("ringwire.ena.reg.offset").forEach((offset, i) => {
        if (places.has(offset)) named.set(offset, names[i]!);
      });
    }
    for (const [offset, name] of named) expect(name).toMatch(places.get(offset)!);
    const doorbells = [...named.values()].filter((name) => name.startsWith("doorbell"));
    expect(doorbells.map((name) => name.split(" ")[2]).sort()).toEqual(["rx", "tx"]);
  });

  test("frames are shown whole, where their packet ends", () => {
    const withFrames = packets.filter((p) => p.all("ringwire.frame.length").length > 0);
    const lengths = withFrames.flatMap((p) => p.numbers("ringwire.frame.length"));
    const sorted = (list: readonly number[]) => [...list].sort((x, y) => x - y);
    expect(sorted(lengths)).toEqual(sorted([...FRAMES, ...FRAMES]));
    const sources = withFrames.flatMap((p) => p.all("eth.src"));
    expect(sources.filter((mac) => mac === session.mac).length).toBe(FRAMES.length);
    expect(sources.filter((mac) => mac === session.peerMac).length).toBe(FRAMES.length);
    for (const packet of withFrames) {
      for (const type of packet.all("eth.type")) expect(Number(type)).toBe(0x88b5);
    }
  });

  test("request ids of the data path", () => {
    let posted = 0;
    packets.forEach((packet, i) => {
      const descs = entriesOf(session.batches[i]!.bytes, RecordType.ENA_RX_DESC, 16);
      if (descs.length === 0) return;
      const shown = packet.numbers("ringwire.ena.rx.req_id");
      posted += shown.length;
      expect(shown).toEqual(descs.slice(0, shown.length).map((view) => rxDesc.reqId(view, 0)));
    });
    expect(posted).toBeGreaterThan(100);
    const ofTx = (p: Packet) => p.all("ringwire.ena.queue").some((q) => /^CQ \d+ of tx/.test(q));
    const done = packets.filter(ofTx).flatMap((p) => p.numbers("ringwire.ena.tx.req_id"));
    expect(done.length).toBe(FRAMES.length);
  });
});

test("a second pass shows the same as the first, in whatever order", async () => {
  const session = await runNicSession({ personality: "ena", llq: false, frames: [60] });
  const file = fileOf(session);
  const names = ["ringwire.ena.reg.name", "ringwire.ena.admin.answers", "ringwire.ena.queue"];
  const once = await dissect(file);
  const twice = await dissect(file, ["-2"]);
  const last = await dissect(file, ["-2", "-Y", `frame.number > ${file.packets - 10}`]);
  for (const name of names) {
    expect(twice.map((p) => p.all(name))).toEqual(once.map((p) => p.all(name)));
    expect(last.map((p) => p.all(name))).toEqual(once.slice(-10).map((p) => p.all(name)));
  }
  expect(once.flatMap((p) => p.all("ringwire.ena.admin.answers")).length).toBeGreaterThan(15);
  expect(await infos(file, ["-2"])).toEqual(await infos(file));
});

test("a doorbell that nobody has placed is only a number", async () => {
  const file = new RingFile();
  file.toDevice(batchOf((w) => w.mmioWrite32(0, 0x1000, RecordType.REGISTER, 7)));
  file.toDevice(batchOf((w) => w.post("mmio_read", { tag: 9, bar: 0, offset: 0x58, length: 4 })));
  file.toFrontend(
    batchOf((w) => w.post("mmio_read_reply", { tag: 9, bytes: Uint8Array.of(9, 0, 0, 0) })),
  );
  const [doorbell, read, reply] = await dissect(file);
  expect(doorbell!.one("ringwire.words")).toBe("mmio_write 1 record: 0x1000 = 0x7");
  expect(read!.one("ringwire.ena.reg.name")).toBe("DEV_STS");
  expect(reply!.one("ringwire.ena.reg.name")).toBe("DEV_STS");
  expect(reply!.number("ringwire.ena.reg.dev_sts.ready")).toBe(1);
  expect(reply!.number("ringwire.ena.reg.dev_sts.reset_in_progress")).toBe(1);
  expect(reply!.number("ringwire.ena.reg.dev_sts.fatal_error")).toBe(0);
});
