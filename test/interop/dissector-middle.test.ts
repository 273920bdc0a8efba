/**
 * Captures that begin in the middle of a link's life, on either side: from there on they show the
 * same as a capture from the first message.
 */
import { describe, expect, test } from "vitest";
import { NicCapture } from "../../frontend/capture/nic-capture.ts";
import { EnaDriver } from "../../frontend/ena/index.ts";
import { Session } from "../../frontend/session.ts";
import { XenDriver } from "../../frontend/xen/index.ts";
import type { Recorder } from "../../shared/capture/recorder.ts";
import { LinkDirection, parseRingPacket } from "../../shared/capture/ring-header.ts";
import { silentLogger } from "../../shared/log.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { MemoryOutput } from "../support/capture-output.ts";
import { testDevice } from "../support/device-server.ts";
import { RingFile, tshark } from "../support/dissector.ts";
import { sendFrames } from "../support/nic-session.ts";
import { eventually } from "../support/process.ts";
import { entriesOf } from "../support/wire-acts.ts";

interface Variant {
  readonly personality: "ena" | "xen";
  readonly llq: boolean;
  readonly shuffle: boolean;
}

const VARIANTS: readonly Variant[] = [
  { personality: "ena", llq: false, shuffle: false },
  { personality: "ena", llq: true, shuffle: true },
  { personality: "xen", llq: false, shuffle: false },
];

/**
 * Frame lengths of one burst, and the number of bursts: rings of 256 entries wrap before and after.
 */
const BURST = [60, 1514, 96, 9000, ...Array<number>(60).fill(60)];
const BURSTS = 9;
/** Bursts at which the late captures begin: with its frames in flight, and with all answered. */
const BUSY_AT = 5;
const IDLE_AT = 6;
const MTU = 9000;

/** The fields of one packet, which must be the same however late the capture began. */
interface Seen {
  readonly snapshot: boolean;
  readonly words: string;
  readonly queues: string;
  readonly complaints: string;
  readonly frames: string;
}

const FIELDS = [
  "frame.section_number",
  "ringwire.snapshot",
  "_ws.col.Info",
  "ringwire.ena.queue",
  "ringwire.xen.ring",
  "_ws.expert.message",
  "ringwire.frame.length",
];

/** The packets of each capture. One run of tshark dissects all, as sections of one file. */
async function seenIn(captures: readonly Uint8Array[]): Promise<Seen[][]> {
  const stdout = await tshark(Buffer.concat(captures), [
    // A frontend's capture also holds the frames at its interface.
    ...["-Y", "ringwire"],
    ...["-o", "ringwire.max_frames:4096", "-o", "ringwire.max_items:100000"],
    ...["-T", "fields", "-E", "separator=/t", ...FIELDS.flatMap((field) => ["-e", field])],
  ]);
  const seen: Seen[][] = captures.map(() => []);
  for (const line of stdout.split("\n").slice(0, -1)) {
    const [section, told, words, ena, xen, complaints, frames] = line.split("\t");
    seen[Number(section) - 1]!.push({
      snapshot: told === "1",
      words: words!,
      queues: `${ena}${xen}`,
      // A comment counts as an expert item too.
      complaints: complaints!.replace(/^snapshot,?/, ""),
      frames: frames!,
    });
  }
  return seen;
}

const EPB = 6;
const EPB_DATA = 28;

/**
 * The capture with its last batch of receive completions twice. Only a dissector that knows the
 * outstanding requests notices.
 */
function withLie(capture: Uint8Array): Uint8Array {
  const view = new DataView(capture.buffer, capture.byteOffset, capture.length);
  let lie = [0, 0];
  for (let at = 0; at < capture.length; at += view.getUint32(at + 4, true)) {
    if (view.getUint32(at, true) !== EPB) continue;
    const data = capture.subarray(at + EPB_DATA, at + EPB_DATA + view.getUint32(at + 20, true));
    const packet = parseRingPacket(data);
    if (packet === undefined || packet.isState) continue;
    const completions = entriesOf(packet.bytes, RecordType.ENA_RX_CDESC, 16);
    const responses = entriesOf(packet.bytes, RecordType.XEN_RX_RSP, 8);
    if (completions.length + responses.length === 0) continue;
    lie = [at, at + view.getUint32(at + 4, true)];
  }
  const [from, to] = lie;
  return Buffer.concat([capture.subarray(0, to), capture.subarray(from)]);
}

/** Captures of one NIC on one side. */
interface Captures {
  /** From the first message on. */
  readonly whole: Uint8Array;
  readonly late: readonly Uint8Array[];
}

async function runSession(variant: Variant): Promise<readonly Captures[]> {
  const { personality, llq, shuffle } = variant;
  const onDevice = new RingFile();
  const { TO_DEVICE, TO_FRONTEND } = LinkDirection;
  const completionOrder = shuffle ? "shuffle" : "fifo";
  const device = await testDevice({
    ena: { llq, completionOrder },
    maxQueues: 2,
    tap: (name) => (direction, bytes) => {
      if (name === "a") onDevice.batch(direction === "in" ? TO_DEVICE : TO_FRONTEND, bytes);
    },
  });
  const { port } = device;
  const newSession = (name: string) =>
    new Session({
      connect: `ws://127.0.0.1:${port}`,
      name,
      personality,
      agent: "test",
      queues: 2,
      mtu: MTU,
      log: silentLogger,
      driver: (context) =>
        personality === "xen"
          ? new XenDriver(context)
          : new EnaDriver(context, { llq, rxRingSize: 256, txRingSize: 256 }),
    });
  const [a, b] = [newSession("a"), newSession("b")];
  const recorders: Recorder[] = [];
  const beginOnDevice = (): MemoryOutput => {
    const output = new MemoryOutput();
    const request = { sources: ["a"], frames: false, ring: true };
    recorders.push(device.capture(output, request));
    return output;
  };
  const beginOnFrontend = (): MemoryOutput => {
    const output = new MemoryOutput();
    recorders.push(new NicCapture(a, output, { name: "a", personality }).recorder);
    return output;
  };
  const wholeOnFrontend = beginOnFrontend();
  const late: MemoryOutput[] = [];
  let received = 0;
  for (const session of [a, b]) {
    await session.start();
    await session.driver.up();
    await session.driver.settled();
    session.driver.ifnet.input = (m) => {
      received++;
      m.free();
    };
  }
  const [ifA, ifB] = [a.driver.ifnet, b.driver.ifnet];
  for (let burst = 1; burst <= BURSTS; burst++) {
    if (burst === IDLE_AT) late.push(beginOnDevice());
    for (const [i, length] of BURST.entries()) {
      sendFrames(ifA, ifB, [length]);
      sendFrames(ifB, ifA, [length]);
      // Between two frames of a burst that is not flushed yet, and while the burst is in flight.
      if (burst === BUSY_AT && i === BURST.length >> 1) {
        late.push(beginOnFrontend(), beginOnDevice());
      }
    }
    await eventually(`burst ${burst}`, () =>
      received === 2 * burst * BURST.length ? true : undefined,
    );
  }
  await a.close();
  await b.close();
  await Promise.all(recorders.map((recorder) => recorder.stop("test")));
  await device.close();
  const [onFrontend, ...lateOnDevice] = late.map((output) => output.files[0]!.bytes);
  return [
    { whole: onDevice.bytes(), late: lateOnDevice },
    { whole: wholeOnFrontend.files[0]!.bytes, late: [onFrontend!] },
  ];
}

describe.each(VARIANTS)("$personality, llq $llq, shuffled $shuffle", (variant) => {
  test("a capture that begins late shows what the one from the first word shows", async () => {
    const sides = await runSession(variant);
    const captures = sides.flatMap(({ whole, late }) => [whole, ...late]);
    const seen = await seenIn(captures.map(withLie));
    for (const { late } of sides) {
      const [expected, ...shown] = seen.splice(0, 1 + late.length);
      for (const packets of shown) {
        const begin = packets.findIndex(({ snapshot }) => !snapshot);
        const [told, rest] = [packets.slice(0, begin), packets.slice(begin)];
        expect(told.length).toBeGreaterThan(0);
        expect(told.flatMap(({ complaints }) => (complaints === "" ? [] : [complaints]))).toEqual(
          [],
        );
        expect(rest.length).toBeGreaterThan(BURSTS);
        expect(rest).toEqual(expected!.slice(-rest.length));
        expect(rest.map(({ queues }) => queues)).toContainEqual(expect.stringMatching(/./));
        expect(rest.filter(({ complaints }) => complaints.includes("not outstanding")).length).toBe(
          1,
        );
      }
    }
  });
});
