/**
 * Edits of the sample that no test notices, by function, with the reason. An equivalent edit
 * changes nothing that anybody could observe; the others are named so that the next reader decides.
 */
import type { Site } from "./sites.ts";

export interface KnownSurvivor {
  readonly file: string;
  readonly inFunction: string;
  /** The text that the edit replaces, and what it becomes. */
  readonly was: string;
  readonly becomes: string;
  /** True when nothing observable changes: such an edit counts neither way. */
  readonly equivalent: boolean;
  readonly reason: string;
}

const knownSurvivors: readonly KnownSurvivor[] = [
  {
    file: "shared/ring/phase.ts",
    inFunction: "constructor",
    was: "0x1_0000",
    becomes: "65537",
    equivalent: true,
    reason: "Only powers of two come here, and 65537 has the same ones below it.",
  },
  {
    file: "device/xen/netback/rx.ts",
    inFunction: "close",
    was: "this.#fifo.length > 0",
    becomes: "true",
    equivalent: true,
    reason: "With an empty queue, a drop of 0 frames adds 0 to the port's counters.",
  },
];

/** The entry of an edit; undefined for one that is not listed. */
export function knownSurvivor(file: string, site: Site, was: string): KnownSurvivor | undefined {
  return knownSurvivors.find(
    (known) =>
      known.file === file &&
      known.inFunction === site.inFunction &&
      known.was === was &&
      known.becomes === site.text,
  );
}
