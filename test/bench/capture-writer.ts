/**
 * The pcapng writer alone, compared with a copy of the same bytes; each in a process of its own.
 */
import { NODE, run } from "../support/process.ts";
import type { Measured, Variant } from "./variant.ts";

/** `copy` copies the kept bytes, `writer` makes blocks of them, `recorder` does all but the disk. */
export const WRITER_MODES = ["copy", "writer", "recorder"] as const;
/** Bytes of a frame, and the number of bytes kept. */
export const WRITER_SIZES = [
  [60, 60],
  [1514, 96],
  [1514, 1514],
] as const;

const GROUP = "capture-writer";

export function writerVariants(seconds: number): Variant[] {
  return WRITER_SIZES.flatMap(([frameBytes, snapBytes]) =>
    WRITER_MODES.map((mode) => ({
      name: writerName(mode, frameBytes, snapBytes),
      group: GROUP,
      run: () => measure(mode, frameBytes, snapBytes, seconds),
    })),
  );
}

export const writerName = (mode: string, frameBytes: number, snapBytes: number): string =>
  `capture-${mode}/${frameBytes}s${snapBytes}`;

async function measure(
  mode: string,
  frameBytes: number,
  snapBytes: number,
  seconds: number,
): Promise<Measured> {
  const script = "test/bench/capture-writer-worker.ts";
  const args = [mode, frameBytes, snapBytes, seconds].map(String);
  const child = await run([NODE, "--no-warnings", script, ...args]);
  return { framesPerSecond: Number(child.stdout) };
}
