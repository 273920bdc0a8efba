/**
 * GET /events: what happens at the device, one event after the other, until one end leaves.
 *
 *   Accept: text/event-stream   server-sent events, as browsers read them; else one JSON object a line
 *   format=sse|ndjson           the same by the URL; it counts before Accept
 *   after=ID, Last-Event-ID     go on behind this event, with 0 behind none; else from now on
 *
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { COMMON_HEADERS, RETRY_SECONDS, refuse } from "../../shared/http/answers.ts";
import { NDJSON_TYPE, SSE_TYPE } from "../../shared/status/device-events.ts";
import type { Asked } from "../http/front.ts";
import type { EventFeed, Item, ReaderEnd } from "./feed.ts";

const KEEP_ALIVE_MS = 30_000;
/** Time (ms) for the end of an answer to leave this process. */
const END_MS = 1000;
const KNOWN = new Set(["format", "after"]);
const ID = /^(?:0|[0-9a-f]{8}-\d{1,15})$/;

/** Answers the request. Resolves when the answer has ended. */
export async function eventsPage(
  feed: EventFeed,
  { query, stream, identity }: Pick<Asked, "query" | "stream" | "identity">,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== "GET") return refuse(response, 405, "only GET");
  const asked = parse(new URLSearchParams(query), request.headers);
  if (typeof asked === "string") return refuse(response, 400, asked);
  if (!feed.hasPlace(identity)) {
    response.setHeader("retry-after", RETRY_SECONDS);
    return refuse(response, 503, `${feed.snapshot().readers} programs read the events already`);
  }
  stream();
  // TCP keep-alive detects a reader whose host has vanished.
  request.socket.setKeepAlive(true, KEEP_ALIVE_MS);
  const type = asked.isSse ? SSE_TYPE : NDJSON_TYPE;
  response.writeHead(200, { "content-type": type, ...COMMON_HEADERS });
  const textOf = asked.isSse ? sseOf : lineOf;
  const reader: ReaderEnd = {
    sees: (segment) => identity.sees(segment),
    send: (item) => void response.write(textOf(item)),
    get waitingBytes() {
      return response.writableLength;
    },
    end: () => {
      response.end();
      setTimeout(() => response.destroy(), END_MS).unref();
    },
    cut: () => void response.destroy(),
  };
  const closed = new Promise<void>((resolve) => void response.on("close", resolve));
  const reading = feed.read(reader, feed.placeOf(asked.after));
  // The rights of a client may end while it reads.
  const forget = identity.use((why) => reading.end(why));
  await closed;
  reading.leave();
  forget();
}

interface Wanted {
  readonly isSse: boolean;
  readonly after: string | undefined;
}

/** Reads the arguments. Returns a sentence that names a mistake. */
function parse(query: URLSearchParams, headers: IncomingMessage["headers"]): Wanted | string {
  for (const name of query.keys()) {
    if (!KNOWN.has(name)) return `"${name}" is unknown; there is ${[...KNOWN].join(", ")}`;
    if (query.getAll(name).length > 1) return `"${name}" is given twice`;
  }
  const format = query.get("format");
  if (format !== null && format !== "sse" && format !== "ndjson") {
    return '"format" takes sse or ndjson';
  }
  // A browser connects again by the same URL and shows the newer id in the header.
  const after = headers["last-event-id"] || query.get("after") || undefined;
  if (after !== undefined && (typeof after !== "string" || !ID.test(after))) {
    return '"after" and Last-Event-ID take the id of an event';
  }
  const isSse = format === null ? wantsSse(headers.accept ?? "") : format === "sse";
  return { isSse, after };
}

const wantsSse = (accept: string): boolean =>
  accept.split(",", 16).some((part) => part.split(";", 1)[0]!.trim().toLowerCase() === SSE_TYPE);

const lineOf = ({ json }: Item): string => `${json}\n`;
const sseOf = ({ event, id, json }: Item): string =>
  `event: ${event}\nid: ${id}\ndata: ${json}\n\n`;
