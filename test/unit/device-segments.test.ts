/** How the segments of a device share its places for NICs, captures and readers. (fault-L5) */
import { PassThrough } from "node:stream";
import { expect, it } from "vitest";
import { Refusal } from "../../device/admission.ts";
import {
  CaptureHub,
  CaptureRefusal,
  CROWDED_STALL_MS,
  MAX_CAPTURES,
} from "../../device/capture/hub.ts";
import { EventFeed, MAX_READERS } from "../../device/events/feed.ts";
import type { Member } from "../../device/roster.ts";
import { Segments } from "../../device/segments/segments.ts";
import { Switch } from "../../device/switch/switch.ts";
import { StreamOutput } from "../../shared/capture/stream-output.ts";
import { silentLogger } from "../../shared/log.ts";
import { parseHello } from "../../shared/wire/hello.ts";

const member = (): Member => ({ silentSeconds: 0, deadAfter: 4, close: () => {} });

function segmentsOf(most: number, ...names: string[]): Segments<Member> {
  const switches = names.map((name) => new Switch({ name, now: () => 0, macsPerPort: 1024 }));
  return new Segments(switches, most);
}

let names = 0;

/** Lets NICs into a segment until one is refused. Returns their number. */
function fill(segments: Segments<Member>, segment: string): number {
  const { nics } = segments.get(segment)!;
  for (let n = 0; ; n++) {
    const name = `nic${++names}`;
    try {
      nics.admit(
        member(),
        parseHello({ version: 1, personality: "ena", name, instance: `process of ${name}` }),
      );
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      expect(error.code).toBe("NO_PLACE");
      expect(error.message).toContain(`no place for another in segment ${segment}`);
      return n;
    }
  }
}

it("fault-L5 a segment that is full keeps no NIC out of another one", () => {
  const segments = segmentsOf(64, "red", "blue", "green", "grey");
  // Of 64 places, 32 are kept: 8 for each segment.
  expect(fill(segments, "blue")).toBe(40);
  expect(fill(segments, "red")).toBe(8);
  expect(fill(segments, "green")).toBe(8);
  expect(fill(segments, "grey")).toBe(8);
  expect(segments.nicCount).toBe(64);
  for (const { name } of segments.all) expect(fill(segments, name)).toBe(0);
});

it("a segment without others has all places", () => {
  expect(fill(segmentsOf(64, "lan0"), "lan0")).toBe(64);
});

it("places that are free are there again for all", () => {
  const segments = segmentsOf(8, "red", "blue");
  expect(fill(segments, "blue")).toBe(6);
  expect(fill(segments, "red")).toBe(2);
  const { nics } = segments.get("blue")!;
  for (const one of nics.all) nics.remove(one);
  expect(fill(segments, "red")).toBe(4);
  expect(fill(segments, "blue")).toBe(2);
});

it("a device of more segments than places keeps none", () => {
  const many = Array.from({ length: 9 }, (_, n) => `s${n}`);
  expect(fill(segmentsOf(8, ...many), "s3")).toBe(8);
});

it("fault-L5 captures of one segment keep nobody out of another one, nor do they end others", async () => {
  let laterMs = 0;
  const hub = new CaptureHub({
    segments: ["red", "blue"].map((name) => new Switch({ name, now: () => 0, macsPerPort: 1024 })),
    ...{ agent: "test 1", log: silentLogger, now: () => performance.now() + laterMs },
  });
  const streams: PassThrough[] = [];
  const begin = (...segments: string[]) => {
    // Nobody reads: after a while each of them is stalled.
    const stream = new PassThrough({ highWaterMark: 16 });
    streams.push(stream);
    return hub.start(new StreamOutput(stream, "test"), {
      sources: ["any"],
      frames: true,
      ring: false,
      segments,
    });
  };
  const red = begin("red");
  for (let n = 0; n < 12; n++) begin("blue");
  expect(() => begin("blue")).toThrow(CaptureRefusal);
  for (let n = 0; n < 3; n++) begin("red");
  expect(hub.snapshot().running).toBe(MAX_CAPTURES);
  expect(() => begin("red")).toThrow(CaptureRefusal);
  for (let n = 0; n < 4; n++) await new Promise((resolve) => setImmediate(resolve));
  laterMs = CROWDED_STALL_MS;
  // The capture of red has waited longest, but one of blue ends for blue.
  begin("blue");
  expect(hub.snapshot()).toMatchObject({ running: MAX_CAPTURES, cutOff: 1 });
  expect(red.ended).toBe(false);
  for (const stream of streams) stream.resume();
  await hub.close("test");
});

it("fault-L5 readers of one segment's events keep nobody out of another one", () => {
  const feed = new EventFeed(["red", "blue"]);
  const readerOf = (...segments: string[]) => ({
    sees: (segment: string) => segments.includes(segment),
    ...{ send: () => {}, waitingBytes: 0, end: () => {}, cut: () => {} },
  });
  const fillWith = (...segments: string[]): number => {
    for (let n = 0; ; n++) {
      if (!feed.hasPlace(readerOf(...segments))) return n;
      feed.read(readerOf(...segments), feed.placeOf(undefined));
    }
  };
  expect(fillWith("blue")).toBe(MAX_READERS - 8);
  expect(fillWith("red")).toBe(8);
  expect(fillWith("red", "blue")).toBe(0);
});
