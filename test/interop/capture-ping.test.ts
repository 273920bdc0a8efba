/**
 * One ping between two kernels, captured at both NICs and the switch and read by tshark: the packet
 * id is the same each time. And the pipes of the manual: tcpdump and tshark read stdin.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { missingProgram, outputOf } from "../support/installed.ts";
import { ping } from "../support/iperf.ts";
import { Lab } from "../support/lab.ts";
import { whyNoNamespaces } from "../support/netns.ts";
import { NODE, start, startRingwire } from "../support/process.ts";

const why = whyNoNamespaces() ?? missingProgram("tshark", "tcpdump", "ping");
const AT = "127.0.0.1:7700";
const REQUEST = 8;
const REPLY = 0;

interface Sighting {
  readonly name: string;
  readonly direction: number;
  readonly queue: string;
  readonly id: string;
  readonly type: number;
  readonly sequence: string;
}

describe.skipIf(why !== undefined)(`a ping, captured${why ? `: ${why}` : ""}`, () => {
  let lab: Lab;
  const folder = mkdtempSync(join(tmpdir(), "ringwire-ping-"));

  beforeAll(async () => {
    lab = new Lab(2, ["ena", "xen"]);
    await lab.startDevice();
    await Promise.all([lab.startFrontend(0), lab.startFrontend(1)]);
    // Resolves the addresses first, so that only the ping itself is captured.
    await pings(1);
  });

  afterAll(async () => {
    await lab.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function pings(count: number): Promise<void> {
    const { received } = await ping({
      from: lab.host(0).namespace,
      address: lab.host(1).address,
      count,
      intervalSeconds: 0.2,
    });
    expect(received).toBe(count);
  }

  it("every sighting of a packet has one id: driver's ring, switch, the other driver's slot", async () => {
    const path = join(folder, "ping.pcapng");
    const capture = startRingwire(
      [
        ...["capture", "--connect", AT, "-i", "any", "-i", "switch", "--filter", "icmp"],
        ...["-w", path, "-c", "18"],
      ],
      { namespace: lab.device },
    );
    await using _capture = capture;
    await capture.waitFor(/has begun/);
    await pings(3);
    expect((await capture.ended()).code, capture.said()).toBe(0);

    const fields = ["interface_name", "packet_flags_direction", "interface_queue", "packet_id"];
    const names = [...fields.map((field) => `frame.${field}`), "icmp.type", "icmp.seq"];
    const said = outputOf("tshark", [
      ...["-r", path, "-T", "fields"],
      ...names.flatMap((name) => ["-e", name]),
    ]);
    const sightings = said
      .toString()
      .trimEnd()
      .split("\n")
      .map((line): Sighting => {
        const [name = "", direction, queue = "", id = "", type, sequence = ""] = line.split("\t");
        return { name, direction: Number(direction), queue, id, type: Number(type), sequence };
      });
    const packets = Map.groupBy(sightings, ({ sequence, type }) => `${sequence} ${type}`);
    expect(packets.size).toBe(6);
    for (const seen of packets.values()) {
      const { type, id } = seen[0]!;
      expect(new Set(seen.map((s) => s.id)), `one id of ${id}`).toHaveProperty("size", 1);
      const [from, to] = type === REQUEST ? ["host0", "host1"] : ["host1", "host0"];
      expect([REQUEST, REPLY]).toContain(type);
      // Out (2) at its source, in (1) at the switch and at its destination.
      expect(seen.map(({ name, direction }) => [name, direction])).toEqual([
        [from, 2],
        ["switch", 1],
        [to, 1],
      ]);
      expect(seen[0]?.queue).toBe("0");
      expect(seen[2]?.queue).not.toBe("");
    }
    expect(new Set(sightings.map(({ id }) => id)).size).toBe(6);
  });

  it.each([
    { reader: "tcpdump", argv: ["tcpdump", "-n", "-r", "-"], line: /ICMP echo request/ },
    { reader: "tshark", argv: ["tshark", "-n", "-r", "-"], line: /Echo \(ping\) request/ },
  ])("-w - | $reader -r -", async ({ argv, line }) => {
    const script = 'reader="$1"; shift; "$@" | sh -c "$reader"';
    const capture = [
      ...[NODE, "dist/cli/ringwire.js", "capture", "--connect", AT, "-w", "-"],
      ...["--filter", "icmp", "-c", "2"],
    ];
    const shell = ["sh", "-c", script, "sh", argv.join(" "), ...capture];
    await using pipe = start(shell, { namespace: lab.device });
    await pipe.waitFor(/has begun/);
    await pings(1);
    expect((await pipe.ended()).code, pipe.said()).toBe(0);
    expect(pipe.stdout.trimEnd().split("\n"), pipe.said()).toHaveLength(2);
    expect(pipe.stdout).toMatch(line);
  });
});
