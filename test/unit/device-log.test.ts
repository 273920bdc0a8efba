/** The log of a device under attack is bounded, and counts the lines that it leaves out. */
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Device } from "../../device/index.ts";
import { testDevice } from "../support/device-server.ts";
import { RawFrontend } from "../support/raw-frontend.ts";
import { RecordingLog } from "../support/recording-log.ts";

/** Lines of one kind that the log writes per second. */
const A_SECOND = 10;
const TIMES = 100;

let log: RecordingLog;
let device: Device;
let port: number;

beforeEach(async () => {
  log = new RecordingLog();
  device = await testDevice({ maxQueues: 1, log });
  ({ port } = device);
});

afterEach(async () => {
  await device.close();
});

/**
 * Runs `stranger` many times and ends the device. Resolves to the most lines allowed in that time.
 */
async function allowance(stranger: (i: number) => Promise<unknown>): Promise<number> {
  const since = performance.now();
  await Promise.all(Array.from({ length: TIMES }, (_, i) => stranger(i)));
  await device.close();
  return A_SECOND * ((performance.now() - since) / 1000 + 2);
}

/** The number of events that a line stands for. */
const standsFor = (line: string): number =>
  1 + Number(/and (\d+) more like it/.exec(line)?.[1] ?? 0);

it.each<[string, RegExp, (i: number) => Promise<unknown>]>([
  ["joins", /joined/, async (i) => (await RawFrontend.join(port, `n${i}`)).end()],
  ["ends", /left:/, async (i) => (await RawFrontend.join(port, `n${i}`)).end("reset")],
  [
    "refusals",
    /refused a frontend/,
    async () => {
      const raw = await RawFrontend.connect(port);
      raw.hello("any");
      await raw.closed;
    },
  ],
  [
    "broken rules",
    /broke a rule of the wire/,
    async (i) => {
      const raw = await RawFrontend.join(port, `n${i}`);
      raw.batch([99]);
      await raw.closed;
    },
  ],
])(
  "attack-S11 has a bounded number of lines of %s, and counts the others",
  async (_what, kind, stranger) => {
    const most = await allowance(stranger);
    const lines = [...log.infos, ...log.warnings].filter((line) => kind.test(line));
    expect(lines.length).toBeLessThanOrEqual(most);
    expect(lines.reduce((all, line) => all + standsFor(line), 0)).toBe(TIMES);
  },
);
