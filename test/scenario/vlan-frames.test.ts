/**
 * A table of frames through VLANs, between real processes: the kernel's interfaces with raw sockets
 * and tcpdump, netmap ports on ENA and on Xen, and an uplink as the trunk.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Nic, openNic } from "../../frontend/index.ts";
import { Netmap, type NmPort, nmOpen, Poll } from "../../frontend/netmap/index.ts";
import { readStatus } from "../../shared/status/read.ts";
import { putFrame, takeAll } from "../support/netmap-frames.ts";
import { Namespace, whyNoNamespaces } from "../support/netns.ts";
import { PacketSocket, PacketTap } from "../support/packet-socket.ts";
import { type Child, eventually, startRingwire } from "../support/process.ts";
import { type DeviceStatus, portOf } from "../support/status.ts";

const why = whyNoNamespaces();
const PORT = 7700;
const TAG = 0x8100;
const BROADCAST = [255, 255, 255, 255, 255, 255];

const LAB = `
[[segment]]
name = "lab"
uplinks = ["tap:trunk0"]

[[segment.port]]
name = "trunk0"
trunk = [10, 20]
native = 1

[[segment.port]]
name = "ten-*"
access = 10

[[segment.port]]
name = "twenty-*"
access = 20
`;

/** The sender, the tags of the frame, and the tags with which each other port receives it. */
type Row = readonly [from: string, tags: number[], to: Readonly<Record<string, string>>];
const TABLE: readonly Row[] = [
  ["ten-tap", [], { "ten-ena": "", "ten-xen": "", trunk0: "10" }],
  ["ten-ena", [], { "ten-tap": "", "ten-xen": "", trunk0: "10" }],
  ["ten-xen", [], { "ten-tap": "", "ten-ena": "", trunk0: "10" }],
  ["twenty-ena", [], { "twenty-xen": "", trunk0: "20" }],
  ["twenty-xen", [], { "twenty-ena": "", trunk0: "20" }],
  ["plain-ena", [], { trunk0: "" }],
  ["trunk0", [10], { "ten-tap": "", "ten-ena": "", "ten-xen": "" }],
  ["trunk0", [20], { "twenty-ena": "", "twenty-xen": "" }],
  ["trunk0", [], { "plain-ena": "" }],
  ["trunk0", [0], { "plain-ena": "" }],
  ["trunk0", [1], { "plain-ena": "" }],
  // Nobody may see these.
  ["trunk0", [30], {}],
  ["trunk0", [1, 20], {}],
  ["ten-ena", [20], {}],
  ["ten-xen", [20], {}],
  ["ten-tap", [20], {}],
  ["plain-ena", [10], {}],
];

function frameOf(row: number, source: number, tags: readonly number[]): Uint8Array {
  const frame = Buffer.alloc(64, 0x55);
  const words = [...tags.flatMap((vlan) => [TAG, vlan]), 0x88b5, row];
  frame.set([...BROADCAST, 2, 0, 0, 0, 9, source]);
  for (const [i, word] of words.entries()) frame.writeUInt16BE(word, 12 + 2 * i);
  return frame;
}

/** The row of a frame and its tags; undefined for a frame of somebody else, such as the kernel. */
function read(bytes: Uint8Array): { readonly row: number; readonly tags: string } | undefined {
  const frame = Buffer.from(bytes);
  const tags: number[] = [];
  let at = 12;
  for (; frame.readUInt16BE(at) === TAG; at += 4) tags.push(frame.readUInt16BE(at + 2) & 0xfff);
  if (frame.readUInt16BE(at) !== 0x88b5 || frame[10] !== 9) return undefined;
  return { row: frame.readUInt16BE(at + 2), tags: tags.join() };
}

interface End {
  send(frame: Uint8Array): Promise<void> | void;
  frames(): Promise<Uint8Array[]> | Uint8Array[];
}

describe.skipIf(why !== undefined)(`frames in VLANs${why ? `: ${why}` : ""}`, () => {
  const folder = mkdtempSync(join(tmpdir(), "ringwire-vlan-"));
  const stack = new AsyncDisposableStack();
  const ends = new Map<string, End>();
  let device: Child;
  let namespace: Namespace;

  const status = async (): Promise<DeviceStatus> => {
    using _inside = namespace.enter();
    const answer = fetch(`http://127.0.0.1:${PORT}/status`);
    return readStatus(await (await answer).json());
  };

  /** An interface of the kernel. */
  async function kernelEnd(name: string, interfaceName: string): Promise<void> {
    namespace.ip("link", "set", interfaceName, "up");
    await eventually(`the carrier of ${interfaceName}`, () =>
      namespace.link(interfaceName)?.flags.includes("LOWER_UP") === true ? true : undefined,
    );
    const tap = await PacketTap.start(namespace, interfaceName, join(folder, name));
    stack.use(tap);
    const socket = stack.use(new PacketSocket(namespace, interfaceName));
    ends.set(name, { send: (frame) => socket.send(frame), frames: () => tap.frames() });
  }

  /** A netmap port on a NIC of this process. */
  async function netmapEnd(name: string, driver: "ena" | "xen"): Promise<void> {
    const netmap = new Netmap();
    let nic: Nic;
    {
      using _inside = namespace.enter();
      nic = await openNic({ connect: `127.0.0.1:${PORT}`, driver, name, ifname: "if0", netmap });
    }
    stack.defer(() => nic.close());
    const port: NmPort = await nmOpen("netmap:if0", { netmap });
    stack.defer(() => port.close());
    await nic.settled();
    const got: Uint8Array[] = [];
    ends.set(name, {
      send: (frame) => {
        if (!putFrame(port, port.txRing(port.firstTx), frame)) throw new Error("no slot");
        port.txsync();
      },
      frames: async () => {
        await port.poll(Poll.IN, 0);
        for (const ring of port.rxRings()) got.push(...takeAll(port, ring));
        return got;
      },
    });
  }

  beforeAll(async () => {
    namespace = new Namespace("vlan");
    stack.defer(() => namespace.destroy());
    const file = join(folder, "lab.toml");
    writeFileSync(file, LAB);
    const listen = ["--listen", `127.0.0.1:${PORT}`, "--config", file, "--json"];
    device = stack.use(startRingwire(["device", ...listen], { namespace }));
    await device.waitForJson((line) => line.event === "listening");
    const frontend = stack.use(
      startRingwire(
        [
          "frontend",
          "--connect",
          `127.0.0.1:${PORT}`,
          "--name",
          "ten-tap",
          "--tap",
          "ten0",
          "--json",
        ],
        { namespace },
      ),
    );
    await frontend.waitForJson((line) => line.event === "ready");
    await kernelEnd("ten-tap", "ten0");
    await kernelEnd("trunk0", "trunk0");
    await netmapEnd("ten-ena", "ena");
    await netmapEnd("ten-xen", "xen");
    await netmapEnd("twenty-ena", "ena");
    await netmapEnd("twenty-xen", "xen");
    await netmapEnd("plain-ena", "ena");
  });

  afterAll(async () => {
    await stack.disposeAsync();
    rmSync(folder, { recursive: true });
  });

  it("each reaches the ports of its VLAN, with or without its tag, and no other port", async () => {
    const wanted: Record<string, string[]> = Object.fromEntries(
      [...ends.keys()].map((name) => [name, []]),
    );
    const received = async (name: string): Promise<string[]> =>
      (await ends.get(name)!.frames()).flatMap((bytes) => {
        const found = read(bytes);
        return found === undefined ? [] : [`${found.row}: ${found.tags}`];
      });
    const denied = async (from: string): Promise<number> =>
      portOf(await status(), from).in.dropped["vlan_denied"] ?? 0;
    for (const [row, [from, tags, to]] of TABLE.entries()) {
      const before = await denied(from);
      await ends.get(from)!.send(frameOf(row, row, tags));
      for (const [name, form] of Object.entries(to)) wanted[name]!.push(`${row}: ${form}`);
      // The next row waits for this one, so that a frame at a wrong port has arrived by the end.
      await eventually(`row ${row} to arrive`, async () => {
        if (Object.keys(to).length === 0) return (await denied(from)) > before || undefined;
        for (const name of Object.keys(to)) {
          const last = (await received(name)).at(-1);
          if (last?.startsWith(`${row}: `) !== true) return undefined;
        }
        return true;
      });
    }
    const seen: Record<string, string[]> = {};
    for (const name of ends.keys()) seen[name] = await received(name);
    expect(seen).toEqual(wanted);
  });
});
