/** `ringwire events`: a device's events in words and as JSON, also over a restart of the device. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DeviceEvent } from "../../shared/status/device-events.ts";
import { DeviceProcess } from "../support/device-process.ts";
import { type Child, NODE, runRingwire, start, startRingwire } from "../support/process.ts";

const DONE = { code: 0, signal: null };
let device: DeviceProcess;

beforeAll(async () => {
  device = await DeviceProcess.start();
});

afterAll(async () => {
  await device.stop();
});

async function joins(name: string, url = device.url): Promise<Child> {
  const child = startRingwire(["frontend", "--connect", url, "--name", name, "--json"]);
  await child.waitForJson((line) => line["event"] === "ready");
  return child;
}

const events = (...args: string[]): Child =>
  startRingwire(["events", "--connect", device.url, ...args]);

const linesOf = (child: { readonly stdout: string }): DeviceEvent[] =>
  child.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

describe("ringwire events", () => {
  it("prints a NIC that joins and leaves, with --json as objects", async () => {
    // The past shows the NIC even if it joins before the reader.
    await using words = events("--past");
    await using objects = events("--past", "--json");
    const nic = await joins("first");
    await nic.stop();
    await words.waitFor(
      /^\d\d:\d\d:\d\d lan0: first joined: [0-9a-f:]{17} from 127\.0\.0\.1:\d+$/m,
    );
    await words.waitFor(/^\d\d:\d\d:\d\d lan0: first left: .+$/m);
    const left = await objects.waitForJson<DeviceEvent>((line) => line["event"] === "left");
    expect(left).toMatchObject({ segment: "lan0", name: "first", id: expect.any(String) });
    for (const child of [words, objects]) {
      child.signal("SIGTERM");
      expect(await child.ended()).toEqual(DONE);
      expect(child.stderr).toBe("");
    }
  });

  it("ends after --count events of --only", async () => {
    await using nic = await joins("second");
    expect(nic.exit).toBeUndefined();
    const child = await runRingwire([
      ...["events", "--connect", device.url, "--json", "--past"],
      ...["--only", "joined", "--count", "1"],
    ]);
    expect(child.exit).toEqual(DONE);
    expect(linesOf(child)).toMatchObject([{ event: "joined" }]);
  });

  it("tells of drops, by port and reason", async () => {
    await using reader = events("--past", "--json", "--only", "drops");
    const args = ["pkt-gen", "-i", "netmap:ena7", "-f", "tx", "-n", "100", "--connect", device.url];
    // A frame from a group address is dropped by the switch.
    const source = ["-S", "01:00:5e:00:00:01"];
    const sent = await runRingwire([...args, ...source]);
    expect(sent.exit, sent.said()).toEqual(DONE);
    const dropped = await reader.waitForJson<DeviceEvent & { in: Record<string, number> }>(
      (line) => line["event"] === "drops" && line["port"] === "ena7",
    );
    expect(dropped.in["bad_source"]).toBeGreaterThan(0);
  });

  it("goes on at the next device of the place, and says so", async () => {
    const first = await DeviceProcess.start();
    const { port, url } = first;
    await using reader = startRingwire(["events", "--connect", url, "--json", "--past"]);
    await using one = startRingwire(["frontend", "--connect", url, "--name", "one", "--json"]);
    const joins = (id = ""): Promise<DeviceEvent> =>
      reader.waitForJson(
        ({ event, ...l }) => event === "joined" && l["name"] === "one" && l["id"] !== id,
      );
    const { id } = await joins();
    // A NIC that is not up yet would give up with its first device.
    await one.waitForJson((line) => line["event"] === "ready");
    await first.stop();
    await reader.waitFor(/the device stops; connecting again/);
    await using second = startRingwire(["device", "--listen", `127.0.0.1:${port}`, "--json"]);
    await second.waitForJson((line) => line["event"] === "listening");
    await joins(id);
    reader.signal("SIGINT");
    expect(await reader.ended()).toEqual(DONE);
  });
});

it("an EventSource gets the events by name, and by their ids", async () => {
  const script = `const source = new EventSource("${device.url}/events?after=0");
source.addEventListener("begun", ({ data }) => console.log(data));
source.addEventListener("joined", ({ data, lastEventId }) => {
  console.log(JSON.stringify({ ...JSON.parse(data), last: lastEventId }));
});`;
  await using browser = start([NODE, "--experimental-eventsource", "-e", script]);
  await browser.waitForJson((line) => line["event"] === "begun");
  await using nic = await joins("browsed");
  expect(nic.exit).toBeUndefined();
  const joined = await browser.waitForJson<DeviceEvent & { last: string }>(
    (line) => line["name"] === "browsed",
  );
  expect(joined.last).toBe(joined.id);
});

describe("what can't be read", () => {
  it("no device: a sentence, with --json an object", async () => {
    const child = await runRingwire(["events", "--connect", "127.0.0.1:9", "--json"]);
    expect(child.exit?.code).toBe(1);
    expect(JSON.parse(child.stdout)).toMatchObject({ event: "error", code: "ECONNREFUSED" });
    expect(child.stderr.trimEnd().split("\n")).toHaveLength(1);
  });

  it("an event that does not exist", async () => {
    const child = await runRingwire(["events", "--only", "moved"]);
    expect(child.exit?.code).toBe(2);
    expect(child.stderr).toMatch(/--only takes joined, left, fault, uplink-lost or drops/);
  });
});
