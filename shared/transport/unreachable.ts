const UNKNOWN_NAME = ["ENOTFOUND", "EAI_AGAIN"];
const NO_WAY = [
  ...["ETIMEDOUT", "EHOSTUNREACH", "EHOSTDOWN"],
  ...["ENETUNREACH", "ENETDOWN", "EADDRNOTAVAIL"],
];
const FORBIDDEN = ["EACCES", "EPERM"];

/** Codes of a failed connect to a device that does not run, or does not run yet. */
export const ABSENT: ReadonlySet<string> = new Set(["ECONNREFUSED", ...UNKNOWN_NAME, ...NO_WAY]);

/**
 * Explains the system's error codes of a failed connect. Returns undefined for codes that do not
 * concern the way to the host.
 */
export function unreachable(
  code = "",
  { host, hostname, port, protocol }: URL,
): string | undefined {
  if (code === "ECONNREFUSED") {
    if (port !== "") return `nothing listens at ${host}`;
    const usual = protocol === "wss:" || protocol === "https:" ? 443 : 80;
    return `nothing listens at ${host}, port ${usual}; a device's port is 7700 unless it was told another: ${hostname}:7700`;
  }
  if (UNKNOWN_NAME.includes(code)) return `the name in ${host} is not known; check the address`;
  if (!NO_WAY.includes(code) && !FORBIDDEN.includes(code)) return undefined;
  return `${host} can't be reached (${code}); check the address and the firewalls between`;
}
