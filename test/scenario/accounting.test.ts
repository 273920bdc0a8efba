/**
 * Every frame of an overload is accounted for: from the kernel's counters of one TAP to those of
 * the other, each stage passed the frame on or counted the reason. No counter below is computed
 * from others.
 *
 *   kernel ─► TAP ─► driver ─► device port in ─► switch ─► port out ─► driver ─► TAP ─► kernel
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { iperf, ping } from "../support/iperf.ts";
import { Lab, MIXES, TAP } from "../support/lab.ts";
import { type Link, whyNoNamespaces } from "../support/netns.ts";
import { type Child, eventually } from "../support/process.ts";
import { allPorts, type DeviceStatus, portOf, sum, unaccounted } from "../support/status.ts";

const why = whyNoNamespaces();
const HOSTS = [0, 1] as const;

/** The part of a frontend's last report that this test reads. */
interface Stopped {
  readonly ifnet: { readonly ipackets: number; readonly opackets: number };
  readonly driver: Readonly<Record<string, { readonly rx?: { readonly dropped_down?: number } }>>;
  readonly tap: {
    readonly rxFrames: number;
    readonly rxMalformed: number;
    readonly rxTruncated: number;
    readonly txFrames: number;
    readonly txErrors: Readonly<Record<string, number>>;
    readonly host: {
      readonly txRefused: number;
      readonly txTooOld: number;
      readonly txMalformed: number;
      readonly txNoCluster: number;
      readonly rxQueueFull: number;
      readonly rxTooManyPieces: number;
      readonly rxDown: number;
    };
  };
}

/** Frames that a Xen driver received while its interface was connected and not yet up. */
function beforeUp({ driver }: Stopped): number {
  return Object.values(driver).reduce((all, part) => all + (part?.rx?.dropped_down ?? 0), 0);
}

const title = `frames of an overload, $mix${why ? `: ${why}` : ""}`;
describe.skipIf(why !== undefined).each(MIXES)(title, ({ drivers }) => {
  let lab: Lab;
  let status: DeviceStatus;
  let kernel: Link["stats64"][];
  let stopped: Stopped[];

  const look = async () => ({
    status: await lab.status<DeviceStatus>(),
    kernel: HOSTS.map((i) => lab.tap(i)!.stats64),
  });

  /** Stops neighbour discovery and multicast reports, so that only the test sends. */
  const silence = (i: 0 | 1) => {
    const { namespace } = lab.host(i);
    const other = lab.host(1 - i);
    namespace.run("sysctl", "-qw", `net.ipv6.conf.${TAP}.disable_ipv6=1`);
    const mac = other.namespace.link(TAP)!.address;
    namespace.ip(
      ...["neigh", "replace", other.address, "lladdr", mac, "dev", TAP, "nud", "permanent"],
    );
  };

  beforeAll(async () => {
    lab = new Lab(2, drivers);
    await lab.startDevice();
    const frontends: Child[] = await Promise.all(
      HOSTS.map((i) => lab.startFrontend(i, { args: ["--queues", "4"] })),
    );
    for (const i of HOSTS) silence(i);

    const from = lab.host(0).namespace;
    const { address } = lab.host(1);
    const overload = iperf({
      from,
      to: lab.host(1).namespace,
      address,
      args: ["-P", "4", "-u", "-b", "0"],
    });
    await ping({ from, address, count: 50, intervalSeconds: 0.02 });
    await overload;

    // Counts are settled when they stay the same for longer than a process may be paused.
    let last = "";
    await eventually(
      "the counters to settle",
      async () => {
        const now = await look();
        ({ status, kernel } = now);
        const text = JSON.stringify([allPorts(status), kernel]);
        const same = text === last;
        last = text;
        return same || undefined;
      },
      undefined,
      1500,
    );
    stopped = [];
    for (const frontend of frontends) {
      frontend.signal("SIGTERM");
      stopped.push(
        await frontend.waitForJson<Stopped & object>((line) => line.event === "stopped"),
      );
    }
  });

  afterAll(async () => {
    await lab.close();
  });

  it("were frames", () => {
    expect(kernel[0]!.tx.packets).toBeGreaterThan(100);
    expect(kernel[1]!.rx.packets).toBeGreaterThan(100);
  });

  it("are all accounted for in the switch", () => {
    expect(unaccounted(status)).toEqual([]);
  });

  it.each(HOSTS)("are all accounted for from the kernel of host %i to the switch", (i) => {
    const { tap, ifnet } = stopped[i]!;
    const port = portOf(status, `host${i}`);
    expect(kernel[i]!.tx.packets).toBe(tap.rxFrames + tap.rxTruncated);
    const { txRefused, txTooOld, txMalformed, txNoCluster } = tap.host;
    expect(tap.rxFrames).toBe(
      ifnet.opackets + tap.rxMalformed + txRefused + txTooOld + txMalformed + txNoCluster,
    );
    expect(ifnet.opackets).toBe(port.in.frames + sum(port.lost.in));
  });

  it.each(HOSTS)("are all accounted for from the switch to the kernel of host %i", (i) => {
    const { tap, ifnet } = stopped[i]!;
    const port = portOf(status, `host${i}`);
    const early = beforeUp(stopped[i]!);
    expect(port.out.frames).toBe(ifnet.ipackets + early + sum(port.lost.out));
    const { rxQueueFull, rxTooManyPieces, rxDown } = tap.host;
    expect(ifnet.ipackets).toBe(
      tap.txFrames + sum(tap.txErrors) + rxQueueFull + rxTooManyPieces + rxDown,
    );
    expect(tap.txFrames).toBe(kernel[i]!.rx.packets);
  });
});
