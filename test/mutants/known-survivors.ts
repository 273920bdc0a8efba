/**
 * Edits of the sample that no test notices, by function and line, with the reason. An equivalent
 * edit changes nothing observable. The others are listed so that a later reader can decide about
 * them.
 */
import type { Site } from "./sites.ts";

export interface KnownSurvivor {
  readonly file: string;
  readonly inFunction: string;
  /** The line, trimmed: a function can hold the same text twice. */
  readonly line: string;
  /** The text that the edit replaces, and its replacement. */
  readonly was: string;
  readonly becomes: string;
  /** True when nothing observable changes: such an edit is not counted at all. */
  readonly equivalent: boolean;
  readonly reason: string;
}

export const knownSurvivors: readonly KnownSurvivor[] = [
  {
    file: "shared/ring/phase.ts",
    inFunction: "constructor",
    line: "if (!isPowerOfTwo(depth) || depth > 0x1_0000) {",
    was: "0x1_0000",
    becomes: "65537",
    equivalent: true,
    reason: "Only powers of two come here, and 65537 has the same ones below it.",
  },
  {
    file: "device/xen/netback/rx.ts",
    inFunction: "close",
    line: 'if (this.#fifo.length > 0) this.#vif.port.drop(DropReason.PORT_DOWN, "out", this.#fifo.length);',
    was: "this.#fifo.length > 0",
    becomes: "true",
    equivalent: true,
    reason: "With an empty queue, a drop of 0 frames adds 0 to the port's counters.",
  },
];

/** An edit as the sample draws it. */
interface Drawn {
  readonly file: string;
  readonly site: Site;
  readonly lineText: string;
  readonly was: string;
}

/** The entry of an edit; undefined when the list has none. */
export function knownSurvivor({ file, site, lineText, was }: Drawn): KnownSurvivor | undefined {
  return knownSurvivors.find(
    (known) =>
      known.file === file &&
      known.inFunction === site.inFunction &&
      known.line === lineText &&
      known.was === was &&
      known.becomes === site.text,
  );
}
