/**
 * ISC's DHCP client in a namespace, with a script that configures only that interface: the files of
 * the machine (/etc/resolv.conf above all) stay as they are.
 */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Namespace } from "./netns.ts";
import { type Child, eventually, finished, start } from "./process.ts";

const SCRIPT = `#!/bin/sh
case $reason in
  PREINIT) ip link set "$interface" up ;;
  BOUND|REBOOT|RENEW|REBIND)
    ip addr replace "$new_ip_address/$new_subnet_mask" dev "$interface"
    [ -z "$new_routers" ] || ip route replace default via "$new_routers" ;;
  RELEASE|EXPIRE|FAIL|STOP) ip -4 addr flush dev "$interface" scope global ;;
esac
echo "$reason address=$new_ip_address mask=$new_subnet_mask lease=$new_dhcp_lease_time \\
routers=$new_routers servers=$new_domain_name_servers domain=$new_domain_name \\
host=$new_host_name" >> "$LAB_EVENTS"
`;

/**
 * The command that runs `argv` with a /etc/resolv.conf of its own, in a mount namespace of its own.
 * `namespace` is where the result runs.
 */
export const withResolver = (resolvConf: string, argv: readonly string[]): string[] => [
  ...["unshare", "--mount", "sh", "-c"],
  'mount --bind "$0" "$(readlink -f /etc/resolv.conf)" && exec "$@"',
  ...[resolvConf, ...argv],
];

/** One call of the script: the reason, and what the server gave. */
export type DhcpEvent = Readonly<Record<string, string>> & { readonly reason: string };

export class DhcpClient implements AsyncDisposable {
  readonly #namespace: Pick<Namespace, "inside">;
  readonly #interface: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "ringwire-dhclient-"));
  #child: Child | undefined;

  constructor(namespace: Pick<Namespace, "inside">, iface: string) {
    this.#namespace = namespace;
    this.#interface = iface;
    writeFileSync(this.#file("script"), SCRIPT);
    chmodSync(this.#file("script"), 0o755);
    // Asks for what Debian's own configuration asks for, and for the name.
    writeFileSync(
      this.#file("conf"),
      "request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, host-name;\n",
    );
  }

  /** Starts the client, which stays and renews its lease. */
  start(): void {
    this.#child = start(this.#namespace.inside(this.#argv("-d")));
  }

  /** Waits for the `n`th event with this reason. */
  async event(reason: string, n = 1): Promise<DhcpEvent> {
    return await eventually(
      () => `event ${n} "${reason}" of dhclient\n${this.#child?.said() ?? ""}`,
      () => this.events().filter((event) => event.reason === reason)[n - 1],
    );
  }

  events(): DhcpEvent[] {
    if (!existsSync(this.#file("events"))) return [];
    return readFileSync(this.#file("events"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => {
        const [reason = "", ...fields] = line.split(/\s+/);
        return { ...Object.fromEntries(fields.map((field) => field.split("="))), reason };
      });
  }

  /** Gives the lease back. The client that stayed ends. */
  async release(): Promise<void> {
    await finished(start(this.#namespace.inside(this.#argv("-r"))));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child?.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }

  #argv(mode: string): string[] {
    return [
      ...["dhclient", "-4", mode, "-v", "-e", `LAB_EVENTS=${this.#file("events")}`],
      ...["-sf", this.#file("script"), "-cf", this.#file("conf")],
      ...["-lf", this.#file("leases"), "-pf", this.#file("pid"), this.#interface],
    ];
  }
}
