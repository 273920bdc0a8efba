/** POST /ticket {"path": PATH}: a ticket with which a browser asks for that path once. */
import type { IncomingMessage, ServerResponse } from "node:http";
import * as z from "zod";
import { JSON_TYPE, refuse, reply } from "../shared/http/answers.ts";
import { TICKET_COOKIE } from "./access/gate.ts";
import { TICKET_MS } from "./access/tickets.ts";
import type { Asked } from "./http/front.ts";
import { readBody } from "./http/json-body.ts";
import type { DeviceServer } from "./server.ts";

const ticketShape = z.strictObject({
  path: z
    .string()
    .max(64)
    .regex(/^(?:\/[\w-]+)+$/),
});

/** Answers with the ticket, and with the cookie that carries it to a page. */
export async function ticketPage(
  device: Pick<DeviceServer, "ticket" | "isTls">,
  asked: Asked,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const body = await readBody(asked, request, response, ticketShape, '{"path": PATH}');
  if (body === undefined) return;
  const made = device.ticket(asked.identity, body.path, request.headers.origin);
  if (typeof made !== "string") {
    return refuse(response, Number.parseInt(made.status, 10), made.sentence);
  }
  const seconds = TICKET_MS / 1000;
  const secure = device.isTls ? "; Secure" : "";
  const cookie = `${TICKET_COOKIE}=${made}; Path=${body.path}; Max-Age=${seconds}; HttpOnly; SameSite=Strict${secure}`;
  reply(response, 200, JSON_TYPE, `${JSON.stringify({ ticket: made, seconds })}\n`, {
    "set-cookie": cookie,
  });
}
