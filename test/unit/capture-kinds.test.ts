/** Capture files of every kind that Wireshark reads, compressed or not, and their frames. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { readFrames } from "../../frontend/apps/pkt-gen/pcap-file.ts";
import { frameBytes, heldBytes } from "../../shared/capture/frame-bytes.ts";
import { PcapReader } from "../../shared/capture/pcap-reader.ts";
import { CaptureFileReader, readCapture, readCaptureFile } from "../../shared/capture/read.ts";
import type { CapturedPacket } from "../../shared/pcapng/packet.ts";
import { pcapFile, pcapngFile } from "../support/capture-files.ts";
import { SOAK } from "../support/counts.ts";
import { frame, KINDS, PACKETS } from "../support/pcap-kinds.ts";
import { sameBytes } from "../support/same.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-kinds-"));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
function fileOf(bytes: Uint8Array): string {
  const path = join(folder, `file${files++}`);
  writeFileSync(path, bytes);
  return path;
}

const facts = ({ linkType, capturedLength, originalLength, tsNs, bytes }: CapturedPacket) => [
  linkType,
  capturedLength,
  originalLength,
  tsNs,
  Buffer.from(bytes).equals(frame(bytes.length, bytes[20]! - 140)),
];
const EXPECTED = PACKETS.map(({ bytes, original = bytes.length, ns }) => [
  1,
  bytes.length,
  original,
  ns,
  true,
]);

const packetsOf = async (path: string): Promise<number[]> => {
  const lengths: number[] = [];
  for await (const packet of readCaptureFile(path)) lengths.push(packet.capturedLength);
  return lengths;
};

describe("pcap", () => {
  it.each(KINDS)("case-X2, case-X3, ux-S16 of the kind %s is read", (_what, kind, link) => {
    const file = pcapFile(PACKETS, link, kind);
    expect([...readCapture(file)].map(facts)).toEqual(EXPECTED);
  });

  it("of version 1, and with reserved bits in its link type, is refused", () => {
    expect(() => [...readCapture(pcapFile([], 1, { version: [1, 9] }))]).toThrow(/version 1\.9/);
    expect(() => [...readCapture(pcapFile([], 0x0001_0001))]).toThrow(/a link type of 0x10001/);
  });

  it("whose first frame is half there, and all zeros, is of the usual kind", () => {
    // The loopback interface's addresses are zero, which looks like a patched header.
    const bytes = Buffer.alloc(98);
    bytes.writeUInt16BE(0x0800, 12);
    const file = pcapFile([{ bytes }], 1, { magic: 0xa1b2c3d4, unitNs: 1000n });
    const reader = new PcapReader();
    reader.feed(file.subarray(0, 90));
    expect(reader.next()).toBeUndefined();
    reader.feed(file.subarray(90));
    reader.end();
    sameBytes(reader.next()!.bytes, bytes);
  });

  it.each(KINDS)("case-X2 that comes byte by byte is of the same kind: %s", (_what, kind, link) => {
    const reader = new PcapReader();
    const read: unknown[] = [];
    const take = () => {
      for (let p = reader.next(); p !== undefined; p = reader.next()) read.push(facts(p));
    };
    for (const byte of pcapFile(PACKETS, link, kind)) {
      reader.feed(Uint8Array.of(byte));
      take();
    }
    if (reader.end()) take();
    expect(read).toEqual(EXPECTED);
  });

  it("case-X2 of a live pipe gives its first packet at once, when that has one meaning", () => {
    const file = pcapFile(PACKETS.slice(0, 1), 1, { magic: 0xa1b2c3d4, unitNs: 1000n });
    const reader = new PcapReader();
    reader.feed(file.subarray(0, 40));
    expect(reader.next()).toBeUndefined();
    reader.feed(file.subarray(40));
    expect(reader.next()?.capturedLength).toBe(60);
  });

  it("case-X2 that ends, or is long, before its kind is clear is of the likeliest", async () => {
    const kind = { magic: 0xa1b2c3d4, unitNs: 1000n };
    const zeros = pcapFile([{ bytes: Buffer.alloc(60) }], 1, kind);
    const reader = new PcapReader();
    reader.feed(zeros);
    expect(reader.next()).toBeUndefined();
    expect([reader.end(), reader.next()?.capturedLength, reader.end()]).toEqual([true, 60, false]);
    expect(await packetsOf(fileOf(zeros))).toEqual([60]);
    // Three whole records decide, although a patched header in one of them would point far behind
    // them.
    const second = Buffer.alloc(60);
    second.writeUInt32LE(100_000, 0);
    second.writeUInt32LE(100_000, 4);
    const three = new PcapReader();
    three.feed(
      pcapFile(
        [Buffer.alloc(60), second, frame(60)].map((bytes) => ({ bytes })),
        1,
        kind,
      ),
    );
    expect(three.next()?.capturedLength).toBe(60);
    // Two frames fill the part that the detection reads, so it does not wait for the rest.
    const long = new PcapReader();
    long.feed(
      pcapFile(
        [0, 1].map(() => ({ bytes: Buffer.alloc(200_000) })),
        1,
        kind,
      ),
    );
    expect([long.next(), long.next()].map((p) => p?.capturedLength)).toEqual([200_000, 200_000]);
    // Less than one header has no kind, and the end is reported once.
    const cut = new PcapReader();
    cut.feed(zeros.subarray(0, 30));
    cut.next();
    expect([cut.end(), cut.next(), cut.end(), cut.pending]).toEqual([true, undefined, false, 6]);
  });

  it("that comes in pieces is of the same kind", () => {
    for (const [, kind, link] of KINDS) {
      const file = pcapFile(PACKETS, link, kind);
      for (const cut of [25, 29, 60, 150, 300]) {
        const path = fileOf(file.subarray(0, cut));
        // A cut file is never read as another kind.
        const some = [...readCapture(file.subarray(0, cut))];
        expect(some.length, path).toBeLessThanOrEqual(3);
      }
    }
  });
});

describe("pcapng", () => {
  it("case-X4 a clock option of another length than its own says nothing", () => {
    for (const options of [
      { tsresol: Uint8Array.of(9, 9) },
      { tsresol: new Uint8Array(0) },
      { tsresol: Uint8Array.of(6), tsoffset: Uint8Array.of(1, 2, 3, 4) },
      { tsresol: Uint8Array.of(6), tsoffset: new Uint8Array(0) },
    ]) {
      const file = pcapngFile([{ bytes: frame(60), ns: 5_000_000n }], [{ link: 1, ...options }]);
      // The file's number 5,000,000 is read as microseconds.
      expect([...readCapture(file)].map(({ tsNs }) => tsNs)).toEqual([5_000_000_000n]);
    }
  });
});

describe("gzip", () => {
  const LENGTHS = [60, 64, 1514];

  it("case-X5, ux-S16 is known by its first bytes, with either format, any number of members", async () => {
    const pcap = pcapFile(PACKETS);
    expect(await packetsOf(fileOf(gzipSync(pcap)))).toEqual(LENGTHS);
    expect(await packetsOf(fileOf(gzipSync(pcapngFile(PACKETS))))).toEqual(LENGTHS);
    const members = [0, 30, 31, 500].map((from, n, all) =>
      gzipSync(pcap.subarray(from, all[n + 1])),
    );
    expect(await packetsOf(fileOf(Buffer.concat(members)))).toEqual(LENGTHS);
  });

  it("ux-S16 is read again from its beginning", async () => {
    await using file = await CaptureFileReader.open(fileOf(gzipSync(pcapFile(PACKETS))));
    for (let pass = 0; pass < 3; pass++) {
      let packets = 0;
      while (await file.more()) while (file.next() !== undefined) packets++;
      expect(packets).toBe(3);
      await file.rewind();
    }
  });

  it("ux-S16 that is cut off has the packets up to there; one that is damaged says so", async () => {
    const many = pcapFile(Array.from({ length: 5000 }, (_, n) => ({ bytes: frame(60, n) })));
    const whole = gzipSync(many);
    const cut = await packetsOf(fileOf(whole.subarray(0, whole.length / 2)));
    expect(cut.length).toBeGreaterThan(1000);
    expect(cut.length).toBeLessThan(5000);
    const damaged = Buffer.from(whole);
    damaged.fill(0, whole.length - 8);
    const some: number[] = [];
    await expect(async () => {
      for await (const { capturedLength } of readCaptureFile(fileOf(damaged)))
        some.push(capturedLength);
    }).rejects.toThrow(/the gzip data is damaged: .* \(at byte \d+\)/);
    expect(some.length).toBeGreaterThan(0);
    await expect(packetsOf(fileOf(Buffer.from("1f8b", "hex")))).rejects.toThrow(/0 bytes are no/);
  });

  it("ux-S16 that is padded with zeros has its packets; so has one that something else follows", async () => {
    const whole = gzipSync(pcapFile(PACKETS));
    for (const zeros of [1, 512, 20_000]) {
      expect(await packetsOf(fileOf(Buffer.concat([whole, Buffer.alloc(zeros)])))).toEqual(LENGTHS);
    }
    // gzip(1) and zlib's gzread also ignore bytes after a whole member.
    for (const garbage of ["s", "something else", "s".repeat(20_000), "\u001f", "\0\0s"]) {
      const path = fileOf(Buffer.concat([whole, Buffer.from(garbage)]));
      expect(await packetsOf(path)).toEqual(LENGTHS);
      await using file = await CaptureFileReader.open(path);
      while (await file.more()) while (file.next() !== undefined);
      // A single byte that begins like a member counts as a cut member.
      expect(file.cutAt === undefined).toBe(garbage !== "\u001f");
    }
  });

  it("case-X5 that is damaged has all packets in front of the damage, and says where it is", async () => {
    const whole = gzipSync(pcapFile(PACKETS));
    const damaged = Buffer.from(whole);
    damaged.writeUInt32LE(0, whole.length - 8);
    const badHead = Buffer.concat([whole, Buffer.from("1f8b63", "hex"), Buffer.alloc(20)]);
    // Stored bytes, so that the packets in front are known; a block of type 3 is invalid.
    const stored = gzipSync(pcapFile(PACKETS).subarray(0, 1000), { level: 0 });
    stored.writeUInt8(stored[10]! & 0xfe, 10);
    const badBlock = Buffer.concat([stored.subarray(0, -8), Buffer.of(7, 1, 2, 3)]);
    for (const [file, lengths, at] of [
      [damaged, LENGTHS, whole.length - 5],
      [badHead, LENGTHS, whole.length + 3],
      [badBlock, LENGTHS.slice(0, 2), badBlock.length - 4],
    ] as const) {
      const read: number[] = [];
      await expect(async () => {
        for await (const packet of readCaptureFile(fileOf(file))) read.push(packet.capturedLength);
      }).rejects.toThrow(new RegExp(`the gzip data is damaged: .* \\(at byte ${at}\\)`));
      expect(read).toEqual(lengths);
    }
  });

  it("case-X5 that is cut off says so, behind a whole packet as within one", async () => {
    const pcap = pcapFile(Array.from({ length: 4 }, (_, n) => ({ bytes: frame(60, n) })));
    const whole = gzipSync(pcap);
    // The second member is cut in its header, or in its data.
    const behindOne = (bytes: number) =>
      Buffer.concat([gzipSync(pcap.subarray(0, 100)), whole.subarray(0, bytes)]);
    const endOf = async (bytes: Uint8Array) => {
      await using file = await CaptureFileReader.open(fileOf(bytes));
      let read = 0;
      while (await file.more()) while (file.next() !== undefined) read++;
      return { read, pending: file.pending, cutAt: file.cutAt };
    };
    expect(await endOf(whole)).toEqual({ read: 4, pending: 0, cutAt: undefined });
    expect(await endOf(whole.subarray(0, -8))).toEqual({ read: 4, pending: 0, cutAt: 328 });
    for (const bytes of [2, 9, 11]) {
      expect(await endOf(behindOne(bytes))).toEqual({ read: 1, pending: 0, cutAt: 100 });
    }
    await expect(readFrames(fileOf(behindOne(9)), 9000)).rejects.toThrow(/ends within frame 2/);
  });

  it("ux-S16 a few bytes that become very many are held a little at a time", async () => {
    // Blocks of an unknown type, 16 MB each, hold no packet.
    const blocks = SOAK ? 64 : 16;
    const block = Buffer.alloc(16 * 1024 * 1024);
    block.writeUInt32LE(0x0bad_0bad, 0);
    block.writeUInt32LE(block.length, 4);
    block.writeUInt32LE(block.length, block.length - 4);
    const [head, bomb] = [gzipSync(pcapngFile([])), gzipSync(block)];
    const path = fileOf(Buffer.concat([head, ...Array.from({ length: blocks }, () => bomb)]));
    await using file = await CaptureFileReader.open(path);
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    while (await file.more()) {
      expect(file.next()).toBeUndefined();
      most = Math.max(most, process.memoryUsage().arrayBuffers);
    }
    expect(file.bytes).toBeGreaterThan(blocks * block.length);
    expect(most - before).toBeLessThan(128 * 2 ** 20);
  });

  it("other compressions are named, with the program that reads them", async () => {
    const path = fileOf(zstdCompressSync(pcapFile(PACKETS)));
    await expect(packetsOf(path)).rejects.toThrow(/it is compressed: give the output of zstdcat/);
    await expect(packetsOf(fileOf(Buffer.from("BZh91AY&")))).rejects.toThrow(/output of bzcat/);
  });
});

describe("what of a packet is the frame", () => {
  /** 2 words of 16 bits above the link type, and the bit that marks them as valid. */
  const FCS_LINK = ((2 << 28) | (1 << 26) | 1) >>> 0;
  const FCS = [{ link: 1, fcs: 4 }];
  const FILES: readonly (readonly [string, Buffer, whole: number, held: number])[] = [
    ["more captured than there was, pcap", pcapFile([{ bytes: frame(61), original: 60 }]), 60, 60],
    ["more captured, pcapng", pcapngFile([{ bytes: frame(1515), original: 1514 }]), 1514, 1514],
    ["no original length, pcap", pcapFile([{ bytes: frame(70), original: 0 }]), 70, 70],
    ["no original length, pcapng", pcapngFile([{ bytes: frame(70), original: 0 }]), 70, 70],
    ["a check sequence, pcap", pcapFile([{ bytes: frame(64) }], FCS_LINK), 60, 60],
    ["a check sequence, pcapng", pcapngFile([{ bytes: frame(64) }], FCS), 60, 60],
    ["a check sequence by its flags", pcapngFile([{ bytes: frame(64), flags: 4 << 5 }]), 60, 60],
    [
      "both: bytes behind the check sequence",
      pcapFile([{ bytes: frame(66), original: 64 }], FCS_LINK),
      60,
      60,
    ],
    ["both: no original length", pcapngFile([{ bytes: frame(64), original: 0 }], FCS), 60, 60],
    ["cut in the check sequence", pcapFile([{ bytes: frame(62), original: 64 }], FCS_LINK), 60, 60],
    ["cut by the capture", pcapFile([{ bytes: frame(50), original: 64 }], FCS_LINK), 60, 50],
    ["shorter than its check sequence", pcapFile([{ bytes: frame(3) }], FCS_LINK), 0, 0],
  ];

  it.each(FILES)("case-W5 %s", async (_what, file, whole, held) => {
    const [packet] = [...readCapture(file)];
    expect([frameBytes(packet!), heldBytes(packet!)]).toEqual([whole, held]);
  });

  it.each(FILES.filter(([, , , held]) => held >= 14))(
    "case-W5 pkt-gen -P sends that: %s",
    async (_what, file, _whole, held) => {
      const frames = await readFrames(fileOf(file), 9000);
      expect(frames.map((bytes) => Buffer.from(bytes))).toEqual([frame(2000).subarray(0, held)]);
    },
  );

  it("case-W5 pkt-gen -P reads pcapng and gzip, each frame once, and says what it can't use", async () => {
    const two = [
      { link: 1, name: "a" },
      { link: 252, name: "a:ring" },
      { link: 1, name: "b" },
    ];
    const sightings = [0, 1, 2].map((on) => ({ bytes: frame(60), on, id: 1n, ns: 1n }));
    expect(await readFrames(fileOf(gzipSync(pcapngFile(sightings, two))), 9000)).toHaveLength(1);
    for (const [file, says] of [
      [pcapFile([{ bytes: frame(60) }], 113), /holds no Ethernet frames/],
      [pcapFile([]), /holds no frames/],
      [
        pcapFile([{ bytes: frame(60) }, { bytes: frame(60) }]).subarray(0, -1),
        /ends within frame 2/,
      ],
      [pcapFile([{ bytes: frame(13) }]), /has a frame of 13 bytes; 14 to 9000/],
      [Buffer.from("no capture"), /can't be read: neither pcap nor pcapng/],
    ] as const) {
      await expect(readFrames(fileOf(file), 9000)).rejects.toThrow(says);
    }
  });
});
