/** POST /migrate {"nic": NAME, "to": URL}: moves a NIC to another device. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { z } from "zod";
import { nicUrl } from "../shared/transport/address.ts";
import { Limits } from "../shared/wire/transactions.ts";
import { JSON_TYPE, refuse, reply } from "./http/answers.ts";
import type { Asked } from "./http/front.ts";

const MAX_BODY_BYTES = 4096;
/** Neither a form nor fetch(no-cors) can send this type. */
const JSON_BODY = /^application\/json *(?:; *charset="?utf-8"? *)?$/i;
const moveShape = z.object({ nic: z.string(), to: z.string().max(Limits.TEXT_BYTES / 4) });

/** Why a NIC did not leave: HTTP status and sentence. */
export interface MoveRefusal {
  readonly status: number;
  readonly error: string;
}

export interface Mover {
  /** Resolves to why not, or undefined when the NIC has left. */
  migrate(name: string, url: string): Promise<MoveRefusal | undefined>;
}

/** Answers when the NIC has left. Rejects only by a bug of ours. */
export async function migratePage(
  mover: Mover,
  { wantBody }: Asked,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== "POST") return refuse(response, 405, "only POST");
  // A page can post forms, but neither JSON nor without Origin. No page of ours asks for this.
  const { origin, "content-type": type = "" } = request.headers;
  if (origin !== undefined || !JSON_BODY.test(type)) {
    return refuse(response, 403, "only programs may ask this, with a body of application/json");
  }
  wantBody();
  const text = await bodyOf(request);
  if (text === "gone") return;
  if (text === "long") {
    return refuse(response, 413, `a body of more than ${MAX_BODY_BYTES} bytes`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text.toString());
  } catch {
    return refuse(response, 400, "the body is not JSON");
  }
  const body = moveShape.safeParse(value);
  if (!body.success) return refuse(response, 400, 'the body is not {"nic": NAME, "to": URL}');
  let to: string;
  try {
    to = nicUrl(body.data.to);
  } catch (error) {
    return refuse(response, 400, `to: ${error instanceof Error ? error.message : String(error)}`);
  }
  const why = await mover.migrate(body.data.nic, to);
  if (why !== undefined) refuse(response, why.status, why.error);
  else reply(response, 200, JSON_TYPE, '{"ok":true}\n');
}

/** The whole body; or that it is too long, or that its sender left before it was whole. */
function bodyOf(request: IncomingMessage): Promise<Buffer | "long" | "gone"> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve) => {
    request.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES) resolve("long");
      else chunks.push(chunk);
    });
    request.on("end", () => resolve(Buffer.concat(chunks)));
    request.on("error", () => resolve("gone"));
    request.on("close", () => resolve("gone"));
  });
}
