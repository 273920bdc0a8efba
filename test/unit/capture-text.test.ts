/** Captured packets as text. */
import { describe, expect, it } from "vitest";
import { frameText } from "../../cli/capture/frame-text.ts";
import { PacketText } from "../../cli/capture/text.ts";
import type { CapturedPacket } from "../../shared/pcapng/packet.ts";
import { buildPacket } from "../support/packets.ts";

const MACS = "02:00:00:00:00:02 > 02:00:00:00:00:01";
const ether = (type: string, rest: string): Uint8Array =>
  Buffer.from(`020000000001020000000002${type}${rest.replaceAll(" ", "")}`, "hex");

describe("frameText", () => {
  it.each([
    [
      "ARP request",
      ether("0806", "0001 0800 06 04 0001 020000000002 0a000001 000000000000 0a000002"),
      "ARP who has 10.0.0.2 tell 10.0.0.1",
    ],
    [
      "ARP reply behind two tags",
      ether(
        "88a8",
        "0005 8100 2006 0806 0001 0800 06 04 0002 020000000009 0a000001 020000000002 0a000002",
      ),
      "VLAN 5 VLAN 6 ARP 10.0.0.1 is at 02:00:00:00:00:09",
    ],
    [
      "ICMP echo",
      ether("0800", "45000054 00010000 40010000 0a000001 0a000002 0800 0000 1234 0007"),
      "IPv4 10.0.0.1 > 10.0.0.2 ICMP echo request id 4660 seq 7",
    ],
    [
      "a fragment",
      ether("0800", "45000054 00092003 40110000 0a000001 0a000002 0800"),
      "IPv4 10.0.0.1 > 10.0.0.2 fragment of protocol 17 id 9",
    ],
    [
      "neighbour solicitation",
      ether(
        "86dd",
        "60000000 0018 3a ff fe80 0000 0000 0000 0000 0000 0000 0001 ff02 0000 0000 0000 0000 0001 ff00 0002 8700 0000",
      ),
      "IPv6 fe80::1 > ff02::1:ff00:2 ICMPv6 neighbour solicitation",
    ],
    [
      "UDP over IPv6, no run of zeroes",
      ether(
        "86dd",
        "60000000 000a 11 40 2001 0db8 0001 0002 0003 0004 0005 0a00 2001 0db8 0001 0000 0003 0004 0005 0006 0035 1000 000a 0000",
      ),
      "IPv6 2001:db8:1:2:3:4:5:a00 > 2001:db8:1:0:3:4:5:6 UDP 53 > 4096 len 2",
    ],
    ["802.3", ether("0026", "42"), "802.3 length 38"],
    ["another type", ether("88b5", ""), "ethertype 0x88b5"],
    [
      "a cut transport header",
      ether("0800", "45000054 00010000 40060000 0a000001 0a000002 0800"),
      "IPv4 10.0.0.1 > 10.0.0.2 protocol 6 cut",
    ],
    [
      "an IP header whose options are cut",
      ether("0800", "4f000054 00010000 40060000 0a000001 0a000002"),
      "IPv4 10.0.0.1 > 10.0.0.2 protocol 6 cut",
    ],
    ["a cut IP header", ether("0800", "4500"), "cut"],
  ])("%s", (_what, bytes, words) => {
    expect(frameText(bytes)).toBe(`${MACS} ${words}`);
  });

  it("TCP with flags, numbers and length", () => {
    const payload = Buffer.alloc(33);
    const { bytes } = buildPacket({
      flags: 0x18,
      sequence: 7,
      acknowledgement: 9,
      window: 512,
      payload,
    });
    expect(frameText(bytes)).toMatch(
      /^02:00:00:00:00:02 > 02:00:00:00:00:01 IPv4 [\d.]+ > [\d.]+ TCP \d+ > \d+ PSH\+ACK seq 7 ack 9 win 512 len 33$/,
    );
  });

  it("whatever is cut off, a line comes of it", () => {
    for (const v6 of [false, true]) {
      const { bytes } = buildPacket({ v6, tags: [[0x8100, 5]], payload: Buffer.alloc(4) });
      for (let end = 0; end <= bytes.length; end++) {
        expect(frameText(bytes.subarray(0, end))).toMatch(end < 14 ? /no Ethernet header/ : /^02:/);
      }
    }
  });
});

describe("PacketText", () => {
  const packet = (o: Partial<CapturedPacket> & { name?: string } = {}): CapturedPacket => ({
    interface: { index: 0, linkType: 1, snapLength: 0, name: o.name ?? "ena0", options: [] },
    linkType: 1,
    tsNs: 1_000_000_000n,
    capturedLength: 14,
    originalLength: 60,
    bytes: ether("88b5", ""),
    flags: 2,
    queue: 3,
    id: 77n,
    drops: undefined,
    comments: [],
    options: [],
    ...o,
  });

  it("times count from the first packet, ids from 1, whatever the device has", () => {
    const text = new PacketText(true);
    const lines = [
      packet(),
      packet({
        id: 99n,
        tsNs: 1_000_001_999n,
        queue: undefined,
        flags: 1,
        comments: ["dropped: runt"],
      }),
      packet({ tsNs: 3_500_000_000n, name: "switch" }),
    ].flatMap((p) => text.lines(p));
    expect(lines).toEqual([
      `0.000000 ena0     out q3 60 ${MACS} ethertype 0x88b5 #1`,
      `0.000001 ena0     in  - 60 ${MACS} ethertype 0x88b5 #2 [dropped: runt]`,
      `2.500000 switch   out q3 60 ${MACS} ethertype 0x88b5 #1`,
    ]);
    expect(new PacketText(false).lines(packet())).toEqual([lines[0]!.slice(9)]);
  });

  it("says what the capture has lost, and shows no terminal what it would obey", () => {
    const text = new PacketText(false);
    expect(text.lines(packet({ drops: 4n }))).toEqual([
      `ena0     out q3 60 ${MACS} ethertype 0x88b5 #1 [4 before it were not captured]`,
    ]);
    // Names and comments from a hostile device.
    const hostile = packet({ name: "\u001b[2J", comments: ["one\ntwo\u009b31m", "\u2028"] });
    expect(text.lines(hostile)).toEqual([
      `\ufffd[2J     out q3 60 ${MACS} ethertype 0x88b5 #1 [one\ufffdtwo\ufffd31m] [\ufffd]`,
    ]);
  });

  it("--json has the same as an object", () => {
    expect(new PacketText(true).value(packet({ drops: 4n }))).toEqual({
      event: "frame",
      timeNs: "1000000000",
      interface: "ena0",
      direction: "out",
      length: 60,
      captured: 14,
      dropsBefore: 4,
      queue: 3,
      id: 1,
      text: `${MACS} ethertype 0x88b5`,
    });
  });
});
