/** The service host as a port of the switch: what it answers, what it ignores, its limits. */

import { describe, expect, it } from "vitest";
import { Neighbours } from "../../device/services/neighbour.ts";
import { Limit, ServiceRates } from "../../device/services/rates.ts";
import { TokenBucket } from "../../shared/token-bucket.ts";
import { buildPacket } from "../support/packets.ts";
import {
  HOST_IP6 as IP6,
  icmp6,
  HOST_MAC as MAC,
  SERVER_IP6 as OWN6,
  type Packet6,
  ping,
  SERVER_MAC,
  ServiceStage,
} from "../support/service-stage.ts";

const ALL_ON = {
  address: "10.0.0.1/24",
  address6: "fd00::1/64",
  icmp: true,
  dhcp: true,
  dns: true,
  ra: { interval: 10 },
} as const;
const LOCAL6 = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x88, 0x32, 0xb0, 0xff, 0xfe, 0xfa, 0x44, 0x33];
const UNSPECIFIED = new Array<number>(16).fill(0);
const ALL_NODES_MAC = [0x33, 0x33, 0, 0, 0, 1];

const solicitation = (target: readonly number[], more: Partial<Packet6> = {}) =>
  icmp6({ type: 135, body: [0, 0, 0, 0, ...target], ...more });
const routerSolicitation = (more: Partial<Packet6> = {}) =>
  icmp6({ type: 133, body: [0, 0, 0, 0], to: [0x33, 0x33, 0, 0, 0, 2], ...more });

function stage(services: ConstructorParameters<typeof ServiceStage>[0] = ALL_ON) {
  const made = new ServiceStage(services);
  made.add("a", MAC);
  return made;
}
/** Type of the ICMPv6 message in a frame, and where it goes. */
const told = (frame: Uint8Array) => ({
  to: [...frame.subarray(0, 6)],
  type: frame[54],
  source: [...frame.subarray(22, 38)],
});

describe("neighbour discovery", () => {
  it("answers for the link-local address and the configured one", () => {
    for (const target of [OWN6, LOCAL6]) {
      const answers = stage().say(0, solicitation(target, { to: [0x33, 0x33, 255, 0, 0, 1] }));
      expect(answers.map(told)).toEqual([{ to: MAC, type: 136, source: target }]);
      expect(answers[0]![58]).toBe(0x60);
    }
  });

  it("answers to all when a host is about to use an address of ours", () => {
    const [answer] = stage().say(0, solicitation(OWN6, { source: UNSPECIFIED }));
    expect(told(answer!)).toEqual({ to: ALL_NODES_MAC, type: 136, source: OWN6 });
    // Nobody solicited it.
    expect(answer![58]).toBe(0x20);
  });

  it("is silent about the addresses of others", () => {
    const made = stage();
    expect(made.say(0, solicitation([...OWN6.slice(0, 15), 7]))).toEqual([]);
    expect(made.status.unanswered).toEqual({});
  });

  it.each([
    ["a hop limit below 255", solicitation(OWN6, { hops: 254 })],
    ["a code", solicitation(OWN6, { code: 1 })],
    ["a group as target", solicitation([0xff, ...OWN6.slice(1)])],
    ["no target", icmp6({ type: 135, body: [0, 0, 0, 0, 1] })],
    [
      "an option of no length",
      solicitation(OWN6, { body: [0, 0, 0, 0, ...OWN6, 1, 0, 0, 0, 0, 0, 0, 0] }),
    ],
    [
      "an option beyond the end",
      solicitation(OWN6, { body: [0, 0, 0, 0, ...OWN6, 1, 2, 0, 0, 0, 0, 0, 0] }),
    ],
    ["a group as source", solicitation(OWN6, { source: [0xff, ...IP6.slice(1)] })],
  ])("refuses %s", (_, frame) => {
    const made = stage();
    expect(made.say(0, frame)).toEqual([]);
    expect(made.status.unanswered).toEqual({ malformed: 1 });
  });

  it("counts another host with the address of the services", () => {
    const made = stage();
    made.say(0, icmp6({ type: 136, body: [0x20, 0, 0, 0, ...OWN6], to: ALL_NODES_MAC }));
    expect(made.status.unanswered).toEqual({ conflict: 1 });
  });
});

describe("router advertisements", () => {
  it("go to the host that asks; to all if it has no address, and every interval", () => {
    const made = stage();
    expect(made.say(0, routerSolicitation()).map(told)).toEqual([
      { to: MAC, type: 134, source: LOCAL6 },
    ]);
    expect(made.say(0, routerSolicitation({ source: UNSPECIFIED })).map(told)).toEqual([
      { to: ALL_NODES_MAC, type: 134, source: LOCAL6 },
    ]);
    made.clock.tick();
    expect(made.settle(0).map(told)).toEqual([{ to: ALL_NODES_MAC, type: 134, source: LOCAL6 }]);
  });

  it("to all have three seconds in between, however many hosts ask", () => {
    const made = stage();
    const asked = () => made.say(0, routerSolicitation({ source: UNSPECIFIED })).length;
    expect([asked(), asked(), asked()]).toEqual([1, 0, 0]);
    made.clock.advance(3000);
    expect(made.settle(0)).toHaveLength(1);
  });

  it("are off without ra", () => {
    const made = stage({ address: "10.0.0.1/24", address6: "fd00::1/64" });
    expect(made.say(0, routerSolicitation())).toEqual([]);
  });
});

describe("pings", () => {
  it("of a jumbo frame come back whole", () => {
    const [answer] = stage().say(0, ping(9000));
    expect(answer).toHaveLength(42 + 9000);
    expect(answer![34]).toBe(0);
  });

  it("over IPv6 reach both addresses", () => {
    const made = stage();
    for (const destination of [OWN6, LOCAL6]) {
      const [answer] = made.say(0, icmp6({ type: 128, body: [1, 2, 3, 4, 5], destination }));
      expect(told(answer!)).toEqual({ to: MAC, type: 129, source: destination });
      expect([...answer!.subarray(58, 63)]).toEqual([1, 2, 3, 4, 5]);
    }
  });

  it("are off without icmp", () => {
    const made = stage({ address: "10.0.0.1/24" });
    expect(made.say(0, ping())).toEqual([]);
    expect(made.status.unanswered).toEqual({ unsupported: 1 });
  });

  it("of a fragment are not answered", () => {
    const frame = ping();
    frame[20] = 0x20;
    const made = stage();
    expect(made.say(0, frame)).toEqual([]);
    expect(made.status.unanswered).toEqual({ fragment: 1 });
  });
});

describe("ARP", () => {
  const arp = (operation: number, sender: number[], target: number[], mac = MAC) =>
    Uint8Array.from([
      ...[255, 255, 255, 255, 255, 255, ...MAC, 8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
      ...[...mac, ...sender, 0, 0, 0, 0, 0, 0, ...target],
    ]);
  const OWN = [10, 0, 0, 1];

  it("answers a probe of the address; counts a host that claims it", () => {
    const made = stage();
    expect(made.say(0, arp(1, [0, 0, 0, 0], OWN))).toHaveLength(1);
    expect(made.say(0, arp(1, OWN, OWN))).toEqual([]);
    expect(made.say(0, arp(1, [10, 0, 0, 9], [10, 0, 0, 2]))).toEqual([]);
    expect(made.say(0, arp(2, [10, 0, 0, 9], OWN))).toEqual([]);
    expect(made.say(0, arp(1, [10, 0, 0, 9], OWN, [2, 0, 0, 0, 0, 7]))).toEqual([]);
    expect(made.status.unanswered).toEqual({ conflict: 1, malformed: 1 });
  });
});

describe("rules for all ports", () => {
  it("that isolate and guard guests leave them the services", () => {
    const rules = [{ name: "*", isolated: true, guard: true, sticky: 1 }];
    const made = new ServiceStage(ALL_ON, { rules });
    made.add("a", MAC);
    const other = made.add("b", [2, 0, 0, 0, 0, 8]);
    expect(made.say(0, ping())).toHaveLength(1);
    expect(made.say(0, routerSolicitation()).map(told)).toMatchObject([{ type: 134 }]);
    expect(made.nics[other]!.port.got).toEqual([]);
  });

  it("that name a VLAN place the services in it", () => {
    const made = new ServiceStage(ALL_ON, { rules: [{ name: "*", access: 10 }] });
    made.add("a", MAC);
    expect(made.say(0, ping())).toHaveLength(1);
    const apart = new ServiceStage(ALL_ON, { rules: [{ name: "a", access: 10 }] });
    apart.add("a", MAC);
    expect(apart.say(0, ping())).toEqual([]);
  });
});

it("two NICs beside the services flood each other without a limit", () => {
  const made = new ServiceStage(ALL_ON, { storm: { broadcast: 1, multicast: 1, unknown: 1 } });
  made.add("a", MAC);
  const other = made.nics[made.add("b", [2, 0, 0, 0, 0, 8])]!;
  const frame = ping();
  frame.fill(255, 0, 6);
  for (let i = 0; i < 5; i++) made.send(0, frame);
  expect(other.port.got).toHaveLength(5);
  made.add("c", [2, 0, 0, 0, 0, 7]);
  for (let i = 0; i < 5; i++) made.send(0, frame);
  expect(other.port.got.length).toBeLessThan(8);
});

it("three NICs have the storm limit, also when the services have left", () => {
  const made = new ServiceStage(ALL_ON, { storm: { broadcast: 1, multicast: 1, unknown: 1 } });
  made.host.close();
  made.add("a", MAC);
  const other = made.nics[made.add("b", [2, 0, 0, 0, 0, 8])]!;
  made.add("c", [2, 0, 0, 0, 0, 7]);
  const frame = ping();
  frame.fill(255, 0, 6);
  for (let i = 0; i < 5; i++) made.send(0, frame);
  expect(other.port.got).toHaveLength(1);
});

describe("limits", () => {
  /** NICs with a ping each. */
  const pingers = (made: ServiceStage, count: number, data = 8) =>
    Array.from({ length: count }, (_, n) => {
      const mac = [2, 0, 0, 0, 1, n];
      const frame = ping(data);
      frame.set(mac, 6);
      return { nic: made.add(`n${n}`, mac), frame };
    });

  it("one port gets 4000 pings a second, and others still get theirs", () => {
    const made = stage();
    const [other] = pingers(made, 1);
    for (let i = 0; i < 500; i++) made.send(0, ping());
    made.send(other!.nic, other!.frame);
    expect(made.status.queued).toBe(401);
    expect(made.settle(0)).toHaveLength(400);
    expect(made.settle(other!.nic)).toHaveLength(1);
    expect(made.status).toMatchObject({ unanswered: { port_rate: 100 }, answers: { icmp: 401 } });
    made.clock.advance(10);
    for (let i = 0; i < 100; i++) made.send(0, ping());
    expect(made.settle(0)).toHaveLength(40);
  });

  it("of the queue are for what waits, and not for all that ever waited", () => {
    const made = stage();
    // More bytes than the queue may hold, one after the other.
    for (let i = 0; i < 600; i++) {
      made.clock.advance(1);
      expect(made.say(0, ping(9000))).toHaveLength(1);
    }
    expect(made.status).toMatchObject({ queued: 0, answers: { icmp: 600 }, unanswered: {} });
  });

  it("all addresses of a port have its one limit, and each service its own", () => {
    const made = stage();
    for (let i = 0; i < 500; i++) {
      const frame = ping();
      frame.set([2, 1, 0, 0, i >>> 8, i & 255], 6);
      made.send(0, frame);
    }
    expect(made.status).toMatchObject({ queued: 400, unanswered: { port_rate: 100 } });
    expect(made.say(0, routerSolicitation()).map(told)).toContainEqual({
      ...{ to: MAC, type: 134, source: LOCAL6 },
    });
  });

  it("a service answers all ports together up to its limit", () => {
    const made = stage();
    const nics = pingers(made, 5);
    for (let i = 0; i < 400; i++) {
      for (const { nic, frame } of nics) made.send(nic, frame);
      made.settle(0);
    }
    expect(made.status).toMatchObject({ unanswered: { rate: 400 }, answers: { icmp: 1600 } });
  });

  it.each([
    [8, 1024],
    [9000, Math.floor((4 << 20) / 9042)],
  ])(
    "pings of %i bytes of three ports fill the queue, and the switch counts the rest",
    (data, most) => {
      const made = stage();
      for (const { nic, frame } of pingers(made, 3, data)) {
        for (let i = 0; i < 400; i++) made.send(nic, frame);
      }
      expect(most).toBeGreaterThan(400);
      expect(made.status.queued).toBe(most);
      const port = made.segment.snapshot().ports.find(({ kind }) => kind === "services")!;
      expect(port.out.dropped).toEqual({ queue_full: 1200 - most });
      made.settle(0);
      expect(made.status.queued).toBe(0);
    },
  );

  it("on a segment that holds, senders wait, and a slow receiver delays nobody", () => {
    const made = new ServiceStage(ALL_ON, { whenFull: "hold" });
    let woken = 0;
    const nics = pingers(made, 3);
    for (const { plug } of made.nics) plug.onReady = () => woken++;
    for (const { nic, frame } of nics) for (let i = 0; i < 400; i++) made.send(nic, frame);
    expect(made.status.queued).toBe(1024);
    for (const { port } of made.nics) port.room = false;
    made.settle(0);
    // The last NIC has frames that were held for the queue.
    expect(woken).toBe(1);
    expect(made.status).toMatchObject({ queued: 0, unanswered: { held: 1024 } });
  });

  it("a super-frame of more segments than the queue holds is not held for ever", () => {
    const { host } = stage();
    expect([host.ready(60, 1024), host.ready(60, 1025), host.ready(9000, 1000)]).toEqual([
      ...[true, true, true],
    ]);
  });

  it("a rate counts by time; more than 2048 ports share one limit", () => {
    const rate = new TokenBucket(10, 100);
    const taken = (now: number) =>
      Array.from({ length: 20 }, () => rate.take(1, now)).filter(Boolean);
    expect(taken(0)).toHaveLength(10);
    expect(taken(50)).toHaveLength(5);
    expect(rate.isFull(50)).toBe(false);
    expect(rate.isFull(200)).toBe(true);
    const rates = new ServiceRates(1_000_000);
    const few = new ServiceRates(40);
    for (let i = 0; i < 2048; i++) expect(rates.take(`p${i}`, 0)).toBe(Limit.NONE);
    for (let i = 0; i < 25_000; i++) rates.take(`q${i}`, 0);
    expect(rates.take("one more", 0)).toBe(Limit.PORT);
    expect(rates.take("one more", 500)).toBe(Limit.NONE);
    expect([few.take("a", 0), few.take("a", 0), few.take("b", 0)]).toEqual([
      ...[Limit.NONE, Limit.PORT, Limit.NONE],
    ]);
    for (const port of "cdef") few.take(port, 0);
    expect(few.take("g", 0)).toBe(Limit.SERVICE);
  });

  it("after close nothing is answered, and no timer runs", () => {
    const made = stage();
    made.send(0, ping());
    made.host.close();
    made.host.close();
    expect(made.settle(0)).toEqual([]);
    made.clock.tick();
    expect(made.settle(0)).toEqual([]);
    expect(made.segment.hasPort("services")).toBe(false);
  });
});

describe("IPv6 addresses of NICs", () => {
  const address = (n: number) => [...OWN6.slice(0, 15), n];
  it("are known from discovery, for NICs and within the prefix only", () => {
    const made = stage();
    made.add("up0");
    const announce = (nic: number, mac: readonly number[], target: readonly number[]) =>
      made.say(
        nic,
        solicitation(target, { mac, source: UNSPECIFIED, to: [0x33, 0x33, 255, 0, 0, 1] }),
      );
    for (let n = 2; n < 9; n++) announce(0, MAC, address(n));
    announce(0, MAC, [0x20, 1, ...OWN6.slice(2)]);
    announce(0, MAC, OWN6);
    announce(1, [2, 0, 0, 0, 0, 77], address(50));
    made.say(0, solicitation(LOCAL6, { source: address(8) }));
    made.say(0, icmp6({ type: 136, body: [0, 0, 0, 0, ...address(7)], to: ALL_NODES_MAC }));
    const query = Buffer.from(
      "000900000001000000000000016103 6c6162 00001c0001".replaceAll(" ", ""),
      "hex",
    );
    const { bytes } = buildPacket({
      ...{ source: MAC, destination: SERVER_MAC, addresses: [10, 0, 0, 9, 10, 0, 0, 1] },
      ...{ protocol: 17, payload: query, destinationPort: 53 },
    });
    const [answer] = made.say(0, bytes);
    const dns = Buffer.from(answer!.subarray(42));
    expect(dns.readUInt16BE(6)).toBe(4);
    const text = dns.toString("hex");
    for (const n of [7, 8, 6, 5]) expect(text).toContain(Buffer.from(address(n)).toString("hex"));
  });
});

describe("the table of IPv6 addresses", () => {
  const address = (n: number) => Uint8Array.of(0xfd, ...new Array<number>(13).fill(0), n >> 8, n);

  it("has the addresses of 1024 NICs, and forgets the one that was silent longest", () => {
    const table = new Neighbours();
    for (let mac = 0; mac < 1024; mac++) table.learn(mac, address(mac));
    table.learn(0, address(5000));
    table.learn(2000, address(2000));
    expect(table.of(0)).toHaveLength(2);
    expect(table.of(1)).toEqual([]);
    expect(table.ownerOf(address(1))).toBeUndefined();
    expect([table.ownerOf(address(2)), table.ownerOf(address(2000))]).toEqual([2, 2000]);
  });

  it("leads to the NIC that used an address last, also when the other one goes on", () => {
    const table = new Neighbours();
    table.learn(1, address(7));
    table.learn(2, address(7));
    expect(table.ownerOf(address(7))).toBe(2);
    for (let n = 10; n < 14; n++) table.learn(1, address(n));
    expect(table.of(1)).toHaveLength(4);
    expect(table.ownerOf(address(7))).toBe(2);
    table.learn(3, address(7));
    table.learn(2, address(7));
    expect(table.ownerOf(address(7))).toBe(2);
  });
});
