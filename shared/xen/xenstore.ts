/**
 * xenstore's wire messages, and the paths and errors that are valid in them.
 *
 * Source: xen: xen/include/public/io/xs_wire.h, docs/misc/xenstore.txt.
 *
 *   0      4        8       12    16
 *   | type | req id | tx id | len | payload, len bytes: strings that each end with a NUL,
 *                                   values without one
 *
 * Text is latin1 here, because xenstore carries octets, and latin1 keeps each of
 * them. No function here throws on a peer's bytes.
 */
import { viewOf } from "../bytes/words.ts";

const LE = true;

export const XS_HEADER_SIZE = 16;
/** Bytes of the longest payload. A longer one ends the connection, in either direction. */
export const XENSTORE_PAYLOAD_MAX = 4096;
/** Bytes of the longest path. A longer one is answered with EINVAL. */
export const XENSTORE_ABS_PATH_MAX = 3072;
export const XENSTORE_REL_PATH_MAX = 2048;

/** enum xsd_sockmsg_type */
export const XsType = {
  CONTROL: 0,
  DIRECTORY: 1,
  READ: 2,
  GET_PERMS: 3,
  WATCH: 4,
  UNWATCH: 5,
  TRANSACTION_START: 6,
  TRANSACTION_END: 7,
  INTRODUCE: 8,
  RELEASE: 9,
  GET_DOMAIN_PATH: 10,
  WRITE: 11,
  MKDIR: 12,
  RM: 13,
  SET_PERMS: 14,
  WATCH_EVENT: 15,
  ERROR: 16,
  IS_DOMAIN_INTRODUCED: 17,
  RESUME: 18,
  SET_TARGET: 19,
  RESET_WATCHES: 21,
  DIRECTORY_PART: 22,
  GET_FEATURE: 23,
  SET_FEATURE: 24,
  GET_QUOTA: 25,
  SET_QUOTA: 26,
  INVALID: 0xffff,
} as const;
export type XsType = (typeof XsType)[keyof typeof XsType];

/** The error names that an ERROR may carry, in the order of the protocol. */
export const XS_ERRORS = [
  "EINVAL",
  "EACCES",
  "EEXIST",
  "EISDIR",
  "ENOENT",
  "ENOMEM",
  "ENOSPC",
  "EIO",
  "ENOTEMPTY",
  "ENOSYS",
  "EROFS",
  "EBUSY",
  "EAGAIN",
  "EISCONN",
  "E2BIG",
  "EPERM",
] as const;
export type XsError = (typeof XS_ERRORS)[number];

/** A request that the store refuses. A guest receives the code alone. */
export class XenstoreError extends Error {
  readonly code: XsError;
  constructor(code: XsError, why: string) {
    super(`${code}: ${why}`);
    this.name = "XenstoreError";
    this.code = code;
  }
}

const TYPE = 0;
const REQ_ID = 4;
const TX_ID = 8;
const LEN = 12;

/** struct xsd_sockmsg; `at` is its first byte. */
export const xsHeader = {
  type: (v: DataView, at: number): number => v.getUint32(at + TYPE, LE),
  /** The request's number, echoed in its reply; 0 in an event. */
  reqId: (v: DataView, at: number): number => v.getUint32(at + REQ_ID, LE),
  /** 0 outside transactions. */
  txId: (v: DataView, at: number): number => v.getUint32(at + TX_ID, LE),
  /** Bytes of payload behind the header. */
  len: (v: DataView, at: number): number => v.getUint32(at + LEN, LE),

  /** All 16 bytes. */
  write(v: DataView, at: number, type: number, reqId: number, txId: number, len: number): void {
    v.setUint32(at + TYPE, type, LE);
    v.setUint32(at + REQ_ID, reqId, LE);
    v.setUint32(at + TX_ID, txId, LE);
    v.setUint32(at + LEN, len, LE);
  },
} as const;

/** A parsed message. `payload` is a view into the bytes of the message. */
export interface XsMessage {
  readonly type: number;
  readonly reqId: number;
  readonly txId: number;
  readonly payload: Uint8Array;
}

/** The reason why these bytes are not exactly one message; undefined when they are. */
export function xsMalformed(bytes: Uint8Array): string | undefined {
  if (bytes.length < XS_HEADER_SIZE) return `${bytes.length} bytes are no message header`;
  const len = xsHeader.len(viewOf(bytes), 0);
  if (len > XENSTORE_PAYLOAD_MAX) return `a payload of ${len} bytes`;
  const held = bytes.length - XS_HEADER_SIZE;
  return held === len ? undefined : `${held} bytes of payload, the header says ${len}`;
}

/** Parses one message. Undefined for bytes that `xsMalformed` explains. */
export function parseXsMessage(bytes: Uint8Array): XsMessage | undefined {
  if (xsMalformed(bytes) !== undefined) return undefined;
  const view = viewOf(bytes);
  return {
    type: xsHeader.type(view, 0),
    reqId: xsHeader.reqId(view, 0),
    txId: xsHeader.txId(view, 0),
    payload: bytes.subarray(XS_HEADER_SIZE),
  };
}

/** Makes a message in new memory. Throws RangeError for a payload that is too long: a fault of this program. */
export function xsMessage(
  type: XsType,
  reqId: number,
  txId: number,
  payload: Uint8Array,
): Uint8Array {
  if (payload.length > XENSTORE_PAYLOAD_MAX) {
    throw new RangeError(`xenstore payload of ${payload.length} bytes`);
  }
  const bytes = new Uint8Array(XS_HEADER_SIZE + payload.length);
  xsHeader.write(viewOf(bytes), 0, type, reqId, txId, payload.length);
  bytes.set(payload, XS_HEADER_SIZE);
  return bytes;
}

/** Text as octets, without an end mark: a value. */
export const xsBytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));

/** Octets as text: a value. */
export const xsText = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");

/** Strings, a NUL behind each: the payload of most messages. */
export const xsStrings = (...strings: readonly string[]): Uint8Array =>
  xsBytes(strings.map((s) => `${s}\0`).join(""));

/** The strings of a payload, or undefined when the last one does not end. None for no bytes. */
export function parseXsStrings(payload: Uint8Array): string[] | undefined {
  if (payload.length === 0) return [];
  if (payload[payload.length - 1] !== 0) return undefined;
  return xsText(payload.subarray(0, payload.length - 1)).split("\0");
}

/** WRITE's payload: a path with its NUL, then the value as it is. */
export function xsPathAndValue(path: string, value: Uint8Array): Uint8Array {
  const head = xsStrings(path);
  const payload = new Uint8Array(head.length + value.length);
  payload.set(head);
  payload.set(value, head.length);
  return payload;
}

/** First string and whatever is behind its NUL; undefined without a NUL. `rest` is a view. */
export function splitXsPayload(
  payload: Uint8Array,
): { readonly first: string; readonly rest: Uint8Array } | undefined {
  const end = payload.indexOf(0);
  if (end < 0) return undefined;
  return { first: xsText(payload.subarray(0, end)), rest: payload.subarray(end + 1) };
}

const PATH_CHARACTERS = /^[-/_@0-9A-Za-z]+$/;
const DOMAIN_PREFIX = /^\/local\/domain\/\d{1,5}\//;

/** The home directory of a domain: base of its relative paths, and the answer to GET_DOMAIN_PATH. */
export const domainPath = (domid: number): string => `/local/domain/${domid}`;

/** Whether a path is a special event: "@introduceDomain", "@releaseDomain". These are watched, never stored. */
export const isSpecialPath = (path: string): boolean => path.startsWith("@");

/** The absolute form of a path: a relative one begins at the domain's own directory. It is not checked. */
export const absolutePath = (path: string, domid: number): string =>
  path.startsWith("/") || isSpecialPath(path) ? path : `${domainPath(domid)}/${path}`;

/**
 * Whether an absolute path may name a node. It checks the characters, that slashes are single and
 * not at the end (except "/"), and the lengths. A path below the domain's own directory has the limit
 * of a relative path, in whichever form it was given.
 */
export function isValidPath(path: string): boolean {
  if (!path.startsWith("/") || path.length > XENSTORE_ABS_PATH_MAX) return false;
  if (!PATH_CHARACTERS.test(path) || path.includes("//")) return false;
  if (path.length > 1 && path.endsWith("/")) return false;
  const prefix = DOMAIN_PREFIX.exec(path);
  return prefix === null || path.length - prefix[0].length <= XENSTORE_REL_PATH_MAX;
}

if (LEN + 4 !== XS_HEADER_SIZE) throw new RangeError("xenstore header layout");
