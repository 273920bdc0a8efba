/** The body of a POST: JSON of a known shape. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type * as z from "zod";
import { refuse } from "../../shared/http/answers.ts";
import type { Asked } from "./front.ts";

const MAX_BODY_BYTES = 4096;
/** The only accepted Content-Type. Neither a form nor fetch(no-cors) can send it. */
const JSON_BODY = /^application\/json *(?:; *charset="?utf-8"? *)?$/i;

/**
 * Reads the body of a POST. Resolves to undefined when it refused the request, or when the sender
 * left early or lost its rights. `form` says what the body should be.
 */
export async function readBody<T>(
  { wantBody, identity }: Pick<Asked, "wantBody" | "identity">,
  request: IncomingMessage,
  response: ServerResponse,
  shape: z.ZodType<T>,
  form: string,
): Promise<T | undefined> {
  const no = (status: number, why: string): undefined => {
    refuse(response, status, why);
  };
  if (request.method !== "POST") return no(405, "only POST");
  if (!JSON_BODY.test(request.headers["content-type"] ?? "")) {
    return no(403, "this page takes a body of application/json, which no form can send");
  }
  // A sender may take seconds for its body. It must not act with rights that have ended meanwhile.
  const forget = identity.use(() => request.destroy());
  response.on("close", forget);
  wantBody();
  const text = await bodyOf(request);
  if (response.destroyed) return undefined;
  if (text === "gone") return undefined;
  if (text === "long") return no(413, `a body of more than ${MAX_BODY_BYTES} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(text.toString());
  } catch {
    return no(400, "the body is not JSON");
  }
  const body = shape.safeParse(value);
  return body.success ? body.data : no(400, `the body is not ${form}`);
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
