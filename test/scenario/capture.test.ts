/**
 * `ringwire capture` and --capture with real processes: files, pipes, messages, all kinds of ends.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseRingPacket } from "../../shared/capture/ring-header.ts";
import type { CapturedPacket } from "../../shared/pcapng/packet.ts";
import {
  type CaptureSoFar,
  captureSoFar,
  fileSoFar,
  framesSoFar,
} from "../support/capture-reading.ts";
import { runInside } from "../support/inside.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import {
  type Child,
  eventually,
  NODE,
  runRingwire,
  type StartOptions,
  start,
  startRingwire,
} from "../support/process.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-capture-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const why = whyNoNamespaces();
const SECRET = "open-sesame-4711";

async function startDevice(args: readonly string[] = [], options?: StartOptions) {
  const child = startRingwire(["device", "--listen", "127.0.0.1:0", "--json", ...args], options);
  const { port } = await child.waitForJson<{ port: number }>((line) => line.event === "listening");
  return { child, at: `127.0.0.1:${port}`, port };
}

async function startFrontend(at: string, name: string, args: readonly string[] = []) {
  const child = startRingwire(["frontend", "--connect", at, "--name", name, "--json", ...args]);
  await child.waitForJson((line) => line.event === "ready");
  return child;
}

/** Sends `frames` frames of 60 bytes from a NIC called `name`, and waits until they are sent. */
async function send(at: string, frames: number, args: readonly string[] = []) {
  // A process of its own, because frame ids begin at 1 in each process.
  const child = await runRingwire([
    ...["pkt-gen", "-i", "netmap:ena9", "-f", "tx", "-n", String(frames), "-l", "60"],
    ...["--connect", at, "-w", "0", ...args],
  ]);
  expect(child.exit?.code, child.said()).toBe(0);
}

function read(path: string): CaptureSoFar {
  const all = captureSoFar(readFileSync(path));
  // Nothing follows the last whole block.
  expect(all.reader.pending).toBe(0);
  return all;
}

/** Waits until the file has `count` frames; a frame counts each time it was captured. */
const hasFrames = async (path: string, count: number) =>
  await eventually(`${count} frames in ${path}`, () =>
    framesSoFar(path).length >= count ? true : undefined,
  );

/** Expects a complete file: it ends with the statistics of each interface, and they are right. */
function expectWhole(path: string): readonly CapturedPacket[] {
  const { reader, packets } = read(path);
  for (const described of reader.interfaces) {
    const last = reader.statistics.findLast((s) => s.interface.index === described.index);
    const own = packets.filter((p) => p.interface.index === described.index);
    expect(last?.delivered, described.name).toBe(BigInt(own.length));
  }
  return packets;
}

const captureArgs = (at: string, args: readonly string[]) => ["capture", "--connect", at, ...args];

describe("ringwire capture", () => {
  let device: Child;
  let sink: Child;
  let at: string;

  beforeAll(async () => {
    ({ child: device, at } = await startDevice());
    sink = await startFrontend(at, "sink");
  });
  afterAll(async () => {
    await sink.stop();
    await device.stop();
  });

  /** Starts a capture and waits until it runs. */
  const startCapture = async (args: readonly string[]) => {
    const child = startRingwire(captureArgs(at, args));
    await child.waitFor(/has begun/);
    return child;
  };

  it("-c N -w FILE: both sightings of each frame, one id, and an end with statistics", async () => {
    const path = join(folder, "count.pcapng");
    await using capture = await startCapture(["-i", "any", "-w", path, "-c", "20", "--json"]);
    await send(at, 100);
    expect(await capture.ended()).toEqual({ code: 0, signal: null });
    const result = await capture.waitForJson<Record<string, unknown>>((l) => l.event === "result");
    expect(result).toMatchObject({ reason: "count", packets: 20, bytes: statSync(path).size });
    const packets = expectWhole(path);
    expect(packets).toHaveLength(20);
    const flags = packets.map((p) => [p.interface.name, p.flags & 3, p.queue, p.originalLength]);
    expect(flags.filter(([name]) => name === "ena9")).toEqual(Array(10).fill(["ena9", 2, 0, 60]));
    // Submission queues of both directions share one numbering: the sink's are tx 0, rx 1.
    expect(flags.filter(([name]) => name === "sink")).toEqual(Array(10).fill(["sink", 1, 1, 60]));
    expect(new Set(packets.map((p) => p.id)).size).toBe(10);
    // The file holds other users' traffic, so only its owner may read it.
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it("ux-P2 each frame is there once, at the switch, with the rings of all NICs beside it", async () => {
    const path = join(folder, "once.pcapng");
    const bare = await fetch(`http://${at}/capture?count=10`);
    await using capture = await startCapture(["-w", path, "--ring"]);
    await send(at, 10);
    await hasFrames(path, 10);
    capture.signal("SIGINT");
    expect((await capture.ended()).code).toBe(0);
    const packets = expectWhole(path);
    const frames = packets.filter((p) => p.linkType === 1);
    expect(frames.map((p) => p.interface.name)).toEqual(Array(10).fill("switch"));
    expect(new Set(frames.map((p) => p.id)).size).toBe(10);
    const rings = new Set(packets.filter((p) => p.linkType !== 1).map((p) => p.interface.name));
    expect([...rings].sort()).toEqual(["ena9:ring", "sink:ring"]);
    // The page without parameters gives the same frames.
    const page = captureSoFar(new Uint8Array(await bare.arrayBuffer()));
    expect(page.packets.map((p) => p.interface.name)).toEqual(Array(10).fill("switch"));
  });

  it("ux-P2 what was captured at every port is replayed once", async () => {
    const path = join(folder, "pair.pcapng");
    await using capture = await startCapture(["-i", "any", "--ring", "-w", path]);
    await send(at, 6);
    await hasFrames(path, 12);
    capture.signal("SIGINT");
    expect((await capture.ended()).code).toBe(0);
    const replayed = await runInside(["replay", path, "--connect", at]);
    expect(replayed.exit?.code, replayed.said()).toBe(0);
    expect(replayed.stdout).toMatch(/^Sent 6 packets/m);
    expect(replayed.stdout).toMatch(
      /^12 frames on 2 interfaces \((ena9, sink|sink, ena9)\), 6 are copies; -i to choose\.$/m,
    );
    const chosen = await runInside(["replay", path, "--connect", at, "-i", "sink"]);
    expect(chosen.stdout, chosen.said()).toMatch(/^Sent 6 packets/m);
    expect(chosen.stdout).not.toMatch(/copies/);
    const none = await runInside(["replay", path, "--connect", at, "-i", "nobody"]);
    expect(none.exit?.code, none.said()).toBe(1);
    expect(none.stderr).toMatch(/has no interface nobody; it has frames on \w+, \w+$/m);
  });

  it("-s cuts frames, --ring adds batches, --no-frames leaves only those", async () => {
    const both = join(folder, "both.pcapng");
    const rings = join(folder, "rings.pcapng");
    await using one = await startCapture(["-i", "any", "-w", both, "-s", "20", "--ring"]);
    await using two = await startCapture(["-w", rings, "--ring", "--no-frames", "-i", "sink"]);
    await send(at, 50);
    await hasFrames(both, 100);
    await eventually("the batches", () =>
      fileSoFar(rings).packets.some((p) => p.comments.length === 0) ? true : undefined,
    );
    for (const child of [one, two]) {
      child.signal("SIGINT");
      expect(await child.ended()).toEqual({ code: 0, signal: null });
    }
    const packets = expectWhole(both);
    const frames = packets.filter((p) => p.linkType === 1);
    expect(frames).toHaveLength(100);
    for (const frame of frames)
      expect([frame.capturedLength, frame.originalLength]).toEqual([20, 60]);
    const names = new Set(packets.map((p) => p.interface.name));
    expect([...names].sort()).toEqual(["ena9", "ena9:ring", "sink", "sink:ring"]);
    const batches = expectWhole(rings);
    expect(new Set(batches.map((p) => p.interface.name))).toEqual(new Set(["sink:ring"]));
    expect(new Set(batches.map((p) => parseRingPacket(p.bytes)?.personality))).toEqual(
      new Set([0]),
    );
    // The sink joined before the capture, so a snapshot of its windows comes first.
    expect(batches[0]?.comments).toEqual(["snapshot"]);
    expect(batches.at(-1)?.comments).toEqual([]);
  });

  it.each(["SIGINT", "SIGTERM"] as const)(
    "%s: the file is whole, the device takes part no more",
    async (signal) => {
      const ends = () => device.stderr.match(/a capture ended: reader gone/g)?.length ?? 0;
      const before = ends();
      const path = join(folder, `${signal}.pcapng`);
      await using capture = await startCapture(["-w", path]);
      await send(at, 10);
      await hasFrames(path, 10);
      capture.signal(signal);
      expect(await capture.ended()).toEqual({ code: 0, signal: null });
      expect(capture.stderr).toMatch(new RegExp(`10 packets, .* 0 dropped; ended: ${signal}`));
      expect(expectWhole(path)).toHaveLength(10);
      await eventually("the device to notice", () => (ends() > before ? true : undefined));
    },
  );

  it("fault-N1 -w - | head -c 100: EPIPE is an end, and no failure", async () => {
    const script = `set -o pipefail; "$@" | head -c 100 | wc -c`;
    const argv = [NODE, "dist/cli/ringwire.js", ...captureArgs(at, ["-w", "-"])];
    await using shell = start(["bash", "-c", script, "bash", ...argv]);
    await shell.waitFor(/has begun/);
    // The capture notices that its reader has gone when it writes the next frames.
    await eventually("its end", async () => {
      await send(at, 50);
      return shell.exit;
    });
    expect((await shell.ended()).code, shell.said()).toBe(0);
    expect(shell.stdout.trim()).toBe("100");
    expect(shell.stderr).not.toMatch(/error|EPIPE/);
  });

  it("--print: lines that two runs have in common", async () => {
    const lines = async (args: readonly string[]) => {
      await using capture = await startCapture(["-i", "any", "--print", "-c", "6", ...args]);
      await send(at, 10);
      expect((await capture.ended()).code, capture.said()).toBe(0);
      return capture.stdout.trimEnd().split("\n");
    };
    const [first, second, timed] = [
      await lines(["--no-time"]),
      await lines(["--no-time"]),
      await lines([]),
    ];
    expect(second).toEqual(first);
    expect(first).toHaveLength(6);
    expect(first[0]).toMatch(
      /^ena9 {5}out q0 60 [0-9a-f:]{17} > ff:ff:ff:ff:ff:ff IPv4 [\d.]+ > [\d.]+ UDP \d+ > \d+ len \d+ #1$/,
    );
    expect(first.filter((line) => /^sink {5}in {2}q1 60 .*#1$/.test(line))).toHaveLength(1);
    expect(timed[0]).toMatch(/^0\.000000 ena9 /);
    expect(timed.map((line) => line.replace(/^\d+\.\d{6} /, ""))).toEqual(first);
  });

  it("--print --ring: a line for each transaction", async () => {
    await using capture = await startCapture(["--ring", "--no-frames", "-i", "sink", "--print"]);
    await send(at, 3);
    await capture.waitFor(/sink:ring <- write \d+ records?: FRAME 60 bytes at 0x/);
    capture.signal("SIGINT");
    expect((await capture.ended()).code).toBe(0);
    expect(capture.stdout).toMatch(
      /^0\.000000 sink:ring state WINDOW \d+ records?: address=0x[0-9a-f]+ length=\d+.* \[snapshot\]$/m,
    );
    expect(capture.stdout).toMatch(/sink:ring <- write \d+ records?: FRAME 60 bytes at 0x/);
  });

  it("-b size:N: files of at most that size, each whole; files:N keeps the last", async () => {
    const path = join(folder, "rotated.pcapng");
    await using capture = await startCapture(["-w", path, "-b", "size:64k", "-b", "files:2"]);
    await send(at, 3000);
    await eventually("the second file", () => {
      const files = readdirSync(folder).filter((name) => name.startsWith("rotated_"));
      return files.some((name) => Number(name.split("_")[1]) >= 4) ? true : undefined;
    });
    capture.signal("SIGINT");
    expect((await capture.ended()).code).toBe(0);
    const files = readdirSync(folder).filter((name) => name.startsWith("rotated_"));
    expect(files).toHaveLength(2);
    for (const name of files) {
      const file = join(folder, name);
      expect(statSync(file).size).toBeLessThanOrEqual(65_536);
      const { reader, packets } = read(file);
      expect(packets.length).toBeGreaterThan(0);
      expect(reader.statistics).toHaveLength(reader.interfaces.length);
    }
  });

  it("--filter takes frames that match", async () => {
    const path = join(folder, "filter.pcapng");
    await using capture = await startCapture([
      "-w",
      path,
      "--filter",
      "udp and less 61",
      "-c",
      "4",
    ]);
    await send(at, 2, ["-l", "200"]);
    await send(at, 4);
    expect((await capture.ended()).code).toBe(0);
    const { reader } = read(path);
    expect(expectWhole(path).map((p) => p.originalLength)).toEqual([60, 60, 60, 60]);
    expect(reader.interfaces[0]?.filter).toBe("udp and less 61");
  });

  it.each([
    [["--filter", "udp and and"], 2, /the filter "udp and and": .*syntax error/],
    [["-i", "nobody"], 1, /no NIC or uplink "nobody"; there is sink/],
    [["-w", "-", "--print"], 2, /-w - takes standard output/],
    [["-b", "size:64k"], 2, /-b needs -w FILE/],
    [["-b", "size:x", "-w", "f"], 2, /--rotate takes size:N/],
    [["--filter", "host lab.example"], 2, /"lab\.example" is a name.*use an address/],
    [["--no-frames"], 2, /captures nothing/],
    [["-w", "/nowhere/at/all.pcapng"], 2, /-w \/nowhere.*no such file or directory/],
  ] as const)("%j is refused with a sentence", async (args, code, sentence) => {
    const child = await runInside(captureArgs(at, args));
    expect(child.exit?.code, child.said()).toBe(code);
    expect(child.stderr).toMatch(sentence);
    expect(child.stderr).not.toMatch(/ at .*\.js:/);
  });

  it("ux-S15 a rotation by sizes that no packet fits into is refused", async () => {
    for (const size of ["10", "63k", "65535"]) {
      const args = ["-b", `size:${size}`, "-w", join(folder, "none.pcapng")];
      const child = await runInside(captureArgs(at, args));
      expect(child.exit?.code, child.said()).toBe(2);
      expect(child.stderr).toMatch(/--rotate takes a size of 64k or more, not "size:\d+k?"/);
    }
  });

  it("case-W3 attack-S13 attack-S15 every filter has an answer: packets, or a sentence", async () => {
    const asked = async (filter: string) => {
      const answer = await fetch(
        `http://${at}/capture?count=1&filter=${encodeURIComponent(filter)}`,
      );
      return { status: answer.status, answer };
    };
    for (const filter of ["ip protochain 17", "udp or ip6 protochain 17"]) {
      const { status, answer } = await asked(filter);
      expect(status, filter).toBe(200);
      await send(at, 1);
      const page = captureSoFar(new Uint8Array(await answer.arrayBuffer()));
      expect(page.packets).toHaveLength(1);
    }
    for (const [filter, sentence] of [
      ["host 10.0.0.1\0 and garbage(((", /control character U\+0000/],
      ["udp\u001b[2J", /control character U\+001B/],
      ["host lab.example", /"lab.example" is a name/],
      [
        `ip protochain 6 or ${Array.from({ length: 100 }, (_, n) => `port ${n}`).join(" or ")}`,
        /compiles to \d+ BPF/,
      ],
      ["x".repeat(5000), /has 5000 characters/],
    ] as const) {
      const { status, answer } = await asked(filter);
      expect([status, (await answer.json()) as object], filter.slice(0, 40)).toEqual([
        400,
        { error: expect.stringMatching(sentence) },
      ]);
    }
  });

  it("a device that is killed ends it with a failure; the file is whole", async () => {
    const { child: victim, at: there } = await startDevice();
    const path = join(folder, "killed.pcapng");
    await using capture = startRingwire(captureArgs(there, ["-w", path]));
    await capture.waitFor(/has begun/);
    // The capture opens the file with the device's first bytes.
    await eventually("a file", () => existsSync(path) || undefined);
    victim.signal("SIGKILL");
    expect(await capture.ended()).toEqual({ code: 1, signal: null });
    expect(capture.stderr).toMatch(/ringwire: the connection to .* broke: the device is gone\n$/);
    expectWhole(path);
  });

  it("where no device listens it says so", async () => {
    const child = await runInside(captureArgs("127.0.0.1:9", ["--print"]));
    expect(child.exit?.code).toBe(1);
    expect(child.stderr).toMatch(/nothing listens at 127\.0\.0\.1:9/);
  });

  it("the page: wrong arguments, methods and origins are refused; too many captures too", async () => {
    const page = `http://${at}/capture`;
    const status = async (query: string, init: RequestInit = {}) =>
      (await fetch(`${page}${query}`, init)).status;
    expect(await status("?sources=any")).toBe(400);
    expect(await status("?ring=yes")).toBe(400);
    expect(await status("?snap=-1")).toBe(400);
    expect(await status("?count=1&count=2")).toBe(400);
    expect(await status("?frames=0")).toBe(400);
    expect(await status("?source=switch&frames=0&ring=1")).toBe(400);
    expect(await status("", { method: "POST" })).toBe(405);
    expect(await status("", { headers: { origin: "http://elsewhere.example" } })).toBe(403);
    const stop = new AbortController();
    const { signal } = stop;
    const running = await Promise.all(Array.from({ length: 16 }, () => fetch(page, { signal })));
    expect(running.map((answer) => answer.status)).toEqual(running.map(() => 200));
    const refused = await fetch(page);
    expect(refused.status).toBe(503);
    expect(await refused.json()).toEqual({ error: "16 captures run already" });
    stop.abort();
    await eventually("the captures to end", async () => {
      const again = new AbortController();
      const answer = await fetch(page, { signal: again.signal });
      again.abort();
      return answer.status === 200 ? true : undefined;
    });
  });

  it("fault-J5 a reader that does not read costs its own packets, and nobody else's", async () => {
    // A socket that sends the request and never reads: its capture's queue of 8 MiB fills.
    const [host = "", port = ""] = at.split(":");
    const socket = connect(Number(port), host);
    socket.pause();
    socket.write(`GET /capture?source=any HTTP/1.1\r\nHost: ${at}\r\n\r\n`);
    const path = join(folder, "beside.pcapng");
    await using capture = await startCapture(["-i", "any", "-w", path, "-s", "64"]);
    await send(at, 20_000, ["-l", "1500"]);
    await hasFrames(path, 40_000);
    capture.signal("SIGINT");
    expect((await capture.ended()).code).toBe(0);
    const sent = expectWhole(path).filter((p) => p.interface.name === "ena9");
    expect(sent).toHaveLength(20_000);
    socket.destroy();
  });
});

describe("--capture", () => {
  it("the demo leaves one behind, with both NICs' first words and first frames", async () => {
    const path = join(folder, "demo.pcapng");
    const child = await runRingwire(["demo", "--seconds", "1", "--json", "--capture", path]);
    expect(child.exit?.code, child.said()).toBe(0);
    const result = JSON.parse(child.stdout) as { capture: { file: string; packets: number } };
    const packets = expectWhole(path);
    expect(result.capture).toMatchObject({ file: path, packets: packets.length });
    for (const name of ["ena0", "xn0"]) {
      const [hello] = packets.filter((p) => p.interface.name === `${name}:ring`);
      expect(Buffer.from(hello!.bytes).toString("latin1")).toContain(name);
      expect(packets.map((p) => [p.interface.name, p.linkType])).toContainEqual([name, 1]);
    }
    const none = await runRingwire(["demo", "--seconds", "1", "--json", "--no-capture"]);
    expect(JSON.parse(none.stdout)).not.toHaveProperty("capture");
  });

  it("fault-N7 a device's file has everything from the first word, and no credentials", async () => {
    const path = join(folder, "device.pcapng");
    const { child: device, at, port } = await startDevice(["--capture", path]);
    await using _device = device;
    const sink = await startFrontend(at, "sink", ["--driver", "xen"]);
    await send(at, 10);
    // A handshake with a token, where tokens are carried; the frames behind it hold an invalid
    // batch.
    const socket = connect(port, "127.0.0.1");
    const handshake = [
      `GET /nic?token=${SECRET} HTTP/1.1`,
      ...[`Host: ${at}`, "Connection: Upgrade", "Upgrade: websocket"],
      ...["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
      ...["Sec-WebSocket-Protocol: ringwire.v1", `Authorization: Bearer ${SECRET}`],
      ...[`Cookie: token=${SECRET}`, "", ""],
    ];
    socket.write(handshake.join("\r\n"));
    await new Promise((resolve) => socket.once("data", resolve));
    socket.destroy();
    await sink.stop();
    device.signal("SIGTERM");
    expect((await device.ended()).code).toBe(0);
    const packets = expectWhole(path);
    const ring = (name: string) => packets.filter((p) => p.interface.name === `${name}:ring`);
    for (const [name, personality] of [
      ["sink", 1],
      ["ena9", 0],
    ] as const) {
      const first = parseRingPacket(ring(name)[0]!.bytes)!;
      expect(first.personality).toBe(personality);
      expect(Buffer.from(first.bytes).toString("latin1")).toContain("instance");
    }
    expect(packets.filter((p) => p.interface.name === "switch" && p.linkType === 1)).toHaveLength(
      10,
    );
    const bytes = readFileSync(path);
    expect(bytes.toString("latin1")).not.toContain(SECRET);
  });

  it("a frontend's file has its rings and the frames at its interface; SIGUSR2 ends it and begins the next", async () => {
    const path = join(folder, "nic.pcapng");
    const { child: device, at } = await startDevice();
    await using _device = device;
    await using nic = await startFrontend(at, "sink", ["--capture", path]);
    await send(at, 10);
    await hasFrames(path, 10);
    nic.signal("SIGUSR2");
    await nic.waitFor(/ended: SIGUSR2/);
    const first = expectWhole(path);
    await send(at, 5);
    nic.signal("SIGUSR2");
    await nic.waitFor(/nic-2\.pcapng has begun/);
    await send(at, 7);
    const next = join(folder, "nic-2.pcapng");
    await hasFrames(next, 7);
    nic.signal("SIGTERM");
    expect((await nic.ended()).code).toBe(0);
    const second = expectWhole(next);
    const frames = (packets: readonly CapturedPacket[]) => packets.filter((p) => p.linkType === 1);
    expect(frames(first)).toHaveLength(10);
    expect(frames(second)).toHaveLength(7);
    for (const p of frames(first)) {
      expect([p.interface.name, p.flags & 3, p.queue]).toEqual(["sink", 1, 0]);
    }
    // The first file begins with hello, the second with a snapshot.
    const begin = (packets: readonly CapturedPacket[]) => packets.find((p) => p.linkType !== 1)!;
    expect(parseRingPacket(begin(first).bytes)).toMatchObject({ isState: false, epoch: 0 });
    expect(begin(first).comments).toEqual([]);
    expect(parseRingPacket(begin(second).bytes)).toMatchObject({ isState: true, epoch: 1 });
    expect(begin(second).comments).toEqual(["snapshot"]);
  });

  it.skipIf(why !== undefined)(
    `a full disk is one warning; traffic goes on, and what is there can be read${why ? `: ${why}` : ""}`,
    async () => {
      const disk = join(folder, "disk");
      const kept = join(folder, "kept.pcapng");
      // A disk that only this process sees; the script copies the file out before the disk is gone.
      const script = [
        `mkdir -p ${disk}`,
        `mount -t tmpfs -o size=64k none ${disk}`,
        `"$@"; code=$?`,
        `cp ${disk}/full.pcapng ${kept}`,
        "exit $code",
      ].join("\n");
      const program = [NODE, "dist/cli/ringwire.js", "device", "--listen", "127.0.0.1:0", "--json"];
      await using device = start([
        ...["unshare", "--mount", "sh", "-c", script, "sh"],
        ...[...program, "--capture", `${disk}/full.pcapng`],
      ]);
      const { port, pid } = await device.waitForJson<{ port: number; pid: number }>(
        (line) => line.event === "listening",
      );
      const at = `127.0.0.1:${port}`;
      try {
        await using _sink = await startFrontend(at, "sink");
        await send(at, 2000);
        await device.waitFor(/no space left/);
        // Traffic continues.
        await send(at, 1000);
        expect(device.stderr.match(/no space left/g)).toHaveLength(1);
        expect(device.stderr).toMatch(
          /capture to .*full\.pcapng stopped: .*; it holds \d+ packets in \d+ bytes/,
        );
      } finally {
        process.kill(pid, "SIGTERM");
      }
      expect((await device.ended()).code).toBe(0);
      expect(read(kept).packets.length).toBeGreaterThan(10);
      expect(statSync(kept).size).toBeLessThanOrEqual(64 * 1024);
    },
  );
});
