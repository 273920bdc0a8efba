/**
 * Addresses of devices as users write them: HOST, HOST:PORT, or a URL of ws, wss, http or https.
 *
 * The host is checked before it becomes part of a URL, because a URL turns every number into an
 * IPv4 address (WHATWG URL, "ends in a number"). "7700" would be 0.0.30.20, "010.0.0.1" 8.0.0.1.
 */
import { isIPv4, isIPv6 } from "node:net";
import { NIC_PATH } from "../wire/protocol.ts";

/** Default port of a device. */
export const DEVICE_PORT = 7700;
/** Default address of a device for every command. */
export const DEFAULT_DEVICE = `127.0.0.1:${DEVICE_PORT}`;
/** Default port for wss and https, that of a proxy. */
const TLS_PORT = 443;
const MAX_PORT = 65_535;

export interface HostPort {
  /** A name, an IPv4 address of four numbers, or an IPv6 address without brackets. */
  readonly host: string;
  /** Undefined when the user wrote no port. */
  readonly port: number | undefined;
}

/** Splits HOST, HOST:PORT, [IPV6]:PORT or IPV6. Throws a TypeError that names the mistake. */
export function parseHostPort(text: string): HostPort {
  if (/^\d+$/.test(text)) throw justNumber(text);
  if (isIPv6(text)) return { host: bareIPv6(text), port: undefined };
  const parts = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/s.exec(text);
  if (parts === null) {
    throw new TypeError(
      `"${text}" is not an address; write HOST:PORT, and an IPv6 address in brackets: [::1]:${DEVICE_PORT}`,
    );
  }
  const [, inBrackets, name = "", digits] = parts;
  const host = inBrackets === undefined ? checkedName(text, name) : checkedIPv6(inBrackets);
  return { host, port: digits === undefined ? undefined : checkedPort(digits) };
}

/** Puts brackets around an IPv6 address, for URLs and for HOST:PORT. */
export const bracketed = (host: string): string => (isIPv6(host) ? `[${host}]` : host);

function justNumber(text: string): TypeError {
  const port = Number(text) > 0 && Number(text) <= MAX_PORT ? text : "PORT";
  return new TypeError(`"${text}" is a number and no host; write HOST:PORT, as 127.0.0.1:${port}`);
}

/** "::1:7700" is an IPv6 address, and most likely was not meant as one. */
function bareIPv6(text: string): string {
  const [, host = "", port] = /^(.*):(\d+)$/.exec(text) ?? [];
  if (isIPv6(host)) {
    throw new TypeError(
      `"${text}" can be read in two ways; write [${host}]:${port}, or [${text}]:${DEVICE_PORT}`,
    );
  }
  return checkedIPv6(text);
}

function checkedIPv6(host: string): string {
  if (!isIPv6(host)) throw new TypeError(`"[${host}]" holds no IPv6 address; write [::1]:PORT`);
  if (host.includes("%")) {
    throw new TypeError(`"${host}": an address with a zone (%) is not served; use one without`);
  }
  return host;
}

function checkedName(text: string, name: string): string {
  if (name === "") throw new TypeError(`"${text}" names no host; write HOST:PORT`);
  let host: string;
  try {
    if (/[\s%]/.test(name)) throw new TypeError("not in a name");
    host = new URL(`ws://${name}`).hostname;
  } catch {
    throw new TypeError(`"${text}" is not an address; write ws://HOST:PORT or HOST:PORT`);
  }
  if (isIPv4(host) && host !== name) {
    throw new TypeError(
      `"${name}" is not a whole IPv4 address; write its four numbers, as 127.0.0.1`,
    );
  }
  return host;
}

function checkedPort(digits: string): number {
  const port = /^\d{1,5}$/.test(digits) ? Number(digits) : Number.NaN;
  if (port <= MAX_PORT) return port;
  throw new TypeError(`"${digits}" is not a port; a port is a number up to ${MAX_PORT}`);
}

interface Target {
  readonly isTls: boolean;
  /** HOST:PORT, or HOST when a TLS scheme implies the port. */
  readonly place: string;
  /** Path and query with the leading slash, or empty. */
  readonly path: string;
}

/**
 * Returns the URL to dial for the text of a user. The default port is 7700, or 443 under TLS. Throws
 * a TypeError that names the mistake and, if possible, the corrected form.
 */
export function nicUrl(written: string): string {
  const { isTls, place, path } = parseTarget(written);
  return `${isTls ? "wss" : "ws"}://${place}${path === "" || path === "/" ? NIC_PATH : path}`;
}

/** Returns the URL of a page of the device, at the same host and port. Throws as `nicUrl` does. */
export function httpUrl(written: string, path: string): string {
  const { isTls, place } = parseTarget(written);
  return `${isTls ? "https" : "http"}://${place}${path}`;
}

function parseTarget(written: string): Target {
  const [, scheme = "ws", rest = written] = /^([^/]*?):\/\/(.*)$/s.exec(written) ?? [];
  const [, authority = "", path = ""] = /^([^/?#\\]*)(.*)$/s.exec(rest) ?? [];
  const kind = scheme.toLowerCase();
  if (!["ws", "wss", "http", "https"].includes(kind)) {
    throw new TypeError(
      `"${written}": ${scheme}:// is not understood; write ws://${authority || "HOST:PORT"}`,
    );
  }
  const at = authority.lastIndexOf("@");
  if (at >= 0) {
    throw new TypeError(`"${authority.slice(at + 1)}": credentials do not belong in an address`);
  }
  const isTls = kind === "wss" || kind === "https";
  const { host, port = isTls ? TLS_PORT : DEVICE_PORT } = parseHostPort(authority);
  if (port === 0) throw new TypeError(`"${written}": nobody can be called at port 0`);
  const place = isTls && port === TLS_PORT ? bracketed(host) : `${bracketed(host)}:${port}`;
  // URL escapes the characters that are not allowed in a URL.
  const { pathname, search } = new URL(`ws://${place}${path}`);
  return { isTls, place, path: `${pathname}${search}` };
}
