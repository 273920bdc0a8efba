/** Frontends that connect and leave, orderly and not: the device keeps nothing of them. */

import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { Packr } from "msgpackr";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import WebSocket from "ws";
import { Op } from "../../shared/wire/catalogue.ts";
import { NIC_PATH, PROTOCOL_VERSION, SUBPROTOCOL } from "../../shared/wire/protocol.ts";
import { type Child, eventually, startRingwire } from "../support/process.ts";
import { type DeviceStatus, portsOf } from "../support/status.ts";

const CYCLES = 500;
const WARM_UP = 100;
/** Room for garbage that is not collected yet; 400 leaked connections need far more. */
const RSS_SLACK_BYTES = 48 << 20;

/** A small heap, so that the collector runs during the test. */
const SMALL_HEAP = "--max-old-space-size=64 --max-semi-space-size=2";

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
      const { connections, nics, segment } = await status();
      return (connections === 0 && nics.length === 0 && segment.ports.length === 0) || undefined;
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
