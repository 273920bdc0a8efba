/**
 * The PTP hardware clock's shared page: what the device writes after a PHC doorbell.
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_admin_defs.h,
 * struct ena_admin_phc_resp.
 */
import { type Parsed, struct, u16, u32, u64 } from "../bytes/struct.ts";

/** enum ena_admin_phc_error_flags */
export const PhcError = { TIMESTAMP: 1 << 0, ERROR_BOUND: 1 << 1 } as const;
export type PhcError = (typeof PhcError)[keyof typeof PhcError];

// ena_admin_phc_resp: 64 bytes
//   0        2   8           16  24            28            32  64
//   | req id | - | timestamp | - | error bound | error flags | - |     nanoseconds
/** A timestamp of 2^53 ns or more (after April 1970) reads as Infinity: compare bytes, or use BigInt. */
export const phcResp = struct(64, {
  reqId: u16(0),
  timestamp: u64(8),
  errorBoundNs: u32(24),
  errorFlags: u32(28),
});
export type PhcResp = Parsed<typeof phcResp>;
