/**
 * The lifecycle of an interface: attach, up, down, suspend, loss and return of the link, detach.
 *
 *   ours     Initialising ──(theirs InitWait)──► rings, keys ──► Connected ──► Closing ──► Closed
 *   theirs   InitWait ────────────────────────────────────────► Connected ──► Closing ──► Closed
 *
 *                    suspend                      linkBack
 *   connected ──────────────► quiet ──► linkLost ──────────► connected, announced
 *       └──── linkLost ───────────────────▲
 *
 * One async lock replaces the original's sx lock: steps that await run one at a time. linkLost does
 * not wait for the lock. It increments the generation and frees everything at once. The step that
 * holds the lock notices the new generation at its next check and stops.
 *
 * After netfront_attach, netfront_backend_changed, xn_connect, netfront_suspend, netfront_resume and
 * netfront_detach (freebsd-src: sys/dev/xen/netfront/netfront.c).
 */

import { Hypercall } from "../../shared/xen/hypercall.ts";
import { SchedOp, ShutdownReason, schedShutdown } from "../../shared/xen/sched.ts";
import { XenbusState } from "../../shared/xen/xenbus.ts";
import { XenstoreError } from "../../shared/xen/xenstore.ts";
import { Errno } from "../bus/errno.ts";
import { HypercallError } from "../bus/hypervisor.ts";
import { Abandoned, DriverError } from "../driver-error.ts";
import { selfAnnouncement } from "../net/announce.ts";
import { Iff } from "../net/ifnet.ts";
import { Mbuf } from "../net/mbuf.ts";
import { MIN_MTU, needMtu, queryFeatures, readDescription, talkToBackend } from "./control.ts";
import { poll } from "./datapath.ts";
import { allocRxBuffers, rebuildRxBufs } from "./datapath-rx.ts";
import { txIdle } from "./datapath-tx.ts";
import type { NetfrontInfo } from "./info.ts";
import { Shortage } from "./memory.ts";
import { flush } from "./notify.ts";
import { disconnectQueues, dropKept } from "./queues.ts";

const S = XenbusState;
/** Key by which the toolstack requests a suspend, relative to the domain's own directory. */
const SHUTDOWN_KEY = "control/shutdown";
/** Time (ms) to wait in a suspend for the responses to packets sent before. */
const DRAIN_MS = 1000;
const DRAIN_POLL_MS = 5;
/** Time (ms) that a detach waits for the backend. */
const DETACH_MS = 1000;
/** Maximum number of ticks between attempts to resume. */
const MAX_RETRY_TICKS = 32;
/** Renewed offers of a backend that are accepted between two ticks. Others wait for the tick. */
const OFFERS_PER_TICK = 8;
/** Number of announcements after a reconnect: one less than QEMU's self-announcement sends. */
const ANNOUNCEMENTS = 3;

// Connecting.

/** netfront_attach: resolves when the backend is connected. Rejects: DriverError, Abandoned. */
export async function attach(info: NetfrontInfo): Promise<void> {
  if (info.attached) throw new Error("xen: attached twice");
  try {
    await bringUp(info);
    info.attached = true;
  } catch (error) {
    disconnectBackend(info, false);
    throw explain(error);
  }
}

/** Connects from the start: finds the backend, reads the description, then does the handshake. */
async function bringUp(info: NetfrontInfo): Promise<void> {
  const { generation, xenbus } = info;
  await watchShutdown(info);
  info.check(generation);
  await xenbus.findOtherend();
  info.check(generation);
  await readDescription(info);
  info.check(generation);
  needMtu(info, info.describedMtu);
  await handshake(info);
}

/** Brings both ends from Initialising to Connected. */
async function handshake(info: NetfrontInfo): Promise<void> {
  const { generation, xenbus } = info;
  await xenbus.set(S.INITIALISING);
  info.check(generation);
  await reach(info, S.INIT_WAIT, "offer a connection");
  await connect(info);
  info.check(generation);
  await xenbus.set(S.CONNECTED);
  info.check(generation);
  kickRings(info);
  await reach(info, S.CONNECTED, "connect");
  info.check(generation);
  info.stats.connects++;
  info.retryTicks = 0;
  info.retryBackoff = 1;
  if (info.connectedBefore) info.announceLeft = ANNOUNCEMENTS;
  info.connectedBefore = true;
  announce(info);
}

/** Waits until the backend is in `state`. Rejects with DriverError if it closes or times out. */
async function reach(info: NetfrontInfo, state: XenbusState, what: string): Promise<void> {
  const { xenbus, generation } = info;
  const closing = state === S.CONNECTED ? [S.CLOSING, S.CLOSED] : [];
  const reached = await xenbus.until([state, ...closing], info.connectMs);
  info.check(generation);
  if (reached === state) return;
  const now = STATE_NAMES[xenbus.otherend];
  const text = `the backend did not ${what}: its state is ${now}`;
  throw new DriverError("BACKEND", Errno.ETIMEDOUT, text);
}

const STATE_NAMES = [
  "Unknown",
  "Initialising",
  "InitWait",
  "Initialised",
  "Connected",
  "Closing",
  "Closed",
  "Reconfiguring",
  "Reconfigured",
] as const;

/** xn_connect: sets up rings, features, receive buffers and carrier. */
async function connect(info: NetfrontInfo): Promise<void> {
  const { generation } = info;
  await talkToBackend(info);
  info.check(generation);
  await queryFeatures(info);
  info.check(generation);
  needMtu(info, info.maxMtu);
  info.broken = undefined;
  info.suspended = false;
  const kept = info.kept;
  info.kept = [];
  for (const rxq of info.rxqs) {
    const buffers = kept[rxq.id];
    if (buffers === undefined) continue;
    kept[rxq.id] = [];
    rebuildRxBufs(info, rxq, buffers);
  }
  // Frees the buffers of queues that no longer exist.
  for (const buffers of kept) for (const m of buffers ?? []) m.free();
  info.setCarrier(true);
}

/**
 * xn_kick_rings: polls and fills every ring once, then wakes waiting sources. Call only after the
 * state is Connected: until then the backend keeps no pushed bytes.
 */
function kickRings(info: NetfrontInfo): void {
  if (!info.carrier) return;
  poll(info);
  for (const rxq of info.rxqs) allocRxBuffers(info, rxq);
  for (const txq of info.txqs) if (txq.port !== 0) info.events.notify(txq.port);
  flush(info);
  info.gate.ready();
}

/** Sends one of the remaining announcements, from which switches learn where the NIC is. */
export function announce(info: NetfrontInfo): void {
  if (info.announceLeft === 0 || !info.carrier || info.suspended) return;
  info.announceLeft--;
  const bytes = selfAnnouncement(info.ifnet.mac);
  const m = new Mbuf();
  m.attach(bytes, 0, bytes.length, undefined);
  if (info.running) info.stats.announcements += info.gate.sendOwn([m], 1);
}

/** Handles a change of the other end's state. The caller holds the lock. */
export async function backendChanged(info: NetfrontInfo): Promise<void> {
  const { xenbus } = info;
  if (!info.attached) return;
  switch (xenbus.otherend) {
    case S.CLOSING:
    case S.CLOSED:
    case S.UNKNOWN: {
      if (xenbus.state === S.CLOSED) return;
      // Unknown: its domain or its directory is gone. A new one may be created there.
      const what = xenbus.otherend === S.UNKNOWN ? "is gone" : "closed the NIC";
      info.log.warn({}, `the backend ${what}`);
      disconnectBackend(info, true);
      await xenbus.set(S.CLOSED);
      return;
    }
    case S.INIT_WAIT:
    case S.INITIALISING:
      // The backend offers a connection again after it was closed.
      if (xenbus.state !== S.CLOSED) return;
      if (info.offersTaken++ < OFFERS_PER_TICK) await reconnect(info);
      else info.retryTicks ||= 1;
      return;
    default:
      return;
  }
}

/** Connects to the same backend again. Logs a failure, and retries it if it may be temporary. */
async function reconnect(info: NetfrontInfo): Promise<void> {
  const { generation } = info;
  try {
    await handshake(info);
  } catch (error) {
    if (error instanceof Abandoned || info.generation !== generation) return;
    resumeFailed(info, explain(error));
  }
}

/** netif_disconnect_backend: stops all traffic, ends all grants. `keep`: keep receive buffers. */
export function disconnectBackend(info: NetfrontInfo, keep: boolean): void {
  if (info.carrier || info.rxqs.length > 0) info.stats.disconnects++;
  info.setCarrier(false);
  const stats = info.txqs.map((txq) => txq.stats);
  const dropped = disconnectQueues(info, keep);
  if (!keep) dropKept(info);
  if (stats[0] !== undefined) stats[0].dropped_link += dropped;
  info.ifnet.counters.oqdrops += dropped;
  flush(info);
}

// Up and down.

/** xn_ifinit_locked */
export function up(info: NetfrontInfo): void {
  const { ifnet } = info;
  ifnet.flags = (ifnet.flags | Iff.UP | Iff.DRV_RUNNING) & ~Iff.DRV_OACTIVE;
  for (const rxq of info.rxqs) allocRxBuffers(info, rxq);
  if (info.carrier) flush(info);
  info.gate.ready();
}

/** xn_stop: the rings stay connected. Packets that still come are dropped and counted. */
export function down(info: NetfrontInfo): void {
  const { ifnet } = info;
  ifnet.flags &= ~(Iff.UP | Iff.DRV_RUNNING);
}

/** Sets the MTU and returns 0, or returns an errno and changes nothing. */
export function changeMtu(info: NetfrontInfo, mtu: number): number {
  if (!Number.isInteger(mtu) || mtu < MIN_MTU || mtu > info.maxMtu) return Errno.EINVAL;
  info.ifnet.mtu = mtu;
  return 0;
}

// Suspend and resume.

async function watchShutdown(info: NetfrontInfo): Promise<void> {
  const { generation, store } = info;
  const asked = info.lock.coalesced(() => shutdownAsked(info, generation), passing);
  await store.watch(SHUTDOWN_KEY, asked);
}

/** Handles a request of the toolstack in control/shutdown. The caller holds the lock. */
async function shutdownAsked(info: NetfrontInfo, generation: number): Promise<void> {
  if (info.generation !== generation || !info.attached) return;
  const asked = await info.store.readOptional(SHUTDOWN_KEY);
  info.check(generation);
  if (asked === undefined || asked === "") return;
  if (asked !== "suspend") {
    info.log.warn({ asked }, "the toolstack asks for what a NIC can't do");
    return;
  }
  await info.store.write(SHUTDOWN_KEY, "");
  info.check(generation);
  await suspend(info);
  info.check(generation);
  const bytes = new Uint8Array(schedShutdown.size);
  schedShutdown.write(new DataView(bytes.buffer), 0, { reason: ShutdownReason.SUSPEND });
  try {
    await info.ctx.hypervisor.hypercall(Hypercall.SCHED_OP, SchedOp.SHUTDOWN, bytes);
  } catch (error) {
    if (!(error instanceof HypercallError)) throw error;
    info.check(generation);
    info.log.warn({ errno: error.errno }, "the suspend was cancelled");
    resumeCancelled(info);
  }
}

/** netfront_suspend: stops sending, then waits up to DRAIN_MS for the outstanding responses. */
export async function suspend(info: NetfrontInfo): Promise<void> {
  if (info.suspended) return;
  const { generation } = info;
  info.suspended = true;
  info.stats.suspends++;
  if (!info.carrier) return;
  for (
    let waited = 0;
    waited < DRAIN_MS && info.carrier && !txIdle(info);
    waited += DRAIN_POLL_MS
  ) {
    await new Promise<void>((resolve) => info.ctx.clock.setTimeout(resolve, DRAIN_POLL_MS));
    if (info.generation !== generation) return;
  }
  info.setCarrier(false);
}

/** Continues after a cancelled suspend: the rings are unchanged. */
function resumeCancelled(info: NetfrontInfo): void {
  info.suspended = false;
  if (info.rxqs.length === 0 || info.broken !== undefined) return;
  info.setCarrier(true);
  kickRings(info);
}

/**
 * Handles the loss of the link. The hypervisor has forgotten this domain, so all granted memory
 * belongs to the driver again. Receive buffers are kept for the next ring.
 */
export function linkLost(info: NetfrontInfo): void {
  info.generation++;
  info.stats.link_losses++;
  info.store.linkGone("the link is gone");
  info.xenbus.abandon("the link is gone");
  info.events.linkGone();
  // This comes before any unload, because no use outlives the link.
  info.grants.linkGone();
  disconnectBackend(info, true);
  info.xenbus.state = S.UNKNOWN;
  info.suspended = false;
  info.retryTicks = 0;
}

/**
 * netfront_resume: connects the same NIC again, on this device or another, perhaps as another
 * domain. The caller holds the lock. Logs a failure, and retries it if it may be temporary. Rejects
 * only for bugs of this program.
 */
export async function resume(info: NetfrontInfo): Promise<void> {
  info.stats.resumes++;
  info.grants.resume();
  await tryResume(info);
}

/** As `resume`, for another attempt on the same link. */
export async function tryResume(info: NetfrontInfo): Promise<void> {
  const { generation } = info;
  try {
    info.store.abandon("starting over");
    info.xenbus.abandon("starting over");
    await info.store.resetWatches();
    await bringUp(info);
  } catch (error) {
    if (error instanceof Abandoned || info.generation !== generation) return;
    resumeFailed(info, explain(error));
  }
}

function resumeFailed(info: NetfrontInfo, error: Error): void {
  if (!(error instanceof DriverError)) throw error;
  info.stats.resume_failures++;
  disconnectBackend(info, true);
  const final = error.code === "MAC_CHANGED" || error.code === "MTU";
  const then = final ? "the interface stays down" : "it is tried again";
  info.log.error({ code: error.code, errno: error.errno }, `${error.message}; ${then}`);
  if (final) return;
  info.retryTicks = info.retryBackoff;
  info.retryBackoff = Math.min(info.retryBackoff * 2, MAX_RETRY_TICKS);
}

// The end.

/**
 * netfront_detach: closes the connection and waits for the backend before the pages are freed. The
 * caller holds the lock.
 */
export async function detach(info: NetfrontInfo): Promise<void> {
  info.ifnet.flags &= ~(Iff.UP | Iff.DRV_RUNNING);
  if (!info.attached) return;
  const { xenbus } = info;
  await suspend(info);
  const { generation } = info;
  info.attached = false;
  info.retryTicks = 0;
  try {
    if (info.ctx.hypervisor.attached && xenbus.state !== S.UNKNOWN) {
      await xenbus.set(S.CLOSING);
      await xenbus.until([S.CLOSING, S.CLOSED, S.UNKNOWN], DETACH_MS);
      info.check(generation);
      disconnectBackend(info, false);
      await xenbus.set(S.CLOSED);
    }
  } catch (error) {
    if (!(error instanceof Abandoned || error instanceof XenstoreError)) throw error;
  } finally {
    info.generation++;
    disconnectBackend(info, false);
    info.store.abandon("the driver detaches");
    info.xenbus.abandon("the driver detaches");
    info.events.linkGone();
  }
}

/** Converts an error that the peer or a shortage can cause to a DriverError; returns any other. */
function explain(error: unknown): Error {
  if (error instanceof DriverError || error instanceof Abandoned) return error;
  if (error instanceof XenstoreError) return new DriverError("XENSTORE", Errno.EIO, error.message);
  if (error instanceof HypercallError)
    return new DriverError("HYPERCALL", Errno.EIO, error.message);
  if (error instanceof Shortage) return new DriverError("NO_MEMORY", Errno.ENOMEM, error.message);
  return error instanceof Error ? error : new Error(String(error));
}

/**
 * Handles the error of a step without a waiting caller. Ignores the loss of the backend; throws any
 * other error as uncaught.
 */
export function passing(error: unknown): void {
  if (error instanceof Abandoned || error instanceof XenstoreError) return;
  setImmediate(() => {
    throw error;
  });
}
