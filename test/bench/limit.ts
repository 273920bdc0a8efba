/** Runs the limit: three fresh processes over two bare `ws` links (limit-worker.ts). */
import { type Child, startScript } from "../support/process.ts";

const WORKER = "test/bench/limit-worker.ts";

/** Batch sizes to try; the limit of a frame size is the best result. */
export const BATCHES = [1, 16, 64, 256] as const;

export interface LimitOptions {
  readonly frameBytes: number;
  readonly batch: number;
  readonly seconds: number;
  /** Each process copies each frame once. */
  readonly copy: boolean;
  readonly zeroMask: boolean;
}

/** One run: frames per second as the sink counts them, in a window after a warm-up. */
export async function measureLimit(options: LimitOptions): Promise<number> {
  const args = ["--frame", String(options.frameBytes), "--batch", String(options.batch)];
  args.push("--seconds", String(options.seconds));
  if (options.copy) args.push("--copy");
  if (options.zeroMask) args.push("--zero-mask");
  const worker = (role: string, port: number): Child =>
    startScript(WORKER, ["--role", role, "--port", String(port), ...args]);

  await using relay = worker("relay", 0);
  const { port } = await relay.waitForJson<{ port: number }>((line) => line.ready === true);
  await using sink = worker("sink", port);
  await sink.waitForJson((line) => line.ready === true);
  await using source = worker("source", port);

  const counted = sink.waitForJson<{ frames: number; seconds: number }>(
    (line) => line.frames !== undefined,
    options.seconds * 1000 + 30_000,
  );
  const failed = source.exited.then(() => {
    throw new Error(`the source ended\n${source.said()}`);
  });
  const { frames, seconds } = await Promise.race([counted, failed]);
  // The processes end together. An error reported after that is no failure.
  failed.catch(() => {});
  return frames / seconds;
}
