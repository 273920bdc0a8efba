/** What the device's pages have in common: who may ask, and how an answer is sent. */
import type { IncomingMessage, ServerResponse } from "node:http";

export const JSON_TYPE = "application/json";

/**
 * A browser sends Origin and does not ask us first: what a page of somebody else asks for is not
 * given. Programs send none.
 */
export function isForeign({ headers: { origin, host } }: IncomingMessage): boolean {
  return origin !== undefined && origin !== `http://${host}` && origin !== `https://${host}`;
}

/** Headers that every answer has. */
export const COMMON_HEADERS = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
} as const;

export function reply(response: ServerResponse, status: number, type: string, text: string): void {
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(text),
    ...COMMON_HEADERS,
  });
  response.end(text);
}

/** A refusal: {"error": SENTENCE}. */
export function refuse(response: ServerResponse, status: number, error: string): void {
  reply(response, status, JSON_TYPE, `${JSON.stringify({ error })}\n`);
}
