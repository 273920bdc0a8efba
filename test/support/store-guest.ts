/** A guest that speaks xenstore's messages, and keeps what it is told. */
import type { Quotas } from "../../device/xen/xenstore/index.ts";
import { Xenstore } from "../../device/xen/xenstore/index.ts";
import {
  parseXsMessage,
  parseXsStrings,
  splitXsPayload,
  XsType,
  xsBytes,
  xsMessage,
  xsPathAndValue,
  xsStrings,
  xsText,
} from "../../shared/xen/xenstore.ts";

export class StoreGuest {
  readonly domid: number;
  readonly store: Xenstore;
  /** Events that nobody has taken, as "path token". */
  readonly events: string[] = [];
  /** Whether its link takes more. */
  room = true;
  /** Why it was cut. */
  cutBy: string | undefined;
  #reply: { type: number; payload: Uint8Array } | undefined;
  #reqId = 0;

  constructor(store: Xenstore, domid: number) {
    this.store = store;
    this.domid = domid;
    store.introduce(domid, {
      deliver: (message) => this.#deliver(message),
      room: () => this.room,
      cut: (reason) => {
        this.cutBy = reason.code;
      },
    });
  }

  /** Payload of the reply as text, or the error's name; "held" when there is none yet. */
  send(type: XsType, payload: Uint8Array, txId = 0): string {
    this.#reply = undefined;
    this.store.request(this.domid, xsMessage(type, ++this.#reqId, txId, payload));
    return this.takeReply();
  }

  /** The last reply that came, and forgets it. */
  takeReply(): string {
    const reply: { type: number; payload: Uint8Array } | undefined = this.#reply;
    this.#reply = undefined;
    if (reply === undefined) return "held";
    if (reply.type === XsType.ERROR) return parseXsStrings(reply.payload)!.join();
    return xsText(reply.payload);
  }

  read = (path: string, tx = 0): string => this.send(XsType.READ, xsStrings(path), tx);
  mkdir = (path: string, tx = 0): string => this.send(XsType.MKDIR, xsStrings(path), tx);
  rm = (path: string, tx = 0): string => this.send(XsType.RM, xsStrings(path), tx);
  directory = (path: string, tx = 0): string => this.send(XsType.DIRECTORY, xsStrings(path), tx);
  getPerms = (path: string, tx = 0): string => this.send(XsType.GET_PERMS, xsStrings(path), tx);
  watch = (path: string, token: string): string => this.send(XsType.WATCH, xsStrings(path, token));
  unwatch = (path: string, token: string): string =>
    this.send(XsType.UNWATCH, xsStrings(path, token));
  start = (): number => Number.parseInt(this.send(XsType.TRANSACTION_START, xsStrings("")), 10);
  end = (tx: number, how = "T"): string => this.send(XsType.TRANSACTION_END, xsStrings(how), tx);

  write(path: string, value: string, tx = 0): string {
    return this.send(XsType.WRITE, xsPathAndValue(path, xsBytes(value)), tx);
  }

  setPerms(path: string, permissions: readonly string[], tx = 0): string {
    return this.send(XsType.SET_PERMS, xsStrings(path, ...permissions), tx);
  }

  /** The events since the last time, after a flush. */
  heard(): string[] {
    this.store.flushWatches();
    return this.events.splice(0);
  }

  #deliver(message: Uint8Array): void {
    const { type, reqId, txId, payload } = parseXsMessage(message)!;
    if (type === XsType.WATCH_EVENT) {
      const { first, rest } = splitXsPayload(payload)!;
      this.events.push(`${first} ${xsText(rest.subarray(0, -1))}`);
      if (reqId !== 0 || txId !== 0) throw new Error("an event carries an id");
    } else {
      this.#reply = { type, payload };
    }
  }
}

/** A store with guests 1..count, each owner of its directory, and a clock that only the test moves. */
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
