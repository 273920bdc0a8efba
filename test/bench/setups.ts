/** What ring to ring and netmap are measured with. */
export const FRAME_SIZES = [60, 1514] as const;

/** pkt-gen to pkt-gen: ring pairs per NIC, and the thread in which the loops run. */
export const NETMAP_SETUPS = [1, 4].flatMap((rings) =>
  [false, true].map((worker) => ({
    name: `netmap-${rings}${worker ? "-worker" : ""}`,
    rings,
    worker,
  })),
);
