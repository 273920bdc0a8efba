/** The driver's counters as one tree, in the shape of the original's sysctl tree (ena_sysctl.c). */
import type { CounterTree } from "../../shared/status/frontend-status.ts";
import type { Adapter } from "./adapter.ts";
import { RSS_TABLE_SIZE } from "./rss.ts";

export function counterTree(adapter: Adapter): CounterTree {
  const tree: Record<string, number | string | CounterTree> = {
    wd_active: adapter.wdActive ? 1 : 0,
    keep_alive_timeout: adapter.keepAliveTimeoutMs,
    missing_tx_timeout: adapter.missingTxTimeoutMs,
    missing_tx_max_queues: adapter.missingTxMaxQueues,
    missing_tx_threshold: adapter.missingTxThreshold,
    ...adapter.devStats,
    io_queues_nb: adapter.numQueues,
    rx_queue_size: adapter.queues[0]?.rx.size ?? adapter.requestedRxRingSize,
    tx_queue_size: adapter.queues[0]?.tx.size ?? adapter.requestedTxRingSize,
    tx_placement: adapter.com?.llq === undefined ? "host" : "device",
    pushed_bytes: adapter.gate.pushedBytes,
    rx_mbufs_in_use: adapter.rxPool?.inUse ?? 0,
    hw_stats: { ...adapter.hwStats },
    admin_stats: { ...adapter.adminStats },
    ifnet: { ...adapter.ifnet.counters },
    bus_faults: { ...adapter.ctx.space.faults },
    rss: { indir_table_size: adapter.rssActive ? RSS_TABLE_SIZE : 0 },
  };
  for (let qid = 0; qid < adapter.txStats.length; qid++) {
    tree[`queue${qid}`] = {
      tx_ring: { ...adapter.txStats[qid]! },
      rx_ring: { ...adapter.rxStats[qid]! },
    };
  }
  return tree;
}
