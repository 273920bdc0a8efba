/** The size of the common memory region, which follows from the ports to be opened. */
import { beforeEach, describe, expect, test } from "vitest";
import { type NmPort, nmOpen } from "../../frontend/netmap/descriptor.ts";
import { Netmap } from "../../frontend/netmap/netmap.ts";
import { MAX_REGION_BYTES, RegionNeed } from "../../frontend/netmap/region-need.ts";
import { FakeNic } from "../support/fake-netmap-adapter.ts";

/** The ring sizes of the ENA driver. */
const ENA = { txSlots: 1024, rxSlots: 4096 };

let netmap: Netmap;
beforeEach(() => {
  netmap = new Netmap();
});

async function openAll(names: readonly string[]): Promise<NmPort[]> {
  const ports: NmPort[] = [];
  for (const name of names) ports.push(await nmOpen(name, { netmap }));
  return ports;
}
const closeAll = async (ports: readonly NmPort[]): Promise<void> => {
  for (const port of ports) await port.close();
};

test.each([11, 12, 64])("case-W6 %i pipes on a NIC", async (count) => {
  new FakeNic(netmap, ENA);
  const pipes = Array.from({ length: count }, (_, k) => [`netmap:fake0{${k}`, `netmap:fake0}${k}`]);
  const names = ["netmap:fake0", ...pipes.flat()];
  netmap.reserve(names);
  const ports = await openAll(names);
  expect(ports.length).toBe(2 * count + 1);
  // Each ring has its own buffer.
  const buffers = ports.flatMap((port) => port.txRings()).map((ring) => ring.bufIdx(0));
  expect(new Set(buffers).size).toBeGreaterThan(count);
  await closeAll(ports);
  expect(netmap.memory.badFrees).toBe(0);
});

test.each([13, 32, 64])("case-W6 a port for each of %i ring pairs", async (rings) => {
  new FakeNic(netmap, { ...ENA, txRings: rings, rxRings: rings });
  const names = Array.from({ length: rings }, (_, i) => `netmap:fake0-${i}`);
  netmap.reserve(names);
  await closeAll(await openAll(names));
});

test.each([7, 32])(
  "case-W6 two NICs of %i ring pairs, all of both, without a word",
  async (rings) => {
    new FakeNic(netmap, { ...ENA, name: "a0", txRings: rings, rxRings: rings });
    new FakeNic(netmap, { ...ENA, name: "b0", txRings: rings, rxRings: rings });
    // Both interfaces exist before the first opening.
    await closeAll(await openAll(["netmap:a0*", "netmap:b0*"]));
  },
);

test("case-W6 128 ring pairs of one NIC: the netmap_if is long enough", async () => {
  new FakeNic(netmap, { ...ENA, txRings: 128, rxRings: 128 });
  const [port] = await openAll(["netmap:fake0"]);
  expect(port!.rxRings().length).toBe(128);
  await port!.close();
});

test("case-W6 pipes and all rings of a large NIC at once", async () => {
  new FakeNic(netmap, { ...ENA, txRings: 32, rxRings: 32 });
  const names = ["netmap:fake0", ...Array.from({ length: 64 }, (_, k) => `netmap:fake0{${k}`)];
  netmap.reserve(names);
  await closeAll(await openAll(names));
});

test("case-W6 pipes as large as they may be, on a NIC", async () => {
  new FakeNic(netmap, ENA);
  const options = { txRings: 64, rxRings: 64, txSlots: 4096, rxSlots: 4096 };
  netmap.reserve(["netmap:fake0{1"], options);
  const ends = [
    await nmOpen("netmap:fake0{1", { netmap, ...options }),
    await nmOpen("netmap:fake0}1", { netmap }),
  ];
  expect(ends[1]!.rxRings().length).toBe(64);
  await closeAll(ends);
});

test.each([
  { txRings: 1, rxRings: 1, txSlots: 4096, rxSlots: 4096 },
  { txRings: 16, rxRings: 16, txSlots: 4096, rxSlots: 4096 },
  { txRings: 200, rxRings: 3, txSlots: 16, rxSlots: 1024 },
])("case-W6 a pipe on nothing else, $txRings and $rxRings rings", async (options) => {
  const ends = [
    await nmOpen("netmap:p{1", { netmap, ...options }),
    await nmOpen("netmap:p}1", { netmap }),
  ];
  expect(ends[0]!.txRings().length).toBe(options.txRings);
  await closeAll(ends);
});

test("case-W6 64 pipes on a VALE port, when it is opened for so many", async () => {
  const base = await nmOpen("vale0:a", { netmap, pipes: 64 });
  const pipes = Array.from({ length: 64 }, (_, k) => [`vale0:a{${k}`, `vale0:a}${k}`]);
  await closeAll([base, ...(await openAll(pipes.flat()))]);
});

describe("what ports need", () => {
  const none = { ifs: { count: 0, bytes: 0 }, rings: { count: 0, bytes: 0 } };
  const least = { ...none, buffers: { count: 0, bytes: 2048 } };
  const spare = { ...none, buffers: { count: 0, bytes: 0 } };
  const counts = { numTxRings: 2, numTxDesc: 1024, numRxRings: 3, numRxDesc: 4096 };

  test("case-W6 an interface without host rings has what stands in for them, and two reserved buffers", () => {
    const need = new RegionNeed();
    need.addInterface(counts);
    expect(need.sizes(least, spare)).toMatchObject({
      ifs: { count: 1 },
      rings: { count: 7 },
      buffers: { count: 3 * 1024 + 4 * 4096 + 2 },
    });
  });

  test("case-W6 the longest ring decides, whatever comes behind it", () => {
    const need = new RegionNeed();
    need.addInterface(counts);
    const alone = need.sizes(least, spare);
    need.addInterface({ numTxRings: 1, numTxDesc: 8, numRxRings: 1, numRxDesc: 8 });
    const both = need.sizes(least, spare);
    expect(both.rings).toEqual({ count: 11, bytes: alone.rings.bytes });
    expect(both.ifs).toEqual({ count: 2, bytes: alone.ifs.bytes });
    expect(both.buffers.count).toBe(3 * 1024 + 4 * 4096 + 4 * 8 + 2);
  });
});

describe("what no region can hold is refused before anything is opened", () => {
  test("case-W6 too many rings of too many NICs", () => {
    for (let i = 0; i < 4; i++) {
      new FakeNic(netmap, { ...ENA, name: `n${i}`, txRings: 64, rxRings: 64 });
    }
    const names = ["netmap:n0", "netmap:n1", "netmap:n2", "netmap:n3"];
    expect(() => netmap.reserve(names)).toThrow(
      /^netmap:n0 and 3 more: needs \d+ buffers of 2048 bytes, and a memory region has at most about 1048575: use fewer rings/,
    );
    expect(netmap.memory.active).toBe(0);
  });

  test("case-W6 a pipe of 256 rings of 4096 slots each way", async () => {
    const options = { netmap, txRings: 256, rxRings: 256, txSlots: 4096, rxSlots: 4096 };
    await expect(nmOpen("netmap:p{1", options)).rejects.toMatchObject({
      code: "ENOMEM",
      message: expect.stringMatching(/^p: needs \d+ buffers/),
    });
  });

  test("case-W6 a ring that the interface does not have is named", () => {
    new FakeNic(netmap, { txRings: 2, rxRings: 2 });
    expect(() => netmap.reserve(["netmap:fake0-0", "netmap:fake0-2"])).toThrow(
      "netmap:fake0-2: the port has no such rings: it has 2 to transmit and 2 to receive",
    );
  });

  test("the largest region ends where a 32-bit offset does", () => {
    expect(MAX_REGION_BYTES).toBe(0x7fffffff);
  });
});

test("an open region is left alone, and pools that were given never grow", async () => {
  new FakeNic(netmap, ENA);
  const port = await nmOpen("netmap:fake0", { netmap });
  const { region } = netmap.memory;
  netmap.reserve(Array.from({ length: 64 }, (_, k) => `netmap:fake0{${k}`));
  expect(netmap.memory.region).toBe(region);
  await port.close();

  const sizes = {
    ifs: { count: 4, bytes: 1024 },
    rings: { count: 8, bytes: 4096 },
    buffers: { count: 40, bytes: 2048 },
  };
  const fixed = new Netmap({ memory: sizes });
  new FakeNic(fixed, { txSlots: 8, rxSlots: 8 });
  fixed.reserve(["netmap:fake0{1", "netmap:fake0{2"]);
  expect(fixed.memory.objTotal).toBe(40);
  const open = await nmOpen("netmap:fake0", { netmap: fixed });
  await open.close();
});
