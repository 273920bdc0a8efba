/** The feed of events: ids, what is kept, who sees what, and readers that take nothing. */
import { beforeEach, describe, expect, it } from "vitest";
import { DropWatch, type Watched } from "../../device/events/drop-watch.ts";
import {
  EventFeed,
  HEARTBEAT_MS,
  type Item,
  type News,
  type ReaderEnd,
  STALL_MS,
} from "../../device/events/feed.ts";
import { PortCounters } from "../../device/switch/counters.ts";
import { type DeviceEvent, deviceEvent } from "../../shared/status/device-events.ts";

let now: number;
let feed: EventFeed;

beforeEach(() => {
  now = 0;
  feed = new EventFeed([], () => now);
});

class TestReader implements ReaderEnd {
  readonly got: DeviceEvent[] = [];
  waitingBytes = 0;
  state: "reads" | "ended" | "cut" = "reads";
  readonly #segments: readonly string[] | undefined;

  constructor(segments?: readonly string[]) {
    this.#segments = segments;
  }

  get names(): string[] {
    return this.got.map(({ event }) => event);
  }

  sees(segment: string): boolean {
    return this.#segments?.includes(segment) !== false;
  }

  send({ json, id, event }: Item): void {
    const value = deviceEvent.parse(JSON.parse(json));
    expect(value).toMatchObject({ id, event });
    this.got.push(value);
  }

  end(): void {
    this.state = "ended";
  }

  cut(): void {
    this.state = "cut";
  }
}

function reading(after?: string, segments?: readonly string[]): TestReader {
  const reader = new TestReader(segments);
  feed.read(reader, feed.placeOf(after));
  return reader;
}

const joined = (name: string, segment = "lan0"): News => ({
  ...{ event: "joined", segment, name },
  ...{ mac: "02:00:00:00:00:01", peer: "192.0.2.7:4711" },
});

describe("a reader", () => {
  it("gets what happens from now on, each with an id of its own", () => {
    feed.publish(joined("before"));
    const reader = reading();
    feed.publish(joined("a"));
    feed.publish({ event: "uplink-lost", segment: "lan0", name: "lab0", reason: "gone" });
    expect(reader.names).toEqual(["begun", "joined", "uplink-lost"]);
    expect(reader.got[0]).toMatchObject({ missed: false });
    expect(reader.got[1]).toMatchObject({ name: "a", segment: "lan0" });
    expect(new Set(reader.got.map(({ id }) => id)).size).toBe(3);
  });

  it("that comes back gets what it missed, once and in order", () => {
    const first = reading();
    for (const name of ["a", "b"]) feed.publish(joined(name));
    const { id } = first.got.at(-1)!;
    for (const name of ["c", "d"]) feed.publish(joined(name));
    const second = reading(id);
    feed.publish(joined("e"));
    expect(second.got).toMatchObject([
      { event: "begun", id, missed: false },
      ...["c", "d", "e"].map((name) => ({ name })),
    ]);
  });

  it("that comes back before anything happened misses nothing", () => {
    const { id } = reading().got[0]!;
    feed.publish(joined("a"));
    expect(reading(id).got).toMatchObject([{ missed: false }, { name: "a" }]);
  });

  it("of another run of the device, and with 0, gets all that is kept", () => {
    feed.publish(joined("a"));
    expect(reading("00000000-7").got).toMatchObject([{ missed: true }, { name: "a" }]);
    expect(reading("0").got).toMatchObject([{ missed: false }, { name: "a" }]);
    const { id } = reading().got[0]!;
    const ahead = id.replace(/-.*/, "-99999");
    expect(reading(ahead).got).toMatchObject([{ missed: true }, { name: "a" }]);
  });

  it("sees the segments of its scope only, live and from the past", () => {
    feed.publish(joined("past0"));
    feed.publish(joined("past1", "lan1"));
    const reader = reading("0", ["lan1"]);
    feed.publish(joined("live0"));
    feed.publish(joined("live1", "lan1"));
    expect(reader.got.slice(1)).toMatchObject([{ name: "past1" }, { name: "live1" }]);
  });

  it("that left gets nothing more", () => {
    const reader = new TestReader();
    const { leave, end } = feed.read(reader, feed.placeOf(undefined));
    leave();
    feed.publish(joined("a"));
    end("too late");
    expect(reader.names).toEqual(["begun"]);
    expect(feed.snapshot()).toEqual({ readers: 0, published: 1, cutOff: 0 });
  });
});

describe("what is kept", () => {
  it("is bounded, and says that something is lost", () => {
    const { id } = reading().got[0]!;
    const count = 20_000;
    for (let i = 0; i < count; i++) feed.publish(joined(`nic${i}`));
    for (const after of [id, "0"]) {
      const reader = new TestReader();
      feed.read(reader, feed.placeOf(after));
      expect(reader.got[0]).toMatchObject({ missed: true });
      expect(reader.got.length).toBeGreaterThan(1000);
      expect(reader.got.reduce((sum, e) => sum + JSON.stringify(e).length, 0)).toBeLessThan(
        1 << 20,
      );
      expect(reader.got.at(-1)).toMatchObject({ name: `nic${count - 1}` });
    }
  });

  it("has no long text of a peer", () => {
    const reader = reading();
    const text = "x".repeat(100_000);
    feed.publish({
      ...{ event: "fault", segment: "lan0", name: "a", severity: "warning" },
      ...{ code: "TX_PHASE", text },
    });
    expect(reader.got[1]).toMatchObject({ text: text.slice(0, 400) });
  });
});

describe("a reader that takes nothing", () => {
  it("is cut when too much waits, and counted; others read on", () => {
    const slow = reading();
    const quick = reading();
    slow.waitingBytes = 1 << 20;
    feed.publish(joined("a"));
    expect(slow.state).toBe("reads");
    slow.waitingBytes++;
    feed.publish(joined("b"));
    feed.publish(joined("c"));
    expect([slow.state, slow.names.length]).toEqual(["cut", 3]);
    expect([quick.state, quick.names.length]).toEqual(["reads", 4]);
    expect(feed.snapshot()).toMatchObject({ readers: 1, cutOff: 1 });
  });

  it("is cut after a minute", () => {
    const slow = reading();
    slow.waitingBytes = 1;
    feed.tick();
    now = STALL_MS - 1;
    feed.tick();
    expect(slow.state).toBe("reads");
    now = STALL_MS;
    feed.tick();
    expect(slow.state).toBe("cut");
  });

  it("is not cut when it took everything meanwhile", () => {
    const reader = reading();
    for (const waiting of [1, 0, 1]) {
      reader.waitingBytes = waiting;
      feed.tick();
      now += STALL_MS - 1;
    }
    feed.tick();
    expect(reader.state).toBe("reads");
  });
});

it("a quiet feed has heartbeats, with the id of the last event", () => {
  const reader = reading();
  feed.publish(joined("a"));
  const { id } = reader.got[1]!;
  now = HEARTBEAT_MS - 1;
  feed.tick();
  expect(reader.names).toHaveLength(2);
  now = HEARTBEAT_MS;
  feed.tick();
  feed.tick();
  expect(reader.got.slice(2)).toMatchObject([{ event: "heartbeat", id }]);
});

it("the end has its reason; one that takes nothing is cut", () => {
  const reader = reading();
  const slow = reading();
  slow.waitingBytes = 1;
  feed.tick();
  // Bytes of this moment are no sign of a slow reader.
  reader.waitingBytes = 1;
  feed.close("the device stops");
  expect(reader.got.at(-1)).toMatchObject({ event: "end", reason: "the device stops" });
  expect([reader.state, slow.state]).toEqual(["ended", "cut"]);
  expect(feed.snapshot().readers).toBe(0);
});

describe("drops", () => {
  let ports: [string, PortCounters][];
  let told: News[];
  let watch: DropWatch;
  let segment: Watched;

  beforeEach(() => {
    ports = [];
    told = [];
    segment = { name: "lan0", portCounters: () => ports, onLeft: undefined };
    watch = new DropWatch(segment, { publish: (news) => void told.push(news) });
  });

  function port(name: string): PortCounters {
    const counters = new PortCounters();
    ports.push([name, counters]);
    return counters;
  }

  const tick = (): News[] => {
    told = [];
    watch.tick();
    return told;
  };

  it("are told once, as what rose since the last time", () => {
    const a = port("a");
    port("b");
    expect(tick()).toEqual([]);
    a.in.dropped.runt = 2;
    a.out.dropped.rx_overrun = 3;
    a.lost.out.rx_overrun = 4;
    a.lost.in.tx_fault = 1;
    const common = { event: "drops", segment: "lan0", port: "a" };
    expect(tick()).toEqual([{ ...common, in: { runt: 2, tx_fault: 1 }, out: { rx_overrun: 7 } }]);
    expect(tick()).toEqual([]);
    a.in.dropped.runt = 5;
    expect(tick()).toEqual([{ ...common, in: { runt: 3 }, out: {} }]);
  });

  it("of a port that comes back count from its own beginning", () => {
    port("a").in.dropped.runt = 5;
    expect(tick()).toHaveLength(1);
    ports = [];
    port("a").in.dropped.runt = 3;
    expect(tick()).toMatchObject([{ in: { runt: 3 } }]);
  });

  it("of a port that leaves are told at once, those of its last moment", () => {
    const a = port("a");
    a.in.dropped.runt = 1;
    expect(tick()).toMatchObject([{ in: { runt: 1 } }]);
    a.lost.out.link_lost = 2;
    ports = [];
    told = [];
    segment.onLeft!("a", a);
    expect(told).toMatchObject([{ port: "a", in: {}, out: { link_lost: 2 } }]);
    segment.onLeft!("b", new PortCounters());
    expect(told).toHaveLength(1);
  });

  it("of many ports are told over several seconds, and none is left out", () => {
    for (let i = 0; i < 40; i++) port(`nic${i}`).out.dropped.queue_full = i + 1;
    const all = Array.from({ length: 4 }, tick);
    expect(all.map((second) => second.length)).toEqual([16, 16, 8, 0]);
    const sum = all
      .flat()
      .reduce((n, news) => n + (news.event === "drops" ? news.out["queue_full"]! : 0), 0);
    expect(sum).toBe((40 * 41) / 2);
  });

  it("of the last of a thousand ports are told within seconds", () => {
    for (let i = 0; i < 1000; i++) port(`nic${i}`);
    ports.at(-1)![1].in.dropped.runt = 1;
    const all = Array.from({ length: 4 }, tick).flat();
    expect(all).toMatchObject([{ port: "nic999" }]);
  });

  it("of a port that drops all the time do not hide those of others", () => {
    for (let i = 0; i < 40; i++) port(`nic${i}`);
    const seen = new Set<string>();
    for (let second = 0; second < 3; second++) {
      for (const [, counters] of ports) counters.in.dropped.storm_unknown++;
      for (const news of tick()) if (news.event === "drops") seen.add(news.port);
    }
    expect(seen.size).toBe(40);
  });
});
