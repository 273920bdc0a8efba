/** The middle of pkt-gen, bridge and lb: from open ports to the last words. */
import { type Control, Counts } from "../../frontend/apps/app.ts";
import { Reporter, type ReportStyle } from "../../frontend/apps/report.ts";
import type { Logger } from "../../shared/log.ts";
import { Failure } from "../common/failure.ts";
import type { Output } from "../common/output.ts";
import type { Stop } from "../common/signals.ts";

export interface Running {
  /** The NICs, or one of them: why there is nothing left to work on. */
  readonly gaveUp: Promise<string>;
  readonly output: Output;
  readonly log: Logger;
  readonly stop: Stop;
  readonly control: Control;
  readonly counts: readonly Counts[];
  readonly style: ReportStyle;
  /** Milliseconds between reports. */
  readonly reportMs: number;
  /** Nothing about rates on stderr. */
  readonly quiet: boolean;
}

/**
 * Reports while `work` goes on; stops it at a signal, or when a NIC gives up, which is a Failure
 * once the work has ended.
 */
export async function whileRunning<T>(work: Promise<T>, running: Running): Promise<T> {
  const { gaveUp, stop, control, log } = running;
  const reporter = new Reporter(running.counts, running.style);
  const ticker = setInterval(() => report(reporter, running), running.reportMs);
  let failure: string | undefined;
  void stop.asked.then((signal) => {
    log.debug({}, `${signal}: the application ends`);
    control.stop();
  });
  void gaveUp.then((reason) => {
    failure = reason;
    control.stop();
  });
  try {
    const result = await work;
    if (failure !== undefined) throw new Failure(failure);
    return result;
  } finally {
    clearInterval(ticker);
  }
}

function report(reporter: Reporter, { output, quiet }: Running): void {
  const rate = reporter.rate();
  if (!quiet) process.stderr.write(`${reporter.rateText(rate)}\n`);
  output.value({ event: "rate", ...rate });
}

export const newCounts = (n: number): Counts[] => Array.from({ length: n }, () => new Counts());
