/**
 * Null ports: rings without a device. Transmit never completes and nothing is received. They serve
 * programs that want the memory of another port, or a ring for tests.
 *
 * Source: netmap: sys/dev/netmap/netmap_null.c.
 */
import { NetmapAdapter, type NmConfig } from "./adapter.ts";
import { Naf } from "./flags.ts";
import type { NetmapMemory } from "./memory.ts";

export class NullAdapter extends NetmapAdapter {
  constructor(name: string, config: NmConfig, memory: NetmapMemory) {
    super(`null:${name}`, undefined, config, memory);
  }

  override txsync(): number {
    return 0;
  }
  override rxsync(): number {
    return 0;
  }

  override register(on: boolean): number {
    if (this.activeFds > 0) return 0;
    this.flags = on ? this.flags | Naf.NETMAP_ON : this.flags & ~Naf.NETMAP_ON;
    return 0;
  }
}
