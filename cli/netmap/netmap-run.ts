/** The common part of pkt-gen, bridge, lb and replay while their ports or their NIC are open. */
import { type Control, Counts } from "../../frontend/apps/app.ts";
import { Reporter, type ReportStyle } from "../../frontend/apps/report.ts";
import type { Begun } from "../common/begin.ts";
import { Failure } from "../common/failure.ts";

/** Style of the reports of a command without flags for it. */
export const STYLE: ReportStyle = { plain: false, averages: false, framing: false };

export interface Running extends Begun {
  /** Resolves with the reason when a NIC gives up. */
  readonly gaveUp: Promise<string>;
  readonly control: Control;
  readonly counts: readonly Counts[];
  readonly style: ReportStyle;
  /** Time (ms) between two reports. */
  readonly reportMs: number;
  /** True when no rates are printed on stderr. */
  readonly quiet: boolean;
}

/**
 * Prints reports while `work` runs. Stops the work at a signal, or when a NIC gives up. In the
 * latter case it rejects with Failure after the work has ended.
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
