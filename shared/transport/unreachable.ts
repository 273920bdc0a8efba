/**
 * What the system's error codes of a failed connect mean, and what to do about them. Undefined for
 * codes that say nothing about the way to `host`.
 */
export function unreachable(code: string | undefined, host: string): string | undefined {
  switch (code) {
    case "ECONNREFUSED":
      return `nothing listens at ${host}; start one there: ringwire device --listen ${host}`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the name in ${host} is not known; check the address after --connect`;
    case "ETIMEDOUT":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "UND_ERR_CONNECT_TIMEOUT":
      return `${host} can't be reached (${code}); check the address and the firewalls between`;
    default:
      return undefined;
  }
}
