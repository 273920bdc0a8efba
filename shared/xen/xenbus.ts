/**
 * xenbus: the states of a split device's two ends, and the keys by which they agree.
 *
 * Source: xen: xen/include/public/io/xenbus.h (states), xen/include/public/io/netif.h (keys),
 * docs/misc/xenstore-paths.pandoc (where they lie).
 *
 *   /local/domain/F/device/vif/N          the frontend writes here
 *   /local/domain/0/backend/vif/F/N       the backend, which lives in domain 0
 */
import { domainPath } from "./xenstore.ts";

/** enum xenbus_state */
export const XenbusState = {
  UNKNOWN: 0,
  INITIALISING: 1,
  INIT_WAIT: 2,
  INITIALISED: 3,
  CONNECTED: 4,
  CLOSING: 5,
  CLOSED: 6,
  RECONFIGURING: 7,
  RECONFIGURED: 8,
} as const;
export type XenbusState = (typeof XenbusState)[keyof typeof XenbusState];

const STATES: readonly number[] = Object.values(XenbusState);

/** Parses a `state` key. UNKNOWN for a missing key, as after the peer's death, and for an invalid one. */
export function xenbusStateOf(value: string | undefined): XenbusState {
  if (value === undefined || !/^\d$/.test(value)) return XenbusState.UNKNOWN;
  const state = Number(value);
  return STATES.includes(state) ? (state as XenbusState) : XenbusState.UNKNOWN;
}

/** The domain of every backend. */
export const BACKEND_DOMID = 0;

/** Keys of both ends' directories. */
export const VifKey = {
  // Both.
  STATE: "state",
  HANDLE: "handle",
  MAC: "mac",
  MTU: "mtu",
  FEATURE_SG: "feature-sg",
  FEATURE_GSO_TCPV4: "feature-gso-tcpv4",
  FEATURE_GSO_TCPV6: "feature-gso-tcpv6",
  FEATURE_NO_CSUM_OFFLOAD: "feature-no-csum-offload",
  FEATURE_IPV6_CSUM_OFFLOAD: "feature-ipv6-csum-offload",
  // The frontend's, put there by the toolstack.
  BACKEND: "backend",
  BACKEND_ID: "backend-id",
  TRUSTED: "trusted",
  // The frontend's: rings and events, in its directory or in queue-N.
  TX_RING_REF: "tx-ring-ref",
  RX_RING_REF: "rx-ring-ref",
  EVENT_CHANNEL: "event-channel",
  EVENT_CHANNEL_TX: "event-channel-tx",
  EVENT_CHANNEL_RX: "event-channel-rx",
  CTRL_RING_REF: "ctrl-ring-ref",
  EVENT_CHANNEL_CTRL: "event-channel-ctrl",
  MULTI_QUEUE_NUM_QUEUES: "multi-queue-num-queues",
  REQUEST_RX_COPY: "request-rx-copy",
  REQUEST_MULTICAST_CONTROL: "request-multicast-control",
  FEATURE_RX_NOTIFY: "feature-rx-notify",
  // The backend's, put there by the toolstack.
  FRONTEND: "frontend",
  FRONTEND_ID: "frontend-id",
  ONLINE: "online",
  BRIDGE: "bridge",
  SCRIPT: "script",
  RATE: "rate",
  HOTPLUG_STATUS: "hotplug-status",
  CARRIER: "carrier",
  // The backend's: the features that it offers.
  FEATURE_RX_COPY: "feature-rx-copy",
  FEATURE_RX_FLIP: "feature-rx-flip",
  FEATURE_SPLIT_EVENT_CHANNELS: "feature-split-event-channels",
  FEATURE_MULTICAST_CONTROL: "feature-multicast-control",
  FEATURE_DYNAMIC_MULTICAST_CONTROL: "feature-dynamic-multicast-control",
  FEATURE_CTRL_RING: "feature-ctrl-ring",
  MULTI_QUEUE_MAX_QUEUES: "multi-queue-max-queues",
} as const;
export type VifKey = (typeof VifKey)[keyof typeof VifKey];

/** The frontend's directory of its first device, from the domain's own. */
export const VIF_NODE = "device/vif/0";

/** The frontend's directory of device `handle` of domain `domid`. */
export const frontendPath = (domid: number, handle: number): string =>
  `${domainPath(domid)}/device/vif/${handle}`;

/** The backend's directory of the same device. */
export const backendPath = (domid: number, handle: number): string =>
  `${domainPath(BACKEND_DOMID)}/backend/vif/${domid}/${handle}`;

/** The directory of one queue inside the frontend's, when there are two or more; from 0. */
export const queueName = (queue: number): string => `queue-${queue}`;
