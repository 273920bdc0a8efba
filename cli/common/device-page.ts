/**
 * Asks the HTTP pages of a device, and says in one sentence what went wrong. Not by fetch, which
 * refuses ports that the web has reserved (6000, 10080 and others): a device may listen there.
 */
import { type IncomingMessage, type RequestOptions, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import type { Logger } from "../../shared/log.ts";
import { httpUrl } from "../../shared/transport/address.ts";
import { DIALLING } from "../../shared/transport/lookup.ts";
import { tlsTrouble } from "../../shared/transport/tls-trouble.ts";
import { ABSENT, unreachable } from "../../shared/transport/unreachable.ts";
import { adviceOn } from "./advice.ts";
import { Failure, messageOf, systemCode } from "./failure.ts";
import { type Stop, unlessStopped } from "./signals.ts";

const ANSWER_MS = 5000;
/** Between two tries to reach a device that is waited for. */
const AGAIN_MS = 500;
/** A device's page is far smaller; a stranger's may not be. */
const MAX_CHARS = 64 << 20;

/** What a device answers in text: foreign pages, foreign host names, no place. */
const SPOKEN = new Set([400, 403, 421, 503]);

export interface Answer {
  /** HTTP status. */
  readonly status: number;
  /** A JSON object, unchecked. */
  readonly value: object;
}

/** GET of a page; `path` may end in a query. Throws Failure. */
export function getPage(connect: string, path: string, waitMs = ANSWER_MS): Promise<Answer> {
  return ask(new URL(path, httpUrl(connect, "/")), {}, waitMs);
}

/** POST of a JSON body. Throws Failure. */
export function postPage(
  connect: string,
  path: string,
  body: object,
  waitMs = ANSWER_MS,
): Promise<Answer> {
  const headers = { "content-type": "application/json" };
  return ask(new URL(httpUrl(connect, path)), { method: "POST", headers }, waitMs, body);
}

async function ask(
  url: URL,
  options: RequestOptions,
  waitMs: number,
  body?: object,
): Promise<Answer> {
  const { host } = url;
  let text = "";
  let answer: IncomingMessage;
  try {
    answer = await openPage(url, options, waitMs, body);
    const late = setTimeout(() => answer.destroy(noAnswer()), waitMs);
    try {
      answer.setEncoding("utf8");
      for await (const part of answer as AsyncIterable<string>) {
        text += part;
        if (text.length > MAX_CHARS) throw notOurs(host, "its page has no end");
      }
    } finally {
      clearTimeout(late);
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw Failure.from(error, whyNot(error, url));
  }
  const status = answer.statusCode ?? 0;
  const isJson = answer.headers["content-type"]?.startsWith("application/json") === true;
  if (status !== 200 && !isJson) throw refusedBy(host, status, text);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw notOurs(host, "its page is not JSON");
  }
  if (typeof value !== "object" || value === null) {
    throw notOurs(host, "its page is about something else");
  }
  return { status, value };
}

/**
 * The head of an answer, its body still to be read. Rejects with the system's error; with ETIMEDOUT
 * when there was no connection within `waitMs`, with a TimeoutError when there was no answer.
 */
export function openPage(
  url: URL,
  options: RequestOptions,
  waitMs: number,
  body?: object,
): Promise<IncomingMessage> {
  const request = url.protocol === "https:" ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    // No agent: the connection is this question's own, and ends with it.
    const asked = request(url, { ...DIALLING, ...options, agent: false }, resolve);
    let error: Error = Object.assign(new Error("no connection"), { code: "ETIMEDOUT" });
    asked.on("socket", (socket) => {
      socket.once("connect", () => {
        error = noAnswer();
      });
    });
    const timer = setTimeout(() => asked.destroy(error), waitMs);
    asked.on("response", () => clearTimeout(timer));
    asked.on("close", () => clearTimeout(timer));
    asked.on("error", reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** A device says in one line of text which rule of HTTP or of its own a request broke. */
function refusedBy(host: string, status: number, text: string): Failure {
  const [sentence = "", ...more] = text.trim().split("\n");
  const plain = more.length === 0 && /^[\x20-\x7e]{1,400}$/.test(sentence);
  if (!plain || !SPOKEN.has(status)) return notOurs(host, `it answers HTTP ${status}`);
  return new Failure(`${host} refuses (HTTP ${status}): ${sentence}`);
}

/**
 * What `ask` comes to once the device is there; undefined when the command is stopped before. Each
 * reason to wait is logged once. Rejects with what another try would meet again.
 */
export async function whenThere<T>(
  ask: () => Promise<T>,
  stop: Stop,
  log: Logger,
): Promise<T | undefined> {
  let told = "";
  for (;;) {
    try {
      return await unlessStopped(stop, ask());
    } catch (error) {
      if (!(error instanceof Failure) || !ABSENT.has(error.code)) throw error;
      if (error.message !== told) log.warn({}, `${error.message}; trying again`);
      told = error.message;
    }
    const pause = Promise.withResolvers<true>();
    const timer = setTimeout(pause.resolve, AGAIN_MS, true);
    const goesOn = await unlessStopped(stop, pause.promise);
    clearTimeout(timer);
    if (goesOn === undefined) return undefined;
  }
}

const noAnswer = (): Error => new DOMException("no answer", "TimeoutError");

export const notOurs = (host: string, why: string): Failure =>
  new Failure(`${host} is not a ringwire device's port: ${why}`);

/** Why a page can't be had. */
export function whyNot(error: unknown, url: URL): string {
  const { host, protocol } = url;
  const way = unreachable(systemCode(error), url);
  if (way !== undefined) return `${way}${adviceOn(systemCode(error), host)}`;
  if (error instanceof Error && error.name === "TimeoutError") {
    return `${host} accepted the connection but did not answer; it is not a ringwire device's port`;
  }
  if (protocol === "https:") {
    const trouble = tlsTrouble(
      { code: systemCode(error), message: messageOf(error) },
      host,
      "http",
    );
    if (trouble !== undefined) return trouble;
  }
  return `${host} is not a ringwire device's port: ${messageOf(error)}`;
}
