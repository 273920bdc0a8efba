/** Frames whose pieces, descriptors and completions arrive in different batches. */
import { beforeAll, describe, expect, test } from "vitest";
import { LinkDirection, RingPersonality } from "../../shared/capture/ring-header.ts";
import { txDesc } from "../../shared/ena/io.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { busAddress, RecordType } from "../../shared/wire/records.ts";
import { dissect, type Packet, RingFile } from "../support/dissector.ts";
import { runNicSession, type SessionRecord } from "../support/nic-session.ts";
import { column, packBatch } from "../support/raw-frontend.ts";

/** One burst of frames with several pieces, long enough for several batches. */
const BURST = Array<number>(12).fill(9000);

describe.each(["ena", "xen"] as const)("a long burst, %s", (personality) => {
  let session: SessionRecord;
  let file: RingFile;
  let packets: readonly Packet[];

  beforeAll(async () => {
    session = await runNicSession({ personality, frames: BURST, mtu: 9000 });
    file = new RingFile();
    const facts = {
      personality: personality === "xen" ? RingPersonality.XEN : RingPersonality.ENA,
    };
    const { TO_DEVICE, TO_FRONTEND } = LinkDirection;
    for (const { direction, bytes } of session.batches) {
      file.batch(direction === "in" ? TO_DEVICE : TO_FRONTEND, bytes, facts);
    }
    packets = await dissect(file);
  });

  test("every frame is shown once, whole", () => {
    const lengths = packets.flatMap((p) => p.numbers("ringwire.frame.length"));
    expect(lengths).toEqual(Array(2 * BURST.length).fill(9000));
    const sources = packets.flatMap((p) => p.all("eth.src"));
    expect(sources.filter((mac) => mac === session.mac).length).toBe(BURST.length);
    expect(sources.filter((mac) => mac === session.peerMac).length).toBe(BURST.length);
  });

  test("some begin in an earlier batch, and a later look shows the same", async () => {
    const joined = (packet: Packet) =>
      packet.numbers("ringwire.frame.length").length > 0 &&
      packet.numbers("ringwire.record.type").filter((type) => type === RecordType.FRAME).length <
        3 * packet.numbers("ringwire.frame.length").length;
    const late = packets.flatMap((packet, i) => (joined(packet) ? [i] : []));
    expect(late.length).toBeGreaterThan(0);
    const filter = late.map((i) => `frame.number == ${i + 1}`).join(" || ");
    const again = await dissect(file, ["-2", "-Y", filter]);
    const shown = (packet: Packet) => [packet.all("ringwire.frame.length"), packet.all("eth.src")];
    expect(again.map(shown)).toEqual(late.map((i) => shown(packets[i]!)));
  });
});

describe("cut at any place", () => {
  const SQ = 0x40000;
  const BUFFER = 0x1_0010_0000;
  const PIECES = [20, 30, 40];
  const frame = Buffer.alloc(90, 7);
  frame.set([2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5]);
  const starts = PIECES.map((_, i) => PIECES.slice(0, i).reduce((sum, n) => sum + n, 0));

  const push = (i: number) => {
    const bytes = frame.subarray(starts[i]!, starts[i]! + PIECES[i]!);
    return column(Op.PUSH, [{ address: BUFFER + i * 0x1000, type: RecordType.FRAME, bytes }]);
  };
  const descriptor = (i: number) => {
    const view = new DataView(new ArrayBuffer(16));
    const [first, last] = [i === 0 ? 1 : 0, i === 2 ? 1 : 0];
    txDesc.write(view, 0, PIECES[i]!, 5, 1, first, last, 1, 0, busAddress(BUFFER + i * 0x1000), 0);
    const bytes = new Uint8Array(view.buffer);
    return column(Op.WRITE, [{ address: SQ + i * 16, type: RecordType.ENA_TX_DESC, bytes }]);
  };
  /** A packet of its own comes first, because without descriptors each piece counts as a frame. */
  const before = packBatch([push(0), descriptor(0), push(2), descriptor(2)]);
  const steps = [push(0), push(1), push(2), descriptor(0), descriptor(1), descriptor(2)];

  async function shown(build: (file: RingFile) => void): Promise<readonly Packet[]> {
    const file = new RingFile();
    file.toDevice(before);
    build(file);
    return (await dissect(file)).slice(1);
  }

  test("each step in a batch of its own: the frame is where it is complete", async () => {
    const packets = await shown((file) => {
      for (const step of steps) {
        file.toDevice(packBatch([step]));
        // A batch of the other direction changes nothing.
        file.toFrontend(packBatch([[Op.INTERRUPT, 1]]));
      }
    });
    const lengths = packets.map((p) => p.numbers("ringwire.frame.length"));
    expect(lengths).toEqual([...Array(10).fill([]), [90], []]);
    expect(packets[10]!.one("eth.dst")).toBe("02:00:00:00:00:09");
  });

  test("in two batches, cut behind each step", async () => {
    const file = new RingFile();
    for (let n = 1; n < steps.length; n++) {
      for (const part of [before, packBatch(steps.slice(0, n)), packBatch(steps.slice(n))]) {
        file.toDevice(part, { epoch: n });
      }
    }
    const lengths = (await dissect(file)).map((p) => p.numbers("ringwire.frame.length"));
    for (let i = 1; i < lengths.length; i += 3) {
      expect([lengths[i], lengths[i + 1]], `${(i + 2) / 3} steps`).toEqual([[], [90]]);
    }
    expect(lengths.length).toBe(15);
  });

  test("not over a gap in the capture", async () => {
    const packets = await shown((file) => {
      file.toDevice(packBatch(steps.slice(0, 4)));
      file.toDevice(packBatch(steps.slice(4)), { drops: 1 });
    });
    expect(packets.flatMap((p) => p.all("ringwire.frame.length"))).toEqual([]);
  });

  test("not with another connection's", async () => {
    const packets = await shown((file) => {
      file.toDevice(packBatch(steps.slice(0, 3)));
      file.toDevice(packBatch(steps.slice(3)), { epoch: 2 });
    });
    expect(packets.flatMap((p) => p.all("ringwire.frame.length"))).toEqual([]);
  });
});
