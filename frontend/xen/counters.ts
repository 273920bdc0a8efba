/** Counters of the driver, for each queue and for the device. Every drop has a counter. */
import { LroStats } from "../net/lro.ts";
import { GateStats } from "../net/transmit-gate.ts";

export class TxStats extends GateStats {
  /** Requests of all kinds, including extra info. */
  requests = 0;
  notifications = 0;
  /** Super-frames for the backend to segment. */
  tso = 0;
  /** Chains of too many pieces, copied together. */
  defrag = 0;
  /** Packets that no backend accepts, because they are too short. */
  too_short = 0;
  bad_offload = 0;
  dma_mapping_err = 0;
  /** Responses with this status. */
  error = 0;
  dropped = 0;
  /** Bytes copied to bounce pages. */
  bounced = 0;
  queue_stops = 0;
  queue_wakeups = 0;
  /** Packets without a response when the link or the backend was lost. */
  dropped_link = 0;
  dropped_down = 0;
}

export class RxStats extends LroStats {
  count = 0;
  bytes = 0;
  requests = 0;
  notifications = 0;
  gso = 0;
  /** Responses with a negative status, or whose bytes exceed the page. */
  bad_response = 0;
  /** Packets whose last fragments are missing; packets of too many fragments. */
  missing_frags = 0;
  too_many_frags = 0;
  /** Extra info that is missing, invalid or of an unknown type. */
  bad_extra = 0;
  /** Packets with a blank checksum whose headers have no checksum field. */
  bad_csum = 0;
  csum_good = 0;
  csum_blank = 0;
  /** Super-frames that came without a blank checksum. The driver recalculated the field. */
  gso_checksum_fixup = 0;
  mbuf_alloc_fail = 0;
  dma_mapping_err = 0;
  /** Refills with too few buffers. The driver retries them later. */
  refill_retries = 0;
  dropped_down = 0;
  /** Packets that waited while this process stood still. */
  dropped_stale = 0;
}

export class DevStats {
  connects = 0;
  disconnects = 0;
  suspends = 0;
  resumes = 0;
  resume_failures = 0;
  link_losses = 0;
  announcements = 0;
  /** Protocol violations of the backend, each of which stopped the NIC. */
  broken = 0;
  /** Maps quarantined because the backend still used their page. */
  quarantined_maps = 0;
}
