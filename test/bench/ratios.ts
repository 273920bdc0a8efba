/** The ratios of a run: of the product to limits, peers and the other checkout. */
import { CAPTURE_SETUPS } from "./capture.ts";
import { WRITER_MODES, WRITER_SIZES, writerName } from "./capture-writer.ts";
import { BATCHES } from "./limit.ts";
import { FRAME_SIZES, NETMAP_SETUPS } from "./setups.ts";
import type { Samples } from "./stats.ts";
import { BASE, type Outcomes } from "./variant.ts";
import { isNeutral } from "./verdict.ts";

/** A ratio of two rows: `of` / `to`, of one metric, round by round. */
export interface Ratio {
  readonly of: string;
  readonly to: string;
  readonly metric: string;
  readonly samples: Samples;
}

export interface Best {
  readonly batch: number;
  readonly framesPerSecond: number;
}

/** The batch size with the best median; undefined when the limit was not measured. */
export function bestLimit(outcomes: Outcomes, kind: string, frameBytes: number): Best | undefined {
  let best: Best | undefined;
  for (const batch of BATCHES) {
    const value = outcomes.get(`${kind}/${frameBytes}x${batch}`)?.median("framesPerSecond");
    if (value === undefined || Number.isNaN(value)) continue;
    if (best === undefined || value > best.framesPerSecond) {
      best = { batch, framesPerSecond: value };
    }
  }
  return best;
}

/** Peers of TAP to TAP, and the metrics that are compared with each. */
const TAP_RATIOS: Readonly<Record<string, readonly string[]>> = {
  "tap/floor-node": ["pingCpuUs", "floodCpuUs", "tcpCpuSecondsPerGB"],
  "tap/vde2": ["freshP50Us", "pingP50Us", "pingP99Us", "floodP50Us", "tcpBitsPerSecond"],
  "tap/vtun": [
    ...["tcpBitsPerSecond", "tcpBackBitsPerSecond", "tcpCpuSecondsPerGB", "tcpBackCpuSecondsPerGB"],
    ...["udpFramesPerSecond", "udpCpuSecondsPerMFrames"],
  ],
};
const RINGS = ["ring", "ring-hold", "xen", "xen-hold", ...NETMAP_SETUPS.map(({ name }) => name)];

export function ratiosOf(outcomes: Outcomes): Ratio[] {
  const ratios: Ratio[] = [];
  const put = (of: string, to: string, metric = "framesPerSecond") => {
    const [upper, lower] = [outcomes.get(of), outcomes.get(to)];
    if (upper === undefined || lower === undefined) return;
    const samples = upper.over(lower, metric);
    if (Number.isFinite(samples.median)) ratios.push({ of, to, metric, samples });
  };

  for (const size of FRAME_SIZES) {
    for (const kind of ["limit", "limit-copy"]) {
      const best = bestLimit(outcomes, kind, size);
      if (best === undefined) continue;
      for (const ring of RINGS) put(`${ring}/${size}`, `${kind}/${size}x${best.batch}`);
    }
    put(`tls-ena/${size}`, `ring-hold/${size}`);
    put(`tls-xen/${size}`, `xen-hold/${size}`);
    for (const { name, args } of CAPTURE_SETUPS) {
      if (args.length > 0) put(`${name}/${size}`, `capture-off/${size}`);
    }
  }
  for (const [frameBytes, snapBytes] of WRITER_SIZES) {
    for (const mode of WRITER_MODES.filter((name) => name !== "copy")) {
      put(writerName(mode, frameBytes, snapBytes), writerName("copy", frameBytes, snapBytes));
    }
  }
  for (const candidate of ["tap/ena", "tap/xen", "tap/floor-node", "tap/floor-c"]) {
    for (const [peer, metrics] of Object.entries(TAP_RATIOS)) {
      if (peer === candidate) continue;
      for (const metric of metrics) put(candidate, peer, metric);
    }
  }
  for (const [name, { samples }] of outcomes) {
    for (const metric of samples.keys()) if (!isNeutral(metric)) put(name, BASE + name, metric);
  }
  return ratios;
}
