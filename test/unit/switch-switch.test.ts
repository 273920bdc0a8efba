import { describe, expect, it } from "vitest";
import {
  DropReason,
  type PortOffloads,
  type SwitchPort,
  Verdict,
} from "../../device/switch/port.ts";
import { type StormLimits, stormLimits } from "../../device/switch/storm.ts";
import { type PortNotice, Switch } from "../../device/switch/switch.ts";
import { Frame, Gso } from "../../shared/net/frame.ts";
import type { LeftPortStatus, PortStatus } from "../../shared/status/device-status.ts";
import { type Built, buildPacket, frameOf, plainSum, pseudoHeader } from "../support/packets.ts";
import { ALL_OFFLOADS, NO_OFFLOADS, TestPort } from "../support/switch-port.ts";

const A = [2, 0, 0, 0, 0, 0xa];
const B = [2, 0, 0, 0, 0, 0xb];
const BROADCAST = [255, 255, 255, 255, 255, 255];

function frame(destination: number[], source: number[], length = 60): Frame {
  const bytes = new Uint8Array(length).fill(1);
  bytes.set([...destination, ...source, 0x88, 0xb5].slice(0, length));
  return frameOf(bytes, [5, 4]);
}

interface Net {
  readonly segment: Switch;
  readonly ports: TestPort[];
  readonly handles: SwitchPort[];
  readonly clock: { ms: number };
}
function net(
  count: number,
  options: { whenFull?: "hold"; macsPerPort?: number; offloads?: PortOffloads[] } = {},
): Net {
  const clock = { ms: 0 };
  const segment = new Switch({
    name: "s",
    now: () => clock.ms,
    whenFull: options.whenFull ?? "drop",
    macsPerPort: options.macsPerPort ?? 1024,
  });
  const ports = Array.from(
    { length: count },
    (_, i) => new TestPort(`p${i}`, options.offloads?.[i]),
  );
  return { segment, ports, handles: ports.map((port) => segment.attach(port)), clock };
}
const port = (n: Net, i: number): PortStatus => n.segment.snapshot().ports[i]!;
const counts = (n: Net): number[] => n.ports.map((p) => p.got.length);

/** A switch whose ports have NICs behind them: port i has the address 02:00:00:00:01:0i. */
const own = (i: number): number[] => [2, 0, 0, 0, 1, i];
function nicNet(count: number, options: { macsPerPort?: number; storm?: StormLimits } = {}): Net {
  const clock = { ms: 0 };
  const segment = new Switch({
    name: "s",
    now: () => clock.ms,
    macsPerPort: options.macsPerPort ?? 1024,
    ...(options.storm === undefined ? {} : { storm: options.storm }),
  });
  const ports = Array.from({ length: count }, (_, i) => new TestPort(`p${i}`));
  const handles = ports.map((port, i) => segment.attach(port, Uint8Array.from(own(i))));
  return { segment, ports, handles, clock };
}
/** Ports that have an address, in the order of the addresses. */
function holders(n: Net): (string | undefined)[] {
  const table = n.segment.addresses();
  return [...table.keys].map((key) => table.entry(key)?.port);
}

describe("the address of a NIC", () => {
  it("attack-S4, fault-I1 spoofed at 50 frames/s, its owner gets every frame that is sent to it", () => {
    const n = nicNet(3);
    const spoof = frame(BROADCAST, own(0));
    const told: PortNotice[] = [];
    n.segment.onNotice = (notice) => told.push(notice);
    const seconds = 20;
    for (let s = 0; s < seconds; s++) {
      for (let i = 0; i < 50; i++) {
        n.handles[2]!.input(spoof);
        n.handles[1]!.input(frame(own(0), own(1)));
      }
      n.clock.ms += 1000;
      n.segment.tick();
    }
    expect(counts(n)).toEqual([50 * seconds, 0, 0]);
    expect(port(n, 2)["in"]).toMatchObject({ dropped: { mac_spoof: 50 * seconds } });
    expect(told).toHaveLength(seconds);
    const notice = {
      port: "p2",
      code: "MAC_SPOOF",
      text: "p2 sent 50 frames with the source 02:00:00:00:01:00, which is the address of p0: dropped",
    };
    expect([told[0], told.at(-1)]).toEqual([notice, notice]);
  });

  it("attack-S4 is found before the NIC has sent anything, and does not age", () => {
    const n = nicNet(3);
    n.clock.ms = 1e7;
    n.segment.tick();
    n.handles[1]!.input(frame(own(0), own(1)));
    expect(counts(n)).toEqual([1, 0, 0]);
  });

  it("is in the table, and not among the learned ones", () => {
    const n = nicNet(3);
    n.handles[2]!.input(frame(BROADCAST, A));
    expect(n.segment.snapshot()).toMatchObject({ addresses: 4, learned: 1 });
  });

  it("attack-S4 a port may use further addresses, as bridges do, and they may move", () => {
    const n = nicNet(3);
    n.handles[0]!.input(frame(BROADCAST, A));
    n.handles[1]!.input(frame(A, own(1)));
    expect(counts(n)).toEqual([1, 1, 1]);
    // Host A has moved behind another port; its announcement is enough.
    n.handles[2]!.input(frame(BROADCAST, A));
    n.handles[1]!.input(frame(A, own(1)));
    expect(counts(n)).toEqual([2, 2, 2]);
  });

  it("attack-S4 leaves with its NIC, and may be behind an uplink then; static wins on return", () => {
    const n = nicNet(2);
    const uplink = new TestPort("uplink");
    const behind = n.segment.attach(uplink);
    behind.input(frame(BROADCAST, own(0)));
    expect(holders(n)).toEqual(["p0", "p1"]);
    n.handles[0]!.detach();
    behind.input(frame(BROADCAST, own(0)));
    n.handles[1]!.input(frame(own(0), own(1)));
    expect(uplink.got).toHaveLength(1);
    const back = new TestPort("back");
    n.segment.attach(back, Uint8Array.from(own(0)));
    n.handles[1]!.input(frame(own(0), own(1)));
    expect([uplink.got.length, back.got.length]).toEqual([1, 1]);
  });

  it("attack-S6 17 strangers with 1,024 addresses each displace no NIC's own address", () => {
    const n = nicNet(17);
    for (let stranger = 0; stranger < 17; stranger++) {
      for (let i = 0; i < 1024; i++) {
        n.handles[stranger]!.input(frame(A, [6, 0, 0, stranger, i >> 8, i & 255]));
      }
    }
    const late = [20, 21].map((i) => {
      const to = new TestPort(`late${i}`);
      return { to, handle: n.segment.attach(to, Uint8Array.from(own(i))) };
    });
    const before = counts(n);
    for (let i = 0; i < 100; i++) {
      late[0]!.handle.input(frame(own(21), own(20)));
      late[1]!.handle.input(frame(own(20), own(21)));
    }
    expect(late.map(({ to }) => to.got.length)).toEqual([100, 100]);
    expect(counts(n)).toEqual(before);
  });
});

describe("storm control", () => {
  const MULTICAST = [1, 0, 0x5e, 0, 0, 1];
  const storm = stormLimits({ broadcast: 100, multicast: 200, unknown: 400 });
  const kinds = [
    ["broadcast", BROADCAST, 100],
    ["multicast", MULTICAST, 200],
    ["multicast", [255, 255, 255, 255, 255, 254], 200],
    ["unknown", B, 400],
  ] as const;

  /** Sends `count` frames from port 0 within a second. Returns how many of them were flooded. */
  const inASecond = (n: Net, count: number, destination: readonly number[]): number => {
    const before = port(n, 0).in.flooded;
    for (let i = 0; i < count; i++) {
      n.handles[0]!.input(frame([...destination], own(0)));
      n.clock.ms += 1000 / count;
    }
    return port(n, 0).in.flooded - before;
  };

  it.each(kinds)("attack-S10, fault-I7 limits %s to %s", (kind, destination, limit) => {
    const n = nicNet(3, { storm });
    // The first second has its own frames and those that the port saved up before.
    expect(inASecond(n, 1000, destination)).toBeGreaterThanOrEqual(2 * limit - 1);
    expect(inASecond(n, 1000, destination)).toBe(limit);
    expect(inASecond(n, 1000, destination)).toBe(limit);
    const { frames, flooded, copies, dropped } = port(n, 0).in;
    expect(dropped).toEqual({ [`storm_${kind}`]: 3000 - flooded });
    expect([frames, copies]).toEqual([3000, 2 * flooded]);
    expect(counts(n)).toEqual([0, flooded, flooded]);
  });

  it("passes a second's worth at once, and again after a second of silence", () => {
    const n = nicNet(3, { storm });
    const burst = (): number => {
      const before = counts(n)[1]!;
      for (let i = 0; i < 1000; i++) n.handles[0]!.input(frame(BROADCAST, own(0)));
      return counts(n)[1]! - before;
    };
    expect([burst(), burst()]).toEqual([100, 0]);
    n.clock.ms += 500;
    expect(burst()).toBe(50);
    n.clock.ms += 1000;
    expect(burst()).toBe(100);
    n.clock.ms += 1e9;
    expect(burst()).toBe(100);
  });

  it("limits each kind and each port apart, and unicast to a known address never", () => {
    const n = nicNet(3, { storm });
    inASecond(n, 1000, BROADCAST);
    expect(inASecond(n, 100, MULTICAST)).toBe(100);
    n.handles[1]!.input(frame(BROADCAST, own(1)));
    for (let i = 0; i < 5000; i++) n.handles[0]!.input(frame(own(2), own(0)));
    expect(port(n, 1).in).toMatchObject({ flooded: 1, dropped: {} });
    expect(port(n, 0).in).toMatchObject({ forwarded: 5000 });
  });

  it("lets an uplink flood ten times as many", () => {
    const n = nicNet(1, { storm });
    const uplink = n.segment.attach(new TestPort("uplink"));
    for (let i = 0; i < 5000; i++) uplink.input(frame(BROADCAST, A));
    expect(counts(n)).toEqual([1000]);
  });

  it("does not limit a flood that one NIC receives: it costs no more than unicast", () => {
    const n = nicNet(2, { storm });
    expect(inASecond(n, 5000, BROADCAST)).toBe(5000);
    n.segment.attach(new TestPort("uplink"));
    expect(inASecond(n, 5000, BROADCAST)).toBeLessThan(201);
    const alone = nicNet(1, { storm });
    alone.segment.attach(new TestPort("uplink"));
    expect(inASecond(alone, 5000, BROADCAST)).toBeLessThan(201);
  });

  /**
   * Ports 1 and 2 are joined outside of the segment: what leaves by one comes back by the other.
   * Runs for `seconds`, a thousand rounds in each. Returns the frames that went round in the last.
   */
  function loop(n: Net, seconds: number, send: () => void): number {
    let went = 0;
    for (let i = 0; i < seconds * 1000; i++) {
      if (i % 1000 === 0) went = 0;
      if (i % 100 === 0) send();
      const [left, right] = [n.ports[1]!.got.splice(0), n.ports[2]!.got.splice(0)];
      for (const { bytes } of left) n.handles[2]!.input(frameOf(bytes, [bytes.length]));
      for (const { bytes } of right) n.handles[1]!.input(frameOf(bytes, [bytes.length]));
      went += left.length + right.length;
      n.clock.ms += 1;
      n.segment.tick();
    }
    return went;
  }

  it.each(kinds)("fault-I6 a loop with %s frames is contained", (kind, destination, limit) => {
    const n = nicNet(4, { storm });
    const seconds = 5;
    loop(n, seconds, () => n.handles[0]!.input(frame([...destination], A)));
    // The canary gets what the sender floods, and from each end of the loop its limit.
    const sent = seconds * 10;
    expect(counts(n)[3]).toBeLessThanOrEqual(sent + 2 * limit * (seconds + 1));
    const refused = [1, 2].map((i) => port(n, i).in.dropped[`storm_${kind}`] ?? 0);
    expect(Math.min(...refused)).toBeGreaterThan(0);
    expect(port(n, 0).in).toMatchObject({ flooded: sent, dropped: {} });
    // The frames that were refused are gone, so the loop is empty when nobody sends.
    expect(loop(n, 1, () => {})).toBe(0);
  });

  it("fault-I6 without a limit, one frame goes round for ever", () => {
    const n = nicNet(4);
    n.handles[0]!.input(frame(BROADCAST, A));
    expect(loop(n, 3, () => {})).toBeGreaterThan(1000);
  });

  it("fault-I6 frames of a NIC's own address do not go round at all", () => {
    const n = nicNet(4, { storm });
    expect(loop(n, 2, () => n.handles[0]!.input(frame(BROADCAST, own(0))))).toBe(20);
    expect(counts(n)[3]).toBe(20);
    expect(port(n, 1).in).toMatchObject({ dropped: { mac_spoof: 20 } });
  });

  it("is named once a second, with the kind, the limit and the number of frames", () => {
    const n = nicNet(3, { storm });
    const told: PortNotice[] = [];
    n.segment.onNotice = (notice) => told.push(notice);
    for (let i = 0; i < 150; i++) n.handles[0]!.input(frame(BROADCAST, own(0)));
    for (let i = 0; i < 401; i++) n.handles[0]!.input(frame(B, own(0)));
    n.segment.tick();
    n.segment.tick();
    expect(told).toEqual(
      [
        "p0 sent 50 broadcast frames above its limit of 100 a second: dropped",
        "p0 sent 1 frames for unknown addresses above its limit of 400 a second: dropped",
      ].map((text) => ({ port: "p0", code: "STORM_LIMIT", text })),
    );
  });

  it("can be off for a kind, and has a default for the others", () => {
    const n = nicNet(3, { storm: stormLimits({ multicast: "off" }) });
    expect(inASecond(n, 5000, MULTICAST)).toBe(5000);
    expect(n.segment.snapshot().storm).toEqual({ broadcast: 1000, unknown: 1000 });
    expect(() => stormLimits({ unknown: 0 })).toThrow("unknown is 0");
    expect(() => stormLimits({ broadcast: Number.NaN })).toThrow("broadcast is NaN");
  });

  it("a flooded frame is as much work as its copies", () => {
    const n = nicNet(41);
    n.handles[0]!.input(frame(BROADCAST, own(0)));
    expect(n.handles[0]!.work).toBe(10);
    n.handles[0]!.input(frame(own(1), own(0)));
    expect(n.handles[0]!.work).toBe(1);
    n.handles[1]!.input(frame(BROADCAST, [1, 0, 0, 0, 0, 0]));
    expect(n.handles[1]!.work).toBe(1);
  });
});

describe("ports that left", () => {
  const left = (n: Net): LeftPortStatus[] => n.segment.snapshot().left;

  it("attack-S9 leave their totals behind, by name, over every time that they left", () => {
    const n = net(2);
    for (let time = 1; time <= 3; time++) {
      const back = n.segment.attach(new TestPort("back"));
      back.input(frame(A, B));
      back.input(frame(A, [], 4));
      back.drop(DropReason.LINK_LOST, "out", 5);
      back.drop(DropReason.LINK_LOST, "in", 2);
      n.handles[0]!.input(frame(BROADCAST, [2, 0, 0, 0, 0, 9]));
      back.detach();
      expect(left(n)).toMatchObject([
        {
          name: "back",
          kind: "test",
          times: time,
          in: { frames: 2 * time, flooded: time, copies: 2 * time, dropped: { runt: time } },
          out: { offered: time, frames: time },
          lost: { in: { link_lost: 2 * time }, out: { link_lost: 5 * time } },
        },
      ]);
    }
  });

  it("attack-S9 of many names keep those that are back or left last, and the sum of the others", () => {
    const n = net(1);
    const once = (name: string): void => {
      const handle = n.segment.attach(new TestPort(name));
      handle.input(frame(BROADCAST, A));
      handle.detach();
    };
    for (const name of ["twice", ...Array.from({ length: 255 }, (_, i) => `early${i}`), "twice"]) {
      once(name);
    }
    once("one more");
    // early0 is the one that left longest ago.
    const names = left(n).map((entry) => entry["name"]);
    expect([names.includes("twice"), names.includes("early0")]).toEqual([true, false]);
    once("steady");
    const back = n.segment.attach(new TestPort("steady"));
    for (let i = 0; i < 1000; i++) once(`stranger${i}`);
    back.detach();
    const all = left(n);
    expect(all).toHaveLength(257);
    expect(all.map((entry) => entry["name"])).toContain("steady");
    expect(all.at(-1)).toMatchObject({ name: "(others)", times: 1002 });
    const frames = all.map((entry) => (entry["in"] as { frames: number }).frames);
    expect(frames.reduce((sum, one) => sum + one, 0)).toBe(1259);
  });
});

describe("forwarding", () => {
  it("floods what it does not know, forwards what it learned, and forgets by age", () => {
    const n = net(3);
    n.handles[0]!.input(frame(B, A));
    expect(counts(n)).toEqual([0, 1, 1]);
    n.handles[1]!.input(frame(A, B));
    expect(counts(n)).toEqual([1, 1, 1]);
    n.handles[0]!.input(frame(B, A));
    expect(counts(n)).toEqual([1, 2, 1]);
    n.clock.ms = 300_001;
    n.segment.tick();
    n.handles[0]!.input(frame(B, A));
    expect(counts(n)).toEqual([1, 3, 2]);
  });

  it("floods broadcast and multicast, and flushes only who got something", () => {
    const n = net(3);
    n.handles[1]!.input(frame(A, B));
    n.handles[1]!.flush();
    expect(n.ports.map((p) => p.flushes)).toEqual([1, 0, 1]);
    n.handles[0]!.input(frame(BROADCAST, A));
    n.handles[0]!.input(frame([1, 0, 0x5e, 0, 0, 1], A));
    n.handles[0]!.input(frame(B, A));
    n.handles[0]!.flush();
    expect(counts(n)).toEqual([1, 3, 3]);
    expect(n.ports.map((p) => p.flushes)).toEqual([1, 1, 2]);
    n.handles[0]!.flush();
    expect(n.ports.map((p) => p.flushes)).toEqual([1, 1, 2]);
  });

  it("flushes the first flood of a turn port by port, and further ones at the end of their bursts", () => {
    const turns: (() => void)[] = [];
    const segment = new Switch({ name: "s", now: () => 0, later: (run) => void turns.push(run) });
    const log: string[] = [];
    const plug = (i: number): SwitchPort => {
      const to = new TestPort(`p${i}`);
      to.onDeliver = () => void log.push(`${i} gets`);
      to.onFlush = (now) => void log.push(now ? `${i} sends` : `${i} flushes`);
      return segment.attach(to);
    };
    const handles = Array.from({ length: 15 }, (_, i) => plug(i));
    const flood = (): string[] => {
      handles[0]!.input(frame(BROADCAST, A));
      handles[0]!.flush();
      return log.splice(0);
    };
    const others = (): number[] => handles.map((_, i) => i).slice(1);
    const atTheEnd = (): string[] => [
      ...others().map((i) => `${i} gets`),
      ...others()
        .reverse()
        .map((i) => `${i} flushes`),
    ];
    expect(flood()).toEqual(atTheEnd());
    handles.push(plug(15));
    const portByPort = others().flatMap((i) => [`${i} gets`, `${i} sends`]);
    expect(flood()).toEqual(portByPort);
    expect(flood()).toEqual(atTheEnd());
    for (const run of turns.splice(0)) run();
    // A frame for one port waits for the end of the burst: a flood would overtake it.
    handles[1]!.input(frame(A, B));
    expect(flood().filter((line) => line.endsWith("sends"))).toEqual([]);
    expect(flood()).toEqual(portByPort);
    expect(turns).toHaveLength(1);
  });

  it("forgets a port that unplugs, at once, and gives its number to the next", () => {
    const n = net(3);
    n.handles[1]!.input(frame(A, B));
    n.handles[1]!.detach();
    n.handles[1]!.detach();
    n.handles[0]!.input(frame(B, A));
    expect(counts(n)).toEqual([1, 0, 2]);
    const again = new TestPort("again");
    n.segment.attach(again);
    n.handles[0]!.input(frame(B, A));
    expect(again.got.length).toBe(1);
    n.handles[1]!.input(frame(A, B));
    expect(n.segment.snapshot().lateFrames).toBe(1);
  });
});

describe("drops", () => {
  it("attack-S12 names what a port had kept while this process stood still, and learns nothing", () => {
    const n = net(3);
    n.handles[0]!.stale = true;
    n.handles[0]!.input(frame(BROADCAST, A));
    n.handles[0]!.input(frame(B, A));
    n.handles[1]!.input(frame(A, B));
    n.handles[0]!.stale = false;
    n.handles[0]!.input(frame(B, A));
    expect(port(n, 0).in).toMatchObject({ frames: 3, forwarded: 1, dropped: { stale: 2 } });
    expect(counts(n)).toEqual([1, 1, 1]);
  });

  it.each([
    ["runt", frame(A, B, 13)],
    ["bad_source", frame(B, [0, 0, 0, 0, 0, 0])],
    ["bad_source", frame(B, [3, 0, 0, 0, 0, 1])],
    ["bad_source", frame(B, BROADCAST)],
    ["reserved_address", frame([1, 0x80, 0xc2, 0, 0, 0], A)],
    ["reserved_address", frame([1, 0x80, 0xc2, 0, 0, 15], A)],
  ])("fault-I3, fault-I4, fault-I9 names a %s", (reason, bad) => {
    const n = net(2);
    expect(n.handles[0]!.input(bad)).toBe(Verdict.DONE);
    expect(port(n, 0)["in"]).toMatchObject({
      frames: 1,
      bytes: bad.length,
      dropped: { [reason]: 1 },
    });
    expect(counts(n)).toEqual([0, 0]);
  });

  it("names the empty frame a runt", () => {
    const n = net(2);
    n.handles[0]!.input(new Frame());
    expect(port(n, 0)["in"]).toMatchObject({ frames: 1, bytes: 0, dropped: { runt: 1 } });
  });

  it("names hairpins, segments of one, and too many addresses", () => {
    const n = net(2, { macsPerPort: 2 });
    n.handles[0]!.input(frame(A, A));
    n.handles[0]!.input(frame(A, B));
    expect(port(n, 0)["in"]).toMatchObject({ flooded: 1, dropped: { hairpin: 1 } });
    n.handles[0]!.input(frame(BROADCAST, [2, 0, 0, 0, 0, 1]));
    expect(port(n, 0)["in"]).toMatchObject({ flooded: 1, dropped: { hairpin: 1, mac_limit: 1 } });
    n.handles[1]!.detach();
    n.handles[0]!.input(frame(BROADCAST, A));
    expect(port(n, 0)["in"]).toMatchObject({ frames: 4, dropped: { no_port: 1 } });
  });

  it("counts what the out-port refuses there, with its reason", () => {
    const n = net(3);
    n.ports[1]!.answer = DropReason.RX_OVERRUN;
    n.handles[0]!.input(frame(BROADCAST, A));
    n.handles[0]!.input(frame(BROADCAST, A, 1515));
    expect(port(n, 1)["out"]).toMatchObject({
      offered: 2,
      frames: 0,
      dropped: { rx_overrun: 1, too_big: 1 },
    });
    expect(port(n, 2)["out"]).toMatchObject({
      offered: 2,
      frames: 1,
      bytes: 60,
      dropped: { too_big: 1 },
    });
    expect(port(n, 0)["in"]).toMatchObject({ frames: 2, flooded: 2, copies: 4, dropped: {} });
    n.handles[2]!.drop(DropReason.TX_MALFORMED, "in");
    n.handles[2]!.drop(DropReason.LINK_BACKLOG, "out", 5);
    expect(port(n, 2)["lost"]).toEqual({ in: { tx_malformed: 1 }, out: { link_backlog: 5 } });
  });
});

describe("offloads", () => {
  const superFrame = (payload = 4000): { built: Built; frame: Frame } => {
    const built = buildPacket({
      destination: BROADCAST,
      source: A,
      payload: Uint8Array.from({ length: payload }, (_, i) => i * 3),
      checksum: "partial",
    });
    const f = frameOf(built.bytes, [30, 100]);
    Object.assign(f, {
      gso: Gso.TCPV4,
      gsoSize: 1460,
      needsCsum: true,
      csumStart: built.l4,
      csumOffset: 16,
    });
    return { built, frame: f };
  };

  it("gives each port of a flood the form that it takes, and changes the original for none", () => {
    const csumOnly: PortOffloads = { csum: true, tso4: false, tso6: true };
    const n = net(4, { offloads: [ALL_OFFLOADS, NO_OFFLOADS, ALL_OFFLOADS, csumOnly] });
    const { built, frame: f } = superFrame();
    n.handles[0]!.input(f);
    expect(n.ports[2]!.got).toMatchObject([
      { bytes: built.bytes, gso: Gso.TCPV4, needsCsum: true, csumValid: false },
    ]);
    for (const i of [1, 3]) {
      const got = n.ports[i]!.got;
      expect(got.map((g) => g.bytes.length)).toEqual([1514, 1514, 54 + 1080]);
      for (const g of got) {
        expect([g.gso, g.needsCsum, g.csumValid]).toEqual([Gso.NONE, false, true]);
        const pseudo = pseudoHeader(g.bytes, built.l3, built.l4, 6);
        expect(plainSum(pseudo, g.bytes.subarray(built.l4))).toBe(0xffff);
      }
      expect(port(n, i)["out"]).toMatchObject({
        offered: 3,
        frames: 3,
        segmentedFrames: 1,
        segments: 3,
      });
    }
    expect(port(n, 2)["out"]).toMatchObject({
      offered: 1,
      frames: 1,
      segmentedFrames: 0,
      segments: 0,
    });
    expect(port(n, 0)["in"]).toMatchObject({ frames: 1, bytes: built.bytes.length, copies: 3 });
  });

  it("finishes a checksum for who can't", () => {
    const n = net(3, { offloads: [ALL_OFFLOADS, NO_OFFLOADS, ALL_OFFLOADS] });
    const built = buildPacket({
      source: A,
      protocol: 17,
      payload: new Uint8Array(99).fill(5),
      checksum: "partial",
    });
    const f = frameOf(built.bytes, [7]);
    Object.assign(f, { needsCsum: true, csumStart: built.l4, csumOffset: 6 });
    n.handles[0]!.input(f);
    const [done] = n.ports[1]!.got;
    expect(done).toMatchObject({ needsCsum: false, csumValid: true });
    expect(
      plainSum(pseudoHeader(done!.bytes, built.l3, built.l4, 17), done!.bytes.subarray(built.l4)),
    ).toBe(0xffff);
    expect(n.ports[2]!.got).toMatchObject([
      { bytes: built.bytes, gso: 0, needsCsum: true, csumValid: false },
    ]);
    expect(port(n, 1)["out"]).toMatchObject({ offered: 1, frames: 1, checksummed: 1 });
  });

  it("attack-S2 counts segments as work, and makes no more than 8192 of one super-frame", () => {
    const n = net(9, { offloads: [ALL_OFFLOADS, ...new Array(8).fill(NO_OFFLOADS)] });
    const { frame: f } = superFrame(10_240);
    f.gsoSize = 20;
    n.handles[0]!.input(f);
    expect(n.ports[1]!.got).toHaveLength(512);
    expect(n.handles[0]!.work).toBe((8 * 512) / 4);
    f.gsoSize = 10;
    n.handles[0]!.input(f);
    f.gsoSize = 9;
    n.handles[0]!.input(f);
    expect(n.ports[1]!.got).toHaveLength(512 + 1024);
    expect(port(n, 1).out).toMatchObject({
      offered: 1537,
      frames: 1536,
      segmentedFrames: 2,
      segments: 1536,
      dropped: { too_many_segments: 1 },
    });
    expect(port(n, 0).in).toMatchObject({ frames: 3, flooded: 3, copies: 24 });
  });

  it("measures a super-frame by its segments", () => {
    const n = net(2);
    const { frame: f } = superFrame();
    f.gsoSize = 1461;
    n.handles[0]!.input(f);
    expect(port(n, 1)["out"]).toMatchObject({ offered: 1, frames: 0, dropped: { too_big: 1 } });
  });

  it("drops facts that do not fit before anybody sees them", () => {
    const n = net(2);
    const { frame: f } = superFrame();
    f.gso = Gso.TCPV6;
    n.handles[0]!.input(f);
    const plain = frame(BROADCAST, A);
    Object.assign(plain, { needsCsum: true, csumStart: 50, csumOffset: 9 });
    n.handles[0]!.input(plain);
    expect(port(n, 0)["in"]).toMatchObject({ frames: 2, dropped: { malformed_offload: 2 } });
    expect(counts(n)).toEqual([0, 0]);
  });

  it("cuts a super-frame that leaves out its length even for a port with TSO", () => {
    const n = net(2);
    const { built, frame: f } = superFrame();
    f.buffers[0]![f.offsets[0]! + built.l3 + 2] = 0;
    f.buffers[0]![f.offsets[0]! + built.l3 + 3] = 0;
    n.handles[0]!.input(f);
    expect(n.ports[1]!.got.length).toBe(3);
  });
});

describe("fault-J3 holding", () => {
  it("gives a unicast frame back before counting it, and wakes its sender", () => {
    const n = net(3, { whenFull: "hold" });
    n.handles[1]!.input(frame(BROADCAST, B));
    let woken = 0;
    n.handles[0]!.onReady = () => woken++;
    n.ports[1]!.room = false;
    expect(n.handles[0]!.input(frame(B, A))).toBe(Verdict.HELD);
    expect(n.handles[0]!.input(frame(B, A))).toBe(Verdict.HELD);
    expect(port(n, 0)["in"]).toMatchObject({ frames: 0, held: 2 });
    expect(port(n, 0)["macs"]).toBe(0);
    n.handles[2]!.roomAgain();
    expect(woken).toBe(0);
    n.ports[1]!.room = true;
    n.handles[1]!.roomAgain();
    n.handles[1]!.roomAgain();
    expect(woken).toBe(1);
    expect(n.handles[0]!.input(frame(B, A))).toBe(Verdict.DONE);
    expect(port(n, 0)["in"]).toMatchObject({ frames: 1, forwarded: 1 });
    expect(n.ports[1]!.asked.at(-1)).toEqual([60, 1]);
  });

  it("wakes nobody in the middle of a delivery", () => {
    const n = net(3, { whenFull: "hold" });
    n.handles[1]!.input(frame(BROADCAST, B));
    n.ports[1]!.room = false;
    expect(n.handles[0]!.input(frame(B, A))).toBe(Verdict.HELD);
    // The port gets room while it accepts a flooded frame of another sender.
    n.ports[1]!.onDeliver = () => {
      n.ports[1]!.onDeliver = undefined;
      n.ports[1]!.room = true;
      n.handles[1]!.roomAgain();
    };
    n.handles[0]!.onReady = () => n.handles[0]!.input(frame(B, A));
    n.handles[2]!.input(frame(BROADCAST, [2, 0, 0, 0, 0, 0xc]));
    expect(n.ports[1]!.got.length).toBe(2);
    expect(port(n, 0)["in"]).toMatchObject({ frames: 1, forwarded: 1, held: 1 });
  });

  it("holds neither floods nor what never fits", () => {
    const n = net(2, { whenFull: "hold" });
    n.ports[1]!.room = false;
    expect(n.handles[0]!.input(frame(BROADCAST, A))).toBe(Verdict.DONE);
    n.handles[1]!.input(frame(A, B));
    expect(n.handles[0]!.input(frame(B, A, 1515))).toBe(Verdict.DONE);
    expect(port(n, 1)["out"]).toMatchObject({ dropped: { too_big: 1 } });
  });

  it("asks for the room of all segments, and wakes the sender when the port goes", () => {
    const n = net(2, { whenFull: "hold", offloads: [ALL_OFFLOADS, NO_OFFLOADS] });
    n.handles[1]!.input(frame(BROADCAST, B));
    n.ports[1]!.room = false;
    const built = buildPacket({
      destination: B,
      source: A,
      payload: new Uint8Array(3000),
      checksum: "partial",
    });
    const f = frameOf(built.bytes);
    Object.assign(f, {
      gso: Gso.TCPV4,
      gsoSize: 1000,
      needsCsum: true,
      csumStart: built.l4,
      csumOffset: 16,
    });
    expect(n.handles[0]!.input(f)).toBe(Verdict.HELD);
    expect(n.ports[1]!.asked).toEqual([[1054, 3]]);
    // The sender tries again as soon as it is woken; the frame has no destination now.
    n.handles[0]!.onReady = () => n.handles[0]!.input(f);
    n.handles[1]!.detach();
    expect(port(n, 0)["in"]).toMatchObject({ frames: 1, dropped: { no_port: 1 } });
  });
});

describe("our own bugs", () => {
  it("show: input from within deliver throws, and so does a port that throws; the switch goes on", () => {
    const n = net(2);
    n.ports[1]!.onDeliver = () => n.handles[1]!.input(frame(A, B));
    expect(() => n.handles[0]!.input(frame(BROADCAST, A))).toThrow("input from within deliver");
    n.ports[1]!.onDeliver = () => {
      throw new Error("a bug");
    };
    expect(() => n.handles[0]!.input(frame(BROADCAST, A))).toThrow("a bug");
    n.ports[1]!.onDeliver = undefined;
    n.handles[0]!.input(frame(BROADCAST, A));
    expect(counts(n)).toEqual([0, 1]);
  });
});
