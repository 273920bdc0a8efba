/** A real device with options for its models, checked by guests. */
import { afterEach, expect, it } from "vitest";
import { ACQ_BODY, SqDirection } from "../../shared/ena/admin.ts";
import { FeatureId } from "../../shared/ena/features.ts";
import { AccelMode, llqFeature } from "../../shared/ena/llq.ts";
import { Op } from "../../shared/wire/catalogue.ts";
import { parseWelcome } from "../../shared/wire/hello.ts";
import { DeviceProcess } from "../support/device-process.ts";
import { broadcast, RawEna } from "../support/raw-ena.ts";
import { column, RawFrontend } from "../support/raw-frontend.ts";
import { RawXen } from "../support/raw-xen.ts";
import { portOf } from "../support/status.ts";

let device: DeviceProcess;
afterEach(() => device.stop());

async function accelOffered(ena: RawEna): Promise<number> {
  const { entry } = await ena.getFeature(FeatureId.LLQ);
  return llqFeature.parse(entry, ACQ_BODY).accelFlags;
}

/** Request ids in the order of their completions, of 32 packets behind one doorbell. */
async function completionOrder(ena: RawEna): Promise<number[]> {
  const tx = await ena.createQueue(SqDirection.TX);
  const ids = Array.from({ length: 32 }, (_, id) => id);
  for (const reqId of ids) {
    const address = ena.buffer(reqId);
    ena.raw.batch(column(Op.PUSH, [{ address, bytes: broadcast(), type: 1 }]));
    ena.postTx(tx, reqId, address, 60);
  }
  ena.ring(tx);
  const order: number[] = [];
  while (order.length < ids.length) {
    expect(await ena.raw.survived()).toBe(true);
    order.push(...ena.completed(tx));
  }
  return order;
}

async function revision(port: number, name: string): Promise<number> {
  const raw = await RawFrontend.join(port, name);
  const [, welcome] = raw.heard.told.find(([what]) => what === "welcome")!;
  const { revision } = parseWelcome(welcome);
  await raw.end();
  return revision;
}

it("guest-6 --device-option changes what drivers find", async () => {
  device = await DeviceProcess.start(
    ...["--device-option", "completionOrder=shuffle", "disableMetaCaching=true"],
    ...["--device-option", "readless=false", "--device-option", "trusted=false", "rate=5000/100"],
  );
  const ena = await RawEna.start(device.port, "ena0");
  expect(await accelOffered(ena)).toBe(AccelMode.DISABLE_META_CACHING);
  const order = await completionOrder(ena);
  expect(order).not.toEqual(order.toSorted((a, b) => a - b));
  expect(new Set(order).size).toBe(32);
  expect(await revision(device.port, "ena1")).toBe(1);
  const xen = await RawXen.start(device.port, "xen0");
  const backend = `/local/domain/0/backend/vif/${xen.domid}/0`;
  expect(await xen.read("device/vif/0/trusted")).toBe("0");
  expect(await xen.read(`${backend}/rate`)).toBe("5000,100");
  await ena.raw.end();
  await xen.raw.end();
});

it("without options a device is the plain one", async () => {
  device = await DeviceProcess.start();
  const ena = await RawEna.start(device.port, "ena0");
  expect(await accelOffered(ena)).toBe(0);
  expect(await completionOrder(ena)).toEqual(Array.from({ length: 32 }, (_, id) => id));
  expect(await revision(device.port, "ena1")).toBe(0);
  await ena.raw.end();
});

it("attack-S10 --storm-limit changes one limit, or all", async () => {
  device = await DeviceProcess.start("--storm-limit", "20", "multicast=off");
  await RawEna.startWithQueues(device.port, "ena1");
  const xen = await RawXen.start(device.port, "xen0");
  const { ena, tx } = await RawEna.startWithQueues(device.port, "ena0");
  const multicast = broadcast();
  multicast[5] = 0xfe;
  for (let i = 0; i < 50; i++) ena.transmit(tx, i % 2 === 0 ? broadcast() : multicast);
  await ena.raw.until("the report", ([what, , code]) => what === "fault" && code === "STORM_LIMIT");
  const status = await device.status();
  expect(status.segments[0]!.storm).toEqual({ broadcast: 20, unknown: 20 });
  const { in: into } = portOf(status, "ena0");
  const { storm_broadcast: dropped = 0 } = into.dropped;
  expect(dropped).toBeGreaterThan(0);
  expect(into).toMatchObject({ frames: 50, flooded: 50 - dropped, copies: 2 * (50 - dropped) });
  const metrics = await (await fetch(`${device.url}/metrics`)).text();
  expect(metrics).toContain(`direction="in",reason="storm_broadcast"} ${dropped}`);
  await xen.raw.end();
});
