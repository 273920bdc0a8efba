/** What the device's status says, as far as tests read it, and the sums it must keep. */

/** Frames by reason. */
export type Drops = Readonly<Record<string, number>>;

export interface PortStatus {
  readonly name: string;
  readonly kind: string;
  readonly in: {
    readonly frames: number;
    readonly forwarded: number;
    readonly flooded: number;
    readonly copies: number;
    readonly dropped: Drops;
  };
  readonly out: {
    readonly offered: number;
    readonly frames: number;
    readonly segmentedFrames: number;
    readonly segments: number;
    readonly dropped: Drops;
  };
  /** What died in the port itself, before the switch saw it or after it took it. */
  readonly lost: { readonly in: Drops; readonly out: Drops };
}

export interface DeviceStatus {
  readonly pid: number;
  readonly memoryBytes: number;
  readonly connections: number;
  readonly segment: {
    readonly ports: readonly PortStatus[];
    /** Totals of ports that left, by name. */
    readonly left: readonly PortStatus[];
  };
  readonly nics: readonly {
    readonly name: string;
    readonly seconds: number;
    readonly faults: Readonly<Record<string, number>>;
    readonly reports: Readonly<Record<string, number>>;
    readonly link: { readonly inFlightBytes: number };
  }[];
  /** Totals over the connections that ended, by name. */
  readonly left: {
    readonly nics: readonly {
      readonly name: string;
      readonly connections: number;
      readonly resets: Readonly<Record<string, number>>;
    }[];
  };
  /** What all Xen guests share. */
  readonly xen: {
    readonly domains: number;
    readonly storeNodes: number;
    readonly backendPorts: number;
    readonly events: Readonly<Record<string, number>>;
  };
}

export function portsOf(status: DeviceStatus): string[] {
  return status.segment.ports.map((port) => port.name).sort();
}

export function portOf(status: DeviceStatus, name: string): PortStatus {
  const port = status.segment.ports.find((candidate) => candidate.name === name);
  if (port === undefined) throw new Error(`no port ${name} in ${portsOf(status).join(", ")}`);
  return port;
}

export function sum(drops: Drops): number {
  return Object.values(drops).reduce((total, frames) => total + frames, 0);
}

/**
 * Every sum of the switch that does not come out, as a sentence; none when all is accounted for.
 * device/switch/counters.ts says which sums these are.
 */
export function unaccounted(status: DeviceStatus): string[] {
  const wrong: string[] = [];
  const compare = (what: string, a: number, b: number) => {
    if (a !== b) wrong.push(`${what}: ${a} is not ${b}`);
  };
  let sent = 0;
  let offered = 0;
  for (const port of [...status.segment.ports, ...status.segment.left]) {
    const { in: input, out } = port;
    compare(
      `${port.name}: frames in`,
      input.frames,
      input.forwarded + input.flooded + sum(input.dropped),
    );
    compare(`${port.name}: frames offered`, out.offered, out.frames + sum(out.dropped));
    sent += input.forwarded + input.copies;
    offered += out.offered - out.segments + out.segmentedFrames;
  }
  compare("frames sent to ports and offered to them", sent, offered);
  return wrong;
}
