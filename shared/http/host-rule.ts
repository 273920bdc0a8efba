/**
 * Detects requests that another site made a browser send. A page of another site can send requests
 * to the device. By DNS rebinding its host name can lead here. Then Host is the attacker's name.
 *
 * Sources: RFC 9110, 7.4 (421); RFC 6454 (Origin); W3C Fetch Metadata (Sec-Fetch-Site).
 */
import { readFileSync } from "node:fs";
import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";
import { hostname as systemName } from "node:os";
import { type Target, urlOf } from "./target.ts";

/** Longest host name of DNS. Messages repeat no more of a name. */
const MAX_NAME_CHARS = 253;
const MAX_HOSTS_FILE_BYTES = 1 << 20;

/** Host names under which a device serves its pages. */
export class HostRule {
  readonly #names: ReadonlySet<string>;

  /** `allowed`: names of --allow-host. `own`: the machine's host name in all its forms. */
  constructor(allowed: readonly string[] = [], own: readonly string[] = ownNames()) {
    this.#names = new Set([...allowed, ...own].map(plainName));
  }

  /** Returns whether pages are served under `hostname`, which has the form of Target. */
  allows(hostname: string): boolean {
    const address = hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
    return (
      hostname === "localhost" ||
      hostname.endsWith(".localhost") ||
      isIP(address) !== 0 ||
      this.#names.has(hostname)
    );
  }

  /** Returns the sentence for a host that is not allowed. The HTTP status is 421. */
  refusal(hostname: string): string {
    const name = hostname.slice(0, MAX_NAME_CHARS);
    return `this device does not answer to the host name ${name}: use an address, or start it with --allow-host ${name}`;
  }
}

/**
 * Returns true when a page of another origin sent the request. A browser sends Origin,
 * Sec-Fetch-Site or both, and sends no request for permission before. Programs send neither.
 */
export function isForeign(headers: IncomingHttpHeaders, { authority }: Target): boolean {
  const site = headers["sec-fetch-site"];
  if (site !== undefined && site !== "same-origin" && site !== "none") return true;
  const { origin } = headers;
  if (origin === undefined) return false;
  const parts = /^(https?):\/\/([^/]+)$/.exec(origin);
  if (parts === null) return true;
  const scheme = parts[1] as "http" | "https";
  const theirs = urlOf(scheme, parts[2]!);
  return theirs === undefined || theirs.host !== urlOf(scheme, authority)?.host;
}

/** Returns the name in lower case, without a trailing dot. */
const plainName = (name: string): string => name.toLowerCase().replace(/\.$/, "");

/**
 * Returns the machine's host name, its first label, that label in the domain of multicast DNS
 * (RFC 6762), and the full names of the machine in /etc/hosts.
 */
export function ownNames(name = systemName(), hostsFile = readHosts()): string[] {
  const full = plainName(name);
  if (full === "") return [];
  const first = full.split(".")[0]!;
  const names = [full, first, `${first}.local`];
  for (const line of hostsFile.split("\n")) {
    const [, ...aliases] = line.replace(/#.*/, "").trim().split(/\s+/).map(plainName);
    if (aliases.includes(full)) names.push(...aliases.filter((a) => a.startsWith(`${first}.`)));
  }
  return names;
}

function readHosts(): string {
  try {
    const text = readFileSync("/etc/hosts", "utf8");
    return text.length > MAX_HOSTS_FILE_BYTES ? "" : text;
  } catch {
    // Other systems and some containers have no such file. The host name itself remains.
    return "";
  }
}
