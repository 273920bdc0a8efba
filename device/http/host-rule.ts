/**
 * Which requests a browser may have been tricked into. A page of another site can send requests to
 * the device, and by DNS rebinding its host name can lead here: then Host is the attacker's name.
 *
 * Sources: RFC 9110, 7.4 (421); RFC 6454 (Origin); W3C Fetch Metadata (Sec-Fetch-Site).
 */
import { readFileSync } from "node:fs";
import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";
import { hostname as systemName } from "node:os";
import { type Target, urlOf } from "./target.ts";

/** Longest host name of DNS; more of one is not repeated. */
const MAX_NAME_CHARS = 253;
const MAX_HOSTS_FILE_BYTES = 1 << 20;

/** Host names under which a device serves its pages. */
export class HostRule {
  readonly #names: ReadonlySet<string>;

  /** `allowed` are further names; `own` is the machine's host name in all its forms. */
  constructor(allowed: readonly string[] = [], own: readonly string[] = ownNames()) {
    this.#names = new Set([...allowed, ...own].map(plainName));
  }

  /** `hostname` as in Target. */
  allows(hostname: string): boolean {
    const address = hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
    return (
      hostname === "localhost" ||
      hostname.endsWith(".localhost") ||
      isIP(address) !== 0 ||
      this.#names.has(hostname)
    );
  }

  /** The sentence for a host that is not allowed; it goes with 421. */
  refusal(hostname: string): string {
    const name = hostname.slice(0, MAX_NAME_CHARS);
    return `this device does not answer to the host name ${name}: use an address, or start it with --allow-host ${name}`;
  }
}

/**
 * True when a page of another origin asks. A browser sends Origin, Sec-Fetch-Site or both, and
 * does not ask us first. Programs send none.
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

/** Lower case, without a trailing dot. */
const plainName = (name: string): string => name.toLowerCase().replace(/\.$/, "");

/**
 * The machine's host name, its first label, that in the domain of multicast DNS (RFC 6762), and the
 * full names that /etc/hosts gives it.
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
    // Another system, or a container without one: the host name itself remains.
    return "";
  }
}
