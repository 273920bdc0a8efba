/**
 * Permissions of a node: a list of entries. The first entry names the owner, and gives the access of
 * all domains that are not listed. Each further entry gives the access of one domain.
 *
 *   n1 r2 b3     owned by domain 1; 2 may read, 3 may read and write, all others nothing
 *
 * The owner and the privileged domain may do everything.
 *
 * Source: xen: docs/misc/xenstore.txt, SET_PERMS.
 */

import { XenstoreError } from "../../../shared/xen/xenstore.ts";

export const Access = { NONE: 0, READ: 1, WRITE: 2, BOTH: 3 } as const;
export type Access = (typeof Access)[keyof typeof Access];

export interface Permission {
  readonly domid: number;
  readonly access: Access;
}

export type Permissions = readonly [Permission, ...Permission[]];

/** The domain of the toolstack and the backends. Permissions and quotas do not apply to it. */
export const PRIVILEGED = 0;

const LETTERS = "nrwb";
const TEXT = /^([nrwb])(\d{1,5})$/;
/** Domain ids from here on are reserved. Source: xen: xen.h, DOMID_FIRST_RESERVED. */
const DOMID_FIRST_RESERVED = 0x7ff0;

export function ownerOf(permissions: Permissions): number {
  return permissions[0].domid;
}

/** The access of `domid`, as bits of Access. */
export function accessOf(domid: number, permissions: Permissions): number {
  if (domid === PRIVILEGED || domid === ownerOf(permissions)) return Access.BOTH;
  for (let i = 1; i < permissions.length; i++) {
    if (permissions[i]!.domid === domid) return permissions[i]!.access;
  }
  return permissions[0].access;
}

/** A domain id in decimal. Throws EINVAL. */
export function parseDomid(text: string): number {
  const domid = /^\d{1,5}$/.test(text) ? Number(text) : DOMID_FIRST_RESERVED;
  if (domid >= DOMID_FIRST_RESERVED) throw new XenstoreError("EINVAL", "not a domain id");
  return domid;
}

/** Throws EINVAL when there is no entry, or one that is not a letter and a domain id. */
export function parsePermissions(texts: readonly string[]): Permissions {
  const parsed = texts.map((text): Permission => {
    const match = TEXT.exec(text);
    if (match === null)
      throw new XenstoreError("EINVAL", "a permission is n, r, w or b and a domid");
    return { access: LETTERS.indexOf(match[1]!) as Access, domid: parseDomid(match[2]!) };
  });
  const [owner, ...others] = parsed;
  if (owner === undefined) throw new XenstoreError("EINVAL", "a node has an owner");
  return [owner, ...others];
}

export function formatPermissions(permissions: Permissions): string[] {
  return permissions.map(({ access, domid }) => `${LETTERS[access]}${domid}`);
}

/** The list without `domid`. The owner stays. */
export function withoutDomain(permissions: Permissions, domid: number): Permissions {
  const [owner, ...others] = permissions;
  return [owner, ...others.filter((entry) => entry.domid !== domid)];
}
