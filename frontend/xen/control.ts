/**
 * The exchange between frontend and backend through the store: their features, and the references
 * of the rings.
 *
 * After talk_to_backend, write_queue_xenstore_keys, xn_query_features and xn_configure_features
 * (freebsd-src: sys/dev/xen/netfront/netfront.c). Keys: xen: xen/include/public/io/netif.h.
 */

import { ETHER_HEADER_BYTES, parseUnicastMac } from "../../shared/net/ethernet.ts";
import { MAX_TX_SIZE, NR_SLOTS_MIN } from "../../shared/xen/netif.ts";
import { queueName, VifKey } from "../../shared/xen/xenbus.ts";
import { Errno } from "../bus/errno.ts";
import { DriverError } from "../driver-error.ts";
import { Ifcap } from "../net/ifnet.ts";
import type { NetfrontInfo } from "./info.ts";
import { setupDevice } from "./queues.ts";
import { NODE } from "./xenbus.ts";
import type { XenstoreRequests } from "./xenstore-client.ts";

/** RFC 791: bytes of the largest datagram that every link carries. */
export const MIN_MTU = 68;
/** MTU for a backend without scatter-gather, which accepts one page for each packet. */
const PLAIN_MTU = 1500;

/** Reads the toolstack's description of the NIC. Rejects with DriverError or XenstoreError. */
export async function readDescription(info: NetfrontInfo): Promise<void> {
  const { xenbus, ifnet } = info;
  const [macText, mtuText, trusted] = await Promise.all([
    xenbus.own(VifKey.MAC),
    xenbus.own(VifKey.MTU),
    xenbus.own(VifKey.TRUSTED),
  ]);
  // xen_net_read_mac: a device model in a stub domain may write only the backend's directory.
  const mac = parseMacKey(macText ?? (await xenbus.theirs(VifKey.MAC)));
  if (!info.attached) ifnet.mac.set(mac);
  else if (!mac.every((byte, i) => byte === ifnet.mac[i])) {
    throw new DriverError("MAC_CHANGED", Errno.EINVAL, "the NIC has another MAC address now");
  }
  const mtu = mtuText !== undefined && /^\d{1,5}$/.test(mtuText) ? Number(mtuText) : MAX_MTU;
  info.describedMtu = Math.max(MIN_MTU, Math.min(MAX_MTU, mtu));
  info.trusted = info.wantTrusted && trusted !== "0";
}

const MAX_MTU = MAX_TX_SIZE - ETHER_HEADER_BYTES;

/** Throws DriverError when the interface's MTU is above `most` or below MIN_MTU. */
export function needMtu(info: NetfrontInfo, most: number): void {
  const { mtu } = info.ifnet;
  if (mtu >= MIN_MTU && mtu <= most) return;
  const text = `MTU ${mtu}: the backend takes ${MIN_MTU} to ${most}`;
  throw new DriverError("MTU", Errno.EINVAL, text);
}

function parseMacKey(text: string | undefined): Uint8Array {
  try {
    return parseUnicastMac(text ?? "");
  } catch (error) {
    throw new DriverError("MAC", Errno.ENXIO, `key mac of the NIC: ${(error as Error).message}`);
  }
}

/**
 * talk_to_backend: creates the queues, then writes the keys by which the backend finds them, all in
 * one transaction. Rejects with DriverError, XenstoreError, Shortage, HypercallError or Abandoned.
 */
export async function talkToBackend(info: NetfrontInfo): Promise<void> {
  const { generation } = info;
  const { xenbus } = info;
  if ((await xenbus.theirNumber(VifKey.FEATURE_RX_COPY, 0)) !== 1) {
    const text = "the backend can't copy what is received into our pages (feature-rx-copy)";
    throw new DriverError("RX_COPY", Errno.EOPNOTSUPP, text);
  }
  const most = await xenbus.theirNumber(VifKey.MULTI_QUEUE_MAX_QUEUES, 1);
  info.check(generation);
  await setupDevice(info, Math.max(1, Math.min(info.ctx.queues, most)));
  await info.store.transaction((store) => writeKeys(info, store));
  info.check(generation);
}

async function writeKeys(info: NetfrontInfo, store: XenstoreRequests): Promise<void> {
  const writes: Promise<void>[] = [];
  const put = (key: string, value: number): void => {
    writes.push(store.write(`${NODE}/${key}`, String(value)));
  };
  const count = info.rxqs.length;
  for (let i = 0; i < count; i++) {
    // The keys of a single queue are in the directory itself, as before multi-queue.
    const dir = count === 1 ? "" : `${queueName(i)}/`;
    put(`${dir}${VifKey.TX_RING_REF}`, info.txqs[i]!.ring!.reference);
    put(`${dir}${VifKey.RX_RING_REF}`, info.rxqs[i]!.ring!.reference);
    put(`${dir}${VifKey.EVENT_CHANNEL}`, info.txqs[i]!.port);
  }
  if (count > 1) put(VifKey.MULTI_QUEUE_NUM_QUEUES, count);
  // An earlier attachment of this frontend may have had several queues.
  else writes.push(store.rm(`${NODE}/${VifKey.MULTI_QUEUE_NUM_QUEUES}`));
  put(VifKey.REQUEST_RX_COPY, 1);
  put(VifKey.FEATURE_RX_NOTIFY, 1);
  put(VifKey.FEATURE_SG, 1);
  // Receive features. A 0 is written too: an earlier attachment may have written a 1.
  const gso = info.wantLro && info.wantRxcsum ? 1 : 0;
  put(VifKey.FEATURE_GSO_TCPV4, gso);
  put(VifKey.FEATURE_GSO_TCPV6, gso);
  put(VifKey.FEATURE_NO_CSUM_OFFLOAD, info.wantRxcsum ? 0 : 1);
  put(VifKey.FEATURE_IPV6_CSUM_OFFLOAD, info.wantRxcsum ? 1 : 0);
  const all = await Promise.allSettled(writes);
  for (const result of all) if (result.status === "rejected") throw result.reason;
}

/** xn_query_features and xn_configure_features: sets capabilities from the backend's features. */
export async function queryFeatures(info: NetfrontInfo): Promise<void> {
  const { xenbus, ifnet, generation } = info;
  const [sg, gso4, gso6, noCsum, csum6] = await Promise.all([
    xenbus.theirNumber(VifKey.FEATURE_SG, 0),
    xenbus.theirNumber(VifKey.FEATURE_GSO_TCPV4, 0),
    xenbus.theirNumber(VifKey.FEATURE_GSO_TCPV6, 0),
    xenbus.theirNumber(VifKey.FEATURE_NO_CSUM_OFFLOAD, 0),
    xenbus.theirNumber(VifKey.FEATURE_IPV6_CSUM_OFFLOAD, 0),
  ]);
  info.check(generation);
  info.maxTxFrags = sg === 0 ? 1 : NR_SLOTS_MIN;
  info.maxMtu = sg === 0 ? Math.min(info.describedMtu, PLAIN_MTU) : info.describedMtu;
  let caps = Ifcap.LRO | Ifcap.RXCSUM | Ifcap.RXCSUM_IPV6;
  if (info.maxMtu > PLAIN_MTU) caps |= Ifcap.JUMBO_MTU;
  if (noCsum === 0) caps |= Ifcap.TXCSUM;
  if (csum6 === 1) caps |= Ifcap.TXCSUM_IPV6;
  // A super-frame needs more than a page, and a blank checksum.
  if (sg === 1 && gso4 === 1 && noCsum === 0) caps |= Ifcap.TSO4;
  if (sg === 1 && gso6 === 1 && csum6 === 1) caps |= Ifcap.TSO6;
  // Another backend may offer more or less. Capabilities that were disabled stay disabled.
  const off = info.attached ? ifnet.capabilities & ~ifnet.capEnable : wishedOff(info);
  ifnet.capabilities = caps | (ifnet.capabilities & Ifcap.NETMAP);
  ifnet.capEnable = (ifnet.capabilities & ~off) | (ifnet.capEnable & Ifcap.NETMAP);
  ifnet.hwTsomax = Math.min(MAX_TX_SIZE, info.ctx.space.pushBytes);
  info.gate.maxFrameBytes = MAX_TX_SIZE;
}

function wishedOff(info: NetfrontInfo): number {
  const rxcsum = info.wantRxcsum ? 0 : Ifcap.RXCSUM | Ifcap.RXCSUM_IPV6;
  return rxcsum | (info.wantLro ? 0 : Ifcap.LRO);
}
