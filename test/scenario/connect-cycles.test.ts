/** Frontends that connect and leave, orderly and not: the device keeps nothing of them. */

import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Packr } from "msgpackr";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import WebSocket from "ws";
import { openNic } from "../../frontend/nic.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { NIC_PATH, PROTOCOL_VERSION, SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { SOAK } from "../support/counts.ts";
import { DeviceProcess } from "../support/device-process.ts";
import { type Child, eventually, startRingwire } from "../support/process.ts";
import { allPorts, type DeviceStatus, portsOf } from "../support/status.ts";

const CYCLES = 500;
const WARM_UP = 100;
/** Room for garbage that is not collected yet; 400 leaked connections need far more. */
const RSS_SLACK_BYTES = 48 << 20;

/** Cycles of a NIC with its driver, and the NICs that come and go at the same time. */
const DRIVER_CYCLES = SOAK ? 2000 : 32;
const SIDE_BY_SIDE = 4;
/** Room of the device and of this process after the first quarter, which is short outside of a soak. */
const DRIVER_SLACK_BYTES = SOAK ? 24 << 20 : 48 << 20;

/** Collections before a sample, of which the lowest counts: one alone leaves much behind. */
const COLLECTIONS = 4;

/** A small heap, so that the collector runs during the test. */
const SMALL_HEAP = "--max-old-space-size=64 --max-semi-space-size=2";

setFlagsFromString("--expose-gc");

const packr = new Packr({ useRecords: false });

/** Connects, says hello as `name`, and waits for the welcome. */
async function join(port: number, name: string, personality: string): Promise<WebSocket> {
  const ws = new WebSocket(`ws://127.0.0.1:${port}${NIC_PATH}`, [SUBPROTOCOL]);
  await once(ws, "open");
  const hello = { version: PROTOCOL_VERSION, personality, name, instance: name };
  ws.send(packr.pack([[Op.HELLO, hello]]));
  const [data] = (await once(ws, "message")) as [Buffer];
  const batch = packr.unpack(data) as [number, ...unknown[]][];
  expect(batch.map(([op]) => op)).toContain(Op.WELCOME);
  return ws;
}

async function cycle(port: number, i: number, personality: string): Promise<void> {
  const ws = await join(port, `nic${i % 7}`, personality);
  const closed = once(ws, "close");
  if (i % 2 === 0) ws.close(1000, "enough");
  else ws.terminate();
  await closed;
}

describe.each(["ena", "xen"])("500 frontends of %s that come and go", (personality) => {
  let port: number;
  let device: Child;

  const status = async () => {
    const response = await fetch(`http://127.0.0.1:${port}/status`);
    return (await response.json()) as DeviceStatus;
  };
  const handles = () => readdirSync(`/proc/${device.pid}/fd`).length;
  const rssBytes = () => {
    const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${device.pid}/status`, "utf8"));
    return Number(line![1]) * 1024;
  };
  const empty = () =>
    eventually("the device to be empty", async () => {
      const now = await status();
      const { connections, nics } = now;
      return (connections === 0 && nics.length === 0 && allPorts(now).length === 0) || undefined;
    });

  beforeAll(async () => {
    device = startRingwire(["device", "--listen", "127.0.0.1:0", "--json"], {
      env: { NODE_OPTIONS: SMALL_HEAP },
    });
    ({ port } = await device.waitForJson<{ port: number }>((line) => line.event === "listening"));
  });

  afterAll(async () => {
    await device.stop();
  });

  it("fault-E12 leave no port, no handle and no memory behind", async () => {
    for (let i = 0; i < WARM_UP; i++) await cycle(port, i, personality);
    await empty();
    const handlesBefore = handles();
    const rssBefore = rssBytes();

    for (let i = WARM_UP; i < CYCLES; i++) await cycle(port, i, personality);
    await empty();

    expect(portsOf(await status())).toEqual([]);
    // Both counts include the connection that `fetch` keeps open.
    expect(handles()).toBeLessThanOrEqual(handlesBefore + 1);
    expect(rssBytes()).toBeLessThan(rssBefore + RSS_SLACK_BYTES);
    expect(device.exit).toBeUndefined();
  });

  it("are welcome while another one stays", async () => {
    const stays = await join(port, "stays", personality);
    for (let i = 0; i < 50; i++) await cycle(port, i, personality);
    expect(stays.readyState).toBe(WebSocket.OPEN);
    await eventually("the others' ports to go", async () => {
      const ports = portsOf(await status());
      return (ports.length === 1 && ports[0] === "stays") || undefined;
    });
    stays.terminate();
    await empty();
  });
});

describe.each(["ena", "xen"] as const)(
  `${DRIVER_CYCLES} NICs of %s with their drivers`,
  (driver) => {
    const gc = runInNewContext("gc") as () => void;

    /** Memory of this process (bytes) after a collection. What waits for an event stays until then. */
    async function collect(): Promise<number> {
      gc();
      const { heapUsed, external } = process.memoryUsage();
      await new Promise((resolve) => setImmediate(resolve));
      return heapUsed + external;
    }

    /** One NIC: its driver attaches, sends, and leaves. */
    async function cycle({ url: connect }: DeviceProcess, i: number): Promise<void> {
      const nic = await openNic({ connect, driver, name: `nic${i % SIDE_BY_SIDE}` });
      await nic.send(new Uint8Array(60).fill(0xff));
      await nic.close();
    }

    it("leave no memory behind, here or on the device", async () => {
      await using device = await DeviceProcess.startWith({ env: { NODE_OPTIONS: SMALL_HEAP } });
      const samples: { cycles: number; device: number; heap: number }[] = [];
      for (let i = 0; i < DRIVER_CYCLES; i += SIDE_BY_SIDE) {
        await Promise.all(Array.from({ length: SIDE_BY_SIDE }, (_, n) => cycle(device, i + n)));
        const cycles = i + SIDE_BY_SIDE;
        if (cycles % (DRIVER_CYCLES / 4) !== 0) continue;
        let heap = Number.POSITIVE_INFINITY;
        for (let times = 0; times < COLLECTIONS; times++) heap = Math.min(heap, await collect());
        samples.push({ cycles, device: device.rssBytes(), heap });
      }
      if (SOAK) console.log(JSON.stringify({ driver, samples }));
      const [first, ...later] = samples;
      expect(later).toHaveLength(3);
      const most = Math.max(...later.map((sample) => sample.device));
      expect(most).toBeLessThan(first!.device + DRIVER_SLACK_BYTES);
      // The memory of a NIC is freed by the collector, in its own time.
      await eventually("the memory of the NICs that left to be free", async () => {
        return (await collect()) < first!.heap + DRIVER_SLACK_BYTES || undefined;
      });
      const now = await device.status();
      const { connections, nics } = now;
      expect([connections, nics.length, allPorts(now).length]).toEqual([0, 0, 0]);
    });
  },
);
