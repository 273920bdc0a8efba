/**
 * Counters of the driver, with the names of the original's sysctl tree, including its spelling.
 * After ena_sysctl.c and ena.h (amzn-drivers: kernel/fbsd/ena).
 */

import { ResetReason } from "../../shared/ena/registers.ts";
import { LroStats } from "../net/lro.ts";
import { GateStats } from "../net/transmit-gate.ts";

export class TxStats extends GateStats {
  prepare_ctx_err = 0;
  dma_mapping_err = 0;
  doorbells = 0;
  missing_tx_comp = 0;
  bad_req_id = 0;
  mbuf_collapses = 0;
  queue_wakeups = 0;
  queue_stops = 0;
  llq_buffer_copy = 0;
  unmask_interrupt_num = 0;
  // Not in the original, which has no link that can be lost and no waiting caller.
  /** Packets whose completion never came, because of a device reset or the loss of the link. */
  dropped_reset = 0;
  dropped_link = 0;
  dropped_down = 0;
  /** Packets with invalid offload facts. */
  bad_offload = 0;
  /** Netmap: packets that can't be sent; packets that were released and not sent before the ring
   * was created again; slots that an application wrote to while it did not own them. */
  bad_packet = 0;
  dropped_unsent = 0;
  bad_slot = 0;
}

export class RxStats extends LroStats {
  count = 0;
  bytes = 0;
  refil_partial = 0;
  csum_bad = 0;
  mbuf_alloc_fail = 0;
  dma_mapping_err = 0;
  bad_desc_num = 0;
  bad_req_id = 0;
  empty_rx_ring = 0;
  csum_good = 0;
  // Not in the original's tree.
  /** Malformed completions; the original counts them only as resets. */
  bad_desc = 0;
  /** Netmap: slots released without a buffer, or written to while the driver owned them. */
  bad_slot = 0;
  /** Packets that waited while this process stood still. */
  dropped_stale = 0;
}

export class DevStats {
  wd_expired = 0;
  interface_up = 0;
  interface_down = 0;
  admin_q_pause = 0;
  os_trigger = 0;
  missing_tx_cmpl = 0;
  bad_rx_req_id = 0;
  bad_tx_req_id = 0;
  bad_rx_desc_num = 0;
  invalid_state = 0;
  missing_intr = 0;
  tx_desc_malformed = 0;
  rx_desc_malformed = 0;
  missing_admin_interrupt = 0;
  admin_to = 0;
  device_request_reset = 0;
  total_resets = 0;
  // Not in the original.
  reset_failures = 0;
  link_losses = 0;
  unknown_aenq = 0;
}

export class HwStats {
  rx_packets = 0;
  tx_packets = 0;
  rx_bytes = 0;
  tx_bytes = 0;
  rx_drops = 0;
  tx_drops = 0;
  rx_overruns = 0;
}

export class AdminStats {
  aborted_cmd = 0;
  sumbitted_cmd = 0;
  completed_cmd = 0;
  out_of_space = 0;
  no_completion = 0;
}

/** resets_stats_offset of the original: the counter of each reason. */
const RESET_COUNTERS: Readonly<Record<number, Exclude<keyof DevStats, "total_resets">>> = {
  [ResetReason.KEEP_ALIVE_TO]: "wd_expired",
  [ResetReason.ADMIN_TO]: "admin_to",
  [ResetReason.OS_TRIGGER]: "os_trigger",
  [ResetReason.MISS_TX_CMPL]: "missing_tx_cmpl",
  [ResetReason.INV_RX_REQ_ID]: "bad_rx_req_id",
  [ResetReason.INV_TX_REQ_ID]: "bad_tx_req_id",
  [ResetReason.TOO_MANY_RX_DESCS]: "bad_rx_desc_num",
  [ResetReason.DRIVER_INVALID_STATE]: "invalid_state",
  [ResetReason.MISS_INTERRUPT]: "missing_intr",
  [ResetReason.TX_DESCRIPTOR_MALFORMED]: "tx_desc_malformed",
  [ResetReason.RX_DESCRIPTOR_MALFORMED]: "rx_desc_malformed",
  [ResetReason.MISSING_ADMIN_INTERRUPT]: "missing_admin_interrupt",
  [ResetReason.DEVICE_REQUEST]: "device_request_reset",
};

/** ena_increment_reset_counter */
export function countReset(stats: DevStats, reason: number): void {
  const name = RESET_COUNTERS[reason];
  if (name !== undefined) stats[name]++;
  stats.total_resets++;
}
