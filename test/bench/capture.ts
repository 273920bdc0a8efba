/** Ring to ring while the device captures to /dev/null, beside the same without a capture. */
import { measureRing, type RingOptions } from "./ring.ts";
import type { Variant } from "./variant.ts";

const GROUP = "capture";
/** What a user of headers keeps. */
const SNAP_BYTES = "96";

/** What the device is told. Each frame is seen twice: as it leaves a NIC, and as it reaches one. */
export const CAPTURE_SETUPS: readonly {
  readonly name: string;
  readonly args: readonly string[];
}[] = [
  { name: "capture-off", args: [] },
  {
    name: "capture-frames",
    args: ["--capture", "/dev/null", "--capture-only", "frames", "--capture-snap", SNAP_BYTES],
  },
  { name: "capture-ring", args: ["--capture", "/dev/null", "--capture-only", "ring"] },
  { name: "capture-both", args: ["--capture", "/dev/null", "--capture-snap", SNAP_BYTES] },
];

type Options = Pick<RingOptions, "seconds" | "zeroMask" | "ringSize">;

export function captureVariants(sizes: readonly number[], options: Options): Variant[] {
  return sizes.flatMap((frameBytes) =>
    CAPTURE_SETUPS.map(({ name, args }) => ({
      name: `${name}/${frameBytes}`,
      group: GROUP,
      // Held, not dropped: what the sink has no buffer for would not be captured either.
      run: () => measureRing({ ...options, frameBytes, whenFull: "hold", device: args }),
    })),
  );
}
