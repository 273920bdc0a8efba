/**
 * pcapng and pcap, byte for byte.
 *
 * How the hex was made: the blocks under "written" were written by hand from
 * draft-ietf-opsawg-pcapng, sections 4.1 to 4.6, field by field as the comments name them.
 * Wireshark 4.0.17 made the others: text2pcap and editcap -a the interface and the packet of
 * "text2pcap", editcap -F pcap and -F nsecpcap the pcap files. None of our code took part.
 */
import { describe, expect, test } from "vitest";
import { readCapture } from "../../shared/capture/read.ts";
import {
  LinkDirection,
  parseRingPacket,
  RING_PREFIX_BYTES,
  RingPersonality,
  writeRingPrefix,
} from "../../shared/capture/ring-header.ts";
import { BlockBuffer } from "../../shared/pcapng/block-buffer.ts";
import type { CapturedPacket } from "../../shared/pcapng/packet.ts";
import { PcapngReader } from "../../shared/pcapng/reader.ts";
import { PcapngWriter, packetNote, Verdict } from "../../shared/pcapng/writer.ts";

const MAC = Uint8Array.of(2, 0, 0, 1, 2, 3);
const hex = (...parts: string[]): Buffer => Buffer.from(parts.join("").replaceAll(" ", ""), "hex");

const SECTION = hex(
  "0a0d0d0a 44000000 4d3c2b1a 0100 0000 ffffffffffffffff", // type, length, magic, 1.0, no length
  "0200 0600 7838365f3634 0000", // shb_hardware x86_64
  "0300 0700 4c696e75782036 00", // shb_os Linux 6
  "0400 0800 72696e6777697265", // shb_userappl ringwire
  "0000 0000 44000000",
);
const INTERFACE = hex(
  "01000000 5c000000 0100 0000 60000000", // Ethernet, snap length 96
  "0200 0300 766d31 00", // if_name vm1
  "0300 0300 4e4943 00", // if_description NIC
  "0600 0600 020000010203 0000", // if_MACaddr
  "0800 0800 00e40b5402000000", // if_speed 10^10
  "0900 0100 09 000000", // if_tsresol 10^-9
  "0b00 0400 00 756470", // if_filter: text, udp
  "0c00 0500 4c696e7578 000000", // if_os Linux
  "0000 0000 5c000000",
);
const NAMES = hex(
  "04000000 20000000",
  "0300 0a00 020000010203 766d3100 0000", // nrb_record_eui48, vm1
  "0000 0000 20000000",
);
const PACKET = hex(
  "06000000 64000000 00000000 78563412 f0debc9a", // interface 0, time high, time low
  "05000000 ea050000 6869206a6b 000000", // 5 of 1514 bytes
  "0200 0400 01080000", // epb_flags: inbound, segmentation offloaded
  "0600 0400 03000000", // epb_queue 3
  "0500 0800 0700000001000000", // epb_packetid 2^32 + 7
  "0400 0800 0200000000000000", // epb_dropcount 2
  "0700 0200 00 01 0000", // epb_verdict: hardware, dropped
  "0100 0300 616263 00", // opt_comment abc
  "0000 0000 64000000",
);
const STATISTICS = hex(
  "05000000 70000000 00000000 78563412 f1debc9a",
  "0200 0800 78563412 01000000", // isb_starttime: high word first
  "0300 0800 78563412 f1debc9a", // isb_endtime
  "0400 0800 0a00000000000000", // isb_ifrecv 10
  "0500 0800 0200000000000000", // isb_ifdrop 2
  "0600 0800 0900000000000000", // isb_filteraccept 9
  "0700 0800 0000000000000000", // isb_osdrop
  "0800 0800 0700000001000000", // isb_usrdeliv 2^32 + 7
  "0000 0000 70000000",
);

/** The bytes that `write` writes over junk. */
function written(write: (writer: PcapngWriter) => void): string {
  const out = new BlockBuffer(4096);
  out.bytes.fill(0xa5);
  write(new PcapngWriter(out));
  return Buffer.from(out.written()).toString("hex");
}

const section = (writer: PcapngWriter): void =>
  writer.section({ hardware: "x86_64", os: "Linux 6", application: "ringwire" });

describe("written", () => {
  test("section", () => {
    expect(written(section)).toBe(SECTION.toString("hex"));
  });

  test("interface", () => {
    const bytes = written((writer) =>
      writer.interface({
        linkType: 1,
        snapLength: 96,
        name: "vm1",
        description: "NIC",
        mac: MAC,
        speed: 10_000_000_000,
        filter: "udp",
        os: "Linux",
      }),
    );
    expect(bytes).toBe(INTERFACE.toString("hex"));
  });

  test("names", () => {
    const bytes = written((writer) => writer.names([{ mac: MAC, name: "vm1" }]));
    expect(bytes).toBe(NAMES.toString("hex"));
  });

  test("packet", () => {
    const bytes = written((writer) => {
      const at = writer.packet({
        interface: 0,
        timeHigh: 0x12345678,
        timeLow: 0x9abcdef0,
        captured: 5,
        original: 1514,
        flags: 0x801,
        queue: 3,
        id: 2 ** 32 + 7,
        drops: 2,
        note: packetNote(Verdict.DROPPED, "abc"),
      });
      writer.out.bytes.set(Buffer.from("hi jk"), at);
    });
    expect(bytes).toBe(PACKET.toString("hex"));
  });

  test("packet without bytes or any option but its flags", () => {
    const bytes = written((writer) =>
      writer.packet({
        interface: 1,
        timeHigh: 0,
        timeLow: 1,
        captured: 0,
        original: 60,
        flags: 2,
        queue: -1,
        id: 0,
        drops: 0,
        note: undefined,
      }),
    );
    expect(bytes).toBe(
      hex(
        "06000000 2c000000 01000000 00000000 01000000 00000000 3c000000",
        "0200 0400 02000000 0000 0000 2c000000",
      ).toString("hex"),
    );
  });

  test("statistics", () => {
    const counts = { received: 10, dropped: 2, accepted: 9, delivered: 2 ** 32 + 7 };
    const bytes = written((writer) =>
      writer.statistics(0, 0x12345678, 1, 0x12345678, 0x9abcdef1, counts),
    );
    expect(bytes).toBe(STATISTICS.toString("hex"));
  });

  test("a section, an interface and a packet are read back field by field", () => {
    const reader = new PcapngReader();
    reader.feed(Buffer.concat([SECTION, INTERFACE, NAMES, PACKET, STATISTICS]));
    const packet = reader.next();
    expect(packet).toMatchObject({
      linkType: 1,
      tsNs: 0x123456789abcdef0n,
      capturedLength: 5,
      originalLength: 1514,
      flags: 0x801,
      queue: 3,
      id: 2n ** 32n + 7n,
      drops: 2n,
      comments: ["abc"],
    });
    expect(Buffer.from(packet!.bytes).toString()).toBe("hi jk");
    expect(packet!.options.map(({ code }) => code)).toEqual([2, 6, 5, 4, 7, 1]);
    expect(reader.next()).toBeUndefined();
    expect(reader.pending).toBe(0);
    expect(reader.sections).toMatchObject([
      { hardware: "x86_64", os: "Linux 6", application: "ringwire" },
    ]);
    expect(reader.interfaces).toMatchObject([
      { index: 0, linkType: 1, snapLength: 96, name: "vm1", description: "NIC", filter: "udp" },
    ]);
    expect(reader.interfaces[0]!.mac).toEqual(Uint8Array.from(hex("020000010203")));
    expect(reader.names).toEqual([
      { address: Uint8Array.from(hex("020000010203")), names: ["vm1"] },
    ]);
    expect(reader.statistics).toMatchObject([
      {
        tsNs: 0x123456789abcdef1n,
        startNs: 0x1234567800000001n,
        endNs: 0x123456789abcdef1n,
        received: 10n,
        dropped: 2n,
        accepted: 9n,
        osDropped: 0n,
        delivered: 2n ** 32n + 7n,
      },
    ]);
  });
});

describe("read", () => {
  const PLAIN_SECTION = hex("0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000");
  const BIG_SECTION = hex("0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c");
  const FRAME = "ffffffffffff02000001020388b5010203";
  const TIME = 1795351672_000001000n;

  function one(file: Uint8Array): CapturedPacket {
    const packets = [...readCapture(file)];
    expect(packets).toHaveLength(1);
    expect(Buffer.from(packets[0]!.bytes).toString("hex")).toBe(FRAME);
    expect(packets[0]).toMatchObject({ linkType: 1, capturedLength: 17, originalLength: 17 });
    return packets[0]!;
  }

  test("text2pcap: pcapng with a comment", () => {
    const packet = one(
      Buffer.concat([
        PLAIN_SECTION,
        hex("01000000280000000100000000000400020004006574683909000100090000000000000028000000"),
        hex("060000004800000000000000d55eea18e8b376601100000011000000"),
        hex("ffffffffffff02000001020388b50102030000000100090074776f20776f726473000000"),
        hex("0000000048000000"),
      ]),
    );
    expect(packet.tsNs).toBe(TIME);
    expect(packet.interface.name).toBe("eth9");
    expect(packet.comments).toEqual(["two words"]);
  });

  test("editcap: pcap in microseconds and in nanoseconds", () => {
    const micro = "d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000";
    const nano = "4d3cb2a1 0200 0400 00000000 00000000 00000400 01000000";
    expect(one(hex(micro, "78e4026b 01000000 11000000 11000000", FRAME)).tsNs).toBe(TIME);
    expect(one(hex(nano, "78e4026b e8030000 11000000 11000000", FRAME)).tsNs).toBe(TIME);
  });

  test("pcap in the other byte order, the length of a check sequence in its link type", () => {
    const header = "a1b23c4d 0002 0004 00000000 00000000 00040000 24000001";
    const record = "6b02e478 000003e8 00000011 00000011";
    expect(one(hex(header, record, FRAME))).toMatchObject({
      tsNs: TIME,
      interface: { fcsBytes: 4 },
    });
  });

  test("pcapng in the other byte order: clock of 2^-10 s with an offset, obsolete packet, drops", () => {
    const packet = one(
      Buffer.concat([
        BIG_SECTION,
        hex(
          "00000001 0000002c 0001 0000 00000000",
          "0009 0001 8a 000000 000e 0008 ffffffffffffffff 0000 0000 0000002c",
        ),
        hex("00000002 00000034 0000 0009 00000000 00000c00 00000011 00000011", FRAME, "000000"),
        hex("00000034"),
      ]),
    );
    // 0xc00 ticks are 3 s, and the offset subtracts one second.
    expect(packet.tsNs).toBe(2_000_000_000n);
    expect(packet.drops).toBe(9n);
  });

  test("simple packets, unknown blocks, and a second section that numbers its interfaces anew", () => {
    const info = "01000000 14000000 0100 0000 11000000 14000000";
    const simple = `03000000 24000000 11000000 ${FRAME} 000000 24000000`;
    const unknown = "adde0000 10000000 01020304 10000000";
    const little = hex(PLAIN_SECTION.toString("hex"), unknown, info, simple);
    const big = hex(
      "00000001 00000014 0069 0000 00000004 00000014",
      "00000003 00000014 00000009 0a0b0c0d 00000014",
    );
    const reader = new PcapngReader();
    reader.feed(Buffer.concat([little, BIG_SECTION, big]));
    const first = reader.next()!;
    expect(Buffer.from(first.bytes).toString("hex")).toBe(FRAME);
    expect(first).toMatchObject({ tsNs: undefined, interface: { index: 0 } });
    const second = reader.next()!;
    expect(second).toMatchObject({ linkType: 0x69, capturedLength: 4, originalLength: 9 });
    expect(second.interface.index).toBe(1);
    expect(reader.skipped).toBe(1);
  });

  test("packets do not depend on names and statistics that are badly made", () => {
    const info = "01000000 14000000 0100 0000 00000000 14000000";
    const namesWithoutEnd = "04000000 18000000 0100 0700 7f000001 6c6f 0000 18000000";
    const ofNoInterface = "05000000 18000000 07000000 00000000 00000000 18000000";
    const shortCount = "05000000 20000000 00000000 00000000 00000000 0400 0400 01000000 20000000";
    const simple = `03000000 24000000 11000000 ${FRAME} 000000 24000000`;
    const reader = new PcapngReader();
    const section = PLAIN_SECTION.toString("hex");
    reader.feed(hex(section, info, namesWithoutEnd, ofNoInterface, shortCount, simple));
    expect(Buffer.from(reader.next()!.bytes).toString("hex")).toBe(FRAME);
    expect(reader.names).toMatchObject([{ names: ["lo"] }]);
    expect([reader.statistics.length, reader.skipped, reader.pending]).toEqual([0, 2, 0]);
  });

  test("pcap with a whole second of microseconds and more: tcpdump and Wireshark add it up", () => {
    const head = "d4c3b2a1 0200 0400 00000000 00000000 ffff0000 01000000";
    const record = `02000000 41420f00 11000000 11000000 ${FRAME}`;
    expect([...readCapture(hex(head, record))]).toMatchObject([{ tsNs: 3_000_001_000n }]);
  });
});

test("ring prefix", () => {
  const prefix = new Uint8Array(RING_PREFIX_BYTES).fill(0xa5);
  const out = { bytes: prefix, view: new DataView(prefix.buffer) };
  writeRingPrefix(out, 0, LinkDirection.TO_FRONTEND, 0x01020304, RingPersonality.XEN, false);
  const expected = hex(
    "000c 0010 72696e67776972652e6261746368 0000 0000 0000", // tag 12 ringwire.batch, end
    "5257 01 01 04030201 01 00000000000000", // "RW", 1, to the frontend, epoch, Xen
  );
  expect(Buffer.from(prefix).toString("hex")).toBe(expected.toString("hex"));
  const packet = parseRingPacket(Buffer.concat([expected, Buffer.from([0x90])]));
  expect(packet).toEqual({
    direction: LinkDirection.TO_FRONTEND,
    epoch: 0x01020304,
    personality: RingPersonality.XEN,
    isState: false,
    bytes: Buffer.from([0x90]),
  });
  // A state record, which never crossed the link.
  writeRingPrefix(out, 0, LinkDirection.TO_DEVICE, 1, RingPersonality.ENA, true);
  expect(Buffer.from(prefix.subarray(24)).toString("hex")).toBe("52570100010000000003000000000000");
  expect(parseRingPacket(prefix)).toMatchObject({ isState: true, bytes: new Uint8Array(0) });
  expect(parseRingPacket(expected.subarray(0, -1))).toBeUndefined();
  expect(parseRingPacket(expected.map((b, i) => (i === 26 ? 2 : b)))).toBeUndefined();
});
