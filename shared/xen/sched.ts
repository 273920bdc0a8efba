/**
 * sched_op: the part that a guest's NIC needs to suspend.
 *
 * Source: xen: xen/include/public/sched.h.
 */
import { struct, u32 } from "../bytes/struct.ts";

export const SchedOp = { YIELD: 0, BLOCK: 1, SHUTDOWN: 2, POLL: 3 } as const;
export type SchedOp = (typeof SchedOp)[keyof typeof SchedOp];

export const ShutdownReason = {
  POWEROFF: 0,
  REBOOT: 1,
  SUSPEND: 2,
  CRASH: 3,
  WATCHDOG: 4,
  SOFT_RESET: 5,
} as const;
export type ShutdownReason = (typeof ShutdownReason)[keyof typeof ShutdownReason];

// sched_shutdown: 4 bytes
export const schedShutdown = struct(4, { reason: u32(0) });
