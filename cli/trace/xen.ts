/**
 * Describes each structure between a Xen guest's NIC and its backend in one line, for logs,
 * captures, the inspector and failing tests. The data path never calls these functions. They never
 * throw: a line says where a structure is too short or unknown.
 */
import { type Codes, nameOf, namesOf } from "../../shared/bytes/names.ts";
import type { Struct } from "../../shared/bytes/struct.ts";
import { hex, line, showNumber, truncated, viewOf } from "../../shared/bytes/words.ts";
import {
  CTRL_SLOT_SIZE,
  CtrlStatus,
  CtrlType,
  ctrlRequest,
  ctrlResponse,
} from "../../shared/xen/control.ts";
import * as channel from "../../shared/xen/event-channel.ts";
import {
  Gntst,
  GRANT_ENTRY_V1_SIZE,
  GRANT_ENTRY_V2_SIZE,
  GrantFlag,
  GrantType,
  GTF_TYPE_MASK,
  grantEntry,
  TransferFlag,
} from "../../shared/xen/grant.ts";
import * as grantOps from "../../shared/xen/grant-ops.ts";
import { Domid, Hypercall, XenErrno } from "../../shared/xen/hypercall.ts";
import { RingWord } from "../../shared/xen/ring.ts";
import { SchedOp, ShutdownReason, schedShutdown } from "../../shared/xen/sched.ts";
import { parseXsMessage, XsType, xsMalformed, xsText } from "../../shared/xen/xenstore.ts";

/** Returns "ctrl SET_HASH_ALGORITHM id=1 data=1,0,0" */
export function describeCtrlRequest(bytes: Uint8Array): string {
  if (bytes.length < CTRL_SLOT_SIZE) return truncated("ctrl request", bytes, CTRL_SLOT_SIZE);
  const { id, type, data0, data1, data2 } = ctrlRequest.parse(viewOf(bytes), 0);
  return `ctrl ${nameOf(CtrlType, type)} id=${id} data=${data0},${data1},${data2}`;
}

/** Returns "ctrl done SET_HASH_ALGORITHM id=1 SUCCESS data=0" */
export function describeCtrlResponse(bytes: Uint8Array): string {
  if (bytes.length < CTRL_SLOT_SIZE) return truncated("ctrl response", bytes, CTRL_SLOT_SIZE);
  const { id, type, status, data } = ctrlResponse.parse(viewOf(bytes), 0);
  return `ctrl done ${nameOf(CtrlType, type)} id=${id} ${nameOf(CtrlStatus, status)} data=${data}`;
}

/** Describes words of a ring's header from `offset` on: "req_prod=17 req_event=1". */
export function describeRingIndexes(offset: number, bytes: Uint8Array): string {
  if (bytes.length === 0 || bytes.length % 4 !== 0) return `${bytes.length} bytes, no indexes`;
  const view = viewOf(bytes);
  const words: string[] = [];
  for (let at = 0; at < bytes.length && words.length < 4; at += 4) {
    words.push(`${nameOf(RingWord, offset + at).toLowerCase()}=${view.getUint32(at, true)}`);
  }
  return words.join(" ");
}

/** Describes an entry without its reference: "PERMIT_ACCESS dom=0 frame=0x12 READONLY". */
export function describeGrantEntry(version: 1 | 2, bytes: Uint8Array): string {
  const size = version === 1 ? GRANT_ENTRY_V1_SIZE : GRANT_ENTRY_V2_SIZE;
  if (bytes.length < size) return truncated(`grant entry v${version}`, bytes, size);
  const v = viewOf(bytes);
  const flags = grantEntry.flags(v, 0);
  const type = grantEntry.typeOf(flags);
  const head = `${nameOf(GrantType, type)} dom=${domain(grantEntry.domid(v, 0))}`;
  const rest = flags & ~GTF_TYPE_MASK;
  if (type === GrantType.TRANSITIVE && version !== 1) {
    const by = `by=${domain(grantEntry.transDomid(v, 0))}:${grantEntry.gref(v, 0)}`;
    return line(head, by, flagsOf(GrantFlag, rest));
  }
  const frame = grantEntry.frame(v, 0, version);
  const part =
    version !== 1 && (flags & GrantFlag.SUB_PAGE) !== 0
      ? `bytes=${grantEntry.pageOff(v, 0)}+${grantEntry.length(v, 0)}`
      : "";
  const table: Codes = type === GrantType.ACCEPT_TRANSFER ? TransferFlag : GrantFlag;
  return line(head, `frame=${hex(frame)}`, part, flagsOf(table, rest));
}

interface Call {
  readonly args: Struct<object>;
  /** Codes of the named fields. Domains have their own names. */
  readonly codes?: Readonly<Record<string, Codes>>;
}
const grantCall = (args: Struct<object>): Call => ({ args, codes: { status: Gntst } });

/** Commands of each hypercall, and the argument structures of commands that a NIC's guest uses. */
const CALLS: readonly {
  readonly number: number;
  readonly commands: Codes;
  readonly calls: ReadonlyMap<number, Call>;
}[] = [
  {
    number: Hypercall.GRANT_TABLE_OP,
    commands: grantOps.GnttabOp,
    calls: new Map([
      [grantOps.GnttabOp.MAP_GRANT_REF, grantCall(grantOps.gnttabMapGrantRef)],
      [grantOps.GnttabOp.UNMAP_GRANT_REF, grantCall(grantOps.gnttabUnmapGrantRef)],
      [grantOps.GnttabOp.SETUP_TABLE, grantCall(grantOps.gnttabSetupTable)],
      [grantOps.GnttabOp.TRANSFER, grantCall(grantOps.gnttabTransfer)],
      [grantOps.GnttabOp.COPY, grantCall(grantOps.gnttabCopy)],
      [grantOps.GnttabOp.QUERY_SIZE, grantCall(grantOps.gnttabQuerySize)],
      [grantOps.GnttabOp.SET_VERSION, grantCall(grantOps.gnttabSetVersion)],
      [grantOps.GnttabOp.GET_STATUS_FRAMES, grantCall(grantOps.gnttabGetStatusFrames)],
      [grantOps.GnttabOp.GET_VERSION, grantCall(grantOps.gnttabGetVersion)],
    ] as const),
  },
  {
    number: Hypercall.SCHED_OP,
    commands: SchedOp,
    calls: new Map([
      [SchedOp.SHUTDOWN, { args: schedShutdown, codes: { reason: ShutdownReason } }],
    ] as const),
  },
  {
    number: Hypercall.EVENT_CHANNEL_OP,
    commands: channel.EvtchnOp,
    calls: new Map<number, Call>([
      [channel.EvtchnOp.BIND_INTERDOMAIN, { args: channel.evtchnBindInterdomain }],
      [channel.EvtchnOp.CLOSE, { args: channel.evtchnClose }],
      [channel.EvtchnOp.SEND, { args: channel.evtchnSend }],
      [
        channel.EvtchnOp.STATUS,
        { args: channel.evtchnStatus, codes: { status: channel.EvtchnStatus } },
      ],
      [channel.EvtchnOp.ALLOC_UNBOUND, { args: channel.evtchnAllocUnbound }],
      [channel.EvtchnOp.BIND_VCPU, { args: channel.evtchnBindVcpu }],
      [channel.EvtchnOp.UNMASK, { args: channel.evtchnUnmask }],
      [channel.EvtchnOp.RESET, { args: channel.evtchnReset }],
    ]),
  },
];

/** Number of argument structures printed of a call. Only the number of the others is printed. */
const MAX_STRUCTURES = 4;

/** Returns "event_channel_op ALLOC_UNBOUND dom=SELF remoteDom=0"; "; " separates structures. */
export function describeHypercall(number: number, command: number, bytes: Uint8Array): string {
  const known = CALLS.find((c) => c.number === number);
  if (known === undefined) return `hypercall ${number} command=${command} bytes=${bytes.length}`;
  const head = `${nameOf(Hypercall, number).toLowerCase()} ${nameOf(known.commands, command)}`;
  const call = known.calls.get(command);
  if (call === undefined) return `${head} bytes=${bytes.length}`;
  const { size } = call.args;
  if (bytes.length < size) return truncated(head, bytes, size);
  const count = Math.floor(bytes.length / size);
  const view = viewOf(bytes);
  const told: string[] = [];
  for (let i = 0; i < count && i < MAX_STRUCTURES; i++) {
    told.push(argumentsOf(call, view, i * size));
  }
  if (count > MAX_STRUCTURES) told.push(`${count - MAX_STRUCTURES} more`);
  if (bytes.length % size !== 0) told.push(`${bytes.length % size} bytes behind`);
  return line(head, told.join("; "));
}

/** Returns "ok" or "EINVAL". describeHypercall describes the structures of a reply. */
export const describeErrno = (errno: number): string =>
  errno === 0 ? "ok" : nameOf(XenErrno, errno);

/** Names a status of a grant operation, or of an access by grant: "GENERAL_ERROR". */
export const describeGntst = (status: number): string => nameOf(Gntst, status);

/** Returns 'WRITE req=7 tx=1 "device/vif/0/state" "4"' */
export function describeXsMessage(bytes: Uint8Array): string {
  const message = parseXsMessage(bytes);
  if (message === undefined) return `malformed: ${xsMalformed(bytes)}`;
  const { type, reqId, txId, payload } = message;
  // Most messages end with NUL, which would be printed as one more empty string.
  const text = xsText(payload[payload.length - 1] === 0 ? payload.subarray(0, -1) : payload);
  const strings = payload.length === 0 ? [] : text.split("\0");
  const shown = strings.slice(0, MAX_STRINGS).map(quoted);
  const left = strings.length - shown.length;
  return line(
    nameOf(XsType, type),
    `req=${reqId}`,
    txId === 0 ? "" : `tx=${txId}`,
    ...shown,
    left > 0 ? `${left} more` : "",
  );
}

const MAX_STRINGS = 16;
const MAX_STRING = 128;
const quoted = (s: string): string =>
  JSON.stringify(s.length > MAX_STRING ? `${s.slice(0, MAX_STRING)}...` : s);

/** Returns the fields that are not zero, and every domain, because 0 is a domain. */
function argumentsOf(call: Call, view: DataView, at: number): string {
  const words: string[] = [];
  for (const [name, value] of Object.entries(call.args.parse(view, at)) as [string, number][]) {
    const codes = call.codes?.[name];
    if (/dom(id)?$/i.test(name)) words.push(`${name}=${domain(value)}`);
    else if (codes !== undefined && value !== 0) words.push(`${name}=${nameOf(codes, value)}`);
    else if (value !== 0) words.push(`${name}=${showNumber(value)}`);
  }
  return words.join(" ");
}

/** Returns "SELF", or the guest's number. */
const domain = (domid: number): string => {
  const name = nameOf(Domid, domid);
  return name.startsWith("?") ? `${domid}` : name;
};

const flagsOf = (masks: Codes, flags: number): string => (flags === 0 ? "" : namesOf(masks, flags));
