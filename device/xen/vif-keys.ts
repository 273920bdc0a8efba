/**
 * The keys of a frontend's directory, read once and checked. A value that breaks the protocol is
 * refused with the name of its key, and the vif stays closed.
 *
 * Source: xen: xen/include/public/io/netif.h ("Feature and ring configuration"); linux:
 * drivers/net/xen-netback/xenbus.c, read_xenbus_vif_flags and connect_data_rings.
 */

import { Limits } from "../../shared/wire/protocol.ts";
import { queueName, VifKey } from "../../shared/xen/xenbus.ts";
import { type NetbackConfig, type QueueConfig, VifKeyError } from "./netback/config.ts";

/** Reads one key of the frontend's directory; undefined when it is not there. */
export type ReadKey = (key: string) => string | undefined;

/** The features that this backend offered. Keys of other features are not read. */
export interface VifOffer {
  readonly maxQueues: number;
  readonly splitEventChannels: boolean;
  readonly controlRing: boolean;
  readonly multicastControl: boolean;
}

const MAX_REFERENCE = 2 ** 32 - 1;

/** The whole configuration of a frontend that wants to connect. Throws VifKeyError. */
export function readFrontendKeys(read: ReadKey, offer: VifOffer): NetbackConfig {
  const keys = new Keys(read);
  if (!keys.flag(VifKey.REQUEST_RX_COPY, false)) {
    throw new VifKeyError(VifKey.REQUEST_RX_COPY, "must be 1: page flipping is not there");
  }
  const count = keys.number(VifKey.MULTI_QUEUE_NUM_QUEUES, 1, offer.maxQueues, 1);
  const queues: QueueConfig[] = [];
  for (let i = 0; i < count; i++) {
    const dir = count === 1 ? "" : `${queueName(i)}/`;
    queues.push(readQueue(keys, dir, offer.splitEventChannels));
  }
  const control = offer.controlRing ? readControl(keys) : undefined;
  return {
    queues,
    rxNotify: keys.flag(VifKey.FEATURE_RX_NOTIFY, false),
    sg: keys.flag(VifKey.FEATURE_SG, false),
    gsoTcpv4: keys.flag(VifKey.FEATURE_GSO_TCPV4, false),
    gsoTcpv6: keys.flag(VifKey.FEATURE_GSO_TCPV6, false),
    noCsumOffload: keys.flag(VifKey.FEATURE_NO_CSUM_OFFLOAD, false),
    ipv6CsumOffload: keys.flag(VifKey.FEATURE_IPV6_CSUM_OFFLOAD, false),
    multicastControl: offer.multicastControl && keys.flag(VifKey.REQUEST_MULTICAST_CONTROL, false),
    ...(control === undefined ? {} : { control }),
  };
}

function readQueue(keys: Keys, dir: string, split: boolean): QueueConfig {
  const txRingRef = keys.number(`${dir}${VifKey.TX_RING_REF}`, 0, MAX_REFERENCE);
  const rxRingRef = keys.number(`${dir}${VifKey.RX_RING_REF}`, 0, MAX_REFERENCE);
  const port = (key: string): number => keys.number(`${dir}${key}`, 1, Limits.PORTS - 1);
  if (split && keys.has(`${dir}${VifKey.EVENT_CHANNEL_TX}`)) {
    const txPort = port(VifKey.EVENT_CHANNEL_TX);
    return { txRingRef, rxRingRef, txPort, rxPort: port(VifKey.EVENT_CHANNEL_RX) };
  }
  const shared = port(VifKey.EVENT_CHANNEL);
  return { txRingRef, rxRingRef, txPort: shared, rxPort: shared };
}

function readControl(keys: Keys): { ringRef: number; port: number } | undefined {
  if (!keys.has(VifKey.CTRL_RING_REF)) return undefined;
  return {
    ringRef: keys.number(VifKey.CTRL_RING_REF, 0, MAX_REFERENCE),
    port: keys.number(VifKey.EVENT_CHANNEL_CTRL, 1, Limits.PORTS - 1),
  };
}

class Keys {
  readonly #read: ReadKey;

  constructor(read: ReadKey) {
    this.#read = read;
  }

  has(key: string): boolean {
    return this.#read(key) !== undefined;
  }

  /** Reads a decimal number from `min` to `max`. Without `missing` the key must exist. */
  number(key: string, min: number, max: number, missing?: number): number {
    const text = this.#read(key);
    if (text === undefined) {
      if (missing !== undefined) return missing;
      throw new VifKeyError(key, "is not there");
    }
    // Ten digits hold every u32. Longer texts are refused before they become an inexact number.
    const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) {
      const shown = JSON.stringify(text.slice(0, 32));
      throw new VifKeyError(key, `${shown} is no number from ${min} to ${max}`);
    }
    return value;
  }

  flag(key: string, missing: boolean): boolean {
    return this.number(key, 0, 1, missing ? 1 : 0) === 1;
  }
}

/** Parses the key `rate`: bytes in a period, and its microseconds. Undefined: no limit. Throws VifKeyError. */
export function parseRate(text: string | undefined): { bytes: number; usec: number } | undefined {
  if (text === undefined) return undefined;
  const parts = /^(\d{1,15}),(\d{1,15})$/.exec(text);
  if (parts === null) {
    throw new VifKeyError(VifKey.RATE, `${JSON.stringify(text.slice(0, 40))} is not "BYTES,USEC"`);
  }
  const rate = { bytes: Number(parts[1]), usec: Number(parts[2]) };
  return rate.bytes === 0 || rate.usec === 0 ? undefined : rate;
}
