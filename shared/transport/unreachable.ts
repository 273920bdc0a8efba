/**
 * Explains the system's error codes of a failed connect. Returns undefined for codes that do not
 * concern the way to the host.
 */
export function unreachable(code: string | undefined, url: URL): string | undefined {
  const { host, hostname, port, protocol } = url;
  switch (code) {
    case "ECONNREFUSED":
      if (port === "") {
        const usual = protocol === "wss:" || protocol === "https:" ? 443 : 80;
        return `nothing listens at ${host}, port ${usual}; a device's port is 7700 unless it was told another: ${hostname}:7700`;
      }
      return `nothing listens at ${host}`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the name in ${host} is not known; check the address`;
    case "ETIMEDOUT":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EADDRNOTAVAIL":
    case "EHOSTDOWN":
    case "ENETDOWN":
    case "EACCES":
    case "EPERM":
      return `${host} can't be reached (${code}); check the address and the firewalls between`;
    default:
      return undefined;
  }
}

/** Codes of a failed connect to a device that does not run, or does not run yet. */
export const ABSENT: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN",
  "EADDRNOTAVAIL",
]);
