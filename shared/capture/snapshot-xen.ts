/**
 * The queues of a Xen vif as the words that made them: the keys of the frontend's directory that
 * name rings and ports, then each ring's page, then the requests that nobody has answered.
 */
import { distance, slotOf } from "../ring/index32.ts";
import type { BatchWriter } from "../wire/batch.ts";
import { Op } from "../wire/catalogue.ts";
import type { XenQueueState, XenRingState } from "../wire/queue-state.ts";
import { RecordType, Space } from "../wire/records.ts";
import { CTRL_SLOT_SIZE } from "../xen/control.ts";
import { RX_SLOT_SIZE, TX_SLOT_SIZE } from "../xen/netif.ts";
import { RING_HEADER_SIZE, ringSlots, slotOffset, sring } from "../xen/ring.ts";
import { queueName, VIF_NODE, VifKey } from "../xen/xenbus.ts";
import { XsType, xsBytes, xsMessage, xsPathAndValue } from "../xen/xenstore.ts";

/** The grants of the rings' pages have been told. */
export function tellXenQueues({ queues, control }: XenQueueState, toDevice: BatchWriter): void {
  let request = 0;
  const put = (key: string, value: number): void => {
    const payload = xsPathAndValue(`${VIF_NODE}/${key}`, xsBytes(String(value)));
    toDevice.post("xenstore", { bytes: xsMessage(XsType.WRITE, request++, 0, payload) });
  };
  queues.forEach(({ tx, rx, txPort, rxPort }, i) => {
    const dir = queues.length === 1 ? "" : `${queueName(i)}/`;
    put(`${dir}${VifKey.TX_RING_REF}`, tx.reference);
    put(`${dir}${VifKey.RX_RING_REF}`, rx.reference);
    if (txPort === rxPort) put(`${dir}${VifKey.EVENT_CHANNEL}`, txPort);
    else {
      put(`${dir}${VifKey.EVENT_CHANNEL_TX}`, txPort);
      put(`${dir}${VifKey.EVENT_CHANNEL_RX}`, rxPort);
    }
  });
  if (queues.length > 1) put(VifKey.MULTI_QUEUE_NUM_QUEUES, queues.length);
  if (control !== undefined) {
    put(VifKey.CTRL_RING_REF, control.ring.reference);
    put(VifKey.EVENT_CHANNEL_CTRL, control.port);
  }
  for (const { tx, rx } of queues) {
    tellRing(toDevice, tx, TX_SLOT_SIZE, RecordType.XEN_TX_REQ);
    tellRing(toDevice, rx, RX_SLOT_SIZE, RecordType.XEN_RX_REQ);
  }
  if (control !== undefined) {
    tellRing(toDevice, control.ring, CTRL_SLOT_SIZE, RecordType.XEN_CTRL_REQ);
  }
}

/** Header, then the requests from rsp_prod to req_prod, which stand there until they are answered. */
function tellRing(
  writer: BatchWriter,
  { address, page }: XenRingState,
  slotBytes: number,
  type: RecordType,
): void {
  const { XEN_RING_PAGE } = RecordType;
  const { BUS } = Space;
  writer.column(Op.WRITE, BUS, address, XEN_RING_PAGE, page, 0, RING_HEADER_SIZE);
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  const size = ringSlots(slotBytes);
  const from = sring.rspProd(view, 0);
  const count = distance(from, sring.reqProd(view, 0));
  // What the guest says can't be: nothing is known of its requests.
  if (count === 0 || count > size) return;
  const run = Math.min(count, size - slotOf(from, size));
  const at = slotOffset(from, slotBytes, size);
  writer.column(Op.WRITE, BUS, address + at, type, page, at, run * slotBytes);
  if (run === count) return;
  const rest = (count - run) * slotBytes;
  writer.column(Op.WRITE, BUS, address + RING_HEADER_SIZE, type, page, RING_HEADER_SIZE, rest);
}
