/**
 * A device and its hosts in namespaces of their own, as most scenarios and benches need them.
 *
 *   device namespace                    host i namespace (i = 0, 1, ...)
 *   ringwire device :7700               ringwire frontend --tap ring0
 *        10.201.i.1 ◄──── veth ────► 10.201.i.2      the link runs over this
 *                                    ring0: 10.202.0.<i+1>/24, fd00:202::<i+1>/64
 *
 * The optional proxy listens in the device's namespace on port 7701.
 */

import { ChaosProxy, type Toxics } from "./chaos-proxy.ts";
import { joinByVeth, type Link, Namespace } from "./netns.ts";
import {
  type Child,
  eventually,
  runRingwire,
  type StartOptions,
  startRingwire,
} from "./process.ts";

const DEVICE_PORT = 7700;
const PROXY_PORT = 7701;
/** The TAP's name in each host. */
export const TAP = "ring0";

export type DriverName = "ena" | "xen";
/** Pairs of drivers: scenarios run with ENA, with Xen, and with one of each. */
export const MIXES: readonly { readonly mix: string; readonly drivers: readonly DriverName[] }[] = [
  { mix: "ena and ena", drivers: ["ena", "ena", "ena"] },
  { mix: "xen and xen", drivers: ["xen", "xen", "xen"] },
  { mix: "xen and ena", drivers: ["xen", "ena", "xen"] },
];

export interface FrontendOptions extends Omit<StartOptions, "namespace"> {
  /** Name of the NIC; defaults to `host<i>`. */
  readonly name?: string;
  readonly viaProxy?: boolean;
  /** Name of the TAP; defaults to ring0. */
  readonly tap?: string;
  readonly args?: readonly string[];
}

export interface Host {
  readonly namespace: Namespace;
  /** The device's address as this host reaches it. */
  readonly underlay: string;
  readonly address: string;
  readonly address6: string;
}

export class Lab {
  readonly device: Namespace;
  readonly hosts: readonly Host[];
  /** "wss" for a device that is started with certificates. */
  scheme: "ws" | "wss" = "ws";
  readonly #open = new AsyncDisposableStack();
  readonly #drivers: readonly DriverName[];
  readonly #tree: string | undefined;

  /**
   * `drivers` of the hosts, in order; the remaining hosts use ena. `tree` is the checkout whose
   * programs run; defaults to this one.
   */
  constructor(hosts: number, drivers: readonly DriverName[] = [], tree?: string) {
    this.#drivers = drivers;
    this.#tree = tree;
    this.device = new Namespace("device");
    this.hosts = Array.from({ length: hosts }, (_, i) => this.#createHost(i));
  }

  #createHost(i: number): Host {
    const namespace = new Namespace(`host${i}`);
    const underlay = `10.201.${i}.1`;
    joinByVeth(
      { namespace: this.device, device: `veth${i}`, address: `${underlay}/24` },
      { namespace, device: "link0", address: `10.201.${i}.2/24` },
    );
    return { namespace, underlay, address: `10.202.0.${i + 1}`, address6: `fd00:202::${i + 1}` };
  }

  host(i: number): Host {
    return this.hosts[i]!;
  }

  /** Starts the device and waits until it listens. */
  async startDevice(args: readonly string[] = []): Promise<Child> {
    const device = this.#open.use(
      startRingwire(
        ["device", "--listen", `0.0.0.0:${DEVICE_PORT}`, "--insecure", "--json", ...args],
        { namespace: this.device, tree: this.#tree },
      ),
    );
    await device.waitForJson((line) => line.event === "listening");
    return device;
  }

  /**
   * Starts a proxy between hosts and device, for frontends started with it. The proxy connects to
   * the device from this process, which is in the device's namespace until the lab closes.
   */
  async startProxy(toxics: Toxics): Promise<void> {
    this.#open.use(this.device.enter());
    const listen = { host: "0.0.0.0", port: PROXY_PORT };
    const line = { up: toxics, down: toxics };
    const proxy = await ChaosProxy.start({ listen, target: DEVICE_PORT, ...line });
    this.#open.defer(() => proxy.close());
  }

  /** Starts the frontend of a host without waiting for anything. */
  launchFrontend(i: number, options: FrontendOptions = {}): Child {
    const { namespace, underlay } = this.host(i);
    const { name = `host${i}`, viaProxy = false, tap = TAP, args = [], ...rest } = options;
    const url = `${this.scheme}://${underlay}:${viaProxy ? PROXY_PORT : DEVICE_PORT}`;
    const driver = this.#drivers[i] ?? "ena";
    const argv = ["frontend", "--driver", driver, "--connect", url, "--name", name, "--tap", tap];
    return this.#open.use(
      startRingwire([...argv, "--json", ...args], { namespace, tree: this.#tree, ...rest }),
    );
  }

  /** Starts the frontend of a host, gives the TAP its addresses, waits for its carrier. */
  async startFrontend(i: number, options: FrontendOptions = {}): Promise<Child> {
    const frontend = this.launchFrontend(i, options);
    await frontend.waitForJson((line) => line.event === "ready");
    this.configureTap(i);
    await this.carrier(i, true, frontend);
    return frontend;
  }

  /** Sets addresses and "up", as a user would. A second call changes nothing. */
  configureTap(i: number): void {
    const { namespace, address, address6 } = this.host(i);
    namespace.ip("addr", "replace", `${address}/24`, "dev", TAP);
    namespace.ip("-6", "addr", "replace", `${address6}/64`, "dev", TAP);
    namespace.ip("link", "set", TAP, "up");
  }

  /** The TAP of a host; undefined when it does not exist. */
  tap(i: number): Link | undefined {
    return this.host(i).namespace.link(TAP);
  }

  /** Waits until the carrier of host `i`'s TAP is as wanted. */
  async carrier(i: number, wanted: boolean, frontend?: Child): Promise<Link> {
    const what = `carrier ${wanted ? "up" : "down"} on host ${i}`;
    return await eventually(
      () => `${what}\n${frontend?.said() ?? ""}`,
      () => {
        const link = this.tap(i);
        return link?.flags.includes("LOWER_UP") === wanted ? link : undefined;
      },
    );
  }

  /** The output of `ringwire status --json`, run in the device's namespace. */
  async status<T = unknown>(): Promise<T> {
    const child = await runRingwire(
      ["status", "--connect", `http://127.0.0.1:${DEVICE_PORT}`, "--json"],
      { namespace: this.device },
    );
    if (child.exit?.code !== 0) throw new Error(`status failed\n${child.said()}`);
    return JSON.parse(child.stdout) as T;
  }

  /** Ends all processes, last first, and removes the namespaces. */
  async close(): Promise<void> {
    await this.#open.disposeAsync();
    for (const { namespace } of this.hosts) namespace.destroy();
    this.device.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
