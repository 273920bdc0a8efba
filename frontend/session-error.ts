/** Reasons why a session can't start or continue, as sentences. The command line adds remedies. */
import { tlsTrouble } from "../shared/transport/tls-trouble.ts";
import { ABSENT, unreachable } from "../shared/transport/unreachable.ts";
import { ConnectError } from "../shared/transport/websocket.ts";
import { type Again, type RefusalCode, refusals } from "../shared/wire/protocol.ts";

/** A session can't start, or has ended for good. The message is a sentence for the user. */
export class SessionError extends Error {
  /**
   * The error for programs: `REFUSED_` and the device's code, the system's code of a failed
   * connect (ECONNREFUSED, ...), NO_PLACE, HUNG_UP, HTTP_STATUS, CLOSED, ATTACH ...
   */
  readonly code: string;
  /** Says whether another try may succeed. "once up": only a NIC that was up before tries again. */
  readonly again: Again;
  /** Time (ms) that the device asks a frontend to wait before the next try. */
  readonly retryAfterMs: number;
  constructor(code: string, message: string, again: Again = "once up", retryAfterMs = 0) {
    super(message);
    this.name = "SessionError";
    this.code = code;
    this.again = again;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Returns the error for a device's refusal: a `refuse`, or a close that stands for a refusal. */
export function refused(code: string, message: string): SessionError {
  const again = Object.hasOwn(refusals, code) ? refusals[code as RefusalCode].again : "never";
  return new SessionError(`REFUSED_${code}`, message, again);
}

/** The server does not know who asks; it knows, and that client may not (RFC 9110, 15.5.2 and 4). */
const UNKNOWN = 401;
const FORBIDDEN = 403;
/** RFC 6585, 4. */
const TOO_MANY = 429;
/** HTTP status of a server that may accept a NIC later (RFC 9110, 15.6.4). */
const UNAVAILABLE = 503;
/** Retries of a first connection that the other side closed without an answer. */
const HANG_UPS = 5;

/**
 * True when a NIC that was never up tries again. The NIC waits for a device that has no place now,
 * and with `waitForDevice` for a device that is not running. A connection that closes without an
 * answer is ambiguous: the port may be a device at its connection limit, or another program.
 */
export function isWorthAnotherTry(
  { code, again }: SessionError,
  tries: number,
  waitForDevice: boolean,
): boolean {
  if (again === "always") return true;
  if (code === "HUNG_UP") return waitForDevice || tries <= HANG_UPS;
  return waitForDevice && ABSENT.has(code);
}

/** Returns the error that explains a failed dial to the user. */
export function explainDial(error: unknown, url: string): SessionError {
  const target = new URL(url);
  const { host, protocol } = target;
  const code = error instanceof ConnectError ? error.code : "DIAL";
  const detail = error instanceof Error ? error.message : String(error);
  const way = unreachable(code, target);
  if (way !== undefined) return new SessionError(code, way);
  if (error instanceof ConnectError && error.status !== undefined) {
    return explainStatus(error, host);
  }
  const tls = protocol === "wss:";
  const trouble = tls ? tlsTrouble({ code, message: detail }, host, "ws") : undefined;
  if (trouble !== undefined) return new SessionError(code, trouble);
  const notHttp = `${host} does not answer as HTTP; if it speaks TLS use wss://${host}, else it is not a ringwire device's port`;
  if (code === "ECONNRESET") {
    return new SessionError(
      "HUNG_UP",
      `${host} closed the connection without an answer, as a device does with as many connections as it may have; if it speaks TLS use wss://${host}, else it is not a ringwire device's port`,
    );
  }
  if (/subprotocol/i.test(detail)) {
    return new SessionError(
      code,
      `${host} is a WebSocket server, but not a ringwire device's port`,
    );
  }
  if (/timed out/i.test(detail)) {
    return new SessionError(
      code,
      `${host} accepted the connection but did not answer; it is not a ringwire device's port`,
    );
  }
  if (code === "HPE_INVALID_CONSTANT" || /Parse Error/i.test(detail)) {
    return new SessionError(code, notHttp);
  }
  return new SessionError(code, `could not connect to ${host}: ${detail}`);
}

function explainStatus({ code, status, message, retryAfterMs }: ConnectError, host: string) {
  const said = firstSentence(message);
  if (status === UNAVAILABLE) {
    const why = `${host} has no place for another NIC now (HTTP 503)${said && `: ${said}`}`;
    return new SessionError("NO_PLACE", why, "always", retryAfterMs);
  }
  if (status === UNKNOWN || status === FORBIDDEN) {
    const sentence = said || "it says no more";
    return new SessionError(
      status === UNKNOWN ? "UNKNOWN_CLIENT" : "FORBIDDEN",
      `${host} does not let this NIC in (HTTP ${status}): ${sentence}`,
    );
  }
  if (status === TOO_MANY) {
    const why = `${host} accepts no more tries for now (HTTP ${status})${said && `: ${said}`}`;
    return new SessionError("TOO_MANY_TRIES", why, "always", retryAfterMs);
  }
  const what = `${host} answers HTTP ${status}, so it is not a ringwire device's port`;
  return new SessionError(code, `${what}${said && `: ${said}`}`);
}

/** Characters quoted from the page of an unknown server. */
const QUOTED_CHARS = 120;

/** Returns the first line of a page, at most QUOTED_CHARS of it, or "" for HTML. */
function firstSentence(page: string): string {
  const line = page.split(/[\r\n]/, 1)[0]!.trim();
  if (/^</.test(line)) return "";
  return line.length <= QUOTED_CHARS ? line : `${line.slice(0, QUOTED_CHARS)}...`;
}
