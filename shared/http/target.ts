/**
 * The target and the host of a request. Node passes the request line on unchanged.
 *
 * Source: RFC 9112, 3.2 (forms of the request target, Host) and RFC 9110, 7.2 (Host).
 */
import type { IncomingMessage } from "node:http";

/** Target and host, in the form that the pages use. */
export interface Target {
  /** Host in lower case, without port and trailing dot. An IPv6 address stands in brackets. */
  readonly hostname: string;
  /** Host and port as the client wrote them. */
  readonly authority: string;
  /** Path without percent-encoding; "*" for OPTIONS *. */
  readonly path: string;
  readonly query: string;
  /** A secret that stood in the path. It is in no other field, so no log and no answer repeats it. */
  readonly secret?: string;
}

/** The request names no valid target or host. The message is the sentence for the client. */
export class TargetError extends Error {
  override readonly name = "TargetError";
}

/** Reads target and Host of a request. Throws TargetError, to be answered with HTTP 400. */
export function readTarget(request: Pick<IncomingMessage, "url" | "rawHeaders">): Target {
  const hosts = request.rawHeaders.filter(
    (_, i, all) => i % 2 === 1 && all[i - 1]!.toLowerCase() === "host",
  );
  if (hosts.length === 0) throw new TargetError("the request has no Host header");
  if (hosts.length > 1) throw new TargetError("the request has more than one Host header");
  const url = request.url ?? "";
  // RFC 9112, 3.2.2: a target in absolute form names the host. The Host header is ignored then.
  const absolute = /^(?:https?|wss?):\/\/([^/?#]*)(.*)$/is.exec(url);
  const authority = absolute?.[1] ?? hosts[0]!;
  const rest = absolute?.[2] ?? url;
  const mark = rest.indexOf("?");
  const path = mark < 0 ? rest : rest.slice(0, mark);
  if (absolute === null && !path.startsWith("/") && path !== "*") {
    throw new TargetError("the request target is neither a path nor an http URL");
  }
  return {
    hostname: hostnameOf(authority, absolute === null ? "the Host header" : "the request target"),
    authority,
    path: decoded(path === "" ? "/" : path),
    query: mark < 0 ? "" : rest.slice(mark + 1),
  };
}

/** Returns the URL of `authority` as browsers read it, or undefined when it names no host. */
export function urlOf(scheme: "http" | "https", authority: string): URL | undefined {
  // A zone names an interface of the client (RFC 6874). URL does not accept a zone.
  const host = authority.replace(/^(\[[^\]%]*)%[^\]]*\]/, "$1]");
  // The URL parser is lenient: these characters would end the host, or be removed from it.
  if (host === "" || /[^\x21-\x7e]|[/\\?#@,]/.test(host)) return undefined;
  try {
    return new URL(`${scheme}://${host}/`);
  } catch {
    return undefined;
  }
}

function hostnameOf(authority: string, where: string): string {
  if (authority === "") throw new TargetError(`${where} names no host`);
  if (authority.includes("@")) throw new TargetError(`${where} holds a user name`);
  const url = urlOf("http", authority);
  if (url === undefined) throw new TargetError(`${where} is no host with an optional port`);
  return url.hostname.replace(/\.$/, "");
}

/** Decodes percent-encoding: "%73tatus" is "status" (RFC 3986, 6.2.2.2). Throws TargetError. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new TargetError("the path has a percent sign that begins no UTF-8 text");
  }
}
