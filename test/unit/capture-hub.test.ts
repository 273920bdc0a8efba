/** The captures of a device: captured packets, their ids, and ports that come and go meanwhile. */
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { Tracer } from "../../cli/trace/wire.ts";
import type { RingSource } from "../../device/capture/capture.ts";
import { CaptureHub, type CaptureRefusal, MAX_CAPTURES } from "../../device/capture/hub.ts";
import { DropReason, type SwitchPort, Verdict } from "../../device/switch/port.ts";
import { Switch } from "../../device/switch/switch.ts";
import { SinkError } from "../../shared/capture/output.ts";
import { parseRingPacket } from "../../shared/capture/ring-header.ts";
import { type Frame, Gso, queueId } from "../../shared/net/frame.ts";
import { Direction } from "../../shared/pcapng/layout.ts";
import type { LinkTap } from "../../shared/wire/link.ts";
import type { LinkState } from "../../shared/wire/link-state.ts";
import { MemoryOutput } from "../support/capture-output.ts";
import { type CaptureSoFar, captureSoFar } from "../support/capture-reading.ts";
import { buildPacket, frameOf } from "../support/packets.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { ALL_OFFLOADS, NO_OFFLOADS, TestPort } from "../support/switch-port.ts";

const A = [2, 0, 0, 0, 0, 0x0a];
const B = [2, 0, 0, 0, 0, 0x0b];
const BROADCAST = [255, 255, 255, 255, 255, 255];
const FRAMES = { sources: ["any"], frames: true, ring: false };

/** A port that queues its frames, as NICs do. */
class QueuePort extends TestPort {
  queue = 3;
  override deliver(frame: Frame): DropReason | undefined {
    frame.queue = queueId(this.queue);
    return super.deliver(frame);
  }
}

/** A link without a NIC; the test supplies its batches. */
class TestLink implements RingSource {
  readonly name: string;
  readonly segment = "lan";
  readonly mac = Uint8Array.from(A);
  readonly personality = "ena";
  readonly epoch = 7;
  readonly taps = new Set<LinkTap>();
  /** The present windows. */
  windows: readonly Uint8Array[] = [];
  constructor(name: string) {
    this.name = name;
  }
  addTap(tap: LinkTap): void {
    this.taps.add(tap);
  }
  removeTap(tap: LinkTap): void {
    this.taps.delete(tap);
  }
  tellState(state: LinkState): void {
    for (const bytes of this.windows) state.window(0x10000, bytes);
    state.flush();
  }
  batch(direction: "in" | "out", bytes: Uint8Array): void {
    for (const tap of this.taps) tap(direction, bytes);
  }
}

class Stage {
  readonly segment: Switch;
  readonly log = new RecordingLog();
  readonly hub: CaptureHub;

  constructor(whenFull: "drop" | "hold" = "drop") {
    this.segment = new Switch({ name: "lan", now: () => 0, whenFull });
    this.hub = new CaptureHub({
      segments: [this.segment],
      agent: "test 1",
      log: this.log,
    });
  }

  plug(port: TestPort): SwitchPort {
    return this.segment.attach(port);
  }
}

interface Seen {
  readonly on: string;
  readonly direction: number;
  readonly queue: number | undefined;
  readonly id: number;
  readonly length: number;
  readonly comments: readonly string[];
}

const read = (output: MemoryOutput): CaptureSoFar => captureSoFar(output.files[0]!.bytes);

function seen(output: MemoryOutput): Seen[] {
  return read(output).packets.map((p) => ({
    on: p.interface.name ?? "",
    direction: p.flags & 3,
    queue: p.queue,
    id: Number(p.id ?? 0n),
    length: p.originalLength,
    comments: p.comments,
  }));
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A clock that moves as the test says, from the next turn on: this turn's slice has real time. */
async function ownClock(): Promise<{ now: number }> {
  const clock = { now: performance.now() };
  const spy = vi.spyOn(performance, "now").mockImplementation(() => clock.now);
  onTestFinished(() => spy.mockRestore());
  await turn();
  return clock;
}

function packet(source: readonly number[], destination: readonly number[], queue = -1): Frame {
  const frame = frameOf(buildPacket({ source, destination, payload: Buffer.alloc(50) }).bytes);
  frame.queue = queueId(queue);
  return frame;
}

describe("frames", () => {
  it("one frame has one id on every sighting: sender, switch, receivers", async () => {
    const stage = new Stage();
    const a = stage.plug(new QueuePort("a"));
    stage.plug(new QueuePort("b"));
    stage.plug(new TestPort("c"));
    const output = new MemoryOutput();
    const recorder = stage.hub.start(output, { ...FRAMES, sources: ["any", "switch"] });
    a.input(packet(A, BROADCAST, 1));
    a.input(packet(A, BROADCAST, 2));
    await recorder.stop("test");
    const all = seen(output);
    const ids = [...new Set(all.map(({ id }) => id))];
    expect(ids).toHaveLength(2);
    expect(ids[0]).toBeGreaterThan(0);
    for (const [i, id] of ids.entries()) {
      const sightings = all.filter((s) => s.id === id);
      expect(sightings.map(({ on, direction, queue }) => [on, direction, queue])).toEqual([
        ["a", Direction.OUT, i + 1],
        ["switch", Direction.IN, undefined],
        ["b", Direction.IN, 3],
        ["c", Direction.IN, undefined],
      ]);
      expect(sightings.flatMap(({ comments }) => comments)).toEqual([]);
    }
  });

  it("are given no id, and ports no tap, while nobody captures", async () => {
    const stage = new Stage();
    const a = stage.plug(new TestPort("a"));
    stage.plug(new TestPort("b"));
    const frame = packet(A, B);
    a.input(frame);
    expect(frame.id).toBe(0);
    const recorder = stage.hub.start(new MemoryOutput(), FRAMES);
    const second = packet(A, B);
    a.input(second);
    expect(second.id).toBeGreaterThan(0);
    await recorder.stop("test");
    const third = packet(A, B);
    a.input(third);
    expect(third.id).toBe(0);
  });

  it("come from the sender before offload, and to the receiver after it", async () => {
    const stage = new Stage();
    const a = stage.plug(new TestPort("a", ALL_OFFLOADS));
    const b = new TestPort("b", NO_OFFLOADS);
    stage.plug(b);
    const output = new MemoryOutput();
    const recorder = stage.hub.start(output, FRAMES);
    const built = buildPacket({
      source: A,
      destination: B,
      payload: Buffer.alloc(3000, 7),
      checksum: "partial",
    });
    const frame = frameOf(built.bytes);
    frame.needsCsum = true;
    frame.csumStart = built.l4;
    frame.csumOffset = 16;
    frame.gso = Gso.TCPV4;
    frame.gsoSize = 1000;
    frame.headerLength = built.payload;
    a.input(frame);
    await recorder.stop("test");
    const all = seen(output);
    expect(all.map(({ on, length }) => [on, length])).toEqual([
      ["a", built.bytes.length],
      ["b", built.payload + 1000],
      ["b", built.payload + 1000],
      ["b", built.payload + 1000],
    ]);
    expect(new Set(all.map(({ id }) => id)).size).toBe(1);
    const { packets } = read(output);
    // Segmentation offloaded, checksum not ready: draft-ietf-opsawg-pcapng, bits 11 and 9.
    expect(packets[0]!.flags & 0xa00).toBe(0xa00);
    expect(packets[1]!.flags & 0xa00).toBe(0);
    expect(b.got.map(({ bytes }) => bytes)).toEqual(
      packets.slice(1).map(({ bytes }) => Uint8Array.from(bytes)),
    );
  });

  it("say why they were dropped, where they were", async () => {
    const stage = new Stage();
    const a = stage.plug(new TestPort("a"));
    const b = new TestPort("b", ALL_OFFLOADS, 110);
    stage.plug(b);
    const output = new MemoryOutput();
    const recorder = stage.hub.start(output, { ...FRAMES, sources: ["any", "switch"] });
    a.input(packet([1, 0, 0, 0, 0, 1], B));
    b.answer = DropReason.RX_OVERRUN;
    a.input(packet(A, B));
    const long = frameOf(
      buildPacket({ source: A, destination: B, payload: Buffer.alloc(99) }).bytes,
    );
    a.input(long);
    await recorder.stop("test");
    const { packets } = read(output);
    const told = packets.map((p) => [
      p.interface.name,
      p.comments.join(),
      // epb_verdict, option 7: hardware, dropped.
      p.options.find(({ code }) => code === 7)?.bytes.join(),
    ]);
    expect(told).toEqual([
      ["a", "dropped: bad_source", "0,1"],
      ["switch", "dropped: bad_source", "0,1"],
      ["a", "", undefined],
      ["switch", "", undefined],
      ["b", "dropped: rx_overrun", "0,1"],
      ["a", "", undefined],
      ["switch", "", undefined],
      ["b", "dropped: too_big", "0,1"],
    ]);
  });

  it("that are held are seen once, when they come through, on the queue they came from", async () => {
    const stage = new Stage("hold");
    const a = stage.plug(new QueuePort("a"));
    const b = new QueuePort("b");
    stage.plug(b).input(packet(B, BROADCAST));
    const output = new MemoryOutput();
    const recorder = stage.hub.start(output, FRAMES);
    const frame = packet(A, B, 5);
    b.room = false;
    expect(a.input(frame)).toBe(Verdict.HELD);
    frame.keep();
    b.room = true;
    expect(a.input(frame)).toBe(Verdict.DONE);
    await recorder.stop("test");
    expect(seen(output).map(({ on, queue }) => [on, queue])).toEqual([
      ["a", 5],
      ["b", 3],
    ]);
    expect(new Set(seen(output).map(({ id }) => id)).size).toBe(1);
  });
});

describe("sources", () => {
  it("a name is that port alone; any has those that come later too; numbers stay when one returns", async () => {
    const stage = new Stage();
    const a = stage.plug(new TestPort("a"));
    stage.plug(new TestPort("b"));
    const [some, all] = [new MemoryOutput(), new MemoryOutput()];
    const one = stage.hub.start(some, { ...FRAMES, sources: ["b"] });
    const any = stage.hub.start(all, FRAMES);
    a.input(packet(A, BROADCAST));
    const late = stage.plug(new TestPort("late"));
    a.input(packet(A, BROADCAST));
    late.detach();
    a.input(packet(A, BROADCAST));
    stage.plug(new TestPort("late"));
    a.input(packet(A, BROADCAST));
    await Promise.all([one.stop("test"), any.stop("test")]);
    expect(seen(some).map(({ on }) => on)).toEqual(["b", "b", "b", "b"]);
    expect(seen(all).map(({ on }) => on)).toEqual([
      ...["a", "b"],
      ...["a", "b", "late"],
      ...["a", "b"],
      ...["a", "b", "late"],
    ]);
    const { reader } = read(all);
    expect(reader.interfaces.map(({ name }) => name)).toEqual(["a", "b", "late"]);
    // One record when the port left, and one at the end.
    const late1 = reader.statistics.filter((s) => s.interface.name === "late");
    expect(late1.map(({ received }) => received)).toEqual([1n, 2n]);
    expect(reader.statistics.filter((s) => s.interface.name === "a")).toHaveLength(1);
  });

  it("of a segment that a capture does not cover are not in it, also while another covers all", async () => {
    const segments = ["red", "blue"].map((name) => new Switch({ name, now: () => 0 }));
    const hub = new CaptureHub({ segments, agent: "test 1", log: new RecordingLog() });
    // The ports have the same name.
    const [red, blue] = segments.map((segment) => {
      segment.attach(new TestPort("b"));
      return segment.attach(new TestPort("a"));
    });
    const [all, some] = [new MemoryOutput(), new MemoryOutput()];
    const sources = ["any", "switch", "a"];
    const one = hub.start(all, { ...FRAMES, sources });
    const two = hub.start(some, { ...FRAMES, sources, segments: ["blue"] });
    red!.input(packet(A, BROADCAST));
    blue!.input(packet(B, BROADCAST));
    await Promise.all([one.stop("test"), two.stop("test")]);
    const places = (segment: string) => ["a", "switch", "b"].map((name) => `${segment}/${name}`);
    expect(seen(all).map(({ on }) => on)).toEqual([...places("red"), ...places("blue")]);
    expect(seen(some).map(({ on }) => on)).toEqual(places("blue"));
  });

  it("that are not there are refused, and so is one capture too many", async () => {
    const stage = new Stage();
    const refusal = (sources: string[]): CaptureRefusal => {
      try {
        stage.hub.check({ sources });
      } catch (error) {
        return error as CaptureRefusal;
      }
      throw new Error("not refused");
    };
    expect(refusal(["x"])).toMatchObject({ status: 404 });
    expect(refusal(["x"]).message).toContain("there is none yet");
    stage.plug(new TestPort("a"));
    expect(refusal(["a", "x"]).message).toContain('no NIC or uplink "x"; there is a');
    const running = Array.from({ length: MAX_CAPTURES }, () =>
      stage.hub.start(new MemoryOutput(), FRAMES),
    );
    expect(refusal(["any"])).toMatchObject({ status: 503 });
    await running[0]!.stop("test");
    await turn();
    stage.hub.check({ sources: ["any"] });
    await stage.hub.close("test");
    await turn();
    expect(stage.hub.snapshot().running).toBe(0);
  });

  it("fault-K8: a reader that leaves, or a disk that is full, ends that capture alone", async () => {
    const stage = new Stage();
    const a = stage.plug(new TestPort("a"));
    const b = new TestPort("b");
    stage.plug(b);
    const [gone, full, good] = [new MemoryOutput(), new MemoryOutput(), new MemoryOutput()];
    full.capacity = 600;
    const recorders = [gone, full, good].map((output) => stage.hub.start(output, FRAMES));
    await turn();
    await turn();
    gone.leave(new SinkError("EPIPE", "gone"));
    for (let i = 0; i < 20; i++) {
      a.input(packet(A, BROADCAST));
      await turn();
    }
    expect((await recorders[0]!.done).reason).toBe("reader gone");
    expect((await recorders[1]!.done).code).toBe("ENOSPC");
    await turn();
    expect(stage.hub.snapshot().running).toBe(1);
    expect(b.got).toHaveLength(20);
    await recorders[2]!.stop("test");
    expect(seen(good)).toHaveLength(40);
    expect(stage.log.warnings).toHaveLength(1);
  });
});

describe("rings", () => {
  const RING = { sources: ["any"], frames: false, ring: true };
  // An empty batch, and one of two heartbeats: as the protocol page writes them.
  const EMPTY = Uint8Array.of(0x90);
  const BEATS = Uint8Array.of(0x92, 0x93, 3, 5, 0, 0x93, 3, 0, 9);

  it("every batch both ways, with connection and personality; a new link is there from its first", async () => {
    const stage = new Stage();
    const link = new TestLink("a");
    const output = new MemoryOutput();
    const recorder = stage.hub.start(output, RING);
    stage.hub.linkJoined(link);
    link.batch("in", EMPTY);
    link.batch("out", BEATS);
    stage.hub.linkLeft(link);
    await recorder.stop("test");
    const { packets, reader } = read(output);
    expect(packets.map((p) => parseRingPacket(p.bytes))).toEqual([
      { direction: 0, epoch: 7, personality: 0, isState: false, bytes: EMPTY },
      { direction: 1, epoch: 7, personality: 0, isState: false, bytes: BEATS },
    ]);
    expect(packets.map((p) => p.flags & 3)).toEqual([Direction.OUT, Direction.IN]);
    expect(reader.interfaces).toMatchObject([{ name: "a:ring", linkType: 252 }]);
    expect(reader.statistics).toHaveLength(1);
  });

  it("begin with a state record where the link has a past", async () => {
    const stage = new Stage();
    const link = new TestLink("a");
    link.windows = [new Uint8Array(4096), new Uint8Array(8192)];
    stage.hub.linkJoined(link);
    const output = new MemoryOutput();
    const recorder = stage.hub.start(output, RING);
    link.batch("in", BEATS);
    await recorder.stop("test");
    await turn();
    expect(link.taps.size).toBe(0);
    const { packets } = read(output);
    expect(packets.map((p) => p.comments)).toEqual([["snapshot"], []]);
    expect(packets.map((p) => p.flags & 3)).toEqual([Direction.UNKNOWN, Direction.OUT]);
    const [state, batch] = packets.map((p) => parseRingPacket(p.bytes)!);
    expect([state!.isState, batch!.isState]).toEqual([true, false]);
    expect(new Tracer().state(state!.bytes)).toEqual([
      "state WINDOW 2 records: address=0x10000 length=4096; address=0x10000 length=8192",
    ]);
  });

  it("of many links begin in slices, without links that left meanwhile", async () => {
    const stage = new Stage();
    const clock = await ownClock();
    const links = Array.from({ length: 12 }, (_, i) => new TestLink(`a${i}`));
    for (const link of links) {
      link.windows = [new Uint8Array(8)];
      const tell = link.tellState.bind(link);
      link.tellState = (state) => {
        clock.now += 2;
        tell(state);
      };
      stage.hub.linkJoined(link);
    }
    const output = new MemoryOutput();
    const recorder = stage.hub.start(output, RING);
    const tapped = () => links.filter(({ taps }) => taps.size > 0).length;
    expect(tapped()).toBe(3);
    stage.hub.linkLeft(links[10]!);
    const again = new TestLink("a11");
    stage.hub.linkLeft(links[11]!);
    stage.hub.linkJoined(again);
    for (let i = 0; i < 100 && tapped() < 10; i++) await turn();
    await turn();
    expect([tapped(), links[10]!.taps.size, links[11]!.taps.size, again.taps.size]).toEqual([
      10, 0, 0, 1,
    ]);
    await recorder.stop("test");
    expect(read(output).packets).toHaveLength(10);
  });

  it("that end while links are still being added leave no tap", async () => {
    const stage = new Stage();
    const clock = await ownClock();
    const links = Array.from({ length: 6 }, (_, i) => new TestLink(`a${i}`));
    for (const link of links) {
      link.tellState = () => {
        clock.now += 5;
      };
      stage.hub.linkJoined(link);
    }
    const recorder = stage.hub.start(new MemoryOutput(), RING);
    await recorder.stop("test");
    for (let i = 0; i < 12; i++) await turn();
    expect(links.filter(({ taps }) => taps.size > 0)).toEqual([]);
  });

  it("of one NIC are recorded alone, of those that are there and of those that come", async () => {
    const stage = new Stage();
    const [a, b] = ["a", "b"].map((name) => {
      stage.plug(new TestPort(name));
      const link = new TestLink(name);
      stage.hub.linkJoined(link);
      return link;
    });
    const recorder = stage.hub.start(new MemoryOutput(), { ...RING, sources: ["b"] });
    const c = new TestLink("c");
    stage.hub.linkJoined(c);
    expect([a, b, c].map((link) => link!.taps.size)).toEqual([0, 1, 0]);
    await recorder.stop("test");
  });

  it("end with the capture, and not with another's", async () => {
    const stage = new Stage();
    const link = new TestLink("a");
    stage.hub.linkJoined(link);
    const [first, second] = [new MemoryOutput(), new MemoryOutput()];
    const one = stage.hub.start(first, RING);
    const two = stage.hub.start(second, RING);
    await one.stop("test");
    await turn();
    expect(link.taps.size).toBe(1);
    link.batch("in", EMPTY);
    await two.stop("test");
    expect(read(first).packets).toHaveLength(0);
    expect(read(second).packets).toHaveLength(1);
  });
});
