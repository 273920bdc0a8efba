/** A whole Xen session in the dissector, with the real netfront and netback. */
import { beforeAll, expect, test } from "vitest";
import { Tracer } from "../../cli/trace/wire.ts";
import { LinkDirection, RingPersonality } from "../../shared/capture/ring-header.ts";
import { dissect, type Packet, RingFile } from "../support/dissector.ts";
import { runNicSession, type SessionRecord } from "../support/nic-session.ts";

const FRAMES = [60, 96, 360, 1514];

let session: SessionRecord;
let packets: readonly Packet[];

beforeAll(async () => {
  session = await runNicSession({ personality: "xen", frames: FRAMES });
  const file = new RingFile();
  for (const { direction, bytes } of session.batches) {
    file.batch(direction === "in" ? LinkDirection.TO_DEVICE : LinkDirection.TO_FRONTEND, bytes, {
      personality: RingPersonality.XEN,
    });
  }
  packets = await dissect(file);
});

test("every batch is a packet, and nothing is wrong with any", () => {
  expect(packets.length).toBe(session.batches.length);
  const wrong = packets.flatMap((p) =>
    p.experts.filter((name) => name !== "bounded").map((name) => `${name}: ${p.complaints.join()}`),
  );
  // A driver may ask for keys that do not exist.
  expect(wrong.filter((text) => text !== "status: xenstore: ENOENT")).toEqual([]);
});

test("the batch in words is what the tracer says", () => {
  const tracer = new Tracer();
  session.batches.forEach(({ direction, bytes }, i) => {
    const lines = tracer.trace(direction === "in" ? "out" : "in", bytes);
    const words = lines.map((line) => line.slice(3));
    const shown = words.slice(0, 16).join("; ");
    expect(packets[i]!.one("ringwire.words")).toBe(shown);
  });
});

test("rings are known by the keys that publish them", () => {
  const names = new Set(packets.flatMap((p) => p.all("ringwire.xen.ring")));
  expect(names).toContain("tx ring of queue 0");
  expect(names).toContain("rx ring of queue 0");
  const written = packets.flatMap((p) => p.all("ringwire.xenstore.path"));
  expect(written).toContainEqual(expect.stringMatching(/tx-ring-ref$/));
});

test("frames are shown whole, out of granted pages", () => {
  const sources = packets.flatMap((p) => p.all("eth.src"));
  expect(sources.filter((mac) => mac === session.mac).length).toBe(FRAMES.length);
  expect(sources.filter((mac) => mac === session.peerMac).length).toBe(FRAMES.length);
  const lengths = packets.flatMap((p) => p.numbers("ringwire.frame.length"));
  const sorted = (list: readonly number[]) => [...list].sort((x, y) => x - y);
  expect(sorted(lengths)).toEqual(sorted([...FRAMES, ...FRAMES]));
});
