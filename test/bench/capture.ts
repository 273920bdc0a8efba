/**
 * Ring to ring while the device captures to /dev/null, compared with the same without a capture.
 */
import { measureRing, type RingOptions } from "./ring.ts";
import type { Variant } from "./variant.ts";

const GROUP = "capture";
/** Snap length of a user who needs only headers. */
const SNAP_BYTES = "96";

/**
 * Options of the device. Each frame is captured twice: as it leaves a NIC, and as it reaches one.
 */
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
      // The device holds frames and drops none, because a dropped frame is not captured either.
      run: () => measureRing({ ...options, frameBytes, whenFull: "hold", device: args }),
    })),
  );
}
