/**
 * Native netmap support: the interface becomes known to netmap, and rings change between mbufs and
 * slots as ports are opened and closed.
 *
 *   netmapAttach ──► Netmap.attach({ register, txsync, rxsync, config })
 *   open, close  ──► register: down (buffers return to where they came from), modes, up
 *   traffic      ──► netmap-rx.ts, netmap-tx.ts       which ring is in which mode: netmap-mode.ts
 *
 * Down before the modes change is what keeps buffers: rings give back what they hold while they
 * still know whose it is. After ena_netmap_attach and ena_netmap_reg (amzn-drivers:
 * kernel/fbsd/ena/ena_netmap.c).
 */

import { ResetReason } from "../../shared/ena/registers.ts";
import { L2_BYTES } from "../../shared/net/ethernet.ts";
import { Errno } from "../bus/errno.ts";
import { Abandoned } from "../driver-error.ts";
import { Ifcap, Iff } from "../net/ifnet.ts";
import type { NativeAdapter, NmConfig } from "../netmap/adapter.ts";
import { Naf, RingMode, Txrx } from "../netmap/flags.ts";
import type { Kring } from "../netmap/kring.ts";
import type { Netmap } from "../netmap/netmap.ts";
import type { Adapter } from "./adapter.ts";
import { down, resetTask, up } from "./lifecycle.ts";
import { EnaNetmap } from "./netmap-mode.ts";
import { rxsync } from "./netmap-rx.ts";
import { txsync } from "./netmap-tx.ts";

/** ena_netmap_attach, once the device has told its queues. Throws NetmapError. */
export function netmapAttach(adapter: Adapter, netmap: Netmap): void {
  const state: EnaNetmap = new EnaNetmap(
    netmap.attach({
      ifnet: adapter.ifnet,
      flags: Naf.MOREFRAG,
      ...sizes(adapter),
      rxBufMaxsize: netmap.memory.bufSize,
      register: (_na, on) => adapter.lock.run(() => register(adapter, on)),
      txsync: (kring) => txsync(adapter, state, kring),
      rxsync: (kring) => rxsync(adapter, kring),
      config: (port) => config(adapter, port),
    }),
  );
  adapter.ifnet.capabilities |= Ifcap.NETMAP;
  adapter.netmap = state;
}

/** The driver goes: open ports show errors from here on. The interface is down. */
export function netmapDetach(adapter: Adapter, netmap: Netmap): void {
  if (adapter.netmap === undefined) return;
  netmap.detach(adapter.netmap.na);
  netmap.removeInterface(adapter.ifnet);
  adapter.netmap = undefined;
  adapter.ifnet.capabilities &= ~Ifcap.NETMAP;
}

function sizes(adapter: Adapter): Omit<NmConfig, "rxBufMaxsize"> {
  return {
    numTxRings: adapter.numQueues,
    numRxRings: adapter.numQueues,
    numTxDesc: adapter.requestedTxRingSize,
    numRxDesc: adapter.requestedRxRingSize,
  };
}

/**
 * nm_config, which stands for ena_reinit_netmap: another device may offer other queues, and the next
 * first opening sees them. A port that is open keeps its rings; those without a queue rest.
 *
 * The device fills a buffer to its end, whatever the MTU. The original says a ring length here,
 * which refuses MTUs that would work.
 */
function config(adapter: Adapter, na: NativeAdapter): NmConfig {
  return { ...sizes(adapter), rxBufMaxsize: na.memory.bufSize };
}

/** ena_netmap_reg, behind the interface's lock. 0 or an errno, and then no ring has changed. */
async function register(adapter: Adapter, on: boolean): Promise<number> {
  const na = adapter.netmap?.na;
  if (na === undefined) return Errno.ENXIO;
  const mostBytes = adapter.maxRxSgl * na.memory.bufSize;
  if (on && adapter.ifnet.mtu + L2_BYTES > mostBytes) return Errno.EINVAL;
  // A device that waits for its reset takes no commands, and the reset is not forgotten.
  await resetTask(adapter);
  await unlessLinkLost(down(adapter));
  const changed = on ? modesOn(adapter, na) : modesOff(na);
  const errno = await bringUp(adapter);
  if (errno === 0 || !on) return 0;
  // Netmap hears that it failed: nothing may stay in a mode that nobody asked for.
  for (const kring of changed) kring.nrMode = RingMode.OFF;
  na.clearNativeFlags();
  await resetTask(adapter);
  return errno;
}

/** Returns the krings that went into netmap mode. */
function modesOn(adapter: Adapter, na: NativeAdapter): readonly Kring[] {
  const changed = [...na.rxRings, ...na.txRings].filter((kring) => kring.isPendingOn);
  for (const kring of changed) {
    if (kring.tx === Txrx.RX) forgetUnread(kring);
    else if (adapter.netmap !== undefined) adapter.netmap.txDropping[kring.ringId] = false;
  }
  na.modeCommit(true);
  na.setNativeFlags();
  return changed;
}

/** A ring that is opened again is made anew: what its last user left unread is not in it. */
function forgetUnread(kring: Kring): void {
  kring.nrHwcur = kring.rhead;
  kring.nrHwtail = kring.rhead;
  kring.rtail = kring.rhead;
  if (kring.ring !== undefined) kring.ring.tail = kring.rhead;
}

function modesOff(na: NativeAdapter): readonly Kring[] {
  na.clearNativeFlags();
  na.modeCommit(false);
  return [];
}

/** Up again, where there is a device and somebody wants it up. A device that refuses gets reset. */
async function bringUp(adapter: Adapter): Promise<number> {
  if (!adapter.deviceRunning || adapter.triggerReset) return 0;
  if ((adapter.ifnet.flags & Iff.UP) === 0) return 0;
  const errno = await unlessLinkLost(up(adapter));
  if (errno === undefined || errno === 0) return 0;
  adapter.log.error({ errno }, "netmap: the interface can't come up in the new mode");
  adapter.requestReset(ResetReason.DRIVER_INVALID_STATE);
  return errno;
}

/** The device went in the middle: its return brings the interface up, in whatever mode it is then. */
async function unlessLinkLost<T>(step: Promise<T>): Promise<T | undefined> {
  try {
    return await step;
  } catch (error) {
    if (error instanceof Abandoned) return undefined;
    throw error;
  }
}
