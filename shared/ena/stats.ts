/**
 * GET_STATS: the command, and a body for each type of statistics.
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_admin_defs.h,
 * structs ena_admin_aq_get_stats_cmd to ena_admin_customer_metrics.
 *
 * Command offsets count from the entry; body offsets from byte ACQ_BODY of the answer.
 */
import { type Parsed, struct, u8, u16, u64 } from "../bytes/struct.ts";
import { aqEntryFields } from "./admin.ts";

/** enum ena_admin_get_stats_type */
export const StatsType = {
  BASIC: 0,
  EXTENDED: 1,
  ENI: 2,
  ENA_SRD: 3,
  CUSTOMER_METRICS: 4,
} as const;
export type StatsType = (typeof StatsType)[keyof typeof StatsType];

// ena_admin_aq_get_stats_cmd: 32 bytes
//   4                16     17      18  20          22          24                  32
//   | control buffer | type | scope | - | queue idx | device id | requested metrics |
export const getStats = struct(32, {
  ...aqEntryFields,
  type: u8(16),
  scope: u8(17),
  queueIdx: u16(20),
  deviceId: u16(22),
  requestedMetrics: u64(24),
});
export type GetStats = Parsed<typeof getStats>;

// ena_admin_basic_stats: 56 bytes, seven pairs of 32-bit halves, low first: a u64 each
//   0          8         16         24        32         40         48            56
//   | tx bytes | tx pkts | rx bytes | rx pkts | rx drops | tx drops | rx overruns |
export const basicStats = struct(56, {
  txBytes: u64(0),
  txPkts: u64(8),
  rxBytes: u64(16),
  rxPkts: u64(24),
  rxDrops: u64(32),
  txDrops: u64(40),
  rxOverruns: u64(48),
});

// ena_admin_eni_stats: 40 bytes, packets shaped because an allowance was exceeded
//   0       8        16    24          32          40
//   | bw in | bw out | pps | conntrack | linklocal |
export const eniStats = struct(40, {
  bwInAllowanceExceeded: u64(0),
  bwOutAllowanceExceeded: u64(8),
  ppsAllowanceExceeded: u64(16),
  conntrackAllowanceExceeded: u64(24),
  linklocalAllowanceExceeded: u64(32),
});
