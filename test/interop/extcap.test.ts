/**
 * `ringwire extcap`, called as Wireshark's documentation describes (doc/extcap.adoc,
 * doc/wsdg_src/wsdg_capture.adoc), and by a real tshark.
 */
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CapturedPacket } from "../../shared/pcapng/packet.ts";
import { fileSoFar } from "../support/capture-reading.ts";
import { DeviceProcess } from "../support/device-process.ts";
import { EXTCAP_PROGRAM, Fifo, WiresharkHome } from "../support/extcap.ts";
import { missingProgram } from "../support/installed.ts";
import {
  type Child,
  eventually,
  NODE,
  ROOT,
  run,
  runRingwire,
  startRingwire,
} from "../support/process.ts";
import { portsOf } from "../support/status.ts";

const why = missingProgram("tshark", "mkfifo");
/** A port that never answers (IANA: discard), and that no test opens. */
const NOBODY = "127.0.0.1:1009";

const extcap = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  runRingwire(["extcap", ...args], { env });

async function answerOf(args: readonly string[], env?: Readonly<Record<string, string>>) {
  const child = await extcap(args, env);
  expect(child.exit?.code, child.said()).toBe(0);
  // Wireshark shows anything on stderr as an error.
  expect(child.stderr).toBe("");
  return child.stdout.split("\n").slice(0, -1);
}

/** A device and two NICs: ena1 sends 100 frames of 60 bytes a second to everybody. */
class Stage {
  readonly device: DeviceProcess;
  readonly #nics: readonly Child[];

  private constructor(device: DeviceProcess, nics: readonly Child[]) {
    this.device = device;
    this.#nics = nics;
  }

  static async open(): Promise<Stage> {
    const device = await DeviceProcess.start();
    const nic = (name: string, args: readonly string[]) =>
      startRingwire(["pkt-gen", "-i", `netmap:${name}`, "--connect", device.url, ...args]);
    const receiver = nic("ena0", ["-f", "rx"]);
    await eventually(
      "ena0",
      async () => portsOf(await device.status()).includes("ena0") || undefined,
    );
    const sender = nic("ena1", ["-f", "tx", "-R", "100", "-w", "0", "-D", "ff:ff:ff:ff:ff:ff"]);
    await eventually(
      "ena1",
      async () => portsOf(await device.status()).includes("ena1") || undefined,
    );
    return new Stage(device, [receiver, sender]);
  }

  get at(): string {
    return `127.0.0.1:${this.device.port}`;
  }

  name(source: string): string {
    return `ringwire:${source}@${this.at}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const nic of this.#nics) await nic.stop();
    await this.device.stop();
  }
}

let stage: Stage;
beforeAll(async () => {
  stage = await Stage.open();
});
afterAll(() => stage[Symbol.asyncDispose]());

describe("fault-N6 questions", () => {
  const HELP = pathToFileURL(join(ROOT, "dist/cli/wireshark/plugin/README.md")).href;
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    version: string;
  };
  const HEAD = `extcap {version=${version}}{help=${HELP}}{display=ringwire}`;
  const ENA0 = ["--extcap-interface", "ringwire:ena0@127.0.0.1:7700"];

  it("--extcap-interfaces: the ports of the device", async () => {
    const { at } = stage;
    const lines = await answerOf(["--extcap-interfaces", "--extcap-version=4.0"], {
      RINGWIRE_CONNECT: stage.device.url,
    });
    expect(lines.slice(0, 5)).toEqual([
      HEAD,
      `interface {value=ringwire:switch@${at}}{display=ringwire: switch at ${at}, each frame once}`,
      `interface {value=ringwire:switch+ring@${at}}{display=ringwire: switch with all rings at ${at}}`,
      `interface {value=ringwire:any@${at}}{display=ringwire: all ports at ${at}, a frame once at each}`,
      `interface {value=ringwire:any+ring@${at}}{display=ringwire: all ports with their rings at ${at}}`,
    ]);
    // NICs are listed in the order in which they joined.
    expect(lines.slice(5).sort()).toEqual([
      `interface {value=ringwire:ena0@${at}}{display=ringwire: NIC ena0 (ena) at ${at}}`,
      `interface {value=ringwire:ena1@${at}}{display=ringwire: NIC ena1 (ena) at ${at}}`,
    ]);
  });

  it("--extcap-interfaces: a list of devices, those that do not answer too", async () => {
    const lines = await answerOf(["--extcap-interfaces"], {
      RINGWIRE_CONNECT: "not.asked:1",
      RINGWIRE_DEVICES: `${NOBODY}, ${stage.at} a{b}:99999,${NOBODY}`,
    });
    expect(lines.filter((line) => line.includes("switch@"))).toEqual([
      `interface {value=ringwire:switch@${NOBODY}}{display=ringwire: nothing listens at ${NOBODY}}`,
      `interface {value=ringwire:switch@${stage.at}}{display=ringwire: switch at ${stage.at}, each frame once}`,
      'interface {value=ringwire:switch@a_b_:99999}{display=ringwire: "99999" is not a port}',
    ]);
  });

  it("--extcap-dlts", async () => {
    expect(await answerOf(["--extcap-dlts", ...ENA0])).toEqual([
      "dlt {number=1}{name=EN10MB}{display=Ethernet}",
    ]);
    expect(
      await answerOf(["--extcap-dlts", "--extcap-interface", "ringwire:any+ring@[::1]:7700"]),
    ).toEqual([
      "dlt {number=252}{name=WIRESHARK_UPPER_PDU}{display=ringwire batches}",
      "dlt {number=1}{name=EN10MB}{display=Ethernet}",
    ]);
  });

  const FIELDS = [
    "arg {number=0}{call=--device}{display=Device}{tooltip=HOST:PORT or URL of the device}{type=string}{default=127.0.0.1:7700}",
    "arg {number=1}{call=--nic}{display=NIC}{tooltip=A NIC or uplink, the switch, or any}{type=selector}{reload=true}{placeholder=Ask the device}",
    "arg {number=2}{call=--ring}{display=Ring transactions}{tooltip=The batches of the link too}{type=boolflag}{default=false}",
    "arg {number=3}{call=--snap}{display=Snap length}{tooltip=Bytes kept of a frame; 0: all of it}{type=unsigned}{range=0,262144}{default=0}",
    "arg {number=4}{call=--count}{display=Packets}{tooltip=The capture ends after so many; 0: never}{type=unsigned}{range=0,999999999}{default=0}",
  ];

  it("--extcap-config", async () => {
    expect(await answerOf(["--extcap-config", ...ENA0])).toEqual([
      ...FIELDS,
      "value {arg=1}{value=ena0}{display=ena0}{default=true}",
      "value {arg=1}{value=switch}{display=switch}{default=false}",
      "value {arg=1}{value=any}{display=any}{default=false}",
    ]);
  });

  it("--extcap-config of an interface with rings asks nothing about them", async () => {
    expect(
      await answerOf(["--extcap-config", "--extcap-interface", "ringwire:any+ring@127.0.0.1:7700"]),
    ).toEqual([
      ...FIELDS.filter((line) => !line.includes("--ring")),
      "value {arg=1}{value=any}{display=any}{default=true}",
      "value {arg=1}{value=switch}{display=switch}{default=false}",
    ]);
  });

  it("--extcap-reload-option: the NICs that there are now, of the device in the dialog", async () => {
    const lines = await answerOf([
      ...["--extcap-config", ...ENA0, "--extcap-reload-option", "nic"],
      ...["--device", stage.device.url, "--snap", "0"],
    ]);
    expect(lines.sort()).toEqual([
      "value {arg=1}{value=any}{display=any}{default=false}",
      "value {arg=1}{value=ena0}{display=NIC ena0 (ena)}{default=true}",
      "value {arg=1}{value=ena1}{display=NIC ena1 (ena)}{default=false}",
      "value {arg=1}{value=switch}{display=switch}{default=false}",
    ]);
  });

  it.skipIf(why)("--extcap-capture-filter: nothing, or what is wrong in one line", async () => {
    expect(await answerOf(["--extcap-capture-filter", "icmp or -1 != len", ...ENA0])).toEqual([]);
    const lines = await answerOf(["--extcap-capture-filter", "ip and and", ...ENA0]);
    expect(lines).toEqual([expect.stringContaining("syntax error")]);
  });

  it.each([
    ["nothing", [], /--help/],
    ["an argument of nobody's", ["--extcap-nonsense"], /"--extcap-nonsense" is no argument/],
    ["an argument without its value", ["--extcap-interface"], /--extcap-interface needs a value/],
    ["no interface", ["--extcap-dlts"], /--extcap-interface is needed/],
    ["somebody else's", ["--extcap-dlts", "--extcap-interface", "eth0"], /"eth0" is no interface/],
    [
      "no device in it",
      ["--extcap-config", "--extcap-interface", "ringwire:a@"],
      /is no interface/,
    ],
    [
      "no such selector",
      ["--extcap-config", ...ENA0, "--extcap-reload-option", "snap"],
      /takes nic/,
    ],
    ["no fifo", ["--capture", ...ENA0], /--capture needs --fifo/],
    ["no number", ["--capture", ...ENA0, "--fifo", "/x", "--count", "-1"], /--count takes a whole/],
    ["too large", ["--capture", ...ENA0, "--fifo", "/x", "--snap", "262145"], /--snap takes a/],
  ] as const)("wrong usage: %s", async (_name, args, sentence) => {
    const child = await extcap(args);
    expect(child.exit?.code, child.said()).toBe(2);
    expect(child.stdout).toBe("");
    expect(child.stderr).toMatch(sentence);
    expect(child.stderr.match(/\n/g)).toHaveLength(1);
  });
});

/** A complete file: it ends with the statistics of each interface, and they are right. */
function readWhole(path: string): readonly CapturedPacket[] {
  const { reader, packets } = fileSoFar(path);
  expect(reader.pending).toBe(0);
  for (const { index } of reader.interfaces) {
    const last = reader.statistics.findLast((told) => told.interface.index === index);
    expect(last?.delivered).toBe(BigInt(packets.filter((p) => p.interface.index === index).length));
  }
  return packets;
}

/** The interfaces of "any+ring". */
const EVERYTHING = ["ena0", "ena0:ring", "ena1", "ena1:ring"];

/** Whether the file has packets of each interface. A snapshot of the rings precedes all frames. */
function hasEverything(path: string): true | undefined {
  const names = new Set(fileSoFar(path).packets.map((p) => p.interface.name));
  return EVERYTHING.every((name) => names.has(name)) || undefined;
}

const holds = (path: string, bytes: number): boolean =>
  existsSync(path) && statSync(path).size >= bytes;

/** Number of captures that the device has begun. */
const begun = ({ device }: Stage): number =>
  device.child.stderr.match(/a capture of \S+ began/g)?.length ?? 0;

describe.skipIf(why)("--capture", () => {
  const captureArgs = (source: string, fifo: string, more: readonly string[] = []) => [
    ...["--capture", "--extcap-interface", stage.name(source), "--fifo", fifo],
    ...more,
  ];
  const startCapture = (source: string, fifo: string, more?: readonly string[]) =>
    startRingwire(["extcap", ...captureArgs(source, fifo, more)]);
  async function expectQuiet(child: Child): Promise<void> {
    await child.ended();
    expect(child.exit, child.said()).toEqual({ code: 0, signal: null });
    expect(child.stdout + child.stderr).toBe("");
  }

  it("ends after --count, with --snap, --nic and a filter", async () => {
    await using fifo = new Fifo();
    const reader = fifo.read();
    const more = ["--nic", "ena1", "--count", "7", "--snap", "20"];
    const child = startCapture("ena0", fifo.path, [...more, "--extcap-capture-filter", "udp"]);
    await expectQuiet(child);
    await reader.ended();
    const packets = readWhole(fifo.file);
    expect(packets.map((p) => [p.interface.name, p.bytes.length, p.originalLength])).toEqual(
      Array.from({ length: 7 }, () => ["ena1", 20, 60]),
    );
  });

  it("ends well on SIGTERM", async () => {
    await using fifo = new Fifo();
    const reader = fifo.read();
    const child = startCapture("any+ring", fifo.path);
    await eventually("packets of everything", () => hasEverything(fifo.file));
    child.signal("SIGTERM");
    await expectQuiet(child);
    await reader.ended();
    const names = new Set(readWhole(fifo.file).map((p) => p.interface.name));
    expect([...names].sort()).toEqual(EVERYTHING);
  });

  it("ends when the reader goes, also when there is nothing to write", async () => {
    await using fifo = new Fifo();
    const reader = fifo.read();
    const child = startCapture("ena0", fifo.path, ["--extcap-capture-filter", "vlan 4000"]);
    await eventually("the header", () => holds(fifo.file, 1) || undefined);
    reader.signal("SIGKILL");
    await expectQuiet(child);
  });

  it("ends on SIGTERM while nobody reads the fifo", async () => {
    await using fifo = new Fifo();
    fifo.read('exec sleep 600 < "$1"');
    const before = begun(stage);
    // The snapshot of the rings alone does not fit into the pipe.
    const child = startCapture("any+ring", fifo.path);
    await eventually("the capture", () => begun(stage) > before || undefined);
    child.signal("SIGTERM");
    await expectQuiet(child);
  });

  it("no such fifo", async () => {
    const child = await extcap(captureArgs("ena0", "/nowhere/fifo"));
    expect(child.exit?.code, child.said()).toBe(1);
    expect(child.stderr).toMatch(/^ringwire: the fifo can't be used: ENOENT.*\n$/);
  });

  it.each([
    ["no device", ["--device", NOBODY], 1, /nothing listens at 127\.0\.0\.1:1009/],
    ["no such NIC", ["--nic", "ena7"], 1, /no NIC or uplink "ena7"/],
    ["a bad filter", ["--extcap-capture-filter", "ip and and"], 2, /the filter "ip and and"/],
  ] as const)(
    "%s: a sentence, and the fifo's reader is let go",
    async (_n, more, code, sentence) => {
      await using fifo = new Fifo();
      const reader = fifo.read();
      const child = startCapture("ena0", fifo.path, more);
      await child.ended();
      expect(child.exit?.code, child.said()).toBe(code);
      expect(child.stderr).toMatch(sentence);
      expect((await reader.ended()).code).toBe(0);
      expect(readFileSync(fifo.file)).toHaveLength(0);
    },
  );
});

describe("ringwire-extcap", () => {
  const LIST = ["--extcap-dlts", "--extcap-interface", "ringwire:any@[::1]:7700"];
  const ANSWER = "dlt {number=1}{name=EN10MB}{display=Ethernet}\n";
  const NONE = { PATH: `${join(NODE, "..")}:/usr/bin:/bin` };

  it("runs the ringwire that it came with, through links", async () => {
    using home = new WiresharkHome();
    symlinkSync(EXTCAP_PROGRAM, join(home.folder, "one"));
    symlinkSync("../one", join(home.extcap, "two"));
    const child = await run([join(home.extcap, "two"), ...LIST], { env: NONE });
    expect(child.stdout, child.said()).toBe(ANSWER);
    expect(child.stderr).toBe("");
  });

  it("prefers the one in PATH, and to that RINGWIRE_BIN", async () => {
    using home = new WiresharkHome();
    const program = (folder: string, word: string): string => {
      const path = join(home.folder, folder, "ringwire");
      mkdirSync(join(path, ".."), { recursive: true });
      writeFileSync(path, `#!/bin/sh\necho ${word} "$@"\n`, { mode: 0o755 });
      return path;
    };
    const inPath = { PATH: `${join(program("in-path", "path"), "..")}:${NONE.PATH}` };
    const first = await run([EXTCAP_PROGRAM, "--a b", "c"], { env: inPath });
    expect(first.stdout).toBe("path extcap --a b c\n");
    const named = { ...inPath, RINGWIRE_BIN: program("named one", "named") };
    expect((await run([EXTCAP_PROGRAM, "x"], { env: named })).stdout).toBe("named extcap x\n");
    const gone = { ...inPath, RINGWIRE_BIN: "/nowhere/ringwire" };
    expect((await run([EXTCAP_PROGRAM, "x"], { env: gone })).stdout).toBe("path extcap x\n");
  });

  it("says what to do where there is none", async () => {
    using home = new WiresharkHome();
    const copy = join(home.folder, "a/b/c/ringwire-extcap");
    mkdirSync(join(copy, ".."), { recursive: true });
    writeFileSync(copy, readFileSync(EXTCAP_PROGRAM));
    const child = await run(["sh", copy, ...LIST], { env: { PATH: "/usr/bin:/bin" } });
    expect(child.exit?.code).toBe(1);
    expect(child.stdout).toBe("");
    expect(child.stderr).toMatch(/no ringwire: .*RINGWIRE_BIN/);
  });
});

describe.skipIf(why)("tshark", () => {
  /** A Wireshark with our program in its extcap folder, and the test's device in its list. */
  function openHome(): WiresharkHome {
    const home = new WiresharkHome();
    symlinkSync(EXTCAP_PROGRAM, join(home.extcap, "ringwire-extcap"));
    return home;
  }
  const tshark = (home: WiresharkHome, args: readonly string[], devices = stage.at) =>
    home.run(["tshark", ...args], { RINGWIRE_DEVICES: devices });

  it("-D lists the ports", async () => {
    using home = openHome();
    const child = await tshark(home, ["-D"]);
    for (const source of ["switch", "switch+ring", "any", "any+ring", "ena0", "ena1"]) {
      expect(child.stdout).toContain(` ${stage.name(source)} (ringwire: `);
    }
  });

  it("-L knows the link types", async () => {
    using home = openHome();
    const child = await tshark(home, ["-i", stage.name("any+ring"), "-L"]);
    expect(child.stdout, child.said()).toContain("WIRESHARK_UPPER_PDU (ringwire batches)");
  });

  it("-i captures the frames of one NIC, that pass a filter", async () => {
    using home = openHome();
    const child = await tshark(home, [
      ...["-i", stage.name("ena0"), "-f", "udp", "-c", "5", "-a", "duration:20"],
      ...["-T", "fields", "-e", "frame.interface_name", "-e", "frame.len", "-e", "udp.dstport"],
    ]);
    expect(child.exit?.code, child.said()).toBe(0);
    expect(child.stdout).toBe("ena0\t60\t1234\n".repeat(5));
    expect(child.stderr).not.toContain("Error");
  });

  it("-i with rings: frames and batches, until it is stopped", async () => {
    using home = openHome();
    const file = join(home.folder, "rings.pcapng");
    const child = home.start(["tshark", "-i", stage.name("any+ring"), "-w", file], {
      RINGWIRE_DEVICES: stage.at,
    });
    await eventually("packets of everything", () => hasEverything(file));
    child.signal("SIGINT");
    expect((await child.ended()).code, child.said()).toBe(0);
    expect(child.stderr).not.toContain("Error");
    const read = await run([
      ...[
        "tshark",
        "-r",
        file,
        "-T",
        "fields",
        "-e",
        "frame.interface_name",
        "-e",
        "frame.protocols",
      ],
    ]);
    const seen = new Set(read.stdout.split("\n").slice(0, -1));
    expect([...seen].map((line) => line.split("\t")[0]).sort()).toEqual(
      expect.arrayContaining(EVERYTHING),
    );
  });

  it.each([
    ["a bad filter", "ena0", ["-f", "ip and and"], /the filter "ip and and": can't parse/],
    ["nobody there", `switch@${NOBODY}`, [], /nothing listens at 127\.0\.0\.1:1009/],
  ] as const)("%s: says why, and ends", async (_name, source, more, sentence) => {
    using home = openHome();
    const name = source.includes("@") ? `ringwire:${source}` : stage.name(source);
    const child = await tshark(home, ["-i", name, ...more], `${stage.at},${NOBODY}`);
    expect(child.exit?.code, child.said()).toBe(1);
    expect(child.stderr).toMatch(sentence);
  });
});
