/**
 * A guest's requests: the meaning of each message, and the payload of its reply.
 *
 *   type              payload                         reply
 *   DIRECTORY         path|                           name|*         E2BIG over 4096 bytes
 *   DIRECTORY_PART    path|offset|                    generation|name|*, and | behind the last
 *   READ              path|                           value
 *   GET_PERMS         path|                           permission|+
 *   SET_PERMS         path|permission|+               OK|
 *   WRITE             path|value                      OK|
 *   MKDIR, RM         path|                           OK|
 *   WATCH, UNWATCH    path|token|                     OK|            the transaction is ignored
 *   RESET_WATCHES     anything                        OK|            transactions end too
 *   TRANSACTION_START anything                        id|
 *   TRANSACTION_END   T| or F|                        OK|
 *   GET_DOMAIN_PATH   domid|                          path|
 *   IS_DOMAIN_INTRODUCED  domid|                      T| or F|
 *   CONTROL, INTRODUCE, RELEASE, RESUME, SET_TARGET   EACCES: the toolstack's
 *   anything else                                     ENOSYS
 *
 * Source: xen: docs/misc/xenstore.txt.
 */
import {
  domainPath,
  parseXsStrings,
  splitXsPayload,
  XENSTORE_PAYLOAD_MAX,
  XenstoreError,
  type XsMessage,
  XsType,
  xsBytes,
  xsStrings,
  xsText,
} from "../../../shared/xen/xenstore.ts";
import type { XenstoreClient } from "./client.ts";
import { parseDomid } from "./permissions.ts";

const OK = xsStrings("OK");

/** The payload of the reply. `client` works in the message's transaction. Throws XenstoreError. */
export function answer(client: XenstoreClient, message: XsMessage): Uint8Array {
  const act = ACTIONS.get(message.type);
  if (act !== undefined) {
    act(client, message);
    return OK;
  }
  const ask = QUESTIONS.get(message.type);
  if (ask === undefined) throw new XenstoreError("ENOSYS", `request ${message.type}`);
  return ask(client, message);
}

type Action = (client: XenstoreClient, message: XsMessage) => void;
type Question = (client: XenstoreClient, message: XsMessage) => Uint8Array;

const refused: Action = () => {
  throw new XenstoreError("EACCES", "for the toolstack only");
};

/** The requests that are answered with OK. */
const ACTIONS: ReadonlyMap<number, Action> = new Map<number, Action>([
  [XsType.SET_PERMS, setPermissions],
  [XsType.WRITE, write],
  [XsType.MKDIR, (client, message) => client.mkdir(only(message))],
  [XsType.RM, (client, message) => client.rm(only(message))],
  [XsType.WATCH, (client, message) => client.watch(...strings(message, 2))],
  [XsType.UNWATCH, (client, message) => client.unwatch(...strings(message, 2))],
  [XsType.RESET_WATCHES, (client) => client.resetWatches()],
  [XsType.TRANSACTION_END, transactionEnd],
  [XsType.CONTROL, refused],
  [XsType.INTRODUCE, refused],
  [XsType.RELEASE, refused],
  [XsType.RESUME, refused],
  [XsType.SET_TARGET, refused],
]);

const QUESTIONS: ReadonlyMap<number, Question> = new Map<number, Question>([
  [XsType.DIRECTORY, directory],
  [XsType.DIRECTORY_PART, directoryPart],
  [XsType.READ, (client, message) => xsBytes(client.read(only(message)))],
  [XsType.GET_PERMS, (client, message) => xsStrings(...client.getPerms(only(message)))],
  [XsType.TRANSACTION_START, (client) => xsStrings(`${client.begin()}`)],
  [XsType.GET_DOMAIN_PATH, (_, message) => xsStrings(domainPath(parseDomid(only(message))))],
  [
    XsType.IS_DOMAIN_INTRODUCED,
    (client, message) => xsStrings(client.isIntroduced(parseDomid(only(message))) ? "T" : "F"),
  ],
]);

function directory(client: XenstoreClient, message: XsMessage): Uint8Array {
  const node = client.directory(only(message));
  if (node.record.namesBytes > XENSTORE_PAYLOAD_MAX) {
    throw new XenstoreError("E2BIG", "the names do not fit in one message");
  }
  return xsStrings(...node.children.names());
}

function directoryPart(client: XenstoreClient, message: XsMessage): Uint8Array {
  const [path, from] = strings(message, 2);
  if (!/^\d{1,10}$/.test(from)) throw new XenstoreError("EINVAL", "not an offset");
  const { record, children } = client.directory(path);
  const generation = `${record.generation}`;
  let room = XENSTORE_PAYLOAD_MAX - generation.length - 2;
  let at = 0;
  const part: string[] = [];
  for (const child of children.names()) {
    const begins = at;
    at += child.length + 1;
    if (at <= Number(from)) continue;
    // An offset inside a name yields the rest of that name, because offsets count bytes.
    const rest = child.slice(Math.max(0, Number(from) - begins));
    room -= rest.length + 1;
    if (room < 0) return xsStrings(generation, ...part);
    part.push(rest);
  }
  return xsStrings(generation, ...part, "");
}

function setPermissions(client: XenstoreClient, message: XsMessage): void {
  const [path, ...permissions] = parseXsStrings(message.payload) ?? [];
  if (path === undefined) throw new XenstoreError("EINVAL", "no path");
  client.setPerms(path, permissions);
}

function write(client: XenstoreClient, message: XsMessage): void {
  const split = splitXsPayload(message.payload);
  if (split === undefined) throw new XenstoreError("EINVAL", "no path");
  client.write(split.first, xsText(split.rest));
}

function transactionEnd(client: XenstoreClient, message: XsMessage): void {
  const how = only(message);
  if (how !== "T" && how !== "F") throw new XenstoreError("EINVAL", "neither T nor F");
  client.end(how === "T");
}

/** The one string of the payload. */
const only = (message: XsMessage): string => strings(message, 1)[0];

type Exactly<N extends 1 | 2> = N extends 1 ? [string] : [string, string];

/** The payload as so many strings. Throws EINVAL when there are more or fewer. */
function strings<N extends 1 | 2>(message: XsMessage, count: N): Exactly<N> {
  const found = parseXsStrings(message.payload);
  if (found?.length !== count) throw new XenstoreError("EINVAL", `not ${count} strings`);
  return found as Exactly<N>;
}
