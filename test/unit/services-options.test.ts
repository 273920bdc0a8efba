/** Options of services: what a user may write, and what it amounts to. */
import { describe, expect, it } from "vitest";
import * as z from "zod";
import { issuesOf } from "../../cli/config/issues.ts";
import { withLibraryKeys } from "../../cli/config/keys.ts";
import { TomlFile } from "../../cli/config/toml.ts";
import { openDevice } from "../../device/index.ts";
import { segmentOptions } from "../../device/segments/options.ts";
import { ipv4Text, ipv6Text } from "../../device/services/addresses.ts";
import { gatewayCommands } from "../../device/services/gateway.ts";
import {
  commonServices,
  type ServiceOptions,
  serviceOptions,
  servicePlan,
} from "../../device/services/options.ts";

const ADDRESS = "10.0.0.1/24";
const poolOf = (services: ServiceOptions) => {
  const { from, to, excluded } = servicePlan(serviceOptions.parse(services)).dhcp!;
  return { pool: `${ipv4Text(from)} ${ipv4Text(to)}`, excluded: [...excluded].map(ipv4Text) };
};

describe("refused, with the key and the reason", () => {
  it.each<[object, string]>([
    [{}, "services needs address or address6"],
    [{ icmp: true }, "services needs address or address6"],
    [{ address: "10.0.0.1" }, "services.address takes an IPv4 address with its prefix length"],
    [{ address: "10.0.0.0/24" }, "services.address takes an address of a host in 10.0.0.0/24"],
    [{ address: "10.0.0.255/24" }, "services.address takes an address of a host in 10.0.0.0/24"],
    [{ address: "10.0.0.1/31" }, "services.address takes a prefix length of 8 to 30"],
    [{ address: "10.0.0.1/7" }, "services.address takes a prefix length of 8 to 30"],
    [{ address6: "fd00::1" }, "services.address6 takes an IPv6 address with its prefix length"],
    [{ address6: "fd00::1/48", ra: true }, "services.address6 takes a prefix length of 64 with ra"],
    [{ address: ADDRESS, ra: true }, "services.ra needs address6"],
    [{ address6: "fd00::1/64", dhcp: true }, "services.dhcp needs address"],
    [{ address6: "fd00::1/64", gateway: { tap: "gw0" } }, "services.gateway needs address"],
    [
      { address: ADDRESS, dhcp: { from: "10.1.0.5" } },
      "services.dhcp.from takes an address of a host in 10.0.0.0/24, not 10.1.0.5",
    ],
    [
      { address: ADDRESS, dhcp: { from: "10.0.0.2", to: "10.0.0.255" } },
      "services.dhcp.to takes an address of a host in 10.0.0.0/24, not 10.0.0.255",
    ],
    [
      { address: ADDRESS, dhcp: { from: "10.0.0.9", to: "10.0.0.8" } },
      "services.dhcp.from is behind dhcp.to",
    ],
    [
      { address: ADDRESS, dhcp: { from: "10.0.0.1", to: "10.0.0.9" } },
      "services.dhcp has 10.0.0.1 in its pool, which is the address of the services",
    ],
    [
      {
        address: ADDRESS,
        dhcp: { from: "10.0.0.2", to: "10.0.0.9" },
        gateway: { tap: "gw0", address: "10.0.0.3" },
      },
      "services.dhcp has 10.0.0.3 in its pool, which is the address of the gateway",
    ],
    [
      { address: "10.0.0.1/16", dhcp: { from: "10.0.1.0", to: "10.0.17.0" } },
      "services.dhcp.to gives a pool of more than 4096 addresses",
    ],
    [
      { address: ADDRESS, dhcp: { reserve: { web: "10.0.1.5" } } },
      "services.dhcp.reserve.web takes an address of a host in 10.0.0.0/24, not 10.0.1.5",
    ],
    [
      { address: ADDRESS, dhcp: { reserve: { web: "10.0.0.1" } } },
      "services.dhcp.reserve.web 10.0.0.1 is the address of the services already",
    ],
    [
      { address: ADDRESS, dhcp: { reserve: { web: "10.0.0.5", db: "10.0.0.5" } } },
      "services.dhcp.reserve.db 10.0.0.5 is the address of web already",
    ],
    [
      { address: ADDRESS, gateway: { tap: "gw0", address: "10.0.0.1" } },
      "services.gateway.address takes another address than that of the services",
    ],
    [
      { address: ADDRESS, dns: { domain: "Lab" } },
      "services.dns.domain takes a domain of lower-case",
    ],
    [
      { address: ADDRESS, dns: { domain: "a..b" } },
      "services.dns.domain takes a domain of lower-case",
    ],
    [{ address: ADDRESS, gateway: { tap: "a/b" } }, "services.gateway.tap takes the name of an"],
    [
      { address: ADDRESS, gateway: { tap: "switch" } },
      "services.gateway.tap takes a name that is no",
    ],
    [
      { address: ADDRESS, gateway: { tap: "services" } },
      "services.gateway.tap takes a name that is",
    ],
    [{ address: ADDRESS, pings: true }, 'services Unrecognized key: "pings"'],
  ])("%j: %s", (services, message) => {
    const [issue] = serviceOptions.safeParse(services).error?.issues ?? [];
    expect(`${["services", ...(issue?.path ?? [])].join(".")} ${issue?.message}`).toContain(
      message,
    );
    expect(segmentOptions.safeParse({ services }).success).toBe(false);
  });
});

describe("defaults", () => {
  it("the pool is the upper half of the network, without the gateway", () => {
    const services = { address: ADDRESS, dhcp: true };
    expect(poolOf(services)).toEqual({ pool: "10.0.0.128 10.0.0.254", excluded: ["10.0.0.1"] });
    expect(poolOf({ ...services, gateway: { tap: "gw0" } }).excluded).toEqual([
      "10.0.0.1",
      "10.0.0.254",
    ]);
    expect(poolOf({ address: "10.0.0.1/30", dhcp: true }).pool).toBe("10.0.0.2 10.0.0.2");
    expect(poolOf({ address: "10.0.0.1/8", dhcp: true }).pool).toBe("10.128.0.0 10.128.15.255");
    expect(poolOf({ address: ADDRESS, dhcp: { from: "10.0.0.10" } }).pool).toBe(
      "10.0.0.10 10.0.0.254",
    );
  });

  it("every service is off; true and a table switch it on; false keeps it off", () => {
    const off = servicePlan({ address: ADDRESS, address6: "fd00::1/64" });
    expect(off).toMatchObject({ icmp: false, dhcp: undefined, domain: undefined, ra: undefined });
    const no = servicePlan({ address: ADDRESS, address6: "fd00::1/64", dhcp: false, ra: false });
    expect(no).toMatchObject({ dhcp: undefined, ra: undefined });
    expect(serviceOptions.parse({ address: ADDRESS, ra: false, dns: false })).toBeDefined();
    const on = servicePlan({ address: ADDRESS, address6: "fd00::1/64", ra: true, dns: true });
    expect(on).toMatchObject({
      domain: "lab",
      ra: { intervalSeconds: 200, lifetimeSeconds: 86_400 },
    });
    expect(on.ra!.nameServers.map(ipv6Text)).toEqual(["fd00::1"]);
  });

  it("clients get the gateway as router, or the one that is named", () => {
    const routers = (services: Partial<ServiceOptions>) =>
      servicePlan({ address: ADDRESS, dhcp: true, ...services }).dhcp!.routers.map(ipv4Text);
    expect(routers({})).toEqual([]);
    expect(routers({ gateway: { tap: "gw0" } })).toEqual(["10.0.0.254"]);
    expect(routers({ gateway: { tap: "gw0", address: "10.0.0.2" } })).toEqual(["10.0.0.2"]);
    expect(routers({ gateway: { tap: "gw0" }, dhcp: { router: "10.0.0.9" } })).toEqual([
      "10.0.0.9",
    ]);
  });

  it("name servers are this host if it serves names, or those that are named", () => {
    const servers = (services: Partial<ServiceOptions>) =>
      servicePlan({ address: ADDRESS, dhcp: true, ...services }).dhcp!.nameServers.map(ipv4Text);
    expect(servers({})).toEqual([]);
    expect(servers({ dns: true })).toEqual(["10.0.0.1"]);
    expect(servers({ dns: true, dhcp: { dns: ["1.1.1.1", "10.0.0.1"] } })).toEqual([
      "1.1.1.1",
      "10.0.0.1",
    ]);
  });

  it("the short form of the command line is accepted", () => {
    expect(serviceOptions.parse(commonServices(ADDRESS))).toEqual({
      address: ADDRESS,
      icmp: true,
      dhcp: true,
      dns: true,
    });
  });
});

it("the gateway prints what its host has to do, and nothing without a gateway", () => {
  expect(gatewayCommands({ address: "10.0.0.1/24", gateway: { tap: "rw-gw.0" } })).toEqual([
    "ip addr replace 10.0.0.254/24 dev rw-gw.0",
    "ip link set rw-gw.0 up",
    "sysctl -w net.ipv4.ip_forward=1",
    "nft add table ip ringwire_rw_gw_0",
    "nft add chain ip ringwire_rw_gw_0 out '{ type nat hook postrouting priority 100; }'",
    `nft add rule ip ringwire_rw_gw_0 out ip saddr 10.0.0.0/24 oifname != '"rw-gw.0"' masquerade`,
  ]);
  expect(gatewayCommands({ address: "10.0.0.1/24" })).toEqual([]);
});

describe("a device", () => {
  it("has the port of its services, and says what they did", async () => {
    await using device = await openDevice({
      listen: { port: 0 },
      segments: { name: "lab", services: commonServices("10.0.0.1/24") },
    });
    const segment = device.status().segments[0]!;
    expect(segment.ports).toMatchObject([{ name: "services", kind: "services" }]);
    expect(segment.services).toMatchObject({
      address: "10.0.0.1/24",
      address6: "",
      answers: { arp: 0, icmp: 0, neighbour: 0, ra: 0, dhcp: 0, dns: 0 },
      unanswered: {},
      dhcp: { pool: 127, leases: 0, list: [] },
    });
  });

  it("refuses wrong services before it opens anything", async () => {
    const segments = { services: { address: "10.0.0.1" } };
    await expect(openDevice({ listen: { port: 0 }, segments })).rejects.toThrow(
      "segments[0].services.address: takes an IPv4 address",
    );
    const both = { services: commonServices("10.0.0.1/24"), uplinks: ["tap:services"] };
    await expect(openDevice({ listen: { port: 0 }, segments: both })).rejects.toThrow(
      'segments[0].uplinks[0]: "services" is the port of the services of this segment',
    );
  });

  it("has no services without the option", async () => {
    await using device = await openDevice({ listen: { port: 0 } });
    expect(device.status().segments[0]).not.toHaveProperty("services");
    expect(device.status().segments[0]!.ports).toEqual([]);
  });
});

it("names of NICs in a file stay as they are, and a mistake names them so", () => {
  const { segment } = withLibraryKeys(
    new TomlFile(
      '[[segment]]\nwhen-full = "hold"\nservices.dhcp.reserve = { my-host = "10.0.0.5", Web = "10" }',
    ).value,
    z.object({ segment: z.array(segmentOptions) }),
  ) as { segment: unknown[] };
  expect(segment).toEqual([
    {
      whenFull: "hold",
      services: { dhcp: { reserve: { "my-host": "10.0.0.5", Web: "10" } } },
    },
  ]);
  const [issue] = issuesOf(segmentOptions, segment[0]);
  expect(issue).toMatchObject({ path: ["services", "dhcp", "reserve", "Web"] });
});
