/**
 * Receive side scaling: key, hash input and indirection table, told to the device when the
 * interface comes up. After ena_rss.c and ena_com.c (amzn-drivers: kernel/fbsd/ena).
 */
import { randomBytes } from "node:crypto";
import { ACQ_BODY } from "../../shared/ena/admin.ts";
import { FeatureId } from "../../shared/ena/features.ts";
import {
  HASH_PROTO_NUM,
  HashField,
  HashFunction,
  HashProto,
  HashSort,
  RSS_IND_ENTRY_SIZE,
  RSS_INLINE_INDEX_NONE,
  RSS_KEY_OFFSET,
  RSS_KEY_PARTS,
  RSS_KEY_SIZE,
  rssHashFields,
  rssHashFunction,
  rssHashInput,
  rssHashKey,
  rssIndEntry,
  rssIndTable,
} from "../../shared/ena/rss.ts";
import { RecordType } from "../../shared/wire/records.ts";
import { Errno } from "../bus/errno.ts";
import type { Com } from "./control.ts";

/** ENA_RX_RSS_TABLE_LOG_SIZE */
const TABLE_SIZE_LOG2 = 7;
export const RSS_TABLE_SIZE = 1 << TABLE_SIZE_LOG2;

const L3 = HashField.L3_SA | HashField.L3_DA;
const L3_L4 = L3 | HashField.L4_SP | HashField.L4_DP;
/** Fields hashed for each protocol. */
const SELECTED: Readonly<Record<number, number>> = {
  [HashProto.TCP4]: L3_L4,
  [HashProto.UDP4]: L3_L4,
  [HashProto.TCP6]: L3_L4,
  [HashProto.UDP6]: L3_L4,
  [HashProto.IP4]: L3,
  [HashProto.IP6]: L3,
  [HashProto.IP4_FRAG]: L3,
  [HashProto.NOT_IP]: HashField.L2_DA | HashField.L2_SA,
};

/** Forty bytes, kept over resets so that flows stay on their queues. */
export const newRssKey = (): Uint8Array => new Uint8Array(randomBytes(RSS_KEY_SIZE));

/**
 * ena_rss_configure. 0; EOPNOTSUPP when the device has no indirection table (one queue gets all);
 * else an errno. Hash function and input are optional: a device without them uses its own.
 */
export async function configureRss(
  com: Com,
  key: Uint8Array,
  rxSqIndexes: readonly number[],
): Promise<number> {
  const table = await setTable(com, rxSqIndexes);
  if (table !== 0) return table;
  const hash = await setHashFunction(com, key);
  if (hash !== 0 && hash !== Errno.EOPNOTSUPP) return hash;
  const input = await setHashInput(com);
  return input === Errno.EOPNOTSUPP ? 0 : input;
}

/** The table names rx submission queues, though its field is called after completion queues. */
async function setTable(com: Com, rxSqIndexes: readonly number[]): Promise<number> {
  const reply = await com.getFeature(FeatureId.RSS_INDIRECTION_TABLE_CONFIG);
  if (reply.errno !== 0) return reply.errno;
  const sizes = rssIndTable.parse(reply.view, ACQ_BODY);
  if (sizes.minSizeLog2 > TABLE_SIZE_LOG2 || sizes.maxSizeLog2 < TABLE_SIZE_LOG2) {
    com.log.warn({ sizes }, "device takes no RSS table of 128 entries");
    return Errno.EINVAL;
  }
  const table = com.allocate(RSS_TABLE_SIZE * RSS_IND_ENTRY_SIZE, "rss table");
  for (let i = 0; i < RSS_TABLE_SIZE; i++) {
    const cqIdx = rxSqIndexes[i % rxSqIndexes.length]!;
    rssIndEntry.write(table.view, i * RSS_IND_ENTRY_SIZE, { cqIdx });
  }
  table.publish(0, table.bytes.length, RecordType.ENA_CONTROL);
  return com.setFeature(
    FeatureId.RSS_INDIRECTION_TABLE_CONFIG,
    (view, at) => {
      rssIndTable.write(view, at, {
        sizeLog2: TABLE_SIZE_LOG2,
        inlineIndex: RSS_INLINE_INDEX_NONE,
      });
    },
    table,
  );
}

async function setHashFunction(com: Com, key: Uint8Array): Promise<number> {
  const buffer = com.allocate(rssHashKey.size, "rss key");
  const reply = await com.getFeature(FeatureId.RSS_HASH_FUNCTION, 0, buffer);
  if (reply.errno !== 0) return reply.errno;
  const { supportedFunc } = rssHashFunction.parse(reply.view, ACQ_BODY);
  if (((supportedFunc >>> HashFunction.TOEPLITZ) & 1) === 0) return Errno.EOPNOTSUPP;
  buffer.bytes.fill(0);
  rssHashKey.write(buffer.view, 0, { keyParts: RSS_KEY_PARTS });
  // The original hands the key over last byte first.
  for (let i = 0; i < RSS_KEY_SIZE; i++) {
    buffer.bytes[RSS_KEY_OFFSET + i] = key[RSS_KEY_SIZE - 1 - i]!;
  }
  buffer.publish(0, buffer.bytes.length, RecordType.ENA_CONTROL);
  return com.setFeature(
    FeatureId.RSS_HASH_FUNCTION,
    (view, at) => {
      rssHashFunction.write(view, at, { selectedFunc: 1 << HashFunction.TOEPLITZ, initVal: 0 });
    },
    buffer,
  );
}

async function setHashInput(com: Com): Promise<number> {
  const buffer = com.allocate(rssHashFields.size, "rss hash input");
  const reply = await com.getFeature(FeatureId.RSS_HASH_INPUT, 0, buffer);
  if (reply.errno !== 0) return reply.errno;
  const { supported } = rssHashFields.parse(buffer.view, 0);
  const selected = Array.from({ length: HASH_PROTO_NUM }, (_, proto) => SELECTED[proto] ?? 0);
  const missing = selected.findIndex((fields, proto) => (fields & ~(supported[proto] ?? 0)) !== 0);
  if (missing >= 0) {
    com.log.warn({ proto: missing }, "device can't hash all fields wanted, keeps its own choice");
    return Errno.EOPNOTSUPP;
  }
  rssHashFields.write(buffer.view, 0, { supported, selected });
  buffer.publish(0, buffer.bytes.length, RecordType.ENA_CONTROL);
  return com.setFeature(
    FeatureId.RSS_HASH_INPUT,
    (view, at) => {
      rssHashInput.write(view, at, { enabledInputSort: HashSort.L3 | HashSort.L4 });
    },
    buffer,
  );
}
