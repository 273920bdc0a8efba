/** The beginning of a command that runs until its work is done or a signal stops it. */
import type { Logger } from "../../shared/log.ts";
import { createLog } from "./log.ts";
import { logOptions } from "./options.ts";
import { Output } from "./output.ts";
import { onStop, type Stop } from "./signals.ts";

export interface Begun {
  readonly output: Output;
  readonly log: Logger;
  readonly stop: Stop;
}

/** Creates output and log as the common flags say, and handles signals (`stops`) from now on. */
export function begin(
  options: Parameters<typeof logOptions>[0] & { readonly json: boolean },
  stops?: readonly NodeJS.Signals[],
): Begun {
  return {
    output: new Output(options.json),
    log: createLog(logOptions(options)),
    stop: onStop(stops),
  };
}
