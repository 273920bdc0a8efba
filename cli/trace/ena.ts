/**
 * Describes each structure between an ENA driver and its device in one line, for logs, captures,
 * the inspector and failing tests. The data path never calls these functions. They never throw: a
 * line says where a structure is too short or unknown.
 */

import { nameOf, namesOf } from "../../shared/bytes/names.ts";
import type { Struct } from "../../shared/bytes/struct.ts";
import { hex, line, showNumber, truncated, viewOf } from "../../shared/bytes/words.ts";
import {
  ACQ_ENTRY_SIZE,
  AdminStatus,
  AQ_ENTRY_SIZE,
  acqCommon,
  aqCommon,
  createCq,
  createSq,
  destroyCq,
  destroySq,
  Opcode,
  Placement,
  SqDirection,
} from "../../shared/ena/admin.ts";
import {
  AENQ_ENTRY_SIZE,
  AenqGroup,
  AenqSyndrome,
  aenqCommon,
  aenqConfNotifications,
  aenqKeepAlive,
  aenqLinkChange,
} from "../../shared/ena/aenq.ts";
import {
  aenqConfig,
  FeatureId,
  featureCommand,
  hostAttr,
  mtuFeature,
  phcConfig,
  SET_FEATURE_BODY,
} from "../../shared/ena/features.ts";
import { llqFeature } from "../../shared/ena/llq.ts";
import {
  DevCtl,
  DevSts,
  devCtlReg,
  mmioReadReg,
  Register,
  ResetReason,
} from "../../shared/ena/registers.ts";
import { rssHashFunction, rssHashInput, rssIndTable } from "../../shared/ena/rss.ts";
import { getStats, StatsType } from "../../shared/ena/stats.ts";

/** Returns "DEV_CTL"; only a number for a doorbell or unmask register, placed by the device. */
export function describeRegister(offset: number): string {
  const name = nameOf(Register, offset);
  return name.startsWith("?") ? hex(offset) : name;
}

/** Returns "DEV_CTL = DEV_RESET reason=KEEP_ALIVE_TO" */
export function describeRegisterWrite(offset: number, value: number): string {
  const name = describeRegister(offset);
  if (offset === Register.DEV_CTL) {
    const reason = nameOf(ResetReason, devCtlReg.reason(value));
    return `${name} = ${namesOf(DevCtl, value & 0xff_ffff)} reason=${reason}`;
  }
  if (offset === Register.DEV_STS) return `${name} = ${namesOf(DevSts, value)}`;
  if (offset === Register.MMIO_REG_READ) {
    const read = describeRegister(mmioReadReg.registerOffset(value));
    return `${name} = ${read} seq=${mmioReadReg.reqId(value)}`;
  }
  return `${name} = ${hex(value)}`;
}

/** Returns "GET_FEATURE DEVICE_ATTRIBUTES id=3" */
export function describeAdminCommand(bytes: Uint8Array): string {
  const view = viewOf(bytes);
  if (bytes.length < aqCommon.size) return truncated("admin command", bytes, AQ_ENTRY_SIZE);
  const { opcode, commandId } = aqCommon.parse(view, 0);
  const head = nameOf(Opcode, opcode);
  const id = `id=${commandId}`;
  const too = (layout: Struct<unknown>): boolean => bytes.length < layout.size;
  switch (opcode) {
    case Opcode.CREATE_SQ: {
      if (too(createSq)) break;
      const c = createSq.parse(view, 0);
      const where = c.placement === Placement.HOST ? `base=${hex(c.sqBa)}` : "";
      const place = nameOf(Placement, c.placement);
      return line(
        head,
        direction(c.direction),
        id,
        `cq=${c.cqIdx}`,
        `depth=${c.sqDepth}`,
        place,
        where,
      );
    }
    case Opcode.DESTROY_SQ: {
      if (too(destroySq)) break;
      const c = destroySq.parse(view, 0);
      return line(head, direction(c.direction), id, `sq=${c.sqIdx}`);
    }
    case Opcode.CREATE_CQ: {
      if (too(createCq)) break;
      const c = createCq.parse(view, 0);
      const entry = `entry=${c.entrySizeWords * 4}`;
      const base = `base=${hex(c.cqBa)}`;
      return line(head, id, `depth=${c.cqDepth}`, entry, `vector=${c.msixVector}`, base);
    }
    case Opcode.DESTROY_CQ: {
      if (too(destroyCq)) break;
      return line(head, id, `cq=${destroyCq.parse(view, 0).cqIdx}`);
    }
    case Opcode.GET_STATS: {
      if (too(getStats)) break;
      return line(head, nameOf(StatsType, getStats.parse(view, 0).type), id);
    }
    case Opcode.GET_FEATURE:
    case Opcode.SET_FEATURE: {
      if (too(featureCommand)) break;
      const c = featureCommand.parse(view, 0);
      const what = nameOf(FeatureId, c.featureId);
      const buffer = c.controlLength > 0 ? `buffer=${c.controlLength}` : "";
      const body = opcode === Opcode.SET_FEATURE ? SET_BODY.get(c.featureId) : undefined;
      const values = body === undefined ? "" : fieldsOf(body.parse(view, SET_FEATURE_BODY));
      return line(head, what, id, buffer, values);
    }
    default:
      return line(head, id);
  }
  return truncated(head, bytes, AQ_ENTRY_SIZE);
}

/** Layouts of the features that drivers set. */
const SET_BODY: ReadonlyMap<number, Struct<object>> = new Map<number, Struct<object>>([
  [FeatureId.LLQ, llqFeature],
  [FeatureId.RSS_HASH_FUNCTION, rssHashFunction],
  [FeatureId.RSS_INDIRECTION_TABLE_CONFIG, rssIndTable],
  [FeatureId.MTU, mtuFeature],
  [FeatureId.RSS_HASH_INPUT, rssHashInput],
  [FeatureId.AENQ_CONFIG, aenqConfig],
  [FeatureId.HOST_ATTR_CONFIG, hostAttr],
  [FeatureId.PHC_CONFIG, phcConfig],
]);

/** Returns "SUCCESS id=3", "ILLEGAL_PARAMETER id=3 extended=0x12" */
export function describeAdminCompletion(bytes: Uint8Array): string {
  if (bytes.length < acqCommon.size) return truncated("admin completion", bytes, ACQ_ENTRY_SIZE);
  const c = acqCommon.parse(viewOf(bytes), 0);
  const extended = c.extendedStatus === 0 ? "" : `extended=${hex(c.extendedStatus)}`;
  return line(nameOf(AdminStatus, c.status), `id=${c.commandId}`, extended);
}

/** Returns "LINK_CHANGE up", "KEEP_ALIVE rxDrops=0 txDrops=2 rxOverruns=0" */
export function describeAenq(bytes: Uint8Array): string {
  if (bytes.length < aenqKeepAlive.size) return truncated("event", bytes, AENQ_ENTRY_SIZE);
  const view = viewOf(bytes);
  const e = aenqCommon.parse(view, 0);
  const head = nameOf(AenqGroup, e.group);
  switch (e.group) {
    case AenqGroup.LINK_CHANGE:
      return line(head, aenqLinkChange.parse(view, 0).linkUp ? "up" : "down");
    case AenqGroup.KEEP_ALIVE: {
      const k = aenqKeepAlive.parse(view, 0);
      return line(
        head,
        `rxDrops=${k.rxDrops}`,
        `txDrops=${k.txDrops}`,
        `rxOverruns=${k.rxOverruns}`,
      );
    }
    case AenqGroup.NOTIFICATION:
      return line(head, nameOf(AenqSyndrome, e.syndrome));
    case AenqGroup.CONF_NOTIFICATIONS:
      return line(head, hex(aenqConfNotifications.parse(view, 0).notificationsBitmap));
    default:
      return line(head, e.syndrome === 0 ? "" : `syndrome=${e.syndrome}`);
  }
}

const direction = (d: number): string => nameOf(SqDirection, d);

/** Returns the fields that are not zero: "mtu=9001". */
export function fieldsOf(value: object): string {
  const set = Object.entries(value).filter(([, v]) => v !== 0 && v !== false);
  return set.map(([name, v]) => `${name}=${typeof v === "number" ? showNumber(v) : v}`).join(" ");
}
