/** What the driver counts, queue by queue and as a whole. Every drop has a name. */

export class TxStats {
  count = 0;
  bytes = 0;
  /** Requests of all kinds, extra info among them. */
  requests = 0;
  notifications = 0;
  /** Super-frames that the backend cuts. */
  tso = 0;
  /** Chains of too many pieces, copied together. */
  defrag = 0;
  /** Packets that no backend takes: too long, too many slots, too short. */
  too_long = 0;
  too_short = 0;
  bad_offload = 0;
  dma_mapping_err = 0;
  /** Responses that say so. */
  error = 0;
  dropped = 0;
  /** Bytes copied to bounce pages. */
  bounced = 0;
  queue_stops = 0;
  queue_wakeups = 0;
  /** Times a packet was refused for want of room: ring, link, or push budget. */
  refused_ring = 0;
  refused_link = 0;
  refused_budget = 0;
  /** Packets without an answer when the link went, or the backend. */
  dropped_link = 0;
  dropped_down = 0;
}

export class RxStats {
  count = 0;
  bytes = 0;
  requests = 0;
  notifications = 0;
  gso = 0;
  /** Responses with a status below zero, or that leave their page. */
  bad_response = 0;
  /** Packets whose last fragments never came, or of too many. */
  missing_frags = 0;
  too_many_frags = 0;
  /** Extra info missing, or of no kind that there is. */
  bad_extra = 0;
  /** Packets whose blank checksum has no place. */
  bad_csum = 0;
  csum_good = 0;
  csum_blank = 0;
  /** Super-frames that came without a blank checksum: their field was recalculated. */
  gso_checksum_fixup = 0;
  mbuf_alloc_fail = 0;
  dma_mapping_err = 0;
  /** Too few buffers to go on with: the refill is tried again later. */
  refill_retries = 0;
  dropped_down = 0;
  lro_queued = 0;
  lro_flushed = 0;
}

export class DevStats {
  connects = 0;
  disconnects = 0;
  suspends = 0;
  resumes = 0;
  resume_failures = 0;
  link_losses = 0;
  announcements = 0;
  /** The backend made no sense: the NIC stopped. */
  broken = 0;
  /** Maps given up while the backend still used their page. */
  quarantined_maps = 0;
}
