/**
 * replay: which packets of a capture can be sent and why others can't, the pace, and the report.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Control, Counts } from "../../frontend/apps/app.ts";
import { type ReplayConfig, type ReplaySource, replay } from "../../frontend/apps/replay.ts";
import { Errno } from "../../frontend/bus/errno.ts";
import { Ifcap, Ifnet } from "../../frontend/net/ifnet.ts";
import { Csum, type Mbuf } from "../../frontend/net/mbuf.ts";
import { readerFor } from "../../shared/capture/read.ts";
import type { CapturedPacket, PacketReader } from "../../shared/pcapng/packet.ts";
import { pcapFile, pcapngFile, type WrittenPacket } from "../support/capture-files.ts";
import { cases, holds } from "../support/counts.ts";
import { buildPacket, plainSum, pseudoHeader } from "../support/packets.ts";
import { same, sameBytes } from "../support/same.ts";
import { transmitEach } from "../support/transmit.ts";

const CONFIG: ReplayConfig = {
  loops: 1,
  rate: 0,
  preserveTiming: false,
  sendTruncated: false,
  interfaces: [],
};
const CHECKSUM_NOT_READY = 1 << 9;
const SEGMENTATION_OFFLOADED = 1 << 11;
const VLAN = [0x81, 0x00] as const;

/** A frame of a local experimental EtherType (or of `type`), filled with `fill`. */
function frame(length: number, fill = 1, type: readonly number[] = [0x88, 0xb5]): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, i) => i * 7 + fill);
  bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, ...type].slice(0, length));
  return bytes;
}

/** A file in memory that is read in chunks through one buffer, like a file on disk. */
class MemoryFile implements ReplaySource {
  bytes = 0;
  /** Number of chunks read. */
  reads = 0;
  readonly #file: Uint8Array;
  readonly #chunk: number;
  readonly #buffer: Uint8Array;
  #reader: PacketReader;

  constructor(file: Uint8Array, chunk = 4096) {
    this.#file = file;
    this.#chunk = chunk;
    this.#buffer = new Uint8Array(file.length + chunk);
    this.#reader = readerFor(file);
  }
  get cutAt(): number | undefined {
    const { pending } = this.#reader;
    return pending > 0 ? this.bytes - pending : undefined;
  }
  next(): CapturedPacket | undefined {
    return this.#reader.next();
  }
  async more(): Promise<boolean> {
    const piece = this.#file.subarray(this.bytes, this.bytes + this.#chunk);
    const { pending } = this.#reader;
    // Overwrites the bytes read before.
    this.#buffer.fill(0xa5);
    const waiting = this.#file.subarray(this.bytes - pending, this.bytes);
    this.#buffer.set(waiting);
    this.#buffer.set(piece, pending);
    this.#reader.refill(this.#buffer.subarray(0, pending + piece.length));
    this.bytes += piece.length;
    this.reads++;
    return piece.length > 0;
  }
  async rewind(): Promise<void> {
    this.#reader = readerFor(this.#file);
    this.bytes = 0;
  }
}

/** An interface that accepts every packet and frees mbufs at once. */
class TestNic extends Ifnet {
  readonly frames: Buffer[] = [];
  readonly csumFlags: number[] = [];
  readonly tsoSegsz: number[] = [];
  /** The errno for the next packet; 0 accepts it. */
  answer: () => number = () => 0;
  taken: (m: Mbuf) => void = (m) => m.free();

  constructor(capEnable = 0) {
    super("ena0", Uint8Array.of(2, 0, 0, 0, 0, 9), 1500);
    this.capEnable = capEnable;
    transmitEach(this, (m) => {
      const errno = this.answer();
      if (errno !== 0) return errno;
      this.frames.push(Buffer.from(m.buffer.subarray(m.at, m.at + m.length)));
      same(m.pktLength, m.length);
      this.csumFlags.push(m.csumFlags);
      this.tsoSegsz.push(m.tsoSegsz);
      this.taken(m);
      return 0;
    });
  }
}

/** A clock that only `sleep` advances. */
class SteppedControl extends Control {
  ms = 1000;
  readonly now = (): number => this.ms;
  longest = 0;
  override async sleep(ms: number): Promise<void> {
    this.longest = Math.max(this.longest, ms);
    if (!this.isStopped) this.ms += ms;
  }
}

async function run(
  file: Uint8Array | ReplaySource,
  nic: TestNic,
  config: Partial<ReplayConfig> = {},
  control = new SteppedControl(),
) {
  const source = file instanceof Uint8Array ? new MemoryFile(file) : file;
  const counts = new Counts();
  const warnings: string[] = [];
  const result = await replay(source, nic, { ...CONFIG, ...config }, counts, control, {
    warn: (sentence) => warnings.push(sentence),
    now: control.now,
  });
  const skipped = Object.values(result.skipped).reduce((a, b) => a + b, 0);
  expect(counts.packets + skipped).toBe(result.read);
  expect(counts.packets).toBe(nic.frames.length);
  expect(counts.bytes).toBe(nic.frames.reduce((sum, { length }) => sum + length, 0));
  return { result, warnings, counts, nic };
}

const tcp = (payload: number, checksum: "full" | "partial" = "partial", v6 = false) =>
  buildPacket({ payload: new Uint8Array(payload).fill(0x5a), checksum, v6 }).bytes;

describe("what can't be sent", () => {
  const good: WrittenPacket = { bytes: frame(100) };
  const ROWS: readonly (readonly [string, WrittenPacket, RegExp, string])[] = [
    ["notEthernet", { bytes: frame(80), on: 1 }, /link type 113/, "another link layer"],
    ["truncated", { bytes: frame(96), original: 200 }, /96 of 200 .*--send-trunc/, "a cut packet"],
    ["noHeader", { bytes: frame(13) }, /13 bytes, less than/, "less than a header"],
    ["noHeader", { bytes: new Uint8Array(0) }, /has 0 bytes/, "nothing"],
    ["tooLong", { bytes: frame(1515) }, /--mtu 1501 would/, "a byte too much"],
    ["tooLong", { bytes: frame(1519, 1, VLAN) }, /--mtu 1501 would/, "a tagged byte too much"],
    ["tooLong", { bytes: tcp(4000) }, /--mtu 4040 would/, "TCP that may be a jumbo frame"],
    ["superFrame", { bytes: frame(9231) }, /9231 bytes .* not TCP/, "more than any MTU, not TCP"],
    ["superFrame", { bytes: tcp(20_000) }, /no TSO/, "more than any MTU, no TSO"],
    [
      "superFrame",
      { bytes: tcp(4000), flags: SEGMENTATION_OFFLOADED },
      /no TSO/,
      "a super-frame by its flags, no TSO",
    ],
    [
      "unfinished",
      { bytes: tcp(100), flags: CHECKSUM_NOT_READY },
      /checksum/,
      "a partial checksum that the driver can't finish",
    ],
    [
      "unfinished",
      { bytes: frame(100), flags: CHECKSUM_NOT_READY },
      /not TCP or UDP/,
      "a partial checksum of something unknown",
    ],
  ];

  it.each(ROWS)("%s: %#", async (reason, packet, says) => {
    const file = pcapngFile([good, packet, packet, good], [{ link: 1 }, { link: 113 }]);
    const { result, warnings, nic } = await run(file, new TestNic());
    expect(nic.frames).toEqual([Buffer.from(good.bytes), Buffer.from(good.bytes)]);
    expect(result).toMatchObject({ read: 4, passes: 1, skipped: { [reason]: 2 } });
    // Named once, with the number of the second packet in the file.
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(says);
    expect(warnings[0]).toMatch(/^packet 2 /);
  });

  it("each other link layer is named", async () => {
    const on = (n: number) => ({ bytes: frame(80), on: n });
    const file = pcapngFile([on(0), on(1), on(0), on(1)], [{ link: 113 }, { link: 252 }]);
    const { result, warnings } = await run(file, new TestNic());
    expect(result.skipped.notEthernet).toBe(4);
    expect(warnings.join()).toMatch(/type 113.*type 252/);
    expect(warnings).toHaveLength(2);
  });

  it("what the driver refuses for good is counted, not sent again and again", async () => {
    const nic = new TestNic();
    const answers = [0, Errno.ENETDOWN, 0];
    nic.answer = () => answers.shift()!;
    const { result } = await run(pcapFile([good, good, good]), nic);
    expect(result).toMatchObject({ read: 3, inFlight: 0, skipped: { refused: 1 } });
  });
});

describe("what is sent", () => {
  it("the captured bytes, of all lengths that fit", async () => {
    const frames = [60, 61, 1514, 1000].map((length, n) => frame(length, n));
    frames.push(frame(1518, 5, VLAN));
    for (const file of [pcapFile, pcapngFile]) {
      const { nic, result } = await run(file(frames.map((bytes) => ({ bytes }))), new TestNic());
      expect(nic.frames).toEqual(frames.map((bytes) => Buffer.from(bytes)));
      expect(result).toMatchObject({ read: 5, padded: 0, lost: 0, inFlight: 0 });
      expect(nic.csumFlags).toEqual([0, 0, 0, 0, 0]);
    }
  });

  it("runts, filled up with zeros", async () => {
    const { nic, result } = await run(
      pcapFile([{ bytes: frame(14) }, { bytes: frame(59) }]),
      new TestNic(),
    );
    expect(nic.frames).toEqual([
      Buffer.concat([frame(14), Buffer.alloc(46)]),
      Buffer.concat([frame(59), Buffer.alloc(1)]),
    ]);
    expect(result.padded).toBe(2);
  });

  it("what there is of a cut packet, when asked for", async () => {
    const file = pcapFile([
      { bytes: frame(96), original: 9000 },
      { bytes: frame(20), original: 90 },
    ]);
    const { nic, result } = await run(file, new TestNic(), { sendTruncated: true });
    expect(nic.frames[0]).toEqual(Buffer.from(frame(96)));
    expect(nic.frames[1]).toHaveLength(60);
    expect(result).toMatchObject({ padded: 1, skipped: { truncated: 0 } });
  });

  it("packets whose original length the writer left out", async () => {
    const { nic } = await run(pcapFile([{ bytes: frame(70), original: 0 }]), new TestNic());
    expect(nic.frames).toEqual([Buffer.from(frame(70))]);
  });

  it.each([pcapFile, pcapngFile])(
    "case-W5 what was captured behind a frame's end is not sent: %#",
    async (write) => {
      const packets = [
        { bytes: frame(61), original: 60 },
        { bytes: frame(1515), original: 1514 },
        { bytes: frame(60), original: 59 },
      ];
      const { nic, result, warnings } = await run(write(packets), new TestNic());
      expect(nic.frames).toEqual([
        Buffer.from(frame(60)),
        Buffer.from(frame(1514)),
        Buffer.concat([frame(59), Buffer.alloc(1)]),
      ]);
      expect([result.padded, warnings]).toEqual([1, []]);
    },
  );

  /** 2 words of 16 bits above the link type, and the bit that marks them as valid. */
  const FCS_LINK = ((2 << 28) | (1 << 26) | 1) >>> 0;
  it.each([
    ["pcap, in its link type", pcapFile([{ bytes: frame(104) }], FCS_LINK)],
    ["pcapng, in bytes", pcapngFile([{ bytes: frame(104) }], [{ link: 1, fcs: 4 }])],
    ["pcapng, in bits", pcapngFile([{ bytes: frame(104) }], [{ link: 1, fcs: 32 }])],
    ["a packet's flags", pcapngFile([{ bytes: frame(104), flags: 4 << 5 }])],
    [
      "flags before interface",
      pcapngFile([{ bytes: frame(102), flags: 2 << 5 }], [{ link: 1, fcs: 4 }]),
    ],
    ["none captured", pcapFile([{ bytes: frame(100), original: 104 }], FCS_LINK)],
  ])("without the frame check sequence: %s", async (_where, file) => {
    const { nic, result } = await run(file, new TestNic());
    expect(nic.frames).toEqual([Buffer.from(frame(100))]);
    expect(result.skipped.truncated).toBe(0);
  });

  it("a frame that only its check sequence made 60 bytes long is padded", async () => {
    const file = pcapngFile([{ bytes: frame(60) }], [{ link: 1, fcs: 4 }]);
    const { nic, result } = await run(file, new TestNic());
    expect(nic.frames).toEqual([Buffer.concat([frame(56), Buffer.alloc(4)])]);
    expect(result.padded).toBe(1);
  });

  it("super-frames, when the driver has them cut for its MTU", async () => {
    const packets = [
      { bytes: tcp(20_000) },
      { bytes: tcp(4000), flags: SEGMENTATION_OFFLOADED | CHECKSUM_NOT_READY },
      { bytes: tcp(20_000, "partial", true) },
    ];
    const nic = new TestNic(Ifcap.TSO4 | Ifcap.TSO6);
    const { result } = await run(pcapngFile(packets), nic);
    expect(result.read).toBe(3);
    expect(nic.frames.map(({ length }) => length)).toEqual(packets.map((p) => p.bytes.length));
    expect(nic.csumFlags.map((flags) => flags & (Csum.IP_TSO | Csum.IP6_TSO))).toEqual([
      Csum.IP_TSO,
      Csum.IP_TSO,
      Csum.IP6_TSO,
    ]);
    // 1500 minus the IP and TCP headers.
    expect(nic.tsoSegsz).toEqual([1460, 1460, 1440]);
  });

  it("partial checksums, when the driver has them finished", async () => {
    const nic = new TestNic(Ifcap.TXCSUM);
    await run(pcapngFile([{ bytes: tcp(100), flags: CHECKSUM_NOT_READY }]), nic);
    expect(nic.csumFlags).toEqual([Csum.IP_TCP]);
  });
});

describe("an IP packet without a length", () => {
  interface Packet {
    readonly v6?: boolean;
    readonly udp?: boolean;
    /**
     * Hex of tags between the addresses and the EtherType, and of extensions between IP and TCP.
     */
    readonly tags?: string;
    readonly extensions?: string;
  }

  /**
   * A packet as a sender with TSO passes it to its NIC: `payload` bytes, and length fields of 0.
   */
  function unstated(
    payload: number,
    { v6 = false, udp = false, tags = "", extensions = "" }: Packet,
  ) {
    const data = new Uint8Array(payload).map((_, n) => n * 31 + 5);
    const whole = buildPacket({ payload: data, checksum: "partial", v6, protocol: udp ? 17 : 6 });
    const bytes = Buffer.from(whole.bytes);
    bytes.writeUInt16BE(0, v6 ? 18 : 16);
    if (!v6) bytes.writeUInt16BE(0, 24);
    if (udp) bytes.writeUInt16BE(0, (v6 ? 54 : 34) + 4);
    const l4 = v6 ? 54 : 34;
    if (extensions !== "") bytes[20] = 0;
    return Buffer.concat([
      bytes.subarray(0, 12),
      Buffer.from(tags, "hex"),
      bytes.subarray(12, l4),
      Buffer.from(extensions, "hex"),
      bytes.subarray(l4),
    ]);
  }

  const KINDS: readonly (readonly [string, Packet])[] = [
    ["IPv4", {}],
    ["IPv6", { v6: true }],
    ["IPv4 in a VLAN", { tags: "81000064" }],
    ["IPv6 in two VLANs", { v6: true, tags: "88a8000181000002" }],
    ["IPv6 with hop-by-hop options", { v6: true, extensions: "0600010400000000" }],
    ["IPv6 with a jumbo option", { v6: true, extensions: "0600c20400001234" }],
  ];
  const TSO = Ifcap.TSO4 | Ifcap.TSO6;

  it.each(KINDS)(
    "case-W4 %s, TCP: is cut, whatever it is longer than the MTU",
    async (_kind, of) => {
      const overhead =
        unstated(0, of).length - 14 - (of.tags === undefined ? 0 : of.tags.length / 2);
      for (const length of [1501, 1521, 2986, 9100, 9216, 9217, 20_000, 65_000]) {
        const bytes = unstated(length - overhead, of);
        const nic = new TestNic(TSO);
        const { warnings } = await run(pcapFile([{ bytes }]), nic);
        expect(warnings).toEqual([]);
        expect(nic.csumFlags.map((flags) => flags & (Csum.IP_TSO | Csum.IP6_TSO))).toEqual([
          of.v6 === true ? Csum.IP6_TSO : Csum.IP_TSO,
        ]);
        expect(nic.tsoSegsz).toEqual([1500 - overhead]);
        // No receiver accepts the jumbo option in a segment.
        const at = 14 + (of.tags ?? "").length / 2 + 42;
        if (of.extensions?.includes("c204") === true) {
          expect(nic.frames[0]!.subarray(at, at + 6).toString("hex")).toBe("010400000000");
        }
      }
    },
  );

  it.each([
    ...KINDS,
    ["IPv4, UDP", { udp: true }],
    ["IPv6, UDP", { v6: true, udp: true }],
  ] as const)(
    "case-W4 %s: is sent with its length when the MTU takes it",
    async (_kind, of: Packet) => {
      for (const payload of [100, 1000, 5000]) {
        const bytes = unstated(payload, of);
        const nic = new TestNic();
        nic.mtu = 9000;
        await run(pcapFile([{ bytes }]), nic);
        const [sent] = nic.frames;
        const l3 = 14 + (of.tags ?? "").length / 2;
        const l4 = l3 + (of.v6 === true ? 40 : 20) + (of.extensions ?? "").length / 2;
        expect(sent!.length).toBe(bytes.length);
        if (of.v6 === true) {
          expect(sent!.readUInt16BE(l3 + 4)).toBe(bytes.length - l3 - 40);
        } else {
          expect(sent!.readUInt16BE(l3 + 2)).toBe(bytes.length - l3);
          expect(plainSum(sent!.subarray(l3, l4))).toBe(0xffff);
        }
        const protocol = of.udp === true ? 17 : 6;
        if (of.udp === true) expect(sent!.readUInt16BE(l4 + 4)).toBe(bytes.length - l4);
        expect(plainSum(pseudoHeader(sent!, l3, l4, protocol), sent!.subarray(l4))).toBe(0xffff);
        sameBytes(sent!.subarray(-payload), bytes.subarray(-payload));
      }
    },
  );

  it("case-W4 what can't be cut is said to need an MTU only when that one takes it", async () => {
    const udp = await run(pcapFile([{ bytes: unstated(3000, { udp: true }) }]), new TestNic(TSO));
    expect(udp.warnings[0]).toMatch(/too long for an MTU of 1500: --mtu 3028 would take it/);
    const long = await run(
      pcapFile([{ bytes: unstated(20_000, { udp: true }) }]),
      new TestNic(TSO),
    );
    expect(long.warnings[0]).toMatch(/not TCP/);
    expect(long.warnings[0]).not.toMatch(/--mtu/);
    const bare = await run(pcapFile([{ bytes: unstated(3000, {}) }]), new TestNic());
    expect(bare.warnings[0]).toMatch(/no TSO/);
    expect(bare.warnings[0]).not.toMatch(/--mtu/);
    const small = new TestNic(TSO);
    small.hwTsomax = 32_768;
    const most = await run(pcapFile([{ bytes: unstated(40_000, {}) }]), small);
    expect(most.warnings[0]).toMatch(/this one cuts 32768 at most/);
  });

  it("case-W4 what states its length, and what is too short to tell, is sent as it was", async () => {
    const short = unstated(6, {});
    const broken = unstated(200, {});
    broken[46] = 0x10;
    const none = unstated(200, { v6: true });
    none[20] = 59;
    const files = [tcp(100), short, broken, none, frame(900)];
    const { nic } = await run(pcapFile(files.map((bytes) => ({ bytes }))), new TestNic());
    expect(nic.frames).toEqual(files.map((bytes) => Buffer.from(bytes)));
  });
});

describe("a frame that the file has several times", () => {
  const ON = [
    { link: 1, name: "ena0" },
    { link: 1, name: "ena1" },
    { link: 252, name: "ena0:ring" },
  ];
  /** Captured packets: the number of the frame as its first payload byte, its id, the interface. */
  const sightings = (
    ...rows: readonly (readonly [n: number, id: number, on: number, ms?: number])[]
  ) =>
    pcapngFile(
      rows.map(([n, id, on, ms = 0]) => ({
        ...{ bytes: frame(60, n), on, id: BigInt(id), flags: on + 1 },
        ns: 10n ** 18n + BigInt(ms) * 1_000_000n,
      })),
      ON,
    );
  const numbers = (nic: TestNic) => nic.frames.map((bytes) => (bytes[14]! - 14 * 7) & 0xff);

  it("ux-P2 is sent once, in the order of the file, in every pass", async () => {
    const file = sightings([1, 7, 0], [1, 7, 1], [2, 8, 1], [3, 9, 0], [2, 8, 0], [3, 9, 1]);
    const { nic, result, warnings } = await run(file, new TestNic(), { loops: 2 });
    expect(numbers(nic)).toEqual([1, 2, 3, 1, 2, 3]);
    expect(result).toMatchObject({ read: 12, skipped: { copy: 6, notChosen: 0 } });
    expect(result.interfaces).toEqual(["ena0", "ena1"]);
    expect(warnings).toEqual([]);
  });

  it("ux-P2 the pieces of a frame that was cut are all sent, where only they are in the file", async () => {
    const cut = [
      [1, 7, 1],
      [2, 7, 1],
      [3, 7, 1],
    ] as const;
    expect(numbers((await run(sightings(...cut), new TestNic())).nic)).toEqual([1, 2, 3]);
    const { nic, result } = await run(sightings([9, 7, 0], ...cut), new TestNic());
    expect(numbers(nic)).toEqual([9]);
    expect(result.skipped.copy).toBe(3);
  });

  it("ux-P2 the same id of another time, or of another frame, is no copy", async () => {
    const { nic } = await run(
      sightings([1, 7, 0], [2, 7, 1, 1001], [3, 7, 0, 1002]),
      new TestNic(),
    );
    // The third packet is the second one, captured again.
    expect(numbers(nic)).toEqual([1, 2]);
    const other = frame(60, 4);
    other[11] = 9;
    const file = pcapngFile(
      [frame(60, 1), other].map((bytes, on) => ({ bytes, on, id: 7n, ns: 5n })),
      ON,
    );
    expect((await run(file, new TestNic())).nic.frames).toHaveLength(2);
  });

  it("ux-P2 without ids nothing changes", async () => {
    const file = pcapngFile(
      [0, 1, 0, 1].map((on) => ({ bytes: frame(60, 1), on })),
      ON,
    );
    expect((await run(file, new TestNic())).nic.frames).toHaveLength(4);
  });

  it("ux-P2 -i sends what one interface has, by name or number", async () => {
    const file = sightings([1, 7, 0], [1, 7, 1], [2, 8, 0], [3, 9, 1]);
    for (const chosen of ["ena1", "1"]) {
      const { nic, result } = await run(file, new TestNic(), { interfaces: [chosen] });
      expect(numbers(nic)).toEqual([1, 3]);
      expect(result).toMatchObject({ missing: [], skipped: { copy: 0, notChosen: 2 } });
    }
    const { result } = await run(file, new TestNic(), { interfaces: ["ena7", "ena0", "ena1"] });
    expect(result).toMatchObject({ missing: ["ena7"], skipped: { copy: 1, notChosen: 0 } });
  });

  it("ux-P2 of any number of frames the last ids are remembered", async () => {
    const rows = Array.from({ length: 70_000 }, (_, n) => [1, n, 0] as const);
    const file = new MemoryFile(sightings(...rows, [1, 69_999, 1], [1, 0, 1]), 1 << 24);
    const { nic } = await run(file, new TestNic());
    expect(nic.frames).toHaveLength(70_001);
  });
});

describe("the pace", () => {
  /** The time at which each frame was sent, in ms after the first. */
  async function times(file: Uint8Array, config: Partial<ReplayConfig>) {
    const control = new SteppedControl();
    const nic = new TestNic();
    const at: number[] = [];
    nic.taken = (m) => {
      at.push(control.ms);
      m.free();
    };
    await run(file, nic, config, control);
    return { at: at.map((ms) => Math.round((ms - at[0]!) * 1000) / 1000), control };
  }
  const file = (...ms: number[]) =>
    pcapFile(ms.map((t) => ({ bytes: frame(60), ns: BigInt(t * 1e6) + 10n ** 18n })));

  it("keeps the gaps of the file; a clock that goes back costs no time", async () => {
    const { at } = await times(file(0, 5, 5, 205.25, 100, 110), { preserveTiming: true });
    expect(at).toEqual([0, 5, 5, 205.25, 205.25, 215.25]);
  });

  it("keeps gaps across packets that are not sent", async () => {
    const cut = { bytes: frame(60), original: 99, ns: 10_000_000n };
    const packets = [0n, 30_000_000n].map((ns) => ({ bytes: frame(60), ns }));
    const { at } = await times(pcapFile([packets[0]!, cut, packets[1]!]), { preserveTiming: true });
    expect(at).toEqual([0, 30]);
  });

  it("begins the next pass at once", async () => {
    const { at } = await times(file(0, 40), { preserveTiming: true, loops: 3 });
    expect(at).toEqual([0, 40, 40, 80, 80, 120]);
  });

  it("honours a gap longer than a timer can be", async () => {
    const days = 60 * 86_400_000;
    const { at, control } = await times(file(0, days), { preserveTiming: true });
    expect(at).toEqual([0, days]);
    expect(control.longest).toBeLessThan(2 ** 31);
  });

  it("tells of gaps of a minute and more, as clocks that were set leave them", async () => {
    const [minute, day] = [60_000, 86_400_000];
    const source = file(0, minute - 1, 2 * minute, 20_541 * day, 5, 3_600_005);
    const { warnings } = await run(source, new TestNic(), { preserveTiming: true });
    expect(warnings).toEqual([
      expect.stringMatching(/^packet 3 comes 60 s behind the one before it: it is waited for/),
      expect.stringMatching(/^packet 4 comes 20541 days behind/),
      expect.stringMatching(/^packet 6 comes 60 min behind/),
    ]);
    expect((await run(source, new TestNic())).warnings).toEqual([]);
  });

  it("does not make up for a long stall with a flood", async () => {
    const control = new SteppedControl();
    const nic = new TestNic();
    const at: number[] = [];
    nic.taken = (m) => {
      at.push(control.ms - 1000);
      // The line delays the third frame by five seconds.
      if (at.length === 3) control.ms += 5000;
      m.free();
    };
    const packets = file(...Array.from({ length: 40 }, (_, n) => n * 100));
    await run(packets, nic, { preserveTiming: true }, control);
    // At most 200 ms of the delay, so two or three frames, are sent at once.
    const atOnce = at.filter((ms) => ms === 5200).length;
    expect(atOnce).toBeGreaterThan(0);
    expect(atOnce).toBeLessThanOrEqual(3);
    expect(at.at(-1)).toBeGreaterThan(5200 + 100 * (37 - 3));
  });

  it("-R: no frame leaves before it is due", async () => {
    const { at } = await times(
      pcapFile(Array.from({ length: 500 }, () => ({ bytes: frame(60) }))),
      {
        rate: 1000,
      },
    );
    expect(at).toHaveLength(500);
    at.forEach((ms, n) => {
      expect(ms).toBeGreaterThanOrEqual(n - 1);
    });
    expect(at.at(-1)).toBeLessThan(510);
  });

  it("ends within a gap, a pass without end, and a wait for room, when stopped", async () => {
    const control = new Control();
    const nic = new TestNic();
    nic.taken = (m) => {
      m.free();
      setImmediate(() => control.stop());
    };
    const gap = file(0, 86_400_000);
    const at = { now: () => performance.now() };
    const warn = () => {};
    const counts = new Counts();
    const timed = { ...CONFIG, preserveTiming: true };
    const inGap = await replay(new MemoryFile(gap), nic, timed, counts, control, { warn, ...at });
    expect(inGap).toMatchObject({ read: 1, passes: 0 });

    const endless = new SteppedControl();
    let frames = 0;
    const many = new TestNic();
    many.taken = (m) => {
      m.free();
      if (++frames === 1000) endless.stop();
    };
    const { result } = await run(file(0, 1, 2), many, { loops: 0 }, endless);
    expect(result.read).toBeGreaterThanOrEqual(1000);

    const waiting = new Control();
    const full = new TestNic();
    full.answer = () => {
      setImmediate(() => waiting.stop());
      return Errno.ENOBUFS;
    };
    const none = await replay(new MemoryFile(file(0)), full, CONFIG, new Counts(), waiting, {
      warn,
    });
    expect(none).toMatchObject({ read: 0, inFlight: 0, passes: 0 });
  });
});

describe("the account", () => {
  it("loops send the file again, from its beginning", async () => {
    const packets = [frame(60, 1), frame(13), frame(60, 2)].map((bytes) => ({ bytes }));
    const { nic, result } = await run(pcapngFile(packets), new TestNic(), { loops: 3 });
    const [a, , b] = packets.map(({ bytes }) => Buffer.from(bytes));
    expect(nic.frames).toEqual([a, b, a, b, a, b]);
    expect(result).toMatchObject({ passes: 3, read: 9, skipped: { noHeader: 3 } });
  });

  it("an endless replay of nothing ends", async () => {
    const { result } = await run(pcapFile([{ bytes: frame(5) }]), new TestNic(), { loops: 0 });
    expect(result).toMatchObject({ passes: 1, read: 1 });
  });

  it("a damaged file: what was sent before, and at which byte", async () => {
    const file = pcapFile([1, 2, 3].map((n) => ({ bytes: frame(60, n) })));
    // Header 24, records of 76: the third one's length is invalid.
    file.writeUInt32LE(0xffff_ffff, 24 + 2 * 76 + 8);
    const { result, nic } = await run(file, new TestNic(), { loops: 5 });
    expect(nic.frames).toHaveLength(2);
    expect(result).toMatchObject({
      read: 2,
      passes: 0,
      broken: expect.stringContaining("byte 176"),
    });
  });

  it("a file that is cut off: all whole packets, and at which byte", async () => {
    const file = pcapFile([1, 2, 3].map((n) => ({ bytes: frame(60, n) })));
    const { result, nic } = await run(file.subarray(0, -1), new TestNic(), { loops: 5 });
    expect(nic.frames).toHaveLength(2);
    expect(result).toMatchObject({
      read: 2,
      passes: 0,
      broken: expect.stringContaining("byte 176"),
    });
  });

  it("frames that the driver drops after it took them are told", async () => {
    const nic = new TestNic();
    nic.counters.oqdrops = 7;
    nic.taken = (m) => {
      nic.counters.oqdrops++;
      m.free();
    };
    const { result } = await run(pcapFile([{ bytes: frame(60) }, { bytes: frame(60) }]), nic);
    expect(result.lost).toBe(2);
  });

  it("waits at the end until the driver has given everything back", async () => {
    const nic = new TestNic();
    const held: Mbuf[] = [];
    nic.taken = (m) => held.push(m);
    let ended = false;
    const running = run(pcapFile([{ bytes: frame(60) }, { bytes: frame(60) }]), nic).then((r) => {
      ended = true;
      return r;
    });
    while (held.length < 2) await new Promise(setImmediate);
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    expect(ended).toBe(false);
    for (const m of held) m.free();
    expect((await running).result.inFlight).toBe(0);
  });

  it("frames that the driver keeps stay what they are while the file is read on", async () => {
    const packets = Array.from({ length: 200 }, (_, n) => ({ bytes: frame(60 + n, n) }));
    const nic = new TestNic();
    const held: Mbuf[] = [];
    nic.taken = (m) => held.push(m);
    const source = new MemoryFile(pcapFile(packets), 1000);
    const running = run(source, nic);
    while (held.length < 200) await new Promise(setImmediate);
    expect(source.reads).toBeGreaterThan(30);
    held.forEach((m, n) => {
      expect(Buffer.from(m.buffer.subarray(m.at, m.at + m.length))).toEqual(
        Buffer.from(packets[n]!.bytes),
      );
      m.free();
    });
    await running;
  });

  it("takes no more memory, however long the file and however often it is sent", async () => {
    const usual = Array.from({ length: 300 }, (_, n) => ({ bytes: frame(60 + 4 * n) }));
    const large = Array.from({ length: 5 }, () => ({ bytes: tcp(20_000), flags: 0xe00 }));
    const nic = new TestNic(Ifcap.TSO4 | Ifcap.TXCSUM);
    const storage = new Set<ArrayBufferLike>();
    nic.taken = (m) => {
      storage.add(m.buffer.buffer);
      m.free();
      // The large buffer of a super-frame is not kept.
      expect(m.buffer.length).toBeLessThan(20_000);
    };
    await run(pcapngFile(usual), nic, { loops: 20 });
    expect(nic.frames).toHaveLength(20 * 300);
    // The driver had one batch at a time.
    expect(storage.size).toBeLessThanOrEqual(64);
    nic.frames.length = 0;
    await run(pcapngFile(large), nic);
    expect(nic.frames).toHaveLength(5);
  });

  it("without room nothing is read on", async () => {
    const source = new MemoryFile(
      pcapFile(Array.from({ length: 1000 }, () => ({ bytes: frame(60) }))),
    );
    const nic = new TestNic();
    const control = new SteppedControl();
    nic.answer = () => Errno.ENOBUFS;
    const running = run(source, nic, {}, control);
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
    expect(source.reads).toBe(1);
    nic.answer = () => 0;
    nic.onTransmitReady();
    expect((await running).result.read).toBe(1000);
  });

  it("whatever the driver does, every frame arrives once and in order, or is counted", async () => {
    await holds(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 1600 }), { maxLength: 200 }),
        fc.array(fc.constantFrom(0, 0, 0, Errno.ENOBUFS, Errno.ENETDOWN), { minLength: 1 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 5000 }),
        async (lengths, script, loops, chunk) => {
          const nic = new TestNic();
          let asked = 0;
          let refused = 0;
          const inFlight: Mbuf[] = [];
          nic.answer = () => {
            const errno = script[asked++ % script.length]!;
            if (errno === Errno.ENETDOWN) refused++;
            // Makes some room in a later turn, like completions.
            setImmediate(() => {
              for (const m of inFlight.splice(0)) m.free();
              nic.onTransmitReady();
            });
            return script.every((e) => e === Errno.ENOBUFS) ? 0 : errno;
          };
          nic.taken = (m) => inFlight.push(m);
          const packets = lengths.map((length, n) => ({ bytes: frame(length, n) }));
          const source = new MemoryFile(pcapFile(packets), chunk);
          const { result } = await run(source, nic, { loops });
          const fit = lengths.filter((length) => length >= 14 && length <= 1514).length;
          expect(result.read).toBe(lengths.length * loops);
          expect(result.skipped.refused).toBe(refused);
          expect(nic.frames.length + refused).toBe(fit * loops);
          expect(result.skipped.noHeader + result.skipped.tooLong).toBe(
            (lengths.length - fit) * loops,
          );
          expect(result.inFlight).toBe(0);
          if (refused > 0) return;
          const sent = packets.filter(({ bytes }) => bytes.length >= 14 && bytes.length <= 1514);
          const once = sent.map(({ bytes }) => Buffer.from(bytes));
          nic.frames.forEach((got, n) => {
            const want = once[n % once.length]!;
            expect(got.subarray(0, want.length)).toEqual(want);
          });
        },
      ),
      { numRuns: cases(300) },
    );
  });
});
