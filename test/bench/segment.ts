/**
 * Two kernels joined by the product's TAPs, by a floor, by another program, or by a bare veth pair.
 * Each `open` makes new namespaces and processes.
 */

import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { missingProgram } from "../support/installed.ts";
import { type DriverName, Lab, TAP } from "../support/lab.ts";
import { joinByVeth, Namespace } from "../support/netns.ts";
import { type Child, eventually, NODE, ROOT, run, start } from "../support/process.ts";
import { withDescendants } from "./processor.ts";
import { BASE } from "./variant.ts";

/** Two namespaces that reach each other at these addresses. */
export interface Segment extends AsyncDisposable {
  readonly a: Namespace;
  readonly b: Namespace;
  readonly addressOfB: string;
  /** Name of b's interface. */
  readonly device: string;
  /** The processes that carry the frames. */
  processes(): number[];
}

/** A way to join two kernels. */
export interface Candidate {
  /** Its row: `tap/vde2`. */
  readonly name: string;
  /** Why this machine does not have it: a sentence in parentheses. */
  readonly missing?: string | undefined;
  open(): Promise<Segment>;
}

const FLOOR_PORT = "7702";
const TUNNEL_PORT = "5000";

/** Processes and namespaces under construction. A failure on the way ends and removes them. */
class Site {
  readonly children: Child[] = [];
  readonly #stack = new AsyncDisposableStack();

  child(child: Child): Child {
    this.children.push(this.#stack.use(child));
    return child;
  }

  namespace(label: string): Namespace {
    const namespace = new Namespace(label);
    this.#stack.defer(() => namespace.destroy());
    return namespace;
  }

  lab(lab: Lab): Lab {
    return this.#stack.use(lab);
  }

  folder(label: string): string {
    const folder = mkdtempSync(join(tmpdir(), `ringwire-${label}-`));
    this.#stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    return folder;
  }

  processes(): number[] {
    return withDescendants(this.children.flatMap(({ pid }) => pid ?? []));
  }

  close(): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

type Built = Omit<Segment, "processes" | typeof Symbol.asyncDispose>;

async function built(build: (site: Site) => Promise<Built>): Promise<Segment> {
  const site = new Site();
  try {
    const parts = await build(site);
    const processes = () => site.processes();
    return { ...parts, processes, [Symbol.asyncDispose]: () => site.close() };
  } catch (error) {
    await site.close();
    throw error;
  }
}

const hostsOf = (lab: Lab): Built => ({
  a: lab.host(0).namespace,
  b: lab.host(1).namespace,
  addressOfB: lab.host(1).address,
  device: TAP,
});

/** The product: `ringwire device` and two `ringwire frontend --tap`. */
const product = (driver: DriverName, zeroMask: boolean, tree?: string): Promise<Segment> =>
  built(async (site) => {
    const lab = site.lab(new Lab(2, [driver, driver], tree));
    site.children.push(await lab.startDevice());
    const args = zeroMask ? ["--zero-mask"] : [];
    const ends = [0, 1].map((i) => lab.startFrontend(i, { args }));
    site.children.push(...(await Promise.all(ends)));
    return hostsOf(lab);
  });

/** Three processes that only relay frames. `program` is the command line before its arguments. */
const floor = (program: (folder: string) => Promise<string[]>): Promise<Segment> =>
  built(async (site) => {
    const argv = await program(site.folder("floor"));
    const lab = site.lab(new Lab(2));
    const launch = async (namespace: Namespace, args: readonly string[]) => {
      const child = site.child(start([...argv, ...args], { namespace }));
      await child.waitForJson((line) => line["ready"] === true);
    };
    await launch(lab.device, ["relay", FLOOR_PORT]);
    for (const [i, { namespace, underlay }] of lab.hosts.entries()) {
      await launch(namespace, ["end", TAP, underlay, FLOOR_PORT]);
      lab.configureTap(i);
    }
    return hostsOf(lab);
  });

async function compiledFloor(folder: string): Promise<string[]> {
  const program = join(folder, "floor");
  const source = join(ROOT, "test/bench/floor.c");
  const cc = await run(["cc", "-O2", "-o", program, source]);
  if (cc.exit?.code !== 0) throw new Error(`cc\n${cc.said()}`);
  return [program];
}

/** vde2: one vde_switch, two vde_plug2tap, Unix sockets between them. */
const vde2 = (): Promise<Segment> =>
  built(async (site) => {
    const control = join(site.folder("vde"), "switch");
    // Without --daemon they are child processes with known pids. The switch ends when its stdin
    // closes.
    site.child(start(["vde_switch", "-s", control]));
    await eventually("vde_switch", () => existsSync(join(control, "ctl")) || undefined);
    const ends = [site.namespace("vde-a"), site.namespace("vde-b")] as const;
    for (const [i, namespace] of ends.entries()) {
      site.child(start(["vde_plug2tap", "-s", control, "tap0"], { namespace }));
      await addressTap(namespace, `10.202.1.${i + 1}/24`);
    }
    return { a: ends[0], b: ends[1], addressOfB: "10.202.1.2", device: "tap0" };
  });

/** Gives tap0 its address, as soon as a program has made it. */
async function addressTap(namespace: Namespace, address: string): Promise<void> {
  await eventually(`tap0 in ${namespace.name}`, () => namespace.link("tap0"));
  namespace.ip("addr", "add", address, "dev", "tap0");
  namespace.ip("link", "set", "tap0", "up");
}

/** Two hosts joined by veth, for programs whose two ends talk to each other directly. */
function twoHosts(site: Site, label: string) {
  const a = site.namespace(`${label}-a`);
  const b = site.namespace(`${label}-b`);
  const far = "10.201.0.2";
  joinByVeth(
    { namespace: a, device: "link0", address: "10.201.0.1/24" },
    { namespace: b, device: "link0", address: `${far}/24` },
  );
  return { a, b, far };
}

/** vtun: two vtund over TCP, without compression and encryption. b is the server. */
const vtun = (): Promise<Segment> =>
  built(async (site) => {
    const { a, b, far } = twoHosts(site, "vtun");
    const config = join(site.folder("vtun"), "vtund.conf");
    writeFileSync(
      config,
      `options { port ${TUNNEL_PORT}; timeout 60; }
      bench { passwd bench; device tap0; type ether; proto tcp; compress no; encrypt no; }\n`,
      { mode: 0o600 },
    );
    mkdirSync("/var/lock/vtund", { recursive: true });
    // vtund ends when a frame arrives before its TAP is up, so the TAPs come first.
    for (const [i, namespace] of [a, b].entries()) {
      namespace.ip("tuntap", "add", "mode", "tap", "name", "tap0");
      await addressTap(namespace, `10.202.3.${i + 1}/24`);
    }
    site.child(start(["vtund", "-n", "-f", config, "-s"], { namespace: b }));
    await eventually(
      "vtund to listen",
      () => b.run("ss", "-Htln").includes(`:${TUNNEL_PORT} `) || undefined,
    );
    site.child(start(["vtund", "-n", "-f", config, "bench", far], { namespace: a }));
    for (const namespace of [a, b]) {
      const carries = () => namespace.link("tap0")?.flags.includes("LOWER_UP") || undefined;
      await eventually(`carrier of tap0 in ${namespace.name}`, carries);
    }
    return { a, b, addressOfB: "10.202.3.2", device: "tap0" };
  });

/** openvpn: two peers over TCP, without encryption. b listens. */
const openvpn = (): Promise<Segment> =>
  built(async (site) => {
    const { a, b, far } = twoHosts(site, "openvpn");
    const common = ["--dev", "tap0", "--dev-type", "tap", "--port", TUNNEL_PORT];
    const clear = ["--cipher", "none", "--data-ciphers", "none", "--auth", "none"];
    const launch = (namespace: Namespace, args: readonly string[]) =>
      site.child(start(["openvpn", ...common, ...clear, ...args], { namespace }));
    launch(b, ["--proto", "tcp-server"]);
    const near = launch(a, ["--proto", "tcp-client", "--remote", far]);
    await addressTap(a, "10.202.4.1/24");
    await addressTap(b, "10.202.4.2/24");
    await near.waitFor(/Initialization Sequence Completed/);
    return { a, b, addressOfB: "10.202.4.2", device: "tap0" };
  });

/** A veth pair only: the speed of the kernel alone on this machine. */
const veth = (): Promise<Segment> =>
  built(async (site) => {
    const a = site.namespace("veth-a");
    const b = site.namespace("veth-b");
    joinByVeth(
      { namespace: a, device: "veth0", address: "10.202.2.1/24" },
      { namespace: b, device: "veth0", address: "10.202.2.2/24" },
    );
    return { a, b, addressOfB: "10.202.2.2", device: "veth0" };
  });

export interface CandidateOptions {
  readonly zeroMask: boolean;
  /** Another built checkout of this project. */
  readonly base: string | undefined;
}

const DRIVERS: readonly DriverName[] = ["ena", "xen"];

/** The product first, then the base, the floors and the peers. */
export function candidates({ zeroMask, base }: CandidateOptions): Candidate[] {
  return [
    ...DRIVERS.map((driver) => ({ name: `tap/${driver}`, open: () => product(driver, zeroMask) })),
    ...(base === undefined ? [] : DRIVERS).map((driver) => ({
      name: `${BASE}tap/${driver}`,
      open: () => product(driver, zeroMask, base),
    })),
    {
      name: "tap/floor-node",
      open: () => floor(async () => [NODE, "--no-warnings", "test/bench/floor-worker.ts"]),
    },
    { name: "tap/floor-c", missing: missingProgram("cc"), open: () => floor(compiledFloor) },
    { name: "tap/vde2", missing: missingProgram("vde_switch", "vde_plug2tap"), open: vde2 },
    { name: "tap/vtun", missing: missingProgram("vtund", "ss"), open: vtun },
    { name: "tap/openvpn", missing: missingProgram("openvpn"), open: openvpn },
    { name: "tap/veth", open: veth },
  ];
}
