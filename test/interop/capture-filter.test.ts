/**
 * Capture filters compared with tcpdump: the same filter on the same frames must accept the same
 * frames. Needs libpcap, which tcpdump brings.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BpfProgram } from "../../shared/capture/bpf.ts";
import { FileOutput } from "../../shared/capture/file-output.ts";
import { CaptureFilterError, compileFilter } from "../../shared/capture/filter.ts";
import { compile, openLibrary } from "../../shared/capture/libpcap.ts";
import { readCapture } from "../../shared/capture/read.ts";
import { Recorder } from "../../shared/capture/recorder.ts";
import { Frame } from "../../shared/net/frame.ts";
import { Direction } from "../../shared/pcapng/layout.ts";
import { cases } from "../support/counts.ts";
import { missingProgram, outputOf } from "../support/installed.ts";
import { Random, seedOfRun } from "../support/random.ts";

const why = missingProgram("tcpdump", "capinfos");

const FILTERS = [
  "ip",
  "ip6",
  "arp",
  "tcp",
  "udp port 53",
  "tcp port 80 and host 10.0.0.1",
  "src net 10.0.0.0/30",
  "ether host 02:00:00:00:00:01",
  "ether multicast",
  "broadcast",
  "not ip and not ip6",
  "portrange 50-90",
  "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
  "ip[0] & 0xf > 5",
  "ip[6:2] & 0x1fff != 0",
  "vlan",
  "vlan 3 and ip",
  "vlan and udp",
  "greater 200",
  "less 100",
  "len % 3 = 1",
  "ether[14:4] / 7 * 3 + 5 > 0x20000000",
  "ether[20] << 3 >= ether[21] >> 1",
  "ip6 proto 6",
  "ip6 host fe80::1",
  "icmp or igmp",
  "ether proto 0x88b5",
  "ether[300:4] = 0",
  "udp[8:2] = 0x1234",
  "tcp port 80 or udp port 53 or icmp",
  "mpls",
  "pppoes and ip",
  "geneve 5",
];

/** A frame that some of the filters accept: partly valid headers, the rest random. */
function randomFrame(random: Random): Buffer {
  const bytes = Buffer.alloc(14 + random.below(400));
  for (let i = 0; i < bytes.length; i++) bytes[i] = random.below(256);
  const put = (at: number, hex: string): void => {
    Buffer.from(hex, "hex").copy(bytes, at);
  };
  if (random.oneIn(3)) put(0, random.pick(["020000000001", "ffffffffffff", "01005e000001"]));
  put(12, random.pick(["0800", "0800", "0800", "86dd", "0806", "8100", "88b5"]));
  let l3 = 14;
  if (bytes.readUInt16BE(12) === 0x8100) {
    put(14, random.pick(["0003", "0fff", "0003"]) + random.pick(["0800", "86dd"]));
    l3 = 18;
  }
  if (bytes.length > l3 + 60) {
    const type = bytes.readUInt16BE(l3 - 2);
    if (type === 0x0800) {
      bytes[l3] = 0x40 + random.pick([5, 5, 5, 6, 15]);
      bytes[l3 + 9] = random.pick([6, 17, 1, 2]);
      if (!random.oneIn(4)) bytes.writeUInt16BE(random.pick([0, 0x4000]), l3 + 6);
      if (!random.oneIn(3)) bytes.writeUInt32BE(0x0a000000 + random.below(4), l3 + 12);
      const l4 = l3 + (bytes[l3]! & 15) * 4;
      if (l4 + 10 < bytes.length) {
        bytes.writeUInt16BE(random.pick([80, 53, 50, 90, 91]), l4 + random.pick([0, 2]));
        if (random.oneIn(3)) put(l4 + 8, "1234");
      }
    } else if (type === 0x86dd) {
      bytes[l3] = 0x60;
      bytes[l3 + 6] = random.pick([6, 17, 58, 44]);
      if (random.oneIn(2)) put(l3 + 8, "fe800000000000000000000000000001");
    }
  }
  return bytes;
}

/** The same bytes in one to five spans, cut anywhere. */
function inPieces(bytes: Buffer, random: Random): Frame {
  const frame = new Frame();
  let at = 0;
  while (at < bytes.length) {
    const left = bytes.length - at;
    const length = frame.count === 4 ? left : 1 + random.below(left);
    frame.push(bytes, at, length);
    at += length;
  }
  return frame;
}

const CHAINS = [
  "ip protochain 17",
  "ip protochain 6 and tcp",
  "ip6 protochain 6",
  "ip6 protochain 17",
  "not ip6 protochain 17 and ip6",
  "protochain 17",
  "udp or ip6 protochain 17 or (ip protochain 6 and not arp)",
  "ip6 protochain 17 and ip6 protochain 6",
  "vlan and ip6 protochain 17",
];

/**
 * IPv4 or IPv6 with a chain of headers: options, routing, authentication. IPv6 gets no
 * authentication header: libpcap's program jumps back to its start after one, and tcpdump never
 * ends.
 */
function chainedFrame(random: Random): Buffer {
  const v6 = random.oneIn(2);
  const tag = random.oneIn(4) ? "81000003" : "";
  const links = Array.from({ length: random.below(7) }, () =>
    v6 ? random.pick([0, 60, 43, 44]) : 51,
  );
  const last = random.pick([6, 17, 59, 89]);
  const chain = links.map((kind, n) => {
    const words = random.below(3);
    const bytes = random.bytes(kind === 51 ? 4 * (words + 2) : 8 * (words + 1));
    bytes[0] = links[n + 1] ?? last;
    bytes[1] = words;
    return bytes;
  });
  const first = links[0] ?? last;
  const head = v6
    ? `60000000${"0000"}${first.toString(16).padStart(2, "0")}40${"fe80".padEnd(64, "0")}`
    : `45000000000000004${"0"}${first.toString(16).padStart(2, "0")}00000a0000010a000002`;
  const frame = Buffer.concat([
    Buffer.from(`020000000001020000000002${tag}${v6 ? "86dd" : "0800"}${head}`, "hex"),
    ...chain,
    random.bytes(8 + random.below(30)),
  ]);
  return random.oneIn(5) ? frame.subarray(0, 20 + random.below(frame.length - 20)) : frame;
}

/**
 * An expression of libpcap's language, mostly valid. Without geneve: after an "or", libpcap's
 * program reads memory that it has not written.
 */
function expression(random: Random, depth: number): string {
  if (depth > 0 && !random.oneIn(3)) {
    const one = expression(random, depth - 1);
    if (random.oneIn(4)) return `not (${one})`;
    return `(${one}) ${random.pick(["and", "or"])} ${expression(random, depth - 1)}`;
  }
  const number = (): string => String(random.pick([0, 1, 3, 6, 7, 17, 53, 59, 80, 255, 2048]));
  const field = (): string => {
    const proto = random.pick(["ether", "ip", "ip6", "tcp", "udp", "icmp", "link"]);
    const index = random.pick(["0", "1", "12", "13", "40", "(len - 20)", "ip[2:2]", "255"]);
    return `${proto}[${index}${random.pick(["", ":2", ":4"])}]`;
  };
  const sum = (): string =>
    `${random.pick([field(), "len", number()])} ${random.pick(["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"])} ${random.pick([field(), number()])}`;
  switch (random.below(9)) {
    case 0:
      return `${random.pick([field(), sum()])} ${random.pick(["=", "!=", "<", ">", "<=", ">="])} ${number()}`;
    case 1:
      return `${sum()} = ${field()}`;
    case 2:
      return `${random.pick(["", "ip ", "ip6 "])}protochain ${number()}`;
    case 3:
      return random.pick(["vlan", "vlan 3", "mpls", "mpls 3", "pppoes", "pppoed", "llc"]);
    case 4:
      return `${random.pick(["", "tcp ", "udp "])}${random.pick(["src ", "dst ", ""])}port ${number()}`;
    case 5:
      return random.pick([
        "host 10.0.0.1",
        "net 10.0.0.0/30",
        "host fe80::1",
        "ether host 2:0:0:0:0:1",
      ]);
    case 6:
      return random.pick([
        "ip",
        "ip6",
        "arp",
        "tcp",
        "icmp6",
        "igmp",
        "ip multicast",
        "ether broadcast",
      ]);
    case 7:
      return `${random.pick(["ip", "ip6", "ether"])} proto ${number()}`;
    default:
      return random.pick([`less ${number()}`, `greater ${number()}`, `portrange ${number()}-99`]);
  }
}

describe.skipIf(why !== undefined)(`libpcap's filters${why ?? ""}`, () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "ringwire-filter-"));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it("let through what tcpdump lets through, whole frames and frames in pieces", async () => {
    const random = new Random(seedOfRun());
    const frames = Array.from({ length: cases(20_000) }, () => randomFrame(random));
    const path = join(folder, "all.pcapng");
    const recorder = new Recorder(new FileOutput(path), { queueBytes: 1 << 28 });
    const port = recorder.addInterface({ name: "vm1", layer: "frame" });
    for (const bytes of frames) recorder.span(port, Direction.IN, 0, bytes, 0, bytes.length, 0);
    expect((await recorder.stop("enough")).packets).toBe(frames.length);

    let liked = 0;
    for (const text of FILTERS) {
      const theirs = outputOf("tcpdump", ["-r", path, "-w", "-", text]);
      const expected = [...readCapture(theirs)].map(({ bytes }) =>
        Buffer.from(bytes).toString("hex"),
      );
      const filter = await compileFilter(text);
      const said = (which: string) => `${text}, ${which}, seed ${random.seed}`;
      const whole = frames.filter((bytes) => filter.matchesSpan(bytes, 0, bytes.length));
      expect(
        whole.map((bytes) => bytes.toString("hex")),
        said("whole"),
      ).toEqual(expected);
      const pieces = frames.filter((bytes) => filter.matches(inPieces(bytes, random)));
      expect(
        pieces.map((bytes) => bytes.toString("hex")),
        said("in pieces"),
      ).toEqual(expected);
      if (expected.length > 0) liked++;
    }
    // Nearly every filter accepts some frame; otherwise the comparison would prove nothing.
    expect(liked).toBeGreaterThan(FILTERS.length - 6);
  });

  it("are refused in libpcap's words", async () => {
    await expect(compileFilter("tcp prot 80")).rejects.toThrow(CaptureFilterError);
    await expect(compileFilter("tcp prot 80")).rejects.toMatchObject({
      code: "FILTER",
      message: tcpdumpSays("tcp prot 80"),
    });
    await expect(compileFilter("port 99999")).rejects.toMatchObject({
      code: "FILTER",
      message: tcpdumpSays("port 99999"),
    });
    // libpcap compiles these for Linux sockets only; in a capture file they would accept nothing.
    for (const text of ["inbound", "tcp and outbound"]) {
      await expect(compileFilter(text)).rejects.toThrow(/only a Linux socket knows/);
    }
  });

  it("name the package when there is no libpcap", () => {
    expect(() => openLibrary(["libpcap-that-is-not-there.so.9"])).toThrow(/package libpcap0\.8/);
  });

  it("stand in the interface's description, and an empty one lets everything through", async () => {
    const filter = await compileFilter("udp port 53");
    const path = join(folder, "some.pcapng");
    const recorder = new Recorder(new FileOutput(path), { filter });
    recorder.addInterface({ name: "vm1", layer: "frame" });
    await recorder.stop("enough");
    const described = outputOf("capinfos", [path]).toString();
    expect(described).toContain("udp port 53");
    expect((await compileFilter("")).matchesSpan(Buffer.alloc(14), 0, 14)).toBe(true);
  });

  /** Compares with tcpdump, which uses the same libpcap on a file of `frames`. */
  async function agrees(path: string, frames: readonly Buffer[], text: string, seed: number) {
    const program = new BpfProgram(compile(text));
    const theirs = outputOf("tcpdump", ["-r", path, "-w", "-", "--", text]);
    const expected = new Set([...readCapture(theirs)].map(({ bytes }) => hex(bytes)));
    const differ = frames.filter((bytes) => {
      const accepted = program.run(bytes, 0, bytes.length, bytes.length) !== 0;
      return accepted !== expected.has(hex(bytes));
    });
    expect(differ.length, `${text}, seed ${seed}, the first is ${hex(differ[0])}`).toBe(0);
    return expected.size;
  }

  const written = async (name: string, frames: readonly Buffer[]): Promise<string> => {
    const path = join(folder, name);
    const recorder = new Recorder(new FileOutput(path), { queueBytes: 1 << 28 });
    const port = recorder.addInterface({ name: "vm1", layer: "frame" });
    for (const bytes of frames) recorder.span(port, Direction.IN, 0, bytes, 0, bytes.length, 0);
    await recorder.stop("enough");
    return path;
  };

  it("case-W3 protochain, alone and in others: what tcpdump lets through", async () => {
    const random = new Random(seedOfRun());
    const frames = Array.from({ length: 400 }, () => chainedFrame(random));
    const path = await written("chains.pcapng", frames);
    let liked = 0;
    for (const text of CHAINS) liked += await agrees(path, frames, text, random.seed);
    expect(liked).toBeGreaterThan(frames.length / 4);
    // Now with the compiler's process, and with frames in pieces.
    const filter = await compileFilter("ip6 protochain 17 and not ip6 protochain 59");
    const pieces = frames.filter((bytes) => filter.matches(inPieces(bytes, random)));
    const whole = frames.filter((bytes) => filter.matchesSpan(bytes, 0, bytes.length));
    expect(pieces.length).toBe(whole.length);
  });

  it("case-W3 a frame that holds tcpdump for ever is refused, and costs a bounded time", () => {
    const program = new BpfProgram(compile("ip6 protochain 6"));
    const head = "02000000000102000000000286dd6000000000003340fe80".padEnd(2 * 54, "0");
    const authentication = "3304".padEnd(2 * 24, "0");
    const frame = Buffer.from(head + authentication.repeat(4), "hex");
    for (let n = 0; n < 1000; n++)
      expect(program.run(frame, 0, frame.length, frame.length)).toBe(0);
  });

  it("case-W3 random expressions: what tcpdump lets through, or a sentence", async () => {
    const random = new Random(seedOfRun());
    const frames = [
      // Without IPv6 headers followed by random bytes: see chainedFrame.
      ...Array.from({ length: 200 }, () => randomFrame(random)).filter((f) => f[20] !== 44),
      ...Array.from({ length: 100 }, () => chainedFrame(random)),
    ];
    const path = await written("random.pcapng", frames);
    let compared = 0;
    for (let n = 0; n < cases(600); n++) {
      const text = expression(random, 3);
      let ours: unknown;
      try {
        await agrees(path, frames, text, random.seed);
        compared++;
      } catch (error) {
        ours = error;
      }
      // Both refuse the same expressions, with the same message.
      if (ours instanceof CaptureFilterError) {
        expect(ours.message, text).toBe(tcpdumpSays(text));
        continue;
      }
      if (ours !== undefined) throw ours;
    }
    expect(compared).toBeGreaterThan(cases(600) / 3);
  });

  it("case-W3 a program too long to be run, and a parser that gives up: a sentence", async () => {
    // The loop keeps libpcap from optimising, which is also faster.
    const ports = Array.from({ length: 100 }, (_, n) => `port ${n}`).join(" or ");
    await expect(compileFilter(`ip protochain 6 or ${ports}`)).rejects.toMatchObject({
      code: "FILTER",
      message: expect.stringMatching(/^it compiles to \d+ BPF instructions; 1 to 4096 can be run$/),
    });
    const deep = `${"(".repeat(4000)}ip`;
    await expect(compileFilter(deep)).rejects.toThrow(CaptureFilterError);
    await expect(compileFilter("x".repeat(4097))).rejects.toMatchObject({ code: "FILTER" });
  });

  it("attack-S13 a text with a control character is refused, whatever stands behind it", async () => {
    const controls = Array.from({ length: 0xa0 }, (_, code) => String.fromCharCode(code));
    for (const control of controls.filter((c) => /\p{Cc}/u.test(c))) {
      await expect(compileFilter(`host 10.0.0.1${control} and garbage(((`)).rejects.toMatchObject({
        code: "FILTER",
        message: expect.stringMatching(/^character 14 is the control character U\+00[0-9A-F]{2}$/),
      });
    }
  });

  it("attack-S15 names of hosts and networks are not looked up, those of services are known", async () => {
    for (const text of [
      "host lab.example",
      "udp or src lab.example",
      "ether host gate",
      "net loopback",
      "port 80 and (host 10.0.0.1 or lab)",
    ]) {
      await expect(compileFilter(text)).rejects.toMatchObject({
        code: "FILTER",
        message: expect.stringMatching(/is a name, and names are not looked up: use an address$/),
      });
    }
    await compileFilter("tcp port http or domain");
  });

  it("attack-S15 many filters of one wait behind each other, and another's is compiled", async () => {
    const greedy = Array.from({ length: 40 }, () => compileFilter("icmp", "10.0.0.1"));
    const other = compileFilter("icmp", "10.0.0.2");
    const answers = await Promise.allSettled(greedy);
    const refused = answers.filter(({ status }) => status === "rejected");
    expect(refused).toHaveLength(36);
    for (const { reason } of refused as PromiseRejectedResult[]) {
      expect(reason).toMatchObject({ code: "BUSY" });
    }
    await other;
    // Compilations can start again.
    await Promise.all(Array.from({ length: 4 }, () => compileFilter("icmp", "10.0.0.1")));
  });
});

const hex = (bytes: Uint8Array = new Uint8Array(0)): string => Buffer.from(bytes).toString("hex");

/** libpcap's error message, which tcpdump prints after its own name. */
function tcpdumpSays(text: string): string {
  try {
    outputOf("tcpdump", ["-d", text]);
  } catch (error) {
    const lines = (error as { stderr: Buffer }).stderr.toString().trim().split("\n");
    return lines.at(-1)!.replace(/^tcpdump: /, "");
  }
  throw new Error(`tcpdump accepts ${text}`);
}
