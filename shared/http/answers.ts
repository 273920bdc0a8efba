/** Answers of pages. A connection carries one request, so each answer closes it. */
import type { ServerResponse } from "node:http";

export const JSON_TYPE = "application/json";
export const TEXT_TYPE = "text/plain";

/** Headers of every answer. */
export const COMMON_HEADERS = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  connection: "close",
} as const;

/** Time (s) after which a client that was refused for want of a place may ask again. */
export const RETRY_SECONDS = 1;

/** Sends an answer. Several answers may share one buffer as `body`; its bytes must not change. */
export function reply(
  response: ServerResponse,
  status: number,
  type: string,
  body: string | Buffer,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    ...COMMON_HEADERS,
    ...headers,
  });
  response.end(body);
}

/** Sends a refusal as JSON: {"error": SENTENCE}. */
export function refuse(response: ServerResponse, status: number, error: string): void {
  reply(response, status, JSON_TYPE, `${JSON.stringify({ error })}\n`);
}

/** Returns the text of a whole answer, for a socket without a ServerResponse. */
export function rawAnswer(status: string, sentence: string, headers: readonly string[] = []) {
  const text = `${sentence}\n`;
  const lines = [
    `HTTP/1.1 ${status}`,
    "Connection: close",
    `Content-Type: ${TEXT_TYPE}`,
    `Content-Length: ${Buffer.byteLength(text)}`,
    ...headers,
  ];
  return `${lines.join("\r\n")}\r\n\r\n${text}`;
}
