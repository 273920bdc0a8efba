/**
 * The guest's end of xenstore: requests with answers, transactions, watches.
 *
 *   read, write, ... ──► req_id ──► hypervisor.xenstore ──► store
 *   promise          ◄── by req_id ◄── reply
 *   watch handler    ◄── by token  ◄── watch event
 *
 * Paths may be relative: the store then begins at the domain's own directory, so a driver need not
 * know its domain's number. Nothing here blocks the data path, and nothing is remembered over a
 * link: `abandon` rejects what waits and forgets every watch, and the next life starts over.
 *
 * Source: xen: docs/misc/xenstore.txt; xen/include/public/io/xs_wire.h.
 */

import { WireError } from "../../shared/wire/transactions.ts";
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

/** Requests under way at a time; the store's quota is 20. */
const MOST_OUTSTANDING = 16;
/** Times that a transaction is begun anew after EAGAIN. */
const TRANSACTION_TRIES = 64;

interface Waiting {
  readonly type: XsType;
  readonly what: string;
  resolve(payload: Uint8Array): void;
  reject(error: Error): void;
}

/** The way to the store: the hypervisor. */
export interface XenstoreLink {
  /** False: nobody would answer. */
  readonly attached: boolean;
  /** Takes one whole message. */
  xenstore(message: Uint8Array): void;
}

interface Unsent {
  send(): void;
  reject(error: Error): void;
}

export interface Watch {
  readonly path: string;
  readonly token: string;
}

/** Called at its place in the batch, to its end. `path` is what changed, as the watch was said. */
export type WatchHandler = (path: string) => void;

/** Requests of one transaction, or outside of any. Rejects with XenstoreError or Abandoned. */
export interface XenstoreRequests {
  read(path: string): Promise<string>;
  /** As `read`; undefined for a node that is not there. */
  readOptional(path: string): Promise<string | undefined>;
  directory(path: string): Promise<readonly string[]>;
  write(path: string, value: string): Promise<void>;
  mkdir(path: string): Promise<void>;
  rm(path: string): Promise<void>;
}

export class XenstoreClient implements XenstoreRequests {
  readonly #link: XenstoreLink;
  readonly #pending = new Map<number, Waiting>();
  /** Requests that nobody waits for any more. */
  readonly #abandoned = new Set<number>();
  /** Those that wait until fewer are outstanding. */
  readonly #queue: Unsent[] = [];
  readonly #watches = new Map<string, WatchHandler>();
  #nextRequest = 1;
  #nextToken = 1;

  constructor(link: XenstoreLink) {
    this.#link = link;
  }

  get outstanding(): number {
    return this.#pending.size + this.#queue.length;
  }

  get watches(): number {
    return this.#watches.size;
  }

  read(path: string): Promise<string> {
    return this.#read(0, path);
  }
  readOptional(path: string): Promise<string | undefined> {
    return this.#readOptional(0, path);
  }
  directory(path: string): Promise<readonly string[]> {
    return this.#directory(0, path);
  }
  write(path: string, value: string): Promise<void> {
    return this.#write(0, path, value);
  }
  mkdir(path: string): Promise<void> {
    return this.#plain(XsType.MKDIR, 0, path);
  }
  rm(path: string): Promise<void> {
    return this.#plain(XsType.RM, 0, path);
  }

  /** `handler` is called for the path and everything below it, and once at once. */
  async watch(path: string, handler: WatchHandler): Promise<Watch> {
    const token = `w${this.#nextToken++}`;
    this.#watches.set(token, handler);
    try {
      await this.#request(XsType.WATCH, 0, xsStrings(path, token), `watch ${path}`);
    } catch (error) {
      this.#watches.delete(token);
      throw error;
    }
    return { path, token };
  }

  async unwatch({ path, token }: Watch): Promise<void> {
    if (!this.#watches.delete(token)) return;
    await this.#request(XsType.UNWATCH, 0, xsStrings(path, token), `unwatch ${path}`);
  }

  /** XS_RESET_WATCHES: a life before this one may have left some, and transactions too. */
  async resetWatches(): Promise<void> {
    this.#watches.clear();
    await this.#request(XsType.RESET_WATCHES, 0, xsStrings(""), "reset watches");
  }

  /**
   * All that `body` asks of `store` happens, or nothing. Begun anew when somebody else changed what
   * it saw (EAGAIN), so `body` may run several times. What `body` throws ends it without effect.
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

  /** One message of the store. Throws WireError when it is none, or answers nothing we asked. */
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
      // The payload lies in the message at hand.
      waiting.resolve(payload.slice());
    }
    this.#queue.shift()?.send();
  }

  /** Nobody waits for the store any more, and no watch is ours. Its answers are still to come. */
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

  /** The store is gone: as `abandon`, and nothing will come. */
  linkGone(why: string): void {
    this.abandon(why);
    this.#abandoned.clear();
  }

  #event(payload: Uint8Array): void {
    const strings = parseXsStrings(payload);
    if (strings?.length !== 2) {
      throw new WireError("XENSTORE_EVENT", "xenstore: a watch event is no path and token");
    }
    // One that crossed with our unwatch finds nobody.
    this.#watches.get(strings[1]!)?.(strings[0]!);
  }

  async #begin(): Promise<number> {
    const bytes = await this.#request(
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
      return await body({
        read: (path) => this.#read(id, path),
        readOptional: (path) => this.#readOptional(id, path),
        directory: (path) => this.#directory(id, path),
        write: (path, value) => this.#write(id, path, value),
        mkdir: (path) => this.#plain(XsType.MKDIR, id, path),
        rm: (path) => this.#plain(XsType.RM, id, path),
      });
    } catch (error) {
      // The store drops it by itself when the domain goes: nothing to add to the first reason.
      await this.#end(id, false).catch(() => undefined);
      throw error;
    }
  }

  async #end(id: number, commit: boolean): Promise<void> {
    const word = commit ? "T" : "F";
    await this.#request(XsType.TRANSACTION_END, id, xsStrings(word), "transaction end");
  }

  async #read(tx: number, path: string): Promise<string> {
    return xsText(await this.#request(XsType.READ, tx, xsStrings(path), `read ${path}`));
  }

  async #readOptional(tx: number, path: string): Promise<string | undefined> {
    try {
      return await this.#read(tx, path);
    } catch (error) {
      if (error instanceof XenstoreError && error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  async #directory(tx: number, path: string): Promise<readonly string[]> {
    const what = `directory ${path}`;
    return parseXsStrings(await this.#request(XsType.DIRECTORY, tx, xsStrings(path), what)) ?? [];
  }

  async #write(tx: number, path: string, value: string): Promise<void> {
    await this.#request(
      XsType.WRITE,
      tx,
      xsPathAndValue(path, xsBytes(value)),
      `write ${path} = ${JSON.stringify(value)}`,
    );
  }

  async #plain(type: XsType, tx: number, path: string): Promise<void> {
    await this.#request(
      type,
      tx,
      xsStrings(path),
      `${type === XsType.RM ? "rm" : "mkdir"} ${path}`,
    );
  }

  #request(type: XsType, tx: number, payload: Uint8Array, what: string): Promise<Uint8Array> {
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
