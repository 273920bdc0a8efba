/**
 * Decides which client may ask a device for what, before any state exists for the request.
 *
 *   Authorization: Bearer TOKEN ──► the client whose hash it has
 *   a certificate of --ca ────────► the client with its common name
 *   a URL with a token ───────────► the same, if it may only carry bare Ethernet frames
 *   a ticket ─────────────────────► the client that asked for it
 *   neither ──────────────────────► 401, when the device has clients at all
 *
 * A client that is removed or changed, or whose time ends, loses its connections.
 *
 * Source: RFC 6750 (bearer tokens), RFC 9110, 11.6 (WWW-Authenticate), RFC 6585, 4 (429).
 */
import type { IncomingHttpHeaders } from "node:http";
import { ANY_CLIENT, ANYBODY, NEEDS, type Need, type Role } from "./roles.ts";
import { TICKET_MS, Tickets } from "./tickets.ts";
import { type Client, endOf, hashOf, idOf, matches, mayHave } from "./token.ts";

/** Refused tries of one address within WINDOW_MS, after which further ones are not looked at. */
const MAX_TRIES = 20;
const WINDOW_MS = 10_000;
/** Addresses whose tries are counted. The oldest is forgotten. */
const MAX_ADDRESSES = 4096;

/** Why a request is refused: HTTP status, a sentence for its sender, further headers. */
export interface Denial {
  readonly status: string;
  readonly sentence: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** A client that passed the gate. Everything that it holds open ends with its permission. */
export class Identity {
  /** Undefined at a device without clients, which everybody may ask. */
  readonly client: Client | undefined;
  readonly #uses = new Set<(why: string) => void>();

  constructor(client: Client | undefined) {
    this.client = client;
  }

  get id(): string | undefined {
    return this.client?.id;
  }

  /** True if a NIC of this client may have the name. */
  mayHave(name: string): boolean {
    return this.client === undefined || mayHave(this.client, name);
  }

  /** The only segments that this client may join and see. Undefined: all. */
  get segments(): readonly string[] | undefined {
    return this.client?.segments;
  }

  sees(segment: string): boolean {
    return this.client === undefined || sees(this.client, segment);
  }

  /** Calls `end` when the permission ends. Returns a function that forgets it. */
  use(end: (why: string) => void): () => void {
    this.#uses.add(end);
    return () => this.#uses.delete(end);
  }

  /** Number of what the client holds open. */
  get uses(): number {
    return this.#uses.size;
  }

  end(why: string): void {
    for (const end of [...this.#uses]) end(why);
    this.#uses.clear();
  }
}

/** What the gate knows of a request. */
export interface Caller {
  readonly headers: IncomingHttpHeaders;
  /** Key of the address, as addressKey returns it. */
  readonly address: string;
  /** Common name of a certificate that the device's `ca` has issued. */
  readonly certificate?: string | undefined;
  /** A ticket from the URL of an upgrade. That of a page is in its cookies. */
  readonly ticket?: string | undefined;
  /** A token from the URL of an upgrade, for clients that can't send headers. */
  readonly urlToken?: string | undefined;
}

export interface GateOptions {
  /** The clients. Undefined: there is no list. */
  readonly clients?: readonly Client[] | undefined;
  /** Names of the device's segments. */
  readonly segments: readonly string[];
  /** True when clients may show certificates. */
  readonly certificates?: boolean | undefined;
  /** Returns the time of day in ms since the epoch. Default: Date.now. */
  readonly now?: () => number;
}

export class Gate {
  readonly #now: () => number;
  readonly #certificates: boolean;
  readonly #segments: readonly string[];
  readonly #anyone = new Identity(undefined);
  #clients: ReadonlyMap<string, Client> | undefined;
  /** The identities that hold something open, or may do so, by id. */
  readonly #identities = new Map<string, Identity>();
  readonly #tickets = new Tickets<Identity>();
  /** Refused tries by address, oldest first. */
  readonly #tries = new Map<string, { count: number; since: number }>();

  constructor({ clients, segments, certificates = false, now = Date.now }: GateOptions) {
    this.#now = now;
    this.#segments = segments;
    this.#certificates = certificates;
    this.#clients = clients === undefined ? undefined : byId(clients);
  }

  /** True when everybody may ask everything. */
  get isOpen(): boolean {
    return this.#clients === undefined && !this.#certificates;
  }

  /** Decides about a request for `path`. */
  admit(path: string, caller: Caller): Identity | Denial {
    const need = needOf(path);
    if (this.isOpen || need === ANYBODY) return this.#anyone;
    const ticket = caller.ticket ?? cookieOf(caller.headers.cookie);
    const isShown = caller.headers.authorization !== undefined || caller.urlToken !== undefined;
    if (ticket !== undefined && !isShown) {
      const holder = this.#tickets.use(ticket, path, caller.headers.origin, this.#now());
      if (holder === undefined)
        return this.#unknown(caller, "the ticket is used, old or for another place");
      // What the holder may has been looked at when the ticket was made, and ends with its rights.
      return holder;
    }
    const client = this.#clientOf(caller);
    if (client === undefined || this.#now() >= endOf(client)) {
      return this.#unknown(caller, client && "the token has expired");
    }
    const refusal = this.#refusal(client, need);
    return refusal ?? this.#identityOf(client);
  }

  /** Makes a ticket with which a browser may ask for `path` once. */
  ticket(identity: Identity, path: string, origin: string | undefined): string | Denial {
    const refusal =
      identity.client === undefined ? undefined : this.#refusal(identity.client, needOf(path));
    if (refusal !== undefined) return refusal;
    const until = this.#now() + TICKET_MS;
    return this.#tickets.make({ holder: identity, path, origin, until });
  }

  #refusal(client: Client, need: Need): Denial | undefined {
    const may = need === ANY_CLIENT || need === ANYBODY;
    if (!may && !client.roles.some((role) => role === need || role === "admin")) {
      return denial(FORBIDDEN, `${client.id} may not do this: it needs the role ${need}`);
    }
    if (!this.#segments.some((segment) => sees(client, segment))) {
      return denial(FORBIDDEN, `${client.id} has no rights on any segment of this device`);
    }
    return undefined;
  }

  /** Replaces the clients. Those that are gone or changed lose what they hold. */
  renew(clients: readonly Client[]): void {
    const next = byId(clients);
    for (const [id, identity] of this.#identities) {
      if (JSON.stringify(next.get(id)) === JSON.stringify(identity.client)) continue;
      // A certificate without an entry in the list counts only where there is no list.
      const why = next.has(id) ? "the rights of this client changed" : "it was revoked";
      this.#end(id, identity, why);
    }
    this.#clients = next;
  }

  /** Ends what expired clients hold. Called once a second. */
  tick(): void {
    const now = this.#now();
    for (const [id, identity] of this.#identities) {
      if (now >= endOf(identity.client!)) this.#end(id, identity, "its time is over");
      else if (identity.uses === 0 && !this.#tickets.hasOf(identity)) this.#identities.delete(id);
    }
    this.#tickets.tick(now);
    for (const [address, { since }] of this.#tries) {
      if (now - since < WINDOW_MS) break;
      this.#tries.delete(address);
    }
  }

  #end(id: string, identity: Identity, why: string): void {
    this.#identities.delete(id);
    this.#tickets.revoke(identity);
    identity.end(`${id}: ${why}`);
  }

  #clientOf({ headers, certificate, urlToken }: Caller): Client | undefined {
    if (urlToken !== undefined) {
      const client = this.#tokenOf(urlToken);
      // A URL stands in histories and in the logs of proxies. It must not be worth more than a port.
      return client?.roles.every((role) => role === "ethernet") === true ? client : undefined;
    }
    const { authorization } = headers;
    if (authorization !== undefined) {
      const token = /^Bearer +([\x21-\x7e]{1,512}) *$/i.exec(authorization)?.[1];
      return token === undefined ? undefined : this.#tokenOf(token);
    }
    if (certificate === undefined) return undefined;
    // A name with other letters, such as a star, is none that a NIC may have.
    if (this.#clients === undefined) {
      return /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(certificate)
        ? certified(certificate)
        : undefined;
    }
    for (const client of this.#clients.values()) {
      if (client.certificate === certificate) return client;
    }
    return undefined;
  }

  #tokenOf(token: string): Client | undefined {
    const client = this.#clients?.get(idOf(token) ?? "");
    // An id that does not exist costs the same time as one with another secret.
    const fits = matches(token, client?.hash ?? NOBODY);
    return fits ? client : undefined;
  }

  #identityOf(client: Client): Identity {
    const known = this.#identities.get(client.id);
    if (known !== undefined) return known;
    const identity = new Identity(client);
    this.#identities.set(client.id, identity);
    return identity;
  }

  #unknown({ headers, address, urlToken }: Caller, why: string | undefined): Denial {
    const now = this.#now();
    const tries = this.#tries.get(address);
    const isNew = tries === undefined || now - tries.since >= WINDOW_MS;
    const count = isNew ? 1 : tries.count + 1;
    if (isNew) this.#tries.delete(address);
    this.#tries.set(address, { count, since: isNew ? now : tries.since });
    if (this.#tries.size > MAX_ADDRESSES) {
      const [oldest] = this.#tries.keys();
      this.#tries.delete(oldest!);
    }
    if (count > MAX_TRIES) {
      const seconds = Math.ceil(WINDOW_MS / 1000);
      return denial(TOO_MANY, `too many refused tries from this address`, {
        "retry-after": String(seconds),
      });
    }
    const wants = `this device wants ${this.#certificates ? "a token or a certificate" : "a token"}`;
    const wrong =
      urlToken !== undefined
        ? "the token is not one of this device whose only role is ethernet"
        : headers.authorization === undefined
          ? wants
          : "the token is not one of this device";
    return denial(UNKNOWN, why ?? wrong, { "www-authenticate": 'Bearer realm="ringwire"' });
  }
}

const UNKNOWN = "401 Unauthorized";
const FORBIDDEN = "403 Forbidden";
const TOO_MANY = "429 Too Many Requests";
const NOBODY = hashOf("nobody");
/** Roles of a certificate at a device without a list of clients. */
const CERTIFIED: Role[] = ["nic"];

/** The cookie of a ticket. */
export const TICKET_COOKIE = "ringwire-ticket";

const cookieOf = (cookies: string | undefined): string | undefined =>
  cookies === undefined
    ? undefined
    : /(?:^|; *)ringwire-ticket=([\w-]{1,64})(?:;|$)/.exec(cookies)?.[1];

const sees = ({ segments }: Client, segment: string): boolean =>
  segments?.includes(segment) ?? true;

const needOf = (path: string): Need => (Object.hasOwn(NEEDS, path) ? NEEDS[path]! : "admin");

const denial = (
  status: string,
  sentence: string,
  headers: Readonly<Record<string, string>> = {},
): Denial => ({ status, sentence, headers });

const byId = (clients: readonly Client[]): Map<string, Client> =>
  new Map(clients.map((client) => [client.id, client]));

/** The client of a certificate at a device without a list: NICs with its name, or NAME-... */
function certified(name: string): Client {
  return { id: name, certificate: name, roles: CERTIFIED, names: [name, `${name}-*`] };
}
