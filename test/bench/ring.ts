/**
 * Ring to ring: `ringwire device` and two frontends (ring-worker.ts), the product's own driver,
 * rings, link and switch, with a generator and a sink in place of a kernel.
 *
 *   generator ─► driver ─► link ─► device: rings, switch, rings ─► link ─► driver ─► sink
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { get as getHttp } from "node:http";
import { get as getHttps } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { CERTIFICATES, KEY } from "../support/certificates.ts";
import { sleep, startRingwire, startScript } from "../support/process.ts";
import { workOf } from "./processor.ts";
import type { Measured } from "./variant.ts";

const FRONTEND = "test/bench/ring-worker.ts";
/** V8 compiles by work, not by time: the warm-up is long on a busy machine, within limits. */
const WARM_UP = { frames: 300_000, stepMs: 800, steps: 6 } as const;

export interface RingOptions {
  readonly frameBytes: number;
  readonly seconds: number;
  readonly zeroMask: boolean;
  readonly ringSize: number;
  /** The frontend's program and its additional arguments; defaults to ring-worker.ts. */
  readonly frontend?: { readonly script: string; readonly args: readonly string[] };
  /** Additional arguments of the device. */
  readonly device?: readonly string[];
  /** Another built checkout, whose device and frontends run. */
  readonly tree?: string | undefined;
  /** The device and both frontends speak TLS. */
  readonly tls?: boolean;
  /** What the device does with a frame when the receiver has no buffer. */
  readonly whenFull: "drop" | "hold";
}

/** A frontend's answer to one request: its counters since its start. */
interface FrontendCount {
  readonly frames: number;
  readonly atMs: number;
  readonly cpuMs: number;
}

/** The part of a segment's status that this bench reads. */
interface Segment {
  readonly ports: readonly {
    readonly name: string;
    readonly in: { readonly dropped: Readonly<Record<string, number>> };
    readonly out: { readonly dropped: Readonly<Record<string, number>> };
    readonly lost: Readonly<Record<"in" | "out", Readonly<Record<string, number>>>>;
  }[];
}
/** The status of a device, or of one from a time when a device had one segment (`--base`). */
type DeviceStatus =
  | { readonly segments: readonly Segment[] }
  | { readonly segments?: never; readonly segment: Segment };

/** Drops by reason, over all ports and both directions. */
function dropsOf(status: DeviceStatus): Record<string, number> {
  const drops: Record<string, number> = {};
  const segments = status.segments ?? [status.segment];
  for (const port of segments.flatMap(({ ports }) => ports)) {
    for (const counts of [port.in.dropped, port.out.dropped, port.lost.in, port.lost.out]) {
      for (const [reason, frames] of Object.entries(counts)) {
        drops[`drop_${reason}`] = (drops[`drop_${reason}`] ?? 0) + frames;
      }
    }
  }
  return drops;
}

/** Files for a device with TLS, in a folder of their own. */
function tlsFiles(): { args: string[]; env: Record<string, string> } & Disposable {
  const folder = mkdtempSync(join(tmpdir(), "ringwire-bench-"));
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  writeFileSync(cert, CERTIFICATES.SELF_SIGNED);
  writeFileSync(key, KEY);
  return {
    args: ["--cert", cert, "--key", key],
    env: { NODE_EXTRA_CA_CERTS: cert },
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** The status page of a device; fetch has no option for a certificate. */
function readStatus(url: string): Promise<DeviceStatus> {
  const get = url.startsWith("https:") ? getHttps : getHttp;
  return new Promise((resolve, reject) => {
    const options = { ca: CERTIFICATES.SELF_SIGNED, agent: false };
    const asked = get(`${url}/status`, options, (answer) => {
      text(answer).then((page) => resolve(JSON.parse(page) as DeviceStatus), reject);
    });
    asked.on("error", reject);
  });
}

export async function measureRing(options: RingOptions): Promise<Measured> {
  const { tree } = options;
  using files = options.tls === true ? tlsFiles() : undefined;
  await using device = startRingwire(
    [
      ...["device", "--listen", "127.0.0.1:0", "--json"],
      ...["--when-full", options.whenFull],
      ...(options.device ?? []),
      ...(files?.args ?? []),
    ],
    { tree },
  );
  const { port } = await device.waitForJson<{ port: number }>((line) => line.event === "listening");
  const http = `${files === undefined ? "http" : "https"}://127.0.0.1:${port}`;

  const { script, args: more } = options.frontend ?? { script: FRONTEND, args: [] };
  const frontend = (role: "generate" | "sink", to: readonly string[] = []) => {
    const args = ["--role", role, "--connect", http, "--frame", String(options.frameBytes)];
    args.push("--ring-size", String(options.ringSize));
    if (options.zeroMask) args.push("--zero-mask");
    return startScript(script, [...args, ...more, ...to], { tree, env: files?.env ?? {} });
  };
  await using sink = frontend("sink");
  const { mac } = await sink.waitForJson<{ mac?: string }>((line) => line.ready === true);
  await using generator = frontend("generate", mac === undefined ? [] : ["--to", mac]);
  await generator.waitForJson((line) => line.running === true);

  let question = 0;
  const ask = async (child: typeof sink): Promise<FrontendCount> => {
    const tag = ++question;
    child.tell(String(tag));
    return await child.waitForJson<FrontendCount>((line) => line.tag === tag);
  };
  const status = () => readStatus(http);

  for (let step = 0; step < WARM_UP.steps; step++) {
    await sleep(WARM_UP.stepMs);
    if ((await ask(sink)).frames >= WARM_UP.frames) break;
  }
  const [sentAt, gotAt] = await Promise.all([ask(generator), ask(sink)]);
  const pids = [device, generator, sink].map((child) => child.pid!);
  const workAt = workOf(pids);
  const dropsAt = dropsOf(await status());
  await sleep(options.seconds * 1000);
  const [sent, got] = await Promise.all([ask(generator), ask(sink)]);
  const work = workOf(pids);
  const drops = dropsOf(await status());

  // Each process measures the time between its own two answers on its own clock.
  const rate = (from: FrontendCount, to: FrontendCount) =>
    ((to.frames - from.frames) * 1000) / (to.atMs - from.atMs);
  const cpu = (from: FrontendCount, to: FrontendCount) =>
    ((to.cpuMs - from.cpuMs) * 100) / (to.atMs - from.atMs);
  const measured: Record<string, number> = {
    framesPerSecond: rate(gotAt, got),
    sentPerSecond: rate(sentAt, sent),
    // Of all three processes, for frames that arrived.
    cpuSecondsPerMFrames: (work.cpuNs - workAt.cpuNs) / 1000 / (got.frames - gotAt.frames),
    generatorCpuPercent: cpu(sentAt, sent),
    sinkCpuPercent: cpu(gotAt, got),
  };
  for (const [reason, frames] of Object.entries(drops)) {
    measured[reason] = frames - (dropsAt[reason] ?? 0);
  }
  return measured;
}
