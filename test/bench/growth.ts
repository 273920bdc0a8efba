/**
 * What many idle NICs cost a device, and what one idle frontend costs its host.
 *
 *   growth-worker: N raw NICs, connected ──► device       memory, idle processor time, a broadcast
 */
import { DeviceProcess } from "../support/device-process.ts";
import type { DriverName } from "../support/lab.ts";
import { sleep, startRingwire, startScript } from "../support/process.ts";
import { rssBytes, working } from "./processor.ts";
import { BASE, type Measured, type Variant } from "./variant.ts";

const COUNTS = [1, 8, 64, 254, 1000] as const;
const DRIVERS: readonly DriverName[] = ["ena", "xen"];
const REST_MS = 2000;
/** Length of the idle measurement: several heartbeats. */
const IDLE_MS = 5000;
const BROADCASTS = 40;
const CONNECT_MS = 300_000;

interface GrowthOptions {
  readonly tree?: string | undefined;
}

/** Share of one core that the processes use in a while, in percent. */
async function idlePercent(pids: readonly number[]): Promise<number> {
  const begin = performance.now();
  const [, work] = await working(pids, () => sleep(IDLE_MS));
  return work.cpuNs / 1e4 / (performance.now() - begin);
}

async function measureNics(
  driver: DriverName,
  count: number,
  { tree }: GrowthOptions,
): Promise<Measured> {
  await using device = await DeviceProcess.startWith({ tree });
  const pids = [device.child.pid!];
  await device.lives();
  await sleep(REST_MS);
  const empty = device.rssBytes();
  const emptyPercent = await idlePercent(pids);

  const begin = performance.now();
  const args = [String(device.port), driver, String(count)];
  await using nics = startScript("test/bench/growth-worker.ts", args);
  await nics.waitForJson((line) => line["ready"] === true, CONNECT_MS);
  const connectSeconds = (performance.now() - begin) / 1000;
  await sleep(REST_MS);
  const idle = await idlePercent(pids);
  const full = device.rssBytes();

  let told = 0;
  const broadcasts = async () => {
    const tag = ++told;
    nics.tell(`broadcast ${tag} ${BROADCASTS / 2}`);
    await nics.waitForJson((line) => line["tag"] === tag);
  };
  await broadcasts();
  const from = performance.now();
  const [, work] = await working(pids, broadcasts);
  const idleMs = ((performance.now() - from) * idle) / 100;
  const statusAt = performance.now();
  await (await fetch(`${device.url}/status`)).arrayBuffer();
  return {
    rssBytes: full,
    rssBytesPerNic: (full - empty) / count,
    idleCpuPercent: idle,
    emptyCpuPercent: emptyPercent,
    // Of one broadcast, without the work of an idle device in the same time.
    broadcastCpuMs: (work.cpuNs / 1e6 - idleMs) / (BROADCASTS / 2),
    statusMs: performance.now() - statusAt,
    connectSeconds,
  };
}

async function measureFrontend(driver: DriverName, { tree }: GrowthOptions): Promise<Measured> {
  await using device = await DeviceProcess.startWith({ tree });
  const args = ["frontend", "--driver", driver, "--connect", device.url, "--json"];
  await using frontend = startRingwire(args, { tree });
  await frontend.waitForJson((line) => line["event"] === "ready");
  await sleep(REST_MS);
  const pids = [frontend.pid!];
  return { idleCpuPercent: await idlePercent(pids), rssBytes: rssBytes(pids) };
}

export function growthVariants(options: GrowthOptions): Variant[] {
  const row = (name: string, run: () => Promise<Measured>): Variant => ({
    name: `${options.tree === undefined ? "" : BASE}growth/${name}`,
    group: "growth",
    run,
  });
  return DRIVERS.flatMap((driver) => [
    row(`${driver}-frontend`, () => measureFrontend(driver, options)),
    ...COUNTS.map((count) => row(`${driver}-${count}`, () => measureNics(driver, count, options))),
  ]);
}
