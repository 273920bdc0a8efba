/** Requests a capture from a device. The answer is pcapng and lasts until one end closes it. */

import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { FILTER_MS } from "../../shared/capture/filter.ts";
import { printable } from "../../shared/pcapng/text.ts";
import { bodyOf, openPage, pageUrl, refusedBy, whyNot } from "../common/device-page.ts";
import { ExitCode, Failure, messageOf, systemCode } from "../common/failure.ts";
import type { Reach } from "../common/options.ts";

const ANSWER_MS = 5000;
/** Time (ms) to wait for an answer. The device compiles filters before it, also for other users. */
const FILTER_ANSWER_MS = ANSWER_MS + FILTER_MS;
/** Interval (ms) of TCP keep-alives. They detect a vanished device while the capture is quiet. */
const KEEP_ALIVE_MS = 10_000;
/** Most characters read of a refusal. A device sends a sentence; another server may send anything. */
const MAX_REFUSAL_CHARS = 64 * 1024;

export interface CaptureQuery {
  readonly sources: readonly string[];
  readonly frames: boolean;
  readonly ring: boolean;
  readonly filter?: string | undefined;
  readonly snap?: number;
  readonly count?: number;
}

function pathOf({ sources, frames, ring, filter, snap = 0, count = 0 }: CaptureQuery): string {
  const query = new URLSearchParams();
  for (const source of sources) query.append("source", source);
  query.set("frames", frames ? "1" : "0");
  query.set("ring", ring ? "1" : "0");
  // A filter from a file has several lines. libpcap reads line ends as spaces, and a device accepts
  // spaces only.
  const oneLine = filter?.replace(/[\t\r\n]+/g, " ").trim() ?? "";
  if (oneLine !== "") query.set("filter", oneLine);
  if (snap > 0) query.set("snap", String(snap));
  if (count > 0) query.set("count", String(count));
  return `/capture?${query}`;
}

/** Sends GET /capture. Rejects with Failure: the device's refusal, or why it can't be reached. */
export async function openCapture(device: Reach, query: CaptureQuery): Promise<IncomingMessage> {
  const path = pathOf(query);
  const url = pageUrl(device, path);
  const { host } = url;
  let answer: IncomingMessage;
  try {
    const waitMs = query.filter === undefined ? ANSWER_MS : FILTER_ANSWER_MS;
    answer = await openPage(device, path, {}, waitMs);
    answer.socket.setKeepAlive(true, KEEP_ALIVE_MS);
  } catch (error) {
    throw Failure.from(error, whyNot(error, url));
  }
  const type = answer.headers["content-type"] ?? "";
  if (answer.statusCode === 200 && type === "application/x-pcapng") return answer;
  const status = answer.statusCode ?? 0;
  const text = await bodyOf(answer, MAX_REFUSAL_CHARS).catch(() => undefined);
  answer.destroy();
  const refusal = type.startsWith("application/json") ? refusalIn(text) : undefined;
  if (refusal === undefined) throw refusedBy(host, status, text ?? "");
  const usage = status === 400 ? ExitCode.USAGE : ExitCode.FAILED;
  throw new Failure(printable(refusal), usage);
}

/**
 * Passes a capture to `take` until the stream ends, or one of `ends` resolves with a reason to leave
 * it. Returns that reason, or why the connection broke.
 */
export async function copyCapture(
  stream: Readable,
  take: (chunk: Buffer) => Promise<void>,
  ends: readonly Promise<string>[],
): Promise<{ readonly left?: string; readonly broken?: string }> {
  let left: string | undefined;
  const leave = (why: string): void => {
    if (stream.destroyed) return;
    left = why;
    stream.destroy();
  };
  for (const end of ends) void end.then(leave);
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) await take(chunk);
  } catch (error) {
    // A stream that this process left ends with an error, too.
    if (left === undefined) return { broken: whyCut(error) };
  }
  return left === undefined ? {} : { left };
}

function whyCut(error: unknown): string {
  // Node's word "aborted" does not tell which side ended the connection.
  return systemCode(error) === "ECONNRESET" ? "the device is gone" : messageOf(error);
}

function refusalIn(text: string | undefined): string | undefined {
  try {
    const { error } = JSON.parse(text ?? "{}") as { error?: unknown };
    return typeof error === "string" ? error : undefined;
  } catch {
    return undefined;
  }
}
