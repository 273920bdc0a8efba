/**
 * The wire: its catalogue, and the codec of a batch.
 *
 *   import { applyBatch, BatchWriter, catalogue } from "ringwire/wire";
 *
 * A message of the WebSocket is a batch. `BatchWriter` creates batches. `applyBatch` checks a batch
 * and calls a method for each transaction. README.md in this folder describes the protocol.
 */
export { BatchWriter, type SendMessage } from "./batch.ts";
export {
  catalogue,
  type DeviceSink,
  type Field,
  type FrontendSink,
  type Handlers,
  type LinkControl,
  type Name,
  Op,
  type PostName,
  type Received,
  type Sent,
  type Sink,
} from "./catalogue.ts";
export { applyBatch } from "./decode.ts";
export { type Hello, parseHello, parseWelcome, type Welcome } from "./hello.ts";
export {
  CloseCode,
  FaultSeverity,
  Limits,
  NIC_PATH,
  PROTOCOL_VERSION,
  ReadStatus,
  SUBPROTOCOL,
  WireError,
} from "./protocol.ts";
export { type MemoryAccess, RecordType, Space } from "./records.ts";
