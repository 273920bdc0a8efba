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
import type { Parsed } from "../../shared/bytes/struct.ts";
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
import type { GrantTable } from "./grant-table.ts";
import { type Operations, operation, runBatch, runSingle } from "./operation.ts";

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

  /**
   * Status for a call about the table of `dom`: a guest may manage its own table only. `can` says
   * whether the table does what is asked.
   */
  manages(dom: number, can: () => boolean = () => true): number {
    if (this.isSelf(dom)) return can() ? Gntst.OKAY : Gntst.GENERAL_ERROR;
    return this.exists(dom) ? Gntst.PERMISSION_DENIED : Gntst.BAD_DOMAIN;
  }
}

/** A reference that is not granted to the caller. */
function notGranted(reference: number): number {
  return reference < FOREIGN_REFERENCES ? Gntst.GENERAL_ERROR : Gntst.BAD_GNTREF;
}

/** Checks in Xen's order: length, both domains, source, destination. */
function copyStatus(caller: Caller, op: Parsed<typeof gnttabCopy>): number {
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

/** The operations on many structures, each with its own status. */
const BATCHES: Operations<Caller> = {
  [GnttabOp.MAP_GRANT_REF]: operation(gnttabMapGrantRef, (caller, { flags, ref, dom }) => {
    if ((flags & (GntMap.DEVICE_MAP | GntMap.HOST_MAP)) === 0) return { status: Gntst.BAD_GNTREF };
    return { status: caller.exists(dom) ? notGranted(ref) : Gntst.BAD_DOMAIN };
  }),
  [GnttabOp.UNMAP_GRANT_REF]: operation(gnttabUnmapGrantRef, () => ({ status: Gntst.BAD_HANDLE })),
  [GnttabOp.COPY]: operation(gnttabCopy, (caller, given) => ({
    status: copyStatus(caller, given),
  })),
};

/** The operations on one structure. */
const SINGLES: Operations<Caller> = {
  [GnttabOp.SETUP_TABLE]: operation(gnttabSetupTable, (caller, { dom, nrFrames }) => ({
    status: caller.manages(dom, () => caller.table.setup(nrFrames)),
  })),
  [GnttabOp.QUERY_SIZE]: operation(gnttabQuerySize, (caller, { dom }) => {
    const status = caller.manages(dom);
    if (status !== Gntst.OKAY) return { status };
    const { frames, maxFrames } = caller.table;
    return { nrFrames: frames, maxNrFrames: maxFrames, status };
  }),
  [GnttabOp.SET_VERSION]: {
    size: gnttabSetVersion.size,
    run({ table }, view, at) {
      const errno = table.setVersion(gnttabSetVersion.parse(view, at).version);
      // The version in force, also when the change is refused.
      gnttabSetVersion.patch(view, at, { version: table.version });
      return errno;
    },
  },
  [GnttabOp.GET_VERSION]: operation(gnttabGetVersion, (caller, { dom }) => {
    if (caller.isSelf(dom)) return { version: caller.table.version };
    return caller.exists(dom) ? XenErrno.EPERM : XenErrno.ESRCH;
  }),
  [GnttabOp.GET_STATUS_FRAMES]: operation(gnttabGetStatusFrames, (caller, { dom, nrFrames }) => ({
    status: caller.manages(dom, () => nrFrames <= caller.table.statusFrames),
  })),
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
  if (single !== undefined) return runSingle(single, caller, view);
  const batch = BATCHES[command];
  if (batch !== undefined) return runBatch(batch, caller, view);
  // Pages can't move between guests over a wire. Xen with transfers disabled answers the same.
  return command === GnttabOp.TRANSFER ? XenErrno.EOPNOTSUPP : XenErrno.ENOSYS;
}
