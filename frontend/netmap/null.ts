/**
 * Null ports: rings without a device. Transmit never completes and nothing is received. They serve
 * programs that want the memory of another port, or a ring for tests.
 *
 * Source: netmap: sys/dev/netmap/netmap_null.c.
 */
import { NetmapAdapter, type RingCounts } from "./adapter.ts";
import type { NetmapMemory } from "./memory.ts";

export class NullAdapter extends NetmapAdapter {
  constructor(name: string, counts: RingCounts, memory: NetmapMemory) {
    super(`null:${name}`, undefined, counts, memory, 0);
  }

  override txsync(): number {
    return 0;
  }
  override rxsync(): number {
    return 0;
  }

  override register(on: boolean): number {
    this.setOn(on);
    return 0;
  }
}
