/**
 * The gateway of a segment: an uplink whose kernel forwards for the segment. This program changes
 * nothing on its host. It prints the commands that its user runs.
 */
import { ipv4Text, networkText, parseNetwork4 } from "./addresses.ts";
import { type ServiceOptions, servicePlan } from "./options.ts";

/** Returns the uplink that a gateway needs, as `--uplink` writes it. */
export const gatewayUplinks = (services: ServiceOptions | undefined): string[] =>
  services?.gateway === undefined ? [] : [`tap:${services.gateway.tap}`];

/** Returns the commands for the host of the device, a line each; none without a gateway. */
export function gatewayCommands(services: ServiceOptions): string[] {
  const { gateway } = servicePlan(services);
  if (gateway === undefined || services.address === undefined) return [];
  const { tap, address } = gateway;
  const network = parseNetwork4(services.address);
  // A table of its own, so that one command removes it and no other rule is touched.
  const table = `ringwire_${tap.replace(/[^A-Za-z0-9_]/g, "_")}`;
  return [
    `ip addr replace ${ipv4Text(address)}/${network.bits} dev ${tap}`,
    `ip link set ${tap} up`,
    "sysctl -w net.ipv4.ip_forward=1",
    `nft add table ip ${table}`,
    `nft add chain ip ${table} out '{ type nat hook postrouting priority 100; }'`,
    `nft add rule ip ${table} out ip saddr ${networkText(network)} oifname != '"${tap}"' masquerade`,
  ];
}
