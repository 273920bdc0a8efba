/** Asks the HTTP pages of a device, and says in one sentence what went wrong. */
import { unreachable } from "../shared/transport/unreachable.ts";
import { httpUrl } from "../shared/transport/websocket.ts";
import { Failure, messageOf, systemCode } from "./failure.ts";

const ANSWER_MS = 5000;
/** A device's page is far smaller; a stranger's may not be. */
const MAX_CHARS = 64 << 20;

export interface Answer {
  /** HTTP status. */
  readonly status: number;
  /** A JSON object, unchecked. */
  readonly value: object;
}

/** GET of a page. Throws Failure. */
export function getPage(connect: string, path: string, waitMs = ANSWER_MS): Promise<Answer> {
  return ask(connect, path, {}, waitMs);
}

/** POST of a JSON body. Throws Failure. */
export function postPage(
  connect: string,
  path: string,
  body: object,
  waitMs = ANSWER_MS,
): Promise<Answer> {
  const headers = { "content-type": "application/json" };
  return ask(connect, path, { method: "POST", headers, body: JSON.stringify(body) }, waitMs);
}

async function ask(
  connect: string,
  path: string,
  init: RequestInit,
  waitMs: number,
): Promise<Answer> {
  const url = httpUrl(connect, path);
  const { host, protocol } = new URL(url);
  let body: string;
  let status: number;
  let type: string;
  try {
    const signal = AbortSignal.timeout(waitMs);
    const response = await fetch(url, { ...init, redirect: "error", signal });
    body = await response.text();
    status = response.status;
    type = response.headers.get("content-type") ?? "";
  } catch (error) {
    throw new Failure(whyNot(error, host, protocol));
  }
  if (body.length > MAX_CHARS) throw notOurs(host, "its page has no end");
  if (status !== 200 && !type.startsWith("application/json")) {
    throw notOurs(host, `it answers HTTP ${status}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw notOurs(host, "its page is not JSON");
  }
  if (typeof value !== "object" || value === null) {
    throw notOurs(host, "its page is about something else");
  }
  return { status, value };
}

export const notOurs = (host: string, why: string): Failure =>
  new Failure(`${host} is not a ringwire device's port: ${why}`);

/** Why a page can't be had. fetch hides the system's error in `cause`. */
export function whyNot(error: unknown, host: string, protocol: string): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  const way = unreachable(systemCode(cause), host);
  if (way !== undefined) return way;
  if (error instanceof Error && error.name === "TimeoutError") {
    return `${host} accepted the connection but did not answer; it is not a ringwire device's port`;
  }
  if (protocol === "https:" && /ssl|tls/i.test(messageOf(cause))) {
    return `${host} does not speak TLS; use http://${host}`;
  }
  return `${host} is not a ringwire device's port: ${messageOf(cause)}`;
}
