/** The DHCP server: RFC 2131, table by table. */
import { describe, expect, it } from "vitest";
import { MAX_POOL, type ServiceOptions } from "../../device/services/options.ts";
import { datagram, dhcpMessage, ServiceStage } from "../support/service-stage.ts";

const DISCOVER = 1;
const OFFER = 2;
const REQUEST = 3;
const DECLINE = 4;
const ACK = 5;
const NAK = 6;
const RELEASE = 7;
const INFORM = 8;
const SERVER = [10, 0, 0, 1];
const NOWHERE = [0, 0, 0, 0];
const ALL = [255, 255, 255, 255];
const BROADCAST_MAC = [255, 255, 255, 255, 255, 255];

type Dhcp = Exclude<ServiceOptions["dhcp"], boolean | undefined>;
const macOf = (n: number): number[] => [2, 0, 0, 0, n >>> 8, n & 255];
const ip = (text: string): number[] => text.split(".").map(Number);

interface Reply {
  readonly type: number;
  readonly address: string;
  readonly toMac: readonly number[];
  readonly to: string;
  readonly options: ReadonlyMap<number, readonly number[]>;
}

function parse(frame: Uint8Array): Reply {
  const message = frame.subarray(42);
  const options = new Map<number, number[]>();
  for (let at = 240; message[at] !== 255; at += 2 + message[at + 1]!) {
    options.set(message[at]!, [...message.subarray(at + 2, at + 2 + message[at + 1]!)]);
  }
  return {
    type: options.get(53)![0]!,
    address: message.subarray(16, 20).join("."),
    toMac: [...frame.subarray(0, 6)],
    to: frame.subarray(30, 34).join("."),
    options,
  };
}

class Client {
  readonly stage: ServiceStage;
  readonly mac: readonly number[];
  readonly nic: number;

  constructor(stage: ServiceStage, nic: number, mac: readonly number[]) {
    this.stage = stage;
    this.nic = nic;
    this.mac = mac;
  }

  say(...args: [number, Record<number, number[]>?, { ciaddr?: number[]; flags?: number }?]) {
    return this.from(this.mac, dhcpMessage(this.mac, ...args));
  }

  /** Sends a message in a frame with the source address `mac`. */
  from(mac: readonly number[], message: Uint8Array): Reply | undefined {
    const to = { mac: BROADCAST_MAC, ip: ALL, port: 67 };
    const [frame] = this.stage.say(this.nic, datagram({ mac, ip: NOWHERE }, to, message));
    return frame === undefined ? undefined : parse(frame);
  }

  /** Gets a lease, and returns its address. */
  join(): string {
    const offer = this.say(DISCOVER)!;
    return this.say(REQUEST, { 50: ip(offer.address), 54: SERVER })!.address;
  }
}

function stageWith(dhcp: Dhcp = {}, more: Partial<ServiceOptions> = {}) {
  const stage = new ServiceStage({ address: "10.0.0.1/24", dhcp, ...more });
  const client = (n: number, name = `nic${n}`) =>
    new Client(stage, stage.add(name, macOf(n)), macOf(n));
  return { stage, client, a: client(1), b: client(2) };
}

describe("a lease", () => {
  it("is offered, bound, and told with the network's parameters", () => {
    const { a, stage } = stageWith({ lease: 100 }, { dns: { domain: "x.lab" } });
    const offer = a.say(DISCOVER)!;
    expect(offer).toMatchObject({ type: OFFER, toMac: macOf(1), to: offer.address });
    expect(stage.status.dhcp).toMatchObject({ offers: 1, leases: 0 });
    const ack = a.say(REQUEST, { 50: ip(offer.address), 54: SERVER })!;
    expect(ack).toMatchObject({ type: ACK, address: offer.address });
    expect(Object.fromEntries(ack.options)).toMatchObject({
      1: [255, 255, 255, 0],
      6: SERVER,
      15: [..."x.lab"].map((letter) => letter.charCodeAt(0)),
      28: [10, 0, 0, 255],
      51: [0, 0, 0, 100],
      54: SERVER,
      58: [0, 0, 0, 50],
      59: [0, 0, 0, 87],
    });
    expect(ack.options.has(3)).toBe(false);
    expect(stage.status.dhcp).toMatchObject({ offers: 0, leases: 1 });
  });

  it("is one address for one client, and of the pool", () => {
    const { client } = stageWith({ from: "10.0.0.20", to: "10.0.0.39" });
    const addresses = Array.from({ length: 20 }, (_, i) => client(i + 10).join());
    expect(new Set(addresses).size).toBe(20);
    for (const address of addresses) expect(address).toMatch(/^10\.0\.0\.[23]\d$/);
  });

  it("is the same one after a restart of the device", () => {
    expect(stageWith().a.join()).toBe(stageWith().a.join());
  });

  it("is the same one for a client that asks again", () => {
    const { a, stage } = stageWith();
    const address = a.join();
    expect(a.say(DISCOVER)).toMatchObject({ type: OFFER, address });
    expect(stage.status.dhcp).toMatchObject({ leases: 1, offers: 0 });
  });

  it("is the address that the client wants, if it is free", () => {
    const { a, b } = stageWith();
    expect(a.say(DISCOVER, { 50: ip("10.0.0.200") })!.address).toBe("10.0.0.200");
    expect(b.say(DISCOVER, { 50: ip("10.0.0.200") })!.address).not.toBe("10.0.0.200");
    expect(b.say(DISCOVER, { 50: ip("10.0.0.2") })!.address).not.toBe("10.0.0.2");
  });

  it("is renewed, and ends when it is not", () => {
    const { a, stage } = stageWith({ lease: 100 });
    const address = a.join();
    stage.clock.advance(90_000);
    // RENEWING, 4.3.2: ciaddr alone. The answer goes to that address.
    const renewed = a.say(REQUEST, {}, { ciaddr: ip(address) })!;
    expect(renewed).toMatchObject({ type: ACK, address, to: address });
    stage.clock.advance(99_000);
    expect(stage.status.dhcp).toMatchObject({ leases: 1 });
    stage.clock.advance(2_000);
    expect(stage.status.dhcp).toMatchObject({ leases: 0, list: [] });
  });

  it("is given again to a client that the device does not remember", () => {
    const { a, b } = stageWith();
    const address = "10.0.0.177";
    expect(a.say(REQUEST, {}, { ciaddr: ip(address) })).toMatchObject({ type: ACK, address });
    expect(b.say(REQUEST, { 50: ip(address) })).toMatchObject({ type: NAK, to: "255.255.255.255" });
  });

  it("is not given outside of the network or the pool", () => {
    const { a } = stageWith();
    for (const address of [
      "192.0.2.7",
      "10.0.0.0",
      "10.0.0.1",
      "10.0.0.255",
      "10.0.0.5",
      "0.0.0.0",
    ]) {
      const nak = a.say(REQUEST, { 50: ip(address) })!;
      expect(nak, address).toMatchObject({ type: NAK, address: "0.0.0.0", toMac: macOf(1) });
    }
  });

  it("is free again when the client releases it, and nobody else can", () => {
    const { a, b, stage } = stageWith();
    const address = a.join();
    expect(b.say(RELEASE, {}, { ciaddr: ip(address) })).toBeUndefined();
    expect(stage.status.dhcp).toMatchObject({ leases: 1 });
    const own = b.join();
    b.say(RELEASE, {}, { ciaddr: ip(address) });
    expect(stage.status.dhcp).toMatchObject({ leases: 2 });
    b.say(RELEASE, {}, { ciaddr: ip(own) });
    expect(a.say(RELEASE, {}, { ciaddr: ip(address) })).toBeUndefined();
    expect(stage.status.dhcp).toMatchObject({ leases: 0 });
    expect(b.say(REQUEST, { 50: ip(address) })).toMatchObject({ type: ACK });
  });

  it("is set aside for ten minutes when the client declines it", () => {
    const { a, b, stage } = stageWith();
    const address = a.join();
    b.say(DECLINE, { 50: ip(address), 54: SERVER });
    expect(stage.status.dhcp).toMatchObject({ declined: 0 });
    a.say(DECLINE, { 50: ip(address), 54: SERVER });
    expect(stage.status.dhcp).toMatchObject({ leases: 0, declined: 1 });
    // Also for the client itself, before it has another address.
    expect(a.say(REQUEST, { 50: ip(address) })).toMatchObject({ type: NAK });
    expect(a.join()).not.toBe(address);
    expect(b.say(REQUEST, { 50: ip(address) })).toMatchObject({ type: NAK });
    stage.clock.advance(601_000);
    expect(b.say(REQUEST, { 50: ip(address) })).toMatchObject({ type: ACK });
  });

  it("is free again when the client chose another server, or forgot the offer", () => {
    const { a, stage } = stageWith();
    const offer = a.say(DISCOVER)!;
    expect(a.say(REQUEST, { 50: ip(offer.address), 54: [10, 0, 0, 9] })).toBeUndefined();
    expect(stage.status.dhcp).toMatchObject({ offers: 0 });
    expect(stage.status.unanswered).toEqual({ other_server: 1 });
    a.say(DISCOVER);
    stage.clock.advance(31_000);
    expect(stage.status.dhcp).toMatchObject({ offers: 0 });
    // A lease that the client has used stays its own until it ends.
    a.join();
    a.say(REQUEST, { 50: [10, 0, 0, 77], 54: [10, 0, 0, 9] });
    expect(stage.status.dhcp).toMatchObject({ leases: 1 });
  });
});

describe("a reservation", () => {
  const reserve = { nic1: "10.0.0.9", "web.2": "10.0.0.200" };

  it("belongs to the NIC with its name, and to nobody else", () => {
    const { a, b, client } = stageWith({ reserve });
    expect(a.join()).toBe("10.0.0.9");
    expect(b.say(REQUEST, { 50: ip("10.0.0.9") })).toMatchObject({ type: NAK });
    expect(b.say(REQUEST, { 50: ip("10.0.0.200") })).toMatchObject({ type: NAK });
    expect(client(7, "web.2").join()).toBe("10.0.0.200");
  });

  it("replaces another address that the NIC asks for", () => {
    const { a } = stageWith({ reserve });
    expect(a.say(DISCOVER, { 50: ip("10.0.0.201") })!.address).toBe("10.0.0.9");
    expect(a.say(REQUEST, {}, { ciaddr: ip("10.0.0.201") })).toMatchObject({ type: NAK });
  });

  it("is nobody's for ten minutes when its NIC declines it", () => {
    const { a, stage } = stageWith({ reserve });
    expect(a.join()).toBe("10.0.0.9");
    a.say(DECLINE, { 50: ip("10.0.0.9"), 54: SERVER });
    expect(a.say(DISCOVER)).toBeUndefined();
    expect(a.say(REQUEST, { 50: ip("10.0.0.9") })).toMatchObject({ type: NAK });
    stage.clock.advance(601_000);
    expect(a.join()).toBe("10.0.0.9");
  });

  it("goes with the name when the NIC has another MAC", () => {
    const { a, stage, client } = stageWith({ reserve });
    a.join();
    stage.nics.splice(a.nic, 1, { ...stage.nics[a.nic]!, name: "other" });
    expect(client(8, "nic1").join()).toBe("10.0.0.9");
    expect(stage.status.dhcp).toMatchObject({ leases: 1 });
  });
});

describe("a message", () => {
  it("gets the name of its NIC only if it asks, and if a host may have it", () => {
    const { a, client } = stageWith();
    expect(a.say(DISCOVER, { 55: [1, 12] })!.options.get(12)).toEqual([...Buffer.from("nic1")]);
    expect(a.say(DISCOVER, { 55: [1] })!.options.has(12)).toBe(false);
    expect(
      client(5, "a_b")
        .say(DISCOVER, { 55: [12] })!
        .options.has(12),
    ).toBe(false);
  });

  it("that asks for parameters alone gets no lease", () => {
    const { a, stage } = stageWith();
    const ack = a.say(INFORM, {}, { ciaddr: ip("10.0.0.7") })!;
    expect(ack).toMatchObject({ type: ACK, address: "0.0.0.0", to: "10.0.0.7" });
    expect(ack.options.has(51)).toBe(false);
    expect(ack.options.get(1)).toEqual([255, 255, 255, 0]);
    expect(a.say(INFORM, {}, { ciaddr: ip("192.0.2.7") })).toBeUndefined();
    expect(stage.status.dhcp).toMatchObject({ leases: 0 });
  });

  it("gets its client identifier back, and a broadcast where it wants one", () => {
    const { a } = stageWith();
    const offer = a.say(DISCOVER, { 61: [1, 2, 3] }, { flags: 0x8000 })!;
    expect(offer.options.get(61)).toEqual([1, 2, 3]);
    // The Ethernet frame goes to the client alone.
    expect(offer).toMatchObject({ to: "255.255.255.255", toMac: macOf(1) });
  });

  it.each([
    ["malformed", "a length beyond the message", { 50: [1, 2, 3, 4, 5] }],
    ["malformed", "a server of three bytes", { 54: [1, 2, 3] }],
    ["unsupported", "an offer", { 53: [OFFER] }],
    ["malformed", "a type of two bytes", { 53: [1, 1] }],
  ])("is not answered: %s, %s", (reason, _, options) => {
    const { a, stage } = stageWith();
    expect(a.say(DISCOVER, options)).toBeUndefined();
    expect(stage.status.unanswered).toEqual({ [reason]: 1 });
  });

  it("of a relay, or for another address than the sender's, is not answered", () => {
    const { a, stage } = stageWith();
    const relayed = dhcpMessage(macOf(1), DISCOVER);
    relayed.set([10, 0, 0, 7], 24);
    expect(a.from(macOf(1), relayed)).toBeUndefined();
    expect(a.from(macOf(1), dhcpMessage(macOf(9), DISCOVER))).toBeUndefined();
    expect(stage.status.unanswered).toEqual({ relayed: 1, not_sender: 1 });
  });
});

describe("a port", () => {
  it("with many addresses gets a quarter of the pool; an uplink gets all", () => {
    const { stage } = stageWith({ from: "10.0.0.20", to: "10.0.0.39" });
    const rogue = stage.add("rogue", macOf(99));
    const joined = (nic: number, from: number) =>
      Array.from({ length: 30 }, (_, i) => new Client(stage, nic, macOf(from + i)))
        .map((client) => {
          stage.clock.advance(10);
          return client.say(DISCOVER)?.type;
        })
        .filter((type) => type === OFFER).length;
    expect(joined(rogue, 1000)).toBe(5);
    expect(stage.status.unanswered).toEqual({ port_share: 25 });
    expect(joined(stage.add("up0"), 2000)).toBe(15);
    expect(stage.status.unanswered).toEqual({ port_share: 25, pool_empty: 15 });
    expect(stage.status.dhcp).toMatchObject({ offers: 20 });
  });

  it("has no more than that by asking for addresses without an offer", () => {
    const { a, stage } = stageWith({ from: "10.0.0.20", to: "10.0.0.39" });
    const rogue = stage.add("rogue", macOf(99));
    const answers = Array.from({ length: 20 }, (_, i) =>
      new Client(stage, rogue, macOf(1000 + i)).say(REQUEST, { 50: [10, 0, 0, 20 + i] }),
    );
    expect(answers.map((answer) => answer?.type)).toEqual([
      ...new Array<number>(5).fill(ACK),
      ...new Array<number>(15).fill(NAK),
    ]);
    // A lease that it has may be renewed.
    stage.clock.advance(100);
    const first = new Client(stage, rogue, macOf(1000));
    expect(first.say(REQUEST, {}, { ciaddr: [10, 0, 0, 20] })).toMatchObject({ type: ACK });
    expect(a.join()).toMatch(/^10\.0\.0\./);
  });

  it("has its share again when leases end, by time or by release", () => {
    const { stage } = stageWith({ from: "10.0.0.20", to: "10.0.0.39", lease: 60 });
    const nic = stage.add("many", macOf(99));
    let next = 1000;
    const clients = () => Array.from({ length: 5 }, () => new Client(stage, nic, macOf(next++)));
    const isFull = () => {
      stage.clock.advance(100);
      return new Client(stage, nic, macOf(next++)).say(DISCOVER) === undefined;
    };
    for (const client of clients()) client.say(DISCOVER);
    expect(isFull()).toBe(true);
    stage.clock.advance(31_000);
    for (let round = 0; round < 3; round++) {
      const joined = clients().map((client) => ({ client, address: client.join() }));
      expect(isFull()).toBe(true);
      for (const { client, address } of joined) client.say(RELEASE, {}, { ciaddr: ip(address) });
      stage.clock.advance(1000);
    }
    const [client] = clients();
    const address = client!.join();
    client!.say(DECLINE, { 50: ip(address) });
    for (const other of clients().slice(1)) expect(other.say(DISCOVER)).toBeDefined();
    expect(isFull()).toBe(true);
    stage.clock.advance(601_000);
    expect(isFull()).toBe(false);
    expect(stage.status.dhcp).toMatchObject({ leases: 0, offers: 1, declined: 0 });
  });

  it("of an uplink finds the whole pool free again when its leases have ended", () => {
    const { stage } = stageWith({ from: "10.0.0.20", to: "10.0.0.23", lease: 60 });
    const up = stage.add("up0");
    for (let round = 0; round < 4; round++) {
      const of = (n: number) => new Client(stage, up, macOf(2000 + 10 * round + n));
      const joined = [0, 1, 2, 3].map((n) => of(n).join());
      expect(new Set(joined).size).toBe(4);
      expect(of(4).say(DISCOVER)).toBeUndefined();
      stage.clock.advance(61_000);
    }
  });

  it("can't lose its own lease by another one's floods", () => {
    const { a, stage } = stageWith({ from: "10.0.0.20", to: "10.0.0.23" });
    const address = a.join();
    const up = stage.add("up0");
    for (let i = 0; i < 50; i++) new Client(stage, up, macOf(3000 + i)).say(DISCOVER);
    expect(a.say(REQUEST, {}, { ciaddr: ip(address) })).toMatchObject({ type: ACK, address });
  });
});

it("lists at most 256 leases in its status", () => {
  const { stage } = stageWith({ from: "10.0.0.2", to: "10.0.7.250" }, { address: "10.0.0.1/21" });
  const up = stage.add("up0");
  for (let i = 0; i < 300; i++) {
    new Client(stage, up, macOf(i + 500)).say(DISCOVER);
    stage.clock.advance(10);
  }
  expect(MAX_POOL).toBeGreaterThan(300);
  expect(stage.status.dhcp).toMatchObject({ offers: 300 });
  expect(stage.status.dhcp!.list).toHaveLength(256);
});
