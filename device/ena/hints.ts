/**
 * Hardware hints: timeouts for the driver that fit the link between driver and device.
 *
 *   hint = default of the drivers + SLACK_TRIPS round trips, in steps of 100 ms, at most + 30 s
 *   admin completion timeout: the same, rounded up to whole seconds
 *
 * The default fits a device in the same machine, so a hint is never below it. A command crosses
 * the link once each way. It may wait behind queued data, which the link limits to about 20 ms.
 * Twenty trips leave room for that and for a retransmission of TCP.
 */
import type { HwHints } from "../../shared/ena/features.ts";
import { MAX_PACKET_DESCS } from "./context.ts";

const SLACK_TRIPS = 20;
const STEP_MS = 100;
/**
 * DPDK waits for an admin completion with pthread_cond_timedwait. Unless the timeout is whole
 * seconds, tv_nsec may exceed a second and the wait fails at once (amzn-drivers:
 * userspace/dpdk/ena/base/ena_plat_dpdk.h, ENA_WAIT_EVENT_WAIT). No other hint is affected.
 */
const ADMIN_STEP_MS = 1000;
const MAX_SLACK_MS = 30_000;
const MISSED_TX_THRESHOLD = 128;
/** Smallest change that causes an event: it must reach both. */
const NEWS_MS = 500;
const NEWS_SHARE = 0.25;

/** Returns the time (ms) that a round trip of `ms` adds to every timeout. */
export function slackMs(ms: number): number {
  return Math.min(MAX_SLACK_MS, Math.ceil((SLACK_TRIPS * ms) / STEP_MS) * STEP_MS);
}

/** The constants are defaults of amzn-drivers: kernel/fbsd/ena/ena.h and ena-com/ena_com.c. */
export function hintsFor(slack: number): HwHints {
  return {
    mmioReadTimeoutMs: 200 + slack,
    driverWatchdogTimeoutMs: 6000 + slack,
    missingTxCompletionTimeoutMs: 5000 + slack,
    missedTxCompletionCountThresholdToReset: MISSED_TX_THRESHOLD,
    adminCompletionTimeoutMs: Math.ceil((3000 + slack) / ADMIN_STEP_MS) * ADMIN_STEP_MS,
    netdevWdTimeoutMs: 5000 + slack,
    maxTxSglSize: MAX_PACKET_DESCS,
    maxRxSglSize: MAX_PACKET_DESCS,
  };
}

/** Returns true if `now` differs enough from `told`, the last hint sent, to send it. */
export function worthTelling(told: number, now: number): boolean {
  return Math.abs(now - told) >= Math.max(NEWS_MS, told * NEWS_SHARE);
}
