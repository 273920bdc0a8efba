/**
 * Receive side scaling: sends key, hash input and indirection table to the device when the
 * interface comes up. After ena_rss.c and ena_com.c (amzn-drivers: kernel/fbsd/ena).
 */
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
  rssHashFields,
  rssHashFunction,
  rssHashInput,
  rssHashKey,
  rssIndEntry,
  rssIndTable,
} from "../../shared/ena/rss.ts";
import type { CoherentMemory } from "../bus/coherent.ts";
import { Errno } from "../bus/errno.ts";
import type { Com } from "./control.ts";
import { DeviceError, ifSupported } from "./device-error.ts";

/** ENA_RX_RSS_TABLE_LOG_SIZE */
const TABLE_SIZE_LOG2 = 7;
export const RSS_TABLE_SIZE = 1 << TABLE_SIZE_LOG2;

const L3 = HashField.L3_SA | HashField.L3_DA;
const L3_L4 = L3 | HashField.L4_SP | HashField.L4_DP;
/** HashField bits to hash for each protocol. */
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

/**
 * The control buffers of the hash function (key) and of the hash input, as they were sent. The
 * driver keeps them over resets, so that flows stay on their queues.
 */
export class RssConfig {
  /** Undefined until read, and when the device whose values were read does not hash by Toeplitz. */
  key: Uint8Array | undefined;
  /** Undefined likewise when the device can't hash all wanted fields, and keeps its own choice. */
  fields: Uint8Array | undefined;
  /** False until the device's own values have been read. */
  known = false;
}

/**
 * ena_rss_configure. Resolves with false when the device has no indirection table: then one queue
 * receives all frames. Hash function and input are optional: a device without these commands uses
 * its own. Rejects with DeviceError.
 */
export async function configureRss(
  com: Com,
  rss: RssConfig,
  rxSqIndexes: readonly number[],
): Promise<boolean> {
  const hasTable = await ifSupported(initTable(com, rss, rxSqIndexes));
  if (hasTable === undefined) return false;
  await ifSupported(setHashFunction(com, rss));
  await ifSupported(setHashInput(com, rss));
  return true;
}

async function initTable(
  com: Com,
  rss: RssConfig,
  rxSqIndexes: readonly number[],
): Promise<boolean> {
  if (!rss.known) {
    await initDefault(com, rss);
    rss.known = true;
  }
  await setTable(com, rxSqIndexes);
  return true;
}

/**
 * ena_rss_init_default, as it runs without ENA_RSS_KEY_API: the driver adopts the key of the
 * device. The key is read into the buffer that is then set.
 */
async function initDefault(com: Com, rss: RssConfig): Promise<void> {
  await checkTableSize(com);
  await ifSupported(fillHashFunction(com, rss));
  await ifSupported(fillHashInput(com, rss));
  // ena_rss_indir_init reads the table back, for its sysctl.
  await com.getFeature(FeatureId.RSS_INDIRECTION_TABLE_CONFIG, 0, tablePage(com));
}

const tablePage = (com: Com): CoherentMemory =>
  com.allocate(RSS_TABLE_SIZE * RSS_IND_ENTRY_SIZE, "rss table");
const keyPage = (com: Com): CoherentMemory => com.allocate(rssHashKey.size, "rss key");
const fieldsPage = (com: Com): CoherentMemory => com.allocate(rssHashFields.size, "rss hash input");

async function checkTableSize(com: Com): Promise<void> {
  const reply = await com.getFeature(FeatureId.RSS_INDIRECTION_TABLE_CONFIG);
  const sizes = rssIndTable.parse(reply, ACQ_BODY);
  if (sizes.minSizeLog2 <= TABLE_SIZE_LOG2 && sizes.maxSizeLog2 >= TABLE_SIZE_LOG2) return;
  com.log.warn({ sizes }, "the device accepts no RSS table of 128 entries");
  throw new DeviceError(Errno.EINVAL);
}

/** Sets the table. Its entries name rx submission queues, although the field is named `cqIdx`. */
function setTable(com: Com, rxSqIndexes: readonly number[]): Promise<void> {
  const table = tablePage(com);
  for (let i = 0; i < RSS_TABLE_SIZE; i++) {
    const cqIdx = rxSqIndexes[i % rxSqIndexes.length]!;
    rssIndEntry.write(table.view, i * RSS_IND_ENTRY_SIZE, { cqIdx });
  }
  const request = { sizeLog2: TABLE_SIZE_LOG2, inlineIndex: RSS_INLINE_INDEX_NONE };
  return com.setFeature(
    FeatureId.RSS_INDIRECTION_TABLE_CONFIG,
    (view, at) => rssIndTable.write(view, at, request),
    table,
  );
}

/** ena_com_fill_hash_function without a key. */
async function fillHashFunction(com: Com, rss: RssConfig): Promise<void> {
  const page = keyPage(com);
  await needToeplitz(com, page);
  rss.key = page.bytes.slice();
  await setHashFunction(com, rss);
}

/** ena_com_set_hash_function: checks again that the device has the function, then sets the key. */
async function setHashFunction(com: Com, rss: RssConfig): Promise<void> {
  // Another device may hash although the first did not. It keeps its own key.
  if (rss.key === undefined) return;
  await needToeplitz(com);
  const page = keyPage(com);
  page.bytes.set(rss.key);
  const request = { selectedFunc: 1 << HashFunction.TOEPLITZ, initVal: 0 };
  await com.setFeature(
    FeatureId.RSS_HASH_FUNCTION,
    (view, at) => rssHashFunction.write(view, at, request),
    page,
  );
}

/** Rejects when the device does not hash by Toeplitz. Reads its key into `page` if given. */
async function needToeplitz(com: Com, page?: CoherentMemory): Promise<void> {
  const reply = await com.getFeature(FeatureId.RSS_HASH_FUNCTION, 0, page);
  const { supportedFunc } = rssHashFunction.parse(reply, ACQ_BODY);
  const hasToeplitz = ((supportedFunc >>> HashFunction.TOEPLITZ) & 1) === 1;
  if (!hasToeplitz) throw new DeviceError(Errno.EOPNOTSUPP);
}

/** ena_com_set_default_hash_ctrl */
async function fillHashInput(com: Com, rss: RssConfig): Promise<void> {
  const page = fieldsPage(com);
  await com.getFeature(FeatureId.RSS_HASH_INPUT, 0, page);
  const { supported } = rssHashFields.parse(page.view, 0);
  const selected = Array.from({ length: HASH_PROTO_NUM }, (_, proto) => SELECTED[proto] ?? 0);
  const missing = selected.findIndex((fields, proto) => (fields & ~(supported[proto] ?? 0)) !== 0);
  if (missing >= 0) {
    com.log.warn({ proto: missing }, "device can't hash all fields wanted, keeps its own choice");
    return;
  }
  rssHashFields.write(page.view, 0, { supported, selected });
  rss.fields = page.bytes.slice();
  await setHashInput(com, rss);
}

/** ena_com_set_hash_ctrl */
async function setHashInput(com: Com, rss: RssConfig): Promise<void> {
  if (rss.fields === undefined) return;
  const page = fieldsPage(com);
  page.bytes.set(rss.fields);
  const request = { enabledInputSort: HashSort.L3 | HashSort.L4 };
  await com.setFeature(
    FeatureId.RSS_HASH_INPUT,
    (view, at) => rssHashInput.write(view, at, request),
    page,
  );
}
