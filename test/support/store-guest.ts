/** A guest that sends xenstore messages and records the answers. */
import { type Quotas, Xenstore } from "../../device/xen/xenstore/index.ts";
import {
  parseXsMessage,
  parseXsStrings,
  type XsMessage,
  XsType,
  xsBytes,
  xsMessage,
  xsPathAndValue,
  xsStrings,
  xsText,
} from "../../shared/xen/xenstore.ts";

/** The requests of xenstore; `R` is the result of a request. */
export abstract class XsVerbs<R> {
  /** Posts a request. The result is the reply's text, or the error's name. */
  abstract send(type: XsType, payload: Uint8Array, tx?: number): R;

  read = (path: string, tx = 0): R => this.send(XsType.READ, xsStrings(path), tx);
  mkdir = (path: string, tx = 0): R => this.send(XsType.MKDIR, xsStrings(path), tx);
  rm = (path: string, tx = 0): R => this.send(XsType.RM, xsStrings(path), tx);
  directory = (path: string, tx = 0): R => this.send(XsType.DIRECTORY, xsStrings(path), tx);
  getPerms = (path: string, tx = 0): R => this.send(XsType.GET_PERMS, xsStrings(path), tx);
  setPerms = (path: string, permissions: readonly string[], tx = 0): R =>
    this.send(XsType.SET_PERMS, xsStrings(path, ...permissions), tx);
  watch = (path: string, token: string): R => this.send(XsType.WATCH, xsStrings(path, token));
  unwatch = (path: string, token: string): R => this.send(XsType.UNWATCH, xsStrings(path, token));
  write = (path: string, value: string, tx = 0): R =>
    this.send(XsType.WRITE, xsPathAndValue(path, xsBytes(value)), tx);
}

/** The text of a reply; for an error, its name. */
export const said = ({ type, payload }: Pick<XsMessage, "type" | "payload">): string =>
  type === XsType.ERROR ? parseXsStrings(payload)!.join() : xsText(payload);

export class StoreGuest extends XsVerbs<string> {
  readonly domid: number;
  readonly store: Xenstore;
  /** Events not yet returned by `heard`, as "path token". */
  readonly events: string[] = [];
  /** Whether the guest's link accepts more messages. */
  room = true;
  /** Most work between two flushes. */
  turnWork = Number.POSITIVE_INFINITY;
  /** The reason for which the store cut the guest off. */
  cutBy: string | undefined;
  #reply: string | undefined;
  #reqId = 0;

  constructor(store: Xenstore, domid: number) {
    super();
    this.store = store;
    this.domid = domid;
    const guest = this;
    store.introduce(domid, {
      get turnWork() {
        return guest.turnWork;
      },
      deliver: (message) => this.#deliver(message),
      room: () => this.room,
      cut: (reason) => {
        this.cutBy = reason.code;
      },
    });
  }

  /** The reply's text, or the error's name; "held" when there is no reply yet. */
  send(type: XsType, payload: Uint8Array, txId = 0): string {
    this.#reply = undefined;
    this.store.request(this.domid, xsMessage(type, ++this.#reqId, txId, payload));
    return this.takeReply();
  }

  /** Returns the last reply and forgets it. */
  takeReply(): string {
    const reply = this.#reply;
    this.#reply = undefined;
    return reply ?? "held";
  }

  end = (tx: number, how = "T"): string => this.send(XsType.TRANSACTION_END, xsStrings(how), tx);
  start = (): number => Number.parseInt(this.send(XsType.TRANSACTION_START, xsStrings("")), 10);

  /** Flushes watches, then returns the events since the last call. */
  heard(): string[] {
    this.store.flushWatches();
    return this.events.splice(0);
  }

  #deliver(message: Uint8Array): void {
    const reply = parseXsMessage(message)!;
    if (reply.type === XsType.WATCH_EVENT) {
      this.events.push(parseXsStrings(reply.payload)!.join(" "));
      if (reply.reqId !== 0 || reply.txId !== 0) throw new Error("an event carries an id");
    } else this.#reply = said(reply);
  }
}

/** A store with guests 1..count, owners of their directories, and a clock that a test advances. */
export function machineOf(count: number, quotas: Partial<Quotas> = {}) {
  const clock = { now: 0 };
  const store = new Xenstore({ now: () => clock.now, quotas });
  const local = store.local(0);
  local.mkdir("/local/domain");
  const guests = Array.from({ length: count }, (_, i) => addGuest(store, i + 1));
  return { store, local, clock, guests };
}

export function addGuest(store: Xenstore, domid: number): StoreGuest {
  const guest = new StoreGuest(store, domid);
  const local = store.local(0);
  local.mkdir(`/local/domain/${domid}`);
  local.setPerms(`/local/domain/${domid}`, [`n${domid}`]);
  return guest;
}
