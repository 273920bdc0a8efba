/**
 * Stands between a netfront and a real device, on one link. It knows the frontend's store requests,
 * grants and keys, and replaces answers of the store by lies.
 *
 *   netfront ──► READ .../mac ──► rogue (notes the request) ──► device
 *            ◄── "01:00:..." ◄─── rogue (lies about mac)   ◄─── "02:00:..."
 */

import { Op } from "../../shared/wire/catalogue.ts";
import { VifKey } from "../../shared/xen/xenbus.ts";
import {
  parseXsMessage,
  splitXsPayload,
  XsType,
  xsBytes,
  xsMessage,
  xsStrings,
  xsText,
} from "../../shared/xen/xenstore.ts";
import { endsOf, grantsOf } from "./guest-grants.ts";
import type { RogueLink } from "./rogue-device.ts";

/** A lie in place of a reply: a value, an error's name, or whole messages. */
export type Lie = { value: string } | { error: string } | { messages: readonly Uint8Array[] };

interface Asked {
  readonly type: number;
  readonly path: string;
}

export class RogueBackend {
  readonly link: RogueLink;
  /** Grants that are live at the frontend now. */
  readonly grants = new Map<number, ReturnType<typeof grantsOf>[number]>();
  /** Keys that the frontend wrote, by the last part of their path. */
  readonly keys = new Map<string, string>();
  readonly watches: { path: string; token: string }[] = [];
  /** Returns the lie for a reply; undefined passes the true reply on. */
  lie: (request: Asked, reqId: number) => Lie | undefined = () => undefined;
  readonly #asked = new Map<number, Asked>();

  constructor(link: RogueLink) {
    this.link = link;
    link.onTold = (transaction) => this.#told(transaction);
    link.tamper = (batch) => batch.flatMap((t) => this.#tampered(t));
  }

  /** The frontend's event-channel port; 0 before the frontend has written it. */
  get port(): number {
    return this.number(VifKey.EVENT_CHANNEL);
  }

  /** The number in a key, such as "tx-ring-ref"; 0 before the frontend has written the key. */
  number(key: string): number {
    return Number(this.keys.get(key) ?? 0);
  }

  /** Sends one message of the store. */
  store(message: Uint8Array): void {
    this.link.say([Op.XENSTORE, Buffer.from(message)]);
  }

  /** The event of the frontend's watch on the backend's state. */
  stateEvent(): Uint8Array {
    const watch = this.watches.findLast(({ path }) => path.endsWith("/state"))!;
    return xsMessage(XsType.WATCH_EVENT, 0, 0, xsStrings(watch.path, watch.token));
  }

  #told([op, a, b]: readonly unknown[]): void {
    if (op === Op.GRANT) {
      for (const entry of grantsOf(b as Buffer)) this.grants.set(entry.reference, entry);
    } else if (op === Op.END_GRANT) {
      for (const reference of endsOf(a as Buffer)) this.grants.delete(reference);
    } else if (op === Op.XENSTORE) this.#request(a as Buffer);
  }

  #request(bytes: Buffer): void {
    const { type, reqId, payload } = parseXsMessage(bytes)!;
    const { first, rest } = splitXsPayload(payload)!;
    this.#asked.set(reqId, { type, path: first });
    if (type === XsType.WRITE) this.keys.set(first.split("/").at(-1)!, xsText(rest));
    if (type === XsType.WATCH) {
      this.watches.push({ path: first, token: splitXsPayload(rest)!.first });
    }
  }

  #tampered(transaction: unknown[]): readonly unknown[][] {
    if (transaction[0] !== Op.XENSTORE) return [transaction];
    const message = parseXsMessage(transaction[1] as Buffer);
    const asked = message === undefined ? undefined : this.#asked.get(message.reqId);
    if (message === undefined || asked === undefined || message.type === XsType.WATCH_EVENT) {
      return [transaction];
    }
    const { reqId, txId } = message;
    const lie = this.lie(asked, reqId);
    if (lie === undefined) return [transaction];
    if ("messages" in lie) return lie.messages.map((m) => [Op.XENSTORE, Buffer.from(m)]);
    const type = "error" in lie ? XsType.ERROR : (message.type as XsType);
    const payload = "error" in lie ? xsStrings(lie.error) : xsBytes(lie.value);
    return [[Op.XENSTORE, Buffer.from(xsMessage(type, reqId, txId, payload))]];
  }
}
