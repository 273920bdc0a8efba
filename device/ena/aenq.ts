/**
 * The event queue: events that the device sends on its own.
 * Source: amzn-drivers: kernel/fbsd/ena/ena-com/ena_com.c, ena_com_admin_init_aenq and
 * ena_com_aenq_intr_handler.
 *
 * The device sends no event before the ring is configured, the driver has enabled the event's
 * group, and AENQ_HEAD_DB was written once. The value of that doorbell is a running head. It starts
 * at the depth. Entries between the last one produced and this head are free. If the ring is full,
 * the event is lost and counted.
 */

import { zero } from "../../shared/bytes/struct.ts";
import {
  AENQ_BODY,
  AENQ_ENTRY_SIZE,
  AenqGroup,
  AenqSyndrome,
  aenqCommon,
  aenqConfNotifications,
  aenqKeepAlive,
  aenqLinkChange,
} from "../../shared/ena/aenq.ts";
import { type HwHints, hwHints } from "../../shared/ena/features.ts";
import { distance, type Index16, index16 } from "../../shared/ring/index16.ts";
import { type BusAddress, RecordType } from "../../shared/wire/records.ts";
import type { EnaContext } from "./context.ts";
import { CompletionRing } from "./memory.ts";
import type { Vectors } from "./notify.ts";

export class EventQueue {
  enabledGroups = 0;
  readonly #context: EnaContext;
  readonly #vectors: Vectors;
  /** Undefined before `configure`. */
  ring: CompletionRing | undefined;
  /** Entries before this index are free. Undefined before the first AENQ_HEAD_DB. */
  #head: Index16 | undefined;
  #linkTold = false;

  constructor(context: EnaContext, vectors: Vectors) {
    this.#context = context;
    this.#vectors = vectors;
  }

  /** Sets the ring. The caller has checked depth and address. */
  configure(address: BusAddress, depth: number): void {
    const { memory } = this.#context.host;
    this.ring = new CompletionRing(memory, address, depth, AENQ_ENTRY_SIZE, RecordType.ENA_AENQ);
  }

  reset(): void {
    this.ring = undefined;
    this.#head = undefined;
    this.enabledGroups = 0;
    this.#linkTold = false;
  }

  /** Handles AENQ_HEAD_DB. Without a ring the write has no effect. */
  headDoorbell(value: number): void {
    const ring = this.ring;
    if (ring === undefined) return;
    const head = index16(value);
    const free = distance(ring.cursor.head, head);
    const before = this.#head === undefined ? 0 : distance(ring.cursor.head, this.#head);
    if (free > ring.depth || free < before) {
      this.#context.note(
        "AENQ_HEAD_DB_RANGE",
        `AENQ_HEAD_DB ${value}: ${ring.cursor.head} events were sent and the ring holds ${ring.depth}`,
      );
      return;
    }
    this.#head = head;
    this.tellLink();
  }

  enable(groups: number): void {
    this.enabledGroups = groups;
    this.tellLink();
  }

  /** Sends link up. Drivers start with the link down, so this must be the first event. */
  tellLink(): void {
    this.#linkTold ||= this.#send(AenqGroup.LINK_CHANGE, 0, (view, at, common) =>
      aenqLinkChange.write(view, at, { ...common, linkUp: true }),
    );
  }

  /** Sends the counters. The values are absolute: they replace those of the driver. */
  keepAlive(): boolean {
    const { rxDrops, txDrops, rxOverruns } = this.#context.counters;
    return this.#send(AenqGroup.KEEP_ALIVE, 0, (view, at, common) =>
      aenqKeepAlive.write(view, at, { ...common, rxDrops, txDrops, rxOverruns }),
    );
  }

  updateHints(hints: Partial<HwHints>): boolean {
    return this.#send(AenqGroup.NOTIFICATION, AenqSyndrome.UPDATE_HINTS, (view, at, common) => {
      aenqCommon.write(view, at, common);
      hwHints.write(view, at + AENQ_BODY, hints);
    });
  }

  /** Sends notifications. Bit n of the bitmap stands for notification code n + 1. */
  confNotifications(notificationsBitmap: number): boolean {
    return this.#send(AenqGroup.CONF_NOTIFICATIONS, 0, (view, at, common) =>
      aenqConfNotifications.write(view, at, { ...common, notificationsBitmap }),
    );
  }

  /** Sends an event with an empty body: FATAL_ERROR, WARNING, DEVICE_REQUEST_RESET and others. */
  plain(group: AenqGroup, syndrome = 0): boolean {
    return this.#send(group, syndrome, (view, at, common) => aenqCommon.write(view, at, common));
  }

  #send(group: number, syndrome: number, write: WriteEvent): boolean {
    const ring = this.ring;
    const head = this.#head;
    if (ring === undefined || head === undefined) return false;
    if ((this.enabledGroups & (1 << group)) === 0) return false;
    const { host, counters } = this.#context;
    if (distance(ring.cursor.head, head) === 0) {
      counters.aenqOverflows++;
      this.#context.note(
        "AENQ_OVERFLOW",
        `event of group ${group} lost: the driver has acknowledged none of the last ${ring.depth}`,
      );
      return false;
    }
    const at = ring.at;
    zero(ring.view, at, AENQ_ENTRY_SIZE);
    const timestamp = Math.floor(host.clock.now() * 1000);
    write(ring.view, at, { group, syndrome, phase: ring.cursor.phase, timestamp });
    ring.next();
    ring.publish();
    counters.aenqEvents++;
    this.#vectors.postManagement();
    host.scheduleFlush();
    return true;
  }
}

interface EventHeader {
  readonly group: number;
  readonly syndrome: number;
  readonly phase: number;
  /** Returns the time (us) of the device's monotonic clock. */
  readonly timestamp: number;
}
type WriteEvent = (view: DataView, at: number, common: EventHeader) => void;
