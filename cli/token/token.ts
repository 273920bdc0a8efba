/** `ringwire token`: makes, lists and revokes the tokens of a device's file. */
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { Command } from "commander";
import * as z from "zod";
import { ROLES } from "../../device/access/roles.ts";
import {
  type Client,
  clientShape,
  hashOf,
  newToken,
  parseTokens,
} from "../../device/access/token.ts";
import { Failure, messageOf, wrong } from "../common/failure.ts";
import { CommonShape, checked, completed } from "../common/options.ts";
import { Output } from "../common/output.ts";

const DEFAULT_FILE = "tokens.json";
const DAY_MS = 86_400_000;
const ACTIONS = ["new", "list", "revoke"] as const;

const Shape = z.object({
  ...CommonShape,
  file: z.string().min(1).default(DEFAULT_FILE),
  role: z.array(z.string()).default(["nic"]),
  names: z.array(z.string()).optional(),
  segment: z.array(z.string()).optional(),
  certificate: z.string().optional(),
  expires: checked(whenOf, "takes days as 30d, or a date as 2027-01-31").optional(),
});
type Options = z.infer<typeof Shape>;

/** Days from now, or a date. */
function whenOf(text: string): string | undefined {
  const days = /^(\d{1,5})d$/.exec(text)?.[1];
  if (days !== undefined) return new Date(Date.now() + Number(days) * DAY_MS).toISOString();
  return z.union([z.iso.date(), z.iso.datetime({ offset: true })]).safeParse(text).data;
}

export function tokenCommand(): Command {
  const command = new Command("token")
    .description("Makes, lists and revokes the tokens with which clients use a device.")
    .argument("<action>", "new, list or revoke")
    .argument("[id]", "name of the client, for new and revoke")
    .option("--file <file>", `the file that the device has as --tokens (${DEFAULT_FILE})`)
    .option(
      "--role <role...>",
      `what the client may do: ${ROLES.join(", ")}; may be repeated (nic)`,
    )
    .option("--names <pattern...>", "names that its NICs may have, with * for any letters (all)")
    .option("--segment <name...>", "segments that it may join and see (all)")
    .option("--certificate <name>", "make no token: know the client by a certificate of this name")
    .option("--expires <when>", "days from now as 30d, or a date (never)");
  return completed(command, EXAMPLES, Shape, async (options, action = "", id) => {
    if (!ACTIONS.some((known) => known === action)) {
      throw wrong(`token takes ${ACTIONS.join(", ")}, not "${action}"`);
    }
    if ((id === undefined) !== (action === "list")) {
      throw wrong(action === "list" ? "list takes no name" : `${action} needs the client's name`);
    }
    if (action === "new") make(id!, options);
    else if (action === "list") list(options);
    else revoke(id!, options);
  });
}

const EXAMPLES = `Examples:
  ringwire token new alice --names 'alice-*' --expires 90d > alice.token
  ringwire token new watcher --role metrics inspect
  ringwire token list
  ringwire token revoke alice         the device ends alice's connections
`;

function make(
  id: string,
  { file, role, names, segment, certificate, expires, json }: Options,
): void {
  const clients = existsSync(file) ? read(file) : [];
  if (clients.some((client) => client.id === id)) {
    throw new Failure(
      `${file} has a client ${id} already: revoke it first, or choose another name`,
    );
  }
  const token = certificate === undefined ? newToken(id) : undefined;
  const known = token === undefined ? { certificate } : { hash: hashOf(token) };
  const made = clientShape.safeParse({
    ...{ id, ...known, roles: role },
    ...(names === undefined ? {} : { names }),
    ...(segment === undefined ? {} : { segments: segment }),
    ...(expires === undefined ? {} : { expires }),
  });
  if (!made.success) {
    const { path, message } = made.error.issues[0]!;
    throw wrong(`${path.join(".") || id} ${message}`);
  }
  write(file, [...clients, made.data]);
  const output = new Output(json);
  const text = token ?? `clients with a certificate of the name ${certificate} are known now`;
  output.event(text, { event: "token", id, ...(token === undefined ? {} : { token }) });
}

function list({ file, json }: Options): void {
  const clients = read(file);
  const output = new Output(json);
  if (json) output.value({ event: "tokens", tokens: clients });
  else if (clients.length === 0) output.text(`${file} has no clients: nobody may use the device`);
  for (const client of json ? [] : clients) output.text(lineOf(client));
}

function lineOf({ id, certificate, roles, names, segments, expires }: Client): string {
  const known = certificate === undefined ? "token" : `certificate ${certificate}`;
  const more = [
    names === undefined ? "" : `names ${names.join(" ")}`,
    segments === undefined ? "" : `segments ${segments.join(" ")}`,
    expires === undefined
      ? ""
      : Date.parse(expires) <= Date.now()
        ? `expired ${expires}`
        : `until ${expires}`,
  ];
  return [id.padEnd(16), known, roles.join(" "), ...more].filter((word) => word !== "").join("  ");
}

function revoke(id: string, { file, json }: Options): void {
  const clients = read(file);
  const rest = clients.filter((client) => client.id !== id);
  if (rest.length === clients.length) throw new Failure(`${file} has no client ${id}`);
  write(file, rest);
  new Output(json).event(`${id} is revoked`, { event: "revoked", id });
}

function read(file: string): Client[] {
  try {
    return parseTokens(readFileSync(file, "utf8"));
  } catch (error) {
    throw Failure.from(error, `${file}: ${messageOf(error)}`);
  }
}

/** Replaces the file at once, so that a device never reads a part of it. */
function write(file: string, tokens: readonly Client[]): void {
  const other = `${file}.${process.pid}.new`;
  try {
    writeFileSync(other, `${JSON.stringify({ tokens }, null, 2)}\n`, { mode: 0o600 });
    chmodSync(other, 0o600);
    renameSync(other, file);
  } catch (error) {
    throw Failure.from(error, `${file} can't be written: ${messageOf(error)}`);
  }
}
