/**
 * grant_table_op of a guest: size and version of its own table, and operations on grants.
 *
 * Nobody grants memory to a guest here: the backend's domain grants none, and guests can't reach
 * each other's memory. So `map`, `unmap` and `copy` answer as Xen does without a grant, for each
 * structure separately. The pages of the table are in the guest, so lists of frames are not filled
 * in.
 *
 * Source: xen: xen/common/grant_table.c, do_grant_table_op.
 */
import { Gntst, GRANT_ENTRY_V1_SIZE, GRANT_PAGE_BYTES } from "../../shared/xen/grant.ts";
import {
  GntCopy,
  GntMap,
  GnttabOp,
  gnttabCopy,
  gnttabGetStatusFrames,
  gnttabGetVersion,
  gnttabMapGrantRef,
  gnttabQuerySize,
  gnttabSetupTable,
  gnttabSetVersion,
  gnttabUnmapGrantRef,
} from "../../shared/xen/grant-ops.ts";
import { Domid, XenErrno } from "../../shared/xen/hypercall.ts";
import { cutOff, wrongLength } from "./call-arguments.ts";
import type { GrantTable } from "./grant-table.ts";

type GrantTables = (domid: number) => GrantTable | undefined;

const DOMAIN_0 = 0;
/** Size of any other domain's table, as a guest sees it: one page without a grant for the guest. */
const FOREIGN_REFERENCES = GRANT_PAGE_BYTES / GRANT_ENTRY_V1_SIZE;

/** The caller, and the live domains. */
class Caller {
  readonly domid: number;
  readonly table: GrantTable;
  readonly #tables: GrantTables;

  constructor(domid: number, table: GrantTable, tables: GrantTables) {
    this.domid = domid;
    this.table = table;
    this.#tables = tables;
  }

  isSelf(dom: number): boolean {
    return dom === Domid.SELF || dom === this.domid;
  }

  exists(dom: number): boolean {
    return dom === DOMAIN_0 || this.#tables(dom) !== undefined;
  }

  /** Status for a call about the table of `dom`: a guest may manage its own table only. */
  manages(dom: number): number {
    if (this.isSelf(dom)) return Gntst.OKAY;
    return this.exists(dom) ? Gntst.PERMISSION_DENIED : Gntst.BAD_DOMAIN;
  }
}

/** A reference that is not granted to the caller. */
function notGranted(reference: number): number {
  return reference < FOREIGN_REFERENCES ? Gntst.GENERAL_ERROR : Gntst.BAD_GNTREF;
}

function map(caller: Caller, view: DataView, at: number): void {
  const { flags, ref, dom } = gnttabMapGrantRef.parse(view, at);
  let status: number;
  if ((flags & (GntMap.DEVICE_MAP | GntMap.HOST_MAP)) === 0) status = Gntst.BAD_GNTREF;
  else if (!caller.exists(dom)) status = Gntst.BAD_DOMAIN;
  else status = notGranted(ref);
  gnttabMapGrantRef.patch(view, at, { status });
}

function unmap(_caller: Caller, view: DataView, at: number): void {
  gnttabUnmapGrantRef.patch(view, at, { status: Gntst.BAD_HANDLE });
}

function copy(caller: Caller, view: DataView, at: number): void {
  gnttabCopy.patch(view, at, { status: copyStatus(caller, view, at) });
}

/** Checks in Xen's order: length, both domains, source, destination. */
function copyStatus(caller: Caller, view: DataView, at: number): number {
  const op = gnttabCopy.parse(view, at);
  if (op.len === 0) return Gntst.OKAY;
  const fromGrant = (op.flags & GntCopy.SOURCE_GREF) !== 0;
  const toGrant = (op.flags & GntCopy.DEST_GREF) !== 0;
  const source = copyDomain(caller, op.sourceDomid, fromGrant);
  if (source !== Gntst.OKAY) return source;
  const dest = copyDomain(caller, op.destDomid, toGrant);
  if (dest !== Gntst.OKAY) return dest;
  if (fromGrant) return notGranted(op.sourceRef);
  if (toGrant) return notGranted(op.destRef);
  // A copy between two frames of the guest itself: the guest can do that in its own memory.
  return Gntst.GENERAL_ERROR;
}

function copyDomain(caller: Caller, dom: number, byGrant: boolean): number {
  if (!byGrant && dom !== Domid.SELF) return Gntst.PERMISSION_DENIED;
  return caller.isSelf(dom) || caller.exists(dom) ? Gntst.OKAY : Gntst.BAD_DOMAIN;
}

function setupTable(caller: Caller, view: DataView): number {
  const { dom, nrFrames } = gnttabSetupTable.parse(view, 0);
  let status = caller.manages(dom);
  if (status === Gntst.OKAY && !caller.table.setup(nrFrames)) status = Gntst.GENERAL_ERROR;
  gnttabSetupTable.patch(view, 0, { status });
  return 0;
}

function querySize(caller: Caller, view: DataView): number {
  const status = caller.manages(gnttabQuerySize.parse(view, 0).dom);
  if (status !== Gntst.OKAY) {
    gnttabQuerySize.patch(view, 0, { status });
    return 0;
  }
  const { frames, maxFrames } = caller.table;
  gnttabQuerySize.patch(view, 0, { nrFrames: frames, maxNrFrames: maxFrames, status });
  return 0;
}

/** Writes back the version in force, also when it refuses the change. */
function setVersion(caller: Caller, view: DataView): number {
  const errno = Math.abs(caller.table.setVersion(gnttabSetVersion.parse(view, 0).version));
  gnttabSetVersion.patch(view, 0, { version: caller.table.version });
  return errno;
}

function getVersion(caller: Caller, view: DataView): number {
  const { dom } = gnttabGetVersion.parse(view, 0);
  if (!caller.isSelf(dom)) return caller.exists(dom) ? XenErrno.EPERM : XenErrno.ESRCH;
  gnttabGetVersion.patch(view, 0, { version: caller.table.version });
  return 0;
}

function getStatusFrames(caller: Caller, view: DataView): number {
  const { dom, nrFrames } = gnttabGetStatusFrames.parse(view, 0);
  let status = caller.manages(dom);
  if (status === Gntst.OKAY && nrFrames > caller.table.statusFrames) status = Gntst.GENERAL_ERROR;
  gnttabGetStatusFrames.patch(view, 0, { status });
  return 0;
}

/** Handles the structures one by one, each with its own status. */
interface BatchOp {
  readonly size: number;
  readonly each: (caller: Caller, view: DataView, at: number) => void;
}
const BATCHES: Readonly<Record<number, BatchOp>> = {
  [GnttabOp.MAP_GRANT_REF]: { size: gnttabMapGrantRef.size, each: map },
  [GnttabOp.UNMAP_GRANT_REF]: { size: gnttabUnmapGrantRef.size, each: unmap },
  [GnttabOp.COPY]: { size: gnttabCopy.size, each: copy },
};

/** Handles one structure. Returns a positive errno or 0. */
interface SingleOp {
  readonly size: number;
  readonly call: (caller: Caller, view: DataView) => number;
}
const SINGLES: Readonly<Record<number, SingleOp>> = {
  [GnttabOp.SETUP_TABLE]: { size: gnttabSetupTable.size, call: setupTable },
  [GnttabOp.QUERY_SIZE]: { size: gnttabQuerySize.size, call: querySize },
  [GnttabOp.SET_VERSION]: { size: gnttabSetVersion.size, call: setVersion },
  [GnttabOp.GET_VERSION]: { size: gnttabGetVersion.size, call: getVersion },
  [GnttabOp.GET_STATUS_FRAMES]: { size: gnttabGetStatusFrames.size, call: getStatusFrames },
};

/** Returns the positive errno of the call, or 0. Writes the OUT fields of the structures in `view`. */
export function grantCall(
  tables: GrantTables,
  domid: number,
  command: number,
  view: DataView,
): number {
  const table = tables(domid);
  if (table === undefined) return XenErrno.ESRCH;
  const caller = new Caller(domid, table, tables);

  const single = SINGLES[command];
  if (single !== undefined) {
    const wrong = wrongLength(view, single.size);
    return wrong !== 0 ? wrong : single.call(caller, view);
  }
  const batch = BATCHES[command];
  if (batch !== undefined) {
    const wrong = cutOff(view, batch.size);
    if (wrong !== 0) return wrong;
    for (let at = 0; at < view.byteLength; at += batch.size) batch.each(caller, view, at);
    return 0;
  }
  // Pages can't move between guests over a wire. Xen with transfers disabled answers the same.
  return command === GnttabOp.TRANSFER ? XenErrno.EOPNOTSUPP : XenErrno.ENOSYS;
}
