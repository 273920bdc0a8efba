import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { silentLogger } from "../../shared/log.ts";
import type { Transport } from "../../shared/transport/transport.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { ByteQueueLimit } from "../../shared/wire/flow.ts";
import { Link, type LinkOwner } from "../../shared/wire/link.ts";
import { CloseCode, WireError } from "../../shared/wire/protocol.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { RecordingSink } from "../support/recording-sink.ts";
import { TestClock } from "../support/test-clock.ts";
import { actsOf } from "../support/wire-acts.ts";

/** One end of a wire that the test controls. */
class HandTransport implements Transport {
  sent: Uint8Array[] = [];
  open = true;
  unsentBytes = 0;
  receivedBytes = 0;
  ended: [number, string] | undefined;
  onMessage: Transport["onMessage"] = () => {};
  onClose: (code: number, reason: string) => void = () => {};
  send(bytes: Uint8Array, at: number, length: number, done: () => void): void {
    this.sent.push(bytes.slice(at, at + length));
    done();
  }
  close(code: number, reason: string): void {
    this.ended ??= [code, reason];
  }
  abort(code: number, reason: string): void {
    this.ended ??= [code, reason];
  }
  /** A message of the peer arrives. */
  arrive(message: Uint8Array): void {
    this.receivedBytes += message.length;
    this.onMessage(message, 0, message.length);
  }
}

class Owner implements LinkOwner {
  readonly sink = new RecordingSink();
  applied = 0;
  again = 0;
  end: [number, string] | undefined;
  fault: unknown;
  batchApplied(): void {
    this.applied++;
  }
  writableAgain(): void {
    this.again++;
  }
  closed(code: number, reason: string): void {
    this.end = [code, reason];
  }
  broken(error: unknown): void {
    this.fault = error;
  }
}

function open(): { link: Link; transport: HandTransport; owner: Owner } {
  const transport = new HandTransport();
  const owner = new Owner();
  return { link: new Link(transport, owner, silentLogger), transport, owner };
}

/** A peer's batch, built by a link of its own. */
function peerBatch(post: (link: Link) => void): Uint8Array {
  const { link, transport } = open();
  post(link);
  link.flush();
  link.close(CloseCode.NORMAL, "");
  return transport.sent[0]!;
}

describe("Link", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("shows every batch to all taps, before it is applied, until they are removed", () => {
    const { link, transport, owner } = open();
    const seen: string[] = [];
    const tap = (name: string) => (direction: "in" | "out", batch: Uint8Array) =>
      void seen.push(`${name} ${direction} ${batch.length} after ${owner.applied}`);
    const [a, b] = [tap("a"), tap("b")];
    link.addTap(a);
    link.addTap(b);
    const batch = peerBatch((peer) => peer.writer.post("progress", { bytes: 0 }));
    transport.arrive(batch);
    link.removeTap(a);
    link.writer.post("progress", { bytes: 0 });
    link.flush();
    expect(seen).toEqual([
      `a in ${batch.length} after 0`,
      `b in ${batch.length} after 0`,
      `b out ${transport.sent[0]!.length} after 1`,
    ]);
    link.close(CloseCode.NORMAL, "");
  });

  it("shows nothing that a peer who has said goodbye is not sent", () => {
    const { link, transport } = open();
    let seen = 0;
    link.addTap(() => seen++);
    transport.open = false;
    link.writer.post("progress", { bytes: 0 });
    link.flush();
    vi.advanceTimersByTime(1000);
    expect([seen, transport.sent.length]).toEqual([0, 0]);
    link.close(CloseCode.NORMAL, "");
  });

  it("shows a tap that is added in the middle of a batch that batch too, once", () => {
    const { link, transport, owner } = open();
    const seen: Uint8Array[] = [];
    const first = peerBatch((peer) => peer.writer.interrupt(1));
    owner.sink.interrupt = () => {
      owner.sink.interrupt = () => {};
      link.addTap((_direction, batch) => void seen.push(Uint8Array.from(batch)));
    };
    transport.arrive(first);
    const second = peerBatch((peer) => peer.writer.interrupt(2));
    transport.arrive(second);
    expect(seen).toEqual([first, second]);
    link.close(CloseCode.NORMAL, "");
  });

  it("sends once per turn of the event loop, whatever was posted", () => {
    const { link, transport } = open();
    for (let i = 0; i < 5; i++) {
      link.writer.interrupt(i);
      link.scheduleFlush();
    }
    expect(transport.sent).toHaveLength(0);
    vi.advanceTimersByTime(0);
    expect(transport.sent).toHaveLength(1);
    link.close(CloseCode.NORMAL, "");
  });

  it("answers a heartbeat and measures the round trip by its own", () => {
    const { link, transport, owner } = open();
    vi.advanceTimersByTime(1000);
    const sink = new RecordingSink();
    transport.arrive(peerBatch((peer) => peer.writer.post("heartbeat", { sent: 77, echo: 0 })));
    vi.advanceTimersByTime(0);
    const answered = transport.sent.some((m) =>
      Buffer.from(m).includes(Buffer.from([0x93, 3, 0, 77])),
    );
    expect(answered).toBe(true);
    const echo = Math.round(performance.now() * 1000);
    vi.advanceTimersByTime(40);
    transport.arrive(peerBatch((peer) => peer.writer.post("heartbeat", { sent: 0, echo })));
    expect(link.roundTripMs).toBeCloseTo(40, 0);
    expect(owner.end).toBeUndefined();
    expect(sink.told).toHaveLength(0);
    link.close(CloseCode.NORMAL, "");
  });

  it("leaves its heartbeat out after an answer, but not four times in a row", () => {
    const { link, transport } = open();
    const beats: string[] = [];
    for (let second = 1; second <= 9; second++) {
      const before = transport.sent.length;
      transport.arrive(peerBatch((peer) => peer.writer.post("heartbeat", { sent: 7, echo: 0 })));
      vi.advanceTimersByTime(1000);
      const own = transport.sent.slice(before).filter((m) => Buffer.from(m).at(-1) === 0);
      beats.push(own.length > 0 ? "own" : "-");
      expect(transport.sent.length).toBeGreaterThan(before);
    }
    expect(beats.join(" ")).toBe("- - - own - - - own -");
    link.close(CloseCode.NORMAL, "");
  });

  it("fault-A9: notices a dead peer within 6 s and says so", () => {
    const { transport, owner } = open();
    vi.advanceTimersByTime(3900);
    expect(owner.end).toBeUndefined();
    vi.advanceTimersByTime(2000);
    expect(owner.end?.[0]).toBe(CloseCode.DEAD_PEER);
    expect(transport.ended?.[0]).toBe(CloseCode.DEAD_PEER);
  });

  it("sends few heartbeats to a silent peer that is waited for, and goes on when it is heard", () => {
    const { link, transport } = open();
    link.deadAfter = Number.POSITIVE_INFINITY;
    vi.advanceTimersByTime(100_000);
    const { length } = transport.sent;
    expect(length).toBeGreaterThan(3);
    expect(length).toBeLessThan(8);
    transport.receivedBytes++;
    vi.advanceTimersByTime(3000);
    expect(transport.sent.length).toBeGreaterThan(length);
    link.close(CloseCode.NORMAL, "");
  });

  it("takes any received byte and any drained byte as life", () => {
    const { link, transport, owner } = open();
    for (let s = 0; s < 10; s++) {
      transport.receivedBytes++;
      vi.advanceTimersByTime(1000);
    }
    expect(owner.end).toBeUndefined();
    transport.unsentBytes = 1000;
    for (let s = 0; s < 10; s++) {
      transport.unsentBytes--;
      vi.advanceTimersByTime(1000);
    }
    expect(owner.end).toBeUndefined();
    vi.advanceTimersByTime(6000);
    expect(owner.end?.[0]).toBe(CloseCode.DEAD_PEER);
    expect(link.closed).toBe(true);
  });

  it("fault-K7: does not take our own stall for the peer's death", () => {
    const { link, transport, owner } = open();
    // Timers of a stalled process fire once when it wakes, however long it was stalled.
    vi.setSystemTime(Date.now() + 60_000);
    vi.advanceTimersByTime(1000);
    transport.receivedBytes++;
    vi.advanceTimersByTime(1000);
    expect(owner.end).toBeUndefined();
    link.close(CloseCode.NORMAL, "");
  });

  it("attack-S12 tells what waited while the process stood still, up to the answer behind it", () => {
    const transport = new HandTransport();
    const clock = new TestClock();
    const stale: (boolean | string)[] = [];
    const owner = Object.assign(new Owner(), {
      stale: (isStale: boolean) => stale.push(isStale),
      batchApplied: () => stale.push("batch"),
    });
    const link = new Link(transport, owner, silentLogger, undefined, clock);
    const beat = (sent: number, echo: number) =>
      peerBatch((peer) => peer.writer.post("heartbeat", { sent, echo }));
    const lastBeat = (): number =>
      transport.sent
        .flatMap(actsOf)
        .flatMap((act) => (act.kind === "heartbeat" && act.sent !== 0 ? act.sent : []))
        .at(-1)!;
    // A second of work between two looks is no stall.
    clock.advance(1000);
    const before = lastBeat();
    clock.stall(2000);
    transport.arrive(beat(1, 0));
    expect(stale.splice(0)).toEqual(["batch"]);
    clock.stall(2001);
    transport.arrive(beat(1, 0));
    transport.arrive(beat(0, before));
    expect(stale.splice(0)).toEqual([true, "batch", "batch"]);
    link.flush();
    expect(lastBeat()).toBeGreaterThan(before);
    transport.arrive(beat(0, lastBeat()));
    transport.arrive(beat(0, lastBeat()));
    expect(stale.splice(0)).toEqual([false, "batch", "batch"]);
    // The next one is found by the tick.
    clock.stall(60_000);
    clock.advance(1);
    expect(stale.splice(0)).toEqual([true]);
    link.close(CloseCode.NORMAL, "");
  });

  it("ends the connection with the sentence when the peer breaks a rule", () => {
    const { transport, owner } = open();
    transport.arrive(Uint8Array.from([0x91, 0x92, 99, 1]));
    expect(owner.end).toEqual([CloseCode.PROTOCOL, expect.stringContaining("opcode 99")]);
    expect(owner.applied).toBe(0);
    transport.arrive(peerBatch((peer) => peer.writer.interrupt(1)));
    expect(owner.sink.told).toHaveLength(0);
  });

  it("tells its owner when our own code throws, and ends the connection", () => {
    const { transport, owner } = open();
    owner.sink.interrupt = () => {
      throw new TypeError("a bug of ours");
    };
    transport.arrive(peerBatch((peer) => peer.writer.interrupt(1)));
    expect(owner.fault).toBeInstanceOf(TypeError);
    expect(owner.end?.[0]).toBe(CloseCode.FAILED);
  });

  it("tells its owner when the work behind a batch throws: one peer is lost, not all", () => {
    const { transport, owner } = open();
    owner.batchApplied = () => {
      throw new TypeError("a bug of ours");
    };
    transport.arrive(peerBatch((peer) => peer.writer.interrupt(1)));
    expect(owner.sink.told).toHaveLength(1);
    expect(owner.fault).toBeInstanceOf(TypeError);
    expect(owner.end?.[0]).toBe(CloseCode.FAILED);
  });

  it("fault-A8: closes on a flood of heartbeats, and does not answer it", () => {
    const { transport, owner } = open();
    const beat = peerBatch((peer) => peer.writer.post("heartbeat", { sent: 5, echo: 0 }));
    for (let i = 0; i < 100; i++) transport.arrive(beat);
    expect(owner.end?.[0]).toBe(CloseCode.LIMIT);
  });

  it("stops being writable at the limit and tells when there is room again", () => {
    const { link, transport, owner } = open();
    const frame = new Uint8Array(60_000);
    for (let i = 0; i < 3; i++) link.writer.column(Op.WRITE, 0, 4096, 0, frame, 0, frame.length);
    link.flush();
    expect(link.askForRoom()).toBe(false);
    const total = link.writer.sentBytes;
    transport.arrive(peerBatch((peer) => peer.writer.post("progress", { bytes: total })));
    expect(owner.again).toBe(1);
    expect(link.askForRoom()).toBe(true);
    link.close(CloseCode.NORMAL, "");
  });

  it("tells those who only asked for the backlog, too", () => {
    const { link, transport, owner } = open();
    transport.unsentBytes = 1 << 20;
    expect(link.askToWork()).toBe(false);
    transport.unsentBytes = 0;
    expect(link.askToWork()).toBe(true);
    transport.arrive(peerBatch((peer) => peer.writer.post("progress", { bytes: 0 })));
    expect(owner.again).toBe(1);
    // Nobody has asked since.
    transport.arrive(peerBatch((peer) => peer.writer.post("progress", { bytes: 0 })));
    expect(owner.again).toBe(1);
    link.close(CloseCode.NORMAL, "");
  });

  it("refuses progress over bytes that were never sent", () => {
    const { transport, owner } = open();
    transport.arrive(peerBatch((peer) => peer.writer.post("progress", { bytes: 10 ** 9 })));
    expect(owner.end?.[1]).toMatch(/^progress: /);
  });

  it("reports progress in no batch of its own before that", () => {
    const { link, transport } = open();
    transport.arrive(peerBatch((peer) => peer.writer.interrupt(1)));
    link.flush();
    expect(transport.sent).toEqual([]);
    link.close(CloseCode.NORMAL, "");
  });

  it("has a clock that stands still while it works on a batch of its peer", () => {
    const [transport, owner, clock] = [new HandTransport(), new Owner(), new TestClock()];
    const link = new Link(transport, owner, silentLogger, undefined, clock);
    const begun = link.restMs;
    owner.sink.interrupt = () => {
      clock.stall(30);
      expect(link.restMs).toBe(begun);
    };
    transport.arrive(peerBatch((peer) => peer.writer.interrupt(1)));
    expect(link.restMs).toBe(begun);
    clock.stall(20);
    expect(link.restMs).toBe(begun + 20);
    link.close(CloseCode.NORMAL, "");
  });

  it("reports progress after 32 KiB, so that the other side can go on", () => {
    const { link, transport } = open();
    const frame = new Uint8Array(40_000);
    const batch = peerBatch((peer) =>
      peer.writer.column(Op.WRITE, 0, 1, 0, frame, 0, frame.length),
    );
    transport.arrive(batch);
    vi.advanceTimersByTime(0);
    const sink = new RecordingSink();
    expect(Buffer.from(transport.sent[0]!)[1]).toBe(0x92);
    expect(Buffer.from(transport.sent[0]!)[2]).toBe(Op.PROGRESS);
    expect(sink.told).toHaveLength(0);
    link.close(CloseCode.NORMAL, "");
  });

  it("fault-J1: blames a peer that was given up inside a batch for nothing in the rest of it", () => {
    const transport = new HandTransport();
    const owner = new Owner();
    const log = new RecordingLog();
    const link = new Link(transport, owner, log);
    let seen = 0;
    owner.sink.interrupt = () => {
      if (++seen === 1) link.giveUp(CloseCode.LIMIT, "too much waits");
      else throw new WireError("WIRE_STATE", "interrupt: before hello");
    };
    transport.arrive(
      peerBatch((peer) => {
        peer.writer.interrupt(1);
        peer.writer.interrupt(2);
      }),
    );
    expect([seen, log.warnings, owner.end, owner.fault]).toEqual([
      2,
      [],
      [CloseCode.LIMIT, "too much waits"],
      undefined,
    ]);
  });

  it("fault-J1: gives a peer up that takes nothing while bytes gather", () => {
    const { link, transport, owner } = open();
    transport.unsentBytes = (16 << 20) + 1;
    link.writer.interrupt(1);
    link.flush();
    expect(owner.end?.[0]).toBe(CloseCode.LIMIT);
  });
});

describe("posts that wait for company", () => {
  /** A link on a clock of its own, whose owner keeps interrupts back until a batch is sent. */
  function lazy() {
    const transport = new HandTransport();
    const clock = new TestClock();
    const kept: number[] = [];
    const owner = Object.assign(new Owner(), {
      beforeFlush: () => {
        for (const vector of kept.splice(0)) {
          link.writer.interrupt(vector);
          link.scheduleFlush();
          link.flush();
        }
      },
    });
    const link: Link = new Link(transport, owner, silentLogger, undefined, clock);
    const keep = (vector: number, ms: number): void => {
      kept.push(vector);
      link.scheduleLazy(ms);
    };
    /** Vectors and PROGRESS by batch. */
    const sent = () =>
      transport.sent
        .splice(0)
        .map((batch) =>
          actsOf(batch).map((act) => (act.kind === "interrupt" ? act.vector : act.kind)),
        );
    return { link, transport, clock, owner, keep, sent };
  }
  const turn = () => new Promise((resolve) => setImmediate(resolve));

  it("leave together at the deadline of the first, and are counted", () => {
    const { link, clock, keep, sent } = lazy();
    keep(1, 10);
    clock.advance(6);
    keep(2, 10);
    clock.advance(3);
    expect(sent()).toEqual([]);
    clock.advance(1);
    expect(sent()).toEqual([[1, 2]]);
    // The second post brought no deadline of its own.
    clock.advance(20);
    expect([sent(), link.lateBatches]).toEqual([[], 1]);
    link.close(CloseCode.NORMAL, "");
  });

  it("have the earliest deadline, also if a later one was set before", () => {
    const { link, clock, keep, sent } = lazy();
    keep(1, 20);
    clock.advance(1);
    keep(2, 5);
    clock.advance(5);
    expect(sent()).toEqual([[1, 2]]);
    clock.advance(20);
    expect([sent(), link.lateBatches]).toEqual([[], 1]);
    link.close(CloseCode.NORMAL, "");
  });

  it("travel behind the next message, which ends the deadline", async () => {
    const { link, clock, keep, sent } = lazy();
    keep(1, 10);
    clock.advance(9);
    link.writer.interrupt(7);
    link.scheduleFlush();
    await turn();
    expect(sent()).toEqual([[7, 1]]);
    keep(2, 10);
    clock.advance(9);
    expect(sent()).toEqual([]);
    clock.advance(1);
    expect(sent()).toEqual([[2]]);
    expect(link.lateBatches).toBe(1);
    link.close(CloseCode.NORMAL, "");
  });

  it("are no company for each other: a flush of nothing leaves them", async () => {
    const { link, clock, keep, sent } = lazy();
    keep(1, 10);
    link.scheduleFlush();
    await turn();
    expect(sent()).toEqual([]);
    clock.advance(10);
    expect(sent()).toEqual([[1]]);
    link.close(CloseCode.NORMAL, "");
  });

  it("travel with a heartbeat, and with the close", () => {
    const { link, clock, keep, sent } = lazy();
    keep(1, 5000);
    clock.advance(1000);
    expect(sent()).toEqual([["heartbeat", 1]]);
    keep(2, 5000);
    link.close(CloseCode.NORMAL, "");
    expect(sent()).toEqual([[2]]);
    clock.advance(5000);
    keep(3, 1);
    clock.advance(1);
    expect([sent(), link.lateBatches]).toEqual([[], 0]);
  });

  it.each([
    ["a heartbeat of this side", false],
    ["the answer to a heartbeat of the peer", true],
  ])("without a deadline leave within a second, with %s", async (_what, peerBeats) => {
    const { link, transport, clock, owner, sent } = lazy();
    let kept = 0;
    owner.beforeFlush = () => {
      for (; kept > 0; kept--) link.writer.interrupt(7);
    };
    const batch = peerBatch((peer) => peer.writer.interrupt(1));
    for (let second = 0; second < 10; second++) {
      transport.arrive(batch);
      kept = 1;
      const beat = (peer: Link): void => peer.post("heartbeat", { sent: 1, echo: 0 });
      if (peerBeats) transport.arrive(peerBatch(beat));
      clock.advance(1000);
      await turn();
      const acts = sent().flat();
      expect(acts).toEqual(expect.arrayContaining(["heartbeat", 7, "progress"]));
    }
  });

  it("cost one peer, not all, when posting them throws", () => {
    const { link, clock, owner } = lazy();
    owner.beforeFlush = () => {
      throw new TypeError("a bug of ours");
    };
    link.scheduleLazy(1);
    clock.advance(1);
    expect(owner.fault).toBeInstanceOf(TypeError);
    expect(owner.end?.[0]).toBe(CloseCode.FAILED);
  });
});

describe("ByteQueueLimit", () => {
  it("keeps 128 KiB on a slow link and about 20 ms on a fast one", () => {
    for (const [bytesPerMs, low, high] of [
      [1250, 128 * 1024, 128 * 1024],
      [50_000, 900_000, 1_100_000],
      [10_000_000, 8 << 20, 8 << 20],
    ] as const) {
      const flow = new ByteQueueLimit();
      let total = 0;
      for (let now = 0; now < 400; now += 5) {
        flow.sent(bytesPerMs * 5);
        total += bytesPerMs * 5;
        expect(flow.acknowledge(total, now)).toBe(true);
      }
      expect(flow.limit).toBeGreaterThanOrEqual(low);
      expect(flow.limit).toBeLessThanOrEqual(high);
    }
  });

  it("refuses what can't be: backwards, or more than was sent", () => {
    const flow = new ByteQueueLimit();
    flow.sent(10);
    expect(flow.acknowledge(11, 0)).toBe(false);
    expect(flow.acknowledge(10, 0)).toBe(true);
    expect(flow.acknowledge(9, 0)).toBe(false);
  });
});
