/** Handles each event of the device. aenq_handlers of the original (ena.c). */

import { nameOf } from "../../shared/bytes/names.ts";
import {
  AENQ_BODY,
  AenqGroup,
  AenqSyndrome,
  aenqKeepAlive,
  aenqLinkChange,
} from "../../shared/ena/aenq.ts";
import { hwHints } from "../../shared/ena/features.ts";
import { ResetReason } from "../../shared/ena/registers.ts";
import type { Adapter } from "./adapter.ts";
import { transmitReady } from "./datapath-tx.ts";

export function onEvent(
  adapter: Adapter,
  group: number,
  syndrome: number,
  view: DataView,
  at: number,
): void {
  switch (group) {
    case AenqGroup.LINK_CHANGE:
      onLinkChange(adapter, aenqLinkChange.parse(view, at).linkUp);
      return;
    case AenqGroup.KEEP_ALIVE: {
      const { rxDrops, txDrops, rxOverruns } = aenqKeepAlive.parse(view, at);
      // Absolute values: the driver copies the counters of the device.
      adapter.hwStats.rx_drops = rxDrops;
      adapter.hwStats.tx_drops = txDrops;
      adapter.hwStats.rx_overruns = rxOverruns;
      adapter.keepAliveTimestamp = adapter.clock();
      return;
    }
    case AenqGroup.NOTIFICATION:
      if (syndrome === AenqSyndrome.UPDATE_HINTS) {
        adapter.updateHints(hwHints.parse(view, at + AENQ_BODY));
        return;
      }
      break;
    case AenqGroup.DEVICE_REQUEST_RESET:
      // A device may ask any number of times. That causes one reset and one log line.
      if (!adapter.triggerReset) adapter.log.warn({}, "the device asks for a reset");
      adapter.requestReset(ResetReason.DEVICE_REQUEST);
      return;
    case AenqGroup.FATAL_ERROR:
    case AenqGroup.WARNING:
    case AenqGroup.CONF_NOTIFICATIONS:
      break;
    default:
      adapter.devStats.unknown_aenq++;
  }
  const fields = { group: nameOf(AenqGroup, group), syndrome };
  adapter.lines.of("event").warn(fields, "event of the device");
}

/** ena_update_on_link_change */
function onLinkChange(adapter: Adapter, up: boolean): void {
  if (adapter.linkUp !== up) {
    const text = up ? "link is up" : "link is down";
    adapter.lines.of("link").info({ queue: adapter.numQueues }, text);
  }
  adapter.linkUp = up;
  if (!up || !adapter.ongoingReset) adapter.ifnet.setLinkState(up);
  if (!up) return;
  transmitReady(adapter);
  // Frames may have come while the carrier was down, when no sync was allowed to consume them.
  const { netmap } = adapter;
  for (const { rx } of adapter.queues) if (netmap?.hasRxRing(rx.qid)) netmap.na.rxIrq(rx.qid);
}
