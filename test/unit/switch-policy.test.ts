import { describe, expect, it } from "vitest";
import { optionsOf } from "../../device/switch/policy.ts";
import type { SwitchPort } from "../../device/switch/port.ts";
import { type PortRule, portRule } from "../../device/switch/port-options.ts";
import { stormLimits } from "../../device/switch/storm.ts";
import { Switch } from "../../device/switch/switch.ts";
import { formatMac } from "../../shared/net/ethernet.ts";
import { frameOf } from "../support/packets.ts";
import { TestPort } from "../support/switch-port.ts";

const BROADCAST = [255, 255, 255, 255, 255, 255];
/** Address of the host behind port i. */
const host = (i: number): number[] => [2, 0, 0, 0, 0, i];
const macOf = (bytes: number[]): string => formatMac(Uint8Array.from(bytes));

interface Net {
  readonly ports: readonly TestPort[];
  readonly handles: readonly SwitchPort[];
  readonly segment: Switch;
  readonly clock: { ms: number };
  send(from: number, to: number[], source: number[], payload?: readonly number[]): void;
  drops(i: number): Readonly<Record<string, number>>;
}

/** A switch with the ports p0, p1, ... as uplinks; `nics` have the address of their host. */
function net(count: number, rules: readonly PortRule[], { nics = false } = {}): Net {
  const clock = { ms: 0 };
  const segment = new Switch({ name: "s", now: () => clock.ms, rules, storm: stormLimits() });
  const ports = Array.from({ length: count }, (_, i) => new TestPort(`p${i}`, undefined, 9018));
  const handles = ports.map((port, i) =>
    segment.attach(port, nics ? Uint8Array.from(host(i)) : undefined),
  );
  return {
    ...{ ports, handles, segment, clock },
    send(from, to, source, payload = [0x88, 0xb5]) {
      const bytes = new Uint8Array(Math.max(60, 12 + payload.length));
      bytes.set([...to, ...source, ...payload]);
      handles[from]!.input(frameOf(bytes, [5, 9]));
    },
    drops: (i) => segment.snapshot().ports[i]!.in.dropped,
  };
}
const received = ({ ports }: Net): number[] => ports.map(({ got }) => got.length);

describe("rules of ports", () => {
  it("apply by name, and the later rule counts", () => {
    const rules: PortRule[] = [
      { name: "*", rate: 1e6, guard: true },
      { name: "guest-*", rate: 2e6 },
      { name: "guest-1", isolated: true },
    ];
    expect(optionsOf(rules, "guest-1")).toEqual({ rate: 2e6, guard: true, isolated: true });
    expect(optionsOf(rules, "other")).toEqual({ rate: 1e6, guard: true });
    expect(optionsOf([], "other")).toEqual({});
  });

  it("for all ports say where a port of the device is, and do not restrict it", () => {
    const rules: PortRule[] = [
      { name: "*", guard: true, isolated: true, access: 10, storm: { broadcast: 1 } },
      { name: "services", rate: 1e6 },
    ];
    expect(optionsOf(rules, "services", true)).toEqual({ access: 10, rate: 1e6 });
    // A NIC that is called so is a guest.
    expect(optionsOf(rules, "services")).toMatchObject({ guard: true, isolated: true });
  });

  it("stand in the status of the port", () => {
    const n = net(2, [{ name: "p1", isolated: true }]);
    expect(n.segment.snapshot().ports.map(({ rules }) => rules)).toEqual([
      undefined,
      { isolated: true },
    ]);
  });

  it.each([
    [{ name: "a", access: 1, trunk: [2] }, "has access and trunk, and a port is one of them"],
    [{ name: "a", native: 1 }, "has native without trunk"],
    [{ name: "a", burst: 1 }, "has burst without rate"],
    [{ name: "a", ips: ["10.0.0.1"] }, "has ips without guard = true"],
    [{ name: "a b" }, "takes a name, with * for any letters"],
    [{ name: "a", addresses: ["01:00:00:00:00:01"] }, /group address/],
    [{ name: "a", access: 4095 }, /4094/],
    [{ name: "a", access: 0 }, />=1/],
    [{ name: "a", isolate: true }, /isolate/],
  ])("are refused when they make no sense: %j", (rule, message) => {
    expect(() => portRule.parse(rule)).toThrow(message);
  });
});

describe("isolated ports", () => {
  it("reach ports that are not isolated, and each other never", () => {
    const n = net(3, [
      { name: "p0", isolated: true },
      { name: "p1", isolated: true },
    ]);
    n.send(2, BROADCAST, host(2));
    n.send(1, BROADCAST, host(1));
    n.send(0, BROADCAST, host(0));
    expect(received(n)).toEqual([1, 1, 2]);
    // Known addresses now.
    n.send(0, host(1), host(0));
    n.send(0, host(2), host(0));
    n.send(2, host(0), host(2));
    expect(received(n)).toEqual([2, 1, 3]);
    expect(n.drops(0)).toEqual({ isolated: 1 });
  });
});

describe("addresses of a port", () => {
  it("are those of its rule in strict mode", () => {
    const n = net(2, [{ name: "p0", addresses: [macOf(host(7)), macOf(host(8))] }]);
    for (const source of [7, 8, 9, 0]) n.send(0, BROADCAST, host(source));
    expect(received(n)).toEqual([0, 2]);
    expect(n.drops(0)).toEqual({ address_denied: 2 });
    // A refused address is not learned.
    expect(n.segment.snapshot().ports[0]!.macs).toBe(2);
  });

  it("are the first ones that it used when they are sticky", () => {
    const n = net(2, [{ name: "p0", sticky: 2 }]);
    for (const source of [7, 8, 9, 7, 8]) n.send(0, BROADCAST, host(source));
    expect(received(n)).toEqual([0, 4]);
    expect(n.drops(0)).toEqual({ address_denied: 1 });
  });

  it("include that of the NIC behind a sticky port", () => {
    const n = net(2, [{ name: "p0", sticky: 1 }], { nics: true });
    n.send(0, BROADCAST, host(9));
    n.send(0, BROADCAST, host(0));
    expect(received(n)).toEqual([0, 1]);
    expect(n.drops(0)).toEqual({ address_denied: 1 });
  });
});

describe("the rate of a port", () => {
  it("is a token bucket of bytes", () => {
    // 8000 bits are 1000 bytes a second; each frame has 60 bytes.
    const n = net(2, [{ name: "p0", rate: 8000, burst: 600 }]);
    n.send(1, BROADCAST, host(1));
    for (let i = 0; i < 20; i++) n.send(0, host(1), host(0));
    expect(received(n)).toEqual([1, 10]);
    n.clock.ms = 120;
    for (let i = 0; i < 20; i++) n.send(0, host(1), host(0));
    expect(received(n)).toEqual([1, 12]);
    n.clock.ms = 60_000;
    for (let i = 0; i < 20; i++) n.send(0, host(1), host(0));
    expect(received(n)).toEqual([1, 22]);
    expect(n.drops(0)).toEqual({ rate: 38 });
  });

  it("lets a fast port send for 100 ms at once", () => {
    // 80 Mbit/s are 1 MB in 100 ms, more than the longest frame.
    const n = net(2, [{ name: "p0", rate: 80e6 }]);
    n.send(1, BROADCAST, host(1));
    const long = new Array<number>(7988).fill(1);
    for (let i = 0; i < 200; i++) n.send(0, host(1), host(0), long);
    expect(n.drops(0)).toEqual({ rate: 75 });
  });

  it("lets the longest frame pass without a burst of its own", () => {
    const n = net(2, [{ name: "p0", rate: 1000 }]);
    n.send(0, host(1), host(0), new Array<number>(8000).fill(1));
    expect(received(n)).toEqual([0, 1]);
  });
});

describe("the MTU of a port", () => {
  it("bounds its frames in both directions", () => {
    const n = net(2, [{ name: "p0", mtu: 1000 }]);
    n.send(0, BROADCAST, host(0), new Array<number>(1006).fill(1));
    n.send(0, BROADCAST, host(0), new Array<number>(1007).fill(1));
    n.send(1, host(0), host(1), new Array<number>(1006).fill(1));
    n.send(1, host(0), host(1), new Array<number>(1007).fill(1));
    expect(received(n)).toEqual([1, 1]);
    expect(n.drops(0)).toEqual({ too_big: 1 });
    expect(n.segment.snapshot().ports[0]!.out.dropped).toEqual({ too_big: 1 });
  });
});

describe("the storm limits of a port", () => {
  it("are exactly those of its rule, and of the segment otherwise", () => {
    const n = net(2, [{ name: "p0", storm: { broadcast: 5 } }]);
    for (let i = 0; i < 20; i++) n.send(0, BROADCAST, host(0));
    for (let i = 0; i < 20; i++) n.send(0, [1, 0, 0x5e, 0, 0, 1], host(0));
    expect(received(n)).toEqual([0, 25]);
    expect(n.drops(0)).toEqual({ storm_broadcast: 15 });
  });
});

/** An ARP packet behind its type: sender's hardware and protocol address. */
const arp = (mac: number[], ip: number[]): number[] => [
  ...[8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...mac, ...ip],
  ...[0, 0, 0, 0, 0, 0, 10, 0, 0, 9],
];
const LINK = (last: number): number[] => [0xfe, 0x80, ...new Array<number>(13).fill(0), last];
/** An ICMPv6 message in IPv6 behind its type, without its checksum. */
function icmp6(message: readonly number[], { next = 58, before = [] as number[] } = {}): number[] {
  const length = before.length + message.length;
  return [
    ...[0x86, 0xdd, 0x60, 0, 0, 0, length >> 8, length & 255, next, 255],
    ...[...LINK(1), ...LINK(2), ...before, ...message],
  ];
}
const neighbour = (type: number, target: number[], options: number[] = []): number[] => [
  ...[type, 0, 0, 0, 0, 0, 0, 0],
  ...target,
  ...options,
];
const option = (type: number, mac: number[]): number[] => [type, 1, ...mac];

describe("guards", () => {
  const H = host(0);
  const other = host(1);
  const cases: readonly (readonly [string, number[], string | undefined])[] = [
    ["ARP with its own address", arp(H, [10, 0, 0, 1]), undefined],
    ["a probe of ARP", arp(H, [0, 0, 0, 0]), undefined],
    ["ARP with another hardware address", arp(other, [10, 0, 0, 1]), "guard_arp"],
    ["ARP with another IP address", arp(H, [10, 0, 0, 2]), "guard_arp"],
    ["ARP with a tag before it", [0x81, 0, 0, 5, ...arp(other, [10, 0, 0, 1])], "guard_arp"],
    ["a solicitation", icmp6(neighbour(135, LINK(9), option(1, H))), undefined],
    ["a solicitation without a source", icmp6(neighbour(135, LINK(9))), undefined],
    ["a forged solicitation", icmp6(neighbour(135, LINK(9), option(1, other))), "guard_nd"],
    ["an advertisement", icmp6(neighbour(136, LINK(1), option(2, H))), undefined],
    ["a forged advertisement", icmp6(neighbour(136, LINK(1), option(2, other))), "guard_nd"],
    ["an advertisement for another", icmp6(neighbour(136, LINK(2), option(2, H))), "guard_nd"],
    [
      "a second, forged option",
      icmp6(neighbour(136, LINK(1), [...option(2, H), ...option(2, other)])),
      "guard_nd",
    ],
    ["an option of no length", icmp6(neighbour(136, LINK(1), [2, 0, ...H])), "guard_nd"],
    ["an option that is too long", icmp6(neighbour(136, LINK(1), [2, 2, ...H])), "guard_nd"],
    ["a short advertisement", icmp6([136, 0, 0, 0]), "guard_nd"],
    ["a router advertisement", icmp6([134, 0, 0, 0, ...new Array<number>(12).fill(0)]), "guard_nd"],
    ["a redirect", icmp6([137, 0, 0, 0, ...new Array<number>(36).fill(0)]), "guard_nd"],
    ["an echo request", icmp6([128, 0, 0, 0, 0, 1, 0, 1]), undefined],
    [
      "an advertisement behind a header",
      icmp6(neighbour(136, LINK(2), option(2, H)), { next: 60, before: [58, 0, 1, 4, 0, 0, 0, 0] }),
      "guard_nd",
    ],
    [
      "a router advertisement in a fragment",
      icmp6([134, 0, 0, 0], { next: 44, before: [58, 0, 0, 1, 0, 0, 0, 7] }),
      "guard_nd",
    ],
    // RFC 6980: hosts ignore a neighbour message in fragments, also one that is whole in the first.
    [
      "an honest advertisement in a first fragment",
      icmp6(neighbour(136, LINK(1), option(2, H)), {
        next: 44,
        before: [58, 0, 0, 1, 0, 0, 0, 7],
      }),
      "guard_nd",
    ],
    // The type would be in the next fragment, which nobody looks at.
    [
      "a first fragment that ends before the type",
      icmp6([], { next: 44, before: [60, 0, 0, 1, 0, 0, 0, 7, 58, 0, 1, 4, 0, 0, 0, 0] }),
      "guard_nd",
    ],
    [
      "a first fragment that ends within a header",
      icmp6([], { next: 44, before: [60, 0, 0, 1, 0, 0, 0, 7, 58, 1, 1, 4, 0, 0, 0, 0] }),
      "guard_nd",
    ],
    [
      "more headers than are walked",
      icmp6(neighbour(136, LINK(2)), {
        next: 60,
        before: Array.from({ length: 9 }, (_, i) => [
          i === 8 ? 58 : 60,
          0,
          1,
          4,
          0,
          0,
          0,
          0,
        ]).flat(),
      }),
      "guard_nd",
    ],
  ];
  it.each(cases)("%s", (_, payload, reason) => {
    const n = net(2, [{ name: "p0", guard: true, ips: ["10.0.0.1", "FE80::0:1"] }]);
    n.send(0, BROADCAST, H, payload);
    n.send(1, BROADCAST, H, payload);
    expect(n.drops(0)).toEqual(reason === undefined ? {} : { [reason]: 1 });
    // The other port has no guard.
    expect(received(n)).toEqual([1, reason === undefined ? 1 : 0]);
  });

  it("read an address with four decimal numbers", () => {
    const n = net(2, [{ name: "p0", guard: true, ips: ["::ffff:10.1.2.3"] }]);
    const target = [...new Array<number>(10).fill(0), 255, 255, 10, 1, 2, 3];
    n.send(0, BROADCAST, H, icmp6(neighbour(136, target, option(2, H))));
    expect(n.drops(0)).toEqual({});
  });
});
