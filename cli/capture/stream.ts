/** Requests a capture from a device. The answer is pcapng and lasts until one end closes it. */

import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { FILTER_MS } from "../../shared/capture/filter.ts";
import { openStream } from "../common/device-page.ts";
import { messageOf, systemCode } from "../common/failure.ts";
import type { Reach } from "../common/options.ts";

const ANSWER_MS = 5000;
/** Time (ms) to wait for an answer. The device compiles filters before it, also for other users. */
const FILTER_ANSWER_MS = ANSWER_MS + FILTER_MS;

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
export function openCapture(device: Reach, query: CaptureQuery): Promise<IncomingMessage> {
  const waitMs = query.filter === undefined ? ANSWER_MS : FILTER_ANSWER_MS;
  return openStream(device, pathOf(query), "application/x-pcapng", waitMs);
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

/** Returns the reason why an answer that goes on has ended. */
export function whyCut(error: unknown): string {
  // Node's word "aborted" does not tell which side ended the connection.
  return systemCode(error) === "ECONNRESET" ? "the device is gone" : messageOf(error);
}
