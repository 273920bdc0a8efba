/**
 * The asynchronous event notification queue: events that a device reports without a request.
 *
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_defs/ena_admin_defs.h,
 * structs ena_admin_aenq_*. An entry has 64 bytes; a NOTIFICATION with syndrome
 * UPDATE_HINTS carries `hwHints` of features.ts at AENQ_BODY.
 */
import { bits, flag, struct, u8, u16, u32, u64 } from "../bytes/struct.ts";

export const AENQ_ENTRY_SIZE = 64;
/** Depth of the event ring in every known driver. */
export const AENQ_DEPTH = 16;
export const AENQ_BODY = 16;

/** enum ena_admin_aenq_group: bit numbers in AENQ_CONFIG, values in an event. */
export const AenqGroup = {
  LINK_CHANGE: 0,
  FATAL_ERROR: 1,
  WARNING: 2,
  NOTIFICATION: 3,
  KEEP_ALIVE: 4,
  REFRESH_CAPABILITIES: 5,
  CONF_NOTIFICATIONS: 6,
  DEVICE_REQUEST_RESET: 7,
} as const;
export type AenqGroup = (typeof AenqGroup)[keyof typeof AenqGroup];

/** The groups that FreeBSD's and Linux's drivers ask for, as bits. Our device can send them all. */
export const AENQ_GROUPS = 0xff & ~(1 << AenqGroup.REFRESH_CAPABILITIES);

/** enum ena_admin_aenq_notification_syndrome */
export const AenqSyndrome = { UPDATE_HINTS: 2 } as const;
export type AenqSyndrome = (typeof AenqSyndrome)[keyof typeof AenqSyndrome];

// ena_admin_aenq_common_desc: 16 bytes
//   0       2          4       5   8               16
//   | group | syndrome | flags | - | timestamp 64 |      flags: 0 phase
const aenqFields = {
  group: u16(0),
  syndrome: u16(2),
  phase: bits(u8(4), 0, 1),
  timestamp: u64(8),
} as const;
export const aenqCommon = struct(AENQ_BODY, aenqFields);

// ena_admin_aenq_link_change_desc: 20 bytes
//   16      20
//   | flags |     0 link up
export const aenqLinkChange = struct(20, { ...aenqFields, linkUp: flag(u32(16), 0) });

// ena_admin_aenq_keep_alive_desc: 40 bytes, low and high halves: a u64 each
//   16         24         32            40
//   | rx drops | tx drops | rx overruns |     absolute: they replace the driver's counters
export const aenqKeepAlive = struct(40, {
  ...aenqFields,
  rxDrops: u64(16),
  txDrops: u64(24),
  rxOverruns: u64(32),
});

// ena_admin_aenq_conf_notifications_desc: 32 bytes
//   16       24  32
//   | bitmap | - |     bit n stands for notification code n + 1
export const aenqConfNotifications = struct(32, { ...aenqFields, notificationsBitmap: u64(16) });
