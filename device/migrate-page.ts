/** POST /migrate {"nic": NAME, "to": URL}: moves a NIC to another device. */
import type { IncomingMessage, ServerResponse } from "node:http";
import * as z from "zod";
import { nicUrl } from "../shared/transport/address.ts";
import { Limits } from "../shared/wire/protocol.ts";
import { JSON_TYPE, refuse, reply } from "./http/answers.ts";
import type { Asked } from "./http/front.ts";
import { readBody } from "./http/json-body.ts";
import type { DeviceServer } from "./server.ts";

const moveShape = z.object({ nic: z.string(), to: z.string().max(Limits.TEXT_BYTES / 4) });

/** The reason why a NIC did not leave: HTTP status and sentence. */
export interface MoveRefusal {
  readonly status: number;
  readonly error: string;
}

/** Answers when the NIC has left or stays. Rejects only if this program has a bug. */
export async function migratePage(
  device: Pick<DeviceServer, "migrate">,
  asked: Asked,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method === "POST" && request.headers.origin !== undefined) {
    // A web page can post forms, but it can't omit Origin. Our pages do not post here.
    return refuse(response, 403, "only programs may ask this, with a body of application/json");
  }
  const body = await readBody(asked, request, response, moveShape, '{"nic": NAME, "to": URL}');
  if (body === undefined) return;
  let to: string;
  try {
    to = nicUrl(body.to);
  } catch (error) {
    return refuse(response, 400, `to: ${error instanceof Error ? error.message : String(error)}`);
  }
  const why = await device.migrate(body.nic, to, asked.identity);
  if (why !== undefined) refuse(response, why.status, why.error);
  else reply(response, 200, JSON_TYPE, '{"ok":true}\n');
}
