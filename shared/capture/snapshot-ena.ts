/**
 * The queues of an ENA function as the words that made them: registers, admin commands with their
 * completions, the requests that nobody has answered, and doorbells, which say where rings stand.
 *
 *   -> AQ, ACQ, AENQ registers; SET_FEATURE LLQ, CREATE_CQ, CREATE_SQ ...
 *   <- a completion for each; the last entry of every ring that the device writes
 *   -> commands that wait; for each queue its outstanding descriptors, then its doorbell
 *
 * A reader takes positions and phases from these entries instead of judging them. A submission
 * queue without a doorbell here is one whose requests are not all told.
 */
import {
  ACQ_ENTRY_SIZE,
  AQ_ENTRY_SIZE,
  acqCommon,
  createCq,
  createCqResp,
  createSq,
  createSqResp,
  Opcode,
  Placement,
  SqDirection,
  stampCommand,
} from "../ena/admin.ts";
import { FeatureId, featureCommand, SET_FEATURE_BODY } from "../ena/features.ts";
import { DESC_SIZE, rxDesc, txDesc } from "../ena/io.ts";
import { LlqEntrySize, llqEntryBytes, llqFeature } from "../ena/llq.ts";
import { queueCapsReg, Register } from "../ena/registers.ts";
import { phaseAt } from "../ring/phase.ts";
import type { BatchWriter } from "../wire/batch.ts";
import { Op } from "../wire/catalogue.ts";
import type {
  EnaCompletionQueue,
  EnaQueueState,
  EnaRing,
  EnaSubmissionQueue,
  EnaWrittenRing,
} from "../wire/queue-state.ts";
import { RecordType, Space } from "../wire/records.ts";

const BAR0 = 0;
const BAR2 = 2;
const TWO_32 = 0x1_0000_0000;
/** Outstanding descriptors that are told, over all queues; a full ring has up to 4096. */
const MAX_TOLD_REQUESTS = 0x1_0000;

/** A command and what was answered: whole entries, ids and phases still to be stamped. */
interface Exchange {
  readonly command: DataView;
  readonly completion: DataView;
}

export function tellEnaQueues(
  state: EnaQueueState,
  toDevice: BatchWriter,
  toFrontend: BatchWriter,
): void {
  const { commands, completions, events, waiting, completionQueues, submissionQueues } = state;
  tellRing(toDevice, commands, Register.AQ_BASE_LO, Register.AQ_BASE_HI, Register.AQ_CAPS);
  tellRing(toDevice, completions, Register.ACQ_BASE_LO, Register.ACQ_BASE_HI, Register.ACQ_CAPS);
  tellRing(toDevice, events, Register.AENQ_BASE_LO, Register.AENQ_BASE_HI, Register.AENQ_CAPS);

  const exchanges = [
    ...(state.llq === undefined ? [] : [chooseLlq(state.llq)]),
    ...completionQueues.map(createCompletionQueue),
    ...submissionQueues.map(createSubmissionQueue),
  ];
  // As if they were the last ones: the rings then stand where they stand.
  const first = commands.head - waiting.length - exchanges.length;
  exchanges.forEach(({ command }, i) => {
    stampCommand(command, 0, i, phaseAt(first + i, commands.depth));
    tellEntry(toDevice, commands, first + i, RecordType.ENA_AQ, bytesOf(command));
  });
  toDevice.flush();

  exchanges.forEach(({ completion }, i) => {
    const at = completions.head - exchanges.length + i;
    const phase = phaseAt(at, completions.depth);
    acqCommon.write(completion, 0, { commandId: i, phase, sqHeadIndx: commands.head });
    tellEntry(toFrontend, completions, at, RecordType.ENA_ACQ, bytesOf(completion));
  });
  tellLast(toFrontend, events, RecordType.ENA_AENQ);
  for (const { index, ring } of completionQueues) {
    const user = submissionQueues.find(({ cqIndex }) => cqIndex === index);
    if (user === undefined) continue;
    const tx = user.direction === SqDirection.TX;
    tellLast(toFrontend, ring, tx ? RecordType.ENA_TX_CDESC : RecordType.ENA_RX_CDESC);
  }
  toFrontend.flush();

  waiting.forEach((command, i) => {
    tellEntry(toDevice, commands, commands.head - waiting.length + i, RecordType.ENA_AQ, command);
  });
  toDevice.mmioWrite32(BAR0, Register.AQ_DB, RecordType.REGISTER, commands.head);
  let left = MAX_TOLD_REQUESTS;
  for (const queue of submissionQueues) {
    left -= queue.outstanding.length;
    if (left < 0) break;
    tellRequests(toDevice, queue);
    toDevice.mmioWrite32(BAR0, queue.doorbell, RecordType.REGISTER, queue.ring.head);
  }
  toDevice.flush();
}

/** A ring as the driver tells it to the device: base and depth. */
function tellRing(
  writer: BatchWriter,
  { address, depth, entryBytes }: EnaRing,
  low: number,
  high: number,
  caps: number,
): void {
  const put = (offset: number, value: number): void =>
    writer.mmioWrite32(BAR0, offset, RecordType.REGISTER, value);
  put(low, address % TWO_32);
  put(high, Math.floor(address / TWO_32));
  put(caps, queueCapsReg.pack(depth, entryBytes));
}

/** The entry that the running index `at` names, which may be negative. */
function tellEntry(
  writer: BatchWriter,
  ring: EnaRing,
  at: number,
  type: RecordType,
  bytes: Uint8Array,
): void {
  const address = ring.address + slotAt(ring, at) * ring.entryBytes;
  writer.column(Op.WRITE, Space.BUS, address, type, bytes, 0, ring.entryBytes);
}

/** The entry that the device wrote last: where the next one goes, and its phase, follow from it. */
function tellLast(writer: BatchWriter, ring: EnaWrittenRing, type: RecordType): void {
  const { head, entryBytes, bytes } = ring;
  if (head === 0) return;
  const at = slotAt(ring, head - 1) * entryBytes;
  tellEntry(writer, ring, head - 1, type, bytes.subarray(at, at + entryBytes));
}

function chooseLlq({ entryBytes, descsBeforeHeader }: NonNullable<EnaQueueState["llq"]>): Exchange {
  const { command, completion } = exchange();
  const opcode = Opcode.SET_FEATURE;
  featureCommand.write(command, 0, { opcode, featureId: FeatureId.LLQ });
  llqFeature.write(command, SET_FEATURE_BODY, {
    entrySizeEnabled: Object.values(LlqEntrySize).find((n) => llqEntryBytes(n) === entryBytes) ?? 0,
    descsBeforeHeaderEnabled: descsBeforeHeader,
  });
  return { command, completion };
}

function createCompletionQueue({
  index,
  vector,
  ring,
  unmask,
  numa,
}: EnaCompletionQueue): Exchange {
  const { command, completion } = exchange();
  createCq.write(command, 0, {
    opcode: Opcode.CREATE_CQ,
    interruptMode: true,
    entrySizeWords: ring.entryBytes / 4,
    cqDepth: ring.depth,
    msixVector: vector,
    cqBa: ring.address,
  });
  createCqResp.write(completion, 0, {
    cqIdx: index,
    cqActualDepth: ring.depth,
    numaNodeRegisterOffset: numa,
    cqInterruptUnmaskRegisterOffset: unmask,
  });
  return { command, completion };
}

function createSubmissionQueue(queue: EnaSubmissionQueue): Exchange {
  const { direction, index, cqIndex, inDevice, ring, doorbell } = queue;
  const { command, completion } = exchange();
  createSq.write(command, 0, {
    opcode: Opcode.CREATE_SQ,
    direction,
    placement: inDevice ? Placement.DEV : Placement.HOST,
    contiguous: true,
    cqIdx: cqIndex,
    sqDepth: ring.depth,
    sqBa: inDevice ? 0 : ring.address,
  });
  createSqResp.write(completion, 0, {
    sqIdx: index,
    sqDoorbellOffset: doorbell,
    llqDescriptorsOffset: inDevice ? ring.address : 0,
  });
  return { command, completion };
}

/** One descriptor for each request, in the entries before the ring's head. */
function tellRequests(writer: BatchWriter, queue: EnaSubmissionQueue): void {
  const { ring, outstanding, direction, inDevice } = queue;
  // More requests than entries are a lie of somebody, and can't be drawn.
  const requests = outstanding.slice(0, ring.depth);
  if (requests.length === 0) return;
  const bytes = new Uint8Array(requests.length * ring.entryBytes);
  const view = new DataView(bytes.buffer);
  const first = ring.head - requests.length;
  requests.forEach(({ reqId, address, length }, i) => {
    const phase = phaseAt(first + i, ring.depth);
    const at = i * ring.entryBytes;
    if (direction === SqDirection.RX) rxDesc.write(view, at, length, phase, reqId, address);
    else txDesc.write(view, at, length, reqId, phase, 1, 1, 1, 0, address, 0);
  });
  if (inDevice) {
    requests.forEach((_, i) => {
      const offset = ring.address + slotAt(ring, first + i) * ring.entryBytes;
      const at = i * ring.entryBytes;
      const { ENA_LLQ_ENTRY } = RecordType;
      writer.column(Op.MMIO_WRITE, BAR2, offset, ENA_LLQ_ENTRY, bytes, at, ring.entryBytes);
    });
    return;
  }
  const type = direction === SqDirection.RX ? RecordType.ENA_RX_DESC : RecordType.ENA_TX_DESC;
  const slot = slotAt(ring, first);
  const run = Math.min(requests.length, ring.depth - slot) * DESC_SIZE;
  writer.column(Op.WRITE, Space.BUS, ring.address + slot * DESC_SIZE, type, bytes, 0, run);
  if (run === bytes.length) return;
  writer.column(Op.WRITE, Space.BUS, ring.address, type, bytes, run, bytes.length - run);
}

/** Depths are powers of two that divide 2^16, so the mask is right for a negative index too. */
const slotAt = ({ depth }: EnaRing, at: number): number => at & (depth - 1);

const exchange = (): Exchange => ({
  command: new DataView(new ArrayBuffer(AQ_ENTRY_SIZE)),
  completion: new DataView(new ArrayBuffer(ACQ_ENTRY_SIZE)),
});

const bytesOf = (view: DataView): Uint8Array => new Uint8Array(view.buffer);
