import { describe, expect, it } from "vitest";
import { tableKey } from "../../device/switch/mac-table.ts";
import type { SwitchPort } from "../../device/switch/port.ts";
import type { PortRule } from "../../device/switch/port-options.ts";
import { Switch } from "../../device/switch/switch.ts";
import { type Frame, Gso } from "../../shared/net/frame.ts";
import { buildPacket, frameOf, plainSum, pseudoHeader } from "../support/packets.ts";
import { TestPort } from "../support/switch-port.ts";

const A = [2, 0, 0, 0, 0, 0xa];
const B = [2, 0, 0, 0, 0, 0xb];
const BROADCAST = [255, 255, 255, 255, 255, 255];
const TAG = 0x8100;
const SERVICE_TAG = 0x88a8;

const words = (...values: number[]): number[] => values.flatMap((v) => [v >>> 8, v & 255]);

/** A frame of 64 bytes: addresses, words behind them, then a payload of 0x55. */
function bytesWith(to: number[], from: number[], ...behind: number[]): Uint8Array {
  const bytes = new Uint8Array(64).fill(0x55);
  bytes.set([...to, ...from, ...words(...behind)]);
  return bytes;
}

const RULES: readonly PortRule[] = [
  { name: "ten*", access: 10 },
  { name: "twenty", access: 20 },
  { name: "trunk", trunk: [10, 20] },
  { name: "native", trunk: [10, 20], native: 1 },
  { name: "all", trunk: "all" },
];
const NAMES = ["ten", "ten-b", "twenty", "plain", "trunk", "native", "all"] as const;
type Name = (typeof NAMES)[number];

function net(whenFull: "drop" | "hold" = "drop") {
  const segment = new Switch({ name: "s", now: () => 0, rules: RULES, whenFull });
  const ports = new Map<string, TestPort>();
  const handles = new Map<string, SwitchPort>();
  for (const name of NAMES) {
    const port = new TestPort(name);
    ports.set(name, port);
    handles.set(name, segment.attach(port));
  }
  return {
    segment,
    port: (name: Name) => ports.get(name)!,
    input: (name: Name, frame: Frame) => handles.get(name)!.input(frame),
    send: (name: Name, bytes: Uint8Array, cuts: number[] = [13, 2, 2]) =>
      handles.get(name)!.input(frameOf(bytes, cuts)),
    drops: (name: Name) => segment.snapshot().ports.find((p) => p.name === name)!.in.dropped,
    /** The words behind the addresses of the frames that each port received. */
    received: () =>
      Object.fromEntries(
        [...ports]
          .map(([name, { got }]) => [name, got.map(({ bytes }) => typesOf(bytes))] as const)
          .filter(([, frames]) => frames.length > 0),
      ),
  };
}
const typesOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex", 12, 20);

describe("VLANs", () => {
  it.each<[string, Name, number[], Record<string, string[]>]>([
    [
      "access: no tag, and each trunk gets one",
      "ten",
      [0x88b5],
      {
        "ten-b": ["88b5555555555555"],
        trunk: ["8100000a88b55555"],
        native: ["8100000a88b55555"],
        all: ["8100000a88b55555"],
      },
    ],
    [
      "a port without a rule is in VLAN 1",
      "plain",
      [0x88b5],
      { native: ["88b5555555555555"], all: ["8100000188b55555"] },
    ],
    [
      "a trunk's tag chooses the VLAN, and its priority stays",
      "trunk",
      [TAG, 0x6014, 0x88b5],
      {
        twenty: ["88b5555555555555"],
        native: ["8100601488b55555"],
        all: ["8100601488b55555"],
      },
    ],
    [
      "the native VLAN has no tag",
      "native",
      [0x88b5],
      { plain: ["88b5555555555555"], all: ["8100000188b55555"] },
    ],
    [
      "a tag with a priority only is no VLAN",
      "ten",
      [TAG, 0xe000, 0x88b5],
      {
        "ten-b": ["88b5555555555555"],
        trunk: ["8100e00a88b55555"],
        native: ["8100e00a88b55555"],
        all: ["8100e00a88b55555"],
      },
    ],
    [
      "a tag of a service provider is data",
      "twenty",
      [SERVICE_TAG, 0x0005, 0x88b5],
      {
        trunk: ["8100001488a80005"],
        native: ["8100001488a80005"],
        all: ["8100001488a80005"],
      },
    ],
  ])("%s", (_, from, behind, wanted) => {
    const n = net();
    n.send(from, bytesWith(BROADCAST, A, ...behind));
    expect(n.received()).toEqual(wanted);
    expect(n.drops(from)).toEqual({});
  });

  it.each<[string, Name, number[]]>([
    ["a tag from an access port", "ten", [TAG, 20, 0x88b5]],
    ["its own tag from an access port", "ten", [TAG, 10, 0x88b5]],
    ["a second tag behind the native one", "native", [TAG, 1, TAG, 20, 0x88b5]],
    ["a second tag behind a priority", "ten", [TAG, 0, TAG, 20, 0x88b5]],
    ["a VLAN that the trunk does not have", "trunk", [TAG, 30, 0x88b5]],
    ["no tag from a trunk without a native VLAN", "trunk", [0x88b5]],
    ["a priority only from such a trunk", "trunk", [TAG, 0x2000, 0x88b5]],
  ])("drop %s", (_, from, behind) => {
    const n = net();
    n.send(from, bytesWith(BROADCAST, A, ...behind));
    expect(n.received()).toEqual({});
    expect(n.drops(from)).toEqual({ vlan_denied: 1 });
  });

  it("drop a frame that ends inside its tag", () => {
    const n = net();
    for (const length of [14, 15, 16, 17]) {
      n.send("native", bytesWith(BROADCAST, A, TAG, 10, 0x88b5).subarray(0, length));
    }
    expect(n.received()).toEqual({});
    expect(n.drops("native")).toEqual({ vlan_denied: 4 });
  });

  it("keep an address apart in each", () => {
    const n = net();
    // One host has the address in VLAN 10, and another one in VLAN 20.
    n.send("ten", bytesWith(BROADCAST, A, 0x88b5));
    n.send("twenty", bytesWith(BROADCAST, A, 0x88b5));
    const before = n.port("all").got.length;
    n.send("trunk", bytesWith(A, B, TAG, 10, 0x88b5));
    n.send("trunk", bytesWith(A, B, TAG, 20, 0x88b5));
    expect(n.port("ten").got).toHaveLength(1);
    expect(n.port("twenty").got).toHaveLength(1);
    // Both addresses were known, so nothing was flooded.
    expect(n.port("all").got).toHaveLength(before);
    const { keys, entry } = n.segment.addresses();
    const table = [...keys].map((key) => [
      entry(key)!.mac.slice(-2),
      entry(key)!.vlan,
      entry(key)!.port,
    ]);
    expect(table).toEqual([
      ["0a", 10, "ten"],
      ["0a", 20, "twenty"],
      ["0b", 10, "trunk"],
      ["0b", 20, "trunk"],
    ]);
    expect(keys[0]).toBe(tableKey(0x0200_0000_000a, 10));
  });

  it("do not reach a NIC of another VLAN by its pinned address", () => {
    const n = net();
    const nic = new TestPort("ten-nic");
    const handle = n.segment.attach(nic, Uint8Array.from(A));
    n.send("twenty", bytesWith(A, B, 0x88b5));
    expect(nic.got).toHaveLength(0);
    n.send("ten", bytesWith(A, B, 0x88b5));
    expect(nic.got).toHaveLength(1);
    // Its address belongs to the NIC in every VLAN.
    n.send("twenty", bytesWith(BROADCAST, A, 0x88b5));
    expect(n.drops("twenty")).toEqual({ mac_spoof: 1 });
    handle.input(frameOf(bytesWith(B, A, 0x88b5)));
    expect(n.port("ten").got).toHaveLength(1);
  });

  it("give a frame with a tag its checksum, and cut a super-frame for it", () => {
    const n = net();
    const payload = Uint8Array.from({ length: 3000 }, (_, i) => i);
    const built = buildPacket({ payload, checksum: "partial", destination: BROADCAST, source: A });
    const frame = frameOf(built.bytes, [20, 40]);
    frame.needsCsum = true;
    frame.csumStart = built.l4;
    frame.csumOffset = 16;
    frame.gso = Gso.TCPV4;
    frame.gsoSize = 1000;
    frame.headerLength = built.payload;
    n.input("ten", frame);
    expect(n.port("ten-b").got.map(({ gso, bytes }) => [gso, bytes.length])).toEqual([
      [Gso.TCPV4, built.bytes.length],
    ]);
    const { got } = n.port("trunk");
    expect(got).toHaveLength(3);
    for (const [i, { bytes, gso, needsCsum }] of got.entries()) {
      expect([gso, needsCsum, typesOf(bytes).slice(0, 12)]).toEqual([
        Gso.NONE,
        false,
        "8100000a0800",
      ]);
      expect(bytes.length).toBe(built.payload + 4 + 1000);
      const pseudo = pseudoHeader(bytes, built.l3 + 4, built.l4 + 4, 6);
      expect(plainSum(pseudo, bytes.subarray(built.l4 + 4))).toBe(0xffff);
      expect(bytes.subarray(built.payload + 4)).toEqual(
        payload.subarray(i * 1000, i * 1000 + 1000),
      );
    }
  });

  it("move the facts of a super-frame with the tag that is removed", () => {
    const n = net();
    const payload = new Uint8Array(2000).fill(7);
    const tags = [[TAG, 10]] as const;
    const built = buildPacket({
      payload,
      tags,
      checksum: "partial",
      destination: BROADCAST,
      source: A,
    });
    const frame = frameOf(built.bytes);
    frame.needsCsum = true;
    frame.csumStart = built.l4;
    frame.csumOffset = 16;
    frame.gso = Gso.TCPV4;
    frame.gsoSize = 1000;
    frame.headerLength = built.payload;
    n.input("trunk", frame);
    const [at] = n.port("ten").got;
    expect(at).toMatchObject({
      needsCsum: true,
      csumStart: built.l4 - 4,
      headerLength: built.payload - 4,
      gso: Gso.TCPV4,
    });
    expect(at!.bytes.subarray(12)).toEqual(built.bytes.subarray(16));
    expect(n.port("native").got).toHaveLength(2);
  });

  it("ask a full trunk for room for the frame with its tag", () => {
    const n = net("hold");
    n.send("trunk", bytesWith(BROADCAST, B, TAG, 10, 0x88b5));
    n.port("trunk").room = false;
    n.send("ten", bytesWith(B, A, 0x88b5));
    expect(n.port("trunk").asked).toEqual([[68, 1]]);
    expect(n.port("trunk").got).toHaveLength(0);
  });

  it("count the tag against the longest frame of a trunk", () => {
    const n = net();
    const long = new Uint8Array(1514).fill(1);
    long.set(bytesWith(BROADCAST, A, 0x88b5).subarray(0, 14));
    n.send("ten", long);
    // TestPort accepts 1514 bytes.
    expect(n.port("ten-b").got).toHaveLength(1);
    expect(n.port("trunk").got).toHaveLength(0);
  });

  it("leave tags alone in a segment without any", () => {
    const segment = new Switch({ name: "s", now: () => 0 });
    const ports = ["a", "b"].map((name) => new TestPort(name));
    const [a] = ports.map((port) => segment.attach(port));
    a!.input(frameOf(bytesWith(BROADCAST, A, TAG, 10, TAG, 20)));
    expect(typesOf(ports[1]!.got[0]!.bytes)).toBe("8100000a81000014");
  });
});
