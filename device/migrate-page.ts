/** POST /migrate {"nic": NAME, "to": URL}: moves a NIC to another device. */
import type { IncomingMessage, ServerResponse } from "node:http";
import * as z from "zod";
import { nicUrl } from "../shared/transport/address.ts";
import { Limits } from "../shared/wire/protocol.ts";
import { JSON_TYPE, refuse, reply } from "./http/answers.ts";
import type { Asked } from "./http/front.ts";
import type { DeviceServer } from "./server.ts";

const MAX_BODY_BYTES = 4096;
/** The only accepted Content-Type. Neither a form nor fetch(no-cors) can send it. */
const JSON_BODY = /^application\/json *(?:; *charset="?utf-8"? *)?$/i;
const moveShape = z.object({ nic: z.string(), to: z.string().max(Limits.TEXT_BYTES / 4) });

/** The reason why a NIC did not leave: HTTP status and sentence. */
export interface MoveRefusal {
  readonly status: number;
  readonly error: string;
}

/** Answers when the NIC has left or stays. Rejects only if this program has a bug. */
export async function migratePage(
  device: Pick<DeviceServer, "migrate">,
  { wantBody }: Asked,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== "POST") return refuse(response, 405, "only POST");
  // A web page can post forms, but it can neither post JSON nor omit Origin. Our pages do not post.
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
  const why = await device.migrate(body.data.nic, to);
  if (why !== undefined) refuse(response, why.status, why.error);
  else reply(response, 200, JSON_TYPE, '{"ok":true}\n');
}

/** Reads the body. Resolves to "long" if it is too long, to "gone" if its sender left early. */
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
