/** NicHost and GuestHost over a link: the services that one NIC model may use. */

import type { EventEmitter } from "node:events";
import type { Clock } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import type { Link } from "../shared/wire/link.ts";
import { FAULT_SEVERITY_NAMES, type FaultSeverity } from "../shared/wire/protocol.ts";
import type { LinkMemory } from "./dma/link-memory.ts";
import { FaultLog } from "./fault-log.ts";
import type { DeviceEvents } from "./index.ts";
import type { GuestHost, NicConfig } from "./nic.ts";
import type { Port, SwitchPort } from "./switch/port.ts";
import type { Switch } from "./switch/switch.ts";

/** Services of the device for a NIC. */
export interface HostOwner {
  readonly clock: Clock;
  readonly segment: Pick<Switch, "name" | "attach">;
  readonly events: Pick<EventEmitter<DeviceEvents>, "emit">;
}

export class LinkHost implements GuestHost {
  readonly memory: LinkMemory;
  readonly config: NicConfig;
  readonly log: Logger;
  readonly faults: FaultLog;
  readonly clock: Clock;
  readonly #link: Link;
  readonly #owner: HostOwner;
  /** The NIC's port; undefined until it is plugged in. */
  port: SwitchPort | undefined;

  constructor(link: Link, memory: LinkMemory, config: NicConfig, log: Logger, owner: HostOwner) {
    this.clock = owner.clock;
    this.#link = link;
    this.memory = memory;
    this.config = config;
    this.log = log;
    this.#owner = owner;
    this.faults = new FaultLog((severity, code, text) => {
      log.warn(
        { nic: config.name, code, severity: FAULT_SEVERITY_NAMES[severity] },
        `fault: ${text}`,
      );
      owner.events.emit("fault", { name: config.name, severity, code, text });
      link.post("fault", { severity, code, text, space: 0, address: 0 });
      link.scheduleFlush();
    });
  }

  interrupt(vector: number): void {
    if (this.#link.closed) return;
    this.#link.writer.interrupt(vector);
    this.#link.scheduleFlush();
  }

  post: GuestHost["post"] = (name, fields) => {
    this.#link.post(name, fields);
    this.#link.scheduleFlush();
  };

  fault(severity: FaultSeverity, code: string, text: string): void {
    this.faults.report(severity, code, text);
  }

  plug(port: Port): SwitchPort {
    this.port = this.#owner.segment.attach(port, this.config.mac);
    return this.port;
  }

  scheduleFlush(): void {
    this.#link.scheduleFlush();
  }

  askForRoom(): boolean {
    return this.#link.askForRoom();
  }

  askToWork(): boolean {
    return this.#link.askToWork();
  }

  get roundTripMs(): number {
    return this.#link.roundTripMs;
  }
}
