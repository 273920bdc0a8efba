/** One virtual interface: its queues, its control ring, and its port of the switch. */
import type { Frame } from "../../../shared/net/frame.ts";
import type { Snapshot } from "../../nic.ts";
import { DropReason, type Port, type PortOffloads, type SwitchPort } from "../../switch/port.ts";
import type { NetbackConfig, NetbackContext, Rate } from "./config.ts";

export class Netback implements Port {
  readonly name: string;
  readonly kind = "xen";
  readonly switchPort: SwitchPort;
  readonly maxFrameBytes: number;
  readonly offloads: PortOffloads = { csum: false, tso4: false, tso6: false };

  /** Plugs itself into the segment; a port that is not connected drops what it gets. */
  constructor(context: NetbackContext) {
    this.name = context.host.config.name;
    this.maxFrameBytes = context.maxFrameBytes;
    this.switchPort = context.host.plug(this);
  }

  get connected(): boolean {
    throw new Error("not built yet");
  }

  /**
   * Maps the rings, binds the ports, and takes up work. Returns undefined, or a sentence that names
   * the key whose value does not do; everything is undone then.
   */
  connect(_config: NetbackConfig): string | undefined {
    throw new Error("not built yet");
  }

  /** Releases every pin, mapping and channel. What waited is abandoned. Harmless when repeated. */
  disconnect(): void {
    throw new Error("not built yet");
  }

  /** `disconnect`, and the port leaves the switch. */
  destroy(): void {
    throw new Error("not built yet");
  }

  /** Each queue's transmit credit; undefined is no limit. */
  setRate(_rate: Rate | undefined): void {
    throw new Error("not built yet");
  }

  deliver(_frame: Frame): DropReason | undefined {
    return DropReason.PORT_DOWN;
  }

  ready(_length: number, _frames?: number): boolean {
    return true;
  }

  flush(): void {}

  /** A batch of the guest was applied: looks at every ring. */
  batchEnd(): void {
    throw new Error("not built yet");
  }

  /** Coherent memory goes away: an honest frontend disconnects before it takes a ring's. */
  windowRemoved(_address: number, _length: number): void {
    throw new Error("not built yet");
  }

  /** The link has room again. */
  writableAgain(): void {
    throw new Error("not built yet");
  }

  /** About once a second, or more often: stalls, frames that are too old, credit. */
  tick(_nowMs: number): void {
    throw new Error("not built yet");
  }

  snapshot(): Snapshot {
    throw new Error("not built yet");
  }
}
