/** NicHost and GuestHost over a link: the services that one NIC model may use. */

import type { EventEmitter } from "node:events";
import type { Clock } from "../shared/clock.ts";
import type { Logger } from "../shared/log.ts";
import type { Link } from "../shared/wire/link.ts";
import { FAULT_SEVERITY_NAMES, FaultSeverity, Limits } from "../shared/wire/protocol.ts";
import type { LinkMemory } from "./dma/link-memory.ts";
import type { DeviceEvents } from "./index.ts";
import type { GuestHost, NicConfig } from "./nic.ts";
import type { Port, SwitchPort } from "./switch/port.ts";
import type { Switch } from "./switch/switch.ts";

/** Number of reports of one code in a second before the rest is summed up. */
const TOLD_PER_SECOND = 5;

/** Services of the device for a NIC. */
export interface HostOwner {
  readonly clock: Clock;
  readonly events: Pick<EventEmitter<DeviceEvents>, "emit">;
  readonly pushBytes: number;
}

export class LinkHost implements GuestHost {
  readonly memory: LinkMemory;
  readonly config: NicConfig;
  readonly log: Logger;
  readonly faults: FaultLog;
  readonly clock: Clock;
  readonly pushBytes: number;
  readonly #link: Link;
  readonly #segment: Pick<Switch, "attach">;
  /** The NIC's port; undefined until it is plugged in. */
  port: SwitchPort | undefined;

  constructor(
    link: Link,
    memory: LinkMemory,
    config: NicConfig,
    segment: Pick<Switch, "attach">,
    log: Logger,
    owner: HostOwner,
  ) {
    this.clock = owner.clock;
    this.pushBytes = owner.pushBytes;
    this.#link = link;
    this.memory = memory;
    this.config = config;
    this.log = log;
    this.#segment = segment;
    this.faults = new FaultLog((severity, code, text) => {
      log.warn(
        { nic: config.name, code, severity: FAULT_SEVERITY_NAMES[severity] },
        `fault: ${text}`,
      );
      const { name, segment } = config;
      owner.events.emit("fault", { name, segment, severity, code, text });
      link.post("fault", { severity, code, text, space: 0, address: 0 });
      link.scheduleFlush();
    });
  }

  interrupt(vector: number): void {
    if (this.#link.closed) return;
    this.#link.writer.interrupt(vector);
    this.#link.scheduleFlush();
  }

  event(port: number): void {
    if (this.#link.closed) return;
    this.#link.writer.event(port);
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
    this.port = this.#segment.attach(port, this.config.mac);
    return this.port;
  }

  scheduleFlush(): void {
    this.#link.scheduleFlush();
  }

  flush(): void {
    this.#link.flush();
  }

  scheduleLazy(ms: number): void {
    this.#link.scheduleLazy(ms);
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

/**
 * All faults are counted. They are reported at a bounded rate: the first few of a kind in each
 * second, then a summary. So a peer that breaks a rule 100,000 times fills neither log nor link.
 */
class FaultLog {
  /** Number of faults, by code. Codes are constants of this program. */
  readonly counts = new Map<string, number>();
  readonly #tell: (severity: FaultSeverity, code: string, text: string) => void;
  readonly #told = new Map<string, { told: number; hushed: number }>();

  constructor(tell: (severity: FaultSeverity, code: string, text: string) => void) {
    this.#tell = tell;
  }

  report(severity: FaultSeverity, code: string, text: string): void {
    this.counts.set(code, (this.counts.get(code) ?? 0) + 1);
    const recent = this.#told.get(code);
    if (recent === undefined) this.#told.set(code, { told: 1, hushed: 0 });
    else if (recent.told < TOLD_PER_SECOND) recent.told++;
    else {
      recent.hushed++;
      return;
    }
    this.#tell(severity, code, text.slice(0, Limits.TEXT_BYTES / 4));
  }

  /** Called once a second. Reports how many faults of each code were left out. */
  tick(): void {
    for (const [code, { hushed }] of this.#told) {
      if (hushed > 0) {
        this.#tell(FaultSeverity.NOTE, code, `${hushed} more of the same in the last second`);
      }
    }
    this.#told.clear();
  }
}
