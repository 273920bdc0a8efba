/** Why a session can't start, in words for the person who started it. */
import { tlsTrouble } from "../shared/transport/tls-trouble.ts";
import { unreachable } from "../shared/transport/unreachable.ts";
import { ConnectError } from "../shared/transport/websocket.ts";

/** Why a session can't start, or ended for good; the message is meant for a person. */
export class SessionError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = "SessionError";
    this.code = code;
  }
}

/** What a failed dial means and what to do about it. */
export function explainDial(error: unknown, url: string): SessionError {
  const target = new URL(url);
  const { host, protocol } = target;
  const code = error instanceof ConnectError ? error.code : "DIAL";
  const detail = error instanceof Error ? error.message : String(error);
  const tls = protocol === "wss:";
  const text =
    unreachable(code, target) ??
    (tls ? tlsTrouble({ code, message: detail }, host, "ws") : undefined) ??
    (() => {
      switch (code) {
        case "HTTP_STATUS": {
          const status = error instanceof ConnectError ? error.status : undefined;
          return `${host} answers HTTP ${status}, so it is not a ringwire device's port${detail ? `: ${detail}` : ""}`;
        }
        case "ECONNRESET":
        case "HPE_INVALID_CONSTANT":
          return `${host} does not answer as HTTP; if it speaks TLS use wss://${host}, else it is not a ringwire device's port`;
        default:
          if (/subprotocol/i.test(detail)) {
            return `${host} is a WebSocket server, but not a ringwire device's port`;
          }
          if (/timed out/i.test(detail)) {
            return `${host} accepted the connection but did not answer; it is not a ringwire device's port`;
          }
          if (/Parse Error/i.test(detail)) {
            return `${host} does not answer as HTTP; if it speaks TLS use wss://${host}, else it is not a ringwire device's port`;
          }
          return `could not connect to ${host}: ${detail}`;
      }
    })();
  return new SessionError(code, text);
}
