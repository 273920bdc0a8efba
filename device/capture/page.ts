/**
 * GET /capture: the answer is a capture as pcapng. It goes on until one end stops it.
 *
 *   source=switch|any|NAME   what to capture; may be repeated; default switch (each frame once)
 *   segment=NAME             only this segment; may be repeated; default all that the client may see
 *   frames=0|1  ring=0|1     Ethernet frames (default 1), ring transactions (default 0)
 *   filter=EXPR              only frames that match this expression in libpcap's language
 *   snap=N                   most bytes recorded of a frame; 0, the default, for all
 *   count=N                  number of packets after which the capture ends
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { CaptureFilterError, compileFilter } from "../../shared/capture/filter.ts";
import type { FilterCompiler } from "../../shared/capture/filter-compiler.ts";
import { MAX_SNAP_BYTES } from "../../shared/capture/recorder.ts";
import { StreamOutput } from "../../shared/capture/stream-output.ts";
import { COMMON_HEADERS, refuse } from "../http/answers.ts";
import type { Asked } from "../http/front.ts";
import type { CaptureRequest } from "./capture.ts";
import { type CaptureHub, CaptureRefusal } from "./hub.ts";

/** The media type that Wireshark registers for pcapng. */
const TYPE = "application/x-pcapng";
const KEEP_ALIVE_MS = 30_000;
const MAX_SOURCES = 64;
/** Most characters of a wrong name that an error message repeats. */
const MAX_NAME_CHARS = 64;
const MAX_COUNT = 2 ** 40;
const KNOWN = new Set(["source", "segment", "frames", "ring", "filter", "snap", "count"]);

/** Answers the request. Resolves when the capture has ended. Rejects only by a bug. */
export async function capturePage(
  hub: CaptureHub,
  { query, stream, identity }: Pick<Asked, "query" | "stream" | "identity">,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // The client may lose its permission while the filter is compiled.
  const forget = identity.use(() => response.destroy());
  response.on("close", forget);
  try {
    if (request.method !== "GET") throw new CaptureRefusal(405, "only GET");
    const owner = request.socket.remoteAddress ?? "";
    const words = new URLSearchParams(query);
    const segments = segmentsOf(words, hub.segments, identity);
    const asked = { segments, ...(await parse(words, owner, hub.filters)) };
    if (response.destroyed) return;
    hub.check(asked);
    const { remoteAddress, remotePort } = request.socket;
    // TCP keep-alive detects a reader whose host has vanished, even when there is nothing to send.
    request.socket.setKeepAlive(true, KEEP_ALIVE_MS);
    const output = new StreamOutput(response, `${remoteAddress}:${remotePort}`);
    stream();
    response.writeHead(200, { "content-type": TYPE, ...COMMON_HEADERS });
    // The first block is sent now. So a reader that has left is noticed before the first packet.
    await hub.start(output, asked).done;
  } catch (error) {
    if (!(error instanceof CaptureRefusal)) throw error;
    refuse(response, error.status, error.message);
  }
}

/** Returns the segments to capture. A segment that the client may not see does not exist for it. */
function segmentsOf(
  query: URLSearchParams,
  all: readonly string[],
  identity: Pick<Asked["identity"], "sees">,
): readonly string[] {
  const seen = all.filter((name) => identity.sees(name));
  const asked = query.getAll("segment");
  const unknown = asked.find((name) => !seen.includes(name));
  if (unknown !== undefined) {
    const quoted = JSON.stringify(unknown.slice(0, MAX_NAME_CHARS));
    throw new CaptureRefusal(404, `there is no segment ${quoted}; there is ${seen.join(", ")}`);
  }
  return asked.length === 0 ? seen : seen.filter((name) => asked.includes(name));
}

/** Reads the arguments. `owner` is the client's address. Throws CaptureRefusal. */
async function parse(
  query: URLSearchParams,
  owner: string,
  compiler: FilterCompiler,
): Promise<CaptureRequest> {
  for (const name of query.keys()) {
    if (!KNOWN.has(name)) throw wrong(`"${name}" is unknown; there is ${[...KNOWN].join(", ")}`);
    if (name !== "source" && name !== "segment" && query.getAll(name).length > 1)
      throw wrong(`"${name}" is given twice`);
  }
  const sources = query.getAll("source");
  if (sources.length > MAX_SOURCES) throw wrong(`more than ${MAX_SOURCES} sources`);
  const frames = flag(query, "frames", true);
  const ring = flag(query, "ring", false);
  if (!frames && !ring) throw wrong("frames=0 without ring=1 captures nothing");
  if (!frames && sources.length > 0 && sources.every((source) => source === "switch")) {
    throw wrong("the switch has frames, and no rings");
  }
  const text = query.get("filter") ?? "";
  if (text !== "" && !frames) throw wrong("a filter is for frames, and frames=0");
  return {
    sources: sources.length === 0 ? ["switch"] : sources,
    frames,
    ring,
    snapLength: whole(query, "snap", MAX_SNAP_BYTES),
    maxPackets: whole(query, "count", MAX_COUNT),
    ...(text === "" ? {} : { filter: await filterOf(text, owner, compiler) }),
  };
}

async function filterOf(text: string, owner: string, compiler: FilterCompiler) {
  try {
    return await compileFilter(text, owner, compiler);
  } catch (error) {
    if (!(error instanceof CaptureFilterError)) throw error;
    const { code, message } = error;
    if (code === "LIBPCAP") throw new CaptureRefusal(501, `on the device: ${message}`);
    if (code === "BUSY") throw new CaptureRefusal(503, `on the device: ${message}`);
    throw wrong(`the filter ${JSON.stringify(text)}: ${message}`);
  }
}

function flag(query: URLSearchParams, name: string, otherwise: boolean): boolean {
  const text = query.get(name);
  if (text === null) return otherwise;
  if (text !== "0" && text !== "1") throw wrong(`"${name}" takes 0 or 1`);
  return text === "1";
}

function whole(query: URLSearchParams, name: string, most: number): number {
  const text = query.get(name);
  if (text === null) return 0;
  const n = /^\d{1,13}$/.test(text) ? Number(text) : Number.NaN;
  if (!(n <= most)) throw wrong(`"${name}" takes a whole number up to ${most}`);
  return n;
}

const wrong = (message: string): CaptureRefusal => new CaptureRefusal(400, message);
