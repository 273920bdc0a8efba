/**
 * The guest's end of xenstore: requests and replies, transactions, watches.
 *
 *   read, write, ... ──► req_id ──► hypervisor.xenstore ──► store
 *   promise          ◄── by req_id ◄── reply
 *   watch handler    ◄── by token  ◄── watch event
 *
 * The store resolves a relative path from the domain's own directory, so a driver need not know its
 * domain's number. Nothing here blocks the data path. No state outlives a link: `abandon` rejects
 * the waiting requests and forgets every watch, and the next attachment starts over.
 *
 * Source: xen: docs/misc/xenstore.txt; xen/include/public/io/xs_wire.h.
 */

import { WireError } from "../../shared/wire/protocol.ts";
import {
  parseXsMessage,
  parseXsStrings,
  XenstoreError,
  type XsError,
  XsType,
  xsBytes,
  xsMalformed,
  xsMessage,
  xsPathAndValue,
  xsStrings,
  xsText,
} from "../../shared/xen/xenstore.ts";
import { Abandoned } from "../driver-error.ts";

/** Maximum number of requests sent and not answered; the store's quota is 20. */
const MOST_OUTSTANDING = 16;
/** Maximum number of attempts of a transaction that fails with EAGAIN. */
const TRANSACTION_TRIES = 64;

interface Waiting {
  readonly type: XsType;
  readonly what: string;
  resolve(payload: Uint8Array): void;
  reject(error: Error): void;
}

/** The connection to the store, which the hypervisor provides. */
export interface XenstoreLink {
  /** False while no store would answer. */
  readonly attached: boolean;
  /** Sends one whole message. */
  xenstore(message: Uint8Array): void;
}

interface Unsent {
  send(): void;
  reject(error: Error): void;
}

/**
 * Called synchronously at the event's place in the batch. `path` is the changed node, in the form
 * (absolute or relative) in which the watch was set.
 */
export type WatchHandler = (path: string) => void;

/** Sends a request of a transaction, or of none (0). Resolves with the payload of the reply. */
type Request = (type: XsType, tx: number, payload: Uint8Array, what: string) => Promise<Uint8Array>;

/** Requests within one transaction, or without. They reject with XenstoreError or Abandoned. */
export class XenstoreRequests {
  protected readonly request: Request;
  readonly #tx: number;

  constructor(request: Request, tx: number) {
    this.request = request;
    this.#tx = tx;
  }

  async read(path: string): Promise<string> {
    return xsText(await this.request(XsType.READ, this.#tx, xsStrings(path), `read ${path}`));
  }

  /** As `read`, but resolves with undefined for a missing node. */
  async readOptional(path: string): Promise<string | undefined> {
    try {
      return await this.read(path);
    } catch (error) {
      if (error instanceof XenstoreError && error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  async write(path: string, value: string): Promise<void> {
    const payload = xsPathAndValue(path, xsBytes(value));
    const what = `write ${path} = ${JSON.stringify(value)}`;
    await this.request(XsType.WRITE, this.#tx, payload, what);
  }

  async rm(path: string): Promise<void> {
    await this.request(XsType.RM, this.#tx, xsStrings(path), `rm ${path}`);
  }
}

export class XenstoreClient extends XenstoreRequests {
  readonly #link: XenstoreLink;
  readonly #pending = new Map<number, Waiting>();
  /** Ids of abandoned requests whose replies are still to come. */
  readonly #abandoned = new Set<number>();
  /** Requests that wait until fewer are outstanding. */
  readonly #queue: Unsent[] = [];
  readonly #watches = new Map<string, WatchHandler>();
  #nextRequest = 1;
  #nextToken = 1;

  constructor(link: XenstoreLink) {
    const request: Request = (...args) => this.#send(...args);
    super(request, 0);
    this.#link = link;
  }

  get outstanding(): number {
    return this.#pending.size + this.#queue.length;
  }

  /** Sets a watch on `path` and all nodes below it. The store sends the first event at once. */
  async watch(path: string, handler: WatchHandler): Promise<void> {
    const token = `w${this.#nextToken++}`;
    this.#watches.set(token, handler);
    try {
      await this.request(XsType.WATCH, 0, xsStrings(path, token), `watch ${path}`);
    } catch (error) {
      this.#watches.delete(token);
      throw error;
    }
  }

  /** XS_RESET_WATCHES: removes watches and transactions that an earlier attachment has left. */
  async resetWatches(): Promise<void> {
    this.#watches.clear();
    await this.request(XsType.RESET_WATCHES, 0, xsStrings(""), "reset watches");
  }

  /**
   * Runs `body` as one transaction: all of its changes are made, or none. The transaction starts
   * again when another domain changed a node that it used (EAGAIN), so `body` may run several
   * times. An error of `body` ends the transaction without effect and is thrown on.
   */
  async transaction<T>(body: (store: XenstoreRequests) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      const id = await this.#begin();
      const value = await this.#inside(id, body);
      try {
        await this.#end(id, true);
        return value;
      } catch (error) {
        const again = error instanceof XenstoreError && error.code === "EAGAIN";
        if (!again || tries === TRANSACTION_TRIES) throw error;
      }
    }
  }

  /**
   * Accepts one message of the store. Throws WireError when the bytes are not a message, or the
   * reply matches no request.
   */
  receive(src: Uint8Array, at: number, length: number): void {
    const bytes = src.subarray(at, at + length);
    const message = parseXsMessage(bytes);
    if (message === undefined) {
      throw new WireError("XENSTORE_MESSAGE", `xenstore: ${xsMalformed(bytes)}`);
    }
    const { type, reqId, payload } = message;
    if (type === XsType.WATCH_EVENT) {
      this.#event(payload);
      return;
    }
    const waiting = this.#pending.get(reqId);
    if (waiting === undefined) {
      if (this.#abandoned.delete(reqId)) return;
      throw new WireError("XENSTORE_REPLY", `xenstore: request ${reqId} was never made`);
    }
    if (type !== XsType.ERROR && type !== waiting.type) {
      throw new WireError("XENSTORE_REPLY", `xenstore: a reply of type ${type} to ${waiting.what}`);
    }
    this.#pending.delete(reqId);
    if (type === XsType.ERROR) {
      const name = (parseXsStrings(payload)?.[0] ?? "EIO") as XsError;
      waiting.reject(new XenstoreError(name, `xenstore: ${waiting.what}`));
    } else {
      // The payload is part of the message, whose bytes are valid during this call only.
      waiting.resolve(payload.slice());
    }
    this.#queue.shift()?.send();
  }

  /** Rejects all waiting requests and forgets all watches. Replies may still come. */
  abandon(why: string): void {
    this.#watches.clear();
    const waiting = [...this.#pending];
    this.#pending.clear();
    const unsent = this.#queue.splice(0);
    for (const [id, { reject }] of waiting) {
      this.#abandoned.add(id);
      reject(new Abandoned(why));
    }
    for (const { reject } of unsent) reject(new Abandoned(why));
  }

  /** As `abandon`, for a store that is gone: no replies will come. */
  linkGone(why: string): void {
    this.abandon(why);
    this.#abandoned.clear();
  }

  #event(payload: Uint8Array): void {
    const strings = parseXsStrings(payload);
    if (strings?.length !== 2) {
      throw new WireError("XENSTORE_EVENT", "xenstore: a watch event is no path and token");
    }
    // An event that crossed with the end of its watch has no handler any more.
    this.#watches.get(strings[1]!)?.(strings[0]!);
  }

  async #begin(): Promise<number> {
    const bytes = await this.request(
      XsType.TRANSACTION_START,
      0,
      xsStrings(""),
      "transaction start",
    );
    const id = Number(parseXsStrings(bytes)?.[0]);
    if (!(Number.isInteger(id) && id > 0 && id < 2 ** 32)) {
      throw new XenstoreError("EIO", "xenstore: a transaction without a number");
    }
    return id;
  }

  async #inside<T>(id: number, body: (store: XenstoreRequests) => Promise<T>): Promise<T> {
    try {
      return await body(new XenstoreRequests(this.request, id));
    } catch (error) {
      // The caller needs the first error. If the store is gone, it has dropped the transaction.
      await this.#end(id, false).catch(() => undefined);
      throw error;
    }
  }

  async #end(id: number, commit: boolean): Promise<void> {
    const word = commit ? "T" : "F";
    await this.request(XsType.TRANSACTION_END, id, xsStrings(word), "transaction end");
  }

  #send(type: XsType, tx: number, payload: Uint8Array, what: string): Promise<Uint8Array> {
    if (!this.#link.attached) return Promise.reject(new Abandoned("the store is gone"));
    return new Promise((resolve, reject) => {
      const send = (): void => {
        const id = this.#nextRequest;
        this.#nextRequest = id === 0xffffffff ? 1 : id + 1;
        this.#pending.set(id, { type, what, resolve, reject });
        this.#link.xenstore(xsMessage(type, id, tx, payload));
      };
      if (this.#pending.size >= MOST_OUTSTANDING) this.#queue.push({ send, reject });
      else send();
    });
  }
}
