/**
 * Requests the HTTP pages of a device, and reports a failure in one sentence. The module does not
 * use fetch, which refuses ports reserved by browsers (6000, 10080 and others) on which a device
 * may listen.
 */
import { type IncomingMessage, type RequestOptions, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import type { Logger } from "../../shared/log.ts";
import { printable } from "../../shared/pcapng/text.ts";
import { httpUrl } from "../../shared/transport/address.ts";
import { requestOptions } from "../../shared/transport/credentials.ts";
import { DIALLING } from "../../shared/transport/lookup.ts";
import { tlsTrouble } from "../../shared/transport/tls-trouble.ts";
import { ABSENT, unreachable } from "../../shared/transport/unreachable.ts";
import { adviceOn } from "./advice.ts";
import { readCredentials } from "./credentials.ts";
import { ExitCode, Failure, messageOf, systemCode } from "./failure.ts";
import type { Reach } from "./options.ts";
import { type Stop, unlessStopped } from "./signals.ts";

const ANSWER_MS = 5000;
/** Time (ms) between two tries to reach a device with --wait. */
const AGAIN_MS = 500;
/** Most characters read of a page. A device's page is far smaller; another server's may not be. */
const MAX_CHARS = 64 << 20;
/** Interval (ms) of TCP keep-alives. They detect a vanished device while its stream is quiet. */
const KEEP_ALIVE_MS = 10_000;
/** Most characters read of a refusal. A device sends a sentence; another server may send anything. */
const MAX_REFUSAL_CHARS = 64 * 1024;

/** HTTP statuses with a sentence of the device: clients that may not, foreign pages, no place. */
const SPOKEN = new Set([400, 401, 403, 421, 429, 503]);

export interface Answer {
  /** HTTP status. */
  readonly status: number;
  /** A JSON object, unchecked. */
  readonly value: object;
}

/** Sends GET for a page; `path` may end in a query. Rejects with Failure. */
export function getPage(device: Reach, path: string, waitMs = ANSWER_MS): Promise<Answer> {
  return ask(device, path, {}, waitMs);
}

/** Sends POST with a JSON body. Rejects with Failure. */
export function postPage(
  device: Reach,
  path: string,
  body: object,
  waitMs = ANSWER_MS,
): Promise<Answer> {
  const headers = { "content-type": "application/json" };
  return ask(device, path, { method: "POST", headers }, waitMs, body);
}

async function ask(
  device: Reach,
  path: string,
  options: RequestOptions,
  waitMs: number,
  body?: object,
): Promise<Answer> {
  const url = pageUrl(device, path);
  const { host } = url;
  let text: string | undefined;
  let answer: IncomingMessage;
  try {
    answer = await openPage(device, path, options, waitMs, body);
    const late = setTimeout(() => answer.destroy(noAnswer()), waitMs);
    text = await bodyOf(answer, MAX_CHARS).finally(() => clearTimeout(late));
  } catch (error) {
    throw Failure.from(error, whyNot(error, url));
  }
  if (text === undefined) throw notOurs(host, "its page has no end");
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

/** The URL of a page; `path` may end in a query. */
export const pageUrl = ({ connect }: Reach, path: string): URL =>
  new URL(path, httpUrl(connect, "/"));

/**
 * Returns the head of an answer; its body is still to be read. Rejects with the system's error. If
 * there is no connection within `waitMs`, that is ETIMEDOUT; if no answer, a TimeoutError.
 */
export function openPage(
  device: Reach,
  path: string,
  options: RequestOptions,
  waitMs: number,
  body?: object,
): Promise<IncomingMessage> {
  const url = pageUrl(device, path);
  const { headers, ...tls } = requestOptions(readCredentials(device));
  const all = { ...headers, ...(options.headers as object) };
  const request = url.protocol === "https:" ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    // Without an agent the connection belongs to this request and ends with it.
    const asked = request(
      url,
      { ...DIALLING, ...tls, ...options, headers: all, agent: false },
      resolve,
    );
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

/**
 * Sends GET for a page whose answer goes on, and returns its head. Rejects with Failure: the device's
 * refusal, or why it can't be reached. `type` is the media type of the answer.
 */
export async function openStream(
  device: Reach,
  path: string,
  type: string,
  waitMs = ANSWER_MS,
): Promise<IncomingMessage> {
  const url = pageUrl(device, path);
  const { host } = url;
  let answer: IncomingMessage;
  try {
    answer = await openPage(device, path, { headers: { accept: type } }, waitMs);
    answer.socket.setKeepAlive(true, KEEP_ALIVE_MS);
  } catch (error) {
    throw Failure.from(error, whyNot(error, url));
  }
  const given = answer.headers["content-type"] ?? "";
  if (answer.statusCode === 200 && given === type) return answer;
  const status = answer.statusCode ?? 0;
  const text = await bodyOf(answer, MAX_REFUSAL_CHARS).catch(() => undefined);
  answer.destroy();
  const refusal = given.startsWith("application/json") ? refusalIn(text) : undefined;
  if (refusal === undefined) throw refusedBy(host, status, text ?? "");
  const usage = status === 400 ? ExitCode.USAGE : ExitCode.FAILED;
  throw new Failure(printable(refusal), usage);
}

function refusalIn(text: string | undefined): string | undefined {
  try {
    const { error } = JSON.parse(text ?? "{}") as { error?: unknown };
    return typeof error === "string" ? error : undefined;
  } catch {
    return undefined;
  }
}

/** Reads the body of an answer. Returns undefined, and ends the connection, behind `most` characters. */
export async function bodyOf(answer: IncomingMessage, most: number): Promise<string | undefined> {
  let text = "";
  answer.setEncoding("utf8");
  for await (const part of answer as AsyncIterable<string>) {
    text += part;
    if (text.length > most) return undefined;
  }
  return text;
}

/** Makes a Failure of a refusal. A device names the broken rule in one line of text. */
export function refusedBy(host: string, status: number, text: string): Failure {
  const [sentence = "", ...more] = text.trim().split("\n");
  const plain = more.length === 0 && /^[\x20-\x7e]{1,400}$/.test(sentence);
  if (!plain || !SPOKEN.has(status)) return notOurs(host, `it answers HTTP ${status}`);
  const advice = status === 401 ? adviceOn("UNKNOWN_CLIENT", host) : "";
  return new Failure(`${host} refuses (HTTP ${status}): ${sentence}${advice}`);
}

/**
 * Repeats `ask` until the device is there, and returns its result; undefined when the command is
 * stopped before. Logs each reason to wait once. Rejects with an error that a new try can't change.
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

/** Returns the reason why a page can't be read. */
export function whyNot(error: unknown, url: URL): string {
  if (error instanceof Failure) return error.message;
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
    if (trouble !== undefined) return `${trouble}${adviceOn(systemCode(error), host)}`;
  }
  return `${host} is not a ringwire device's port: ${messageOf(error)}`;
}
