/**
 * Tokens: what a client shows, and what the device keeps of it.
 *
 *   shown:  rw_ID_SECRET          SECRET: 32 random bytes as base64url
 *   kept:   ID, SHA-256 of the whole text, roles, names, segments, the day it ends
 *
 * A secret of 256 random bits needs no slow hash: nobody can try them all. A file that is read by
 * somebody else gives no token away.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import * as z from "zod";
import { fits, namePattern } from "../name-pattern.ts";
import { ROLES } from "./roles.ts";

const SECRET_BYTES = 32;
const MAX_TOKENS = 4096;
/** Longest token. */
const MAX_CHARS = 256;

const id = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$/, "takes 1 to 63 letters, digits and . -");

export const clientShape = z
  .strictObject({
    id,
    /** `sha256:` and the SHA-256 of the token in hex. */
    hash: z
      .string()
      .regex(/^sha256:[0-9a-f]{64}$/, "takes sha256: and 64 hex digits")
      .optional(),
    /** Common name of a certificate that the device's --ca has issued. */
    certificate: z.string().min(1).max(64).optional(),
    roles: z.array(z.enum(ROLES)).min(1),
    /** Names that its NICs may have. Default: all. */
    names: z.array(namePattern).min(1).optional(),
    /** Segments that it may join and see. Default: all. */
    segments: z.array(z.string().min(1)).min(1).optional(),
    /** The moment from which it is refused, as in 2027-01-31 or 2027-01-31T12:00:00Z. */
    expires: z.union([z.iso.date(), z.iso.datetime({ offset: true })]).optional(),
  })
  .refine(({ hash, certificate }) => (hash === undefined) !== (certificate === undefined), {
    message: "needs either hash or certificate",
  });
/** One client that the device knows: by the hash of its token, or by its certificate. */
export type Client = z.infer<typeof clientShape>;

/** A file of tokens. */
export const tokensShape = z
  .strictObject({ tokens: z.array(clientShape).max(MAX_TOKENS) })
  .superRefine(({ tokens }, context) => {
    const seen = new Set<string>();
    for (const [i, { id: name }] of tokens.entries()) {
      if (seen.has(name)) {
        context.addIssue({ code: "custom", path: ["tokens", i, "id"], message: "is there twice" });
      }
      seen.add(name);
    }
  });

/** Parses a file of tokens. Throws an Error that names the place and the accepted values. */
export function parseTokens(text: string): Client[] {
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch (error) {
    throw new Error(`it is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const file = tokensShape.safeParse(value);
  if (file.success) return file.data.tokens;
  const issue = file.error.issues[0]!;
  const at = issue.path.join(".");
  throw new Error(`${at === "" ? "" : `${at}: `}${issue.message}`);
}

/** Makes a token of 256 random bits. */
export const newToken = (name: string): string =>
  `rw_${name}_${randomBytes(SECRET_BYTES).toString("base64url")}`;

export const hashOf = (token: string): string =>
  `sha256:${createHash("sha256").update(token).digest("hex")}`;

/** Returns the id in a token, or undefined for a text that is no token. */
export function idOf(token: string): string | undefined {
  if (token.length > MAX_CHARS) return undefined;
  return /^rw_([A-Za-z0-9.-]{1,63})_[A-Za-z0-9_-]+$/.exec(token)?.[1];
}

/** True if `token` is the one of `hash`. The time does not depend on where they differ. */
export function matches(token: string, hash: string): boolean {
  const [ours, theirs] = [Buffer.from(hash), Buffer.from(hashOf(token))];
  return ours.length === theirs.length && timingSafeEqual(ours, theirs);
}

/** True if a NIC of this client may have the name. */
export function mayHave({ names }: Pick<Client, "names">, name: string): boolean {
  return names === undefined || names.some((text) => fits(text, name));
}

/** Milliseconds since the epoch at which the client is refused; Infinity without an end. */
export const endOf = ({ expires }: Pick<Client, "expires">): number =>
  expires === undefined ? Number.POSITIVE_INFINITY : Date.parse(expires);
