/**
 * The image and the lab of deploy/container, as far as a machine without a container engine can show:
 * what the files promise, and the commands of the lab run together, without rights, on a network of
 * their own.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { Namespace, whyNoNamespaces } from "../support/netns.ts";
import { type Child, eventually, NODE, ROOT, run, startRingwire } from "../support/process.ts";

const FOLDER = join(ROOT, "deploy/container");

interface Service {
  readonly command: readonly string[];
  readonly cap_drop: readonly string[];
  readonly cap_add?: readonly string[];
  readonly devices?: readonly string[];
  readonly security_opt: readonly string[];
  readonly read_only: boolean;
  readonly profiles?: readonly string[];
  readonly ports?: unknown;
  readonly privileged?: unknown;
  readonly network_mode?: unknown;
  readonly user?: string;
  readonly networks: readonly string[];
  readonly build: { readonly context: string; readonly dockerfile: string };
  readonly healthcheck: { readonly test: readonly string[] };
}
const compose = parse(readFileSync(join(FOLDER, "compose.yaml"), "utf8"), { merge: true }) as {
  services: Record<string, Service>;
  networks: Record<string, { internal: boolean }>;
};
const services = Object.entries(compose.services);
const plain = services.filter(([, { profiles }]) => profiles === undefined);

describe("the lab", () => {
  it("is a device and two NICs, on a network that nobody else reaches", () => {
    expect(plain.map(([name]) => name)).toEqual(["device", "a", "b"]);
    for (const [, { networks }] of services) {
      expect(networks.map((name) => compose.networks[name])).toEqual([{ internal: true }]);
    }
  });

  it.each(services)("%s has no privilege that it does not need", (_name, service) => {
    expect(service).toMatchObject({ cap_drop: ["ALL"], read_only: true });
    expect(service.security_opt).toContain("no-new-privileges:true");
    const { ports, privileged, network_mode, cap_add, devices, user } = service;
    expect([ports, privileged, network_mode]).toEqual([undefined, undefined, undefined]);
    const isTap = service.command.includes("--tap");
    expect(cap_add).toEqual(isTap ? ["NET_ADMIN"] : undefined);
    expect(devices).toEqual(isTap ? ["/dev/net/tun"] : undefined);
    expect(user).toBe(isTap ? "root" : undefined);
    expect(service.profiles).toEqual(isTap ? ["tap"] : undefined);
  });

  it("is built from the file beside it", () => {
    for (const [, { build }] of services) {
      const context = join(FOLDER, build.context);
      expect(existsSync(join(context, "package.json"))).toBe(true);
      expect(join(context, build.dockerfile)).toBe(join(FOLDER, "Containerfile"));
    }
  });

  const why = whyNoNamespaces();

  it.skipIf(why !== undefined)("its commands find each other, and are healthy", async () => {
    const namespace = new Namespace("compose");
    await using ends = new AsyncDisposableStack();
    ends.defer(() => namespace.destroy());
    namespace.ip("link", "set", "lo", "up");
    const started: [name: string, child: Child, isHealthy: readonly string[]][] = [];
    for (const [i, [name, { command, healthcheck }]] of plain.entries()) {
      // One machine has each port once, and no name server of an engine.
      const here = (text: string): string =>
        text
          .replace("device:7700", "127.0.0.1:7700")
          .replace("127.0.0.1:7701", `127.0.0.1:77${i}1`);
      const child = startRingwire(command.map(here), { namespace, unprivileged: true });
      ends.use(child);
      const [kind, program, ...args] = healthcheck.test.map(here);
      expect([kind, program]).toEqual(["CMD", "node"]);
      started.push([name, child, [NODE, ...args]]);
    }
    for (const [name, child, check] of started) {
      await eventually(
        () => `${name} to be healthy\n${child.said()}`,
        async () => {
          if (child.exit !== undefined) throw new Error(child.said());
          const { exit } = await run(check, { namespace, unprivileged: true });
          return exit?.code === 0 ? true : undefined;
        },
      );
    }
    for (const [, child] of started.toReversed()) {
      child.signal("SIGTERM");
      expect(await child.ended()).toEqual({ code: 0, signal: null });
    }
  });
});

describe("the image", () => {
  const text = readFileSync(join(FOLDER, "Containerfile"), "utf8").replaceAll("\\\n", " ");
  const steps = text
    .split("\n")
    .filter((line) => /^[A-Z]/.test(line))
    .map((line) => /^([A-Z]+)\s+(.*)$/.exec(line)!)
    .map(([, name, value]) => [name!, value!.trim()] as const);
  const last = steps.slice(steps.findLastIndex(([name]) => name === "FROM"));

  it("runs the program as a user without rights", () => {
    const of = (name: string) => last.filter(([step]) => step === name).map(([, value]) => value);
    expect(of("USER")).toEqual(["node"]);
    // Nothing is installed behind the change of the user.
    expect(last.findLastIndex(([name]) => name === "RUN")).toBeLessThan(
      last.findIndex(([name]) => name === "USER"),
    );
    expect(of("ENTRYPOINT")).toEqual(['["ringwire"]']);
    expect(JSON.parse(of("CMD")[0]!)).toEqual(["device"]);
  });

  it("has a Node that the program accepts, in both stages", () => {
    const images = steps.filter(([name]) => name === "FROM").map(([, value]) => value);
    const version = /node:(\d+)-/;
    expect(images.map((image) => Number(version.exec(image)?.[1]))).toEqual([24, 24]);
  });

  it("gets nothing of this machine but the tree", () => {
    const ignored = readFileSync(join(ROOT, ".dockerignore"), "utf8").trim().split("\n");
    expect(ignored).toEqual(expect.arrayContaining([".git", "node_modules", "dist"]));
    expect(steps.filter(([name]) => name === "ADD")).toEqual([]);
  });
});
