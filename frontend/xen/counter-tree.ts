/** The driver's counters as one tree. */
import type { CounterTree } from "../../shared/status/frontend-status.ts";
import type { NetfrontInfo } from "./info.ts";

export function counterTree(info: NetfrontInfo): CounterTree {
  const { xenbus, grants, events, store } = info;
  const tree: Record<string, number | string | CounterTree> = {
    ...info.stats,
    broken_reason: info.broken ?? "",
    trusted: info.trusted ? 1 : 0,
    queues: info.rxqs.length,
    max_tx_frags: info.maxTxFrags,
    pushed_bytes: info.gate.pushedBytes,
    rx_mbufs_in_use: info.rxPool.inUse,
    xenbus: {
      state: xenbus.state,
      otherend_state: xenbus.otherend,
      otherend: xenbus.otherendPath,
      outstanding: store.outstanding,
    },
    grants: {
      live: grants.liveCount,
      free: grants.freeCount,
      frames: grants.frames,
      quarantined: grants.quarantined,
      held: grants.heldCount,
    },
    events: { ...events.counters, masked: events.masked },
    ifnet: { ...info.ifnet.counters },
    bus_faults: { ...info.ctx.space.faults },
  };
  for (let i = 0; i < info.txStats.length; i++) {
    const rxq = info.rxqs[i];
    const txq = info.txqs[i];
    tree[`queue${i}`] = {
      tx: {
        ...info.txStats[i]!,
        in_flight: txq?.ring?.inFlight ?? 0,
        pool: txq?.pool.count ?? 0,
        port: txq?.port ?? 0,
      },
      rx: {
        ...info.rxStats[i]!,
        in_flight: rxq?.ring?.inFlight ?? 0,
        pool: rxq?.pool.count ?? 0,
      },
    };
  }
  return tree;
}
