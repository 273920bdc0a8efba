/**
 * event_channel_op: its numbers and argument structures.
 *
 * Source: xen: xen/include/public/event_channel.h. OUT marks the fields that the
 * hypervisor writes. It uses `patch`, so that the guest's own words stay.
 */
import { struct, u16, u32 } from "../bytes/struct.ts";

/** Ports of a domain in the 2-level ABI of 64-bit guests. Port 0 is never allocated. */
export const EVTCHN_2L_NR_CHANNELS = 4096;
/** Ports of a domain in the FIFO ABI. */
export const EVTCHN_FIFO_NR_CHANNELS = 1 << 17;

export const EvtchnOp = {
  BIND_INTERDOMAIN: 0,
  BIND_VIRQ: 1,
  BIND_PIRQ: 2,
  CLOSE: 3,
  SEND: 4,
  STATUS: 5,
  ALLOC_UNBOUND: 6,
  BIND_IPI: 7,
  BIND_VCPU: 8,
  UNMASK: 9,
  RESET: 10,
  INIT_CONTROL: 11,
  EXPAND_ARRAY: 12,
  SET_PRIORITY: 13,
} as const;
export type EvtchnOp = (typeof EvtchnOp)[keyof typeof EvtchnOp];

export const EvtchnStatus = {
  CLOSED: 0,
  UNBOUND: 1,
  INTERDOMAIN: 2,
  PIRQ: 3,
  VIRQ: 4,
  IPI: 5,
} as const;
export type EvtchnStatus = (typeof EvtchnStatus)[keyof typeof EvtchnStatus];

// evtchn_alloc_unbound: 8 bytes
//   0     2            4      8
//   | dom | remote dom | port |     OUT port
export const evtchnAllocUnbound = struct(8, { dom: u16(0), remoteDom: u16(2), port: u32(4) });

// evtchn_bind_interdomain: 12 bytes
//   0            2   4             8            12
//   | remote dom | - | remote port | local port |     OUT local port
export const evtchnBindInterdomain = struct(12, {
  remoteDom: u16(0),
  remotePort: u32(4),
  localPort: u32(8),
});

/** evtchn_close, 4 bytes. */
export const evtchnClose = struct(4, { port: u32(0) });
/** evtchn_send, 4 bytes. */
export const evtchnSend = struct(4, { port: u32(0) });
/** evtchn_unmask, 4 bytes. */
export const evtchnUnmask = struct(4, { port: u32(0) });

// evtchn_status: 24 bytes
//   0     2   4      8        12     16           18  20            24
//   | dom | - | port | status | vcpu | remote dom | - | remote port |     OUT status and on
/** remoteDom counts for UNBOUND and INTERDOMAIN, remotePort for INTERDOMAIN. */
export const evtchnStatus = struct(24, {
  dom: u16(0),
  port: u32(4),
  status: u32(8),
  vcpu: u32(12),
  remoteDom: u16(16),
  remotePort: u32(20),
});

// evtchn_bind_vcpu: 8 bytes
export const evtchnBindVcpu = struct(8, { port: u32(0), vcpu: u32(4) });

// evtchn_reset: 2 bytes
export const evtchnReset = struct(2, { dom: u16(0) });
